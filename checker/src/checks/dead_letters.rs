//! Dead letters: each record that the read model could not take has one, it is settled once, nothing is left, and nobody else has waited.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use crate::evidence::{Calm, Evidence};
use crate::facts::{AuditRow, DeadLetters, Letter, Place, Record, Topic};
use crate::history::{History, Read};
use crate::ids;
use crate::method::Method;
use crate::poison::{Found, Injected};
use crate::verdict::Verdict;

/// What the headers begin with that a dead letter has beside the record's own.
const HEADER_PREFIX: &str = "__idempo.errors.";
/// Why a read model refuses an event of the platform itself.
const REFUSED_ROWS: &str = "READ_MODEL_REFUSED";
/// The reason with which a read is refused that waits for what is parked.
const KEY_PARKED: &str = "KEY_PARKED";

/// Whether rows were refused for a while by what a fault has left in the read model's database: then events of the platform become dead letters too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rows {
    /// They never were: only poison is a dead letter.
    #[default]
    AllTaken,
    /// Some were.
    SomeRefused,
}

/// Every claim on dead letters. `found` is where the poison stands, `topics` are the topics without it.
#[must_use]
pub fn all(evidence: &Evidence, dead: &DeadLetters, (topics, found): (&[Topic], &[Found]), rows: Rows) -> Vec<Verdict> {
    let mut verdicts = vec![
        each_has_one(&evidence.poison, (topics, found), dead, rows),
        none_lost_on_the_way(evidence, dead),
        settled_once(dead, found),
        none_left(evidence, dead),
        audited(dead),
    ];
    verdicts.extend(evidence.calm.map(|calm| others_were_answered(&evidence.history, dead, calm)));
    verdicts
}

/// Each record of poison has a dead letter, and nothing else has, but events of the platform whose rows were refused.
fn each_has_one(injected: &[Injected], (topics, found): (&[Topic], &[Found]), dead: &DeadLetters, rows: Rows) -> Verdict {
    let mut verdict = Verdict::new("dlq", "each record of poison is one dead letter, and nothing else is one", "records of poison");
    // Some are alike: each must be there.
    let mut there: HashMap<(&[u8], &[u8]), usize> = HashMap::new();
    for found in found {
        *there.entry((&found.record.key, &found.record.value)).or_default() += 1;
    }
    for one in injected {
        let left = there.get_mut(&(&*one.key, &*one.value)).filter(|left| **left > 0).map(|left| *left -= 1);
        verdict.require(left.is_some(), || format!("poison under key {} was acknowledged and is not in the topic", text(&one.key)));
    }
    let mut letters: HashMap<&Place, usize> = HashMap::new();
    for letter in &dead.letters {
        *letters.entry(&letter.place).or_default() += 1;
    }
    let places: HashSet<Place> = found.iter().map(Found::place).collect();
    let logs = Logs::of(topics);
    for poison in found {
        let count = letters.get(&poison.place()).copied().unwrap_or(0);
        let is_due = count == 1 || count == 0 && logs.has_gone_beyond(poison);
        verdict.look(is_due, || format!("poison at {} has {count} dead letters", at(&poison.place())));
    }
    for letter in dead.letters.iter().filter(|letter| !places.contains(&letter.place)) {
        let refused = rows == Rows::SomeRefused && letter.code == REFUSED_ROWS && logs.events.contains(&borrowed(&letter.place));
        verdict.require(refused, || format!("{} ({}) is a dead letter and was no poison", at(&letter.place), letter.code));
    }
    verdict
}

/// What the platform has written, by where it is.
struct Logs<'a> {
    events: HashSet<(&'a str, i32, i64)>,
    /// Versions of a stream's records in one partition, by their offsets.
    versions: HashMap<(&'a str, i32, Uuid), BTreeMap<i64, u64>>,
}

impl<'a> Logs<'a> {
    fn of(topics: &'a [Topic]) -> Self {
        let mut logs = Self { events: HashSet::new(), versions: HashMap::new() };
        for topic in topics {
            for record in &topic.records {
                let Some(event) = record.event() else { continue };
                logs.events.insert((&topic.name, record.partition, record.offset));
                logs.versions.entry((&topic.name, record.partition, event.stream_id)).or_default().insert(record.offset, event.version);
            }
        }
        logs
    }

    /// Whether poison says that it is an event of a version that its stream was beyond in the log: a consumer takes it for one that it has seen, for it
    /// knows of the last version alone which event that was.
    fn has_gone_beyond(&self, poison: &Found) -> bool {
        let Found { topic, record } = poison;
        let Some(event) = record.event() else { return false };
        let Some(versions) = self.versions.get(&(topic.as_str(), record.partition, event.stream_id)) else { return false };
        versions.range(..record.offset).any(|(_, version)| *version > event.version)
    }
}

/// What the dead-letter topics say and what the service shows is the same, and the bytes are those of the record that failed.
fn none_lost_on_the_way(evidence: &Evidence, dead: &DeadLetters) -> Verdict {
    let claim = "what was written to the dead-letter topics is what is shown, with the bytes of the record that failed";
    let mut verdict = Verdict::new("dlq", claim, "dead letters");
    let mut told: HashMap<(String, Place), Vec<&Record>> = HashMap::new();
    for topic in &evidence.dead_letters {
        for record in &topic.records {
            let identity = identity(record);
            verdict.require(identity.is_some(), || {
                format!("{} partition {} offset {} does not say what it is a dead letter of", topic.name, record.partition, record.offset)
            });
            if let Some(identity) = identity {
                told.entry(identity).or_default().push(record);
            }
        }
    }
    let failed: HashMap<(&str, i32, i64), &Record> = evidence
        .topics
        .iter()
        .flat_map(|topic| topic.records.iter().map(|record| ((topic.name.as_str(), record.partition, record.offset), record)))
        .collect();
    for letter in &dead.letters {
        let records = told.remove(&(letter.consumer_group.clone(), letter.place.clone())).unwrap_or_default();
        verdict.look(!records.is_empty(), || format!("{} is shown and in no dead-letter topic", at(&letter.place)));
        let original = failed.get(&borrowed(&letter.place));
        for record in records {
            let same = original.is_some_and(|original| (&original.key, &original.value) == (&record.key, &record.value));
            verdict.require(same, || format!("{}: its dead letter has other bytes", at(&letter.place)));
        }
    }
    for (group, place) in told.keys() {
        verdict.require(false, || format!("{} of {group} is in a dead-letter topic and not shown", at(place)));
    }
    verdict
}

/// The consumer group and the place that a record of a dead-letter topic tells of.
fn identity(record: &Record) -> Option<(String, Place)> {
    let header = |name: &str| {
        let found = record.headers.iter().find(|(header, _)| header.strip_prefix(HEADER_PREFIX) == Some(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let place = (header("topic")?.to_owned(), header("partition")?.parse().ok()?, header("offset")?.parse().ok()?);
    Some((header("consumer.group")?.to_owned(), place))
}

/// Each dead letter is settled by one member of one job, and stands as that member says. An event of the platform that its consumer could take before
/// it was parked is gone without one; it is in the read model then, and nobody may have discarded one.
fn settled_once(dead: &DeadLetters, found: &[Found]) -> Verdict {
    let mut verdict = Verdict::new("dlq", "each dead letter is settled once, poison discarded and events applied", "dead letters");
    let poison: HashSet<Place> = found.iter().map(Found::place).collect();
    for letter in &dead.letters {
        let place = at(&letter.place);
        let settled: Vec<&str> = letter.members.iter().map(|member| member.state.as_str()).filter(|state| settles(state)).collect();
        let due: &[&str] = if poison.contains(&letter.place) { &["discarded"] } else { &["replayed", "gone"] };
        verdict.look(due.contains(&letter.state.as_str()), || format!("{place} is {} and should be {}", letter.state, due.join(" or ")));
        let as_said = match letter.state.as_str() {
            "discarded" => settled == ["discarded"],
            "replayed" => settled == ["applied"],
            _ => settled.is_empty(),
        };
        verdict.require(as_said, || format!("{place} is {}, and jobs have settled it {} times: {settled:?}", letter.state, settled.len()));
    }
    verdict
}

fn settles(state: &str) -> bool {
    matches!(state, "applied" | "discarded")
}

/// No dead letter is open, no job under way, nothing parked.
fn none_left(evidence: &Evidence, dead: &DeadLetters) -> Verdict {
    let mut verdict = Verdict::new("dlq", "no dead letter is open, nothing is parked, and no job under way", "dead letters and jobs");
    for letter in &dead.letters {
        let is_open = matches!(letter.state.as_str(), "open" | "export_only");
        verdict.look(!is_open, || format!("{} is {}", at(&letter.place), letter.state));
    }
    for job in &dead.jobs {
        let is_under_way = matches!(job.state.as_str(), "applying" | "cancelling" | "paused");
        verdict.look(!is_under_way, || format!("job {} is {}", job.id, job.state));
    }
    let parked: BTreeSet<&Place> = evidence.view.iter().flat_map(|view| &view.parked).collect();
    for place in parked {
        verdict.require(false, || format!("{} is parked", at(place)));
    }
    verdict
}

/// Every job was planned, begun and ended in the audit, and what its members came to was asked of their consumer, in its audit.
fn audited(dead: &DeadLetters) -> Verdict {
    let mut verdict = Verdict::new("dlq", "each action on dead letters is in the audit", "actions");
    let done = |rows: &[AuditRow]| {
        let mut counts: HashMap<(String, String), usize> = HashMap::new();
        for row in rows.iter().filter(|row| row.outcome == "DONE" && !row.caller.is_empty()) {
            *counts.entry((row.action.clone(), row.target.clone())).or_default() += 1;
        }
        counts
    };
    let (of_jobs, of_consumers) = (done(&dead.audit), done(&dead.wishes));
    for job in &dead.jobs {
        let noted = |action: &str| of_jobs.get(&(action.to_owned(), format!("deadLetterJobs/{}", job.id))).copied().unwrap_or(0);
        verdict.look(noted("plan") == 1, || format!("job {} is planned {} times in the audit", job.id, noted("plan")));
        if job.begun {
            verdict.look(noted("apply") == 1, || format!("job {} is begun {} times in the audit", job.id, noted("apply")));
        }
        let ends = usize::from(job.state == "done");
        verdict.look(noted("end") == ends, || format!("job {} is {} and has ended {} times in the audit", job.id, job.state, noted("end")));
    }
    for letter in &dead.letters {
        for member in letter.members.iter().filter(|member| settles(&member.state)) {
            let action = if member.state == "discarded" { "discard" } else { "replay" };
            let asked = of_consumers.contains_key(&(action.to_owned(), letter.name()));
            verdict.look(asked, || format!("{} is {} and its consumer's audit does not say so", at(&letter.place), member.state));
        }
    }
    verdict
}

/// While keys were parked and nothing else was wrong, reads that waited for other keys were answered.
fn others_were_answered(history: &History, dead: &DeadLetters, calm: Calm) -> Verdict {
    let claim = "while keys are parked, reads that wait for others are answered before the keys are free again";
    let mut verdict = Verdict::new("dlq", claim, "reads");
    let parked = streams_that_had_some(dead);
    let of_others = |read: &&Read| {
        read.method == Method::GetItem
            && (calm.from_us..=calm.to_us).contains(&read.invoked_us)
            && !read.awaited.is_empty()
            && !read.awaited.iter().any(|(stream, _)| parked.contains(stream))
    };
    for read in history.reads.iter().filter(of_others) {
        verdict.look(read.seen.is_some() && read.settled_us <= calm.settling_us, || {
            let took_ms = read.settled_us.saturating_sub(read.invoked_us) / 1_000;
            format!("{} {} waited for {:?} and took {took_ms} ms ({})", read.method.name(), read.subject, read.awaited, read.refused)
        });
    }
    verdict
}

/// The streams that can have had records parked: those of the owners whose keys had dead letters.
#[must_use]
pub fn streams_that_had_some(dead: &DeadLetters) -> HashSet<Uuid> {
    owners_that_had_some(dead).into_iter().map(|owner| ids::stream("inventory", owner)).collect()
}

/// The owners whose keys had dead letters.
#[must_use]
pub fn owners_that_had_some(dead: &DeadLetters) -> HashSet<Uuid> {
    dead.letters.iter().filter_map(|letter| Uuid::try_parse(letter.key.as_deref()?).ok()).collect()
}

/// Whether a read was refused because what it waited for was parked, as is due for one of these streams.
#[must_use]
pub fn is_refused_as_parked(read: &Read, parked: &HashSet<Uuid>) -> bool {
    read.refused == KEY_PARKED && read.awaited.iter().any(|(stream, _)| parked.contains(stream))
}

/// How many records were parked behind dead letters, and applied with them.
#[must_use]
pub fn parked_behind(letters: &[Letter]) -> u64 {
    let members = letters.iter().flat_map(|letter| &letter.members);
    members
        .map(|member| match member.state.as_str() {
            "discarded" => member.records,
            // The dead letter itself is one of them.
            "applied" => member.records.saturating_sub(1),
            _ => 0,
        })
        .sum()
}

fn borrowed((topic, partition, offset): &Place) -> (&str, i32, i64) {
    (topic, *partition, *offset)
}

fn at((topic, partition, offset): &Place) -> String {
    format!("{topic} partition {partition} offset {offset}")
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

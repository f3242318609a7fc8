//! The act with the poison: records that the read model can't take are put in under load; what they touch is parked, and everybody else plays on; an
//! operator finds, understands, rehearses, replays and discards them; then the read model is built anew under load, compared, switched to, and back.
//!
//! The players whose keys are poisoned are four groups of their own, of whom every move is known ([`crate::load::afflicted`]): so it is known how much
//! has to wait behind the poison, and their items go from hand to hand through keys that are parked. The others play as in any load, with reads of
//! what they have just written. All of it goes into the run's one history, and what is left behind is checked with the rest.

pub mod kinds;
pub mod mended;
pub mod operator;
pub mod rebuild;
pub mod witness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _};
use idempo_checker::Verdict;
use idempo_checker::facts::Topic;
use idempo_checker::history::{Answer, History};
use idempo_checker::method::Method;
use idempo_checker::poison::Injected;
use idempo_clock::SharedClock;
use idempo_devstack::{Cluster, Platform, Servers};
use idempo_ids::PlayerId;
use idempo_proto::inventory::v1::ListItemsRequest;
use prost::Message as _;
use serde_json::Value;
use tokio::task::JoinHandle;

use self::kinds::{ForgottenTrigger, Kind, inject};
use self::mended::{Mended, Settled};
use self::operator::Operator;
use crate::figures::Spread;
use crate::load::afflicted::{Afflicted, Step};
use crate::load::{self, Played, Progress, Size};
use crate::wire::{Line, Wire};

/// How many players of each kind are poisoned.
const PLAYERS_PER_KIND: usize = 50;
/// The number of the first group's caller; those of clients are below.
const FIRST_GROUP: u16 = 60_000;
/// What is done behind the poison, in this order. Each player then has three more events: a quantity, an item given, an item received.
const BEHIND: [Step; 2] = [Step::GetStack, Step::PassOn];
const EVENTS_BEHIND: u64 = 3;
/// The others: how many, by how many clients, and how long they think between two commands on average.
const OTHERS: usize = 64;
const CLIENTS: u16 = 8;
const THINK: Duration = Duration::from_millis(50);
/// More commands than the others come to: they are told to stop.
const COMMANDS_MAX: usize = 1_000_000;
/// So many commands of theirs are settled before the poison comes: more than it takes to open their wallets.
const SETTLED_MIN: u64 = 300;
/// The pause between two looks at what is awaited.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How long the projector may take to park everything, and dead letters to be known to the service that shows them.
const PARKED_LIMIT: Duration = Duration::from_secs(45);
/// How many reads are under way at once.
const READS_AT_ONCE: usize = 8;
/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A read that can't be answered is refused within this time, and does not wait for its deadline.
const REFUSED_LIMIT: Duration = Duration::from_secs(2);
/// How long the others play with everything parked, before anything is mended.
const PARKED_FOR: Duration = Duration::from_secs(2);
/// What stands in the audit.
const REASON_REPLAY: &str = "the forgotten check is dropped";
const REASON_DISCARD: &str = "no event of ours: somebody else wrote it";

/// Where the act is played.
pub struct Stage<'a> {
    /// What everything random comes from; another seed than the first load's.
    pub seed: u64,
    /// When the run's history began.
    pub began: Instant,
    /// The services.
    pub wire: &'a Wire,
    /// The clock.
    pub clock: &'a SharedClock,
    /// The servers.
    pub servers: &'a Servers,
    /// The platform.
    pub platform: &'a Platform,
    /// The cluster, as its superuser.
    pub cluster: &'a Cluster,
    /// The topic's name, and how many partitions it has.
    pub topic: Topic,
    /// Tells what is being done.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

/// What the act leaves behind.
pub struct Ended {
    /// Its figures.
    pub mended: Mended,
    /// What it claims.
    pub verdicts: Vec<Verdict>,
    /// What everybody in it did and was told.
    pub history: History,
    /// Everybody in it.
    pub players: Vec<PlayerId>,
    /// The records that were put in by hand.
    pub injected: Vec<Injected>,
}

/// Plays the act.
///
/// # Errors
/// When it can't be played to its end. What was played and is off stands in the verdicts.
pub async fn play(stage: &Stage<'_>) -> Result<Ended> {
    let operator = Operator::of(stage.servers, stage.platform)?;
    let mut groups = gather(stage).await?;
    let others = Others::start(stage);
    others.under_way().await?;
    let (mut mended, mut verdicts) = (Mended::default(), Vec::new());

    (stage.tell)("200 records of poison go into the topic, under load");
    let trigger = ForgottenTrigger::leave(stage.cluster, live_generation(&operator).await?, refused(&groups)?.rarity()).await?;
    let (injected, behind) = poison(stage, &mut groups).await?;
    mended.injected = Kind::ALL.iter().map(|kind| (*kind, PLAYERS_PER_KIND)).collect();
    let poisoned_us = stage.now_us();
    verdicts.extend(parked(&operator, &mut mended).await?);
    (stage.tell)("their keys are parked, and everybody else plays on");
    verdicts.push(refused_at_once(stage, &groups, &behind, &mut mended).await?);
    tokio::time::sleep(PARKED_FOR).await;
    let mending_us = stage.now_us();

    (stage.tell)("an operator mends the cause, rehearses, replays and discards");
    trigger.take_away().await?;
    verdicts.extend(settle(&operator, &mut mended).await?);
    verdicts.push(flows_again(stage, &groups, &behind).await?);

    (stage.tell)("the read model is built anew under load, compared, switched to, and back");
    let witness_of = groups.first().and_then(|group| group.players().first().copied()).context("a player")?;
    let (rebuilt, verdict) = rebuild::play(stage, &operator, witness_of).await?;
    mended.rebuilt = rebuilt;
    verdicts.push(verdict);

    verdicts.push(audited(&operator).await?);
    let played = others.end().await?;
    verdicts.push(others_went_on(&played.history, poisoned_us..mending_us, &mut mended)?);
    let players = groups.iter().flat_map(|group| group.players().to_vec()).chain(played.players.iter().copied()).collect();
    let mut history = played.history;
    groups.into_iter().for_each(|group| history.absorb(group.finish()));
    Ok(Ended { mended, verdicts, history, players, injected })
}

impl Stage<'_> {
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The players of the four kinds, who have played a little already, and of whom the read model has everything.
async fn gather(stage: &Stage<'_>) -> Result<Vec<Afflicted>> {
    let gathering = (FIRST_GROUP..).zip(Kind::ALL).map(|(number, _)| async move {
        let mut group = Afflicted::gather(number, PLAYERS_PER_KIND, stage.seed, stage.wire, stage.clock, stage.began).await?;
        group.all(Step::Open).await?;
        group.all(Step::GetPiece).await?;
        let positions = group.all(Step::GetStack).await?;
        anyhow::Ok((group, positions))
    });
    let mut groups = Vec::new();
    let mut behind = Vec::new();
    for (group, positions) in try_join_all(gathering).await? {
        groups.push(group);
        behind.push(positions);
    }
    for (player, answer, _) in read_all(stage, &groups, &behind).await? {
        ensure!(matches!(answer, Answer::Replied { .. }), "player {player} can't be read before anything is wrong: {answer:?}");
    }
    Ok(groups)
}

/// The group whose own events the read model refuses: the last.
fn refused(groups: &[Afflicted]) -> Result<&Afflicted> {
    groups.last().context("four groups")
}

/// Puts the poison in, and has everybody whose key it is do something more. Gives what was put in by hand, and the last positions of each group.
async fn poison(stage: &Stage<'_>, groups: &mut [Afflicted]) -> Result<(Vec<Injected>, Vec<Vec<String>>)> {
    let mut injected = Vec::new();
    for (kind, group) in Kind::ALL.into_iter().zip(groups.iter_mut()) {
        if kind == Kind::Refused {
            group.all(Step::GetRarity).await?;
        } else {
            injected.extend(inject(kind, group.players(), stage.clock, stage.servers.kafka_brokers(), &stage.topic).await?);
        }
    }
    let playing = groups.iter_mut().map(|group| async move {
        let mut positions = Vec::new();
        for step in BEHIND {
            positions = group.all(step).await?;
        }
        anyhow::Ok(positions)
    });
    Ok((injected, try_join_all(playing).await?))
}

async fn live_generation(operator: &Operator) -> Result<i64> {
    let status = operator.json(&["projection", "status", "inventory"]).await?;
    status.get("live_generation").and_then(Value::as_i64).with_context(|| format!("no live generation in {status}"))
}

fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn sum(list: &Value, pointer: &str) -> i64 {
    list.as_array().map_or(0, |list| list.iter().map(|one| number(one, pointer)).sum())
}

/// Waits until all the poison is a dead letter with everything of its key behind it, and looks at how it is shown.
async fn parked(operator: &Operator, mended: &mut Mended) -> Result<[Verdict; 2]> {
    let (all, behind) = (PLAYERS_PER_KIND * Kind::ALL.len(), EVENTS_BEHIND);
    let all = u64::try_from(all)?;
    let is_there = |parked: &Value| {
        parked.as_array().is_some_and(|list| count_of(list.len()) >= all) && count(sum(parked, "/parked_records")) >= all * behind
    };
    let words = ["dlq", "parked", "inventory", "--limit", "100000"];
    let (parked, after) = operator.until(&words, PARKED_LIMIT, is_there).await?;
    mended.parked_after = after;
    let letters = parked.as_array().cloned().unwrap_or_default();
    let keys: std::collections::BTreeSet<&str> = letters.iter().filter_map(|letter| letter.get("key")?.as_str()).collect();
    (mended.keys, mended.records) = (count_of(keys.len()), count(sum(&parked, "/parked_records")));
    let mut waits = Verdict::new("dlq", "each poisoned key is parked, with its own later records behind it and no other", "keys");
    for letter in &letters {
        let waiting = count(number(letter, "/parked_records"));
        waits.look(waiting == behind, || format!("{waiting} records wait instead of {behind}: {letter}"));
    }
    waits.require(mended.keys == all, || format!("{} keys are parked, and {all} are poisoned", mended.keys));

    let shown = |groups: &Value| count(sum(groups, "/count")) >= all;
    let (groups, _) = operator.until(&["dlq", "groups"], PARKED_LIMIT, shown).await?;
    mended.groups = operator.done(&["dlq", "groups"]).await?.stdout;
    let mut known = Verdict::new("dlq", "every poison is a dead letter of its kind, and nothing else is", "dead letters");
    known.looked_at(usize::try_from(sum(&groups, "/count"))?);
    for code in Kind::ALL.map(Kind::code) {
        let due = Kind::ALL.iter().filter(|kind| kind.code() == code).count() * PLAYERS_PER_KIND;
        let list = groups.as_array().cloned().unwrap_or_default();
        let found: i64 =
            list.iter().filter(|group| group.get("code").is_some_and(|one| one == code)).map(|group| number(group, "/count")).sum();
        known.require(usize::try_from(found) == Ok(due), || format!("{found} dead letters are {code}, and {due} should be"));
    }
    known.require(count(sum(&groups, "/count")) == all, || format!("there are dead letters besides the {all}: {groups}"));
    Ok([waits, known])
}

fn count_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Reads what each player has, at the position that is told with it.
async fn read_all(stage: &Stage<'_>, groups: &[Afflicted], positions: &[Vec<String>]) -> Result<Vec<(PlayerId, Answer, Duration)>> {
    let line = stage.wire.line(FIRST_GROUP)?;
    let of_group = |(group, positions): (&Afflicted, &Vec<String>)| {
        group.players().iter().copied().zip(positions.iter().cloned()).collect::<Vec<(PlayerId, String)>>()
    };
    let reads = groups.iter().zip(positions).flat_map(of_group).map(|(player, position)| {
        let line = &line;
        async move {
            let (answer, took) = list_items(line, player, position).await;
            (player, answer, took)
        }
    });
    Ok(stream::iter(reads).buffered(READS_AT_ONCE).collect().await)
}

async fn list_items(line: &Line, player: PlayerId, min_position: String) -> (Answer, Duration) {
    let request = ListItemsRequest { parent: format!("players/{player}"), min_position, ..ListItemsRequest::default() };
    let began = Instant::now();
    let answer = line.send(Method::ListItems, Bytes::from(request.encode_to_vec()), PATIENCE).await;
    (answer, began.elapsed())
}

/// A read that waits for what is parked would wait for ever: it is refused, and at once.
async fn refused_at_once(stage: &Stage<'_>, groups: &[Afflicted], behind: &[Vec<String>], mended: &mut Mended) -> Result<Verdict> {
    let mut verdict = Verdict::new("dlq", "a read that waits for what is parked is refused at once, and says so", "reads");
    for (player, answer, took) in read_all(stage, groups, behind).await? {
        mended.refused_read = mended.refused_read.max(took);
        let is_so = matches!(&answer, Answer::Refused { refusal, .. } if refusal.reason == "KEY_PARKED");
        verdict.look(is_so && took < REFUSED_LIMIT, || format!("player {player}, after {} ms: {answer:?}", took.as_millis()));
    }
    Ok(verdict)
}

/// The operator's work: what the read model refused is replayed, what was no event is discarded.
async fn settle(operator: &Operator, mended: &mut Mended) -> Result<[Verdict; 2]> {
    let each = u64::try_from(PLAYERS_PER_KIND)?;
    let because = |reason| ["--reason", reason, "--yes"];
    let planned = operator.json(&[&["dlq", "plan", "--code", Kind::Refused.code()][..], &because(REASON_REPLAY)].concat()).await?;
    let job = planned.get("name").and_then(Value::as_str).with_context(|| format!("no job in {planned}"))?.to_owned();
    let rehearsed = operator.json(&[&["dlq", "rehearse", &job, "--max", "1000"][..], &because(REASON_REPLAY)].concat()).await?;
    mended.rehearsed = count(number(&rehearsed, "/records"));
    let mut rehearsal = Verdict::new("dlq", "a rehearsal says what the replay then does, and changes nothing", "dead letters");
    rehearsal.looked_at(usize::try_from(number(&rehearsed, "/would_apply_count"))?);
    let still = operator.json(&["dlq", "parked", "inventory", "--code", Kind::Refused.code(), "--limit", "100000"]).await?;
    let left = still.as_array().map_or(0, Vec::len);
    rehearsal.require(left == PLAYERS_PER_KIND, || format!("{left} are parked after the rehearsal"));
    rehearsal.require(number(&rehearsed, "/would_fail_count") == 0, || format!("some would fail: {rehearsed}"));

    let words = [&["dlq", "replay", &job, "--wait"][..], &because(REASON_REPLAY)].concat();
    mended.replayed = settled(timed(operator.json(&words)).await?, "/counts/applied");
    let told = mended.rehearsed;
    rehearsal.require(mended.replayed.records == told, || format!("{told} were rehearsed, and {} applied", mended.replayed.records));
    let mut done = Verdict::new("dlq", "what was replayed and discarded is gone, and all that waited behind it is applied", "dead letters");
    for code in [Kind::Garbage.code(), Kind::UnknownType.code()] {
        let words = [&["dlq", "discard", "--code", code, "--wait"][..], &because(REASON_DISCARD)].concat();
        let part = settled(timed(operator.json(&words)).await?, "/counts/discarded");
        mended.discarded.letters += part.letters;
        mended.discarded.records += part.records;
        mended.discarded.took += part.took;
    }
    done.looked_at(usize::try_from(mended.replayed.letters + mended.discarded.letters)?);
    let Settled { letters, records, .. } = mended.replayed;
    done.require((letters, records) == (each, each * (1 + EVENTS_BEHIND)), || format!("{letters} were replayed, with {records} records"));
    let Settled { letters, records, .. } = mended.discarded;
    done.require((letters, records) == (3 * each, 3 * each * EVENTS_BEHIND), || {
        format!("{letters} were discarded, with {records} records behind")
    });
    let left = operator.json(&["dlq", "parked", "inventory"]).await?;
    done.require(left.as_array().is_some_and(Vec::is_empty), || format!("the projector still has {left}"));
    let (open, _) = operator.until(&["dlq", "groups"], PARKED_LIMIT, |groups| groups.as_array().is_some_and(Vec::is_empty)).await?;
    done.require(open.as_array().is_some_and(Vec::is_empty), || format!("still open: {open}"));
    Ok([rehearsal, done])
}

async fn timed(call: impl Future<Output = Result<Value>>) -> Result<(Value, Duration)> {
    let began = Instant::now();
    Ok((call.await?, began.elapsed()))
}

fn settled((job, took): (Value, Duration), pointer: &str) -> Settled {
    Settled { letters: count(number(&job, pointer)), records: count(number(&job, "/counts/records")), took }
}

/// Every player's last position is in the read model.
async fn flows_again(stage: &Stage<'_>, groups: &[Afflicted], behind: &[Vec<String>]) -> Result<Verdict> {
    let mut verdict = Verdict::new("dlq", "reads of the players whose keys were parked show their last write again", "reads");
    for (player, answer, _) in read_all(stage, groups, behind).await? {
        verdict.look(matches!(answer, Answer::Replied { .. }), || format!("player {player}: {answer:?}"));
    }
    Ok(verdict)
}

/// The audit that operators have, on the running platform, while others play.
async fn audited(operator: &Operator) -> Result<Verdict> {
    let mut verdict = Verdict::new("dlq", "`idempo audit` of the running platform finds nothing that is off", "claims");
    let ended = operator.run(&["audit", "-o", "jsonl"]).await?;
    for line in ended.stdout.lines() {
        let claim: Value = serde_json::from_str(line).with_context(|| format!("`idempo audit` printed {line}"))?;
        verdict.look(number(&claim, "/flaw_count") == 0, || claim.to_string());
    }
    verdict.require(ended.code == 0, || format!("it ended with {}: {}", ended.code, ended.stderr));
    Ok(verdict)
}

/// Of the others' reads, those that were made while keys were parked.
fn others_went_on(history: &History, parked_us: std::ops::Range<u64>, mended: &mut Mended) -> Result<Verdict> {
    let mut verdict = Verdict::new("dlq", "while keys are parked, other players' reads show what they have just written", "reads");
    let mut took = Vec::new();
    for read in history.reads.iter().filter(|read| parked_us.contains(&read.invoked_us)) {
        verdict.look(read.seen.is_some(), || format!("{} {} has no answer", read.method.name(), read.subject));
        took.push(read.settled_us.saturating_sub(read.invoked_us));
    }
    mended.other_reads = (took.len(), Spread::of(took)?.quantile(0.99));
    mended.other_commands = history.attempts.iter().filter(|attempt| attempt.answer.is_definite()).count();
    Ok(verdict)
}

/// Those who play on.
struct Others {
    playing: JoinHandle<Result<Played>>,
    progress: Arc<Progress>,
}

impl Others {
    fn start(stage: &Stage<'_>) -> Self {
        let size = Size { players: OTHERS, clients: CLIENTS, commands: COMMANDS_MAX, think: THINK, seed: stage.seed };
        let progress = Arc::new(Progress::default());
        let (wire, clock, began, watched) = (stage.wire.clone(), stage.clock.clone(), stage.began, progress.clone());
        Self { playing: tokio::spawn(async move { load::play(size, &wire, &clock, began, &watched).await }), progress }
    }

    /// Waits until they play.
    async fn under_way(&self) -> Result<()> {
        let began = Instant::now();
        while self.progress.settled() < SETTLED_MIN {
            ensure!(
                began.elapsed() < PARKED_LIMIT && !self.playing.is_finished(),
                "the others settled {} commands only",
                self.progress.settled()
            );
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    async fn end(mut self) -> Result<Played> {
        self.progress.stop();
        (&mut self.playing).await.context("the load died")?
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.playing.abort();
    }
}

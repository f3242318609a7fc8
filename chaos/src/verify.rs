//! What came of a run: waits until it is at rest, gathers the evidence, lets the checker judge it, and keeps it all.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use idempo_checker::checks::dead_letters::{Rows, owners_that_had_some};
use idempo_checker::checks::vacuity::{Seen, Trouble};
use idempo_checker::evidence::{Calm, wait_until_quiet};
use idempo_checker::facts::DeadLetters;
use idempo_checker::history::History;
use idempo_checker::ids;
use idempo_checker::method::Service;
use idempo_checker::{Evidence, Rules, Sources, Verdict, check, dump};
use idempo_ids::PlayerId;
use idempo_showcase::load::Played;
use idempo_showcase::read_back;
use idempo_showcase::wire::Wire;
use uuid::Uuid;

use crate::account::{Account, Sent, Settling};
use crate::faults::poison::PoisonFault;
use crate::faults::{Family, Fault};
use crate::logs::{Happening, Heard};
use crate::run::{Plan, Took, addresses};
use crate::scrape::Totals;
use crate::stage::{ECONOMY_TOPIC, Stage};
use crate::timeline::Timeline;

/// How long everything may take to come to rest.
const QUIET_LIMIT: Duration = Duration::from_secs(60);
/// Holds and reservations that are left to expire live for a second.
const LAST_EXPIRY: Duration = Duration::from_millis(1_200);

/// What only who ran it knows.
pub(crate) struct Done {
    pub(crate) timeline: Timeline,
    /// Faults that could not be begun or ended.
    pub(crate) flaws: Vec<String>,
    /// Processes that ended by themselves.
    pub(crate) fallen: Vec<String>,
    pub(crate) counters: Totals,
    /// Answers to services' commits that were lost.
    pub(crate) swallowed: usize,
    /// When the run's first moment was, in microseconds since the load began.
    pub(crate) zero_us: u64,
    /// When the load was told to stop, from the run's first moment.
    pub(crate) healthy: Duration,
    /// When keys were parked and nothing else was wrong.
    pub(crate) calm: Option<Calm>,
}

/// Waits, gathers, and judges.
pub(crate) async fn judge(
    plan: &Plan,
    played: Played,
    mut done: Done,
    stage: &mut Stage,
    took: &mut Took,
    say: impl Fn(&str),
) -> Result<Account> {
    let began = Instant::now();
    let sources = sources(stage, &plan.families);
    tokio::time::sleep(LAST_EXPIRY).await;
    let quiet = wait_until_quiet(&sources, QUIET_LIMIT).await?;
    took.drain = began.elapsed();
    say(&format!(
        "{} after {:.1} s; reading what is left",
        if quiet { "everything is at rest" } else { "not at rest" },
        took.drain.as_secs_f64()
    ));
    let reading = Instant::now();
    save_history(&played.history, &plan.folder)?;
    let heard = save_logs(stage, &plan.folder).map(|logs| listen(&logs, &plan.families))?;
    done.timeline.note_silence(&answers(&played.history, done.zero_us));
    let sent = Sent::of(&played.history);
    let mut evidence = Evidence::read(&sources, played.history).await?;
    evidence.met = met(stage, &heard, &done.counters).await?;
    evidence.cursor_moves = stage.cursor_moves().await?;
    evidence.poison.clone_from(&stage.poison.injected);
    evidence.calm = done.calm;
    let last_us = done.timeline.last_end().map(|end| u64::try_from(end.as_micros()).unwrap_or(u64::MAX));
    evidence.last_fault_us = last_us.map(|end| end.saturating_add(done.zero_us));
    let topics = File::create(plan.folder.join("topics.dump")).context("making the dump of the topics")?;
    dump::write(&evidence.topics, &mut BufWriter::new(topics)).context("writing the dump of the topics")?;
    let rules = Rules { must_meet: must_meet(&plan.families), stores_lost_answers: true, rows: rows(&done.timeline), ..Rules::default() };
    say("everything is read; checking it");
    let mut report = check(&evidence, &rules);
    report.verdicts.extend([happened(plan, &done), alive(&done.fallen, stage), quiet_logs(&heard)]);
    if let Some(dead) = &evidence.ops {
        report.verdicts.push(free_again(&evidence, dead, stage).await?);
    }
    took.check = reading.elapsed();
    Ok(Account {
        seed: plan.seed,
        length: done.healthy,
        events: evidence.stores.iter().map(|store| store.events.len()).collect(),
        records: evidence.topics.iter().map(|topic| topic.records.len()).sum(),
        seen: Seen::of(&evidence),
        settling: evidence.ops.as_ref().map(|dead| Settling::of(dead, &evidence)),
        timeline: done.timeline,
        counters: done.counters,
        swallowed: done.swallowed,
        took: *took,
        sent,
        heard,
        report,
    })
}

/// Whether the read model refused rows for a while.
fn rows(timeline: &Timeline) -> Rows {
    let refused = timeline.entries.iter().any(|entry| matches!(entry.fault, Fault::Poison(PoisonFault::RowsRefused { .. })));
    if refused { Rows::SomeRefused } else { Rows::AllTaken }
}

fn sources(stage: &Stage, families: &[Family]) -> Sources {
    let topics = idempo_schemas::topics().topics;
    Sources {
        wallet: stage.auditor_url("wallet_db"),
        inventory: stage.auditor_url("inventory_db"),
        inventory_view: stage.auditor_url("inventory_view_db"),
        brokers: stage.servers.kafka_brokers().to_owned(),
        topics: topics.iter().filter(|topic| topic.number == ECONOMY_TOPIC).map(|topic| topic.name.to_owned()).collect(),
        dead_letters: topics.iter().map(|topic| topic.dead_letter.to_owned()).collect(),
        ops: families.contains(&Family::Poison).then(|| stage.auditor_url("ops_db")),
    }
}

/// What the run must meet with these faults.
fn must_meet(families: &[Family]) -> Vec<Trouble> {
    let has = |family| families.contains(&family);
    let due = |trouble: &Trouble| match trouble {
        Trouble::Takeover => has(Family::Kill) || has(Family::Freeze),
        Trouble::Fenced => has(Family::Freeze),
        Trouble::Parked | Trouble::Interrupted => has(Family::Poison),
        _ => true,
    };
    Trouble::CHAOS.into_iter().filter(due).collect()
}

async fn met(stage: &Stage, heard: &Heard, counters: &Totals) -> Result<Seen> {
    let mut seen = Seen::default();
    seen.add(Trouble::Takeover, stage.takeovers().await?);
    seen.add(Trouble::Interrupted, stage.poison.interrupted);
    let fenced_batches = counters.get("idempo_projection_fenced_total").copied().unwrap_or(0);
    seen.add(Trouble::Fenced, heard.count(Happening::LeaseLost) + fenced_batches);
    Ok(seen)
}

/// Every fault was done, and had the effect that it is for.
fn happened(plan: &Plan, done: &Done) -> Verdict {
    let mut verdict = Verdict::new("faults", "every fault was done and undone, and met something", "faults");
    verdict.looked_at(done.timeline.entries.len());
    for flaw in &done.flaws {
        verdict.require(false, || flaw.clone());
    }
    if plan.families.contains(&Family::Swallow) {
        verdict.require(done.swallowed > 0, || "no answer to a service's COMMIT was lost".to_owned());
    }
    verdict
}

/// Whose key was parked can be read again, up to the last event, when all is settled.
async fn free_again(evidence: &Evidence, dead: &DeadLetters, stage: &Stage) -> Result<Verdict> {
    let claim = "when everything is settled, reads that wait for what was parked are answered";
    let mut verdict = Verdict::new("dlq", claim, "reads");
    let streams: HashSet<Uuid> = evidence.stores.iter().flat_map(|store| &store.streams).map(|stream| stream.stream_id).collect();
    let players: Vec<PlayerId> = owners_that_had_some(dead)
        .into_iter()
        .filter(|owner| streams.contains(&ids::stream("inventory", *owner)) && streams.contains(&ids::stream("wallet", *owner)))
        .map(PlayerId::new)
        .collect();
    let wire = Wire::connect(&addresses(stage)?).await.context("connecting to the services")?;
    match read_back::read(&wire, &players, &evidence.stores).await {
        Ok(shown) => verdict.looked_at(usize::try_from(shown.reads).unwrap_or(usize::MAX)),
        Err(error) => verdict.require(false, || format!("{error:#}")),
    }
    Ok(verdict)
}

fn alive(fallen: &[String], stage: &Stage) -> Verdict {
    let mut verdict = Verdict::new("life", "no process ended by itself", "processes");
    verdict.looked_at(stage.processes().len());
    for one in fallen {
        verdict.require(false, || one.clone());
    }
    verdict
}

fn quiet_logs(heard: &Heard) -> Verdict {
    let mut verdict = Verdict::new("logs", "no process logged an error that no fault explains", "lines");
    verdict.looked_at(usize::try_from(heard.lines).unwrap_or(usize::MAX));
    for error in &heard.errors {
        verdict.require(false, || error.clone());
    }
    verdict
}

/// Asks the platform to drain and end, and ends the servers.
pub(crate) async fn drained(stage: Stage) -> Result<Verdict> {
    let processes = stage.processes().len();
    let Stage { platform, servers, .. } = stage;
    let mut verdict = Verdict::new("end", "every process drains on SIGTERM and ends with 0", "processes");
    verdict.looked_at(processes);
    if let Err(error) = platform.stop().await {
        verdict.require(false, || format!("{error:#}"));
    }
    servers.stop().await?;
    Ok(verdict)
}

/// When commands were answered, by service, from the run's first moment.
fn answers(history: &History, zero_us: u64) -> Vec<(String, Vec<Duration>)> {
    let of = |service: Service, name: &str| {
        let answered = history.attempts.iter().filter(|attempt| attempt.method.service() == service && attempt.answer.is_definite());
        let mut times: Vec<Duration> =
            answered.filter_map(|attempt| attempt.settled_us.checked_sub(zero_us)).map(Duration::from_micros).collect();
        times.sort_unstable();
        (name.to_owned(), times)
    };
    vec![of(Service::Wallet, "wallet"), of(Service::Inventory, "inventory")]
}

/// Makes the folder of a run, without what an earlier one has left in it.
pub(crate) fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

fn save_history(history: &History, folder: &Path) -> Result<()> {
    let path = folder.join("history.jsonl");
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    history.write_jsonl(&mut BufWriter::new(file)).context("writing the history")
}

/// Keeps what each process and each server has logged, and gives what the processes have.
pub(crate) fn save_logs(stage: &Stage, folder: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut logs = Vec::new();
    for process in stage.processes().iter().copied() {
        let path = stage.platform.service(process)?.log();
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let kept = folder.join(format!("{process}.log"));
        fs::write(&kept, &bytes).with_context(|| format!("writing {}", kept.display()))?;
        logs.push((process, String::from_utf8_lossy(&bytes).into_owned()));
    }
    for (server, path) in stage.servers.logs() {
        let kept = folder.join(format!("{server}.log"));
        fs::copy(path, &kept).with_context(|| format!("copying {}", path.display()))?;
    }
    Ok(logs)
}

fn listen(logs: &[(&'static str, String)], families: &[Family]) -> Heard {
    let mut heard = Heard::default();
    for (process, text) in logs {
        heard.listen(process, text, families);
    }
    heard
}

/// Keeps the account: for people as text, for programs as JSON.
pub(crate) fn save(account: &Account, folder: &Path) -> Result<()> {
    let write = |name: &str, text: String| fs::write(folder.join(name), text).with_context(|| format!("writing {name}"));
    write("account.txt", account.to_string())?;
    write("timeline.json", serde_json::to_string_pretty(&account.timeline)?)?;
    write("logs.json", serde_json::to_string_pretty(&account.heard)?)?;
    write("report.json", account.report.to_json()?)
}

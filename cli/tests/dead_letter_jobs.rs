//! What is done with dead letters from the command line: what was asked for and not more, after it was looked at, and with an end that says what is left.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use idempo_devstack::testing::eventually;
use idempo_kafka::by_hand::{self, Anything};
use idempo_kafka::{Config, partition_of};
use serde_json::Value;

use crate::dead_letters::{TOPIC, lines, settled, text};
use crate::world::{Ended, World, key};

/// How long the projector and the dead-letter service may take to heed something.
const HEED_LIMIT: Duration = Duration::from_secs(60);
/// The process that keeps the dead letters' records.
const CONSUMER: &str = "inventory-projector";
/// All that is poisoned here.
const ALL: &str = "--code UNDECODABLE_RECORD";

/// The open dead letters' names, as they are given on the command line.
fn open(world: &World) -> Vec<String> {
    let letters = lines(world, "dlq list --state open");
    letters.iter().map(|letter| text(letter, "name").trim_start_matches("deadLetters/").to_owned()).collect()
}

/// Writes records that are no events, each under a key of its own, and waits until they are known; gives all that are open then.
async fn poison(world: &World, numbers: std::ops::Range<u32>) -> Result<Vec<String>> {
    let wanted = open(world).len() + numbers.len();
    let topics = idempo_schemas::topics();
    let partitions = topics.by_name(TOPIC).context("the topic")?.partitions;
    let config = Config { brokers: world.servers.kafka_brokers().to_owned(), ..Default::default() };
    let keys: Vec<String> = numbers.map(|number| key(number).to_string()).collect();
    let records: Vec<Anything<'_>> = keys
        .iter()
        .map(|key| Anything {
            partition: partition_of(key.as_bytes(), partitions),
            key: Some(key.as_bytes()),
            value: Some(b"\xff\xff not an event"),
        })
        .collect();
    by_hand::write(&config, TOPIC, &records).await?;
    eventually(HEED_LIMIT, "the dead letters are known", async || open(world).len() == wanted).await;
    Ok(open(world))
}

/// Discards what is open.
fn clear(world: &World) -> Result<()> {
    let ended = world.idempo(&format!("dlq discard {ALL} --wait --reason cleared --yes"))?;
    ensure!(ended.code == 0 && open(world).is_empty(), "{ended:?}");
    Ok(())
}

fn document(ended: &Ended) -> Result<Value> {
    serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))
}

/// A job's number.
fn number(job: &Value) -> String {
    text(job, "name").trim_start_matches("deadLetterJobs/").to_owned()
}

fn count(job: &Value, of: &str) -> i64 {
    job.pointer(&format!("/counts/{of}")).and_then(Value::as_i64).unwrap_or_default()
}

fn jobs(world: &World) -> usize {
    lines(world, "dlq jobs --limit 1000").len()
}

pub(crate) async fn what_is_discarded_by_name_heeds_pace_and_limit(world: &mut World) -> Result<()> {
    settled(world).await?;
    let names = poison(world, 2_000..2_003).await?.join(" ");
    let first = world.idempo(&format!("dlq discard {names} --rps 5 --max 1 --wait --reason 'one first' --yes -o json"))?;
    let job = document(&first)?;
    ensure!(first.code == 0 && text(&job, "state") == "JOB_STATE_PAUSED", "{first:?}");
    ensure!((count(&job, "discarded"), count(&job, "waiting")) == (1, 2) && open(world).len() == 2, "{first:?}");
    ensure!(job.get("members_per_second_max") == Some(&Value::from(5)) && job.get("members_max") == Some(&Value::from(1)), "{job}");
    let id = number(&job);
    let told = [format!("job {id} is begun"), format!("job {id} pauses with 2 left: `idempo dlq replay {id}`")];
    ensure!(told.iter().all(|line| first.stderr.contains(line)), "{first:?}");

    let next = world.idempo(&format!("dlq replay {id} --max 1 --wait --reason 'one more' --yes -o json"))?;
    ensure!(next.code == 0 && count(&document(&next)?, "discarded") == 2 && open(world).len() == 1, "{next:?}");
    let cancelled = world.idempo(&format!("dlq cancel {id} --reason enough --yes -o json"))?;
    let job = document(&cancelled)?;
    ensure!(text(&job, "state") == "JOB_STATE_CANCELLED" && count(&job, "cancelled") == 1, "{cancelled:?}");
    ensure!(open(world).len() == 1, "what was not sent stays open");

    let filtered = world.idempo(&format!("dlq discard {ALL} --wait --reason rest --yes -o json"))?;
    let fields = |job: &Value| job.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    ensure!(filtered.code == 0 && fields(&document(&filtered)?) == fields(&job), "one form, by names and by a filter: {filtered:?}");
    Ok(())
}

pub(crate) async fn what_is_replayed_heeds_pace_limit_and_force(world: &mut World) -> Result<()> {
    settled(world).await?;
    let names = poison(world, 2_010..2_012).await?.join(" ");
    let replayed = world.idempo(&format!("dlq replay {names} --rps 50 --max 1 --force --wait --reason trial --yes -o json"))?;
    let job = document(&replayed)?;
    ensure!(replayed.code == 5 && (count(&job, "failed_again"), count(&job, "waiting")) == (1, 1), "{replayed:?}");
    let asked = (job.get("members_per_second_max"), job.get("members_max"), job.get("force"));
    ensure!(asked == (Some(&Value::from(50)), Some(&Value::from(1)), Some(&Value::from(true))), "{job}");
    let hint = format!("dlq job {} --members --state failed-again", number(&job));
    ensure!(replayed.stderr.contains(&format!("1 of 2 failed again: `idempo {hint}`")), "{replayed:?}");
    ensure!(lines(world, &hint).len() == 1, "the hint shows those that failed");
    let cancelled = world.idempo(&format!("dlq cancel {} --reason enough --yes", number(&job)))?;
    ensure!(cancelled.code == 0, "{cancelled:?}");
    clear(world)
}

/// A command at a terminal of its own, which is asked back.
struct Asked {
    child: std::process::Child,
    printed: String,
}

impl Asked {
    fn at_terminal(world: &World, words: &str) -> Result<Self> {
        let mut command = world.shell(&format!("exec script -qec 'idempo {words}' /dev/null"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (mut printed, mut byte) = (Vec::new(), [0]);
        let out = child.stdout.as_mut().context("stdout")?;
        while !printed.ends_with(b"[y/N] ") && out.read(&mut byte)? == 1 {
            printed.extend(byte);
        }
        Ok(Self { child, printed: String::from_utf8(printed)? })
    }

    /// How it ends with this answer.
    fn answered(mut self, answer: &str) -> Result<Ended> {
        let mut to = self.child.stdin.take().context("stdin")?;
        writeln!(to, "{answer}")?;
        let output = self.child.wait_with_output()?;
        drop(to);
        let stdout = self.printed + &String::from_utf8(output.stdout)?;
        Ok(Ended { code: output.status.code().unwrap_or(-1), stdout, stderr: String::new() })
    }
}

pub(crate) async fn what_was_asked_about_is_what_is_done(world: &mut World) -> Result<()> {
    settled(world).await?;
    poison(world, 2_020..2_022).await?;
    let before = jobs(world);
    let kinds = "discard 2 dead letters (2 UNDECODABLE_RECORD of economy-events at idempo.inventory.g1)";
    for (code, flag, said) in [(0, "--dry-run", "dry run: would "), (2, "", "this would ")] {
        let ended = world.idempo(&format!("dlq discard {ALL} --reason x {flag}"))?;
        ensure!(ended.code == code && ended.stderr.contains(&format!("{said}{kinds}")), "{ended:?}");
    }
    ensure!(jobs(world) == before, "neither leaves a job behind");

    for (answer, code) in [("n", 1), ("\u{3}", 130)] {
        let refused = Asked::at_terminal(world, &format!("dlq discard {ALL} --reason asked"))?.answered(answer)?;
        ensure!(refused.code == code && refused.stdout.contains(&format!("This will {kinds}")), "{answer:?}: {refused:?}");
        ensure!(refused.stdout.contains("which was planned for this, is cancelled"), "{answer:?}: {refused:?}");
        ensure!(lines(world, "dlq jobs --state planned").is_empty() && open(world).len() == 2, "{answer:?}: nothing is left or done");
    }

    // What fails while somebody thinks about it is not what he was asked about.
    let asked = Asked::at_terminal(world, &format!("dlq discard {ALL} --reason asked"))?;
    let late = poison(world, 2_022..2_023).await?;
    let ended = asked.answered("y")?;
    ensure!(ended.code == 0 && late.len() == 3 && open(world).len() == 1, "{ended:?}");
    clear(world)
}

pub(crate) async fn a_dry_run_has_looked_and_a_name_that_is_none_is_not_none(world: &mut World) -> Result<()> {
    settled(world).await?;
    let discarded = lines(world, "dlq list --state discarded").pop().context("one is discarded")?;
    let name = text(&discarded, "name").trim_start_matches("deadLetters/").to_owned();
    let done = lines(world, "dlq jobs --state done").pop().map(|job| number(&job)).context("a job is done")?;
    for (code, words, said) in [
        (3, "dlq discard not-a-name --reason x --dry-run".to_owned(), "there is no dead letter `not-a-name`"),
        (3, "dlq discard not-a-name --reason x --yes".to_owned(), "there is no dead letter `not-a-name`"),
        (3, "dlq plan not-a-name --reason x --dry-run".to_owned(), "there is no dead letter `not-a-name`"),
        (3, "dlq restore not-a-name --reason x --dry-run".to_owned(), "there is no dead letter `not-a-name`"),
        (3, "dlq annotate nope --reason x --dry-run".to_owned(), "there is no dead letter `nope`"),
        (4, format!("dlq discard {name} --reason x --dry-run"), "is not open"),
        (4, format!("dlq plan {name} --reason x --dry-run"), "is not open"),
        (4, "dlq replay --code VERSION_GAP --reason x --dry-run".to_owned(), "no open dead letter"),
        (4, format!("dlq replay {done} --reason x --dry-run"), "is done"),
        (4, format!("dlq cancel {done} --reason x --dry-run"), "is done"),
        (2, "dlq discard 1 --reason x --yes".to_owned(), "`idempo dlq replay 1` applies"),
        (2, format!("dlq discard {name} --rps=-1 --reason x --yes"), "--rps"),
        (3, "dlq groups --topic economy-event".to_owned(), "did you mean economy-events"),
        (3, "dlq groups --consumer idempo.inventroy.g1".to_owned(), "idempo.inventory.g1"),
        (3, "dlq list --consumer idempo.inventroy.g1".to_owned(), "idempo.inventory.g1"),
        (3, "dlq list --type item_grantd".to_owned(), "item_granted"),
        (3, "dlq list --code READ_MODEL_REFUSD".to_owned(), "READ_MODEL_REFUSED"),
        (3, "dlq parked inventory --code VERSION_GAPS".to_owned(), "VERSION_GAP"),
        (0, "dlq groups --topic economy-events".to_owned(), ""),
        (0, "dlq groups --consumer idempo.inventory.g7".to_owned(), ""),
        (0, "dlq list --type funds_sent".to_owned(), ""),
        (0, "dlq list --code VERSION_GAP".to_owned(), ""),
        (0, "dlq parked inventory --code VERSION_GAP".to_owned(), ""),
        (0, "dlq jobs --limit 1".to_owned(), "there are more than 1: --limit"),
        (0, "dlq audit --limit 1".to_owned(), "there are more than 1: --limit"),
        (0, "dlq list --limit 1".to_owned(), "there are more than 1: --limit"),
        (0, "dlq discard --help".to_owned(), ""),
    ] {
        let ended = world.idempo(&words)?;
        ensure!(ended.code == code && ended.stderr.contains(said), "`{words}` does not end with {code} and «{said}»: {ended:?}");
    }
    for words in ["discard not-a-name", "restore not-a-name", "annotate nope"] {
        let line = format!("IDEMPO_CLI_DEAD_LETTERS='[\"127.0.0.1:1\"]' idempo dlq {words} --reason x --dry-run");
        let away = world.shell(&line).output()?;
        ensure!(away.status.code() == Some(6), "`{words}` where the service is away: {away:?}");
    }
    Ok(())
}

pub(crate) async fn a_change_that_nobody_answers_is_not_made_by_another_process(world: &mut World) -> Result<()> {
    settled(world).await?;
    let name = poison(world, 2_030..2_031).await?.pop().context("one is open")?;
    let before = jobs(world);
    // It is connected to, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let service = world.platform.service("dlq-admin")?.grpc();
    let plan = |first: &str| {
        let line = format!("IDEMPO_CLI_DEAD_LETTERS='[\"{first}\",\"{service}\"]' idempo dlq plan {name} --reason x --yes -o json");
        world.shell(&line).output().context("running a shell")
    };
    let unknown = plan(&silent.local_addr()?.to_string())?;
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    ensure!(unknown.status.code() == Some(124) && told.contains("the outcome is not known"), "{unknown:?}");
    ensure!(told.contains("look at `idempo dlq jobs`") && jobs(world) == before, "{told}");
    let planned = plan("127.0.0.1:1")?;
    ensure!(planned.status.code() == Some(0) && jobs(world) == before + 1, "nobody heard it there: {planned:?}");
    let job = serde_json::from_slice(&planned.stdout)?;
    let cancelled = world.idempo(&format!("dlq cancel {} --reason enough --yes", number(&job)))?;
    ensure!(cancelled.code == 0, "{cancelled:?}");
    clear(world)
}

pub(crate) async fn whoever_leaves_a_job_behind_is_told_of_it(world: &mut World) -> Result<()> {
    settled(world).await?;
    let names = poison(world, 2_040..2_042).await?;
    let [waited, begun] = names.as_slice() else { anyhow::bail!("two are open: {names:?}") };
    world.platform.freeze(CONSUMER)?;
    let line = format!("timeout --preserve-status -s INT 10 idempo dlq discard {waited} --wait --reason x --yes");
    let interrupted = world.shell(&line).output()?;
    let told = String::from_utf8_lossy(&interrupted.stderr).into_owned();
    ensure!(interrupted.status.code() == Some(130) && told.contains("is begun") && told.contains("is held up: "), "{interrupted:?}");
    ensure!(told.contains("it goes on: `idempo dlq cancel") && told.contains("stops it"), "{told}");
    let left = world.idempo(&format!("dlq discard {begun} --reason x --yes"))?;
    ensure!(left.code == 5 && left.stderr.contains("1 of 1 are not settled yet") && left.stderr.contains("goes on"), "{left:?}");
    let again = world.idempo(&format!("dlq discard {begun} --reason x --dry-run"))?;
    ensure!(again.code == 4 && again.stderr.contains("which is being applied"), "{again:?}");
    world.platform.thaw(CONSUMER)?;
    eventually(HEED_LIMIT, "both jobs are done", async || open(world).is_empty() && lines(world, "dlq jobs --state applying").is_empty())
        .await;
    Ok(())
}

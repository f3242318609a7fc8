//! The end of a run with poison: once more when nothing else is wrong, to see that nobody waits whose key is not parked; then all of it is settled.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_checker::evidence::Calm;
use idempo_checker::kafka;
use idempo_showcase::load::Progress;
use uuid::Uuid;

use crate::desk::Desk;
use crate::faults::poison;
use crate::stage::{ECONOMY_TOPIC, Stage};

/// How long the job under way may take to end, and what was poisoned to be parked, when nothing is wrong any more.
const REST_LIMIT: Duration = Duration::from_secs(30);
const PARKED_LIMIT: Duration = Duration::from_secs(30);
/// For how long reads of others are looked at that are sent while keys are parked.
const CALM: Duration = Duration::from_millis(1_500);
/// How long such a read may take.
const READ_LIMIT: Duration = Duration::from_secs(15);
/// How long everything may take to be settled.
const SETTLED_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Poisons once more when all is healed, and lets the others play on for a moment. `load` is how far the clients are, and when they began.
pub(crate) async fn calm(
    desk: &mut Desk,
    stage: &mut Stage,
    (progress, began): (&Progress, Instant),
    by: Uuid,
    say: impl Fn(&str),
) -> Result<Calm> {
    if !desk.rest(REST_LIMIT).await {
        say("the job under way does not end");
    }
    let poisoned = poison::inject(stage, by).await?;
    let keys: HashSet<&[u8]> = poisoned.iter().map(|record| &*record.key).collect();
    let keys: Vec<&[u8]> = keys.into_iter().collect();
    let waiting = Instant::now();
    let view = stage.session("inventory_view_db").await?;
    loop {
        let parked: i64 = view.query_one(include_str!("sql/parked_keys.sql"), &[&keys]).await?.try_get("keys")?;
        // The last one may be taken for an event that was seen, where its player has gone on.
        if usize::try_from(parked)? + 1 >= keys.len() {
            break;
        }
        ensure!(waiting.elapsed() < PARKED_LIMIT, "{parked} of {} keys are parked", keys.len());
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    let now_us = || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let from_us = now_us();
    progress.look_always();
    tokio::time::sleep(CALM).await;
    let to_us = now_us();
    let waiting = Instant::now();
    while progress.oldest_read_us().is_some_and(|oldest| oldest <= to_us) && waiting.elapsed() < READ_LIMIT {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    let settling_us = now_us();
    say(&format!("{} keys are parked while nothing else is wrong; what is open is settled", keys.len()));
    desk.at_once();
    Ok(Calm { from_us, to_us, settling_us })
}

/// Waits until every dead letter is known and settled, and nothing is parked. What is not, after a while, is for the checker to judge.
pub(crate) async fn all(desk: &mut Desk, stage: &Stage, say: impl Fn(&str)) {
    desk.at_once();
    let began = Instant::now();
    while began.elapsed() < SETTLED_LIMIT {
        match is_settled(desk, stage).await {
            Ok(true) => {
                say(&format!("everything is settled after {:.1} s", began.elapsed().as_secs_f64()));
                return;
            }
            Ok(false) => {}
            Err(error) => say(&format!("what is left can't be found out: {error:#}")),
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    say(&format!("not everything is settled after {} s", SETTLED_LIMIT.as_secs()));
}

async fn is_settled(desk: &mut Desk, stage: &Stage) -> Result<bool> {
    // In this order: what is written of a dead letter before it is parked, and read before it is listed.
    let parked: i64 =
        stage.session("inventory_view_db").await?.query_one(include_str!("sql/count_parked_letters.sql"), &[]).await?.try_get("letters")?;
    Ok(parked == 0 && is_all_read(stage).await? && desk.open_letters().await? == 0)
}

/// Whether the service has read the dead letters of the economy to their end.
async fn is_all_read(stage: &Stage) -> Result<bool> {
    let economy = idempo_schemas::topics().topics.iter().filter(|topic| topic.number == ECONOMY_TOPIC);
    let topics: Vec<String> = economy.map(|topic| topic.dead_letter.to_owned()).collect();
    let rows = stage.session("ops_db").await?.query(include_str!("sql/intake.sql"), &[]).await?;
    let mut read = HashMap::new();
    for row in rows {
        let place: (String, i32) = (row.try_get("topic")?, row.try_get("partition")?);
        read.insert(place, row.try_get::<_, i64>("next_offset")?);
    }
    let ends = kafka::ends(stage.servers.kafka_brokers(), &topics).await.context("asking where the dead-letter topic ends")?;
    Ok(ends.into_iter().all(|end| read.get(&(end.topic, end.partition)).copied().unwrap_or(0) >= end.next_offset))
}

//! The read model, built anew under load: compared, switched to, and back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_checker::Verdict;
use idempo_ids::PlayerId;
use serde_json::Value;

use super::mended::Rebuilt;
use super::operator::Operator;
use super::witness::Witness;
use super::{FIRST_GROUP, Stage, count, live_generation, number};

/// How long a switch may take to be seen by readers.
const SEEN_LIMIT: Duration = Duration::from_secs(20);
/// Why, in the audit.
const REASON: &str = "to see that it can be done";

/// Builds a new generation, compares it with the live one, switches to it, and rolls back.
pub(super) async fn play(stage: &Stage<'_>, operator: &Operator, witness: PlayerId) -> Result<(Rebuilt, Verdict)> {
    let live = i32::try_from(live_generation(operator).await?)?;
    let because = ["--reason", REASON, "--yes"];
    let began = Instant::now();
    let built = operator.json(&[&["projection", "rebuild", "inventory", "--wait"][..], &because].concat()).await?;
    let took = began.elapsed();
    let new = i32::try_from(built.get("generation").and_then(Value::as_i64).with_context(|| format!("no generation in {built}"))?)?;
    let compared = operator.json(&[&["projection", "verify", "inventory"][..], &because].concat()).await?;

    let mut witness = Witness::start(stage.wire.line(FIRST_GROUP)?, format!("players/{witness}"));
    witness.until(live, SEEN_LIMIT).await?;
    let switch = switched(operator, &mut witness, "switch", new).await?;
    let roll_back = switched(operator, &mut witness, "rollback", live).await?;
    let reads = witness.end().await?;

    let mut verdict = Verdict::new("gen", "a rebuilt generation equals the live one, and no read fails while they are switched", "reads");
    for read in &reads {
        let is_answered = read.generation.is_some_and(|generation| generation == live || generation == new);
        verdict.look(is_answered, || format!("a read has no answer after {} ms", read.took.as_millis()));
    }
    let state = compared.get("state").and_then(Value::as_str).unwrap_or_default();
    verdict.require(state == "VERIFICATION_STATE_EQUAL", || format!("compared with the live one: {compared}"));
    let turns = reads.windows(2).filter(|pair| matches!(pair, [one, other] if one.generation != other.generation)).count();
    verdict.require(turns == 2, || format!("reads went {turns} times from one generation to the other, instead of there and back"));
    let rebuilt = Rebuilt { generation: i64::from(new), took, rows: count(number(&compared, "/rows")), switch, roll_back, reads };
    Ok((rebuilt, verdict))
}

/// Switches, and waits until the witness is answered from there. Under load the other generation can be a few events behind at the moment: that is
/// refused, and asked for again.
async fn switched(operator: &Operator, witness: &mut Witness, how: &str, to: i32) -> Result<Duration> {
    let asked = Instant::now();
    let began = loop {
        let began = Instant::now();
        let ended = operator.run(&["projection", how, "inventory", "--reason", REASON, "--yes"]).await?;
        if ended.code == 0 {
            break began;
        }
        let is_behind = ended.code == 4 && ended.stderr.contains("GENERATION_LAGGING");
        ensure!(is_behind && asked.elapsed() < SEEN_LIMIT, "`idempo projection {how}` ended with {}: {}", ended.code, ended.stderr);
    };
    witness.until(to, SEEN_LIMIT).await?;
    Ok(began.elapsed())
}

//! What people want done to dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::{
    DiscardParkedLettersRequest, DiscardParkedLettersResponse, ParkedLetterApplied, ParkedLetterDiscarded, ParkedLetterEnd,
    ParkedLetterFailedAgain, ParkedLetterGone, ParkedLetterOutcome, ParkedLetterPending, ParkedLetterRefused, ReplayParkedLettersRequest,
    ReplayParkedLettersResponse,
};
use idempo_rpc::operators::{Attempt, target_of};
use idempo_rpc::{Violations, timestamp};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tonic::{Request, Status};

use super::{ParkedOperations, Place};
use crate::policy::REPLAYS_MAX;
use crate::postgres::Tables;
use crate::projector::Projector;

/// The most dead letters that one request names.
pub(super) const NAMES_MAX: usize = 1_000;
/// The longest wait that can be asked for, in milliseconds.
const WAIT_MS_MAX: i64 = 10_000;
/// How long to wait before what came of wishes is looked at again, at first and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// A request to replay or discard.
struct Wish<'a> {
    names: &'a [String],
    is_discard: bool,
    force: bool,
    wait_ms: i32,
}

/// A dead letter of which nothing has come yet: its place in the answer, where it is, and whether it was gone when it was wished for.
type Waiting = (usize, Place, bool);

/// What a wish came to for one dead letter before anything is drained.
enum Standing {
    /// It stands.
    Wished,
    Settled(Outcome),
    /// There is no such dead letter.
    Gone,
}

impl<P: Projector, T: Tables<Writes = P::Writes> + Clone> ParkedOperations<P, T> {
    pub(super) async fn replay(&self, request: Request<ReplayParkedLettersRequest>) -> Result<ReplayParkedLettersResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = Attempt { metadata, action: "replay", target: target_of(&asked.names), reason: &asked.reason };
        let wish = Wish { names: &asked.names, is_discard: false, force: asked.force, wait_ms: asked.wait_ms };
        Ok(ReplayParkedLettersResponse { outcomes: self.wish(&attempt, &wish).await? })
    }

    pub(super) async fn discard(&self, request: Request<DiscardParkedLettersRequest>) -> Result<DiscardParkedLettersResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = Attempt { metadata, action: "discard", target: target_of(&asked.names), reason: &asked.reason };
        let wish = Wish { names: &asked.names, is_discard: true, force: false, wait_ms: asked.wait_ms };
        Ok(DiscardParkedLettersResponse { outcomes: self.wish(&attempt, &wish).await? })
    }

    async fn wish(&self, attempt: &Attempt<'_>, wish: &Wish<'_>) -> Result<Vec<ParkedLetterOutcome>, Status> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let wait_ms = violations.int("wait_ms", i64::from(wish.wait_ms), 0..=WAIT_MS_MAX);
        let places = self.places(&mut violations, wish.names, NAMES_MAX);
        let (caller, wait_ms) = match violations.accept(self.operations.domain, (caller, wait_ms)) {
            Ok(checked) => checked,
            Err(status) => return Err(attempt.refused(self.operations.as_ref(), status).await),
        };
        let mut outcomes: Vec<Outcome> = vec![Outcome::Pending(ParkedLetterPending {}); wish.names.len()];
        let mut generations: BTreeMap<i32, Vec<(usize, Place)>> = BTreeMap::new();
        for (at, place) in places.into_iter().enumerate() {
            match place {
                Some(place) => generations.entry(place.generation).or_default().push((at, place)),
                None => set(&mut outcomes, at, of_other_consumer()),
            }
        }
        let mut waiting = BTreeMap::new();
        for (generation, own) in generations {
            let standings = self.wish_of(generation, &own, attempt, &caller, wish).await?;
            let mut left = Vec::new();
            for ((at, place), standing) in own.into_iter().zip(standings) {
                match standing {
                    Standing::Wished => left.push((at, place, false)),
                    Standing::Gone => left.push((at, place, true)),
                    Standing::Settled(outcome) => set(&mut outcomes, at, outcome),
                }
            }
            waiting.insert(generation, left);
        }
        self.wished.send_modify(|wishes| *wishes = wishes.wrapping_add(1));
        self.await_outcomes(waiting, Duration::from_millis(wait_ms.unsigned_abs()), &mut outcomes).await?;
        let outcome = |(name, outcome): (&String, Outcome)| ParkedLetterOutcome { name: name.clone(), outcome: Some(outcome) };
        Ok(wish.names.iter().zip(outcomes).map(outcome).collect())
    }

    /// The dead letters of these names; `None` for those of other consumers.
    pub(super) fn places(&self, violations: &mut Violations, names: &[String], most: usize) -> Vec<Option<Place>> {
        violations.check((1..=most).contains(&names.len()), "names", || format!("must be 1 to {most}"));
        let distinct: BTreeSet<&String> = names.iter().collect();
        violations.check(distinct.len() == names.len(), "names", || "must be there once each".to_owned());
        let mut places = Vec::with_capacity(names.len());
        for (at, name) in names.iter().take(most).enumerate() {
            match name.parse() {
                Ok(id) => places.push(self.place_of(&id)),
                Err(error) => {
                    let error: idempo_dead_letter::InvalidName = error;
                    violations.add(&format!("names[{at}]"), error.to_string());
                }
            }
        }
        places
    }

    /// Stores wishes for dead letters of one generation.
    async fn wish_of(
        &self,
        generation: i32,
        places: &[(usize, Place)],
        attempt: &Attempt<'_>,
        caller: &str,
        wish: &Wish<'_>,
    ) -> Result<Vec<Standing>, Status> {
        let (projection, topic) = (self.operations.projection, self.topic());
        let partitions: Vec<i32> = places.iter().map(|(_, place)| place.partition).collect();
        let offsets: Vec<i64> = places.iter().map(|(_, place)| place.offset).collect();
        let names: Vec<String> = places.iter().map(|(_, place)| self.name_of(*place)).collect();
        let replays_max = i32::try_from(REPLAYS_MAX).unwrap_or(i32::MAX);
        let (is_discard, force, reason) = (wish.is_discard, wish.force, attempt.reason);
        let parameters: [&(dyn ToSql + Sync); 11] =
            [&projection, &generation, &topic, &partitions, &offsets, &names, &is_discard, &force, &replays_max, &caller, &reason];
        let client = self.operations.client().await?;
        let wished = async {
            let statement = client.prepare_cached(include_str!("../../sql/wish_for_letters.sql")).await?;
            let rows = client.query(&statement, &parameters).await?;
            rows.iter().map(standing).collect::<Result<Vec<_>, tokio_postgres::Error>>()
        };
        wished.await.map_err(|error| self.operations.failed_statement(error))
    }

    /// Waits until all is drained that was wished, or the time is over. While nothing has come of the last wish of any partition, which is drained last,
    /// the others are not looked at: with many wishes under way the looks would cost more than what they wait for.
    async fn await_outcomes(
        &self,
        mut waiting: BTreeMap<i32, Vec<Waiting>>,
        wait: Duration,
        outcomes: &mut [Outcome],
    ) -> Result<(), Status> {
        let deadline = Instant::now() + wait;
        let mut look_again = LOOK_AGAIN.0;
        loop {
            let is_last = Instant::now() >= deadline;
            for (generation, left) in &mut waiting {
                let probes = last_of_each_partition(left);
                if !is_last && probes.len() < left.len() && self.outcomes_of(*generation, &probes).await?.iter().all(Option::is_none) {
                    continue;
                }
                let found = self.outcomes_of(*generation, left).await?;
                let mut found = found.into_iter();
                left.retain(|(at, ..)| match found.next().flatten() {
                    Some(outcome) => {
                        set(outcomes, *at, outcome);
                        false
                    }
                    None => true,
                });
            }
            waiting.retain(|_, left| !left.is_empty());
            if waiting.is_empty() || is_last {
                return Ok(());
            }
            sleep(look_again.min(deadline.saturating_duration_since(Instant::now()))).await;
            look_again = (look_again * 2).min(LOOK_AGAIN.1);
        }
    }

    /// What came of each of these; `None` for those of which nothing has come.
    async fn outcomes_of(&self, generation: i32, wished: &[Waiting]) -> Result<Vec<Option<Outcome>>, Status> {
        let (projection, topic) = (self.operations.projection, self.topic());
        let partitions: Vec<i32> = wished.iter().map(|(_, place, _)| place.partition).collect();
        let offsets: Vec<i64> = wished.iter().map(|(_, place, _)| place.offset).collect();
        let mut client = self.operations.client().await?;
        let read = async {
            let transaction = client.transaction().await?;
            transaction.batch_execute(include_str!("../../sql/begin_lookup.sql")).await?;
            let statement = transaction.prepare_cached(include_str!("../../sql/letter_outcomes.sql")).await?;
            let rows = transaction.query(&statement, &[&projection, &generation, &topic, &partitions, &offsets]).await?;
            let outcome = |(row, (_, place, was_gone)): (&Row, &Waiting)| self.outcome(row, *place, *was_gone);
            rows.iter().zip(wished).map(outcome).collect::<Result<Vec<_>, tokio_postgres::Error>>()
        };
        read.await.map_err(|error| self.operations.failed_statement(error))
    }

    fn outcome(&self, row: &Row, place: Place, was_gone: bool) -> Result<Option<Outcome>, tokio_postgres::Error> {
        match row.try_get::<_, Option<&str>>(1)? {
            Some("parked") => {
                let (code, reason, replay_count) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
                return Ok(Some(Outcome::FailedAgain(ParkedLetterFailedAgain { code, reason, replay_count })));
            }
            Some(_) => return Ok(None),
            None => {}
        }
        let Some(is_discarded) = row.try_get::<_, Option<bool>>(5)? else { return Ok(Some(Outcome::Gone(ParkedLetterGone::default()))) };
        let records: i64 = row.try_get(6)?;
        let blocked_by = row.try_get::<_, Option<i64>>(7)?;
        let blocked_by = blocked_by.map(|offset| self.name_of(Place { offset, ..place })).unwrap_or_default();
        Ok(Some(match (was_gone, is_discarded) {
            (true, _) => Outcome::Gone(ParkedLetterGone {
                end: if is_discarded { ParkedLetterEnd::Discarded } else { ParkedLetterEnd::Applied }.into(),
                records,
                end_time: row.try_get::<_, Option<Timestamp>>(8)?.map(timestamp::to_proto),
                caller: row.try_get(9)?,
                blocked_by,
            }),
            (false, true) => Outcome::Discarded(ParkedLetterDiscarded { records_applied: records, blocked_by }),
            (false, false) => Outcome::Applied(ParkedLetterApplied { records, blocked_by }),
        }))
    }
}

fn standing(row: &Row) -> Result<Standing, tokio_postgres::Error> {
    let (outcome, reason): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    Ok(match outcome.as_str() {
        "DONE" => Standing::Wished,
        "GONE" => Standing::Gone,
        _ => Standing::Settled(Outcome::Refused(ParkedLetterRefused { code: outcome, reason })),
    })
}

/// Of each partition, what was wished last.
fn last_of_each_partition(left: &[Waiting]) -> Vec<Waiting> {
    let last: BTreeMap<i32, Waiting> = left.iter().map(|waiting| (waiting.1.partition, *waiting)).collect();
    last.into_values().collect()
}

fn of_other_consumer() -> Outcome {
    let (code, reason) =
        ("DEAD_LETTER_OF_OTHER_CONSUMER", "the dead letter is of a consumer group or topic that this projection does not have");
    Outcome::Refused(ParkedLetterRefused { code: code.to_owned(), reason: reason.to_owned() })
}

fn set(outcomes: &mut [Outcome], at: usize, outcome: Outcome) {
    if let Some(known) = outcomes.get_mut(at) {
        *known = outcome;
    }
}

//! What people want done to dead letters.
//!
//! Whoever reads the dead-letter topic may ask for a dead letter that has no row yet: the topic has it before the transaction that keeps it (module
//! `parking`). Were that answered as `gone`, it would be settled as history, and its key would stay parked with nobody to know. So a wish that finds
//! no row is judged as in module `standings`: what is coming, and what waits behind another dead letter of its key, is waited for as long as the wish
//! may take, and wished for when it is there, or refused by name. What waits behind another one may be applied with that in the meantime, by a wish
//! in the same request even; or that one is drained up to it, and it becomes the dead letter. Judgement and wish are two transactions. What comes
//! or ends between them is judged anew at the next look, and at the last one refused: nothing was done then, and who asks again hears what it is.
//! What was absent has two rows in the audit: that it was, with the wish; and what it was found to be, or the wish that it came to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::{
    DiscardParkedLettersRequest, DiscardParkedLettersResponse, ParkedLetterApplied, ParkedLetterDiscarded, ParkedLetterFailedAgain,
    ParkedLetterOutcome, ParkedLetterPending, ParkedLetterRefused, ReplayParkedLettersRequest, ReplayParkedLettersResponse,
};
use idempo_rpc::Violations;
use idempo_rpc::operators::{Attempt, target_of};
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tonic::{Request, Status};

use super::standings::Stand;
use super::{ParkedOperations, Place};
use crate::policy::REPLAYS_MAX;
use crate::postgres::Tables;
use crate::projector::Projector;

/// The most dead letters that one request names.
pub(super) const NAMES_MAX: usize = 1_000;
/// The longest wait that can be asked for, in milliseconds.
const WAIT_MS_MAX: i64 = 10_000;
/// As what dead letters are refused that have no row.
const COMING: (&str, &str) =
    ("DEAD_LETTER_COMING", "its consumer has not come to the record yet, or has yet to keep it as a dead letter; ask again");
const BEHIND: (&str, &str) =
    ("DEAD_LETTER_BEHIND_ANOTHER", "the record waits behind another dead letter of its key, and is tried with that");
/// How long to wait before what came of wishes is looked at again, at first and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// A request to replay or discard.
struct Wish<'a> {
    attempt: Attempt<'a>,
    names: &'a [String],
    is_discard: bool,
    force: bool,
    wait_ms: i32,
}

/// A dead letter that is asked for: its place in the answer, and where it is.
type Asked = (usize, Place);

/// What of a wish is not settled, of one generation.
#[derive(Default)]
struct Unsettled {
    /// Wishes that stand.
    wished: Vec<Asked>,
    /// What had no row when it was last looked for. Until it is judged, it is coming.
    absent: Vec<Asked>,
}

/// What has come of a wish that stood.
#[derive(Debug, PartialEq)]
enum Came {
    Nothing,
    This(Outcome),
    /// The dead letter is gone, and nothing is known of its end: with its generation, or its end is forgotten.
    Unknown,
}

/// What a wish came to for one dead letter before anything is drained.
enum Standing {
    /// It stands.
    Wished,
    Settled(Outcome),
    /// There is no such dead letter.
    Absent,
}

impl<P: Projector, T: Tables<Writes = P::Writes> + Clone> ParkedOperations<P, T> {
    pub(super) async fn replay(&self, request: Request<ReplayParkedLettersRequest>) -> Result<ReplayParkedLettersResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = Attempt { metadata, action: "replay", target: target_of(&asked.names), reason: &asked.reason };
        let wish = Wish { attempt, names: &asked.names, is_discard: false, force: asked.force, wait_ms: asked.wait_ms };
        Ok(ReplayParkedLettersResponse { outcomes: self.wish(&wish).await? })
    }

    pub(super) async fn discard(&self, request: Request<DiscardParkedLettersRequest>) -> Result<DiscardParkedLettersResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = Attempt { metadata, action: "discard", target: target_of(&asked.names), reason: &asked.reason };
        let wish = Wish { attempt, names: &asked.names, is_discard: true, force: false, wait_ms: asked.wait_ms };
        Ok(DiscardParkedLettersResponse { outcomes: self.wish(&wish).await? })
    }

    async fn wish(&self, wish: &Wish<'_>) -> Result<Vec<ParkedLetterOutcome>, Status> {
        let mut violations = Violations::new();
        let caller = wish.attempt.caller(&mut violations);
        let wait_ms = violations.int("wait_ms", i64::from(wish.wait_ms), 0..=WAIT_MS_MAX);
        let places = self.places(&mut violations, wish.names, NAMES_MAX);
        let (caller, wait_ms) = match violations.accept(self.operations.domain, (caller, wait_ms)) {
            Ok(checked) => checked,
            Err(status) => return Err(wish.attempt.refused(self.operations.as_ref(), status).await),
        };
        let mut outcomes: Vec<Outcome> = vec![Outcome::Pending(ParkedLetterPending {}); wish.names.len()];
        let mut generations: BTreeMap<i32, Vec<Asked>> = BTreeMap::new();
        for (at, place) in places.into_iter().enumerate() {
            match place {
                Some(place) => generations.entry(place.generation).or_default().push((at, place)),
                None => set(&mut outcomes, at, of_other_consumer()),
            }
        }
        let mut unsettled = BTreeMap::new();
        for (generation, own) in generations {
            unsettled.insert(generation, self.wish_for(generation, own, wish, &caller, &mut outcomes).await?);
        }
        let absent: Vec<usize> = unsettled.values().flat_map(|left: &Unsettled| left.absent.iter().map(|(at, _)| *at)).collect();
        self.await_outcomes(unsettled, Duration::from_millis(wait_ms.unsigned_abs()), wish, &caller, &mut outcomes).await?;
        self.note_absent(&absent, wish, &caller, &outcomes).await?;
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

    /// Wishes for dead letters of one generation, and has them heeded.
    async fn wish_for(
        &self,
        generation: i32,
        asked: Vec<Asked>,
        wish: &Wish<'_>,
        caller: &str,
        outcomes: &mut [Outcome],
    ) -> Result<Unsettled, Status> {
        let mut unsettled = Unsettled::default();
        let standings = self.store(generation, &asked, wish, caller).await?;
        for ((at, place), standing) in asked.into_iter().zip(standings) {
            match standing {
                Standing::Wished => {
                    set(outcomes, at, Outcome::Pending(ParkedLetterPending {}));
                    unsettled.wished.push((at, place));
                }
                Standing::Absent => {
                    set(outcomes, at, refused(COMING));
                    unsettled.absent.push((at, place));
                }
                Standing::Settled(outcome) => set(outcomes, at, outcome),
            }
        }
        self.wished.send_modify(|wishes| *wishes = wishes.wrapping_add(1));
        Ok(unsettled)
    }

    /// Stores wishes for dead letters of one generation.
    async fn store(&self, generation: i32, places: &[Asked], wish: &Wish<'_>, caller: &str) -> Result<Vec<Standing>, Status> {
        let (projection, topic) = (self.operations.projection, self.topic());
        let partitions: Vec<i32> = places.iter().map(|(_, place)| place.partition).collect();
        let offsets: Vec<i64> = places.iter().map(|(_, place)| place.offset).collect();
        let names: Vec<String> = places.iter().map(|(_, place)| self.name_of(*place)).collect();
        let replays_max = i32::try_from(REPLAYS_MAX).unwrap_or(i32::MAX);
        let (is_discard, force, reason) = (wish.is_discard, wish.force, wish.attempt.reason);
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

    /// Waits until all is drained that was wished for, and what was absent is judged, or the time is over.
    async fn await_outcomes(
        &self,
        mut unsettled: BTreeMap<i32, Unsettled>,
        wait: Duration,
        wish: &Wish<'_>,
        caller: &str,
        outcomes: &mut [Outcome],
    ) -> Result<(), Status> {
        let deadline = Instant::now() + wait;
        let mut look_again = LOOK_AGAIN.0;
        loop {
            let is_last = Instant::now() >= deadline;
            for (generation, left) in &mut unsettled {
                self.hear_of(*generation, left, is_last, outcomes).await?;
                self.judge_absent(*generation, left, wish, caller, outcomes).await?;
            }
            unsettled.retain(|_, left| !left.wished.is_empty() || !left.absent.is_empty());
            if unsettled.is_empty() || is_last {
                break;
            }
            sleep(look_again.min(deadline.saturating_duration_since(Instant::now()))).await;
            look_again = (look_again * 2).min(LOOK_AGAIN.1);
        }
        Ok(())
    }

    /// Settles what has come of wishes. While nothing has come of the last wish of any partition, which is drained last, the others are looked at only
    /// for the last time: with many wishes under way the looks would cost more than what they wait for.
    async fn hear_of(&self, generation: i32, left: &mut Unsettled, is_last: bool, outcomes: &mut [Outcome]) -> Result<(), Status> {
        if left.wished.is_empty() {
            return Ok(());
        }
        let probes = last_of_each_partition(&left.wished);
        if !is_last
            && probes.len() < left.wished.len()
            && self.outcomes_of(generation, &probes).await?.iter().all(|came| *came == Came::Nothing)
        {
            return Ok(());
        }
        let came = self.outcomes_of(generation, &left.wished).await?;
        for (asked, came) in std::mem::take(&mut left.wished).into_iter().zip(came) {
            match came {
                Came::Nothing => left.wished.push(asked),
                Came::Unknown => left.absent.push(asked),
                Came::This(outcome) => set(outcomes, asked.0, outcome),
            }
        }
        Ok(())
    }

    /// Settles what is gone, wishes for what has come since, and leaves what is coming or waits behind another one.
    async fn judge_absent(
        &self,
        generation: i32,
        left: &mut Unsettled,
        wish: &Wish<'_>,
        caller: &str,
        outcomes: &mut [Outcome],
    ) -> Result<(), Status> {
        if left.absent.is_empty() {
            return Ok(());
        }
        let places: Vec<Place> = left.absent.iter().map(|(_, place)| *place).collect();
        let stands = self.stands(generation, &places).await.map_err(|error| self.operations.failed(&error))?;
        let mut here = Vec::new();
        for ((at, place), stand) in std::mem::take(&mut left.absent).into_iter().zip(stands) {
            match stand {
                Stand::Coming => {
                    set(outcomes, at, refused(COMING));
                    left.absent.push((at, place));
                }
                Stand::Behind => {
                    set(outcomes, at, refused(BEHIND));
                    left.absent.push((at, place));
                }
                Stand::Here => here.push((at, place)),
                Stand::Gone(gone) => set(outcomes, at, Outcome::Gone(gone)),
            }
        }
        if !here.is_empty() {
            let more = self.wish_for(generation, here, wish, caller, outcomes).await?;
            left.wished.extend(more.wished);
            left.absent.extend(more.absent);
        }
        Ok(())
    }

    /// Notes in the audit what became of those that were absent, but where a wish for them was noted later.
    async fn note_absent(&self, absent: &[usize], wish: &Wish<'_>, caller: &str, outcomes: &[Outcome]) -> Result<(), Status> {
        let judged = |at: &usize| {
            let code = match outcomes.get(*at)? {
                Outcome::Gone(_) => "GONE",
                Outcome::Refused(refused) if [COMING.0, BEHIND.0].contains(&refused.code.as_str()) => refused.code.as_str(),
                _ => return None,
            };
            Some((wish.names.get(*at)?.as_str(), code))
        };
        let (names, codes): (Vec<&str>, Vec<&str>) = absent.iter().filter_map(judged).unzip();
        if names.is_empty() {
            return Ok(());
        }
        let action = if wish.is_discard { "discard" } else { "replay" };
        let (projection, reason) = (self.operations.projection, wish.attempt.reason);
        let client = self.operations.client().await?;
        let noted = async {
            let statement = client.prepare_cached(include_str!("../../sql/note_absent_letters.sql")).await?;
            client.execute(&statement, &[&projection, &caller, &action, &names, &reason, &codes]).await
        };
        noted.await.map(drop).map_err(|error| self.operations.failed_statement(error))
    }

    /// What came of each of these.
    async fn outcomes_of(&self, generation: i32, wished: &[Asked]) -> Result<Vec<Came>, Status> {
        let (projection, topic) = (self.operations.projection, self.topic());
        let partitions: Vec<i32> = wished.iter().map(|(_, place)| place.partition).collect();
        let offsets: Vec<i64> = wished.iter().map(|(_, place)| place.offset).collect();
        let mut client = self.operations.client().await?;
        let read = async {
            let transaction = client.transaction().await?;
            transaction.batch_execute(include_str!("../../sql/begin_lookup.sql")).await?;
            let statement = transaction.prepare_cached(include_str!("../../sql/letter_outcomes.sql")).await?;
            let rows = transaction.query(&statement, &[&projection, &generation, &topic, &partitions, &offsets]).await?;
            let outcome = |(row, (_, place)): (&Row, &Asked)| self.outcome(row, *place);
            rows.iter().zip(wished).map(outcome).collect::<Result<Vec<_>, tokio_postgres::Error>>()
        };
        read.await.map_err(|error| self.operations.failed_statement(error))
    }

    fn outcome(&self, row: &Row, place: Place) -> Result<Came, tokio_postgres::Error> {
        match row.try_get::<_, Option<&str>>(1)? {
            Some("parked") => {
                let (code, reason, replay_count) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
                return Ok(Came::This(Outcome::FailedAgain(ParkedLetterFailedAgain { code, reason, replay_count })));
            }
            Some(_) => return Ok(Came::Nothing),
            None => {}
        }
        let Some(is_discarded) = row.try_get::<_, Option<bool>>(5)? else { return Ok(Came::Unknown) };
        let records: i64 = row.try_get(6)?;
        let blocked_by = row.try_get::<_, Option<i64>>(7)?;
        let blocked_by = blocked_by.map(|offset| self.name_of(Place { offset, ..place })).unwrap_or_default();
        Ok(Came::This(if is_discarded {
            Outcome::Discarded(ParkedLetterDiscarded { records_applied: records, blocked_by })
        } else {
            Outcome::Applied(ParkedLetterApplied { records, blocked_by })
        }))
    }
}

fn standing(row: &Row) -> Result<Standing, tokio_postgres::Error> {
    let (outcome, reason): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    Ok(match outcome.as_str() {
        "DONE" => Standing::Wished,
        "ABSENT" => Standing::Absent,
        _ => Standing::Settled(Outcome::Refused(ParkedLetterRefused { code: outcome, reason })),
    })
}

/// Of each partition, what was wished last.
fn last_of_each_partition(wished: &[Asked]) -> Vec<Asked> {
    let last: BTreeMap<i32, Asked> = wished.iter().map(|asked| (asked.1.partition, *asked)).collect();
    last.into_values().collect()
}

fn of_other_consumer() -> Outcome {
    refused(("DEAD_LETTER_OF_OTHER_CONSUMER", "the dead letter is of a consumer group or topic that this projection does not have"))
}

fn refused((code, reason): (&str, &str)) -> Outcome {
    Outcome::Refused(ParkedLetterRefused { code: code.to_owned(), reason: reason.to_owned() })
}

fn set(outcomes: &mut [Outcome], at: usize, outcome: Outcome) {
    if let Some(known) = outcomes.get_mut(at) {
        *known = outcome;
    }
}

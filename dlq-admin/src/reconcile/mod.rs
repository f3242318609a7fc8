//! Asking consumers what has become of dead letters that are open here.
//!
//! A consumer settles dead letters without this service too: people replay or discard them at the consumer itself, a generation is dropped, a record
//! is applied when it is tried again. So each consumer is asked about those that are open and that no job has, page by page
//! (`GetParkedLetterStandings`), and what ended there ends here, with an entry in the audit. What can go wrong in between, and why it does not:
//!
//! * **A dead letter that its consumer has not kept yet.** The topic has it before the consumer's transaction does, so it can be here first; its
//!   consumer may die in between, and fail on the record anew. The consumer itself knows this: it says `coming` for whatever its position is not
//!   behind, and `gone` for nothing else than what can't come any more (`crates/projection/src/ops/parked/standings.rs`). Only `gone` changes something here.
//! * **One that comes again after all**, because its consumer was taken back to an earlier moment: it fails there later than it had ended, and the topic
//!   tells of it. Taken in, it is open again: `state_changed_at` is when it ended at its consumer, or, where nobody knows that, when it was read here,
//!   before the consumer was asked; `ops.put_letters` opens whatever has failed after that. A clock that goes wrong opens one that has ended;
//!   then it is asked about and ends once more.
//! * **It fails again between the question and the answer**, or between the answer and its row here. The row is settled only with the revision and
//!   the last failure that it was read with (`ops.settle_ended`). Where the topic has told of the failure by then, one of the two is another. Where it
//!   has not yet, the rule above opens it again.
//! * **A job begins with it meanwhile.** Beginning a job and writing down what ended wait for each other (`ops.one_at_a_time`). Whichever is first: the
//!   job finds that a member has changed, and is to be planned anew; or the dead letter is in a job, and is left to that: what its consumer answers
//!   the job is `gone`, with how it ended.
//! * **Somebody restores, discards or imports it meanwhile.** Restoring changes its state and revision, a discard is a job, an import leaves it alone.
//! * **Another process does the same.** A consumer group is taken for an interval (`ops.take_inquiry`), so that processes share the work. That
//!   rests on clocks alone and may fail; then both write, and the second finds no dead letter that is open: one change, and one entry in the audit.
//! * **Killed at any point**: what was not written is asked for again. The place in the round may be lost; then some are asked about twice.
//! * **Several generations.** Each has a consumer group of its own, so a dead letter of its own, and is asked about that. What another one has, live or
//!   not, says nothing about it. With a generation, its dead letters go: these are `gone`, and none is `replayed` because the live generation has the event.
//! * **A consumer that is away, is older than this call, or does not know our token** settles nothing. That is said once, and again when it
//!   changes; how often is counted. What it says of dead letters that it calls not its own changes nothing either.
//!
//! Not here: dead letters that are settled here and that a consumer has (again). A consumer whose database was restored has parked ones that nobody
//! tells of; people restore those.

mod answer;
mod store;
mod told;

use std::sync::Arc;
use std::time::Duration;

use idempo_pg::Pool;
use idempo_proto::ops::v1::{GetParkedLetterStandingsRequest, ParkedLetterStanding};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::consumers::{Consumers, Parked, UNNAMED, asked_by};
use crate::intake::chain;
use answer::Ended;
use store::{Inquiry, Store};
use told::{Heard, Told};

/// The most dead letters that a consumer is asked about at once.
const PAGE_LETTERS_MAX: usize = 1_000;
/// The most pages about which a consumer group is asked in a row. With more dead letters than that, the rest is asked about after the next interval.
const PAGES_MAX: usize = 10;
/// The most consumer groups that are asked in a row.
const GROUPS_MAX: usize = 100;
/// How long an answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// So many times in an interval it is looked whether a consumer group may be asked.
const LOOKS_PER_INTERVAL: u32 = 4;

/// Asks consumers what has become of dead letters.
pub(crate) struct Reconciliation {
    store: Store,
    consumers: Arc<Consumers>,
    interval: Duration,
}

impl Reconciliation {
    /// `instance` is this process, in the audit. Each consumer group is left alone for the interval before it is asked again; not zero.
    pub(crate) fn new(pool: Pool, consumers: Arc<Consumers>, instance: String, interval: Duration) -> Self {
        Self { store: Store { pool, instance }, consumers, interval }
    }

    /// Asks until `cancel` is cancelled. A database that is away is waited for.
    ///
    /// # Cancel safety
    /// Dropping it leaves what was not written to be asked for again.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        let mut looks = interval(self.interval / LOOKS_PER_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Told::default();
        while cancel.run_until_cancelled(looks.tick()).await.is_some() {
            if let Some(Err(error)) = cancel.run_until_cancelled(self.ask_those_due(&mut told)).await {
                tracing::debug!(error = chain(&error), "what became of dead letters can't be asked for or written down");
            }
        }
    }

    async fn ask_those_due(&self, told: &mut Told) -> Result<(), idempo_pg::Error> {
        for _ in 0..GROUPS_MAX {
            let Some(inquiry) = self.store.take(self.interval).await? else { return Ok(()) };
            let group = inquiry.group.clone();
            let heard = self.ask(inquiry).await?;
            told.hear(&group, heard);
        }
        Ok(())
    }

    /// Asks about some pages of a consumer group, and writes down what has ended.
    async fn ask(&self, Inquiry { group, mut behind }: Inquiry) -> Result<Heard, idempo_pg::Error> {
        let Some(mut consumer) = self.consumers.of(&group) else { return Ok(Heard::nobody()) };
        for _ in 0..PAGES_MAX {
            let page = self.store.page(&group, behind, PAGE_LETTERS_MAX).await?;
            if !page.letters.is_empty() {
                let names = page.letters.iter().map(|letter| letter.name.clone()).collect();
                match standings(&mut consumer, names).await {
                    Ok(standings) => self.settle(&group, &Ended::of(page.letters, standings), page.asked).await?,
                    Err(status) => return Ok(Heard::of(&status)),
                }
            }
            behind = page.goes_on_behind.unwrap_or(0);
            self.store.moved(&group, behind).await?;
            if page.goes_on_behind.is_none() {
                break;
            }
        }
        Ok(Heard::answer())
    }

    async fn settle(&self, group: &str, ended: &Ended, asked: Option<jiff::Timestamp>) -> Result<(), idempo_pg::Error> {
        let Some(asked) = asked.filter(|_| !ended.is_empty()) else { return Ok(()) };
        for (state, letters) in self.store.settle(ended, asked).await? {
            tracing::info!(consumer_group = group, state, letters, "dead letters have ended at their consumer");
            crate::metrics::reconciled(&state, letters);
        }
        Ok(())
    }
}

async fn standings(consumer: &mut Parked, names: Vec<String>) -> Result<Vec<ParkedLetterStanding>, Status> {
    let request = asked_by(UNNAMED, ANSWER_LIMIT, GetParkedLetterStandingsRequest { names });
    Ok(consumer.get_parked_letter_standings(request).await?.into_inner().standings)
}

//! From a record that can't be applied to a dead letter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use idempo_dead_letter::DeadLetter;
use tokio::time::sleep;

use super::letters::{Failure, Letter, Parking, streams_of};
use super::topic::{DeadLetterTopic, TopicAway};
use crate::batch::{Entry, Version};
use crate::event::Event;
use crate::halt::{Cause, Halt};
use crate::meters::Counts;
use crate::partition::{Step, Task};
use crate::policy::{ATTEMPT_PAUSE, ATTEMPTS_MAX};
use crate::projector::Projector;
use crate::store::{Batch, Commit, Store};

/// How long a dead-letter topic that is away is left alone, at first and at most.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// Where the dead letters of a consumer go.
#[derive(Clone)]
pub struct DeadLetters {
    /// The consumer group, part of their identity.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<dyn DeadLetterTopic>,
}

impl<S: Store> Task<S> {
    /// Tries a record again that has failed, and makes it a dead letter when it has failed as often as it is tried. Everything before it is in the store.
    pub(crate) async fn bury<P: Projector<Writes = S::Writes>>(&mut self, entry: &Entry, failed: Cause) -> Result<Step, Halt> {
        let mut cause = failed;
        for _ in 1..ATTEMPTS_MAX {
            sleep(ATTEMPT_PAUSE).await;
            self.forget(entry);
            match self.batch::<P>(std::slice::from_ref(entry)).await {
                Step::Stopped(halt) => cause = halt.cause,
                Step::Refused(reason) => cause = Cause::Refused(reason),
                step => return Ok(step),
            }
        }
        let halt = |cause| Err(Halt { offset: entry.offset, cause });
        let Some(failure) = Failure::of(&cause, ATTEMPTS_MAX, self.partition.progress.now()) else { return halt(cause) };
        if self.lot.recent.is_flood() {
            return halt(Cause::Flood);
        }
        if self.lot.is_full(1, 0) {
            return halt(Cause::ParkingFull);
        }
        let group = Arc::clone(&self.partition.letters.group);
        let letter = Letter { group, entry: entry.clone(), failure, streams: streams_of::<P>(entry.key.as_ref()) };
        fail::fail_point!(crate::failpoint::PROJECT_BEFORE_DEAD_LETTER);
        if !self.write_letters(std::slice::from_ref(&letter)).await {
            return Ok(Step::Ended(crate::Ended::Revoked));
        }
        fail::fail_point!(crate::failpoint::PROJECT_DEAD_LETTER_PRODUCED);
        self.park::<P>(letter).await
    }

    /// Keeps a dead letter that is in its topic, and passes it.
    async fn park<P: Projector<Writes = S::Writes>>(&mut self, letter: Letter) -> Result<Step, Halt> {
        let (offset, to, outline) = (letter.entry.offset, letter.entry.offset.saturating_add(1), letter.outline());
        let (number, epoch) = (self.partition.home.partition, self.partition.lease.epoch);
        let batch = Arc::new(Batch {
            partition: number,
            epoch,
            from: self.next_offset,
            to,
            newest_at: outline.map(|outline| outline.decided_at),
            last_event: outline.map(|outline| outline.event_id),
            versions: Vec::new(),
            writes: P::Writes::default(),
            parking: Parking { letter: Some(letter.clone()), followers: Vec::new() },
        });
        match self.patiently(|| self.partition.store.commit(&batch)).await {
            Ok(Commit::Fenced) => return Ok(Step::Ended(crate::Ended::Fenced)),
            Ok(Commit::Committed) => {}
            Err(error) if error.is_transient() => return Ok(Step::Ended(crate::Ended::Revoked)),
            Err(error) => return Err(Halt { offset, cause: Cause::Refused(crate::patience::chain(&error)) }),
        }
        let (code, reason) = (letter.failure.code, letter.failure.reason.as_str());
        tracing::warn!(projection = P::NAME, topic = %self.partition.topic, partition = number, offset, code, reason, "a record is a dead letter, its key is parked");
        self.next_offset = to;
        self.lot.park(letter.entry.key.clone());
        let progress = &self.partition.progress;
        progress.buried(&letter.streams);
        progress.committed(number, to, batch.newest_at, &Counts::default(), Duration::ZERO);
        Ok(Step::Done)
    }

    /// Writes dead letters to their topic, and waits for it as long as it is away. `false` where the partition is taken away meanwhile.
    pub(crate) async fn write_letters(&self, letters: &[Letter]) -> bool {
        let (topic, number) = (&self.partition.topic, self.partition.home.partition);
        let records: Vec<DeadLetter> = letters.iter().map(|letter| letter.record(topic, number)).collect();
        if records.is_empty() {
            return true;
        }
        let meters = &self.partition.progress.meters;
        let (away, delays) =
            (AtomicBool::new(false), ExponentialBuilder::new().with_min_delay(RETRY_DELAY_MIN).with_max_delay(RETRY_DELAY_MAX));
        let write = || self.partition.letters.topic.write(&records);
        let written = write
            .retry(delays.with_jitter().without_max_times())
            .when(|_: &TopicAway| !self.cancel.is_cancelled())
            .notify(|error, _| {
                if !away.swap(true, Ordering::Relaxed) {
                    meters.dead_letters_away(true);
                    tracing::error!(%topic, partition = number, %error, "the dead-letter topic can't be written, the partition waits for it");
                }
            })
            .await;
        if away.into_inner() {
            meters.dead_letters_away(false);
            if written.is_ok() {
                tracing::info!(%topic, partition = number, "the dead-letter topic can be written again");
            }
        }
        if written.is_ok() {
            records.iter().zip(letters).for_each(|(_, letter)| meters.dead_letter(topic, letter.failure.code));
        }
        written.is_ok()
    }

    /// Has the version asked anew that a record's stream has.
    fn forget(&mut self, entry: &Entry) {
        if let Some(event) = entry.value.as_ref().and_then(|value| Event::decode(value).ok()) {
            self.seen.pop(&event.stream_id);
        }
    }

    pub(crate) fn last_version(&self, stream: idempo_ids::StreamId) -> Version {
        self.seen.peek(&stream).copied().unwrap_or_default()
    }
}

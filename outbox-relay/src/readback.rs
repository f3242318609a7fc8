//! Looking for what predecessors have sent beyond the position, so that it is not sent again.
//!
//! A row is skipped where a record with its very bytes stands in its partition, committed and on every in-sync replica: then it is in Kafka as
//! surely as if it were acknowledged. So a skip can lose nothing, whatever else is read or overlooked. Nor can it invert anything: a row that is sent
//! though a predecessor had sent it is a duplicate, and a row that no predecessor had sent comes after all rows before it in its stream, which are
//! sent before it or were found. Where to look is [`crate::tails`]'s business.
//!
//! Bytes are compared by a hash of 128 bits under keys that are drawn anew for each read-back, so that nobody can make two records that collide. A
//! record that occurs twice lets two rows pass.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use idempo_kafka::{Bounds, LogReader, LogRecord, ReadEnd, ReadLimit, TopicPartition, Visibility, missing_topics};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::routes::{Routes, Slot};
use crate::tails::{Lost, Tails};

/// How long the brokers may take to tell where logs begin and end.
const BOUNDS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a log that seems to end too early is looked at again before that is believed, and the wait between two looks. A replica that has
/// just become leader may be behind for a moment.
const LOST_LOOKS: u32 = 5;
const LOST_PAUSE: Duration = Duration::from_millis(200);
/// The most records that are read back where duplicates are allowed. What one relay has under way is some ten thousand.
const RECORDS_MAX: usize = 1_000_000;
/// The longest that reading back may take where duplicates are allowed. It takes a fraction of a second; what takes longer has brokers in trouble.
const READ_MAX: Duration = Duration::from_secs(10);
/// The longest that one try of reading back may take where they are not.
const EXACT_READ_MAX: Duration = Duration::from_secs(60);
/// The wait between two looks at whether others' transactions before the end have ended.
const STABLE_PAUSE: Duration = Duration::from_millis(10);

/// Records that predecessors have sent beyond the position, by the hash of their bytes.
#[derive(Debug, Default)]
pub(crate) struct Found {
    hashing: Hashing,
    /// How often each was found.
    records: HashMap<u128, u32>,
    /// The numbers of topics that the cluster does not have.
    pub(crate) missing: Vec<i16>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Hashing {
    keys: (u64, u64),
}

impl Hashing {
    fn new() -> Self {
        let state = RandomState::new();
        Self { keys: (state.hash_one(0), state.hash_one(1)) }
    }

    fn of(&self, slot: Slot, key: &[u8], value: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write_u16(slot);
        hasher.write_usize(key.len());
        hasher.write(key);
        hasher.write(value);
        hasher.finish128().as_u128()
    }
}

impl Found {
    /// Whether a record with these bytes was found in the partition. It is taken away with that.
    pub(crate) fn take(&mut self, slot: Slot, key: &[u8], value: &[u8]) -> bool {
        if self.records.is_empty() {
            return false;
        }
        let hash = self.hashing.of(slot, key, value);
        let Some(count) = self.records.get_mut(&hash) else { return false };
        *count -= 1;
        if *count == 0 {
            self.records.remove(&hash);
        }
        true
    }

    /// How many different records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn add(&mut self, slot: Slot, key: &[u8], value: &[u8]) {
        *self.records.entry(self.hashing.of(slot, key, value)).or_insert(0) += 1;
    }
}

/// Whether a record may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guarantee {
    /// It may; what the limits of the read-back leave out is sent again.
    AtLeastOnce,
    /// It may not; nothing is sent before everything is read.
    ExactlyOnce,
}

/// Why there is no read-back.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was acknowledged is not there.
    Lost(String),
    /// The brokers are away, or don't answer in time.
    Kafka(idempo_kafka::Error),
}

impl From<idempo_kafka::Error> for Failure {
    fn from(error: idempo_kafka::Error) -> Self {
        Self::Kafka(error)
    }
}

/// The logs, as they are when a producer is about to begin.
pub(crate) struct Logs<'a> {
    kafka: &'a idempo_kafka::Config,
    routes: &'a Routes,
    bounds: Vec<Bounds>,
    /// The numbers of topics that the cluster does not have.
    missing: Vec<i16>,
}

impl<'a> Logs<'a> {
    /// Asks where logs end now, and makes sure that they have what was acknowledged.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn look(kafka: &'a idempo_kafka::Config, routes: &'a Routes, tails: &Tails) -> Result<Self, Failure> {
        // What every replica has, committed or not: a producer's own records stand before that end.
        let reader = LogReader::new(kafka, Visibility::Uncommitted)?;
        let mut looks = 0;
        loop {
            let (bounds, missing) = match reader.bounds(routes.partitions(), BOUNDS_TIMEOUT).await {
                Ok(bounds) => (bounds, Vec::new()),
                Err(error) => bounds_of_others(kafka, routes, tails, &reader, error).await?,
            };
            let Some(lost) = tails.lost(&bounds) else { return Ok(Self { kafka, routes, bounds, missing }) };
            looks += 1;
            if looks >= LOST_LOOKS {
                return Err(Failure::Lost(describe(lost, routes)));
            }
            tokio::time::sleep(LOST_PAUSE).await;
        }
    }

    /// Where logs begin and end, by slot.
    pub(crate) fn bounds(&self) -> &[Bounds] {
        &self.bounds
    }

    /// Reads what is left of predecessors.
    ///
    /// # Errors
    /// [`Failure::Kafka`].
    pub(crate) async fn read(&self, tails: &Tails, guarantee: Guarantee) -> Result<(Found, ReadEnd), Failure> {
        let (slots, stretches): (Vec<Slot>, Vec<_>) = tails.stretches(&self.bounds, self.routes).into_iter().unzip();
        let found = Found { hashing: Hashing::new(), records: HashMap::new(), missing: self.missing.clone() };
        if stretches.is_empty() {
            return Ok((found, ReadEnd { records: 0, complete: true }));
        }
        let reader = LogReader::new(self.kafka, Visibility::Committed)?;
        let limit = match guarantee {
            Guarantee::AtLeastOnce => ReadLimit { records: RECORDS_MAX, time: READ_MAX },
            Guarantee::ExactlyOnce => {
                self.wait_until_stable(&reader).await?;
                ReadLimit { records: usize::MAX, time: EXACT_READ_MAX }
            }
        };
        let each = |(found, slots): &mut (Found, Vec<Slot>), number: usize, record: LogRecord<'_>| {
            if let Some(slot) = slots.get(number) {
                found.add(*slot, record.key, record.value);
            }
        };
        let ((found, _), end) = reader.read(stretches, limit, (found, slots), each).await?;
        Ok((found, end))
    }

    /// Waits until no transaction is open before the ends. This outbox has none, but another may; until it ends, what is behind it is not shown.
    async fn wait_until_stable(&self, reader: &LogReader) -> Result<(), Failure> {
        let deadline = Instant::now() + EXACT_READ_MAX;
        loop {
            let stable = reader.bounds(self.routes.partitions(), BOUNDS_TIMEOUT).await?;
            if stable.iter().zip(&self.bounds).all(|(stable, bounds)| stable.end >= bounds.end) || Instant::now() > deadline {
                return Ok(());
            }
            tokio::time::sleep(STABLE_PAUSE).await;
        }
    }
}

/// The bounds where topics are gone. Their logs seem to end where they were last seen to, so that nothing is looked for in them: what they had can't be
/// asked for, and their rows are for the quarantine. When such a topic is made anew, it is found to lack what was acknowledged.
///
/// # Errors
/// `error`, where no topic is gone; [`Failure::Kafka`].
async fn bounds_of_others(
    kafka: &idempo_kafka::Config,
    routes: &Routes,
    tails: &Tails,
    reader: &LogReader,
    error: idempo_kafka::Error,
) -> Result<(Vec<Bounds>, Vec<i16>), Failure> {
    let mut topics: Vec<String> = routes.partitions().iter().map(|partition| partition.topic.to_string()).collect();
    topics.dedup();
    let missing = missing_topics(kafka, &topics).await?;
    if missing.is_empty() {
        return Err(error.into());
    }
    let is_missing = |partition: &TopicPartition| missing.iter().any(|topic| **topic == *partition.topic);
    let others: Vec<TopicPartition> = routes.partitions().iter().filter(|partition| !is_missing(partition)).cloned().collect();
    let mut found = reader.bounds(&others, BOUNDS_TIMEOUT).await?.into_iter();
    let (mut bounds, mut numbers) = (Vec::with_capacity(routes.slots()), Vec::new());
    for (slot, partition) in (0..).zip(routes.partitions()) {
        if is_missing(partition) {
            let end = tails.open(slot).unwrap_or(0);
            bounds.push(Bounds { start: end, end });
            numbers.extend(routes.place(slot).map(|(number, _)| number));
        } else {
            bounds.extend(found.next());
        }
    }
    numbers.dedup();
    Ok((bounds, numbers))
}

fn describe(lost: Lost, routes: &Routes) -> String {
    let Lost { slot, acknowledged, end } = lost;
    let partition = routes.partition(slot).map(ToString::to_string).unwrap_or_default();
    format!(
        "ACKNOWLEDGED_RECORDS_LOST: {partition} ends at offset {end}, but what stands before {acknowledged} was acknowledged: the topic was made \
         anew, or a replica without it became leader. The event store has every event. To go on without what is gone: SELECT outbox.accept_lost_records(who, why)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_by_all_of_its_bytes_and_as_often_as_it_is_there() {
        let mut found = Found { hashing: Hashing::new(), ..Found::default() };
        found.add(3, b"key", b"value");
        found.add(3, b"key", b"value");
        found.add(3, b"key", b"other");
        assert_eq!(found.len(), 2);
        for (slot, key, value) in [(4, &b"key"[..], &b"value"[..]), (3, b"keyv", b"alue"), (3, b"key", b"valu")] {
            assert!(!found.take(slot, key, value));
        }
        assert!(found.take(3, b"key", b"value") && found.take(3, b"key", b"value"));
        assert!(!found.take(3, b"key", b"value"));
        assert!(found.take(3, b"key", b"other"));
        assert_eq!(found.len(), 0);
    }
}

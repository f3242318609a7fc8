//! Writing dead letters to their topic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use idempo_dead_letter::{DeadLetter, dlq_topic};
use idempo_kafka::{Delivery, Producer, ProducerConfig, Refusal, SendError, Verbatim, partition_of};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// How long an acknowledgement is waited for before the topic counts as away. What was sent may be there all the same: it is sent again then, with the
/// same identity.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// The pause before a record is offered again for which there was no room.
const ROOM_PAUSE: Duration = Duration::from_millis(2);
/// The largest record that is sent, in bytes, and the most that wait.
const RECORD_BYTES_MAX: u32 = 2_000_000;
const QUEUE_KIB_MAX: u32 = 16_384;
const QUEUE_RECORDS_MAX: u32 = 16_384;

/// Why dead letters could not be written. They can be written again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the dead-letter topic can't be written: {0}")]
pub struct TopicAway(pub String);

/// Where dead letters go.
pub trait DeadLetterTopic: Send + Sync + 'static {
    /// Writes dead letters of one topic, and returns when all of them are acknowledged.
    ///
    /// # Errors
    /// [`TopicAway`], where one is not known to be there.
    ///
    /// # Cancel safety
    /// Dropping it leaves some of them written, which can be written again: they are the same ones.
    fn write<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), TopicAway>>;
}

/// `<topic>.dlq` on the brokers. The producer is made when the first dead letter is written.
pub struct KafkaDeadLetters {
    kafka: idempo_kafka::Config,
    partitions: i32,
    producing: Mutex<Option<Producing>>,
}

/// A producer, and who waits for what it has sent.
#[derive(Clone)]
struct Producing {
    producer: Arc<Producer>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    last: usize,
    told: HashMap<usize, oneshot::Sender<Delivery>>,
}

impl KafkaDeadLetters {
    /// Dead letters on these brokers, in topics of so many partitions. Nothing is asked of them yet.
    #[must_use]
    pub const fn new(kafka: idempo_kafka::Config, partitions: i32) -> Self {
        Self { kafka, partitions, producing: Mutex::new(None) }
    }

    fn producing(&self) -> Result<Producing, TopicAway> {
        let mut known = locked(&self.producing);
        if let Some(producing) = &*known {
            return Ok(producing.clone());
        }
        let waiting: Arc<Mutex<Waiting>> = Arc::default();
        let config = ProducerConfig {
            queue_kib_max: QUEUE_KIB_MAX,
            queue_records_max: QUEUE_RECORDS_MAX,
            record_bytes_max: RECORD_BYTES_MAX,
            connections: 1,
            linger_us: 0,
            ..ProducerConfig::default()
        };
        let telling = Arc::clone(&waiting);
        let producer = Producer::start(&self.kafka, &config, move |number, delivery| {
            if let Some(told) = locked(&telling).told.remove(&number) {
                // Nobody hears it who has gone away.
                let _ = told.send(delivery);
            }
        });
        let producer = Arc::new(producer.map_err(|error| TopicAway(error.to_string()))?);
        let producing = Producing { producer, waiting };
        *known = Some(producing.clone());
        Ok(producing)
    }

    async fn send(&self, letters: &[DeadLetter]) -> Result<(), TopicAway> {
        let producing = self.producing()?;
        let mut told = Vec::with_capacity(letters.len());
        let until = Instant::now() + ACKNOWLEDGED_WITHIN;
        for letter in letters {
            let hears = loop {
                match producing.send(letter, self.partitions) {
                    Ok(hears) => break hears,
                    // There is room when what was sent before is there: by this caller, or by another one, whose record may be the first of its partition.
                    Err(Unsent::Full) if !told.is_empty() => acknowledged(std::mem::take(&mut told)).await?,
                    Err(Unsent::Full) if Instant::now() < until => sleep(ROOM_PAUSE).await,
                    Err(unsent) => return Err(unsent.into()),
                }
            };
            told.push(hears);
        }
        acknowledged(told).await
    }
}

/// Waits until all of these are there.
async fn acknowledged(told: Vec<oneshot::Receiver<Delivery>>) -> Result<(), TopicAway> {
    let all = async {
        for told in told {
            match told.await {
                Ok(Delivery::Acknowledged { .. }) => {}
                Ok(Delivery::Refused(refusal)) => return Err(refused(refusal)),
                Ok(Delivery::Purged | Delivery::Failed(_)) | Err(_) => return Err(TopicAway("the producer has given up".to_owned())),
            }
        }
        Ok(())
    };
    match timeout(ACKNOWLEDGED_WITHIN, all).await {
        Ok(result) => result,
        Err(_) => Err(TopicAway(format!("not acknowledged within {} ms", ACKNOWLEDGED_WITHIN.as_millis()))),
    }
}

/// Why a record was not sent.
enum Unsent {
    Full,
    Away(TopicAway),
}

impl From<Unsent> for TopicAway {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Full => Self("the producer's queue is full".to_owned()),
            Unsent::Away(away) => away,
        }
    }
}

impl DeadLetterTopic for KafkaDeadLetters {
    fn write<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), TopicAway>> {
        Box::pin(async {
            let written = self.send(letters).await;
            if written.is_err() {
                // A producer that has failed once may be good for nothing any more. What it still holds goes with it.
                *locked(&self.producing) = None;
            }
            written
        })
    }
}

impl Producing {
    /// Sends a dead letter; what is given tells when it is there.
    fn send(&self, letter: &DeadLetter, partitions: i32) -> Result<oneshot::Receiver<Delivery>, Unsent> {
        let (told, hears) = oneshot::channel();
        let number = {
            let mut waiting = locked(&self.waiting);
            waiting.last = waiting.last.wrapping_add(1);
            let number = waiting.last;
            waiting.told.insert(number, told);
            number
        };
        let (topic, headers) = (dlq_topic(&letter.id.topic), letter.headers());
        let headers: Vec<(&str, Option<&[u8]>)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let key = letter.original.key.as_deref();
        // Those without a key stand with the empty one.
        let partition = partition_of(key.unwrap_or_default(), partitions);
        let record = Verbatim { topic: &topic, partition, key, value: letter.original.value.as_deref(), headers: &headers };
        match self.producer.send_verbatim(&record, number) {
            Ok(()) => Ok(hears),
            Err(error) => {
                locked(&self.waiting).told.remove(&number);
                Err(match error {
                    SendError::Full => Unsent::Full,
                    SendError::Refused(refusal) => Unsent::Away(refused(refusal)),
                    SendError::Fatal(error) => Unsent::Away(TopicAway(error.to_string())),
                })
            }
        }
    }
}

fn refused(refusal: Refusal) -> TopicAway {
    TopicAway(format!("the broker refuses it: {}", refusal.name()))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

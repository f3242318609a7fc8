//! Sending what people have released from the quarantine.
//!
//! Released rows go through a producer of their own: the publisher stands still meanwhile, with nothing under way, so the two can't overtake each
//! other, and what a released row makes of its producer doesn't touch the position. A portion that is refused is sent again one record at a time, so
//! that the guilty row is held again, and what stood before it is in Kafka.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use idempo_kafka::{Delivery, Outgoing, Producer, ProducerConfig, Refusal, SendError};
use tokio::sync::Notify;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;
use uuid::fmt::Hyphenated;

use super::{Kept, Quarantine, Why, careful};
use crate::lease::Fence;
use crate::publisher::Ended;
use crate::reader::OutboxRow;
use crate::routes::{Routes, headers};

/// Rows that are sent and noted together.
const PORTION_ROWS: i64 = 500;
/// How long a turn of draining lasts before other keys have theirs.
const TURN_MAX: Duration = Duration::from_secs(1);
/// How often the fence is looked at while acknowledgements are waited for.
const FENCE_INTERVAL: Duration = Duration::from_millis(20);
/// How long after the first refusal the others of its request are waited for.
const REFUSALS_SETTLE: Duration = Duration::from_millis(100);

/// What draining must heed.
pub(crate) struct Bounds<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) fence: &'a Fence,
    pub(crate) stop: &'a CancellationToken,
}

/// What the broker has said so far about a portion.
#[derive(Default)]
struct Told {
    state: Mutex<Answers>,
    changed: Notify,
}

#[derive(Default)]
struct Answers {
    acknowledged: Vec<i64>,
    refused: HashMap<i64, Refusal>,
    failed: Option<String>,
}

/// What became of a portion.
struct Outcome {
    /// Rows that are in Kafka.
    acknowledged: Vec<i64>,
    /// Rows that were refused, and why.
    refused: HashMap<i64, Why>,
    /// A request with several rows was refused.
    suspicious: bool,
    /// Nothing more is to be had of this producer.
    failed: Option<String>,
}

impl Quarantine {
    /// Sends what is released, in portions, until there is nothing more or the turn is over; then looks which keys flow again. Nothing of the
    /// publisher's may be under way.
    ///
    /// # Errors
    /// How the producer's life is to end.
    pub(crate) async fn drain(&mut self, bounds: &Bounds<'_>) -> Result<(), Ended> {
        let began = Instant::now();
        let mut is_careful = false;
        let mut behind = 0_i64;
        self.drain_at = None;
        while began.elapsed() < TURN_MAX {
            let rows = self.released(behind).await.map_err(Ended::Database)?;
            if rows.is_empty() {
                break;
            }
            let config = if is_careful { careful(&self.producer) } else { self.producer.clone() };
            let outcome = self.send_portion(&rows, &config, is_careful, bounds).await?;
            self.note(&rows, &outcome, is_careful).await?;
            if let Some(failed) = outcome.failed {
                tracing::warn!(outbox = self.outbox, reason = failed, "rows of the quarantine could not be sent and are tried again");
                self.load().await.map_err(Ended::Database)?;
                self.put_off();
                return Ok(());
            }
            is_careful = outcome.suspicious;
            // A portion without refusals is behind us; after a refusal what is released is looked at anew.
            if !outcome.suspicious
                && outcome.refused.is_empty()
                && let Some(last) = rows.last()
            {
                behind = last.try_get(0).map_err(|error| Ended::Database(error.into()))?;
            }
        }
        self.load().await.map_err(Ended::Database)
    }

    async fn released(&self, behind: i64) -> Result<Vec<Row>, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/read_released.sql")).await?;
        Ok(client.query(&statement, &[&behind, &PORTION_ROWS]).await?)
    }

    /// Sends rows in their order up to the first that can't be sent, and waits for what the broker says.
    async fn send_portion(&self, rows: &[Row], config: &ProducerConfig, is_careful: bool, bounds: &Bounds<'_>) -> Result<Outcome, Ended> {
        let told = Arc::new(Told::default());
        let hears = Arc::clone(&told);
        let seqs: Vec<i64> =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(|error| Ended::Database(error.into()))?;
        let started = Producer::start(&self.kafka, config, move |number, delivery| hears.hear(seqs.get(number).copied(), delivery));
        let producer = started.map_err(|error| Ended::Failed(error.to_string()))?;
        let mut refused = HashMap::new();
        let mut sent = 0;
        let mut buffer = [0_u8; Hyphenated::LENGTH];
        'rows: for (number, row) in rows.iter().enumerate() {
            let row = OutboxRow::of_quarantine(row).map_err(|error| Ended::Database(error.into()))?;
            let Some(route) = bounds.routes.get(row.topic) else {
                refused.insert(row.seq, Why::TopicNumberUnknown);
                break;
            };
            let Some(headers) = headers(row.headers) else {
                refused.insert(row.seq, Why::HeadersUnreadable);
                break;
            };
            let key = row.key.hyphenated().encode_lower(&mut buffer).as_bytes();
            let partition = route.partition(key);
            let record = Outgoing { topic: &route.topic, partition, key, value: row.payload, headers: &headers };
            loop {
                heed(bounds)?;
                match producer.send(&record, number) {
                    Ok(()) => break,
                    Err(SendError::Full) => told.wait().await,
                    Err(SendError::Refused(refusal)) => {
                        refused.insert(row.seq, Why::Refused(refusal));
                        break 'rows;
                    }
                    Err(SendError::Fatal(error)) => {
                        told.fail(error.to_string());
                        break 'rows;
                    }
                }
            }
            sent += 1;
        }
        told.settled(sent, bounds).await?;
        Ok(told.outcome(refused, is_careful))
    }

    /// Notes what became of a portion, and holds what was refused again.
    async fn note(&self, rows: &[Row], outcome: &Outcome, is_careful: bool) -> Result<(), Ended> {
        if !outcome.acknowledged.is_empty() {
            let marked = async {
                let client = self.pool.get().await?;
                let statement = client.prepare_cached(include_str!("../sql/mark_sent.sql")).await?;
                Ok::<bool, idempo_pg::Error>(client.query_one(&statement, &[&self.epoch, &outcome.acknowledged]).await?.try_get(0)?)
            };
            if !marked.await.map_err(Ended::Database)? {
                return Err(Ended::Fenced);
            }
            tracing::info!(outbox = self.outbox, rows = outcome.acknowledged.len(), "rows of the quarantine are in Kafka");
        }
        let mut again = Vec::new();
        for row in rows {
            let row = OutboxRow::of_quarantine(row).map_err(|error| Ended::Database(error.into()))?;
            let Some(why) = outcome.refused.get(&row.seq).copied() else { continue };
            let (seq, code, reason) = (row.seq, why.code(), why.reason(row.topic));
            tracing::error!(outbox = self.outbox, seq, code, reason, is_careful, "a row that was sent again is refused again");
            again.push(Kept { seq, topic: row.topic, in_order: super::in_order(row.topic), why });
        }
        if again.is_empty() { Ok(()) } else { self.put(&again).await }
    }
}

/// Whether sending may go on.
fn heed(bounds: &Bounds<'_>) -> Result<(), Ended> {
    if !bounds.fence.holds() {
        return Err(Ended::Fenced);
    }
    // What was released and is not noted as sent is sent by the next.
    if bounds.stop.is_cancelled() { Err(Ended::Drained) } else { Ok(()) }
}

impl Told {
    fn hear(&self, seq: Option<i64>, delivery: Delivery) {
        {
            let mut answers = self.lock();
            match (seq, delivery) {
                (Some(seq), Delivery::Acknowledged { .. }) => answers.acknowledged.push(seq),
                (Some(seq), Delivery::Refused(refusal)) => {
                    answers.refused.insert(seq, refusal);
                }
                (_, Delivery::Failed(code)) => {
                    answers.failed.get_or_insert(code.to_string());
                }
                (_, Delivery::Purged) => {
                    answers.failed.get_or_insert("thrown away".to_owned());
                }
                (None, _) => {}
            }
        }
        self.changed.notify_one();
    }

    fn fail(&self, reason: String) {
        self.lock().failed.get_or_insert(reason);
    }

    async fn wait(&self) {
        // Either something was told, or it is time to look at the fence.
        let _ = tokio::time::timeout(FENCE_INTERVAL, self.changed.notified()).await;
    }

    /// Waits until `sent` rows are acknowledged or something has gone wrong.
    async fn settled(&self, sent: usize, bounds: &Bounds<'_>) -> Result<(), Ended> {
        loop {
            {
                let answers = self.lock();
                if answers.acknowledged.len() >= sent {
                    return Ok(());
                }
                if answers.failed.is_some() || !answers.refused.is_empty() {
                    break;
                }
            }
            heed(bounds)?;
            self.wait().await;
        }
        tokio::time::sleep(REFUSALS_SETTLE).await;
        Ok(())
    }

    /// What became of the portion. Refusals of a request with several records count for none of them: the next try is careful. A careful producer
    /// that was told a refusal has failed by it, and that is no news.
    fn outcome(&self, mut refused: HashMap<i64, Why>, is_careful: bool) -> Outcome {
        let mut answers = self.lock();
        let acknowledged = std::mem::take(&mut answers.acknowledged);
        let was_refused = !answers.refused.is_empty();
        if was_refused && is_careful {
            refused.extend(answers.refused.drain().map(|(seq, refusal)| (seq, Why::Refused(refusal))));
        }
        let failed = answers.failed.take().filter(|_| !was_refused);
        Outcome { acknowledged, refused, suspicious: was_refused && !is_careful, failed }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Rows that Kafka refuses for ever, and the rows that wait behind them.
//!
//! A row that can't be sent (too large, for a topic that does not exist or that we may not write to, with headers that can't be read) is copied
//! into a table beside the outbox, as *held*. Later rows of its key are copied there too, as *parked*, and other keys flow. Where the topic's policy
//! is to divert, the refused row alone is kept. People have a held row sent again, or skip it; the relay itself sends what is released, and
//! then the key flows again.
//!
//! # Nothing is lost
//! * A row is quarantined by a transaction of its own, and the publisher goes on only when that is committed. What the cursor may pass is decided
//!   after that: a page with such a row counts as acknowledged only then. So a row that the cursor has passed is in Kafka or in the quarantine.
//! * Dying between the two is harmless: the row is read again, its number is known ([`Quarantine::load`] reads all numbers that the cursor has not
//!   passed), and it is neither sent nor inserted again. That holds for rows that were settled meanwhile too: a row that people have skipped is
//!   not sent because it is read again.
//! * The database copies the bytes from the outbox itself. They are there: a table is emptied only when the cursor has passed all of it.
//! * A relay that has lost its lease can change nothing here: each change locks the cursor's row and compares the epoch, as writing the cursor
//!   does. What it had committed before, its successor sees, because it loads after the take-over.
//!
//! # Order
//! Rows of one stream are ordered by their numbers, and a later one is never read before an earlier one is ([`crate::position`]). Let `h` be a held
//! row of a key.
//! * *Before `h`.* A row of the key with a lower number is sent, also where it is read again. It was handed over before, or is now.
//! * *Behind `h`.* While any row of the key waits in quarantine, every row of it with a number above the lowest of those is parked. So of the rows
//!   from `h` on none is in Kafka, but by the quarantine.
//! * *Released.* Rows are sent from quarantine by [`drain`], in the order of numbers, and only those with no held row of their key before them. Before
//!   the first is sent, everything that the publisher has handed over is acknowledged, so the rows before `h` are in Kafka. Each portion is
//!   acknowledged and noted before the publisher goes on.
//! * *The key flows again* when no row of it waits, as the table says, between two pages of the publisher. It is the publisher that drains and that
//!   parks, one after the other, so no row can be parked between the look and the decision. New rows that come meanwhile are parked behind, and
//!   are drained in the same turn or the next; a turn takes more rows than a page has, so it comes to an end.
//! * *Dying while draining.* Rows that were sent and not noted are sent again: duplicates, in order. Later rows of the key are parked behind them, or
//!   were handed over after they had been noted.
//!
//! A relay that is frozen while it drains and thaws later may send what it had under way, as with any row: these are duplicates of rows that its
//! successor sends before whatever comes next. One case is left in which that inverts rows: the successor's broker has refused the row again and people
//! have skipped it, all while the first request was still under way. Consumers then see the row behind later ones, and drop it by its version.
//!
//! # Who is guilty
//! A refusal that comes with the hand-over is the row's own. One that the broker tells in a delivery report is told of every row in the
//! request. So those rows are only suspects: the next producer sends one record in each request, and continues so until it has passed them all.
//! What is refused then is guilty. A broker that is away refuses nothing; rows wait in the producer, and no attempt is counted.

pub(crate) mod drain;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use idempo_kafka::{ProducerConfig, Refusal};
use idempo_pg::Pool;
use idempo_schemas::WhenRefused;
use tokio::sync::watch;
use uuid::Uuid;

use crate::control::Control;
use crate::publisher::Ended;
use crate::reader::OutboxRow;

/// How long all rows of a topic are taken for refused when one was, because the topic is gone or closed to us.
const TOPIC_REFUSED: Duration = Duration::from_secs(30);
/// The most rows that a producer hands over one by one while it waits for suspects to turn up.
const CAREFUL_ROWS_MAX: u64 = 200_000;
/// How soon released rows are tried again when there was no room to send them.
const DRAIN_RETRY: Duration = Duration::from_secs(1);

/// Why a row is kept from Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The broker or its client refuses it.
    Refused(Refusal),
    /// `topics.yaml` has no topic with its number.
    TopicNumberUnknown,
    /// Its headers are damaged.
    HeadersUnreadable,
    /// An earlier row of its key waits: the one with this seq is the first.
    Behind(i64),
}

impl Why {
    /// The reason's stable name.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Refused(Refusal::TooLarge) => "RECORD_TOO_LARGE",
            Self::Refused(Refusal::UnknownTopic) => "TOPIC_NOT_FOUND",
            Self::Refused(Refusal::UnknownPartition) => "PARTITION_NOT_FOUND",
            Self::Refused(Refusal::NotAuthorised) => "TOPIC_NOT_AUTHORISED",
            Self::Refused(Refusal::Invalid) => "RECORD_INVALID",
            Self::TopicNumberUnknown => "TOPIC_NUMBER_UNKNOWN",
            Self::HeadersUnreadable => "HEADERS_UNREADABLE",
            Self::Behind(_) => "BEHIND_REFUSED_ROW",
        }
    }

    /// The reason for people.
    fn reason(self, topic: i16) -> String {
        match self {
            Self::Refused(refusal) => format!("Kafka refuses it: {}", refusal.name()),
            Self::TopicNumberUnknown => format!("it is for topic {topic}, which topics.yaml does not have"),
            Self::HeadersUnreadable => "it has headers that can't be read".to_owned(),
            Self::Behind(first) => format!("it waits behind row {first} of its key"),
        }
    }

    /// Whether the next rows of the topic would be refused too.
    const fn is_topics_own(self) -> bool {
        matches!(self, Self::Refused(Refusal::UnknownTopic | Refusal::UnknownPartition | Refusal::NotAuthorised))
    }
}

/// A row that goes into the quarantine.
#[derive(Debug, Clone, Copy)]
struct Kept {
    seq: i64,
    topic: i16,
    in_order: bool,
    why: Why,
}

impl Kept {
    const fn state(self) -> &'static str {
        match (self.why, self.in_order) {
            (Why::Behind(_), _) => "parked",
            (_, true) => "held",
            (_, false) => "diverted",
        }
    }
}

/// What the holder of a lease knows of the quarantine.
pub(crate) struct Quarantine {
    pub(crate) pool: Pool,
    outbox: String,
    pub(crate) epoch: i64,
    /// The most rows that may wait; beyond, the outbox is blocked.
    rows_max: u64,
    kafka: idempo_kafka::Config,
    producer: ProducerConfig,
    control: watch::Receiver<Option<Control>>,
    revision: Option<i64>,
    /// Rows that are in the table and may be read again.
    known: HashSet<i64>,
    /// Keys with rows that wait, and the lowest number of those.
    blocked: HashMap<Uuid, i64>,
    waiting: u64,
    /// The first row that there was no room for.
    without_room: i64,
    /// Rows that go there next.
    pending: Vec<Kept>,
    /// When released rows are to be sent.
    drain_at: Option<Instant>,
    /// Rows that were in a refused request.
    suspects: HashSet<i64>,
    /// Those that this producer has not met yet.
    unmet: HashSet<i64>,
    /// Whether this producer sends one record in each request.
    is_careful: bool,
    /// Rows that this producer has handed over, if it is careful.
    watched: u64,
    /// Topics of which a row was refused for the topic's sake, and when.
    topics: HashMap<i16, (Why, Instant)>,
}

/// What a quarantine works with.
pub(crate) struct Means {
    pub(crate) pool: Pool,
    pub(crate) outbox: String,
    pub(crate) epoch: i64,
    pub(crate) rows_max: u64,
    pub(crate) kafka: idempo_kafka::Config,
    pub(crate) producer: ProducerConfig,
    pub(crate) control: watch::Receiver<Option<Control>>,
}

impl Quarantine {
    /// A quarantine of which nothing is known yet.
    pub(crate) fn new(means: Means) -> Self {
        let Means { pool, outbox, epoch, rows_max, kafka, producer, control } = means;
        Self {
            pool,
            outbox,
            epoch,
            rows_max,
            kafka,
            producer,
            control,
            revision: None,
            known: HashSet::new(),
            blocked: HashMap::new(),
            waiting: 0,
            without_room: 0,
            pending: Vec::new(),
            drain_at: None,
            suspects: HashSet::new(),
            unmet: HashSet::new(),
            is_careful: false,
            watched: 0,
            topics: HashMap::new(),
        }
    }

    /// Reads what must be known before rows behind the stored cursor are read.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn load(&mut self) -> Result<(), idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/load_quarantine.sql")).await?;
        let rows = client.query(&statement, &[]).await?;
        self.known.clear();
        self.blocked.clear();
        self.pending.clear();
        self.waiting = 0;
        let mut held: HashSet<Uuid> = HashSet::new();
        let mut is_released = false;
        for row in rows {
            let (seq, key, state, in_order): (i64, Uuid, String, bool) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            self.known.insert(seq);
            if matches!(state.as_str(), "sent" | "skipped") {
                continue;
            }
            self.waiting += 1;
            if in_order {
                self.blocked.entry(key).or_insert(seq);
            }
            if state == "held" {
                held.insert(key);
            }
            is_released |= matches!(state.as_str(), "requeued" | "parked") && (!in_order || !held.contains(&key));
        }
        self.drain_at = is_released.then(Instant::now);
        Ok(())
    }

    /// Whether this row is kept from Kafka for what is known already: it is in the quarantine, waits behind a row of its key, or is for a topic that
    /// refuses everything. It goes there with the next [`Self::commit`].
    pub(crate) fn keeps(&mut self, row: &OutboxRow<'_>) -> bool {
        if self.known.contains(&row.seq) {
            return true;
        }
        let first = self.blocked.get(&row.key).copied().filter(|first| *first < row.seq);
        if let Some(first) = first.filter(|_| in_order(row.topic)) {
            self.pending.push(Kept { seq: row.seq, topic: row.topic, in_order: true, why: Why::Behind(first) });
            return true;
        }
        let Some((why, since)) = self.topics.get(&row.topic).copied() else { return false };
        if since.elapsed() > TOPIC_REFUSED {
            self.topics.remove(&row.topic);
            return false;
        }
        self.refuse(row, why);
        true
    }

    /// The cluster does not have these topics.
    pub(crate) fn topics_are_gone(&mut self, numbers: &[i16]) {
        let now = Instant::now();
        self.topics.extend(numbers.iter().map(|number| (*number, (Why::Refused(Refusal::UnknownTopic), now))));
    }

    /// This row can't be sent. It goes to the quarantine with the next [`Self::commit`].
    pub(crate) fn refuse(&mut self, row: &OutboxRow<'_>, why: Why) {
        let in_order = in_order(row.topic);
        if in_order {
            let first = self.blocked.entry(row.key).or_insert(row.seq);
            *first = row.seq.min(*first);
        }
        if why.is_topics_own() {
            self.topics.entry(row.topic).or_insert((why, Instant::now()));
        }
        self.pending.push(Kept { seq: row.seq, topic: row.topic, in_order, why });
    }

    /// Puts rows that are to be kept into the table. When it returns, that is committed.
    ///
    /// # Errors
    /// How the producer's life is to end: the lease is lost, the quarantine is full, or the database has failed.
    pub(crate) async fn commit(&mut self) -> Result<(), Ended> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let added = u64::try_from(self.pending.iter().filter(|kept| !self.known.contains(&kept.seq)).count()).unwrap_or(u64::MAX);
        if self.waiting.saturating_add(added) > self.rows_max {
            let first = self.pending.iter().find(|kept| !matches!(kept.why, Why::Behind(_))).or(self.pending.first());
            let reason = first.map_or(String::new(), |kept| format!(": row {}: {}", kept.seq, kept.why.reason(kept.topic)));
            self.without_room = self.pending.iter().map(|kept| kept.seq).min().unwrap_or(0);
            self.pending.clear();
            return Err(Ended::Blocked(format!("{} rows are in quarantine, and no more may be{reason}", self.waiting)));
        }
        let rows = std::mem::take(&mut self.pending);
        for kept in rows.iter().filter(|kept| !matches!(kept.why, Why::Behind(_))) {
            let (seq, code, reason) = (kept.seq, kept.why.code(), kept.why.reason(kept.topic));
            tracing::error!(outbox = self.outbox, seq, code, reason, "a row goes into quarantine: people must requeue or skip it");
        }
        self.put(&rows).await?;
        self.waiting += added;
        self.known.extend(rows.iter().map(|kept| kept.seq));
        Ok(())
    }

    /// Puts rows into the table, or holds those again that are there.
    async fn put(&self, rows: &[Kept]) -> Result<(), Ended> {
        let seqs: Vec<i64> = rows.iter().map(|kept| kept.seq).collect();
        let states: Vec<&str> = rows.iter().map(|kept| kept.state()).collect();
        let in_order: Vec<bool> = rows.iter().map(|kept| kept.in_order).collect();
        let codes: Vec<&str> = rows.iter().map(|kept| kept.why.code()).collect();
        let reasons: Vec<String> = rows.iter().map(|kept| kept.why.reason(kept.topic)).collect();
        let put = async {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(include_str!("../sql/quarantine_rows.sql")).await?;
            let row = client.query_one(&statement, &[&self.epoch, &seqs, &states, &in_order, &codes, &reasons]).await?;
            Ok::<bool, idempo_pg::Error>(row.try_get(0)?)
        };
        match put.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Ended::Fenced),
            Err(error) => Err(Ended::Database(error)),
        }
    }

    /// Rows were in a request that the broker refused. Where each record had a request of its own, the row is guilty, and is told.
    pub(crate) fn suspect(&mut self, refused: &[(i64, Refusal)]) -> Option<(i64, Refusal)> {
        let guilty = refused.first().copied().filter(|_| self.is_careful);
        if let Some((seq, _)) = guilty {
            self.suspects.remove(&seq);
        } else {
            self.suspects.extend(refused.iter().map(|(seq, _)| *seq));
        }
        guilty
    }

    /// Puts a row that the broker has refused alone into quarantine. Rows behind it follow when they are read again.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(crate) async fn convict(&mut self, seq: i64, refusal: Refusal) -> Result<(), Ended> {
        let client = self.pool.get().await.map_err(Ended::Database)?;
        let row = client.query_opt(include_str!("../sql/read_row.sql"), &[&seq]).await.map_err(|error| Ended::Database(error.into()))?;
        drop(client);
        // Someone with rights that nobody should have has taken it away.
        let Some(row) = row else { return Ok(()) };
        let row = OutboxRow::of_quarantine(&row).map_err(|error| Ended::Database(error.into()))?;
        self.refuse(&row, Why::Refused(refusal));
        self.commit().await
    }

    /// Whether this producer sends one record in each request, and has handed over all for whose sake it does.
    pub(crate) fn is_past_suspects(&self) -> bool {
        self.is_careful && (self.unmet.is_empty() || self.watched > CAREFUL_ROWS_MAX)
    }

    /// Everything that was handed over is acknowledged: nobody is under suspicion any more.
    pub(crate) fn clear_suspects(&mut self) {
        self.suspects.clear();
    }

    /// A row was handed over, or is kept.
    pub(crate) fn passed(&mut self, seq: i64) {
        if self.is_careful {
            self.unmet.remove(&seq);
            self.watched += 1;
        }
    }

    /// The settings of the producer that begins now: careful, where there are suspects.
    pub(crate) fn next_producer(&mut self) -> ProducerConfig {
        self.is_careful = !self.suspects.is_empty();
        self.unmet.clone_from(&self.suspects);
        self.watched = 0;
        if self.is_careful { careful(&self.producer) } else { self.producer.clone() }
    }

    /// The first row that there was no room for.
    pub(crate) fn first_without_room(&self) -> i64 {
        self.without_room
    }

    /// Waits until there is something to drain.
    ///
    /// # Cancel safety
    /// Safe: what was heard is kept.
    pub(crate) async fn wanted(&mut self) {
        loop {
            if let Some(at) = self.drain_at {
                tokio::time::sleep_until(at.into()).await;
                return;
            }
            let revision = self.control.borrow_and_update().as_ref().map(|control| control.revision);
            if self.revision != revision {
                let is_first = self.revision.is_none();
                self.revision = revision;
                if !is_first {
                    self.drain_at = Some(Instant::now());
                    continue;
                }
            }
            if self.control.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Released rows can't be sent yet.
    pub(crate) fn put_off(&mut self) {
        self.drain_at = Some(Instant::now() + DRAIN_RETRY);
    }
}

/// Whether later rows of a key wait for a refused row of this topic.
fn in_order(topic: i16) -> bool {
    idempo_schemas::topics().by_number(topic).is_none_or(|topic| topic.refused == WhenRefused::BlockKey)
}

/// One record in each request.
fn careful(config: &ProducerConfig) -> ProducerConfig {
    ProducerConfig { batch_records_max: 1, ..config.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::DatabaseTime;

    fn quarantine() -> Quarantine {
        let database = idempo_pg::Config::at("postgres://idempo_relay@127.0.0.1/none");
        Quarantine::new(Means {
            pool: Pool::open(&database).expect("it connects later"),
            outbox: "test".to_owned(),
            epoch: 1,
            rows_max: 10,
            kafka: idempo_kafka::Config::default(),
            producer: ProducerConfig::default(),
            control: watch::channel(None).1,
        })
    }

    fn row(seq: i64, topic: i16, key: u128) -> OutboxRow<'static> {
        OutboxRow { seq, recorded_at: DatabaseTime(0), topic, key: Uuid::from_u128(key), headers: &[], payload: &[1] }
    }

    #[tokio::test]
    async fn later_rows_of_a_refused_rows_key_are_kept_and_earlier_ones_and_other_keys_are_not() {
        let mut quarantine = quarantine();
        quarantine.refuse(&row(5, 3, 1), Why::HeadersUnreadable);
        assert!(!quarantine.keeps(&row(4, 3, 1)), "an earlier row that is read again");
        assert!(!quarantine.keeps(&row(6, 3, 2)), "another key");
        assert!(!quarantine.keeps(&row(6, 1, 1)), "a topic whose rows wait for nothing");
        assert!(quarantine.keeps(&row(7, 3, 1)));
        assert_eq!(quarantine.pending.iter().map(|kept| (kept.seq, kept.state())).collect::<Vec<_>>(), [(5, "held"), (7, "parked")]);
        quarantine.refuse(&row(8, 1, 3), Why::HeadersUnreadable);
        assert_eq!(quarantine.pending.last().map(|kept| kept.state()), Some("diverted"));
        assert!(!quarantine.keeps(&row(9, 1, 3)));
    }

    #[tokio::test]
    async fn where_the_topic_is_closed_to_us_all_its_rows_are_kept_without_being_tried() {
        let mut quarantine = quarantine();
        quarantine.refuse(&row(1, 3, 1), Why::Refused(Refusal::NotAuthorised));
        assert!(quarantine.keeps(&row(2, 3, 2)));
        assert!(!quarantine.keeps(&row(3, 4, 3)), "another topic");
        assert!(quarantine.pending.iter().all(|kept| kept.why.code() == "TOPIC_NOT_AUTHORISED" && kept.state() == "held"));
        // What is the row's own fault says nothing about others.
        quarantine.refuse(&row(4, 4, 4), Why::Refused(Refusal::TooLarge));
        assert!(!quarantine.keeps(&row(5, 4, 5)));
    }

    #[tokio::test]
    async fn a_refusal_convicts_only_where_each_record_had_a_request_of_its_own() {
        let mut quarantine = quarantine();
        assert_eq!(quarantine.next_producer().batch_records_max, ProducerConfig::default().batch_records_max);
        assert_eq!(quarantine.suspect(&[(7, Refusal::TooLarge), (8, Refusal::TooLarge)]), None);
        assert_eq!(quarantine.next_producer().batch_records_max, 1);
        quarantine.passed(7);
        assert!(!quarantine.is_past_suspects());
        quarantine.passed(8);
        assert!(quarantine.is_past_suspects());
        assert_eq!(quarantine.suspect(&[(8, Refusal::TooLarge)]), Some((8, Refusal::TooLarge)));
        assert_eq!(quarantine.next_producer().batch_records_max, 1, "the other is still under suspicion");
        quarantine.clear_suspects();
        assert_ne!(quarantine.next_producer().batch_records_max, 1);
    }
}

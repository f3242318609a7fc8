//! `idempo replay`: events of the stores, once more, into a topic of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use idempo_kafka::{Delivery, Outgoing, Producer, ProducerConfig, SendError, TopicSpec, ensure_topics, partition_of};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use uuid::Uuid;

use super::event::Which;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Printer, tell};
use crate::stores::{Store, StoredEvent};
use crate::topics::{Topics, wrong};

/// The topic that economy events have; a topic for a replay is like it.
const LIKE: &str = "economy-events";
/// How many records may be under way at once.
const IN_FLIGHT_MAX: usize = 10_000;
/// The pause between two looks at what is under way.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// How long the brokers may take for the next record.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// How long a replay may be kept, in hours.
const RETENTION_HOURS: u32 = 168;

/// Writes events of the stores into a topic of their own: the same keys and the same bytes, those of one key in their order. The live topics are refused.
#[derive(Debug, Args)]
pub struct Command {
    /// The topic; it is made where it is not there.
    #[arg(long, value_name = "TOPIC")]
    to: String,
    /// Only the events of this stream.
    #[arg(long, value_name = "UUID")]
    stream: Option<Uuid>,
    /// Which.
    #[command(flatten)]
    which: Which,
    /// The most records a second; 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    rps: u32,
    /// How many brokers keep the topic, where it is made.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    replication: i16,
    /// Also into a topic of the platform, where consumers read it. They pass over what they have had, and stop at what they can't place.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Conflict`] where the topic is one of the platform's; [`Exit::Partial`] where the brokers did not take everything.
pub async fn run(command: &Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let known = idempo_schemas::topics();
    let is_live = known.topics.iter().any(|topic| topic.name == command.to || topic.dead_letter == command.to);
    if is_live && !command.force {
        let failure = Failure::new(Exit::Conflict, format!("{} is a topic that the platform reads", command.to));
        return Err(failure.hint("a topic of its own takes a replay; --force writes to this one all the same"));
    }
    let wanted = command.which.wanted(command.stream, context.now())?;
    let stores = Store::open(context, command.which.store.as_deref()).await?;
    let mut events = 0_u64;
    for store in &stores {
        store.each(&wanted, |_| Ok(counted(&mut events))).await?;
    }
    if !context.confirm(&format!("write {events} events to {}", command.to))? {
        return Ok(Exit::Done);
    }
    let partitions = known.by_name(&command.to).or_else(|| known.by_name(LIKE)).map_or(1, |topic| topic.partitions);
    let topics = Topics::new(context)?;
    if !is_live {
        let spec = TopicSpec {
            name: command.to.clone(),
            partitions,
            retention_hours: RETENTION_HOURS,
            replication: command.replication,
            min_insync: 1,
        };
        ensure_topics(topics.config(), &[spec]).await.map_err(wrong)?;
    }
    let mut sending = Sending::start(command, &topics, partitions, events)?;
    for store in &stores {
        sending.store(store, &wanted).await?;
    }
    let (sent, refused) = sending.end().await?;
    printer.one(
        &json!({ "topic": command.to, "events": events, "written": sent, "refused": refused }),
        &[("topic", command.to.as_str().into()), ("written", sent.into()), ("refused", refused.into())],
    )?;
    Ok(if refused > 0 { Exit::Partial } else { Exit::Done })
}

fn counted(events: &mut u64) -> bool {
    *events += 1;
    true
}

/// What became of what was sent.
#[derive(Default)]
struct Outcome {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    last: Mutex<String>,
}

/// A replay under way.
struct Sending<'a> {
    command: &'a Command,
    producer: Producer,
    partitions: i32,
    outcome: Arc<Outcome>,
    bar: ProgressBar,
    sent: usize,
    began: tokio::time::Instant,
}

impl<'a> Sending<'a> {
    fn start(command: &'a Command, topics: &Topics, partitions: i32, events: u64) -> Result<Self, Failure> {
        let outcome = Arc::new(Outcome::default());
        let told = Arc::clone(&outcome);
        let on_delivery = move |_, delivery| match delivery {
            Delivery::Acknowledged { .. } => _ = told.acknowledged.fetch_add(1, Ordering::Relaxed),
            other => {
                told.refused.fetch_add(1, Ordering::Relaxed);
                *told.last.lock().unwrap_or_else(PoisonError::into_inner) = format!("{other:?}");
            }
        };
        let producer = Producer::start(topics.config(), &ProducerConfig::default(), on_delivery).map_err(wrong)?;
        let bar = ProgressBar::new(events);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} events · {per_sec} · {eta}") {
            bar.set_style(style);
        }
        Ok(Self { command, producer, partitions, outcome, bar, sent: 0, began: tokio::time::Instant::now() })
    }

    async fn store(&mut self, store: &Store, wanted: &crate::stores::Wanted) -> Result<(), Failure> {
        // One page of the store at a time: what is read is sent before more is read.
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<StoredEvent>(IN_FLIGHT_MAX);
        let reading = store.each_to(wanted, sender);
        let sending = async {
            while let Some(event) = receiver.recv().await {
                self.send(&event).await?;
            }
            Ok::<(), Failure>(())
        };
        let (read, sent) = tokio::join!(reading, sending);
        sent.and(read)
    }

    async fn send(&mut self, event: &StoredEvent) -> Result<(), Failure> {
        if self.command.rps > 0 {
            let due = Duration::from_secs_f64(f64::from(u32::try_from(self.sent).unwrap_or(u32::MAX)) / f64::from(self.command.rps));
            tokio::time::sleep_until(self.began + due).await;
        }
        let key = event.partition_key.hyphenated().to_string();
        let record = Outgoing {
            topic: &self.command.to,
            partition: partition_of(key.as_bytes(), self.partitions),
            key: key.as_bytes(),
            value: &event.envelope,
            headers: &[],
        };
        self.settle(IN_FLIGHT_MAX).await?;
        loop {
            match self.producer.send(&record, self.sent) {
                Ok(()) => break,
                Err(SendError::Full) => self.settle(IN_FLIGHT_MAX / 2).await?,
                Err(SendError::Refused(refusal)) => {
                    return Err(Failure::new(Exit::Failed, format!("the brokers refuse event {}: {}", event.event_id, refusal.name())));
                }
                // It sends nothing more behind a record that was refused: what is left is not taken either.
                Err(SendError::Fatal(error)) => {
                    self.settle(0).await?;
                    if self.outcome.refused.load(Ordering::Relaxed) == 0 {
                        return Err(wrong(error));
                    }
                    self.outcome.refused.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
        }
        self.sent += 1;
        self.bar.inc(1);
        Ok(())
    }

    /// Waits until no more than so many records are under way.
    async fn settle(&self, most: usize) -> Result<(), Failure> {
        let mut last = (self.producer.in_flight(), tokio::time::Instant::now());
        while self.producer.in_flight() > most {
            tokio::time::sleep(LOOK_PAUSE).await;
            let now = self.producer.in_flight();
            if now != last.0 {
                last = (now, tokio::time::Instant::now());
            } else if last.1.elapsed() > STALL_LIMIT {
                return Err(Failure::new(Exit::Unavailable, format!("the brokers do not take the records: {now} wait")));
            }
        }
        Ok(())
    }

    async fn end(self) -> Result<(u64, u64), Failure> {
        self.settle(0).await?;
        self.bar.finish_and_clear();
        let refused = self.outcome.refused.load(Ordering::Relaxed);
        if refused > 0 {
            let last = self.outcome.last.lock().unwrap_or_else(PoisonError::into_inner);
            tell(&format!("{refused} records were not taken, the last one with {last}"));
        }
        Ok((self.outcome.acknowledged.load(Ordering::Relaxed), refused))
    }
}

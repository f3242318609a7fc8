//! `idempo replay`: events of the stores, once more, into a topic of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use idempo_kafka::{Delivery, Outgoing, Producer, ProducerConfig, SendError, TopicSpec, ensure_topics, partition_of};
use idempo_proto::ops::v1::NoteReplayRequest;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use uuid::Uuid;

use super::event::Which;
use super::relay::{LOOK_AT, relay_call};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Printer, tell};
use crate::relays::Relays;
use crate::stores::{Store, StoredEvent, Wanted};
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
#[command(after_help = "\
Examples:
  idempo replay --to replay-of-red --player $RED --reason 'for support' --dry-run
  idempo replay --to all-of-today --since 24h --rps 1000 --reason 'a new read model is tried out' --yes
  idempo replay --to economy-events --stream $STREAM --force --reason 'its records were removed' --yes")]
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
    /// Also into a topic of the platform, where consumers read it. They pass over what they have had, and stop at what they can't place. A relay notes it in
    /// the audit of each store before anything is written: that takes an operator's token.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Conflict`] where the topic is one of the platform's; [`Exit::Partial`] where the brokers did not take everything. Nothing is written where a
/// relay has to note it and does not: [`Exit::Unavailable`] where none is reached, [`Exit::Denied`] where the caller may not do this.
pub async fn run(command: &Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let known = idempo_schemas::topics();
    let is_live = known.topics.iter().any(|topic| topic.name == command.to || topic.dead_letter == command.to);
    if is_live && !command.force {
        let failure = Failure::new(Exit::Conflict, format!("{} is a topic that the platform reads", command.to));
        return Err(failure.hint("a topic of its own takes a replay; --force writes to this one all the same"));
    }
    let reason = context.reason()?;
    let wanted = command.which.wanted(command.stream, context.now())?;
    let stores = Store::open(context, command.which.store.as_deref()).await?;
    let mut counts = Vec::new();
    for store in &stores {
        let mut events = 0_u64;
        store.each(&wanted, |_| Ok(counted(&mut events))).await?;
        counts.push(events);
    }
    let events = counts.iter().sum();
    if !context.confirm(&format!("write {events} events to {}", command.to))? {
        return Ok(Exit::Done);
    }
    let partitions = known.by_name(&command.to).or_else(|| known.by_name(LIKE)).map_or(1, |topic| topic.partitions);
    let topics = Topics::new(context)?;
    if is_live {
        command.note(&stores, &counts, &reason, context).await?;
    } else {
        command.make_topic(&topics, partitions).await?;
    }
    let mut sending = Sending::start(command, &topics, partitions, events)?;
    for store in &stores {
        sending.store(store, &wanted).await?;
    }
    let (sent, refused) = sending.end().await?;
    printer.one(
        &json!({ "topic": command.to, "events": events, "written": sent, "refused": refused, "reason": reason }),
        &[("topic", command.to.as_str().into()), ("written", sent.into()), ("refused", refused.into())],
    )?;
    Ok(if refused > 0 { Exit::Partial } else { Exit::Done })
}

impl Command {
    /// Has a relay note in each store's audit what is about to be written. Whoever may not do it is refused here, before the first record.
    async fn note(&self, stores: &[Store], counts: &[u64], reason: &str, context: &Context) -> Result<(), Failure> {
        let relays = Relays::new(context)?;
        for (store, events) in stores.iter().zip(counts).filter(|(_, events)| **events > 0) {
            let asked = NoteReplayRequest {
                parent: format!("outboxes/{}", store.name),
                topic: self.to.clone(),
                event_count: i64::try_from(*events).unwrap_or(i64::MAX),
                selection: self.selection(),
                reason: reason.to_owned(),
            };
            let call = |mut relay: crate::relays::Client| {
                relay_call(context, asked.clone(), async move |request| relay.note_replay(request).await)
            };
            relays.change(LOOK_AT, call).await?;
        }
        Ok(())
    }

    /// Which events, as the flags say it.
    fn selection(&self) -> String {
        let Which { store, player, since, until, kind } = &self.which;
        let given = [
            self.stream.map(|stream| format!("--stream {stream}")),
            store.as_ref().map(|store| format!("--store {store}")),
            player.map(|player| format!("--player {player}")),
            since.as_ref().map(|since| format!("--since {since}")),
            until.as_ref().map(|until| format!("--until {until}")),
            kind.as_ref().map(|kind| format!("--type {kind}")),
        ];
        let given: Vec<String> = given.into_iter().flatten().collect();
        if given.is_empty() { "all".to_owned() } else { given.join(" ") }
    }

    async fn make_topic(&self, topics: &Topics, partitions: i32) -> Result<(), Failure> {
        let spec =
            TopicSpec { name: self.to.clone(), partitions, retention_hours: RETENTION_HOURS, replication: self.replication, min_insync: 1 };
        ensure_topics(topics.config(), &[spec]).await.map_err(wrong)
    }
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

    async fn store(&mut self, store: &Store, wanted: &Wanted) -> Result<(), Failure> {
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

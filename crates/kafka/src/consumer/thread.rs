//! The thread that owns the librdkafka consumer: serves its queues, settles rebalances, fills the streams.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::client::client_config;
use super::context::{Context, Rebalance, is_lost_connection};
use super::rebalance::{Assigned, Outlet, Revoked, StartOffset, WakeOnDrop};
use super::stream::Record;
use super::{ConsumerConfig, Event, TopicPartition};
use crate::{Config, Error};

/// The longest the thread sleeps when it is not woken.
const IDLE_WAIT: Duration = Duration::from_millis(200);
/// Events of the client itself (rebalances, statistics, errors) that are served in one turn.
const CLIENT_EVENTS_PER_TURN: usize = 16;
/// Records of one partition that are handed over in one turn.
const RECORDS_PER_TURN: usize = 512;
/// The bytes of records that are copied into one allocation; it is freed with the last of them.
const CHUNK_BYTES: usize = 16_384;
/// The longest that a partition's watermarks are waited for; without them the lag is unknown for a second.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(2);

/// Wakes the thread, and tells it to end.
#[derive(Debug, Default)]
pub(super) struct Waker {
    woken: Mutex<bool>,
    bell: Condvar,
    closing: AtomicBool,
}

impl Waker {
    pub(super) fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake();
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn wait(&self, longest: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut woken, _) = self.bell.wait_timeout_while(woken, longest, |woken| !*woken).unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}

pub(super) fn start(
    kafka: &Config,
    config: &ConsumerConfig,
    events: mpsc::Sender<Event>,
    waker: Arc<Waker>,
) -> Result<oneshot::Receiver<()>, Error> {
    let mut consumer = BaseConsumer::from_config_and_context(&client_config(kafka, config)?, Context::default())
        .map_err(|source| Error::Configuration { context: "creating a consumer", source })?;
    let bell = Arc::clone(&waker);
    consumer.set_nonempty_callback(move || bell.wake());
    let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(|source| Error::Configuration { context: "subscribing", source })?;
    let (ended, closed) = oneshot::channel();
    let reader = Reader {
        consumer: Arc::new(consumer),
        config: config.clone(),
        events,
        unsent: VecDeque::new(),
        waker,
        inlets: Vec::new(),
        held: Vec::new(),
        waiting: None,
        hinted_at: Instant::now(),
    };
    std::thread::Builder::new()
        .name("kafka-consumer".to_owned())
        .spawn(move || {
            reader.run();
            // Unheard when nobody waits for the end.
            let _ = ended.send(());
        })
        .map_err(Error::Thread)?;
    Ok(closed)
}

/// A partition that is read.
struct Inlet {
    outlet: Outlet,
    queue: PartitionQueue<Context>,
    state: InletState,
    hinted: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InletState {
    Reading,
    /// It can't be read, or nobody reads it any more.
    Stopped,
}

/// A rebalance that waits for the runtime's answer.
enum Waiting {
    Assign { partitions: Vec<TopicPartition>, answer: oneshot::Receiver<Vec<Outlet>> },
    Revoke { partitions: Vec<TopicPartition>, answer: oneshot::Receiver<()>, deadline: Instant },
}

struct Reader {
    consumer: Arc<BaseConsumer<Context>>,
    config: ConsumerConfig,
    events: mpsc::Sender<Event>,
    unsent: VecDeque<Event>,
    waker: Arc<Waker>,
    inlets: Vec<Inlet>,
    /// Partitions that are held but not read, with the queue that keeps their records from the client's own.
    held: Vec<(TopicPartition, PartitionQueue<Context>)>,
    waiting: Option<Waiting>,
    hinted_at: Instant,
}

impl Reader {
    fn run(mut self) {
        while !self.waker.is_closing() && !self.events.is_closed() {
            self.serve_client();
            self.settle_rebalances();
            let busy = self.fill_streams();
            self.write_hints();
            self.send_events();
            if !busy {
                self.waker.wait(IDLE_WAIT);
            }
        }
        self.write_hints_now();
        self.consumer.context().close();
        for inlet in self.inlets.drain(..) {
            inlet.outlet.shared.ended.store(true, Ordering::Release);
        }
        self.held.clear();
        match self.waiting.take() {
            None => {}
            Some(Waiting::Assign { .. }) => self.assign(&[], Vec::new()),
            Some(Waiting::Revoke { .. }) => self.unassign(),
        }
        // Dropping the consumer leaves the group.
    }

    /// Serves the client's own queue. Records never come this way: each partition has a queue of its own before it is assigned.
    fn serve_client(&mut self) {
        for _ in 0..CLIENT_EVENTS_PER_TURN {
            let consumer = Arc::clone(&self.consumer);
            match consumer.poll(Duration::ZERO) {
                None => {}
                Some(Ok(message)) => {
                    use rdkafka::Message as _;
                    tracing::error!(
                        topic = message.topic(),
                        partition = message.partition(),
                        "a record came outside its partition's queue"
                    );
                    self.fail_partition(&TopicPartition::new(message.topic(), message.partition()), KafkaError::Canceled);
                }
                Some(Err(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId))) => {
                    let instance_id = self.config.instance_id.clone();
                    self.unsent.push_back(Event::Failed { partition: None, error: Error::Fenced { instance_id } });
                }
                Some(Err(source @ KafkaError::MessageConsumptionFatal(_))) => {
                    self.unsent.push_back(Event::Failed { partition: None, error: Error::Fatal { context: "consuming", source } });
                }
                Some(Err(error)) if is_lost_connection(&error) => {}
                Some(Err(error)) => tracing::warn!(%error, "the Kafka consumer reports an error"),
            }
        }
    }

    fn settle_rebalances(&mut self) {
        loop {
            if let Some(waiting) = self.waiting.take() {
                self.waiting = self.settle(waiting);
            }
            if self.waiting.is_some() {
                return;
            }
            match self.consumer.context().next_rebalance() {
                None => return,
                // Members of a group are told of each rebalance, also where nothing comes or goes for them.
                Some(Rebalance::Assign(partitions)) if partitions.is_empty() => self.assign(&[], Vec::new()),
                Some(Rebalance::Revoke { partitions, .. }) if partitions.is_empty() => self.unassign(),
                Some(Rebalance::Assign(partitions)) => self.ask_where_to_begin(partitions),
                Some(Rebalance::Revoke { partitions, lost }) => self.cut_streams(partitions, lost),
            }
        }
    }

    fn ask_where_to_begin(&mut self, partitions: Vec<TopicPartition>) {
        let (answer, answered) = oneshot::channel();
        let wake = WakeOnDrop(Arc::clone(&self.waker));
        let assigned = Assigned { partitions: partitions.clone(), buffer_records: self.config.buffer_records, answer, wake };
        self.unsent.push_back(Event::Assigned(assigned));
        self.waiting = Some(Waiting::Assign { partitions, answer: answered });
        self.send_events();
    }

    fn cut_streams(&mut self, partitions: Vec<TopicPartition>, lost: bool) {
        if !lost {
            self.write_hints_now();
        }
        self.inlets.retain(|inlet| {
            let goes = partitions.contains(&inlet.outlet.shared.partition);
            if goes {
                inlet.outlet.shared.ended.store(true, Ordering::Release);
                self.consumer.context().unwatch(&inlet.outlet.shared.partition);
            }
            !goes
        });
        self.held.retain(|(partition, _)| !partitions.contains(partition));
        let (answer, answered) = oneshot::channel();
        let wake = WakeOnDrop(Arc::clone(&self.waker));
        self.unsent.push_back(Event::Revoked(Revoked { partitions: partitions.clone(), lost, answer, wake }));
        let deadline = Instant::now() + Duration::from_millis(self.config.revoke_wait_ms);
        self.waiting = Some(Waiting::Revoke { partitions, answer: answered, deadline });
        self.send_events();
    }

    /// Finishes the rebalance if its answer is there, and gives it back otherwise.
    fn settle(&mut self, waiting: Waiting) -> Option<Waiting> {
        match waiting {
            Waiting::Assign { partitions, mut answer } => match answer.try_recv() {
                Ok(outlets) => self.assign(&partitions, outlets),
                Err(oneshot::error::TryRecvError::Closed) => self.assign(&partitions, Vec::new()),
                Err(oneshot::error::TryRecvError::Empty) => return Some(Waiting::Assign { partitions, answer }),
            },
            Waiting::Revoke { partitions, mut answer, deadline } => {
                if matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                    if Instant::now() < deadline {
                        return Some(Waiting::Revoke { partitions, answer, deadline });
                    }
                    tracing::warn!(
                        ?partitions,
                        wait_ms = self.config.revoke_wait_ms,
                        "revoked partitions are given up while their tasks still run"
                    );
                }
                self.unassign();
            }
        }
        None
    }

    fn assign(&mut self, partitions: &[TopicPartition], outlets: Vec<Outlet>) {
        let mut list = TopicPartitionList::new();
        let mut unread: Vec<&TopicPartition> = partitions.iter().collect();
        for outlet in outlets {
            unread.retain(|partition| **partition != outlet.shared.partition);
            self.open(outlet, &mut list);
        }
        let mut paused = TopicPartitionList::new();
        for partition in unread {
            tracing::warn!(%partition, "held without being read: no offset was given");
            if let Some(queue) = self.consumer.split_partition_queue(&partition.topic, partition.partition) {
                self.held.push((partition.clone(), queue));
            }
            paused.add_partition(&partition.topic, partition.partition);
            if let Err(error) = list.add_partition_offset(&partition.topic, partition.partition, Offset::End) {
                tracing::error!(%partition, %error, "an offset could not be expressed");
            }
        }
        if let Err(source) = self.consumer.assign(&list) {
            self.unsent.push_back(Event::Failed { partition: None, error: Error::Fatal { context: "assigning partitions", source } });
        }
        if paused.count() > 0
            && let Err(error) = self.consumer.pause(&paused)
        {
            tracing::warn!(%error, "partitions that are not read could not be paused");
        }
    }

    /// Gives a partition a queue of its own and adds it to the list with its offset.
    fn open(&mut self, outlet: Outlet, list: &mut TopicPartitionList) {
        let partition = &outlet.shared.partition;
        let Some(mut queue) = self.consumer.split_partition_queue(&partition.topic, partition.partition) else {
            tracing::error!(%partition, "the partition has no queue");
            return;
        };
        let low = match self.consumer.fetch_watermarks(&partition.topic, partition.partition, WATERMARK_TIMEOUT) {
            Ok((low, high)) => {
                outlet.shared.high_watermark.fetch_max(high, Ordering::Relaxed);
                Some(low)
            }
            Err(error) => {
                tracing::warn!(%partition, %error, "watermarks are not known yet");
                None
            }
        };
        let offset = match outlet.start {
            StartOffset::Beginning => Offset::Beginning,
            StartOffset::After(offset) if offset > 0 && low != Some(offset) => Offset::Offset(offset - 1),
            StartOffset::Offset(offset) | StartOffset::After(offset) => Offset::Offset(offset),
        };
        if let Err(error) = list.add_partition_offset(&partition.topic, partition.partition, offset) {
            tracing::error!(%partition, %error, "an offset could not be expressed");
            return;
        }
        self.consumer.context().watch(partition.clone(), Arc::clone(&outlet.shared.high_watermark));
        let bell = Arc::clone(&self.waker);
        queue.set_nonempty_callback(move || bell.wake());
        self.inlets.push(Inlet { outlet, queue, state: InletState::Reading, hinted: -1 });
    }

    fn unassign(&mut self) {
        if let Err(source) = self.consumer.unassign() {
            self.unsent.push_back(Event::Failed { partition: None, error: Error::Fatal { context: "giving up partitions", source } });
        }
    }

    /// Hands records over, and tells whether there may be more.
    fn fill_streams(&mut self) -> bool {
        let mut busy = false;
        let mut failed = Vec::new();
        for inlet in self.inlets.iter_mut().filter(|inlet| inlet.state == InletState::Reading) {
            match inlet.fill() {
                Filled::All => {}
                Filled::Some => busy = true,
                Filled::Unread => {
                    tracing::debug!(partition = %inlet.outlet.shared.partition, "nobody reads the partition any more");
                    inlet.state = InletState::Stopped;
                }
                Filled::Failed(error) => failed.push((inlet.outlet.shared.partition.clone(), error)),
            }
        }
        for (partition, error) in failed {
            self.fail_partition(&partition, error);
        }
        busy
    }

    /// Ends a partition's stream and says why.
    fn fail_partition(&mut self, partition: &TopicPartition, source: KafkaError) {
        let Some(at) = self.inlets.iter().position(|inlet| inlet.outlet.shared.partition == *partition) else { return };
        let inlet = self.inlets.swap_remove(at);
        inlet.outlet.shared.ended.store(true, Ordering::Release);
        self.consumer.context().unwatch(partition);
        let error = match (&source, inlet.outlet.start) {
            (
                KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset),
                StartOffset::Offset(wanted) | StartOffset::After(wanted),
            ) => {
                let (low, high) =
                    self.consumer.fetch_watermarks(&partition.topic, partition.partition, WATERMARK_TIMEOUT).unwrap_or((-1, -1));
                Error::OffsetOutOfRange { partition: partition.clone(), wanted, low, high }
            }
            _ => Error::Fatal { context: "reading a partition", source },
        };
        self.unsent.push_back(Event::Failed { partition: Some(partition.clone()), error });
        self.held.push((partition.clone(), inlet.queue));
    }

    fn write_hints(&mut self) {
        if self.hinted_at.elapsed() >= Duration::from_millis(self.config.hint_interval_ms) {
            self.write_hints_now();
        }
    }

    /// Not while the brokers are away or the session is over. librdkafka keeps such a hint, sends it in the name of a member that is none any more, and takes
    /// the refusal for the end of the whole consumer.
    fn write_hints_now(&mut self) {
        self.hinted_at = Instant::now();
        if self.consumer.context().is_without_brokers() || self.consumer.assignment_lost() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for inlet in &mut self.inlets {
            let hint = inlet.outlet.shared.hint.load(Ordering::Relaxed);
            if hint <= inlet.hinted {
                continue;
            }
            let partition = &inlet.outlet.shared.partition;
            if list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(hint)).is_ok() {
                inlet.hinted = hint;
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "the group's offsets, a hint for lag tools, were not written");
        }
    }

    fn send_events(&mut self) {
        while let Some(event) = self.unsent.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.unsent.push_front(event);
                    return;
                }
                // The loop sees that nobody listens, and ends.
                Err(TrySendError::Closed(_)) => return,
            }
        }
    }
}

enum Filled {
    /// There is nothing more to hand over, or no room for it.
    All,
    /// There may be more.
    Some,
    /// The stream is gone.
    Unread,
    /// The partition can't be read.
    Failed(KafkaError),
}

impl Inlet {
    fn fill(&mut self) -> Filled {
        let Outlet { shared, sender, .. } = &self.outlet;
        let mut last_offset = None;
        let mut filled = Filled::Some;
        let mut chunk = BytesMut::new();
        for _ in 0..RECORDS_PER_TURN {
            let permit = match sender.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Closed(())) => return Filled::Unread,
                Err(TrySendError::Full(())) => {
                    shared.wants_room.store(true, Ordering::Release);
                    // If room was made in between, nobody saw the wish: it is looked for again at once.
                    filled = if sender.capacity() > sender.max_capacity() / 2 { Filled::Some } else { Filled::All };
                    break;
                }
            };
            match self.queue.poll(Duration::ZERO) {
                None => {
                    filled = Filled::All;
                    break;
                }
                Some(Ok(message)) => {
                    if chunk.capacity() == 0 {
                        chunk.reserve(CHUNK_BYTES);
                    }
                    let record = Record::copy_of(&message, &mut chunk);
                    last_offset = Some(record.offset);
                    permit.send(record);
                }
                Some(Err(error)) if is_definite(&error) => return Filled::Failed(error),
                Some(Err(error)) if is_lost_connection(&error) => {}
                Some(Err(error)) => tracing::warn!(partition = %shared.partition, %error, "the Kafka consumer reports an error"),
            }
        }
        if let Some(offset) = last_offset {
            shared.high_watermark.fetch_max(offset + 1, Ordering::Relaxed);
        }
        filled
    }
}

/// Whether reading on is impossible without someone mending something. librdkafka goes on by itself after the others.
fn is_definite(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumption(code) => {
            matches!(code, RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::InvalidMessage)
        }
        _ => true,
    }
}

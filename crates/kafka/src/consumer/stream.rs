//! The records of one partition, on their way from the thread to the partition's task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::{Bytes, BytesMut};
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::sync::mpsc;

use super::TopicPartition;
use super::headers::RecordHeaders;
use super::thread::Waker;

/// The header that carries the W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// The length of every `traceparent` of version 00, in characters.
const TRACEPARENT_CHARS: usize = 55;

/// A record of a partition.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: i64,
    /// When it was produced or appended, by the topic's setting, in milliseconds since 1970; 0 where the broker has none.
    pub timestamp_ms: i64,
    /// The key, then the value.
    bytes: Bytes,
    key_len: Option<usize>,
    has_value: bool,
    headers: RecordHeaders,
}

impl Record {
    /// Copies a message to the end of `chunk`, which many records share: one allocation for all of them.
    pub(super) fn copy_of(message: &BorrowedMessage<'_>, chunk: &mut BytesMut) -> Self {
        let (key, value) = (message.key(), message.payload());
        chunk.extend_from_slice(key.unwrap_or_default());
        chunk.extend_from_slice(value.unwrap_or_default());
        let bytes = chunk.split().freeze();
        Self {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            bytes,
            key_len: key.map(<[u8]>::len),
            has_value: value.is_some(),
            headers: RecordHeaders::copy_of(message, chunk),
        }
    }

    /// The key; `None` for a record without one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key_len.and_then(|len| self.bytes.get(..len))
    }

    /// The value; `None` for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        if self.has_value { self.bytes.get(self.key_len.unwrap_or(0)..) } else { None }
    }

    /// The key and the value without a copy of them; `None` for a record without a key, and for a tombstone.
    #[must_use]
    pub fn into_parts(self) -> (Option<Bytes>, Option<Bytes>) {
        let mut value = self.bytes;
        let key = value.split_to(self.key_len.unwrap_or(0).min(value.len()));
        (self.key_len.map(|_| key), self.has_value.then_some(value))
    }

    /// The headers, in their order.
    #[must_use]
    pub const fn headers(&self) -> &RecordHeaders {
        &self.headers
    }

    /// The W3C trace context of the command behind the record, where it was traced.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(name, _)| *name == TRACEPARENT)?;
        str::from_utf8(value?).ok().filter(|text| text.len() == TRACEPARENT_CHARS)
    }
}

/// What a stream and the thread know of each other.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) partition: TopicPartition,
    /// The stream has ended: what is still in the channel is not to be read.
    pub(super) ended: AtomicBool,
    /// The thread found the channel full and wants to be woken when there is room.
    pub(super) wants_room: AtomicBool,
    pub(super) high_watermark: Arc<AtomicI64>,
    /// The next offset to be read after what is done, for lag tools; negative while unknown.
    pub(super) hint: AtomicI64,
}

/// The records of one assigned partition, in order of their offsets.
#[derive(Debug)]
pub struct PartitionStream {
    shared: Arc<Shared>,
    receiver: mpsc::Receiver<Record>,
    waker: Arc<Waker>,
}

impl PartitionStream {
    pub(super) fn new(shared: Arc<Shared>, receiver: mpsc::Receiver<Record>, waker: Arc<Waker>) -> Self {
        Self { shared, receiver, waker }
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.shared.partition
    }

    /// The next record; `None` once the partition is revoked or has failed, even if records were still waiting.
    ///
    /// # Cancel safety
    /// Safe: no record is lost.
    pub async fn recv(&mut self) -> Option<Record> {
        let record = self.receiver.recv().await;
        self.make_room();
        record.filter(|_| !self.has_ended())
    }

    /// Waits for a record, then appends all that are there to `records`, at most `limit`; gives their number. 0 once the partition is revoked
    /// or has failed, even if records were still waiting.
    ///
    /// # Cancel safety
    /// Safe: no record is lost.
    pub async fn recv_many(&mut self, records: &mut Vec<Record>, limit: usize) -> usize {
        let before = records.len();
        let received = self.receiver.recv_many(records, limit).await;
        self.make_room();
        if self.has_ended() {
            records.truncate(before);
            return 0;
        }
        received
    }

    /// The offset of the next record to be written to the partition, as last heard: exact at the assignment, later at most about a second old.
    #[must_use]
    pub fn high_watermark(&self) -> i64 {
        self.shared.high_watermark.load(Ordering::Relaxed)
    }

    /// Tells lag tools that everything before `next_offset` is done. Nothing ever reads it back.
    pub fn hint(&self, next_offset: i64) {
        self.shared.hint.store(next_offset, Ordering::Relaxed);
    }

    /// Whether the partition is revoked or has failed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    fn make_room(&self) {
        // Woken at half empty, so that a slow task doesn't wake the thread for each record.
        let half = self.receiver.max_capacity() / 2;
        if self.receiver.len() <= half && self.shared.wants_room.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

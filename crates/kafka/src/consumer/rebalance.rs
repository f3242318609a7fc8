//! The two hand-overs of a rebalance: where to begin, and that work has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use tokio::sync::{mpsc, oneshot};

use super::TopicPartition;
use super::stream::{PartitionStream, Record, Shared};
use super::thread::Waker;

/// Where reading of a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOffset {
    /// At the first record that is kept, whichever it is.
    Beginning,
    /// At this offset. If the log does not have it, the partition fails.
    Offset(i64),
    /// At the record before this offset, so that the reader can see whether it is the one it knows; at this offset where retention has passed that
    /// record. If the log has neither, the partition fails.
    After(i64),
}

/// The thread's end of a stream.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) shared: Arc<Shared>,
    pub(super) sender: mpsc::Sender<Record>,
    pub(super) start: StartOffset,
}

/// All partitions that this member has from now on. Dropping it without an answer leaves them unread.
#[derive(Debug)]
pub struct Assigned {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) buffer_records: usize,
    pub(super) answer: oneshot::Sender<Vec<Outlet>>,
    pub(super) wake: WakeOnDrop,
}

impl Assigned {
    /// The partitions. Whatever the member had before was revoked.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Begins reading: each partition at the offset given for it. A partition without one is held, but not read.
    #[must_use]
    pub fn start(self, offsets: impl IntoIterator<Item = (TopicPartition, StartOffset)>) -> Vec<PartitionStream> {
        let Self { partitions, buffer_records, answer, wake } = self;
        let mut offsets: HashMap<_, _> = offsets.into_iter().collect();
        let mut outlets = Vec::with_capacity(partitions.len());
        let mut streams = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let Some(start) = offsets.remove(&partition) else { continue };
            let (sender, receiver) = mpsc::channel(buffer_records.max(1));
            let shared = Arc::new(Shared {
                partition,
                ended: AtomicBool::new(false),
                wants_room: AtomicBool::new(false),
                high_watermark: Arc::new(AtomicI64::new(0)),
                hint: AtomicI64::new(-1),
            });
            streams.push(PartitionStream::new(Arc::clone(&shared), receiver, Arc::clone(&wake.0)));
            outlets.push(Outlet { shared, sender, start });
        }
        // Unheard only when the thread has ended, and then the streams have ended with it.
        let _ = answer.send(outlets);
        streams
    }
}

/// Partitions that were taken from this member. Their streams have ended; drop it once their tasks have too.
#[derive(Debug)]
pub struct Revoked {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) lost: bool,
    pub(super) answer: oneshot::Sender<()>,
    pub(super) wake: WakeOnDrop,
}

impl Revoked {
    /// The partitions that went.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Whether they may belong to another member already.
    #[must_use]
    pub const fn lost(&self) -> bool {
        self.lost
    }

    /// Says that the partitions' tasks have stopped. Dropping it says the same.
    pub fn done(self) {
        let Self { answer, wake, .. } = self;
        // Unheard when the wait is over already.
        let _ = answer.send(());
        drop(wake);
    }
}

/// Wakes the thread when it is dropped: an answer was given, or never will be.
#[derive(Debug)]
pub(super) struct WakeOnDrop(pub(super) Arc<Waker>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

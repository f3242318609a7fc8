//! Readers that wait for streams, and are woken when a batch of this process has moved one of them.
//!
//! A reader registers before it looks into the store, so a batch that is committed after its look wakes it, and one that was committed before is
//! in what it saw. A wake-up is a reason to look again and nothing more: what a reader may rely on is in the store alone. Without this every
//! reader would ask the store after every batch, and a busy read model would be asked by all its readers at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use idempo_ids::StreamId;
use tokio::sync::Notify;

/// The readers that wait, by stream.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    streams: Mutex<HashMap<StreamId, Vec<Waiting>>>,
}

/// One reader's wish for one stream.
#[derive(Debug)]
struct Waiting {
    version: u64,
    bell: Arc<Notify>,
}

impl Waiters {
    /// Registers a reader for each of these streams and versions, until what this gives is dropped.
    pub(crate) fn register(self: &Arc<Self>, position: &[(StreamId, u64)]) -> Registered {
        let bell = Arc::new(Notify::new());
        let mut streams = self.lock();
        for (stream, version) in position {
            streams.entry(*stream).or_default().push(Waiting { version: *version, bell: Arc::clone(&bell) });
        }
        drop(streams);
        Registered { waiters: Arc::clone(self), streams: position.iter().map(|(stream, _)| *stream).collect(), bell }
    }

    /// A batch is in the store that moves these streams to these versions.
    pub(crate) fn committed(&self, ends: impl Iterator<Item = (StreamId, u64)>) {
        let streams = self.lock();
        if streams.is_empty() {
            return;
        }
        for (stream, end) in ends {
            for waiting in streams.get(&stream).into_iter().flatten().filter(|waiting| waiting.version <= end) {
                waiting.bell.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamId, Vec<Waiting>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registered reader.
#[derive(Debug)]
pub(crate) struct Registered {
    waiters: Arc<Waiters>,
    streams: Vec<StreamId>,
    bell: Arc<Notify>,
}

impl Registered {
    /// Waits until a batch has brought one of the streams to its version. One that came since the last call, or since the registration, counts.
    ///
    /// # Cancel safety
    /// Safe: a wake-up that is not taken stays for the next call.
    pub(crate) async fn moved(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut streams = self.waiters.lock();
        for stream in &self.streams {
            if let Some(waiting) = streams.get_mut(stream) {
                waiting.retain(|waiting| !Arc::ptr_eq(&waiting.bell, &self.bell));
                if waiting.is_empty() {
                    streams.remove(stream);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use idempo_ids::Uuid;

    use super::*;

    fn stream(number: u8) -> StreamId {
        StreamId::new(Uuid::from_bytes([number; 16]))
    }

    #[test]
    fn a_reader_is_woken_by_its_own_stream_at_its_version_and_by_nothing_else() {
        let waiters = Arc::new(Waiters::default());
        let reader = waiters.register(&[(stream(1), 5), (stream(2), 1)]);
        waiters.committed([(stream(3), 9), (stream(1), 4)].into_iter());
        assert!(reader.moved().now_or_never().is_none());
        waiters.committed([(stream(1), 7)].into_iter());
        assert!(reader.moved().now_or_never().is_some());
        assert!(reader.moved().now_or_never().is_none());
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind_and_takes_nobody_along() {
        let waiters = Arc::new(Waiters::default());
        let (gone, stays) = (waiters.register(&[(stream(1), 1)]), waiters.register(&[(stream(1), 1)]));
        drop(gone);
        waiters.committed([(stream(1), 1)].into_iter());
        assert!(stays.moved().now_or_never().is_some());
        drop(stays);
        assert!(waiters.lock().is_empty());
    }
}

//! Dead letters, and the records parked behind them.
//!
//! A record that can't be applied goes to `<topic>.dlq`, and when it is acknowledged there, one transaction keeps it beside the read model and
//! moves the checkpoint past it. Later records of its key are kept behind it by the transactions of their batches. A replay applies the dead
//! letter and what is behind it, in the order of offsets; a discard drops it and applies what is behind it.
//!
//! Why nothing is lost, applied twice or out of order, whoever dies when:
//!
//! * **Between the acknowledgement of the dead-letter topic and the transaction.** The checkpoint stands before the record, so whoever has the partition
//!   next fails on the same record and writes it to the topic again, with the same identity ([`idempo_dead_letter::DeadLetterId`]): readers of the topic drop it. A
//!   dead letter in the store is in the topic in any case. Where the record can be applied by then, it is, and the topic has told of a dead letter
//!   that the consumer does not have: asked for it, it says that it is gone, and not before its position is past it (`ops::parked::standings`).
//! * **A partition taken away while something is parked or drained.** Both are transactions that hold the checkpoint's row and count only under the
//!   epoch of the lease. Taking a partition raises the epoch in the same row, so it waits for such a transaction, or voids it. What is parked is
//!   read by the new owner after that: it sees all that any earlier owner committed, and no earlier owner commits any more.
//! * **A drain beside a batch with new followers of its key.** Both are done by the one task that has the partition, one after the other, and
//!   no other can under the fence. A follower that comes before a drain is in it, or in its next part; the key is free in memory only when the
//!   transaction that frees it in the store is committed, and the task parks nothing in between.
//! * **A drain whose answer is lost.** It counts only where each dead letter still has the revision that it was read at ([`Store::drain`](crate::Store::drain)), and every
//!   drain changes that or removes the row. Made again, it finds another revision, changes nothing, and the task reads anew what is wished, parked
//!   and applied. Rows are added once, as by a batch.
//! * **A crash of the database.** What parks or drains waits for the disk, and so does whatever was committed before it. A batch that is lost
//!   after that takes its checkpoint with it; none of its records can have been parked.
//! * **A long queue behind a dead letter.** It is drained in parts. After the first the dead letter itself is done and its row stands for the key
//!   (`draining`), with the wish; whoever has the partition goes on with the rest. Records that were applied have left the queue in the same transaction.
//! * **A follower that fails.** What is before it is applied, and it is the dead letter of the key from then on, in the same transaction, after the topic
//!   has it.
//! * **A rehearsal beside the live task** ([`crate::ParkedOperations`]). It reads and folds in a transaction of its own that is rolled back: it moves nothing,
//!   and what it saw was true at one moment. It can hold rows that the task wants for as long as it takes, which is bounded.
//! * **A new generation.** It has its own consumer, checkpoints, dead letters and parked records, and nothing of another one's. Built from the
//!   event store, it has the events whose records are poison; a record that fails in it has another identity, for its group is another one.
//!
//! Order between keys is not kept, and need not be: what a projector writes does not depend on the order of streams ([`crate::Projector`]).

pub(crate) mod bury;
pub(crate) mod drain;
pub(crate) mod letters;
pub(crate) mod topic;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use crate::batch::Entry;
use crate::policy::{PARKED_KEYS_MAX, PARKED_RECORDS_MAX, Recent};

/// What is parked of a partition, as the store has it when it is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parked {
    /// The keys that have a dead letter.
    pub keys: HashSet<Bytes>,
    /// The records parked behind dead letters.
    pub records: u64,
    /// How long ago each dead letter of the last minute failed first, the oldest first.
    pub recent: Vec<Duration>,
}

/// What is parked of a partition, as its task knows it.
#[derive(Debug, Default)]
pub(crate) struct Lot {
    keys: HashSet<Bytes>,
    records: u64,
    pub(crate) recent: Recent,
}

impl Lot {
    pub(crate) fn of(parked: Parked) -> Self {
        Self { keys: parked.keys, records: parked.records, recent: Recent::of(parked.recent) }
    }

    /// What is parked, asked for again. What came lately is known better here.
    pub(crate) fn reread(&mut self, parked: Parked) {
        (self.keys, self.records) = (parked.keys, parked.records);
    }

    /// Whether nothing is parked: all that a batch without parked keys pays.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a record is of a key that is parked.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        entry.key.as_ref().is_some_and(|key| self.keys.contains(key))
    }

    /// Whether so many records more are too many.
    pub(crate) fn is_full(&self, keys: usize, records: usize) -> bool {
        let records = self.records.saturating_add(u64::try_from(records).unwrap_or(u64::MAX));
        self.keys.len().saturating_add(keys) > PARKED_KEYS_MAX || records > PARKED_RECORDS_MAX
    }

    pub(crate) fn park(&mut self, key: Option<Bytes>) {
        self.keys.extend(key);
        self.recent.push();
    }

    pub(crate) fn follow(&mut self, records: usize) {
        self.records = self.records.saturating_add(u64::try_from(records).unwrap_or(u64::MAX));
    }

    /// So many records have left their queues.
    pub(crate) fn left(&mut self, records: usize) {
        self.records = self.records.saturating_sub(u64::try_from(records).unwrap_or(u64::MAX));
    }

    pub(crate) fn free(&mut self, key: &Bytes) {
        self.keys.remove(key);
    }
}

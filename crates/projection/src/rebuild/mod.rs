//! Building a generation anew from the event store, beside the live one.
//!
//! The event store is read in parts, several at once; each part is folded in memory by the same [`Projector`] that the consumer has, and copied
//! into tables that have no indexes yet, in one transaction with the note that it is there. When all parts are in, the indexes are made, and the
//! generation's own consumer reads on from where the topic ended before the first part was read.
//!
//! **The seam.** Let E be where the topic ends, for each partition, asked of the brokers before the first part is read. Then every event is in the
//! new generation, once:
//! * A record below E is that of a row that its relay read as committed, in the same database and before E was asked for. A statement that begins
//!   later takes its snapshot later, and sees that row: it is in the scan. That needs nothing of the numbers of transactions: ARCHITECTURE.md §4 waits
//!   until `xmin` has passed an `xmax` because it then reads by `xid < F`; a plain snapshot shows all that is committed and is not misled by
//!   rows that were restored from another cluster, whose numbers mean nothing here (ADR 11). It does need the primary:
//!   a standby may be behind the relay, and is refused.
//! * Any other event is in a record from E on, where the consumer comes to it.
//! * What is in both, because it was committed after E was asked for and before its part was read, is dropped by the version of its stream, as
//!   every duplicate is: a part has whole streams, a snapshot shows a stream up to some version without gaps (an event is inserted only after the one
//!   before it was committed), and that version is written with the rows.
//!
//! The parts are cut after E was asked for, along the streams that there are then. A stream that none of them has began later, so all its events are in
//! records from E on.
//!
//! Parts are read by different statements, so at different moments. It does not matter: each stream is in one part, and what rows follow from several
//! streams are the same in whichever order those come ([`Projector`]).
//!
//! **Killed at any moment** it goes on where it was: a part is in with its note or not at all; the indexes are made in two transactions beside each other,
//! each of which looks whether it was done; the place where the consumer begins is noted in a third, which makes what indexes are missing. Two processes
//! that do the same part differ in nothing but in who is first.
//!
//! **Memory**: a worker holds what follows from one part: some 16,000 events, one stream more, and what came to these streams since they were cut.
//!
//! **Beside the live generation.** What is folded and encoded is on threads of its own, which give way to those that answer reads and commit batches. While
//! the live generation is catching up, parts are begun rarely: one every four seconds; while somebody reads it, one at a time (`throttle`).
//!
//! A [`crate::Reactor`] can't be rebuilt: there is no function here that takes one.

mod background;
mod conduct;
pub(crate) mod fold;
mod live_first;
mod part;
mod readers;
pub(crate) mod scan;
mod throttle;
mod verify;

use std::future::Future;

use idempo_pg::Transaction;

use crate::postgres::Tables;

pub use conduct::{Conducted, Conductor, Unusable};
pub use part::PART_EVENTS_DEFAULT;

/// Tables that can be filled without looking at what is in them.
pub trait Rebuildable: Tables + Clone {
    /// Copies what whole streams add, in a transaction, into tables that have no indexes and nothing of these streams. Rows that follow from streams
    /// of several parts go where `index_tables` of the schema brings them together.
    ///
    /// # Errors
    /// What the database says, or that a row needs what is not in `writes`; the transaction is rolled back then.
    fn copy(&self, transaction: &Transaction<'_>, writes: &Self::Writes) -> impl Future<Output = Result<(), idempo_pg::Error>> + Send;
}

//! What has effects: a push, a mail, a command to another service.
//!
//! A reactor is not a projector with side effects. It does not belong to a generation, it begins at the head of the topic, and nothing ever
//! sends it back: neither a rebuild nor the replay of a dead letter makes an effect twice. Three things keep that:
//! * the runtime of projections takes a [`crate::Projector`], which can't be a reactor;
//! * an effect's id follows from the event, so a second delivery makes the same id;
//! * the log of effects stands outside any generation and is never cleared with one.
//!
//! # How an effect goes
//!
//! An event becomes effects ([`Reactor::react`]), which are entered in the log with the position of the partition, in one transaction that waits for the
//! disk ([`EffectLog::record`]). Then they are performed, those of a key one after the other, and what was performed is noted ([`EffectLog::done`]).
//!
//! Why no effect is lost, performed under two ids, or out of its key's order for the first time, whoever dies when:
//!
//! * **Before the transaction is in.** The position stands before the events: whoever has the partition next makes the same effects of them, with the
//!   same ids.
//! * **After it, before an effect is performed or noted.** The effect is in the log and pending. Whoever has the partition next performs what is
//!   pending before what comes after it. What was performed and not noted is performed again, with the same id: the id goes along, and
//!   whoever receives it takes it once. Nothing else is possible where the receiver and the log are two systems.
//! * **The answer to the transaction is lost.** Asked again, the log finds the position at the end of the batch, under the batch's epoch, and names the
//!   effects that it entered: those among them whose record is in the batch. An effect that an earlier batch entered has an earlier record.
//! * **An event is in the topic twice**, as a relay leaves it after a crash. Its effects have the ids of the first time, and an id enters the
//!   log once: it is the primary key, and rows are never deleted. So the versions of streams are not kept here. They would also say that an event is
//!   missing; but a reactor that begins at the head meets streams at any version, and the projections of the same topic say it.
//! * **A zombie.** Taking a partition raises its epoch in the row of the position, and entering, giving up and expiring count only under the epoch, with
//!   that row locked. A zombie may still perform what is pending and note it as done, which is true. Its successor performs the same effects
//!   in the same order, so the first time of each is in the order of its key.
//! * **A partition that nobody ever had** begins at its head: the brokers are asked where it ends *after* the partition was taken, and the answer
//!   is stored, under the epoch and only where nothing is stored, before the first record is read ([`EffectLog::begin`]). Of two processes that both
//!   found nothing, one has the later epoch: if the other has stored its answer before, that stands, and was committed before the partition was taken
//!   again; after, it stores nothing. Records that come between the question and the first read are after the head that was
//!   asked for, and are read. Records before it are never read, not even those of a Kafka transaction that is committed later.
//! * **A rebuild, a switch, a roll-back, the replay of a dead letter** move checkpoints, rows and parked records of projections. A reactor has its own
//!   group, its own position and its own log, and reads none of them.
//!
//! # What can go wrong
//!
//! | what failed | what happens |
//! |---|---|
//! | performing, for a while (the class of the error, or [`Reactor::TIME_MAX`] has passed) | tried again, later and later; no attempt counts; its key waits |
//! | performing, for good | after [`crate::ATTEMPTS_MAX`] attempts the effect is `failed`, with the error; its key goes on or waits ([`Reactor::AFTER_FAILURE`]) |
//! | it took too long ([`Reactor::AGE_MAX`]) | the effect is dropped: `expired` |
//! | too many effects failed at once | the partition stops, and no further effect is given up |
//! | a record is no event, or not in its place | the partition stops before it |
//! | the log is away | it is waited for |
//!
//! A record that can't be understood stops its partition. It is no dead letter: the replay of one would be a way in which events come back. People
//! mend the cause with a program that understands the record, or pass over it by hand (`reactor.pass_over` in the database).

mod log;
mod meters;
mod perform;
mod postgres;
mod progress;
mod queue;
mod react;
mod runtime;
mod task;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use idempo_ids::{EventId, Uuid, derive};

use crate::event::Event;
use crate::projector::{Interest, Malformed};

pub use log::{
    EFFECT_BYTES_MAX, EFFECTS_OF_EVENT_MAX, EffectCounts, EffectLog, Ending, LogError, Look, Pending, Place, Recorded, Recording,
    Settlement, Taken,
};
pub use postgres::PostgresEffectLog;
pub use progress::ReactionProgress;
pub use runtime::{Reaction, ReactionOptions};
pub use task::{ReactionPartition, run as run_reaction_partition};

/// The id of an effect: the same each time the same reactor sees the same event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectId(Uuid);

impl EffectId {
    /// The id with this value.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The id of the `ordinal`-th effect, from 0, that `reactor` has for an event.
    #[must_use]
    pub fn of(reactor: &str, event: EventId, ordinal: u32) -> Self {
        Self(derive(event.uuid(), &format!("effect of {reactor}"), ordinal))
    }

    /// The id's value.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

/// What becomes of the later effects of a key, one effect of which has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// They are performed.
    GoOn,
    /// They wait until people have settled the one that failed ([`EffectLog::settle`]). Those that are too old by then are dropped.
    Wait,
}

/// Turns events into effects, and carries effects out.
pub trait Reactor: Send + Sync + 'static {
    /// What is to be done, with everything that doing it takes.
    type Effect: Send + Sync + 'static;
    /// Why it could not be done.
    type Error: idempo_errors::Classified + Send + Sync + 'static;

    /// The reactor's name: part of the ids of its effects, of its group and of its rows in the log. Never changes.
    const NAME: &'static str;

    /// What becomes of the later effects of a key, one effect of which has failed for good.
    const AFTER_FAILURE: AfterFailure;

    /// How long after its event was decided an effect is still worth performing. One that is older is dropped, and counted.
    const AGE_MAX: Duration;

    /// How long one attempt may take. What takes longer may have succeeded: it is performed again, with the same id.
    const TIME_MAX: Duration;

    /// What is done with the events of a type: the number of their field in `EventEnvelope`.
    fn interest(event_type: u16) -> Interest;

    /// The effects of an event, in an order that is the same each time. Pure: their ids are their places in it.
    ///
    /// # Errors
    /// [`Malformed`], where the event can't be understood.
    fn react(event: &Event) -> Result<Vec<Self::Effect>, Malformed>;

    /// An effect as the log keeps it: at most [`EFFECT_BYTES_MAX`]. What one version of a program has entered, the next performs.
    fn encode(effect: &Self::Effect) -> Bytes;

    /// The effect that the log has kept.
    ///
    /// # Errors
    /// [`Malformed`], where this program can't read it. The effect has failed for good then.
    fn decode(effect: &Bytes) -> Result<Self::Effect, Malformed>;

    /// Carries an effect out. It is called again with the same id where it is not known whether it succeeded, so `id` goes along as the
    /// idempotency key of whatever is called.
    ///
    /// # Errors
    /// Where it did not succeed, or may not have. The class says whether it is tried again.
    ///
    /// # Cancel safety
    /// It is dropped in the middle when the partition is taken away, and called again with the same id by whoever has it next.
    fn perform(&self, id: EffectId, effect: &Self::Effect) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_has_the_same_id_each_time_its_event_is_seen_and_another_for_another_reactor() {
        let event = EventId::new(Uuid::from_u128(7));
        assert_eq!(EffectId::of("push", event, 0), EffectId::of("push", event, 0));
        assert_ne!(EffectId::of("push", event, 0), EffectId::of("mail", event, 0));
        assert_ne!(EffectId::of("push", event, 0), EffectId::of("push", event, 1));
        assert_ne!(EffectId::of("push", event, 0).uuid(), EventId::of(idempo_ids::CommandId::new(event.uuid()), 0).uuid());
    }
}

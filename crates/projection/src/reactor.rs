//! What has effects: a push, a mail, a command to another service.
//!
//! A reactor is not a projector with side effects. It does not belong to a generation, it begins at the head of the topic, and nothing ever
//! sends it back: neither a rebuild nor the replay of a dead letter makes an effect twice. Three things keep that:
//! * the runtime of projections takes a [`crate::Projector`], which can't be a reactor;
//! * an effect's id follows from the event, so a second delivery makes the same id;
//! * the log of effects stands outside any generation and is never cleared with one.

use std::future::Future;

use idempo_ids::{EventId, Uuid, derive};

use crate::event::Event;
use crate::projector::{Interest, Malformed};

/// The id of an effect: the same each time the same reactor sees the same event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectId(Uuid);

impl EffectId {
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

/// Turns events into effects, and carries effects out.
pub trait Reactor: Send + Sync + 'static {
    /// What is to be done, with everything that doing it takes.
    type Effect: Send + Sync + 'static;
    /// Why it could not be done.
    type Error: idempo_errors::Classified + Send;

    /// The reactor's name: part of the ids of its effects. Never changes.
    const NAME: &'static str;

    /// What is done with the events of a type: the number of their field in `EventEnvelope`.
    fn interest(event_type: u16) -> Interest;

    /// The effects of an event, in an order that is the same each time. Pure: their ids are their places in it.
    ///
    /// # Errors
    /// [`Malformed`], where the event can't be understood.
    fn react(event: &Event) -> Result<Vec<Self::Effect>, Malformed>;

    /// Carries an effect out. It is called again with the same id where it is not known whether it succeeded, so `id` goes along as the
    /// idempotency key of whatever is called.
    ///
    /// # Errors
    /// Where it did not succeed, or may not have. The class says whether it is tried again.
    fn perform(&self, id: EffectId, effect: &Self::Effect) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What became of the effects of a reactor: outside any generation, never cleared by a rebuild.
///
/// An implementation keeps this:
/// * [`Self::record`] is one transaction with the reactor's position, synchronously committed: an effect is known before it is begun.
/// * An id is returned by `record` as new exactly once, whoever asks and however often.
/// * An effect that is recorded and not done is found again after a crash, by [`Self::unfinished`], and performed with the same id.
pub trait EffectLog: Send + Sync + 'static {
    /// What is kept of an effect: enough to perform it after a crash.
    type Effect: Send + Sync + 'static;
    /// Why the log could not be read or written.
    type Error: idempo_errors::Classified + Send;

    /// Enters effects and moves the position of `partition` from `from` to `to`, in one transaction; returns the ids that were not there.
    ///
    /// # Errors
    /// Where the log is away, or `epoch` is not the partition's any more. Nothing is entered then.
    fn record(
        &self,
        partition: i32,
        epoch: i64,
        offsets: (i64, i64),
        effects: &[(EffectId, Self::Effect)],
    ) -> impl Future<Output = Result<Vec<EffectId>, Self::Error>> + Send;

    /// Says that an effect was carried out. Saying it twice changes nothing.
    ///
    /// # Errors
    /// Where the log is away.
    fn done(&self, id: EffectId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// At most `max` effects that are entered and not done, the oldest first.
    ///
    /// # Errors
    /// Where the log is away.
    fn unfinished(&self, max: usize) -> impl Future<Output = Result<Vec<(EffectId, Self::Effect)>, Self::Error>> + Send;
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

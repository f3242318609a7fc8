//! What a read model is made of.

use crate::event::Event;

/// What a projector or reactor does with the events of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// It takes them.
    Consumed,
    /// They are none of its business: neither their data nor the versions of their streams are looked at.
    PassedOver,
    /// It should know them and doesn't: the partition stops, for what comes after could depend on them.
    Unknown,
}

/// An event that a projector can't apply: a field is missing or out of its bounds. The partition stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Turns events into rows. Pure, so a read model can be thrown away and built again.
///
/// Its functions have no `self`: there is nothing they could hold a clock or a connection in. The events of one stream come in the order of
/// their versions, each exactly once; streams come in any order, so what is written must not depend on it.
pub trait Projector: Send + Sync + 'static {
    /// What a batch of events adds to the read model, coalesced: at most a few writes a row, however many events touch it.
    type Writes: Default + Send + Sync + 'static;

    /// The projection's name, as it stands in the tables, in metrics and in the consumer group. Never changes.
    const NAME: &'static str;

    /// Names the logic of [`Self::apply`]. It changes with every change that would make other rows of the same events: a generation that was
    /// begun with other logic is refused.
    const LOGIC: &'static str;

    /// What is done with the events of a type: the number of their field in `EventEnvelope`.
    fn interest(event_type: u16) -> Interest;

    /// The category of the streams that have the events of a consumed type.
    fn category(event_type: u16) -> &'static str;

    /// Adds what follows from an event to the writes of the batch.
    ///
    /// # Errors
    /// [`Malformed`], where the event can't be applied. The writes may be half changed then; they are thrown away.
    fn apply(event: &Event, writes: &mut Self::Writes) -> Result<(), Malformed>;
}

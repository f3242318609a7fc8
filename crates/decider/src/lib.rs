//! The shape of every domain: a pure function from what happened and what is asked to what happens next.
//!
//! A decider has no clock, no randomness and no IO; what it needs of them comes in [`Context`]. Replaying a stream through
//! [`Decider::evolve`] gives the same state each time, on every machine. A refusal is an answer, not an error.

mod reason;
mod recent;

pub use jiff::Timestamp;
pub use reason::Reason;
pub use recent::{Memory, Recent};

use idempo_ids::{CommandId, Uuid, derive};
use smallvec::SmallVec;

/// The most streams that one command touches.
pub const COMMAND_STREAMS_MAX: usize = 4;

/// The rules of one category of streams.
pub trait Decider: Send + Sync + 'static {
    /// What the events of a stream add up to. The default is the state before the first event.
    type State: Default + Clone + Send + Sync + 'static;
    /// What can be asked.
    type Command: Send + Sync + 'static;
    /// What can happen.
    type Event: Clone + Send + Sync + 'static;
    /// Why something is refused.
    type Rejection: Send + 'static;

    /// Decides a command on the states of the streams it names, in the order in which it names them.
    ///
    /// # Errors
    /// The refusal. It is definite: it is bound to the command's key as an effect would be.
    fn decide(
        states: States<'_, Self::State>,
        command: &Self::Command,
        context: &Context,
    ) -> Result<Decision<Self::Event>, Self::Rejection>;

    /// Applies what happened. Total: an event that was stored can always be applied.
    fn evolve(state: &mut Self::State, event: &Self::Event);
}

/// The states of the streams that a command names. The first is the one the command is addressed to.
#[derive(Debug)]
pub struct States<'a, S>(&'a [&'a S]);

impl<S> Clone for States<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for States<'_, S> {}

impl<'a, S> States<'a, S> {
    /// The states, in the command's order. There is at least one.
    #[must_use]
    pub const fn new(states: &'a [&'a S]) -> Self {
        Self(states)
    }

    /// The state of the stream the command is addressed to.
    ///
    /// # Panics
    /// Where there is none, which the runtime rules out before it decides.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a command without a stream is refused before it is decided")]
    pub fn primary(self) -> &'a S {
        self.0.first().expect("a command names at least one stream")
    }

    /// The state of the second stream the command names, where it names one.
    #[must_use]
    pub fn peer(self) -> Option<&'a S> {
        self.0.get(1).copied()
    }
}

/// What a command decides: events, each on one of the streams it names. Several on one stream are applied in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<E> {
    /// The events, with the index of their stream among the command's streams.
    pub events: SmallVec<[(usize, E); 2]>,
}

impl<E> Decision<E> {
    /// One event on the command's first stream.
    #[must_use]
    pub fn one(event: E) -> Self {
        Self { events: SmallVec::from_iter([(0, event)]) }
    }

    /// One event on each of the command's first two streams.
    #[must_use]
    pub fn both(primary: E, peer: E) -> Self {
        Self { events: SmallVec::from_iter([(0, primary), (1, peer)]) }
    }
}

/// What would otherwise be ambient.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The time of the decision.
    pub now: Timestamp,
    /// The command's id.
    pub command_id: CommandId,
}

impl Context {
    /// The id of the `ordinal`-th thing called `label` that this command makes: the same each time the command is decided.
    #[must_use]
    pub fn derive(&self, label: &str, ordinal: u32) -> Uuid {
        derive(self.command_id.uuid(), label, ordinal)
    }
}

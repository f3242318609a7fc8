//! How a domain's rules are bound to their stored form.

use bytes::Bytes;
use idempo_decider::{Decider, Timestamp};
use idempo_ids::{CommandId, EventId, StreamId, Uuid};
use idempo_proto::event::v1::event_envelope::Data;

use crate::inline::InlineProjection;

/// A category of streams: what stands in `es.streams.category`, and the label its stream ids are derived with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Category {
    /// The number at rest. Never used again for something else.
    pub number: i16,
    /// The name, such as `wallet`. Part of the stream ids.
    pub name: &'static str,
}

impl Category {
    /// The stream of this category that belongs to `owner`, with `owner` as its partition key.
    #[must_use]
    pub fn stream(self, owner: Uuid) -> StreamTarget {
        StreamTarget { stream_id: StreamId::of(self.name, owner), partition_key: owner }
    }
}

/// A stream that a command names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamTarget {
    /// The stream.
    pub stream_id: StreamId,
    /// The Kafka key of all of its events: a function of the stream, so that one stream is always in one partition.
    pub partition_key: Uuid,
}

/// Binds a decider to its stored form: the only place that knows both the domain and its protobuf messages.
pub trait Domain: Send + Sync + 'static {
    /// The rules.
    type Decider: Decider;
    /// The tables that are kept in the transaction of the events.
    type Inline: InlineProjection;

    /// The category of the streams.
    fn category(&self) -> Category;

    /// The service's name in errors, such as `wallet.idempo`.
    fn error_domain(&self) -> &'static str;

    /// The number of the topic (`schemas/topics.yaml`) that the events go to.
    fn topic(&self) -> i16;

    /// An event as it is stored.
    fn encode(&self, event: &EventOf<Self>) -> Data;

    /// A stored event.
    ///
    /// # Errors
    /// Where the bytes are no event of this domain. The stream can't be loaded then.
    fn decode(&self, data: Data) -> Result<EventOf<Self>, DecodeError>;

    /// The type number of an encoded event: the number of its field in `EventEnvelope.data`.
    fn event_type(&self, data: &Data) -> i16;

    /// The encoded gRPC response of an applied command. It is stored under the command's key.
    fn reply(&self, applied: &Applied<'_, Self>) -> Bytes;

    /// The encoded `google.rpc.Status` of a refused command. It is stored under the command's key.
    fn refusal(&self, command: &CommandOf<Self>, rejection: &RejectionOf<Self>) -> Bytes;

    /// The rows of the inline projection that follow from an applied command.
    fn project(&self, applied: &Applied<'_, Self>, rows: &mut <Self::Inline as InlineProjection>::Rows);
}

/// A domain's command.
pub type CommandOf<D> = <<D as Domain>::Decider as Decider>::Command;
/// A domain's event.
pub type EventOf<D> = <<D as Domain>::Decider as Decider>::Event;
/// A domain's rejection.
pub type RejectionOf<D> = <<D as Domain>::Decider as Decider>::Rejection;
/// A domain's state.
pub type StateOf<D> = <<D as Domain>::Decider as Decider>::State;

/// A command that was decided, as its reply and its inline rows see it.
pub struct Applied<'a, D: Domain + ?Sized> {
    /// The command.
    pub command: &'a CommandOf<D>,
    /// Its id.
    pub command_id: CommandId,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The streams it names, in its order, as they are after it.
    pub streams: &'a [AppliedStream<'a, StateOf<D>>],
    /// Its events, in their order.
    pub events: &'a [AppliedEvent<'a, EventOf<D>>],
    /// Where it stands, as the API shows it: opaque to clients.
    pub position: &'a str,
}

/// A stream as it is after a command.
#[derive(Debug)]
pub struct AppliedStream<'a, S> {
    /// Which one.
    pub target: StreamTarget,
    /// Its version after the command.
    pub version: u64,
    /// Its state after the command.
    pub state: &'a S,
}

/// An event of a decided command.
#[derive(Debug)]
pub struct AppliedEvent<'a, E> {
    /// Its id.
    pub event_id: EventId,
    /// The index of its stream in [`Applied::streams`].
    pub stream: usize,
    /// Its version in its stream.
    pub version: u64,
    /// What happened.
    pub event: &'a E,
}

/// Stored bytes that are no event of the domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event_type}: {problem}")]
pub struct DecodeError {
    /// The event's type, such as `FundsMinted`.
    pub event_type: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

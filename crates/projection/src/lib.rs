//! Projections: how the events of a topic become a read model, each exactly once.
//!
//! In the flow: command service → outbox → relay → Kafka → **projection** → rows → query service. A process joins a consumer group
//! ([`Projection`]); for each partition that it is given, a task takes the partition from the store (which raises its epoch), reads from the offset
//! that the store has, and commits batch after batch: decode, drop what the store has, fold by the [`Projector`], then one transaction with the
//! rows, the versions of the streams and the checkpoint.
//!
//! Invariants kept here:
//! * The position is where the effect is. A batch commits only where the checkpoint still has the epoch and the offset that the batch was read at:
//!   a zombie's batch is rolled back. What Kafka remembers of a group is a hint for lag tools and is never read.
//! * An event is in the read model once, however often it is in the topic: its stream's version says so. Nothing is ever skipped.
//! * A record that can't be applied is a dead letter, and later records of its key are parked behind it, in order, until people replay or discard it; other
//!   keys flow (module `parking`). What is no single record's fault stops its partition ([`Halt`]), loudly, and other partitions go on. A store or a
//!   broker that is away is waited for, and costs no event. The table is in module `policy`.
//! * A [`Projector`] has no clock, no connection and no `self`; what has effects is a [`Reactor`], which this runtime does not take.
//! * Small batches of several partitions share a transaction ([`Group`]); each of them is in it once or not at all, as if it were alone.
//! * No buffer without a bound: a partition's task reads what it can commit, and Kafka keeps the rest.
//!
//! * A [`Generations`] follows every generation of the projection that there is, each by a consumer of its own; a [`Conductor`] builds one anew from
//!   the event store and compares it; [`Operations`] is how people ask for that. What is asked for stands in the database.
//!
//! * A [`Sampler`] compares the rows of players in the live generation with the fold of their events, one after the other, for as long as the process runs.
//!
//! * What has effects is run by a [`Reaction`], from a position and an [`EffectLog`] of its own, which no rebuild and no replay touches (module `reactor`).
//!
//! What it does not do: read what is in the dead-letter topics.

mod batch;
mod copy;
mod event;
pub mod failpoint;
mod gate;
mod generations;
mod group;
mod halt;
mod lookups;
mod membership;
pub mod memory;
mod meters;
mod ops;
mod parking;
mod partition;
mod patience;
mod player;
mod policy;
mod postgres;
mod progress;
mod projector;
mod reactor;
mod rebuild;
mod runtime;
mod sampling;
mod store;
mod view;
mod waiters;

pub use batch::{Entry, Home};
pub use copy::{CopyRows, Micros};
pub use event::{Event, Outline, Undecodable};
pub use gate::Gate;
pub use generations::{Generations, Layout, Live, Reading};
pub use group::Group;
pub use halt::{Cause, Halt};
pub use ops::{Operations, ParkedOperations};
pub use parking::Parked;
pub use parking::bury::DeadLetters;
pub use parking::letters::{Drain, Drainage, Drained, Failure, Letter, Next, ParkedCounts, Parking, Wished, Wishes};
pub use parking::topic::{DeadLetterTopic, KafkaDeadLetters, TopicAway};
pub use partition::{BATCH_RECORDS_MAX, Ended, Feed, Partition, run as run_partition};
pub use player::{PlayerMender, PlayerRows};
pub use policy::{ATTEMPTS_MAX, PARKED_KEYS_MAX, PARKED_RECORDS_MAX, POISON_PER_MINUTE_MAX, REPLAYS_MAX};
pub use postgres::{PostgresStore, Scope, Tables, TouchedRow};
pub use progress::{HEADS_FRESH_MS, Lag, PartitionState, Progress, Stopped, TopicFault};
pub use projector::{Interest, Malformed, Projector};
pub use reactor::{
    AfterFailure, EFFECT_BYTES_MAX, EFFECTS_OF_EVENT_MAX, EffectCounts, EffectId, EffectLog, Ending, LogError, Look, Pending, Place,
    PostgresEffectLog, Reaction, ReactionOptions, ReactionPartition, ReactionProgress, Reactor, Recorded, Recording, Settlement, Taken,
    run_reaction_partition,
};
pub use rebuild::{Conducted, Conductor, PART_EVENTS_DEFAULT, Rebuildable, Unusable};
pub use runtime::{Error, Options, Projection};
pub use sampling::{SAMPLE_INTERVAL_MS_DEFAULT, SampledRows, Sampler};
pub use store::{Batch, Checkpoint, Commit, Lease, Store, StoreError, StreamEnd};
pub use view::{Reached, View};

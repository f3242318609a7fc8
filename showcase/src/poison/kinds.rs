//! The four kinds of poison, and how they come into the topic.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use idempo_checker::facts::Topic;
use idempo_checker::ids;
use idempo_clock::SharedClock;
use idempo_devstack::Cluster;
use idempo_ids::PlayerId;
use idempo_kafka::by_hand::{self, Anything};
use idempo_kafka::{Config, partition_of};
use idempo_proto::event::v1::EventEnvelope;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use uuid::Uuid;

/// The number of an event type that no version of the platform has.
const UNKNOWN_TYPE: u32 = 299;
/// The database of the read model.
const DATABASE: &str = "inventory_view_db";

/// A kind of poison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Bytes that are no event.
    Garbage,
    /// A record without a value.
    Tombstone,
    /// An event of a type that the projector does not know.
    UnknownType,
    /// A real event whose rows the read model's database refuses.
    Refused,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Garbage, Self::Tombstone, Self::UnknownType, Self::Refused];

    /// What it is, of several.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Garbage => "of garbage",
            Self::Tombstone => "tombstones",
            Self::UnknownType => "of an unknown type",
            Self::Refused => "that the read model refuses",
        }
    }

    /// The code that the projector gives it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Garbage | Self::Tombstone => "UNDECODABLE_RECORD",
            Self::UnknownType => "UNKNOWN_EVENT_TYPE",
            Self::Refused => "READ_MODEL_REFUSED",
        }
    }

    /// The value of a record of this kind for this player, the same each time; `None` where it has none. Of [`Kind::Refused`] the services make the
    /// records.
    #[must_use]
    pub fn value(self, player: PlayerId, clock: &SharedClock) -> Option<Bytes> {
        match self {
            Self::Garbage => Some([b"\xff\xffnot an event: ", player.uuid().as_bytes().as_slice()].concat().into()),
            Self::Tombstone | Self::Refused => None,
            Self::UnknownType => Some(of_unknown_type(player.uuid(), clock)),
        }
    }
}

/// An envelope in which nothing is wrong but that nobody knows what happened.
fn of_unknown_type(player: Uuid, clock: &SharedClock) -> Bytes {
    let id = |what: &str| Bytes::copy_from_slice(ids::stream(what, player).as_bytes());
    let now = clock.now();
    let envelope = EventEnvelope {
        event_id: id("demo-event"),
        stream_id: id("demo-stream"),
        version: 1,
        partition_key: Bytes::copy_from_slice(player.as_bytes()),
        decided_at: Some(prost_types::Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() }),
        command_id: id("demo-command"),
        correlation_id: id("demo-correlation"),
        ..EventEnvelope::default()
    };
    let mut bytes = envelope.encode_to_vec();
    encode_key(UNKNOWN_TYPE, WireType::LengthDelimited, &mut bytes);
    encode_varint(0, &mut bytes);
    bytes.into()
}

/// A record that was put in by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Its key.
    pub key: Bytes,
    /// Its value; empty for a tombstone.
    pub value: Bytes,
}

/// Writes a record of this kind for each of these players straight into the topic, as another program might by mistake.
///
/// # Errors
/// Where the brokers don't take them.
pub async fn inject(kind: Kind, players: &[PlayerId], clock: &SharedClock, brokers: &str, topic: &Topic) -> Result<Vec<Injected>> {
    let config = Config { brokers: brokers.to_owned(), client_id: "somebody-else".to_owned(), ..Config::default() };
    let made: Vec<(Bytes, Option<Bytes>)> =
        players.iter().map(|player| (Bytes::from(player.uuid().hyphenated().to_string()), kind.value(*player, clock))).collect();
    let records: Vec<Anything<'_>> = made
        .iter()
        .map(|(key, value)| Anything { partition: partition_of(key, topic.partitions), key: Some(key), value: value.as_deref() })
        .collect();
    by_hand::write(&config, &topic.name, &records).await.context("injecting poison")?;
    Ok(made.into_iter().map(|(key, value)| Injected { key, value: value.unwrap_or_default() }).collect())
}

/// Takes the injected records out of a dump, so that what is left is what the platform has written. Gives how many were there.
pub fn take_out(topics: &mut [Topic], injected: &[Injected]) -> usize {
    let known: std::collections::HashSet<(&Bytes, &Bytes)> = injected.iter().map(|one| (&one.key, &one.value)).collect();
    let count = |topics: &[Topic]| topics.iter().map(|topic| topic.records.len()).sum::<usize>();
    let before = count(topics);
    for topic in topics.iter_mut() {
        topic.records.retain(|record| !known.contains(&(&record.key, &record.value)));
    }
    before.saturating_sub(count(topics))
}

/// A trigger that somebody forgot in a generation's tables: it refuses every row of one item type.
pub struct ForgottenTrigger {
    client: tokio_postgres::Client,
}

impl ForgottenTrigger {
    /// Leaves it there.
    ///
    /// # Errors
    /// Where the database refuses it.
    pub async fn leave(cluster: &Cluster, generation: i64, item_type: &str) -> Result<Self> {
        let config = idempo_pg::Config { search_path: Some(format!("inventory_g{generation}")), ..cluster.superuser(DATABASE) };
        let (client, connection) = idempo_pg::connect(&config).await.context("connecting to the read model's database")?;
        // Ends with the client.
        tokio::spawn(connection);
        client
            .batch_execute(&include_str!("sql/forget_trigger.sql").replace("{item_type}", item_type))
            .await
            .context("leaving a trigger")?;
        Ok(Self { client })
    }

    /// Takes it away: the cause is mended.
    ///
    /// # Errors
    /// Where the database refuses it.
    pub async fn take_away(self) -> Result<()> {
        self.client.batch_execute(include_str!("sql/take_trigger_away.sql")).await.context("taking a trigger away")
    }
}

#[cfg(test)]
mod tests {
    use idempo_checker::facts::Record;
    use idempo_clock::SystemClock;

    use super::*;

    fn record(key: &Bytes, value: &Bytes) -> Record {
        Record { partition: 0, offset: 0, produced_ms: None, key: key.clone(), value: value.clone(), headers: Vec::new() }
    }

    #[test]
    fn no_poison_that_is_put_in_by_hand_is_an_event() {
        let player = PlayerId::new(Uuid::from_bytes([7; 16]));
        let clock = SystemClock::shared();
        let garbage = Kind::Garbage.value(player, &clock).expect("bytes");
        assert!(EventEnvelope::decode(garbage).is_err());
        let unknown = Kind::UnknownType.value(player, &clock).expect("bytes");
        let envelope = EventEnvelope::decode(unknown).expect("an envelope");
        assert!(envelope.data.is_none() && envelope.partition_key == player.uuid().as_bytes().as_slice());
        assert_eq!(Kind::Tombstone.value(player, &clock), None);
    }

    #[test]
    fn only_what_was_injected_is_taken_out() {
        let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
        let injected = Injected { key: key.clone(), value: Bytes::new() };
        let records = vec![record(&key, &value), record(&key, &Bytes::new()), record(&value, &Bytes::new())];
        let mut topics = [Topic { name: "t".to_owned(), partitions: 1, records }];
        assert_eq!(take_out(&mut topics, &[injected]), 1);
        assert_eq!(topics.iter().map(|topic| topic.records.len()).sum::<usize>(), 2);
    }
}

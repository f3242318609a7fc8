//! The four kinds of poison, and how they come into the topic.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use idempo_checker::facts::Topic;
use idempo_checker::ids;
use idempo_checker::poison::Injected;
use idempo_clock::SharedClock;
use idempo_devstack::Cluster;
use idempo_ids::PlayerId;
use idempo_kafka::by_hand::{self, Anything};
use idempo_kafka::{Config, partition_of};
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::{EventEnvelope, ItemGranted};
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

    /// The value of a record of this kind for this player, the same each time but for the moment in an event's envelope; `None` where it has none. Of [`Kind::Refused`] the services make the
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

/// An event of the inventory that says nothing, at this version of this player's stream: it does not belong there, and can't be applied anywhere.
/// `mark` tells it from others.
#[must_use]
pub fn out_of_place(player: Uuid, version: u64, mark: Uuid, clock: &SharedClock) -> Bytes {
    let id = |what: &str| Bytes::copy_from_slice(ids::stream(what, mark).as_bytes());
    let now = clock.now();
    let envelope = EventEnvelope {
        event_id: id("forged-event"),
        stream_id: Bytes::copy_from_slice(ids::stream("inventory", player).as_bytes()),
        version,
        partition_key: Bytes::copy_from_slice(player.as_bytes()),
        decided_at: Some(prost_types::Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() }),
        command_id: id("forged-command"),
        correlation_id: id("forged-correlation"),
        data: Some(Data::ItemGranted(ItemGranted::default())),
        ..EventEnvelope::default()
    };
    envelope.encode_to_vec().into()
}

/// Writes a record of this kind for each of these players straight into the topic, as another program might by mistake.
///
/// # Errors
/// Where the brokers don't take them.
pub async fn inject(kind: Kind, players: &[PlayerId], clock: &SharedClock, brokers: &str, topic: &Topic) -> Result<Vec<Injected>> {
    let key = |player: &PlayerId| Bytes::from(player.uuid().hyphenated().to_string());
    let records: Vec<Injected> =
        players.iter().map(|player| Injected { key: key(player), value: kind.value(*player, clock).unwrap_or_default() }).collect();
    write(&records, brokers, topic).await?;
    Ok(records)
}

/// Writes records straight into a topic, in their order. One without a value is a tombstone.
///
/// # Errors
/// Where the brokers don't take them.
pub async fn write(records: &[Injected], brokers: &str, topic: &Topic) -> Result<()> {
    let config = Config { brokers: brokers.to_owned(), client_id: "somebody-else".to_owned(), ..Config::default() };
    let records: Vec<Anything<'_>> = records
        .iter()
        .map(|Injected { key, value }| Anything {
            partition: partition_of(key, topic.partitions),
            key: Some(key),
            value: Some(value.as_ref()).filter(|value: &&[u8]| !value.is_empty()),
        })
        .collect();
    by_hand::write(&config, &topic.name, &records).await.context("injecting poison")
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
    use idempo_clock::SystemClock;

    use super::*;

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
        let forged = EventEnvelope::decode(out_of_place(player.uuid(), 7, Uuid::nil(), &clock)).expect("an envelope");
        assert!(forged.version == 7 && forged.data == Some(Data::ItemGranted(ItemGranted::default())));
    }
}

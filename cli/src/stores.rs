//! The event stores, read as a role that changes nothing.

use idempo_message::{DATA, ENVELOPE, Event, bytes_text};
use idempo_pg::Config;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::context::{Context, parse_timeout};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::relays::missing;
use crate::settings::StoreUrl;

/// How long one statement may take, in milliseconds: some read whole tables.
const STATEMENT_TIMEOUT_MS: u64 = 600_000;
/// How many events are read at a time.
const PAGE_EVENTS: i64 = 2_000;

/// An event store.
pub struct Store {
    /// Its name in the profile.
    pub name: String,
    client: Client,
}

/// An event as a store has it.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The store's name.
    pub store: String,
    /// Its number in the store.
    pub seq: i64,
    /// Its stream.
    pub stream_id: Uuid,
    /// Its version there.
    pub version: i64,
    /// Its id.
    pub event_id: Uuid,
    /// The number of its type.
    pub event_type: i16,
    /// When its transaction began.
    pub recorded_at: Timestamp,
    /// Its bytes.
    pub envelope: Vec<u8>,
    /// Who its stream belongs to; the key of its record.
    pub partition_key: Uuid,
    /// Where its row is in quarantine, where it is.
    pub quarantine: Option<String>,
    /// Whether the outbox's cursor has passed it.
    pub passed: bool,
}

/// Which events: all that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this stream.
    pub stream: Option<Uuid>,
    /// Of this player's streams.
    pub player: Option<Uuid>,
    /// Recorded then or later.
    pub since: Option<Timestamp>,
    /// Recorded before.
    pub until: Option<Timestamp>,
    /// Of this type.
    pub event_type: Option<i16>,
    /// With this id.
    pub event_id: Option<Uuid>,
    /// With these bytes in their envelope.
    pub holding: Option<Vec<u8>>,
    /// Of this version in their stream, or a later one.
    pub version: Option<i64>,
}

/// Connects to a database of the profile.
///
/// # Errors
/// [`Exit::Unavailable`] where it is away, [`Exit::Usage`] where the URL is none.
pub async fn connect(name: &str, url: &StoreUrl) -> Result<Client, Failure> {
    let config =
        Config { statement_timeout_ms: STATEMENT_TIMEOUT_MS, application_name: "idempo-cli".to_owned(), ..Config::at(url.expose()) };
    let (client, connection) = idempo_pg::connect(&config).await.map_err(|error| Failure::of_database(name, &error))?;
    // Ends with the client; what goes wrong on the way, the client's next call tells.
    tokio::spawn(connection);
    Ok(client)
}

impl Store {
    /// Connects to the stores of the profile, or to the one with this name.
    ///
    /// # Errors
    /// [`Exit::NotFound`] with the nearest names; as [`connect`].
    pub async fn open(context: &Context, only: Option<&str>) -> Result<Vec<Self>, Failure> {
        let stores = &context.profile().stores;
        if stores.is_empty() {
            return Err(missing("stores"));
        }
        if let Some(name) = only.filter(|name| !stores.contains_key(*name)) {
            return Err(Failure::unknown("store", name, stores.keys().map(String::as_str)));
        }
        let chosen = stores.iter().filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
        let opening = chosen.map(|(name, url)| async move { Ok(Self { name: name.clone(), client: connect(name, url).await? }) });
        futures_util::future::try_join_all(opening).await
    }

    /// Connects to the stores of the profile, each for itself: those that are reached, and why others are not.
    ///
    /// # Errors
    /// [`Exit::Usage`] where the profile has none.
    pub async fn open_each(context: &Context) -> Result<(Vec<Self>, Vec<(String, Failure)>), Failure> {
        let stores = &context.profile().stores;
        if stores.is_empty() {
            return Err(missing("stores"));
        }
        let opening = stores.iter().map(|(name, url)| async move { (name.clone(), connect(name, url).await) });
        let (mut reached, mut away) = (Vec::new(), Vec::new());
        for (name, client) in futures_util::future::join_all(opening).await {
            match client {
                Ok(client) => reached.push(Self { name, client }),
                Err(failure) => away.push((name, failure)),
            }
        }
        Ok((reached, away))
    }

    /// Events, in the order of their numbers, handed over as they come; `each` says whether it wants more.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] where the store can't be read; what `each` fails with.
    pub async fn each(&self, wanted: &Wanted, mut each: impl FnMut(StoredEvent) -> Result<bool, Failure>) -> Result<(), Failure> {
        let mut after = i64::MIN;
        loop {
            let page = self.page(wanted, after).await?;
            let is_last = i64::try_from(page.len()).is_ok_and(|count| count < PAGE_EVENTS);
            for event in page {
                after = event.seq;
                if !each(event)? {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Events, in the order of their numbers, sent on as they are taken: a page is read when the one before it is gone.
    ///
    /// # Errors
    /// As [`Store::each`].
    pub async fn each_to(&self, wanted: &Wanted, to: tokio::sync::mpsc::Sender<StoredEvent>) -> Result<(), Failure> {
        let mut after = i64::MIN;
        loop {
            let page = self.page(wanted, after).await?;
            let is_last = i64::try_from(page.len()).is_ok_and(|count| count < PAGE_EVENTS);
            for event in page {
                after = event.seq;
                if to.send(event).await.is_err() {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn page(&self, wanted: &Wanted, after: i64) -> Result<Vec<StoredEvent>, Failure> {
        let Wanted { stream, player, since, until, event_type, event_id, holding, version } = wanted;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 10] =
            [stream, player, since, until, event_type, event_id, holding, version, &after, &PAGE_EVENTS];
        let rows = self.client.query(include_str!("sql/events.sql"), &parameters).await.map_err(|error| self.wrong(error))?;
        rows.iter().map(|row| self.event(row).map_err(|error| self.wrong(error))).collect()
    }

    /// The first events, `limit` at most.
    ///
    /// # Errors
    /// As [`Store::each`].
    pub async fn events(&self, wanted: &Wanted, limit: usize) -> Result<Vec<StoredEvent>, Failure> {
        let mut events = Vec::new();
        self.each(wanted, |event| {
            events.push(event);
            Ok(events.len() < limit)
        })
        .await?;
        events.truncate(limit);
        Ok(events)
    }

    /// What the store remembers of an idempotency key: scope, whether it was refused, and the stored answer.
    ///
    /// # Errors
    /// As [`Store::each`].
    pub async fn key(&self, key: Uuid) -> Result<Vec<(Uuid, bool, Vec<u8>)>, Failure> {
        let rows = self.client.query(include_str!("sql/keys.sql"), &[&key]).await.map_err(|error| self.wrong(error))?;
        let read = |row: &Row| -> Result<_, tokio_postgres::Error> {
            let scope = Uuid::from_slice(&row.try_get::<_, Vec<u8>>("scope")?).unwrap_or_default();
            Ok((scope, row.try_get::<_, i16>("outcome")? != 0, row.try_get("reply")?))
        };
        rows.iter().map(|row| read(row).map_err(|error| self.wrong(error))).collect()
    }

    fn event(&self, row: &Row) -> Result<StoredEvent, tokio_postgres::Error> {
        Ok(StoredEvent {
            store: self.name.clone(),
            seq: row.try_get("seq")?,
            stream_id: row.try_get("stream_id")?,
            version: row.try_get("version")?,
            event_id: row.try_get("event_id")?,
            event_type: row.try_get("event_type")?,
            recorded_at: row.try_get("recorded_at")?,
            envelope: row.try_get("envelope")?,
            partition_key: row.try_get("partition_key")?,
            quarantine: row.try_get("quarantine")?,
            passed: row.try_get("passed")?,
        })
    }

    fn wrong(&self, error: tokio_postgres::Error) -> Failure {
        Failure::of_database(&self.name, &idempo_pg::classify(error))
    }
}

/// An envelope, as far as it can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The message; `None` where the bytes are none.
    pub envelope: Option<Value>,
    /// What happened, as the field is called: `funds_sent`.
    pub kind: Option<String>,
    /// Its fields.
    pub data: Value,
    /// Why it can't be read, or not wholly.
    pub reason: Option<String>,
}

/// Decodes an envelope by the descriptor set.
#[must_use]
pub fn decode(bytes: &[u8]) -> Decoded {
    let event = match Event::of(Some(bytes)) {
        Ok(event) => event,
        Err(reason) => return Decoded { envelope: None, kind: None, data: Value::Null, reason: Some(reason) },
    };
    let (envelope, kind) = (event.json(), event.known_kind());
    let data = kind.as_ref().and_then(|kind| envelope.get(kind)).cloned().unwrap_or_default();
    let reason = kind.is_none().then(|| "what happened is of a type that this program does not know".to_owned());
    Decoded { envelope: Some(envelope), kind, data, reason }
}

/// The number of an event type by its name, such as `funds_sent`.
///
/// # Errors
/// [`Exit::NotFound`] with the nearest names.
pub fn type_number(name: &str) -> Result<i16, Failure> {
    let names = type_names();
    match names.iter().find(|(known, _)| known == name) {
        Some((_, number)) => Ok(*number),
        None => Err(Failure::unknown("event type", name, names.iter().map(|(name, _)| name.as_str()))),
    }
}

fn type_names() -> Vec<(String, i16)> {
    let descriptor = idempo_message::descriptor(ENVELOPE);
    let fields = descriptor.iter().flat_map(|envelope| envelope.oneofs().filter(|oneof| oneof.name() == DATA));
    let fields = fields.flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
    fields.filter_map(|field| Some((field.name().to_owned(), i16::try_from(field.number()).ok()?))).collect()
}

impl StoredEvent {
    /// What it is called: the name of its type, or its number.
    #[must_use]
    pub fn kind(&self) -> String {
        let name = type_names().into_iter().find(|(_, number)| *number == self.event_type);
        name.map_or_else(|| format!("#{}", self.event_type), |(name, _)| name)
    }

    /// All that is known of it.
    #[must_use]
    pub fn json(&self) -> Value {
        let decoded = decode(&self.envelope);
        let mut json = Map::new();
        let facts = json!({
            "store": self.store, "seq": self.seq, "stream_id": self.stream_id, "version": self.version, "event_id": self.event_id,
            "event_type": self.kind(), "recorded_at": self.recorded_at.to_string(), "partition_key": self.partition_key,
        });
        if let Value::Object(facts) = facts {
            json.extend(facts);
        }
        json.insert("envelope".to_owned(), decoded.envelope.unwrap_or_default());
        if let Some(reason) = decoded.reason {
            json.insert("undecoded".to_owned(), Value::String(reason));
            json.insert("raw".to_owned(), Value::String(bytes_text(&self.envelope)));
        }
        Value::Object(json)
    }
}

/// A moment: a time as ISO 8601, or a length of time that counts back from now, such as `10m`.
///
/// # Errors
/// [`Exit::Usage`] where it is neither.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let back = parse_timeout(text).ok().and_then(|back| now.checked_sub(back).ok());
    back.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("`{text}` is no moment: a time such as 2026-11-23T08:00:00Z, or how long ago, such as 10m"))
    })
}

#[cfg(test)]
mod tests {
    use idempo_proto::event::v1::event_envelope::Data;
    use idempo_proto::event::v1::{EventEnvelope, FundsSent};
    use prost::Message as _;

    use super::*;

    #[test]
    fn an_envelope_is_decoded_by_the_descriptor_set() {
        let data = Some(Data::FundsSent(FundsSent { amount: 7, ..FundsSent::default() }));
        let (event_id, stream_id) = (vec![1; 16].into(), vec![2; 16].into());
        let envelope = EventEnvelope { event_id, stream_id, data, ..EventEnvelope::default() };
        let decoded = decode(&envelope.encode_to_vec());
        assert_eq!((decoded.kind.as_deref(), decoded.data["amount"].as_i64(), decoded.reason), (Some("funds_sent"), Some(7), None));
    }

    #[test]
    fn what_can_not_be_decoded_says_why() {
        for (bytes, why) in [(&b"\xff\xff\xff"[..], "are no"), (b"", "event_id"), (&[0x18, 7], "event_id")] {
            let decoded = decode(bytes);
            assert!(decoded.envelope.is_none() && decoded.reason.as_ref().is_some_and(|reason| reason.contains(why)), "{decoded:?}");
        }
        let ids = EventEnvelope { event_id: vec![1; 16].into(), stream_id: vec![2; 16].into(), ..EventEnvelope::default() };
        let later = [ids.encode_to_vec(), vec![0xda, 0x3e, 0]].concat();
        let decoded = decode(&later);
        assert!(decoded.envelope.is_some() && decoded.reason.is_some_and(|reason| reason.contains("does not know")));
    }

    #[test]
    fn a_type_is_known_by_its_name() {
        assert_eq!(type_number("funds_sent").ok(), Some(103));
        assert!(type_number("funds_send").is_err_and(|failure| failure.hint.is_some_and(|hint| hint.contains("funds_sent"))));
    }

    #[test]
    fn a_moment_is_a_time_or_a_length_of_time_back() {
        let now: Timestamp = "2026-11-23T08:00:00Z".parse().expect("a time");
        assert_eq!(moment("10m", now).ok(), "2026-11-23T07:50:00Z".parse().ok());
        assert_eq!(moment("2026-01-01T00:00:00Z", now).ok(), "2026-01-01T00:00:00Z".parse().ok());
        assert!(moment("yesterday", now).is_err());
    }
}

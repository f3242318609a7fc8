//! `idempo trace`: what became of a command, an event or a traced request, from the store to the read models, or to a dead letter.

mod parked;

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use idempo_checker::ids;
use jiff::Timestamp;
use prost::Message as _;
use serde_json::{Value, json};
use tonic_types::pb;
use uuid::Uuid;

use self::parked::Trouble;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Cell, Form, Printer, Tone, tell};
use crate::settings::StoreUrl;
use crate::stores::{Decoded, Store, StoredEvent, Wanted, connect, decode};
use crate::topics::{Found, Topics};

/// How many events of one chain are followed.
const EVENTS_MAX: usize = 1_000;
/// How much older than its event a record may say it is, in milliseconds: they are timed by different machines.
const CLOCKS_APART_MS: i64 = 60_000;
/// How long a trace id is, in hexadecimal digits.
const TRACE_ID_DIGITS: usize = 32;

/// Follows a command from its key to the read models: what it appended, where that is in Kafka, and who has read it. What is away is said not to be known,
/// and the rest is told all the same: it ends with 5 then.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  idempo trace 01890a5d-ac96-774b-bcce-b302099a8057
  idempo trace 0af7651916cd43dd8448eb211c80319c -o json")]
pub struct Command {
    /// The id of an event, a command or a request, as a UUID; or a trace id, 32 hexadecimal digits.
    id: String,
}

/// What the id is.
enum Sought {
    Id(Uuid),
    Trace(String),
}

impl Sought {
    fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.to_lowercase();
        if text.len() == TRACE_ID_DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Ok(Self::Trace(text));
        }
        let id = Uuid::parse_str(&text);
        id.map(Self::Id).map_err(|_| Failure::usage(format!("`{text}` is neither a UUID nor a trace id of 32 hexadecimal digits")))
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Id(id) => id.as_bytes().to_vec(),
            Self::Trace(trace) => trace.as_bytes().to_vec(),
        }
    }

    /// Whether an envelope is of the chain: it may hold the same bytes as the id of something else, such as an item.
    fn is_of(&self, envelope: &Value) -> bool {
        let field = |name: &str| envelope.get(name).and_then(Value::as_str).unwrap_or_default();
        match self {
            Self::Id(id) => {
                let id = id.hyphenated().to_string();
                ["event_id", "command_id", "correlation_id", "causation_id"].iter().any(|name| field(name) == id)
            }
            Self::Trace(trace) => field("traceparent").contains(trace.as_str()),
        }
    }
}

/// A key, as a store remembers it.
struct Key {
    store: String,
    request: Uuid,
    command: Uuid,
    /// Why it was refused; `None` where it was applied.
    refusal: Option<String>,
}

/// An event of the chain, and how far it has come.
struct Step {
    event: StoredEvent,
    decoded: Decoded,
    outbox: &'static str,
    /// `None` where the brokers have not said.
    records: Option<Vec<Found>>,
    readers: Vec<Reader>,
    troubles: Vec<Trouble>,
}

/// What could not be looked at, and why. Each is warned of once.
#[derive(Default)]
struct Gaps {
    /// Read models' databases, by their names.
    views: Vec<String>,
    told: Vec<String>,
}

impl Gaps {
    /// Notes that `what` is not known.
    fn note(&mut self, what: &str, failure: &Failure) {
        let told = format!("{what} is not known: {}", failure.message);
        if !self.told.contains(&told) {
            tell(&format!("warning: {told}"));
            self.told.push(told);
        }
    }

    /// How the command ends.
    fn exit(&self) -> Exit {
        if self.told.is_empty() { Exit::Done } else { Exit::Partial }
    }
}

/// A read model that reads the topic.
struct Reader {
    projection: String,
    generation: i32,
    next_offset: i64,
    has_read: bool,
}

/// Checkpoints of the live generations, by topic and partition.
type Checkpoints = BTreeMap<(String, i32), Vec<(String, i32, i64)>>;

/// Runs the command.
///
/// # Errors
/// [`Exit::NotFound`] where nothing has the id; [`Exit::Unavailable`] where a store that may have it is away. Where only brokers, read models or dead letters
/// are, what is known is shown, and it ends with [`Exit::Partial`].
pub async fn run(command: &Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let sought = Sought::parse(&command.id)?;
    let mut gaps = Gaps::default();
    let (stores, away) = Store::open_each(context).await?;
    for (name, failure) in &away {
        gaps.note(&format!("what the store {name} has"), failure);
    }
    let mut events = Vec::new();
    for store in &stores {
        events.extend(chain(store, &sought).await?);
    }
    let keys = keys(&stores, &sought, &events).await?;
    if events.is_empty() && keys.is_empty() {
        // What a store that is away has, nobody can say.
        if let Some((_, failure)) = away.into_iter().next() {
            return Err(failure);
        }
        let failure = Failure::new(Exit::NotFound, format!("no event, command, request or trace has the id {}", command.id));
        return Err(failure.hint("keys are remembered for some weeks; `idempo event stream` takes streams and players"));
    }
    let checkpoints = checkpoints(context, &mut gaps).await;
    let topics = Topics::new(context)?;
    let mut brokers = Some(&topics);
    let mut steps = Vec::new();
    for (event, decoded) in events {
        steps.push(follow(event, decoded, context, &mut brokers, &checkpoints, &mut gaps).await);
    }
    show(&command.id, &keys, &steps, &gaps, printer)?;
    Ok(gaps.exit())
}

/// The events of the chain. Of one event's id, all events of its command.
async fn chain(store: &Store, sought: &Sought) -> Result<Vec<(StoredEvent, Decoded)>, Failure> {
    let found = holding(store, sought).await?;
    let Sought::Id(id) = sought else { return Ok(found) };
    let own = found.iter().find(|(event, _)| event.event_id == *id);
    let command = own.and_then(|(_, decoded)| Uuid::parse_str(decoded.envelope.as_ref()?.get("command_id")?.as_str()?).ok());
    match command {
        Some(command) => holding(store, &Sought::Id(command)).await,
        None => Ok(found),
    }
}

async fn holding(store: &Store, sought: &Sought) -> Result<Vec<(StoredEvent, Decoded)>, Failure> {
    let wanted = Wanted { holding: Some(sought.bytes()), ..Wanted::default() };
    let events = store.events(&wanted, EVENTS_MAX).await?;
    let decoded = events.into_iter().map(|event| {
        let decoded = decode(&event.envelope);
        (event, decoded)
    });
    Ok(decoded.filter(|(_, decoded)| decoded.envelope.as_ref().is_some_and(|envelope| sought.is_of(envelope))).collect())
}

/// What the stores remember of the requests: the one that is sought, and those that the events came from.
async fn keys(stores: &[Store], sought: &Sought, events: &[(StoredEvent, Decoded)]) -> Result<Vec<Key>, Failure> {
    let correlation = |decoded: &Decoded| Uuid::parse_str(decoded.envelope.as_ref()?.get("correlation_id")?.as_str()?).ok();
    let mut requests: BTreeSet<Uuid> = events.iter().filter_map(|(_, decoded)| correlation(decoded)).collect();
    if let Sought::Id(id) = sought {
        requests.insert(*id);
    }
    let mut keys = Vec::new();
    for store in stores {
        for request in &requests {
            for (scope, is_refused, reply) in store.key(*request).await? {
                let refusal = is_refused.then(|| refusal_text(&reply));
                keys.push(Key { store: store.name.clone(), request: *request, command: ids::command(*request, scope), refusal });
            }
        }
    }
    Ok(keys)
}

fn refusal_text(reply: &[u8]) -> String {
    pb::Status::decode(reply).map_or_else(|_| "a refusal that can't be decoded".to_owned(), |status| status.message)
}

/// How far the read models are. Those whose databases are away are gaps.
async fn checkpoints(context: &Context, gaps: &mut Gaps) -> Checkpoints {
    let mut checkpoints = Checkpoints::new();
    let reading = context.profile().views.iter().map(|(name, url)| async move { (name, checkpoints_of(name, url).await) });
    for (name, read) in futures_util::future::join_all(reading).await {
        match read {
            Ok(read) => read.into_iter().for_each(|(place, reader)| checkpoints.entry(place).or_default().push(reader)),
            Err(failure) => {
                gaps.note(&format!("how far the read model {name} is"), &failure);
                gaps.views.push(name.clone());
            }
        }
    }
    checkpoints
}

async fn checkpoints_of(name: &str, url: &StoreUrl) -> Result<Vec<((String, i32), (String, i32, i64))>, Failure> {
    let client = connect(name, url).await?;
    let read = |row: &tokio_postgres::Row| -> Result<_, tokio_postgres::Error> {
        let place = (row.try_get("topic")?, row.try_get("partition")?);
        Ok((place, (row.try_get("projection")?, row.try_get("generation")?, row.try_get("next_offset")?)))
    };
    let rows = client.query(include_str!("../../sql/checkpoints.sql"), &[]).await;
    let read = rows.and_then(|rows| rows.iter().map(read).collect());
    read.map_err(|error| Failure::of_database(name, &idempo_pg::classify(error)))
}

/// Follows an event as far as what is there tells. `brokers` are asked no more once they have said nothing.
async fn follow(
    event: StoredEvent,
    decoded: Decoded,
    context: &Context,
    brokers: &mut Option<&Topics>,
    checkpoints: &Checkpoints,
    gaps: &mut Gaps,
) -> Step {
    let outbox = match (event.quarantine.as_deref(), event.passed) {
        (Some("sent"), _) | (None, true) => "relayed",
        (Some(_), _) => "in quarantine",
        (None, false) => "waits",
    };
    let key = event.partition_key.hyphenated().to_string();
    let records = match brokers {
        None => None,
        Some(topics) => {
            let since_ms = event.recorded_at.as_millisecond().saturating_sub(CLOCKS_APART_MS);
            let found = topics.find(&key, event.event_id.as_bytes().to_vec(), since_ms).await;
            found.map_err(|failure| gaps.note("what is in Kafka", &failure)).ok()
        }
    };
    if records.is_none() {
        *brokers = None;
    }
    let (mut readers, mut troubles) = (Vec::new(), Vec::new());
    if let Some(first) = records.as_ref().and_then(|records| records.first()) {
        for (projection, generation, next_offset) in checkpoints.get(&(first.topic.to_string(), first.partition)).into_iter().flatten() {
            let (projection, has_read) = (projection.clone(), *next_offset > first.offset);
            readers.push(Reader { projection, generation: *generation, next_offset: *next_offset, has_read });
        }
        troubles = parked::look(context, &key, first, &readers, gaps).await;
    }
    Step { event, decoded, outbox, records, readers, troubles }
}

fn show(id: &str, keys: &[Key], steps: &[Step], gaps: &Gaps, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.style.form != Form::Text {
        let json = json!({
            "id": id,
            "commands": keys.iter().map(Key::json).collect::<Vec<_>>(),
            "events": steps.iter().map(Step::json).collect::<Vec<_>>(),
            "not_known": gaps.told,
        });
        return printer.one(&json, &[]);
    }
    for key in keys {
        let outcome = match &key.refusal {
            None => printer.painted(&Cell::toned("applied", Tone::Good)),
            Some(refusal) => printer.painted(&Cell::toned(format!("refused: {refusal}"), Tone::Odd)),
        };
        printer.line(&format!("request     {}", key.request))?;
        printer.line(&format!("command     {}  {}  {outcome}", key.command, key.store))?;
    }
    steps.iter().try_for_each(|step| step.show(&gaps.views, printer))
}

impl Key {
    fn json(&self) -> Value {
        let outcome = if self.refusal.is_some() { "refused" } else { "applied" };
        json!({ "request_id": self.request, "command_id": self.command, "store": self.store, "outcome": outcome, "refusal": self.refusal })
    }
}

impl Step {
    fn json(&self) -> Value {
        let record = |found: &Found| json!({ "topic": &*found.topic, "partition": found.partition, "offset": found.offset });
        let reader = |reader: &Reader| {
            json!({
                "projection": reader.projection, "generation": reader.generation, "next_offset": reader.next_offset, "has_read": reader.has_read,
            })
        };
        let mut json = self.event.json();
        if let Value::Object(fields) = &mut json {
            fields.insert("outbox".to_owned(), json!({ "state": self.outbox, "quarantine": self.event.quarantine }));
            let records = self.records.as_ref().map(|records| records.iter().map(record).collect::<Vec<_>>());
            fields.insert("records".to_owned(), json!(records));
            let readers = records.map(|_| self.readers.iter().map(reader).collect::<Vec<_>>());
            fields.insert("projections".to_owned(), json!(readers));
            fields.insert("dead_letters".to_owned(), self.troubles.iter().map(Trouble::json).collect());
        }
        json
    }

    /// `views` are the read models whose databases are away.
    fn show(&self, views: &[String], printer: &mut Printer<'_>) -> Result<(), Failure> {
        let event = &self.event;
        let recorded: Timestamp = event.recorded_at;
        let when = printer.style.time(Some(recorded));
        printer.line(&format!("event       {}  {}  {}", event.event_id, event.kind(), self.decoded.data))?;
        printer.line(&format!(
            "  store       {} #{}: version {} of stream {}, {when}",
            event.store, event.seq, event.version, event.stream_id
        ))?;
        let tone = if self.outbox == "relayed" { Tone::Good } else { Tone::Odd };
        let quarantine = event.quarantine.as_deref().map_or_else(String::new, |state| format!(" ({state})"));
        let outbox = printer.painted(&Cell::toned(self.outbox, tone));
        printer.line(&format!("  outbox      {outbox}{quarantine}"))?;
        let unknown = printer.painted(&Cell::toned("not known", Tone::Odd));
        let Some(records) = &self.records else {
            printer.line(&format!("  kafka       {unknown}"))?;
            return printer.line(&format!("  projection  {unknown}"));
        };
        if records.is_empty() {
            let none = printer.painted(&Cell::toned("no record", Tone::Odd));
            printer.line(&format!("  kafka       {none}"))?;
        }
        for (number, found) in records.iter().enumerate() {
            let again = if number > 0 { ", once more" } else { "" };
            printer.line(&format!("  kafka       {} partition {} offset {}{again}", found.topic, found.partition, found.offset))?;
        }
        views.iter().try_for_each(|view| printer.line(&format!("  projection  {view} {unknown}")))?;
        self.readers.iter().try_for_each(|reader| self.show_reader(reader, printer))?;
        self.troubles.iter().try_for_each(|trouble| trouble.show(printer))
    }

    fn show_reader(&self, reader: &Reader, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let state = if self.troubles.iter().any(Trouble::is_open) {
            Cell::toned("has parked it", Tone::Bad)
        } else if reader.has_read {
            Cell::toned("has read it", Tone::Good)
        } else {
            Cell::toned("has not read it", Tone::Odd)
        };
        let (name, generation, next) = (&reader.projection, reader.generation, reader.next_offset);
        printer.line(&format!("  projection  {name} generation {generation} {}: it goes on at {next}", printer.painted(&state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_or_a_trace_id() {
        assert!(matches!(Sought::parse("01890A5D-ac96-774b-bcce-b302099a8057"), Ok(Sought::Id(_))));
        assert!(matches!(Sought::parse("0AF7651916cd43dd8448eb211c80319c"), Ok(Sought::Trace(trace)) if trace.starts_with("0af7")));
        assert!(Sought::parse("wallets/7").is_err());
    }

    #[test]
    fn the_id_of_an_item_is_not_the_id_of_a_chain() {
        let id = Uuid::from_u128(7);
        let sought = Sought::Id(id);
        assert!(sought.is_of(&json!({ "correlation_id": id.to_string() })));
        assert!(!sought.is_of(&json!({ "item_sent": { "item_id": id.to_string() } })));
    }
}

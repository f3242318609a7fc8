//! `idempo event`: events, decoded; from the stores, or as they come through Kafka.

use std::time::Duration;

use clap::{Args, Subcommand};
use idempo_kafka::{Stretch, TopicPartition};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Cell, Form, Printer, Row, Tone, tell};
use crate::stores::{Decoded, Store, StoredEvent, Wanted, decode, moment, type_number};
use crate::topics::{Found, Topics};
use idempo_message::bytes_text;

const COLUMNS: [&str; 7] = ["RECORDED", "STORE", "SEQ", "STREAM", "VERSION", "TYPE", "DATA"];
/// The pause between two looks at the ends of the topics.
const TAIL_PAUSE: Duration = Duration::from_millis(200);

/// On events.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows one event.
    Show {
        /// Its id.
        event_id: Uuid,
        /// Only in this store.
        #[arg(long)]
        store: Option<String>,
    },
    /// Lists events of the stores, in their order: of a stream, of a player, of a time.
    Stream {
        /// The stream's id.
        stream_id: Option<Uuid>,
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Only from this version of their stream on.
        #[arg(long, value_name = "VERSION")]
        version: Option<i64>,
        /// How many at most, of each store.
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Prints events as they come through Kafka, until it is interrupted.
    Tail {
        /// Only this player's.
        #[arg(long, value_name = "UUID")]
        player: Option<Uuid>,
        /// Only those of this type, such as funds_sent.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// From the first record that is kept on.
        #[arg(long)]
        from_beginning: bool,
        /// Ends after so many.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
    },
}

/// Which events: all that is given must hold.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Only in this store.
    #[arg(long)]
    pub store: Option<String>,
    /// Only this player's.
    #[arg(long, value_name = "UUID")]
    pub player: Option<Uuid>,
    /// Only those recorded then or later: a time, or how long ago, such as 10m.
    #[arg(long, value_name = "MOMENT")]
    pub since: Option<String>,
    /// Only those recorded before.
    #[arg(long, value_name = "MOMENT")]
    pub until: Option<String>,
    /// Only those of this type, such as funds_sent.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
}

impl Which {
    /// What to ask the stores for.
    ///
    /// # Errors
    /// [`Exit::Usage`], [`Exit::NotFound`] where a moment or a type is none.
    pub fn wanted(&self, stream: Option<Uuid>, now: Timestamp) -> Result<Wanted, Failure> {
        Ok(Wanted {
            stream,
            player: self.player,
            since: self.since.as_deref().map(|text| moment(text, now)).transpose()?,
            until: self.until.as_deref().map(|text| moment(text, now)).transpose()?,
            event_type: self.kind.as_deref().map(type_number).transpose()?,
            ..Wanted::default()
        })
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Unavailable`] where stores or brokers are away; [`Exit::NotFound`] where there is no such thing.
pub async fn run(command: Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Show { event_id, store } => show(event_id, store.as_deref(), context, printer).await?,
        Command::Stream { stream_id, which, version, limit } => {
            let wanted = Wanted { version, ..which.wanted(stream_id, context.now())? };
            let mut rows = Vec::new();
            for store in Store::open(context, which.store.as_deref()).await? {
                let events = store.events(&wanted, limit.saturating_add(1)).await?;
                if events.len() > limit {
                    tell(&format!("{} has more than {limit}: --limit shows more", store.name));
                }
                rows.extend(events.iter().take(limit).map(|event| row(event, printer)));
            }
            printer.list(&COLUMNS, &rows)?;
        }
        Command::Tail { player, kind, from_beginning, limit } => {
            kind.as_deref().map(type_number).transpose()?;
            let filter = Tailed { player, kind };
            tail(&filter, from_beginning, limit.unwrap_or(usize::MAX), context, printer).await?;
        }
    }
    Ok(Exit::Done)
}

fn row(event: &StoredEvent, printer: &Printer<'_>) -> Row {
    let decoded = decode(&event.envelope);
    Row {
        json: event.json(),
        cells: vec![
            printer.style.time(Some(event.recorded_at)).into(),
            event.store.as_str().into(),
            event.seq.into(),
            event.stream_id.into(),
            event.version.into(),
            event.kind().into(),
            data_cell(&decoded, &event.envelope),
        ],
    }
}

fn data_cell(decoded: &Decoded, bytes: &[u8]) -> Cell {
    match &decoded.reason {
        None => decoded.data.to_string().into(),
        Some(reason) => Cell::toned(format!("{reason}: {}", bytes_text(bytes)), Tone::Bad),
    }
}

async fn show(event_id: Uuid, store: Option<&str>, context: &Context, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let wanted = Wanted { event_id: Some(event_id), ..Wanted::default() };
    for store in Store::open(context, store).await? {
        let Some(event) = store.events(&wanted, 1).await?.into_iter().next() else { continue };
        let decoded = decode(&event.envelope);
        let fields: [(&str, Cell); 7] = [
            ("event", event.event_id.into()),
            ("type", event.kind().into()),
            ("store", format!("{} #{}", event.store, event.seq).into()),
            ("stream", format!("{} version {}", event.stream_id, event.version).into()),
            ("player", event.partition_key.into()),
            ("recorded", printer.style.time(Some(event.recorded_at)).into()),
            ("bytes", event.envelope.len().into()),
        ];
        printer.one(&event.json(), &fields)?;
        if printer.style.form != Form::Text {
            return Ok(());
        }
        if let Some(reason) = &decoded.reason {
            printer.line(&format!("undecoded  {reason}"))?;
            printer.line(&format!("raw        {}", bytes_text(&event.envelope)))?;
        }
        return decoded.envelope.as_ref().map_or(Ok(()), |envelope| printer.json(envelope));
    }
    let failure = Failure::new(Exit::NotFound, format!("no store has an event {event_id}"));
    Err(failure.hint("`idempo trace` takes ids of commands and requests as well, `idempo event stream` takes streams and players"))
}

/// Which events are printed as they come.
struct Tailed {
    player: Option<Uuid>,
    kind: Option<String>,
}

impl Tailed {
    fn takes(&self, decoded: &Decoded) -> bool {
        let player = decoded.envelope.as_ref().and_then(|envelope| envelope.get("partition_key")).and_then(Value::as_str);
        let is_of_player = self.player.is_none_or(|wanted| player == Some(wanted.hyphenated().to_string().as_str()));
        is_of_player && (self.kind.is_none() || self.kind == decoded.kind)
    }
}

async fn tail(filter: &Tailed, from_beginning: bool, limit: usize, context: &Context, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let topics = Topics::new(context)?;
    let there = topics.there().await?;
    let partitions: Vec<TopicPartition> =
        there.iter().flat_map(|(topic, count)| (0..*count).map(|partition| TopicPartition::new(topic, partition))).collect();
    let bounds = topics.bounds(&partitions).await?;
    let mut next: Vec<i64> = bounds.iter().map(|bounds| if from_beginning { bounds.start } else { bounds.end }).collect();
    let mut printed = 0;
    loop {
        let ends: Vec<i64> = topics.bounds(&partitions).await?.iter().map(|bounds| bounds.end).collect();
        let stretches = partitions.iter().zip(next.iter().zip(&ends));
        let stretches = stretches.map(|(partition, (from, to))| Stretch { partition: partition.clone(), from: *from, to: *to });
        let mut found = topics.read(stretches.collect(), (), |(), _| true).await?;
        // Partitions are read at the same time: of what came together, the order in which it was decided is the most telling.
        let mut decoded: Vec<(Found, Decoded)> =
            found.drain(..).map(|one| (decode(&one.value), one)).map(|(one, found)| (found, one)).collect();
        decoded.sort_by_key(|(_, decoded)| decided_at(decoded));
        for (found, decoded) in decoded.iter().filter(|(_, decoded)| filter.takes(decoded)) {
            line(found, decoded, printer)?;
            printed += 1;
            if printed >= limit {
                return Ok(());
            }
        }
        printer.flush()?;
        next = ends;
        tokio::time::sleep(TAIL_PAUSE).await;
    }
}

fn decided_at(decoded: &Decoded) -> Option<Timestamp> {
    decoded.envelope.as_ref()?.get("decided_at")?.as_str()?.parse().ok()
}

fn line(found: &Found, decoded: &Decoded, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.style.form != Form::Text {
        let mut json = json!({
            "topic": &*found.topic, "partition": found.partition, "offset": found.offset, "event_type": decoded.kind, "envelope": decoded.envelope,
        });
        if let (Some(reason), Value::Object(fields)) = (&decoded.reason, &mut json) {
            fields.insert("undecoded".to_owned(), Value::from(reason.as_str()));
            fields.insert("raw".to_owned(), Value::from(bytes_text(&found.value)));
        }
        // An array that never ends is of no use: also as JSON it is a document a line.
        return printer.line(&json.to_string());
    }
    let at = decided_at(decoded).map_or_else(|| "-".to_owned(), |at| at.to_string());
    let place = format!("{}/{}@{}", found.topic, found.partition, found.offset);
    let kind = decoded.kind.as_deref().unwrap_or("?");
    let text = |name: &str| decoded.envelope.as_ref().and_then(|envelope| envelope.get(name)).map_or_else(|| "-".to_owned(), plain);
    let data = printer.painted(&data_cell(decoded, &found.value));
    printer.line(&format!("{at:<27}  {place:<24}  {kind:<20}  {}  v{:<5}  {data}", text("partition_key"), text("version")))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

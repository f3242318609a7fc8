//! `idempo outbox`: rows that Kafka refuses, and what was done about them.

use clap::{Args, Subcommand, ValueEnum};
use idempo_proto::ops::v1::{
    AuditEntry, GetQuarantinedRowRequest, GetQuarantinedRowResponse, ListAuditEntriesRequest, ListQuarantinedRowsRequest, QuarantineFilter,
    QuarantineState, QuarantinedRow, RequeueRowsRequest, SkipRowsRequest,
};
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use super::relay::{LOOK_AT, relay_call};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Cell, Form, Printer, Row, Style, Tone, tell};
use crate::relays::{Relays, short};
use idempo_message::{enum_text, json_of, time_of};

/// How many things are asked for at a time.
const PAGE_SIZE: i32 = 500;
/// How many bytes of what can't be decoded are shown as text.
const RAW_BYTES_SHOWN_MAX: usize = 256;

const COLUMNS: [&str; 8] = ["SEQ", "STATE", "CODE", "TOPIC", "KEY", "BYTES", "REFUSALS", "SINCE"];
const AUDIT_COLUMNS: [&str; 7] = ["WHEN", "CALLER", "ACTION", "TARGET", "OUTCOME", "DETAIL", "REASON"];

/// On outboxes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists rows in quarantine.
    List {
        /// Of this outbox.
        outbox: String,
        /// Which rows.
        #[command(flatten)]
        filter: Filter,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Shows one row, its event decoded.
    Show {
        /// Of this outbox.
        outbox: String,
        /// The row's number.
        seq: i64,
    },
    /// Has refused rows sent again: those that are named, or those that the filter takes.
    Requeue {
        /// Of this outbox.
        outbox: String,
        /// The rows' numbers.
        #[arg(value_name = "SEQ")]
        seqs: Vec<i64>,
        /// Which rows, where none are named.
        #[command(flatten)]
        filter: Filter,
    },
    /// Has rows never sent: consumers miss them for good.
    Skip {
        /// Of this outbox.
        outbox: String,
        /// The rows' numbers.
        #[arg(required = true, value_name = "SEQ")]
        seqs: Vec<i64>,
    },
    /// Lists what was done to an outbox, newest first; refused tries too.
    Audit {
        /// Of this outbox.
        outbox: String,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
    },
}

/// Which rows: all that is given must hold.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    /// Only those of this key.
    #[arg(long, value_name = "UUID")]
    key: Option<Uuid>,
    /// Only those of this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Only those that are here for this reason, such as RECORD_TOO_LARGE.
    #[arg(long)]
    code: Option<String>,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Refused, with later rows of its key waiting.
    Held,
    /// Waiting behind another.
    Parked,
    /// Refused, with nothing waiting.
    Diverted,
    /// To be sent again.
    Requeued,
    /// In Kafka.
    Sent,
    /// Never sent.
    Skipped,
}

impl From<State> for QuarantineState {
    fn from(state: State) -> Self {
        match state {
            State::Held => Self::Held,
            State::Parked => Self::Parked,
            State::Diverted => Self::Diverted,
            State::Requeued => Self::Requeued,
            State::Sent => Self::Sent,
            State::Skipped => Self::Skipped,
        }
    }
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.key.is_none() && self.topic.is_none() && self.code.is_none()
    }

    fn message(&self, state: Option<State>) -> Result<QuarantineFilter, Failure> {
        let topics = idempo_schemas::topics();
        let topic = self.topic.as_deref().map(|name| {
            let known = topics.topics.iter().map(|topic| topic.name);
            topics.by_name(name).ok_or_else(|| Failure::unknown("topic", name, known))
        });
        Ok(QuarantineFilter {
            key: self.key.map_or_else(String::new, |key| key.hyphenated().to_string()),
            topic_number: topic.transpose()?.map_or(0, |topic| topic.number.into()),
            state: state.map_or(QuarantineState::Unspecified, QuarantineState::from).into(),
            code: self.code.clone().unwrap_or_default(),
        })
    }
}

/// Runs the command.
///
/// # Errors
/// What the relays answered.
pub async fn run(command: Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let outbox = Outbox { relays: Relays::new(context)?, context };
    match command {
        Command::List { outbox: name, filter, state, limit } => {
            let parent = outbox.named(&name).await?;
            let rows = outbox.rows(&parent, &filter.message(state)?, limit).await?;
            let style = printer.style;
            printer.list(&COLUMNS, &rows.iter().map(|one| row(one, &style)).collect::<Vec<_>>())?;
        }
        Command::Show { outbox: name, seq } => {
            let parent = outbox.named(&name).await?;
            show(&outbox.row(&parent, seq).await?, printer)?;
        }
        Command::Requeue { outbox: name, seqs, filter } => outbox.requeue(&name, &seqs, &filter, printer).await?,
        Command::Skip { outbox: name, seqs } => outbox.skip(&name, &seqs, printer).await?,
        Command::Audit { outbox: name, limit } => {
            let parent = outbox.named(&name).await?;
            let entries = outbox.audit(&parent, limit).await?;
            let style = printer.style;
            printer.list(&AUDIT_COLUMNS, &entries.iter().map(|entry| audit_row(entry, &style)).collect::<Vec<_>>())?;
        }
    }
    Ok(Exit::Done)
}

/// What outboxes can be asked.
struct Outbox<'a> {
    relays: Relays<'a>,
    context: &'a Context,
}

impl Outbox<'_> {
    async fn named(&self, name: &str) -> Result<String, Failure> {
        Ok(self.relays.outbox(name).await?.name)
    }

    async fn rows(&self, parent: &str, filter: &QuarantineFilter, limit: usize) -> Result<Vec<QuarantinedRow>, Failure> {
        let mut rows = Vec::new();
        let mut asked = ListQuarantinedRowsRequest {
            parent: parent.to_owned(),
            page_size: PAGE_SIZE,
            filter: Some(filter.clone()),
            page_token: String::new(),
        };
        // One more than is shown, to know whether there is.
        while rows.len() <= limit {
            let call = |mut relay: crate::relays::Client| {
                relay_call(self.context, asked.clone(), async move |request| relay.list_quarantined_rows(request).await)
            };
            let page = self.relays.ask(call).await?;
            rows.extend(page.quarantined_rows);
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        if rows.len() > limit {
            tell(&format!("there are more than {limit}: --limit shows more"));
            rows.truncate(limit);
        }
        Ok(rows)
    }

    async fn row(&self, parent: &str, seq: i64) -> Result<GetQuarantinedRowResponse, Failure> {
        let asked = GetQuarantinedRowRequest { name: format!("{parent}/quarantinedRows/{seq}") };
        let call = |mut relay: crate::relays::Client| {
            relay_call(self.context, asked.clone(), async move |request| relay.get_quarantined_row(request).await)
        };
        let found = self.relays.ask(call).await;
        match found {
            Err(failure) if failure.exit == crate::exit_of(Code::NotFound) => {
                let known = self.rows(parent, &QuarantineFilter::default(), usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX)).await?;
                let known: Vec<String> = known.iter().map(|row| row.seq.to_string()).collect();
                Err(Failure::unknown("row in quarantine", &seq.to_string(), known.iter().map(String::as_str)))
            }
            found => found,
        }
    }

    async fn requeue(&self, name: &str, seqs: &[i64], filter: &Filter, printer: &mut Printer<'_>) -> Result<(), Failure> {
        if seqs.is_empty() == filter.is_empty() {
            return Err(Failure::usage("either rows are named, or --key, --topic or --code takes them"));
        }
        let (parent, reason) = (self.named(name).await?, self.context.reason()?);
        let what = if filter.is_empty() { numbers(seqs) } else { "every refused row that the filter takes".to_owned() };
        if self.context.dry_run && !filter.is_empty() {
            let rows = self.rows(&parent, &filter.message(None)?, usize::MAX).await?;
            let refused = rows.iter().filter(|row| matches!(row.state(), QuarantineState::Held | QuarantineState::Diverted)).count();
            tell(&format!("dry run: the filter takes {refused} refused rows"));
        }
        self.look(&parent, seqs, |state| matches!(state, QuarantineState::Held | QuarantineState::Diverted | QuarantineState::Requeued))
            .await?;
        if !self.context.confirm_on(&parent, &format!("send {what} of {parent} again"))? {
            return Ok(());
        }
        let names = seqs.iter().map(|seq| format!("{parent}/quarantinedRows/{seq}")).collect();
        let filter = if filter.is_empty() { None } else { Some(filter.message(None)?) };
        let asked = RequeueRowsRequest { parent: parent.clone(), names, filter, reason };
        let call = |mut relay: crate::relays::Client| {
            relay_call(self.context, asked.clone(), async move |request| relay.requeue_rows(request).await)
        };
        let count = self.relays.change(LOOK_AT, call).await?.requeued_count;
        printer.one(&json!({ "name": parent, "requeued": count }), &[(short(&parent), format!("{count} rows are to be sent again").into())])
    }

    async fn skip(&self, name: &str, seqs: &[i64], printer: &mut Printer<'_>) -> Result<(), Failure> {
        let (parent, reason) = (self.named(name).await?, self.context.reason()?);
        self.look(&parent, seqs, |state| !matches!(state, QuarantineState::Requeued | QuarantineState::Sent)).await?;
        if !self
            .context
            .confirm_on(&parent, &format!("never send {} of {parent}: whoever reads the topic misses them for good", numbers(seqs)))?
        {
            return Ok(());
        }
        let names = seqs.iter().map(|seq| format!("{parent}/quarantinedRows/{seq}")).collect();
        let asked = SkipRowsRequest { parent: parent.clone(), names, reason };
        let call =
            |mut relay: crate::relays::Client| relay_call(self.context, asked.clone(), async move |request| relay.skip_rows(request).await);
        let count = self.relays.change(LOOK_AT, call).await?.skipped_count;
        printer.one(&json!({ "name": parent, "skipped": count }), &[(short(&parent), format!("{count} rows are never sent").into())])
    }

    /// Looks, before something is said of these rows that is not done, whether they are there and in a state for it. What is done finds it out itself.
    async fn look(&self, parent: &str, seqs: &[i64], is_due: impl Fn(QuarantineState) -> bool) -> Result<(), Failure> {
        if !self.context.dry_run {
            return Ok(());
        }
        for seq in seqs {
            let row = self.row(parent, *seq).await?.quarantined_row.unwrap_or_default();
            if !is_due(row.state()) {
                let state = enum_text(row.state().as_str_name(), "QUARANTINE_STATE_");
                return Err(Failure::new(
                    Exit::Conflict,
                    format!("QUARANTINED_ROW_STATE: row {seq} is {state}, in which state this can't be done to it"),
                ));
            }
        }
        Ok(())
    }

    async fn audit(&self, parent: &str, limit: usize) -> Result<Vec<AuditEntry>, Failure> {
        let mut entries = Vec::new();
        let mut asked = ListAuditEntriesRequest { parent: parent.to_owned(), page_size: PAGE_SIZE, page_token: String::new() };
        // One more than is shown, to know whether there is.
        while entries.len() <= limit {
            let call = |mut relay: crate::relays::Client| {
                relay_call(self.context, asked.clone(), async move |request| relay.list_audit_entries(request).await)
            };
            let page = self.relays.ask(call).await?;
            entries.extend(page.audit_entries);
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        if entries.len() > limit {
            tell(&format!("there are more than {limit}: --limit shows more"));
            entries.truncate(limit);
        }
        Ok(entries)
    }
}

fn numbers(seqs: &[i64]) -> String {
    let list: Vec<String> = seqs.iter().map(ToString::to_string).collect();
    format!("row {}", list.join(", "))
}

fn row(row: &QuarantinedRow, style: &Style) -> Row {
    Row {
        json: json_of("idempo.ops.v1.QuarantinedRow", row),
        cells: vec![
            row.seq.into(),
            state_cell(row.state()),
            row.code.as_str().into(),
            topic_of(row).into(),
            row.key.as_str().into(),
            row.payload_bytes.into(),
            row.refusals.into(),
            style.time(time_of(row.quarantine_time.as_ref())).into(),
        ],
    }
}

fn state_cell(state: QuarantineState) -> Cell {
    let tone = match state {
        QuarantineState::Held | QuarantineState::Diverted => Tone::Bad,
        QuarantineState::Parked | QuarantineState::Requeued | QuarantineState::Unspecified => Tone::Odd,
        QuarantineState::Sent => Tone::Good,
        QuarantineState::Skipped => Tone::Plain,
    };
    Cell::toned(enum_text(state.as_str_name(), "QUARANTINE_STATE_"), tone)
}

fn topic_of(row: &QuarantinedRow) -> String {
    if row.topic.is_empty() { format!("#{}", row.topic_number) } else { row.topic.clone() }
}

fn audit_row(entry: &AuditEntry, style: &Style) -> Row {
    let outcome = if entry.outcome == "DONE" { Tone::Plain } else { Tone::Odd };
    Row {
        json: json_of("idempo.ops.v1.AuditEntry", entry),
        cells: vec![
            style.time(time_of(entry.create_time.as_ref())).into(),
            entry.caller.as_str().into(),
            entry.action.as_str().into(),
            entry.target.as_str().into(),
            Cell::toned(entry.outcome.as_str(), outcome),
            entry.detail.as_str().into(),
            entry.reason.as_str().into(),
        ],
    }
}

fn show(found: &GetQuarantinedRowResponse, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let json = json_of("idempo.ops.v1.GetQuarantinedRowResponse", found);
    let row = found.quarantined_row.clone().unwrap_or_default();
    let style = printer.style;
    printer.one(
        &json,
        &[
            ("row", row.seq.into()),
            ("state", state_cell(row.state())),
            ("code", row.code.as_str().into()),
            ("reason", row.reason.as_str().into()),
            ("refusals", row.refusals.into()),
            ("topic", topic_of(&row).into()),
            ("key", row.key.as_str().into()),
            ("bytes", row.payload_bytes.into()),
            ("recorded", style.time(time_of(row.record_time.as_ref())).into()),
            ("quarantined", style.time(time_of(row.quarantine_time.as_ref())).into()),
            ("changed", style.time(time_of(row.change_time.as_ref())).into()),
        ],
    )?;
    if style.form != Form::Text {
        return Ok(());
    }
    match &found.envelope {
        Some(envelope) => {
            printer.line("event")?;
            printer.json(&json_of("idempo.event.v1.EventEnvelope", envelope))
        }
        None => {
            let shown = found.payload.get(..found.payload.len().min(RAW_BYTES_SHOWN_MAX)).unwrap_or_default();
            printer.line(&format!("payload is no event, or too long to be shown whole; it begins with {}", shown.escape_ascii()))
        }
    }
}

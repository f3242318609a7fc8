//! `idempo relay`: what the relays are doing, and how to hold them.

use clap::Subcommand;
use idempo_proto::ops::v1::{Outbox, OutboxState, PauseOutboxRequest, QuarantineCounts, ResumeOutboxRequest, StepDownRequest};
use jiff::SignedDuration;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Cell, Printer, Row, Style, Tone, span};
use crate::relays::{Relays, short};
use idempo_message::{enum_text, json_of, time_of};

const COLUMNS: [&str; 9] = ["OUTBOX", "STATE", "HOLDER", "EPOCH", "BACKLOG", "AGE", "QUARANTINE", "POSITION", "PROBLEM"];

/// On relays.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows each outbox: who relays it, how far it is, what is in its way.
    Status {
        /// Only this one.
        outbox: Option<String>,
    },
    /// Stops relaying an outbox until it is resumed. Its rows wait; nothing is lost.
    Pause {
        /// Which.
        outbox: String,
    },
    /// Goes on relaying an outbox.
    Resume {
        /// Which.
        outbox: String,
    },
    /// Has the holder of an outbox's lease give it up to a stand-by.
    StepDown {
        /// Which.
        outbox: String,
        /// Only if the lease still has this epoch.
        #[arg(long, default_value_t = 0, value_name = "EPOCH")]
        epoch: i64,
    },
}

/// Where it is seen whether a change was made that is not answered.
pub(super) const LOOK_AT: &str = "`idempo outbox audit`";

/// Runs the command.
///
/// # Errors
/// What the relays answered.
pub async fn run(command: Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let relays = Relays::new(context)?;
    match command {
        Command::Status { outbox } => status(&relays, outbox.as_deref(), printer).await?,
        Command::Pause { outbox } => {
            let (name, reason) = (relays.outbox(&outbox).await?.name, context.reason()?);
            if context.confirm(&format!("stop relaying {name}: what is committed there reaches nobody until it is resumed"))? {
                let asked = PauseOutboxRequest { name: name.clone(), reason };
                relays
                    .change(LOOK_AT, |mut relay| relay_call(context, asked.clone(), async move |request| relay.pause_outbox(request).await))
                    .await?;
                changed(printer, &name, "paused")?;
            }
        }
        Command::Resume { outbox } => {
            let (name, reason) = (relays.outbox(&outbox).await?.name, context.reason()?);
            if context.confirm(&format!("go on relaying {name}"))? {
                let asked = ResumeOutboxRequest { name: name.clone(), reason };
                relays
                    .change(LOOK_AT, |mut relay| {
                        relay_call(context, asked.clone(), async move |request| relay.resume_outbox(request).await)
                    })
                    .await?;
                changed(printer, &name, "resumed")?;
            }
        }
        Command::StepDown { outbox, epoch } => {
            let (outbox, reason) = (relays.outbox(&outbox).await?, context.reason()?);
            let holder = if outbox.holder.is_empty() { "nobody" } else { &outbox.holder };
            if context.confirm(&format!("have {holder} give up {}; a stand-by takes over within seconds", outbox.name))? {
                let asked = StepDownRequest { name: outbox.name.clone(), reason, epoch };
                let answer = relays
                    .change(LOOK_AT, |mut relay| relay_call(context, asked.clone(), async move |request| relay.step_down(request).await));
                let epoch = answer.await?.epoch;
                let json = json!({ "name": outbox.name, "outcome": "asked to step down", "epoch": epoch });
                let what = format!("epoch {epoch} is asked to step down");
                printer.one(&json, &[(short(&outbox.name), what.into())])?;
            }
        }
    }
    Ok(Exit::Done)
}

/// A call with the caller's name and a deadline.
pub(crate) async fn relay_call<M, A>(
    context: &Context,
    message: M,
    call: impl AsyncFnOnce(tonic::Request<M>) -> Result<tonic::Response<A>, tonic::Status>,
) -> Result<tonic::Response<A>, tonic::Status> {
    call(context.request(message)).await
}

/// Tells that an outbox was changed.
fn changed(printer: &mut Printer<'_>, name: &str, outcome: &str) -> Result<(), Failure> {
    printer.one(&json!({ "name": name, "outcome": outcome }), &[(short(name), outcome.into())])
}

async fn status(relays: &Relays<'_>, only: Option<&str>, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let outboxes = match only {
        Some(name) => vec![relays.outbox(name).await?],
        None => relays.outboxes().await?,
    };
    let style = printer.style;
    let rows: Vec<Row> = outboxes.iter().map(|outbox| row(outbox, &style)).collect();
    printer.list(&COLUMNS, &rows)
}

fn row(outbox: &Outbox, style: &Style) -> Row {
    let QuarantineCounts { held, parked, diverted, requeued } = outbox.quarantine.unwrap_or_default();
    let waiting = held + parked + diverted + requeued;
    let age = SignedDuration::from_millis(outbox.backlog_age_ms);
    let problem = if outbox.paused {
        format!("paused by {}: {}", outbox.paused_by, outbox.pause_reason)
    } else if outbox.last_error.is_empty() || outbox.state() == OutboxState::Relaying {
        "-".to_owned()
    } else {
        outbox.last_error.clone()
    };
    Row {
        json: json_of("idempo.ops.v1.Outbox", outbox),
        cells: vec![
            short(&outbox.name).into(),
            Cell::toned(enum_text(outbox.state().as_str_name(), "OUTBOX_STATE_"), tone(outbox)),
            if outbox.holder.is_empty() { Cell::toned("nobody", Tone::Bad) } else { outbox.holder.as_str().into() },
            outbox.epoch.into(),
            outbox.backlog_rows.into(),
            if outbox.backlog_rows == 0 { "-".into() } else { span(age).into() },
            Cell::toned(waiting.to_string(), if waiting == 0 { Tone::Plain } else { Tone::Bad }),
            style.time(time_of(outbox.position_time.as_ref())).into(),
            problem.into(),
        ],
    }
}

fn tone(outbox: &Outbox) -> Tone {
    match outbox.state() {
        OutboxState::Relaying => Tone::Good,
        OutboxState::Starting | OutboxState::Paused | OutboxState::Standby => Tone::Odd,
        OutboxState::Unspecified | OutboxState::Connecting | OutboxState::BrokerAway | OutboxState::Blocked => Tone::Bad,
    }
}

//! `idempo dlq`: records that a consumer could not take: found, understood, rehearsed, replayed, discarded.

mod carry;
mod help;
mod jobs;
mod known;
mod parked;
pub(crate) mod service;
pub(crate) mod shown;
mod states;
mod wait;
mod which;

use std::path::PathBuf;

use clap::{Args, Subcommand, value_parser};
use idempo_proto::ops::v1::{AnnotateDeadLetterRequest, DeadLetterState, RestoreDeadLettersRequest};
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Form, Printer, tell};
use idempo_message::json_of;
use known::Field;
use service::{SEEN_IN_AUDIT, Service, short};
pub use states::{OfJob, OfMember, State};
pub use which::Filter;

/// On dead letters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the groups of open dead letters: one error, event type, topic and consumer each, the largest first.
    #[command(after_help = help::GROUPS)]
    Groups {
        /// Only those of this topic.
        #[arg(long)]
        topic: Option<String>,
        /// Only those of this consumer group.
        #[arg(long)]
        consumer: Option<String>,
    },
    /// Lists dead letters.
    #[command(after_help = help::LIST)]
    List {
        /// Which.
        #[command(flatten)]
        filter: Filter,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Shows one dead letter: why it failed, what waits behind it, and its event, or its bytes where they are none.
    #[command(after_help = help::SHOW)]
    Show {
        /// Its name, as `list` shows it.
        name: String,
    },
    /// Lists what a projection itself has parked, with how much waits behind each: also where the dead-letter service is away.
    #[command(after_help = help::PARKED)]
    Parked {
        /// Which projection.
        projection: String,
        /// Only those of this key.
        #[arg(long)]
        key: Option<String>,
        /// Only those that failed for this reason, such as VERSION_GAP.
        #[arg(long)]
        code: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Makes a job of open dead letters, those that are named or those that the filter takes, and says what it will do. Nothing else changes.
    #[command(after_help = help::PLAN)]
    Plan {
        /// The dead letters' names.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Which, where none are named.
        #[command(flatten)]
        filter: Filter,
        /// The job discards them, instead of replaying them.
        #[arg(long)]
        discard: bool,
    },
    /// Shows what a job would change, by doing it in transactions that are rolled back. Ends with 5 where some would fail.
    #[command(after_help = help::REHEARSE)]
    Rehearse {
        /// Which job.
        job: String,
        /// How many of its members at most, 1 to 1,000.
        #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = value_parser!(i32).range(1..=1_000))]
        max: i32,
    },
    /// Applies a job, or dead letters that are named or that the filter takes: again, and in order what is parked behind them.
    #[command(after_help = help::REPLAY)]
    Replay {
        /// A job, or the dead letters' names.
        #[arg(value_name = "JOB|NAME")]
        which: Vec<String>,
        /// Which, where none are named.
        #[command(flatten)]
        filter: Filter,
        /// How.
        #[command(flatten)]
        pace: Pace,
        /// Also those that were replayed too often in vain.
        #[arg(long)]
        force: bool,
    },
    /// Discards dead letters that are named or that the filter takes: they are never applied, and what is parked behind them is.
    #[command(after_help = help::DISCARD)]
    Discard {
        /// The dead letters' names.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Which, where none are named.
        #[command(flatten)]
        filter: Filter,
        /// How.
        #[command(flatten)]
        pace: Pace,
    },
    /// Lists dead letters as open again of which the consumer has the record still.
    #[command(after_help = help::RESTORE)]
    Restore {
        /// Their names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Writes a note beside a dead letter, in place of the one that it has.
    #[command(after_help = help::ANNOTATE)]
    Annotate {
        /// Its name.
        name: String,
        /// The note; nothing removes the one that is there.
        #[arg(default_value = "")]
        note: String,
    },
    /// Prints dead letters with their bytes, one JSON object a line.
    #[command(after_help = help::EXPORT)]
    Export {
        /// Which.
        #[command(flatten)]
        filter: Filter,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
    },
    /// Takes dead letters from lines that `export` has printed. They can be looked at and exported; `restore` opens those that a consumer still has.
    #[command(after_help = help::IMPORT)]
    Import {
        /// From where; `-` is stdin.
        file: PathBuf,
    },
    /// Lists jobs, newest first.
    #[command(after_help = help::JOBS)]
    Jobs {
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<OfJob>,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
    },
    /// Shows a job; with --members what has become of each of its members.
    #[command(after_help = help::JOB)]
    Job {
        /// Which.
        job: String,
        /// Lists its members instead.
        #[arg(long)]
        members: bool,
        /// Of them, only those in this state.
        #[arg(long, value_enum, requires = "members")]
        state: Option<OfMember>,
        /// How many of them at most.
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Ends a job: what was not sent to a consumer is not sent any more.
    #[command(after_help = help::CANCEL)]
    Cancel {
        /// Which.
        job: String,
    },
    /// Lists what was done to dead letters, newest first; refused tries too.
    #[command(after_help = help::AUDIT)]
    Audit {
        /// How many at most.
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
    },
}

/// How fast a job goes, and who waits for it.
#[derive(Debug, Clone, Copy, Args)]
pub struct Pace {
    /// The most members that are sent in a second; 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = value_parser!(i32).range(0..=1_000_000))]
    rps: i32,
    /// The most members that are settled before the job pauses; 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = value_parser!(i64).range(0..=1_000_000))]
    max: i64,
    /// Stays until the job is done or pauses, and shows how it gets on. Without it that is looked at for 5 s, and the job goes on by itself.
    #[arg(long)]
    wait: bool,
}

impl Command {
    /// Whether it goes on for as long as there is something to do.
    #[must_use]
    pub const fn takes_its_time(&self) -> bool {
        match self {
            Self::Replay { pace, .. } | Self::Discard { pace, .. } => pace.wait,
            Self::Rehearse { .. } | Self::Export { .. } | Self::Import { .. } => true,
            _ => false,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// What the dead-letter service or a projector answered.
pub async fn run(command: Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    // The projectors know what they have parked, whoever else is away.
    if let Command::Parked { projection, key, code, limit } = &command {
        let wanted = parked::Wanted { key: key.clone().unwrap_or_default(), code: code.clone().unwrap_or_default(), limit: *limit };
        return parked::list(projection, &wanted, context, printer).await;
    }
    let service = Service::new(context)?;
    match command {
        Command::Groups { topic, consumer } => groups(topic.as_deref(), consumer.as_deref(), &service, context, printer).await?,
        Command::List { filter, state, limit } => {
            let filter = filter.message(state.map_or(DeadLetterState::Unspecified, Into::into), &service, context).await?;
            let (letters, has_more) = service.letters(&filter, limit).await?;
            tell_of_more(has_more, limit);
            shown::letters(&letters, printer)?;
        }
        Command::Show { name } => shown::letter(&service.letter(&name).await?, printer)?,
        Command::Restore { names } => return restore(&service, &names, context, printer).await,
        Command::Annotate { name, note } => annotate(&service, &name, note, context, printer).await?,
        Command::Export { filter, state } => {
            let filter = filter.message(state.map_or(DeadLetterState::Unspecified, Into::into), &service, context).await?;
            carry::export(&service, filter, context, printer).await?;
        }
        Command::Import { file } => carry::import(&service, &file, context, printer).await?,
        Command::Audit { limit } => {
            let (entries, has_more) = service.audit(limit).await?;
            tell_of_more(has_more, limit);
            shown::audit(&entries, printer)?;
        }
        other => return jobs::run(other, &service, context, printer).await,
    }
    Ok(Exit::Done)
}

/// Says where a list ends early.
fn tell_of_more(has_more: bool, limit: usize) {
    if has_more {
        tell(&format!("there are more than {limit}: --limit shows more"));
    }
}

async fn groups(
    topic: Option<&str>,
    consumer: Option<&str>,
    service: &Service<'_>,
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    known::check(Field::Topic, topic, service, context).await?;
    known::check(Field::Consumer, consumer, service, context).await?;
    let answer = service.groups(topic.unwrap_or_default(), consumer.unwrap_or_default()).await?;
    let counted: i64 = answer.groups.iter().map(|group| group.count).sum();
    if counted < answer.total_count {
        let (shown, total) = (answer.groups.len(), answer.total_count);
        tell(&format!(
            "there are more groups: these {shown} have {counted} of {total} open dead letters; --topic and --consumer take some of them"
        ));
    }
    shown::groups(&answer.groups, printer)
}

async fn restore(service: &Service<'_>, names: &[String], context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let reason = context.reason()?;
    let found = service.letters_named(names).await?;
    if let Some(letter) = found.iter().find(|letter| !letter.job.is_empty()) {
        return Err(which::in_hand(letter));
    }
    if !context.confirm(&format!("list {} as open again, where the consumer has the record still", together(names)))? {
        return Ok(Exit::Done);
    }
    let asked = RestoreDeadLettersRequest { names: names.iter().map(|name| service::letter(name)).collect(), reason };
    let answer = service.change(asked, SEEN_IN_AUDIT, async |client, request| client.restore_dead_letters(request).await).await;
    let letters = or_nearest(service, names, answer).await?.dead_letters;
    shown::letters(&letters, printer)?;
    let lost = letters.iter().filter(|letter| letter.state() == DeadLetterState::ExportOnly).count();
    if lost > 0 {
        tell(&format!("{lost} of {} can only be exported: their consumer does not have the record any more", letters.len()));
        return Ok(Exit::Partial);
    }
    Ok(Exit::Done)
}

async fn annotate(service: &Service<'_>, name: &str, note: String, context: &Context, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let reason = context.reason()?;
    service.letter(name).await?;
    let what = if note.is_empty() { "remove the note beside" } else { "write a note beside" };
    if !context.confirm_on(&service::letter(name), &format!("{what} {}", short(name)))? {
        return Ok(());
    }
    let asked = AnnotateDeadLetterRequest { name: service::letter(name), note, reason };
    let answer = service.change(asked, SEEN_IN_AUDIT, async |client, request| client.annotate_dead_letter(request).await).await;
    let letter = service.or_nearest_letter(name, answer).await?.dead_letter.unwrap_or_default();
    if printer.style.form == Form::Text {
        let note = if letter.note.is_empty() { "none".to_owned() } else { letter.note.clone() };
        return printer.one(&Value::Null, &[("dead letter", short(&letter.name).into()), ("note", note.into())]);
    }
    printer.one(&json_of("idempo.ops.v1.DeadLetter", &letter), &[])
}

/// Of several names of which one is none, says which is, with the nearest.
async fn or_nearest<T>(service: &Service<'_>, names: &[String], answer: Result<T, Failure>) -> Result<T, Failure> {
    let Err(failure) = answer else { return answer };
    // A name that no dead letter can have is a wrong field to the service, and to people one that is not there.
    if matches!(failure.exit, Exit::NotFound | Exit::Usage) {
        service.letters_named(names).await?;
    }
    Err(failure)
}

/// Several names in a sentence.
fn together(names: &[String]) -> String {
    match names {
        [one] => format!("dead letter {}", short(one)),
        several => format!("{} dead letters", several.len()),
    }
}

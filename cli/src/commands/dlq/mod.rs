//! `idempo dlq`: records that a consumer could not take: found, understood, rehearsed, replayed, discarded.

mod carry;
mod jobs;
mod parked;
pub(crate) mod service;
pub(crate) mod shown;
mod wait;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use idempo_proto::ops::v1::{
    AnnotateDeadLetterRequest, DeadLetterFilter, DeadLetterState, JobState, MemberState, RestoreDeadLettersRequest,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Form, Printer, tell};
use crate::stores::moment;
use idempo_message::json_of;
use service::{Service, short};

/// On dead letters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the groups of open dead letters: one error, event type, topic and consumer each, the largest first.
    Groups {
        /// Only those of this topic.
        #[arg(long)]
        topic: Option<String>,
        /// Only those of this consumer group.
        #[arg(long)]
        consumer: Option<String>,
    },
    /// Lists dead letters.
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
    Show {
        /// Its name, as `list` shows it.
        name: String,
    },
    /// Lists what a projection itself has parked, with how much waits behind each: also where the dead-letter service is away.
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
    Rehearse {
        /// Which job.
        job: String,
        /// How many of its members at most, 1 to 1,000.
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        max: i32,
    },
    /// Applies a job, or dead letters that are named or that the filter takes: again, and in order what is parked behind them.
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
    Restore {
        /// Their names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Writes a note beside a dead letter, in place of the one that it has.
    Annotate {
        /// Its name.
        name: String,
        /// The note; nothing removes the one that is there.
        #[arg(default_value = "")]
        note: String,
    },
    /// Prints dead letters with their bytes, one JSON object a line.
    Export {
        /// Which.
        #[command(flatten)]
        filter: Filter,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
    },
    /// Takes dead letters from lines that `export` has printed. They can be looked at and exported; `restore` opens those that a consumer still has.
    Import {
        /// From where; `-` is stdin.
        file: PathBuf,
    },
    /// Lists jobs, newest first.
    Jobs {
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<OfJob>,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
    },
    /// Shows a job; with --members what has become of each of its members.
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
    Cancel {
        /// Which.
        job: String,
    },
    /// Lists what was done to dead letters, newest first; refused tries too.
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
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    rps: i32,
    /// The most members that are settled before the job pauses; 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    max: i64,
    /// Stays until the job is done or pauses, and shows how it gets on. Ends with 5 where some members failed.
    #[arg(long)]
    wait: bool,
}

/// Which dead letters: all that is given must hold.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only those of this group, as `groups` shows it.
    #[arg(long)]
    group: Option<String>,
    /// Only those that failed last for this reason, such as UNKNOWN_EVENT_TYPE.
    #[arg(long)]
    code: Option<String>,
    /// Only those of this type of event, such as item_granted.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only those of this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Only those of this consumer group.
    #[arg(long)]
    consumer: Option<String>,
    /// Only those of this key.
    #[arg(long)]
    key: Option<String>,
    /// Only those that failed last then or later: a time, or how long ago, such as 10m.
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
    /// Only those that failed last before.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
}

/// Where a dead letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// It waits for a decision.
    Open,
    /// Its consumer has applied it.
    Replayed,
    /// Its consumer never applies it.
    Discarded,
    /// Its consumer has it no more.
    Gone,
    /// Its consumer does not have the record.
    ExportOnly,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OfJob {
    /// Nothing was done.
    Planned,
    /// It is being applied.
    Applying,
    /// As many members as were allowed are settled.
    Paused,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled.
    Cancelled,
    /// All members are settled.
    Done,
}

/// What has become of a member of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OfMember {
    /// It was not sent.
    Waiting,
    /// The consumer's answer is not known.
    Sent,
    /// It was applied.
    Applied,
    /// It was discarded.
    Discarded,
    /// It has failed again.
    FailedAgain,
    /// It was gone before.
    Gone,
    /// It was refused.
    Refused,
    /// The job was cancelled before.
    Cancelled,
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

impl Filter {
    /// Whether it takes everything.
    fn is_empty(&self) -> bool {
        let given = [&self.group, &self.code, &self.kind, &self.topic, &self.consumer, &self.key, &self.since, &self.until];
        given.iter().all(|one| one.is_none())
    }

    /// What to ask the service for. A group that is none is not found, with the nearest.
    async fn message(&self, state: DeadLetterState, service: &Service<'_>, now: Timestamp) -> Result<DeadLetterFilter, Failure> {
        let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now).map(timestamp)).transpose();
        let group = match &self.group {
            Some(group) => service.group(group).await?.name,
            None => String::new(),
        };
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        Ok(DeadLetterFilter {
            state: state.into(),
            code: text(&self.code),
            event_type: text(&self.kind),
            topic: text(&self.topic),
            consumer_group: text(&self.consumer),
            key: text(&self.key),
            fail_time_from: time(&self.since)?,
            fail_time_before: time(&self.until)?,
            group,
        })
    }
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
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
        Command::Groups { topic, consumer } => {
            let answer = service.groups(&topic.unwrap_or_default(), &consumer.unwrap_or_default()).await?;
            shown::groups(&answer.groups, printer)?;
        }
        Command::List { filter, state, limit } => {
            let filter = filter.message(state.map_or(DeadLetterState::Unspecified, Into::into), &service, context.now()).await?;
            let (letters, has_more) = service.letters(&filter, limit).await?;
            if has_more {
                tell(&format!("there are more than {limit}: --limit shows more"));
            }
            shown::letters(&letters, printer)?;
        }
        Command::Show { name } => shown::letter(&service.letter(&name).await?, printer)?,
        Command::Restore { names } => return restore(&service, &names, context, printer).await,
        Command::Annotate { name, note } => annotate(&service, &name, note, context, printer).await?,
        Command::Export { filter, state } => {
            let filter = filter.message(state.map_or(DeadLetterState::Unspecified, Into::into), &service, context.now()).await?;
            carry::export(&service, filter, context, printer).await?;
        }
        Command::Import { file } => carry::import(&service, &file, context, printer).await?,
        Command::Audit { limit } => shown::audit(&service.audit(limit).await?, printer)?,
        other => return jobs::run(other, &service, context, printer).await,
    }
    Ok(Exit::Done)
}

async fn restore(service: &Service<'_>, names: &[String], context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let reason = context.reason()?;
    if !context.confirm(&format!("list {} as open again, where the consumer has the record still", together(names)))? {
        return Ok(Exit::Done);
    }
    let asked = RestoreDeadLettersRequest { names: names.iter().map(|name| service::letter(name)).collect(), reason };
    let answer = service.ask(asked, async |client, request| client.restore_dead_letters(request).await).await;
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
    let what = if note.is_empty() { "remove the note beside" } else { "write a note beside" };
    if !context.confirm(&format!("{what} {}", short(name)))? {
        return Ok(());
    }
    let asked = AnnotateDeadLetterRequest { name: service::letter(name), note, reason };
    let answer = service.ask(asked, async |client, request| client.annotate_dead_letter(request).await).await;
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
    if failure.exit == Exit::NotFound {
        for name in names {
            service.letter(name).await?;
        }
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

impl From<State> for DeadLetterState {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Replayed => Self::Replayed,
            State::Discarded => Self::Discarded,
            State::Gone => Self::Gone,
            State::ExportOnly => Self::ExportOnly,
        }
    }
}

impl From<OfJob> for JobState {
    fn from(state: OfJob) -> Self {
        match state {
            OfJob::Planned => Self::Planned,
            OfJob::Applying => Self::Applying,
            OfJob::Paused => Self::Paused,
            OfJob::Cancelling => Self::Cancelling,
            OfJob::Cancelled => Self::Cancelled,
            OfJob::Done => Self::Done,
        }
    }
}

impl From<OfMember> for MemberState {
    fn from(state: OfMember) -> Self {
        match state {
            OfMember::Waiting => Self::Waiting,
            OfMember::Sent => Self::Sent,
            OfMember::Applied => Self::Applied,
            OfMember::Discarded => Self::Discarded,
            OfMember::FailedAgain => Self::FailedAgain,
            OfMember::Gone => Self::Gone,
            OfMember::Refused => Self::Refused,
            OfMember::Cancelled => Self::Cancelled,
        }
    }
}

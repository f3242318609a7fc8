//! `idempo projection`: where read models stand, building one anew beside the live one, comparing, switching, rolling back.

mod changes;
mod chosen;
mod player;
pub(crate) mod projectors;
mod refusals;
mod shown;
mod wait;

use clap::{Subcommand, ValueEnum};
use idempo_message::json_of;
use idempo_proto::ops::v1::{Projection, VerificationState};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Printer, tell};
use projectors::Projectors;

/// On projections.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the projections, with how far each is behind.
    #[command(after_help = "\
Examples:
  idempo projection list
  idempo projection list -o json")]
    List,
    /// Shows a projection with its generations; with --partitions each partition of them.
    #[command(after_help = "\
Examples:
  idempo projection status inventory
  idempo projection status inventory --partitions")]
    Status {
        /// Which.
        projection: String,
        /// Shows the partitions as well.
        #[arg(long)]
        partitions: bool,
    },
    /// Builds a new generation beside the live one.
    #[command(after_help = "\
Examples:
  idempo projection rebuild inventory --reason INC-42 --wait
  idempo projection rebuild inventory --from kafka --rps 5000 --reason INC-42
  idempo projection rebuild inventory --player 01890000-0000-7000-8000-00000000000a --reason INC-42 --dry-run")]
    Rebuild {
        /// Of which.
        projection: String,
        /// From what: the events of the store, or the records of Kafka, which must be all that there ever were.
        #[arg(long, value_enum, default_value_t = Source::Store)]
        from: Source,
        /// How many parts of the store are read at once, 1 to 8; 0 for what the projector thinks best.
        #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(0..=8))]
        workers: i32,
        /// The most events a second, up to 10000000; 0 for no limit.
        #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..=10_000_000))]
        rps: i64,
        /// Stays until it is ready, and shows how it gets on.
        #[arg(long)]
        wait: bool,
        /// No new generation: the rows of this player alone are made anew, in the live one, while players go on.
        #[arg(long, value_name = "ID", conflicts_with_all = ["from", "workers", "rps", "wait"])]
        player: Option<String>,
        /// Of a player: in this generation instead of the live one.
        #[arg(long, value_name = "NUMBER", requires = "player")]
        generation: Option<i32>,
    },
    /// Ends a rebuild that is not ready yet, without a trace.
    #[command(after_help = "\
Examples:
  idempo projection cancel inventory --reason INC-42
  idempo projection cancel inventory 3 --reason INC-42 --yes")]
    Cancel {
        /// Of which.
        projection: String,
        /// The generation; the one that is being built where none is named.
        generation: Option<i32>,
    },
    /// Compares a generation, row by row, and waits for what comes of it. Ends with 8 where it differs.
    #[command(after_help = "\
Examples:
  idempo projection verify inventory --reason INC-42
  idempo projection verify inventory 1 --against fold --reason INC-42 --yes")]
    Verify {
        /// Of which.
        projection: String,
        /// The generation; the newest one that is ready where none is named.
        generation: Option<i32>,
        /// With what: the live generation, or the events of the store, folded anew. For when the live one may be wrong: with the fold it can be compared too.
        #[arg(long, value_enum, default_value_t = Against::Live)]
        against: Against,
    },
    /// Shows a sample of what differed in the last comparison, and what it came to. Ends with 0 where it was equal, with 8 where it was not, and with 4
    /// where there is no outcome. Rows beside the live generation are no fault of one that is equal to the fold.
    #[command(after_help = "\
Examples:
  idempo projection diff inventory
  idempo projection diff inventory 2 -o jsonl")]
    Diff {
        /// Of which.
        projection: String,
        /// The generation; the newest one that was compared where none is named.
        generation: Option<i32>,
    },
    /// Makes a generation the live one. The one that was live keeps projecting, for a way back, and is switched to by its number alone.
    #[command(after_help = "\
Examples:
  idempo projection switch inventory --reason INC-42 --dry-run
  idempo projection switch inventory 3 --reason INC-42 --yes")]
    Switch {
        /// Of which.
        projection: String,
        /// The generation; the newest one that is ready where none is named.
        generation: Option<i32>,
        /// Also if it was found equal neither to the live one nor to the fold, or is behind.
        #[arg(long)]
        force: bool,
    },
    /// Makes the generation live again that was before the last switch.
    #[command(after_help = "\
Examples:
  idempo projection rollback inventory --reason INC-42")]
    Rollback {
        /// Of which.
        projection: String,
        /// Also if it is behind.
        #[arg(long)]
        force: bool,
    },
    /// Removes a generation that is neither live nor being built.
    #[command(after_help = "\
Examples:
  idempo projection drop inventory 2 --reason INC-42")]
    Drop {
        /// Of which.
        projection: String,
        /// The generation.
        generation: i32,
    },
    /// Stops the consumers of a projection until they are resumed. Reads go on, and fall behind.
    #[command(after_help = "\
Examples:
  idempo projection pause inventory --reason INC-42")]
    Pause {
        /// Which.
        projection: String,
    },
    /// Has the consumers go on where they stand: those that were paused, and partitions that have stopped, once the cause is mended.
    #[command(after_help = "\
Examples:
  idempo projection resume inventory --reason INC-42")]
    Resume {
        /// Which.
        projection: String,
    },
    /// Lists what was done to a projection, newest first; refused tries too.
    #[command(after_help = "\
Examples:
  idempo projection audit inventory
  idempo projection audit inventory --limit 500 -o jsonl")]
    Audit {
        /// Of which.
        projection: String,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
    },
}

/// What a generation is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The events of the command service's database.
    Store,
    /// The records of the topic.
    Kafka,
}

/// What a generation is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Against {
    /// The live generation.
    Live,
    /// The fold of the events.
    Fold,
}

impl Command {
    /// Whether it goes on for as long as there is something to do.
    #[must_use]
    pub const fn takes_its_time(&self) -> bool {
        matches!(self, Self::Rebuild { wait: true, .. } | Self::Verify { .. })
    }
}

/// Runs the command.
///
/// # Errors
/// What the projectors answered.
pub async fn run(command: Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let projectors = Projectors::new(context)?;
    match command {
        Command::List => shown::list(&projectors.list().await?, printer)?,
        Command::Status { projection, partitions } => {
            let (projector, found) = projectors.find(&projection).await?;
            shown::status(&projector.projection(&found.name).await?, partitions, printer)?;
        }
        Command::Diff { projection, generation } => return diff(&projectors, &projection, generation, printer).await,
        Command::Audit { projection, limit } => {
            let (projector, found) = projectors.find(&projection).await?;
            shown::audit(&projector.audit(&found.name, limit).await?, printer)?;
        }
        change => return changes::run(change, &projectors, context, printer).await,
    }
    Ok(Exit::Done)
}

async fn diff(projectors: &Projectors<'_>, projection: &str, number: Option<i32>, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let (projector, found) = projectors.find(projection).await?;
    let name = &chosen::compared(&found, number)?.name;
    let answer = projector.verification(name).await?;
    let verification = answer.verification.unwrap_or_default();
    let exit = match verification.state() {
        VerificationState::Equal => Exit::Done,
        VerificationState::Different => Exit::Differences,
        VerificationState::Failed => {
            let text = format!("{name} could not be compared: {}", verification.failure);
            return Err(Failure::new(Exit::Conflict, text).hint("`idempo projection verify` compares it anew"));
        }
        VerificationState::Unspecified => {
            return Err(Failure::new(Exit::Conflict, format!("{name} was never compared")).hint("`idempo projection verify` compares it"));
        }
        state => {
            let text = format!("{name} is being compared still: {}", shown::verification_text(state));
            return Err(Failure::new(Exit::Conflict, text).hint("`idempo projection status` shows what comes of it"));
        }
    };
    tell(&format!("{name}: {}", shown::outcome(&verification)));
    shown::differences(&answer.differences, printer)?;
    Ok(exit)
}

/// A projection as JSON.
fn projection_json(projection: &Projection) -> serde_json::Value {
    json_of("idempo.ops.v1.Projection", projection)
}

//! `idempo projection`: where read models stand, building one anew beside the live one, comparing, switching, rolling back.

mod player;
pub(crate) mod projectors;
mod shown;
mod wait;

use clap::{Subcommand, ValueEnum};
use idempo_proto::ops::v1 as ops;
use idempo_proto::ops::v1::{GenerationState, Projection, RebuildSource, VerificationAgainst, VerificationState};
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::Printer;
use idempo_message::json_of;
use projectors::{Projector, Projectors};

/// On projections.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the projections, with how far each is behind.
    List,
    /// Shows a projection with its generations; with --partitions each partition of them.
    Status {
        /// Which.
        projection: String,
        /// Shows the partitions as well.
        #[arg(long)]
        partitions: bool,
    },
    /// Builds a new generation beside the live one.
    Rebuild {
        /// Of which.
        projection: String,
        /// From what: the events of the store, or the records of Kafka, which must be all that there ever were.
        #[arg(long, value_enum, default_value_t = Source::Store)]
        from: Source,
        /// How many parts of the store are read at once, 1 to 8.
        #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "COUNT")]
        workers: i32,
        /// The most events a second; 0 for no limit.
        #[arg(long, default_value_t = 0, value_name = "COUNT")]
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
    Cancel {
        /// Of which.
        projection: String,
        /// The generation; the one that is being built where none is named.
        generation: Option<i32>,
    },
    /// Compares a generation, row by row, and waits for what comes of it. Ends with 8 where it differs.
    Verify {
        /// Of which.
        projection: String,
        /// The generation; the newest one that is ready where none is named.
        generation: Option<i32>,
        /// With what: the live generation, or the events of the store, folded anew. For when the live one may be wrong: with the fold it can be compared too.
        #[arg(long, value_enum, default_value_t = Against::Live)]
        against: Against,
    },
    /// Shows a sample of what differed in the last comparison.
    Diff {
        /// Of which.
        projection: String,
        /// The generation; the newest one that was compared where none is named.
        generation: Option<i32>,
    },
    /// Makes a generation the live one. The one that was live keeps projecting, for a way back.
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
    Rollback {
        /// Of which.
        projection: String,
        /// Also if it is behind.
        #[arg(long)]
        force: bool,
    },
    /// Removes a generation that is neither live nor being built.
    Drop {
        /// Of which.
        projection: String,
        /// The generation.
        generation: i32,
    },
    /// Stops the consumers of a projection until they are resumed. Reads go on, and fall behind.
    Pause {
        /// Which.
        projection: String,
    },
    /// Has the consumers go on where they stand: those that were paused, and partitions that have stopped, once the cause is mended.
    Resume {
        /// Which.
        projection: String,
    },
    /// Lists what was done to a projection, newest first; refused tries too.
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
        Command::Rebuild { projection, from, workers, rps, wait, player: None, .. } => {
            let (projector, found) = projectors.find(&projection).await?;
            let asked = ops::StartRebuildRequest {
                name: found.name.clone(),
                source: source(from).into(),
                workers,
                events_per_second_max: rps,
                reason: context.reason()?,
            };
            return rebuild(&projector, asked, wait, context, printer).await;
        }
        Command::Cancel { projection, generation } => {
            let (projector, found) = projectors.find(&projection).await?;
            let name = chosen(&found, generation, &[GenerationState::Building])?;
            let reason = context.reason()?;
            if context.confirm(&format!("end the rebuild {name}, and remove what it has built"))? {
                projector
                    .ask(ops::CancelRebuildRequest { name: name.clone(), reason }, async |client, request| {
                        client.cancel_rebuild(request).await
                    })
                    .await?;
                done(printer, &name, "cancelled")?;
            }
        }
        Command::Verify { projection, generation, against } => {
            let (projector, found) = projectors.find(&projection).await?;
            let name = chosen(&found, generation, &[GenerationState::Ready, GenerationState::Retired])?;
            return verify(&projector, name, against, context, printer).await;
        }
        Command::Diff { projection, generation } => {
            let (projector, found) = projectors.find(&projection).await?;
            let name = compared(&found, generation)?;
            let answer = projector.verification(&name).await?;
            shown::differences(&answer.differences, printer)?;
            return Ok(if answer.differences.is_empty() { Exit::Done } else { Exit::Differences });
        }
        Command::Switch { projection, generation, force } => {
            let (projector, found) = projectors.find(&projection).await?;
            let name = chosen(&found, generation, &[GenerationState::Ready, GenerationState::Retired])?;
            let asked = ops::SwitchGenerationRequest { name, live_generation: found.live_generation, force, reason: context.reason()? };
            let what = format!("answer reads of {} from {} instead of generation {}", found.name, asked.name, found.live_generation);
            if context.confirm(&what)? {
                let answer = projector.ask(asked, async |client, request| client.switch_generation(request).await).await?;
                shown::status(&answer.projection.unwrap_or_default(), false, printer)?;
            }
        }
        Command::Rollback { projection, force } => {
            let (projector, found) = projectors.find(&projection).await?;
            let asked = ops::RollBackGenerationRequest { name: found.name.clone(), force, reason: context.reason()? };
            let (from, to) = (found.live_generation, found.previous_generation);
            if context.confirm(&format!("answer reads of {} from generation {to} again instead of {from}", found.name))? {
                let answer = projector.ask(asked, async |client, request| client.roll_back_generation(request).await).await?;
                shown::status(&answer.projection.unwrap_or_default(), false, printer)?;
            }
        }
        other => return simple(other, &projectors, context, printer).await,
    }
    Ok(Exit::Done)
}

/// What needs no more than a request.
async fn simple(command: Command, projectors: &Projectors<'_>, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Rebuild { projection, player: Some(player), generation, .. } => {
            let (projector, found) = projectors.find(&projection).await?;
            player::rebuild(&projector, &found, (&player, generation), context, printer).await?;
        }
        Command::Drop { projection, generation } => {
            let (projector, found) = projectors.find(&projection).await?;
            let (name, reason) = (chosen(&found, Some(generation), &[])?, context.reason()?);
            if context.confirm(&format!("remove {name} with its tables; there is no way back"))? {
                projector
                    .ask(ops::DropGenerationRequest { name: name.clone(), reason }, async |client, request| {
                        client.drop_generation(request).await
                    })
                    .await?;
                done(printer, &name, "is being removed")?;
            }
        }
        Command::Pause { projection } => {
            let (projector, found) = projectors.find(&projection).await?;
            let (name, reason) = (found.name, context.reason()?);
            if context.confirm(&format!("stop the consumers of {name}: reads fall behind until they are resumed"))? {
                projector
                    .ask(ops::PauseProjectionRequest { name: name.clone(), reason }, async |client, request| {
                        client.pause_projection(request).await
                    })
                    .await?;
                done(printer, &name, "paused")?;
            }
        }
        Command::Resume { projection } => {
            let (projector, found) = projectors.find(&projection).await?;
            let (name, reason) = (found.name, context.reason()?);
            if context.confirm(&format!("have the consumers of {name} go on"))? {
                projector
                    .ask(ops::ResumeProjectionRequest { name: name.clone(), reason }, async |client, request| {
                        client.resume_projection(request).await
                    })
                    .await?;
                done(printer, &name, "resumed")?;
            }
        }
        Command::Audit { projection, limit } => {
            let (projector, found) = projectors.find(&projection).await?;
            shown::audit(&projector.audit(&found.name, limit).await?, printer)?;
        }
        _ => {}
    }
    Ok(Exit::Done)
}

async fn rebuild(
    projector: &Projector<'_>,
    asked: ops::StartRebuildRequest,
    wait: bool,
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let from = asked.source().as_str_name().trim_start_matches("REBUILD_SOURCE_").to_lowercase().replace('_', " ");
    if !context.confirm(&format!("build a new generation of {} from the {from}; the live one goes on", asked.name))? {
        return Ok(Exit::Done);
    }
    let answer = projector.ask(asked, async |client, request| client.start_rebuild(request).await).await?;
    let mut generation = answer.generation.unwrap_or_default();
    let exit = if wait { wait::until_ready(projector, &mut generation, context).await? } else { Exit::Done };
    printer.style.now = context.now();
    shown::generation(&generation, printer)?;
    Ok(exit)
}

async fn verify(
    projector: &Projector<'_>,
    name: String,
    against: Against,
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let reason = context.reason()?;
    let (against, with_what) = match against {
        Against::Live => (VerificationAgainst::Live, "the live generation"),
        Against::Fold => (VerificationAgainst::Fold, "the fold of the event store"),
    };
    if !context.confirm(&format!("compare {name} with {with_what}"))? {
        return Ok(Exit::Done);
    }
    let asked = ops::VerifyGenerationRequest { name: name.clone(), reason, against: against.into() };
    projector.ask(asked, async |client, request| client.verify_generation(request).await).await?;
    let answer = wait::until_compared(projector, &name, context).await?;
    let verification = answer.verification.unwrap_or_default();
    shown::verification(&name, &verification, printer)?;
    match verification.state() {
        VerificationState::Equal => Ok(Exit::Done),
        VerificationState::Different => Ok(Exit::Differences),
        _ => Err(Failure::new(Exit::Failed, format!("{name} could not be compared: {}", verification.failure))),
    }
}

const fn source(from: Source) -> RebuildSource {
    match from {
        Source::Store => RebuildSource::EventStore,
        Source::Kafka => RebuildSource::Kafka,
    }
}

/// The name of the generation that is meant: the one with this number, or the newest one in one of these states.
fn chosen(projection: &Projection, number: Option<i32>, states: &[GenerationState]) -> Result<String, Failure> {
    let generations = &projection.generations;
    let found = match number {
        Some(number) => generations.iter().find(|generation| generation.generation == number),
        None => generations.iter().filter(|generation| states.contains(&generation.state())).max_by_key(|generation| generation.generation),
    };
    found.map(|generation| generation.name.clone()).ok_or_else(|| match number {
        Some(number) => {
            let known: Vec<String> = generations.iter().map(|generation| generation.generation.to_string()).collect();
            Failure::unknown(&format!("generation of {}", projection.name), &number.to_string(), known.iter().map(String::as_str))
        }
        None => {
            let wanted: Vec<String> = states.iter().map(|state| shown::state_text(*state)).collect();
            let failure = Failure::new(Exit::Conflict, format!("{} has no generation that is {}", projection.name, wanted.join(" or ")));
            failure.hint("`idempo projection status` shows its generations")
        }
    })
}

/// The name of the generation whose comparison is meant: the one with this number, or the newest one that was compared.
fn compared(projection: &Projection, number: Option<i32>) -> Result<String, Failure> {
    if number.is_some() {
        return chosen(projection, number, &[]);
    }
    let found = projection.generations.iter().filter(|generation| generation.verification.is_some()).max_by_key(|one| one.generation);
    let failure = || Failure::new(Exit::Conflict, format!("no generation of {} was compared yet", projection.name));
    found.map(|generation| generation.name.clone()).ok_or_else(|| failure().hint("`idempo projection verify` compares one"))
}

/// Tells that something was done.
fn done(printer: &mut Printer<'_>, name: &str, outcome: &str) -> Result<(), Failure> {
    printer.one(&json!({ "name": name, "outcome": outcome }), &[(name, outcome.into())])
}

/// A projection as JSON.
fn projection_json(projection: &Projection) -> serde_json::Value {
    json_of("idempo.ops.v1.Projection", projection)
}

#[cfg(test)]
mod tests {
    use idempo_proto::ops::v1::Generation;

    use super::*;

    fn projection() -> Projection {
        let generation = |number: i32, state: GenerationState| Generation {
            name: format!("projections/inventory/generations/{number}"),
            generation: number,
            state: state.into(),
            ..Generation::default()
        };
        Projection {
            name: "projections/inventory".to_owned(),
            generations: vec![
                generation(1, GenerationState::Live),
                generation(3, GenerationState::Ready),
                generation(2, GenerationState::Ready),
            ],
            ..Projection::default()
        }
    }

    #[test]
    fn without_a_number_the_newest_generation_that_fits_is_meant() {
        let name = chosen(&projection(), None, &[GenerationState::Ready]).expect("one is ready");
        assert_eq!(name, "projections/inventory/generations/3");
        let none = chosen(&projection(), None, &[GenerationState::Building]).expect_err("none is being built");
        assert_eq!((none.exit, none.message.as_str()), (Exit::Conflict, "projections/inventory has no generation that is building"));
    }

    #[test]
    fn a_generation_that_is_not_there_is_not_found() {
        let failure = chosen(&projection(), Some(7), &[]).expect_err("there is none");
        assert_eq!((failure.exit, failure.hint.as_deref()), (Exit::NotFound, Some("there are: 1, 3, 2")));
    }
}

//! What changes a projection: each change is looked up before it is asked for, asked of one process, and once.

use idempo_proto::ops::v1 as ops;
use idempo_proto::ops::v1::{GenerationState, Projection, RebuildSource, VerificationAgainst, VerificationState};
use serde_json::json;

use super::chosen::{chosen, numbered, to_be_live};
use super::projectors::{Projector, Projectors};
use super::{Against, Command, Source, player, refusals, shown, wait};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::Printer;

/// What holds for every change to one projection.
struct Change<'a, 'p> {
    projector: Projector<'a>,
    found: Projection,
    context: &'a Context,
    printer: &'a mut Printer<'p>,
}

/// Runs the command.
///
/// # Errors
/// What the projector answered.
pub(super) async fn run<'a>(
    command: Command,
    projectors: &Projectors<'a>,
    context: &'a Context,
    printer: &'a mut Printer<'_>,
) -> Result<Exit, Failure> {
    let (Command::Rebuild { projection, .. }
    | Command::Cancel { projection, .. }
    | Command::Verify { projection, .. }
    | Command::Switch { projection, .. }
    | Command::Rollback { projection, .. }
    | Command::Drop { projection, .. }
    | Command::Pause { projection }
    | Command::Resume { projection }) = &command
    else {
        return Ok(Exit::Done);
    };
    let (projector, found) = projectors.find(projection).await?;
    let mut change = Change { projector, found, context, printer };
    match command {
        Command::Rebuild { player: Some(player), generation, .. } => {
            let Change { projector, found, context, printer } = change;
            player::rebuild(&projector, &found, (&player, generation), context, printer).await?;
        }
        Command::Rebuild { from, workers, rps, wait, .. } => return change.rebuild(from, workers, rps, wait).await,
        Command::Cancel { generation, .. } => change.cancel(generation).await?,
        Command::Verify { generation, against, .. } => return change.verify(generation, against).await,
        Command::Switch { generation, force, .. } => change.switch(generation, force).await?,
        Command::Rollback { force, .. } => change.roll_back(force).await?,
        Command::Drop { generation, .. } => change.drop(generation).await?,
        Command::Pause { .. } => change.pause().await?,
        Command::Resume { .. } => change.resume().await?,
        _ => {}
    }
    Ok(Exit::Done)
}

impl Change<'_, '_> {
    async fn rebuild(&mut self, from: Source, workers: i32, rps: i64, wait: bool) -> Result<Exit, Failure> {
        if from == Source::Kafka && workers != 0 {
            return Err(Failure::usage("--workers is of the store: Kafka is read by the projection's own consumers"));
        }
        let (name, reason) = (self.found.name.clone(), self.context.reason()?);
        if self.context.dry_run {
            refusals::rebuild(&self.found)?;
        }
        let from = match from {
            Source::Store => (RebuildSource::EventStore, "event store"),
            Source::Kafka => (RebuildSource::Kafka, "kafka"),
        };
        if !self.context.confirm_on(&name, &format!("build a new generation of {name} from the {}; the live one goes on", from.1))? {
            return Ok(Exit::Done);
        }
        let asked = ops::StartRebuildRequest { name, source: from.0.into(), workers, events_per_second_max: rps, reason };
        let answer = self.projector.change(&self.found.name, asked, async |client, request| client.start_rebuild(request).await).await?;
        let mut generation = answer.generation.unwrap_or_default();
        if wait {
            wait::until_ready(&self.projector, &mut generation, self.context).await?;
        }
        self.printer.style.now = self.context.now();
        shown::generation(&generation, self.printer)?;
        Ok(Exit::Done)
    }

    async fn cancel(&mut self, number: Option<i32>) -> Result<(), Failure> {
        let generation = chosen(&self.found, number, GenerationState::Building)?;
        let (name, reason) = (generation.name.clone(), self.context.reason()?);
        if self.context.dry_run {
            refusals::in_state(generation, &[GenerationState::Building])?;
        }
        if self.context.confirm_on(&name, &format!("end the rebuild {name}, and remove what it has built"))? {
            let asked = ops::CancelRebuildRequest { name: name.clone(), reason };
            self.projector.change(&self.found.name, asked, async |client, request| client.cancel_rebuild(request).await).await?;
            self.done(&name, "cancelled")?;
        }
        Ok(())
    }

    async fn verify(&mut self, number: Option<i32>, against: Against) -> Result<Exit, Failure> {
        let generation = chosen(&self.found, number, GenerationState::Ready)?;
        let (name, reason) = (generation.name.clone(), self.context.reason()?);
        let (against, with_what) = match against {
            Against::Live => (VerificationAgainst::Live, "the live generation"),
            Against::Fold => (VerificationAgainst::Fold, "the fold of the event store"),
        };
        if self.context.dry_run {
            let states: &[GenerationState] = match against {
                VerificationAgainst::Fold => &[GenerationState::Ready, GenerationState::Retired, GenerationState::Live],
                _ => &[GenerationState::Ready, GenerationState::Retired],
            };
            refusals::in_state(generation, states)?;
        }
        if !self.context.confirm_on(&name, &format!("compare {name} with {with_what}"))? {
            return Ok(Exit::Done);
        }
        let asked = ops::VerifyGenerationRequest { name: name.clone(), reason, against: against.into() };
        self.projector.change(&self.found.name, asked, async |client, request| client.verify_generation(request).await).await?;
        let answer = wait::until_compared(&self.projector, &name, self.context).await?;
        let verification = answer.verification.unwrap_or_default();
        shown::verification(&name, &verification, self.printer)?;
        match verification.state() {
            VerificationState::Equal => Ok(Exit::Done),
            VerificationState::Different => Ok(Exit::Differences),
            _ => Err(Failure::new(Exit::Failed, format!("{name} could not be compared: {}", verification.failure))),
        }
    }

    async fn switch(&mut self, number: Option<i32>, force: bool) -> Result<(), Failure> {
        let (generation, live) = (to_be_live(&self.found, number)?, self.found.live_generation);
        let (name, reason) = (generation.name.clone(), self.context.reason()?);
        if self.context.dry_run {
            refusals::switch(&self.found, generation, force)?;
        }
        let what = if generation.generation == live {
            format!("go on answering reads of {} from {name}, which is live already", self.found.name)
        } else {
            format!("answer reads of {} from {name} instead of generation {live}", self.found.name)
        };
        if self.context.confirm_on(&name, &what)? {
            let asked = ops::SwitchGenerationRequest { name, live_generation: live, force, reason };
            let answer =
                self.projector.change(&self.found.name, asked, async |client, request| client.switch_generation(request).await).await?;
            shown::status(&answer.projection.unwrap_or_default(), false, self.printer)?;
        }
        Ok(())
    }

    async fn roll_back(&mut self, force: bool) -> Result<(), Failure> {
        let (name, reason) = (self.found.name.clone(), self.context.reason()?);
        let (from, to) = (self.found.live_generation, self.found.previous_generation);
        if self.context.dry_run {
            refusals::roll_back(&self.found, force)?;
        }
        let to = if to == 0 { "the generation before".to_owned() } else { format!("generation {to}") };
        if self.context.confirm_on(&name, &format!("answer reads of {name} from {to} again instead of {from}"))? {
            let asked = ops::RollBackGenerationRequest { name, force, reason };
            let answer =
                self.projector.change(&self.found.name, asked, async |client, request| client.roll_back_generation(request).await).await?;
            shown::status(&answer.projection.unwrap_or_default(), false, self.printer)?;
        }
        Ok(())
    }

    async fn drop(&mut self, number: i32) -> Result<(), Failure> {
        let generation = numbered(&self.found, number)?;
        let (name, reason) = (generation.name.clone(), self.context.reason()?);
        if self.context.dry_run {
            refusals::in_state(generation, &[GenerationState::Ready, GenerationState::Retired])?;
        }
        if self.context.confirm_on(&name, &format!("remove {name} with its tables; there is no way back"))? {
            let asked = ops::DropGenerationRequest { name: name.clone(), reason };
            self.projector.change(&self.found.name, asked, async |client, request| client.drop_generation(request).await).await?;
            self.done(&name, "is being removed")?;
        }
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), Failure> {
        let (name, reason) = (self.found.name.clone(), self.context.reason()?);
        let already = if self.found.paused { format!(" ({} has paused it already)", self.found.paused_by) } else { String::new() };
        let what = format!("stop the consumers of {name}: reads fall behind until they are resumed{already}");
        if self.context.confirm_on(&name, &what)? {
            let asked = ops::PauseProjectionRequest { name: name.clone(), reason };
            self.projector.change(&self.found.name, asked, async |client, request| client.pause_projection(request).await).await?;
            self.done(&name, "paused")?;
        }
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), Failure> {
        let (name, reason) = (self.found.name.clone(), self.context.reason()?);
        let mut partitions = self.found.generations.iter().flat_map(|generation| &generation.partitions);
        let has_stopped = partitions.any(|partition| !partition.stop_code.is_empty());
        let already = if self.found.paused || has_stopped { "" } else { " (none is paused, and no partition has stopped)" };
        if self.context.confirm_on(&name, &format!("have the consumers of {name} go on{already}"))? {
            let asked = ops::ResumeProjectionRequest { name: name.clone(), reason };
            self.projector.change(&self.found.name, asked, async |client, request| client.resume_projection(request).await).await?;
            self.done(&name, "resumed")?;
        }
        Ok(())
    }

    /// Tells that something was done.
    fn done(&mut self, name: &str, outcome: &str) -> Result<(), Failure> {
        self.printer.one(&json!({ "name": name, "outcome": outcome }), &[(name, outcome.into())])
    }
}

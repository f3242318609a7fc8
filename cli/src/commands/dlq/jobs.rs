//! Jobs: planned, rehearsed, applied, cancelled.

use idempo_proto::ops::v1::{
    ApplyJobRequest, CancelJobRequest, DeadLetterJob, DeadLetterState, DiscardDeadLettersRequest, JobAction, JobState, MemberState,
    PlanJobRequest, RehearseJobRequest,
};

use super::service::{self, Service, is_job, short};
use super::{Command, Filter, Pace, or_nearest, shown, together, wait};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Printer, tell};

/// How many dead letters are counted before something is done with them.
const COUNTED_MAX: usize = 100_000;
/// How many dead letters can be named in one request.
const NAMES_MAX: usize = 1_000;

pub(super) async fn run(command: Command, service: &Service<'_>, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Plan { names, filter, discard } => {
            let action = if discard { JobAction::Discard } else { JobAction::Replay };
            let asked = Members::of(names, filter, service, context).await?;
            let reason = context.reason()?;
            if context.confirm(&format!("plan a job for {}", asked.text(service).await?))? {
                let job = plan(service, &asked, action, reason).await?;
                printer.style.now = context.now();
                shown::job(&job, printer)?;
            }
        }
        Command::Rehearse { job, max } => return rehearse(service, &job, max, context, printer).await,
        Command::Replay { which, filter, pace, force } => return replay(service, which, filter, (pace, force), context, printer).await,
        Command::Discard { names, filter, pace } => return discard(service, names, filter, pace, context, printer).await,
        Command::Jobs { state, limit } => {
            shown::jobs(&service.jobs(state.map_or(JobState::Unspecified, Into::into), limit).await?, printer)?;
        }
        Command::Job { job, members, state, limit } => {
            let job = service.job(&job).await?;
            if members {
                let state = state.map_or(MemberState::Unspecified, Into::into);
                shown::members(&service.members(&job.name, state, limit).await?, printer)?;
            } else {
                shown::job(&job, printer)?;
            }
        }
        Command::Cancel { job } => {
            let (job, reason) = (service.job(&job).await?, context.reason()?);
            if context.confirm(&format!("end job {}: what was not sent to a consumer is not sent any more", short(&job.name)))? {
                let asked = CancelJobRequest { name: job.name, reason };
                let answer = service.ask(asked, async |client, request| client.cancel_job(request).await).await?;
                shown::job(&answer.job.unwrap_or_default(), printer)?;
            }
        }
        _ => {}
    }
    Ok(Exit::Done)
}

/// Which dead letters a job is to have.
enum Members {
    Named(Vec<String>),
    Filtered(Box<idempo_proto::ops::v1::DeadLetterFilter>),
}

impl Members {
    async fn of(names: Vec<String>, filter: Filter, service: &Service<'_>, context: &Context) -> Result<Self, Failure> {
        if names.is_empty() == filter.is_empty() {
            return Err(Failure::usage(
                "either dead letters are named, or --group, --code, --type, --topic, --consumer, --key, --since or --until takes them",
            ));
        }
        if !names.is_empty() {
            return if names.len() > NAMES_MAX {
                Err(Failure::usage(format!("{NAMES_MAX} names at most: a filter takes more")))
            } else {
                Ok(Self::Named(names))
            };
        }
        Ok(Self::Filtered(Box::new(filter.message(DeadLetterState::Unspecified, service, context.now()).await?)))
    }

    /// What it comes to, in a sentence.
    async fn text(&self, service: &Service<'_>) -> Result<String, Failure> {
        match self {
            Self::Named(names) => Ok(together(names)),
            Self::Filtered(filter) => {
                let open = idempo_proto::ops::v1::DeadLetterFilter { state: DeadLetterState::Open.into(), ..(**filter).clone() };
                let (letters, has_more) = service.letters(&open, COUNTED_MAX).await?;
                let more = if has_more { "more than " } else { "" };
                Ok(format!("the {more}{} open dead letters that the filter takes", letters.len()))
            }
        }
    }
}

async fn plan(service: &Service<'_>, members: &Members, action: JobAction, reason: String) -> Result<DeadLetterJob, Failure> {
    let action = action.into();
    let (names, filter) = match members {
        Members::Named(names) => (names.clone(), None),
        Members::Filtered(filter) => (Vec::new(), Some((**filter).clone())),
    };
    let asked = PlanJobRequest { action, names: names.iter().map(|name| service::letter(name)).collect(), filter, reason };
    let answer = service.ask(asked, async |client, request| client.plan_job(request).await).await;
    Ok(or_nearest(service, &names, answer).await?.job.unwrap_or_default())
}

async fn rehearse(service: &Service<'_>, job: &str, max: i32, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let (job, reason) = (service.job(job).await?, context.reason()?);
    if context.dry_run {
        tell(&format!("dry run: would rehearse job {}, which changes nothing", short(&job.name)));
        return Ok(Exit::Done);
    }
    let asked = RehearseJobRequest { name: job.name, members_max: max, reason };
    let found = service.ask_within(Some(wait::REHEARSAL_LIMIT), asked, async |client, request| client.rehearse_job(request).await).await?;
    shown::rehearsal(&found, printer)?;
    let (apply, fail) = (found.would_apply_count, found.would_fail_count);
    tell(&format!("{apply} of {} would be applied, with {} records; {fail} would fail", apply + fail, found.records));
    if job.member_count > apply + fail {
        tell(&format!("the job has {} members: --max rehearses more", job.member_count));
    }
    Ok(if fail == 0 { Exit::Done } else { Exit::Partial })
}

async fn replay(
    service: &Service<'_>,
    which: Vec<String>,
    filter: Filter,
    (pace, force): (Pace, bool),
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let reason = context.reason()?;
    let job = match which.as_slice() {
        [name] if is_job(name) => {
            let job = service.job(name).await?;
            let what = if job.action() == JobAction::Discard { "discard" } else { "replay" };
            if !context.confirm(&format!("{what} the {} dead letters of job {}", job.member_count, short(&job.name)))? {
                return Ok(Exit::Done);
            }
            job
        }
        names if names.iter().any(|name| is_job(name)) => return Err(Failure::usage("one job, or dead letters by their names")),
        _ => {
            let members = Members::of(which, filter, service, context).await?;
            if !context.confirm(&format!("replay {}", members.text(service).await?))? {
                return Ok(Exit::Done);
            }
            plan(service, &members, JobAction::Replay, reason.clone()).await?
        }
    };
    apply(service, job, (pace, force), reason, context, printer).await
}

async fn discard(
    service: &Service<'_>,
    names: Vec<String>,
    filter: Filter,
    pace: Pace,
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let reason = context.reason()?;
    let members = Members::of(names, filter, service, context).await?;
    let what = format!("discard {}: they are never applied, and what is parked behind them is", members.text(service).await?);
    if !context.confirm(&what)? {
        return Ok(Exit::Done);
    }
    let Members::Named(names) = &members else {
        let job = plan(service, &members, JobAction::Discard, reason.clone()).await?;
        return apply(service, job, (pace, false), reason, context, printer).await;
    };
    let asked = DiscardDeadLettersRequest { names: names.iter().map(|name| service::letter(name)).collect(), reason };
    let answer = service.ask(asked, async |client, request| client.discard_dead_letters(request).await).await;
    let answer = or_nearest(service, names, answer).await?;
    let job = answer.job.unwrap_or_default();
    shown::discarded(&job, &answer.members, printer)?;
    Ok(how_it_ended(&job))
}

/// Has a planned job applied, and stays until it is done where that is wanted.
async fn apply(
    service: &Service<'_>,
    job: DeadLetterJob,
    (pace, force): (Pace, bool),
    reason: String,
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let asked = ApplyJobRequest { name: job.name, members_per_second_max: pace.rps, members_max: pace.max, force, reason };
    let mut job = service.ask(asked, async |client, request| client.apply_job(request).await).await?.job.unwrap_or_default();
    if pace.wait {
        wait::until_settled(service, &mut job).await?;
    }
    printer.style.now = context.now();
    shown::job(&job, printer)?;
    Ok(how_it_ended(&job))
}

/// Failed members are a part that was not done. What runs on has not failed.
fn how_it_ended(job: &DeadLetterJob) -> Exit {
    let counts = job.counts.unwrap_or_default();
    let (failed, done) = (counts.failed_again + counts.refused + counts.cancelled, counts.applied + counts.discarded + counts.gone);
    if failed == 0 {
        return Exit::Done;
    }
    tell(&format!("{failed} of {} were not done: `idempo dlq job {} --members` tells why", job.member_count, short(&job.name)));
    let is_over = matches!(job.state(), JobState::Done | JobState::Cancelled);
    if done == 0 && is_over { Exit::Failed } else { Exit::Partial }
}

#[cfg(test)]
mod tests {
    use idempo_proto::ops::v1::JobCounts;

    use super::*;

    #[test]
    fn a_job_of_which_some_failed_is_partly_done() {
        let job = |applied, failed_again, refused| DeadLetterJob {
            member_count: 3,
            state: JobState::Done.into(),
            counts: Some(JobCounts { applied, failed_again, refused, ..JobCounts::default() }),
            ..DeadLetterJob::default()
        };
        assert_eq!(how_it_ended(&job(3, 0, 0)), Exit::Done);
        assert_eq!(how_it_ended(&job(2, 1, 0)), Exit::Partial);
        assert_eq!(how_it_ended(&job(2, 0, 1)), Exit::Partial);
        assert_eq!(how_it_ended(&job(0, 2, 1)), Exit::Failed);
        let running = DeadLetterJob { state: JobState::Applying.into(), ..job(0, 1, 0) };
        assert_eq!(how_it_ended(&running), Exit::Partial);
    }
}

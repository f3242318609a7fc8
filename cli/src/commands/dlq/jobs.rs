//! Jobs: planned, rehearsed, applied, cancelled.
//!
//! What is applied is planned first, also where it is asked for in one command: a plan fixes the members, so that what is asked about is what is done,
//! and nothing that has failed meanwhile. A dry run, and a question that nobody can be asked, leave no job behind.

use std::io::IsTerminal as _;

use idempo_proto::ops::v1::{
    ApplyJobRequest, CancelJobRequest, DeadLetterJob, JobAction, JobState, MemberState, PlanJobRequest, RehearseJobRequest,
};

use tokio::runtime::Handle;

use super::service::{self, SEEN_IN_JOBS, Service, is_job, short};
use super::which::{Members, in_words};
use super::{Command, Pace, or_nearest, shown, tell_of_more, wait};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Printer, tell};

pub(super) async fn run(command: Command, service: &Service<'_>, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Plan { names, filter, discard } => {
            let action = if discard { JobAction::Discard } else { JobAction::Replay };
            let members = Members::of(names, &filter, service, context).await?;
            let reason = context.reason()?;
            // Whoever says yes to all is not told first what there is now: the plan says what it has.
            if (context.yes && !context.dry_run) || confirmed(&members, action, service, context).await? {
                let job = plan(service, &members, action, reason).await?;
                printer.style.now = context.now();
                shown::job(&job, printer)?;
            }
        }
        Command::Rehearse { job, max } => return rehearse(service, &job, max, context, printer).await,
        Command::Replay { which, filter, pace, force } => {
            let wanted = Wanted { action: JobAction::Replay, pace, force, reason: context.reason()? };
            let is_one_job = matches!(which.as_slice(), [name] if is_job(name));
            if !is_one_job && which.iter().any(|name| is_job(name)) {
                return Err(Failure::usage("one job, or dead letters by their names"));
            }
            let begun = match which.first().filter(|_| is_one_job) {
                Some(name) => begin_planned(name, wanted, service, context).await?,
                None => begin(Members::of(which, &filter, service, context).await?, wanted, service, context).await?,
            };
            return ended(begun, pace, service, context, printer).await;
        }
        Command::Discard { names, filter, pace } => {
            let wanted = Wanted { action: JobAction::Discard, pace, force: false, reason: context.reason()? };
            let begun = begin(Members::of(names, &filter, service, context).await?, wanted, service, context).await?;
            return ended(begun, pace, service, context, printer).await;
        }
        Command::Jobs { state, limit } => {
            let (jobs, has_more) = service.jobs(state.map_or(JobState::Unspecified, Into::into), limit).await?;
            tell_of_more(has_more, limit);
            shown::jobs(&jobs, printer)?;
        }
        Command::Job { job, members, state, limit } => {
            let job = service.job(&job).await?;
            if members {
                let state = state.map_or(MemberState::Unspecified, Into::into);
                let (members, has_more) = service.members(&job.name, state, limit).await?;
                tell_of_more(has_more, limit);
                shown::members(&members, printer)?;
            } else {
                shown::job(&job, printer)?;
            }
        }
        Command::Cancel { job } => cancel(&job, service, context, printer).await?,
        _ => {}
    }
    Ok(Exit::Done)
}

/// How a job is to be applied.
struct Wanted {
    action: JobAction,
    pace: Pace,
    force: bool,
    reason: String,
}

/// Whether anything can be done: not in a dry run, and not where it is to be asked about and nobody can be asked.
fn goes_ahead(context: &Context) -> bool {
    !context.dry_run && (context.yes || std::io::stdin().is_terminal())
}

/// Asks whether a job is to be planned, of what there is now.
async fn confirmed(members: &Members, action: JobAction, service: &Service<'_>, context: &Context) -> Result<bool, Failure> {
    let seen = members.look(service).await?;
    members.confirm(&format!("plan a job that {}s {}", verb(action), seen.text(members)), context)
}

const fn verb(action: JobAction) -> &'static str {
    if matches!(action, JobAction::Discard) { "discard" } else { "replay" }
}

/// What is to be done, as it is asked about.
fn question(action: JobAction, what: &str) -> String {
    match action {
        JobAction::Discard => format!("discard {what}, for good; what is parked behind is applied"),
        _ => format!("replay {what}, and what is parked behind"),
    }
}

async fn plan(service: &Service<'_>, members: &Members, action: JobAction, reason: String) -> Result<DeadLetterJob, Failure> {
    let action = action.into();
    let (names, filter) = match members {
        Members::Named(names) => (names.clone(), None),
        Members::Filtered(filter) => (Vec::new(), Some((**filter).clone())),
    };
    let asked = PlanJobRequest { action, names: names.iter().map(|name| service::letter(name)).collect(), filter, reason };
    let answer = service.change(asked, SEEN_IN_JOBS, async |client, request| client.plan_job(request).await).await;
    Ok(or_nearest(service, &names, answer).await?.job.unwrap_or_default())
}

async fn rehearse(service: &Service<'_>, job: &str, max: i32, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let (job, reason) = (service.job(job).await?, context.reason()?);
    if context.dry_run {
        context.confirm_on(&job.name, &format!("rehearse job {}, which changes nothing", short(&job.name)))?;
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

/// Has dead letters made a job of, and the job begun, once whoever asks has seen what is in it. None where nothing is to be done.
async fn begin(members: Members, wanted: Wanted, service: &Service<'_>, context: &Context) -> Result<Option<DeadLetterJob>, Failure> {
    if !goes_ahead(context) {
        let seen = members.look(service).await?;
        seen.check_free()?;
        members.confirm(&question(wanted.action, &seen.text(&members)), context)?;
        return Ok(None);
    }
    let job = plan(service, &members, wanted.action, wanted.reason.clone()).await?;
    let (name, reason) = (job.name.clone(), wanted.reason.clone());
    match begin_made(job, &members, wanted, service, context).await {
        Ok(job) => Ok(Some(job)),
        Err(failure) => {
            tell(&left_planned(&name, reason, &failure, service));
            Err(failure)
        }
    }
}

/// Ends a job that was made for what has failed, where that is known; gives what people are to be told of it.
fn left_planned(job: &str, reason: String, failure: &Failure, service: &Service<'_>) -> String {
    let name = short(job);
    if matches!(failure.exit, Exit::TimedOut | Exit::Unavailable) {
        return format!("job {name} was planned for this: `idempo dlq job {name}` shows whether it was begun");
    }
    let asked = CancelJobRequest { name: job.to_owned(), reason };
    let cancelled = service.change(asked, SEEN_IN_JOBS, async |client, request| client.cancel_job(request).await);
    // Also after Ctrl-C, which would leave the command here: for as long as one call may take.
    match tokio::task::block_in_place(|| Handle::current().block_on(cancelled)) {
        Ok(_) => format!("job {name}, which was planned for this, is cancelled"),
        Err(other) => {
            format!("job {name} was planned for this, and is not cancelled ({}): `idempo dlq cancel {name}` does it", other.message)
        }
    }
}

/// Begins a job that was just made, once whoever asks has seen what is in it.
async fn begin_made(
    job: DeadLetterJob,
    members: &Members,
    wanted: Wanted,
    service: &Service<'_>,
    context: &Context,
) -> Result<DeadLetterJob, Failure> {
    tell_of_refused(&job, wanted.force);
    if !context.yes {
        context.confirm_on(&job.name, &question(wanted.action, &members.in_words(job.member_count, &job.parts)))?;
    }
    apply(job, wanted, service).await
}

/// Begins a job that was planned before. None where nothing is to be done.
async fn begin_planned(name: &str, wanted: Wanted, service: &Service<'_>, context: &Context) -> Result<Option<DeadLetterJob>, Failure> {
    let job = service.job(name).await?;
    if context.dry_run {
        must_be(&job, &[JobState::Planned, JobState::Paused])?;
    }
    tell_of_refused(&job, wanted.force);
    let counts = job.counts.unwrap_or_default();
    let left = counts.waiting + counts.sent;
    let mut what = format!("{}, as job {}", in_words(job.member_count, &job.parts), short(&job.name));
    if left != job.member_count {
        what = format!("the {left} that are left of {what}");
    }
    if !context.confirm_on(&job.name, &question(job.action(), &what))? {
        return Ok(None);
    }
    apply(job, wanted, service).await.map(Some)
}

/// Tells of members that will be refused.
fn tell_of_refused(job: &DeadLetterJob, force: bool) {
    let guarded: i64 = job.parts.iter().map(|part| part.guarded_count).sum();
    if guarded > 0 && !force && job.action() == JobAction::Replay {
        tell(&format!("{guarded} were replayed too often in vain: they are refused without --force"));
    }
    let unserved: i64 = job.parts.iter().filter(|part| !part.served).map(|part| part.count).sum();
    if unserved > 0 {
        tell(&format!("{unserved} are of consumers that the dead-letter service is not told of: they are refused"));
    }
}

/// Has a job begun.
async fn apply(job: DeadLetterJob, wanted: Wanted, service: &Service<'_>) -> Result<DeadLetterJob, Failure> {
    let Wanted { pace, force, reason, .. } = wanted;
    let asked = ApplyJobRequest { name: job.name, members_per_second_max: pace.rps, members_max: pace.max, force, reason };
    let answer = service.change(asked, SEEN_IN_JOBS, async |client, request| client.apply_job(request).await).await?;
    let job = answer.job.unwrap_or_default();
    tell(&format!("job {} is begun", short(&job.name)));
    Ok(job)
}

/// Waits for what was begun as long as that is wanted, and says how it ended.
async fn ended(
    begun: Option<DeadLetterJob>,
    pace: Pace,
    service: &Service<'_>,
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let Some(mut job) = begun else { return Ok(Exit::Done) };
    let name = short(&job.name).to_owned();
    context.goes_on(format!("`idempo dlq cancel {name}` stops it, `idempo dlq job {name}` shows it"));
    let settled = wait::until_settled(service, &mut job);
    if pace.wait {
        settled.await?;
    } else if let Ok(ended) = tokio::time::timeout(wait::LOOK_LIMIT, settled).await {
        ended?;
    }
    context.has_ended();
    printer.style.now = context.now();
    shown::job(&job, printer)?;
    let (exit, lines) = how_it_ended(&job);
    lines.iter().for_each(|line| tell(line));
    Ok(exit)
}

/// How a command ends that has begun a job, and what people are to be told. What has failed, or is not settled, is a part that was not done.
fn how_it_ended(job: &DeadLetterJob) -> (Exit, Vec<String>) {
    let (name, counts) = (short(&job.name), job.counts.unwrap_or_default());
    let (failed, done) = (counts.failed_again + counts.refused + counts.cancelled, counts.applied + counts.discarded + counts.gone);
    let unsettled = counts.waiting + counts.sent;
    let mut lines = Vec::new();
    for (count, what, state) in [
        (counts.failed_again, "failed again", "failed-again"),
        (counts.refused, "were refused", "refused"),
        (counts.cancelled, "were not sent, because the job was cancelled", "cancelled"),
        (counts.gone, "were settled before, and not by this", "gone"),
    ] {
        if count > 0 {
            lines.push(format!("{count} of {} {what}: `idempo dlq job {name} --members --state {state}`", job.member_count));
        }
    }
    let goes_on = wait::is_under_way(job);
    if goes_on {
        lines
            .push(format!("{unsettled} of {} are not settled yet: job {name} goes on; `idempo dlq job {name}` shows it", job.member_count));
    } else if job.state() == JobState::Paused {
        lines.push(format!("job {name} pauses with {unsettled} left: `idempo dlq replay {name}` goes on with it"));
    }
    let is_over = matches!(job.state(), JobState::Done | JobState::Cancelled);
    let exit = match (failed > 0, goes_on) {
        (false, false) => Exit::Done,
        (true, false) if done == 0 && is_over => Exit::Failed,
        _ => Exit::Partial,
    };
    (exit, lines)
}

async fn cancel(job: &str, service: &Service<'_>, context: &Context, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let (job, reason) = (service.job(job).await?, context.reason()?);
    if context.dry_run {
        let states = [JobState::Planned, JobState::Applying, JobState::Paused, JobState::Cancelling, JobState::Cancelled];
        must_be(&job, &states)?;
    }
    if !context.confirm_on(&job.name, &format!("end job {}: what was not sent to a consumer is not sent any more", short(&job.name)))? {
        return Ok(());
    }
    let asked = CancelJobRequest { name: job.name, reason };
    let answer = service.change(asked, SEEN_IN_JOBS, async |client, request| client.cancel_job(request).await).await?;
    let job = answer.job.unwrap_or_default();
    if job.state() == JobState::Cancelling {
        let (name, sent) = (short(&job.name), job.counts.unwrap_or_default().sent);
        tell(&format!("{sent} were sent before, and come to their end: `idempo dlq job {name}` shows it"));
    }
    shown::job(&job, printer)
}

/// Checks what the service would refuse, where it is not asked to do anything.
///
/// # Errors
/// [`Exit::Conflict`] where the job is in another state.
fn must_be(job: &DeadLetterJob, states: &[JobState]) -> Result<(), Failure> {
    if states.contains(&job.state()) {
        return Ok(());
    }
    let state = idempo_message::enum_text(job.state().as_str_name(), "JOB_STATE_");
    Err(Failure::refused("JOB_STATE", &format!("job {} is {state}, and this can't be done to it then", short(&job.name))))
}

#[cfg(test)]
mod tests {
    use idempo_proto::ops::v1::JobCounts;

    use super::*;

    fn job(state: JobState, counts: JobCounts) -> DeadLetterJob {
        DeadLetterJob {
            name: "deadLetterJobs/7".to_owned(),
            member_count: 3,
            state: state.into(),
            counts: Some(counts),
            ..DeadLetterJob::default()
        }
    }

    #[test]
    fn a_job_of_which_some_failed_is_partly_done() {
        let done = |applied, failed_again, refused| {
            how_it_ended(&job(JobState::Done, JobCounts { applied, failed_again, refused, ..JobCounts::default() })).0
        };
        assert_eq!(done(3, 0, 0), Exit::Done);
        assert_eq!(done(2, 1, 0), Exit::Partial);
        assert_eq!(done(2, 0, 1), Exit::Partial);
        assert_eq!(done(0, 2, 1), Exit::Failed);
    }

    #[test]
    fn a_job_that_goes_on_is_partly_done_and_one_that_pauses_has_done_what_was_asked() {
        let counts = JobCounts { discarded: 1, sent: 1, waiting: 1, ..JobCounts::default() };
        let (exit, lines) = how_it_ended(&job(JobState::Applying, counts));
        assert_eq!((exit, lines.len()), (Exit::Partial, 1));
        assert!(
            lines.iter().any(|line| line.starts_with("2 of 3 are not settled yet") && line.contains("`idempo dlq job 7`")),
            "{lines:?}"
        );
        let (exit, lines) = how_it_ended(&job(JobState::Paused, JobCounts { sent: 0, waiting: 2, ..counts }));
        assert_eq!(exit, Exit::Done);
        assert!(lines.iter().any(|line| line.contains("2 left: `idempo dlq replay 7`")), "{lines:?}");
    }

    #[test]
    fn whoever_wants_to_know_why_members_failed_is_shown_those_alone() {
        let (_, lines) = how_it_ended(&job(JobState::Done, JobCounts { applied: 1, failed_again: 1, refused: 1, ..JobCounts::default() }));
        let hints = ["--state failed-again`", "--state refused`"];
        assert!(lines.len() == 2 && lines.iter().zip(hints).all(|(line, hint)| line.ends_with(hint)), "{lines:?}");
    }
}

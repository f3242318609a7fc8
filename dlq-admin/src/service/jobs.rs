//! Jobs as people plan, begin, cancel and see them.

use idempo_dead_letter::DeadLetterId;
use idempo_proto::ops::v1::{
    ApplyJobRequest, ApplyJobResponse, CancelJobRequest, CancelJobResponse, DeadLetterJob, GetJobRequest, GetJobResponse, JobAction,
    JobMember, JobState, ListJobMembersRequest, ListJobMembersResponse, ListJobsRequest, ListJobsResponse, MemberState, PlanJobRequest,
    PlanJobResponse,
};
use idempo_rpc::operators::{Attempt, Refused, target_of};
use idempo_rpc::status::refusal;
use idempo_rpc::{Violations, refusal as common};
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Error, Row};
use tonic::{Code, Request, Status};

use super::filter::Filter;
use super::{DOMAIN, NAMES_MAX, Named, Service, failed_statement, letter_not_found, messages, named, number_of};

const JOBS_REQUEST: &str = "idempo.ops.v1.ListJobsRequest";
const MEMBERS_REQUEST: &str = "idempo.ops.v1.ListJobMembersRequest";
/// The most members of a job.
const MEMBERS_MAX: i64 = 1_000_000;
/// How often a dead letter is replayed in vain until its consumer refuses it unless forced.
const REPLAYS_MAX: i32 = 5;
/// The name of a job.
const JOB_PATTERN: &str = "deadLetterJobs/{id}";

/// Of what a job is to be made.
pub(super) struct Plan<'a> {
    /// `replay` or `discard`.
    pub(super) wanted: &'static str,
    /// Dead letters by their names, or else by the filter.
    pub(super) names: Option<Vec<DeadLetterId>>,
    pub(super) filter: Filter,
    pub(super) caller: &'a str,
}

/// How a job is to be applied.
pub(super) struct Pace {
    pub(super) members_per_second_max: i32,
    pub(super) members_max: i64,
    pub(super) force: bool,
}

impl Service {
    pub(super) async fn plan(&self, request: Request<PlanJobRequest>) -> Result<PlanJobResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let mut attempt = Attempt { metadata, action: "plan", target: target_of(&asked.names), reason: &asked.reason };
        let outcome = self.try_plan(&mut attempt, asked).await;
        let job = attempt.concluded(self, outcome).await?;
        Ok(PlanJobResponse { job: Some(self.job(job).await?) })
    }

    async fn try_plan(&self, attempt: &mut Attempt<'_>, asked: &PlanJobRequest) -> Result<i64, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let action = violations.optional_enumeration::<JobAction>("action", asked.action);
        let filter = Filter::of(&mut violations, asked.filter.as_ref());
        let names = if asked.names.is_empty() { Some(None) } else { named(&mut violations, &asked.names, NAMES_MAX).map(Some) };
        if let Some(filter) = &filter {
            violations.check(filter.takes_all() != asked.names.is_empty(), "names", || {
                "or `filter` with one of its fields must be given, and not both".to_owned()
            });
            violations.check(filter.state.is_none(), "filter.state", || "must not be given: open dead letters are taken".to_owned());
        }
        let (caller, action, filter, names) = violations.accept(DOMAIN, (caller, action, filter, names))?;
        let wanted = if action == Some(JobAction::Discard) { "discard" } else { "replay" };
        if names.is_none() {
            attempt.target = filter.target();
        }
        self.make_job(attempt, Plan { wanted, names, filter, caller: &caller }).await
    }

    /// Makes a job; gives its number.
    pub(super) async fn make_job(&self, attempt: &Attempt<'_>, plan: Plan<'_>) -> Result<i64, Refused> {
        let Plan { wanted, names, filter, caller } = plan;
        let names: Option<Named> = names.map(|names| names.into_iter().collect());
        let (groups, topics) = (names.as_ref().map(|names| &names.groups), names.as_ref().map(|names| &names.topics));
        let (partitions, offsets) = (names.as_ref().map(|names| &names.partitions), names.as_ref().map(|names| &names.offsets));
        let Filter { code, event_type, topic, consumer_group, key, from, before, group, .. } = &filter;
        let parameters: [&(dyn ToSql + Sync); 19] = [
            &wanted,
            &groups,
            &topics,
            &partitions,
            &offsets,
            group,
            code,
            event_type,
            topic,
            consumer_group,
            key,
            from,
            before,
            &REPLAYS_MAX,
            &MEMBERS_MAX,
            &attempt.action,
            &attempt.target,
            &caller,
            &attempt.reason,
        ];
        let row = self.query_one(include_str!("../sql/plan_job.sql"), &parameters).await.map_err(Refused::Noted)?;
        let (outcome, culprit): (String, Option<String>) = (column(&row, 0)?, column(&row, 1)?);
        let culprit = culprit.unwrap_or_default();
        Err(Refused::Noted(match outcome.as_str() {
            "DONE" => return column::<Option<i64>>(&row, 2).map(Option::unwrap_or_default),
            "DEAD_LETTER_NOT_FOUND" => letter_not_found(&culprit),
            "DEAD_LETTER_NOT_OPEN" => {
                let refused = refusal(Code::FailedPrecondition, "DEAD_LETTER_NOT_OPEN", DOMAIN, format!("{culprit} is not open"));
                refused
                    .metadata("name", &culprit)
                    .precondition("STATE", culprit, "it is settled, or its consumer does not have it")
                    .into_status()
            }
            "NO_DEAD_LETTERS" => {
                let refused = refusal(Code::FailedPrecondition, "NO_DEAD_LETTERS", DOMAIN, "no open dead letter fits the filter");
                refused.precondition("MEMBERS", attempt.target.as_str(), "none is open").into_status()
            }
            _ => {
                let message = format!("more than {MEMBERS_MAX} dead letters fit the filter");
                let refused = refusal(Code::FailedPrecondition, "JOB_TOO_LARGE", DOMAIN, message);
                refused.precondition("MEMBERS", attempt.target.as_str(), "there are too many").into_status()
            }
        }))
    }

    pub(super) async fn apply(&self, request: Request<ApplyJobRequest>) -> Result<ApplyJobResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = attempt(metadata, "apply", &asked.name, &asked.reason);
        let outcome = self.try_apply(&attempt, asked).await;
        let job = attempt.concluded(self, outcome).await?;
        Ok(ApplyJobResponse { job: Some(self.job(job).await?) })
    }

    async fn try_apply(&self, attempt: &Attempt<'_>, asked: &ApplyJobRequest) -> Result<i64, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let rate = violations.int("members_per_second_max", asked.members_per_second_max.into(), 0..=1_000_000);
        let most = violations.int("members_max", asked.members_max, 0..=MEMBERS_MAX);
        let (caller, rate, members_max) = violations.accept(DOMAIN, (caller, rate, most))?;
        let job = job_number(&asked.name)?;
        let pace = Pace { members_per_second_max: i32::try_from(rate).unwrap_or(i32::MAX), members_max, force: asked.force };
        self.begin_job(attempt, job, &caller, &pace).await?;
        Ok(job)
    }

    /// Begins to apply a job.
    pub(super) async fn begin_job(&self, attempt: &Attempt<'_>, job: i64, caller: &str, pace: &Pace) -> Result<(), Refused> {
        let Pace { members_per_second_max, members_max, force } = pace;
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&job, members_per_second_max, members_max, force, &attempt.action, &caller, &attempt.reason];
        let row = self.query_one(include_str!("../sql/apply_job.sql"), &parameters).await.map_err(Refused::Noted)?;
        let (outcome, culprit, number): (String, Option<String>, Option<i64>) = (column(&row, 0)?, column(&row, 1)?, column(&row, 2)?);
        let (culprit, number) = (culprit.unwrap_or_default(), number.unwrap_or_default());
        let refused = |reason: &str, message: String| {
            let refused = refusal(Code::FailedPrecondition, reason, DOMAIN, message).metadata("name", &culprit).metadata("count", number);
            Refused::Noted(refused.precondition("MEMBERS", messages::job_name(job), reason).into_status())
        };
        match outcome.as_str() {
            "DONE" => {
                self.bell.notify_waiters();
                Ok(())
            }
            "JOB_MEMBERS_CHANGED" => {
                let message = format!("{number} members have changed since the plan, such as {culprit}; it is to be planned anew");
                Err(refused("JOB_MEMBERS_CHANGED", message))
            }
            "DEAD_LETTER_IN_JOB" => {
                let message = format!("{number} members are in another job that is being applied, such as {culprit}");
                Err(refused("DEAD_LETTER_IN_JOB", message))
            }
            outcome => Err(not_in_that_state(outcome, job, &culprit)),
        }
    }

    pub(super) async fn cancel(&self, request: Request<CancelJobRequest>) -> Result<CancelJobResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = attempt(metadata, "cancel", &asked.name, &asked.reason);
        let outcome = async {
            let mut violations = Violations::new();
            let caller = attempt.caller(&mut violations);
            let (caller,) = violations.accept(DOMAIN, (caller,))?;
            let job = job_number(&asked.name)?;
            self.end_job(&attempt, job, &caller).await?;
            Ok(job)
        };
        let outcome = outcome.await;
        let job = attempt.concluded(self, outcome).await?;
        Ok(CancelJobResponse { job: Some(self.job(job).await?) })
    }

    /// Has a job cancelled.
    pub(super) async fn end_job(&self, attempt: &Attempt<'_>, job: i64, caller: &str) -> Result<(), Refused> {
        let row = self.query_one(include_str!("../sql/cancel_job.sql"), &[&job, &caller, &attempt.reason]).await.map_err(Refused::Noted)?;
        let (outcome, culprit): (String, Option<String>) = (column(&row, 0)?, column(&row, 1)?);
        match outcome.as_str() {
            "DONE" => Ok(()),
            outcome => Err(not_in_that_state(outcome, job, &culprit.unwrap_or_default())),
        }
    }

    pub(super) async fn read_job(&self, request: Request<GetJobRequest>) -> Result<GetJobResponse, Status> {
        let job = job_number(&request.get_ref().name)?;
        Ok(GetJobResponse { job: Some(self.job(job).await?) })
    }

    /// A job with its parts.
    pub(super) async fn job(&self, job: i64) -> Result<DeadLetterJob, Status> {
        let rows = self.query(include_str!("../sql/get_job.sql"), &[&job]).await?;
        let row = rows.first().ok_or_else(|| job_not_found(&messages::job_name(job)))?;
        messages::job(row, &self.consumers).map_err(failed_statement)
    }

    pub(super) async fn list_jobs_page(&self, request: Request<ListJobsRequest>) -> Result<ListJobsResponse, Status> {
        let asked = request.get_ref();
        let mut violations = Violations::new();
        let page = violations.numbered_page(JOBS_REQUEST, asked, asked.page_size, &asked.page_token);
        let state = violations.optional_enumeration::<JobState>("state", asked.state);
        let (page, state) = violations.accept(DOMAIN, (page, state))?;
        let state = state.and_then(messages::job_state_name);
        let rows = self.query(include_str!("../sql/list_jobs.sql"), &[&page.last_or(i64::MAX), &state, &page.wanted()]).await?;
        let read = |row: &Row| Ok((row.try_get("id")?, messages::job(row, &self.consumers)?));
        let found = rows.iter().map(read).collect::<Result<_, Error>>().map_err(failed_statement)?;
        let (jobs, next_page_token) = page.cut(JOBS_REQUEST, asked, found);
        Ok(ListJobsResponse { jobs, next_page_token })
    }

    pub(super) async fn list_members(&self, request: Request<ListJobMembersRequest>) -> Result<ListJobMembersResponse, Status> {
        let asked = request.get_ref();
        let mut violations = Violations::new();
        let page = violations.numbered_page(MEMBERS_REQUEST, asked, asked.page_size, &asked.page_token);
        let state = violations.optional_enumeration::<MemberState>("state", asked.state);
        let (page, state) = violations.accept(DOMAIN, (page, state))?;
        let job = job_number(&asked.parent)?;
        let state = state.and_then(messages::member_state_name);
        let found = self.members(job, page.last_or(0), state, page.wanted()).await?;
        if found.is_empty() {
            self.job(job).await?;
        }
        let (members, next_page_token) = page.cut(MEMBERS_REQUEST, asked, found);
        Ok(ListJobMembersResponse { members, next_page_token })
    }

    /// Members of a job with their ordinals.
    pub(super) async fn members(
        &self,
        job: i64,
        behind: i64,
        state: Option<&'static str>,
        limit: i64,
    ) -> Result<Vec<(i64, JobMember)>, Status> {
        let rows = self.query(include_str!("../sql/list_members.sql"), &[&job, &behind, &state, &limit]).await?;
        let read = |row: &Row| Ok((row.try_get("ordinal")?, messages::member(row)?));
        rows.iter().map(read).collect::<Result<_, Error>>().map_err(failed_statement)
    }
}

/// A mutation of a job that was asked for.
pub(super) fn attempt<'a>(metadata: &'a tonic::metadata::MetadataMap, action: &'static str, name: &str, reason: &'a str) -> Attempt<'a> {
    Attempt { metadata, action, target: name.chars().filter(|c| !c.is_control()).collect(), reason }
}

/// The number of a job by its name.
pub(super) fn job_number(name: &str) -> Result<i64, Status> {
    number_of(JOB_PATTERN, name).ok_or_else(|| job_not_found(name))
}

fn job_not_found(name: &str) -> Status {
    common::not_found(DOMAIN, "JOB_NOT_FOUND", "job of dead letters", name).into_status()
}

fn not_in_that_state(outcome: &str, job: i64, state: &str) -> Refused {
    let name = messages::job_name(job);
    Refused::Noted(if outcome == "JOB_NOT_FOUND" {
        job_not_found(&name)
    } else {
        let refused =
            refusal(Code::FailedPrecondition, "JOB_STATE", DOMAIN, format!("the job is {state}, and this can't be done to it then"));
        refused.metadata("state", state).precondition("STATE", name, state).into_status()
    })
}

fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Refused> {
    row.try_get(at).map_err(|error| Refused::Noted(failed_statement(error)))
}

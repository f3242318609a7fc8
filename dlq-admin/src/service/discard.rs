//! Discarding what is named, in one request.

use std::time::Duration;

use idempo_proto::ops::v1::{DeadLetterJob, DiscardDeadLettersRequest, DiscardDeadLettersResponse, JobState};
use idempo_rpc::operators::{Attempt, Refused, target_of};
use idempo_rpc::{Deadline, Violations};
use tokio::time::{Instant, sleep};
use tonic::{Request, Status};

use super::filter::Filter;
use super::jobs::{Pace, Plan, job_number};
use super::{DOMAIN, NAMES_MAX, Service, named};

/// How often it is looked whether the job has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

impl Service {
    /// A discard is a job like any other, planned and begun at once, so that it is done though this process dies, and done by one.
    pub(super) async fn discard(&self, request: Request<DiscardDeadLettersRequest>) -> Result<DiscardDeadLettersResponse, Status> {
        let until = Instant::now() + Deadline::of(&request).wait_budget();
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = Attempt { metadata, action: "discard", target: target_of(&asked.names), reason: &asked.reason };
        let outcome = self.begin_discard(&attempt, asked).await;
        let job = attempt.concluded(self, outcome).await?;
        let job = self.wait_for(job, until).await?;
        let members = self.members(job_number(&job.name)?, 0, None, i64::try_from(NAMES_MAX).unwrap_or(i64::MAX)).await?;
        Ok(DiscardDeadLettersResponse { job: Some(job), members: members.into_iter().map(|(_, member)| member).collect() })
    }

    async fn begin_discard(&self, attempt: &Attempt<'_>, asked: &DiscardDeadLettersRequest) -> Result<i64, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let names = named(&mut violations, &asked.names, NAMES_MAX);
        let (caller, names) = violations.accept(DOMAIN, (caller, names))?;
        let plan = Plan { wanted: "discard", names: Some(names), filter: Filter::default(), caller: &caller };
        let job = self.make_job(attempt, plan).await?;
        let pace = Pace { members_per_second_max: 0, members_max: 0, force: false };
        match self.begin_job(attempt, job, &caller, &pace).await {
            Ok(()) => Ok(job),
            Err(refused) => {
                // Nobody asked for a job that waits.
                self.end_job(attempt, job, &caller).await?;
                Err(refused)
            }
        }
    }

    /// The job when it has ended, or as it is when time is over.
    async fn wait_for(&self, job: i64, until: Instant) -> Result<DeadLetterJob, Status> {
        loop {
            let found = self.job(job).await?;
            let is_under_way = matches!(found.state(), JobState::Applying | JobState::Cancelling);
            if !is_under_way || Instant::now() + LOOK_INTERVAL >= until {
                return Ok(found);
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

//! Rehearsing a job: what its members would come to, said by their consumers.

use std::collections::HashMap;
use std::time::Duration;

use idempo_proto::ops::v1::{
    DeadLetterJob, JobAction, JobState, ParkedLetterRehearsal, RehearseJobRequest, RehearseJobResponse, RehearseParkedLettersRequest,
    RehearsedMember, RowDifference,
};
use idempo_rpc::operators::{Attempt, Refused};
use idempo_rpc::status::{reason, refusal};
use idempo_rpc::{Deadline, Violations};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Request, Status};

use super::jobs::{attempt, job_number};
use super::{DOMAIN, Service, failed_statement, messages};
use crate::consumers::asked_by;

/// The most members that are rehearsed, and how many where nothing is said.
const MEMBERS_MAX: i64 = 1_000;
const MEMBERS_DEFAULT: i64 = 100;
/// The most members that a consumer rehearses at once.
const CHUNK_MEMBERS_MAX: usize = 100;
/// The most differences that are answered.
const DIFFERENCES_MAX: usize = 100;

impl Service {
    pub(super) async fn rehearse(&self, request: Request<RehearseJobRequest>) -> Result<RehearseJobResponse, Status> {
        let until = Instant::now() + Deadline::of(&request).wait_budget();
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = attempt(metadata, "rehearse", &asked.name, &asked.reason);
        let outcome = self.try_rehearse(&attempt, asked, until).await;
        attempt.concluded(self, outcome).await
    }

    async fn try_rehearse(
        &self,
        attempt: &Attempt<'_>,
        asked: &RehearseJobRequest,
        until: Instant,
    ) -> Result<RehearseJobResponse, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let most = violations.int("members_max", asked.members_max.into(), 0..=MEMBERS_MAX);
        let (caller, most) = violations.accept(DOMAIN, (caller, most))?;
        let number = job_number(&asked.name)?;
        let job = self.job(number).await?;
        if !matches!(job.state(), JobState::Planned | JobState::Paused) {
            return Err(Refused::ToNote(under_way(number, &job)));
        }
        let most = if most == 0 { MEMBERS_DEFAULT } else { most };
        let rows = self.query(include_str!("../sql/first_members.sql"), &[&number, &most]).await?;
        let mut chunks: Vec<(String, Vec<String>)> = Vec::new();
        for row in &rows {
            let read = || Ok((row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?));
            let (group, name) = read().map_err(failed_statement)?;
            match chunks.last_mut() {
                Some((of, names)) if *of == group && names.len() < CHUNK_MEMBERS_MAX => names.push(name),
                _ => chunks.push((group, vec![name])),
            }
        }
        let mut answer = RehearseJobResponse::default();
        for (group, names) in chunks {
            self.rehearse_chunk(&mut answer, (&group, names), job.action() == JobAction::Discard, (&caller, until)).await;
        }
        let detail = format!(
            "{} would be applied with {} records, {} would fail",
            answer.would_apply_count, answer.records, answer.would_fail_count
        );
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&number, &caller, &attempt.reason, &detail];
        self.query(include_str!("../sql/note_rehearsal.sql"), &parameters).await.map_err(Refused::Noted)?;
        Ok(answer)
    }

    /// Has members of one consumer group rehearsed. What the consumer does not say stands in the answer as a reason, not as an error of the whole.
    async fn rehearse_chunk(
        &self,
        answer: &mut RehearseJobResponse,
        (group, names): (&str, Vec<String>),
        discard: bool,
        (caller, until): (&str, Instant),
    ) {
        let asked = async {
            let Some(mut consumer) = self.consumers.of(group) else {
                return Err(("CONSUMER_UNKNOWN".to_owned(), format!("the service is not told which consumer has {group}")));
            };
            let limit = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let message = RehearseParkedLettersRequest { names: names.clone(), discard };
            match timeout_at(until, consumer.rehearse_parked_letters(asked_by(caller, limit, message))).await {
                Ok(Ok(rehearsed)) => Ok(rehearsed.into_inner()),
                Ok(Err(status)) => Err((reason(&status).unwrap_or_else(|| status.code().to_string()), status.message().to_owned())),
                Err(_) => Err(("DEADLINE_EXCEEDED".to_owned(), "there was no time left to rehearse it".to_owned())),
            }
        };
        match asked.await {
            Ok(rehearsed) => {
                let mut found: HashMap<String, ParkedLetterRehearsal> =
                    rehearsed.rehearsals.into_iter().map(|rehearsal| (rehearsal.name.clone(), rehearsal)).collect();
                for name in names {
                    let rehearsal = found.remove(&name);
                    add(answer, member(name, rehearsal));
                }
                let room = DIFFERENCES_MAX.saturating_sub(answer.differences.len());
                let shown = rehearsed.differences.into_iter().take(room);
                answer.differences.extend(shown.map(|row| RowDifference {
                    table: row.table,
                    key: row.key,
                    before: row.before,
                    after: row.after,
                }));
            }
            Err((code, reason)) => {
                for name in names {
                    add(answer, RehearsedMember { name, code: code.clone(), reason: reason.clone(), ..Default::default() });
                }
            }
        }
    }
}

fn add(answer: &mut RehearseJobResponse, member: RehearsedMember) {
    if member.would_apply {
        answer.would_apply_count += 1;
        answer.records += member.records;
    } else {
        answer.would_fail_count += 1;
    }
    answer.members.push(member);
}

/// What a consumer says would become of a dead letter.
fn member(name: String, rehearsal: Option<ParkedLetterRehearsal>) -> RehearsedMember {
    let Some(rehearsal) = rehearsal else {
        let reason = "its consumer did not say".to_owned();
        return RehearsedMember { name, code: "NOT_REHEARSED".to_owned(), reason, ..Default::default() };
    };
    if rehearsal.gone {
        let reason = "its consumer does not have it any more".to_owned();
        return RehearsedMember { name, code: "DEAD_LETTER_GONE".to_owned(), reason, ..Default::default() };
    }
    let records = rehearsal.would_apply_records;
    match rehearsal.would_fail {
        None => RehearsedMember { name, would_apply: true, records, ..Default::default() },
        Some(failure) => {
            RehearsedMember { name, would_apply: false, records, fail_offset: failure.offset, code: failure.code, reason: failure.reason }
        }
    }
}

fn under_way(number: i64, job: &DeadLetterJob) -> Status {
    let refused = refusal(Code::FailedPrecondition, "JOB_STATE", DOMAIN, "a job is rehearsed before it is applied, or while it pauses");
    refused.precondition("STATE", messages::job_name(number), job.state().as_str_name()).into_status()
}

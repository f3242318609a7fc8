//! What people want of an outbox.

use idempo_proto::ops::v1::{
    PauseOutboxRequest, PauseOutboxResponse, RequeueRowsRequest, RequeueRowsResponse, ResumeOutboxRequest, ResumeOutboxResponse,
    SkipRowsRequest, SkipRowsResponse, StepDownRequest, StepDownResponse,
};
use idempo_rpc::status::refusal;
use idempo_rpc::{Caller, REASON_CHARS_MAX, Violations};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use super::audit::Attempt;
use super::rows::{Filter, row_not_found};
use super::{DOMAIN, Operated, Operations, failed_statement};

/// The most rows that one request names.
const NAMES_MAX: usize = 1_000;
/// The most names that an audit entry of a refused request lists.
const NAMES_NOTED_MAX: usize = 10;

impl Operations {
    pub(super) async fn requeue(&self, request: Request<RequeueRowsRequest>) -> Result<RequeueRowsResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let outbox = self.wished("requeue", &asked.parent, metadata)?;
        let attempt = Attempt { metadata, action: "requeue", target: target_of(&asked.names), reason: &asked.reason };
        let outcome = outbox.requeue(&attempt, asked).await;
        outbox.concluded(&attempt, outcome).await
    }

    pub(super) async fn skip(&self, request: Request<SkipRowsRequest>) -> Result<SkipRowsResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let outbox = self.wished("skip", &asked.parent, metadata)?;
        let attempt = Attempt { metadata, action: "skip", target: target_of(&asked.names), reason: &asked.reason };
        let outcome = outbox.skip(&attempt, asked).await;
        outbox.concluded(&attempt, outcome).await
    }

    pub(super) async fn pause(&self, request: Request<PauseOutboxRequest>) -> Result<PauseOutboxResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let outbox = self.wished("pause", &asked.name, metadata)?;
        outbox.set_paused(metadata, &asked.reason, true).await.map(|()| PauseOutboxResponse {})
    }

    pub(super) async fn resume(&self, request: Request<ResumeOutboxRequest>) -> Result<ResumeOutboxResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let outbox = self.wished("resume", &asked.name, metadata)?;
        outbox.set_paused(metadata, &asked.reason, false).await.map(|()| ResumeOutboxResponse {})
    }

    pub(super) async fn give_up(&self, request: Request<StepDownRequest>) -> Result<StepDownResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let outbox = self.wished("step_down", &asked.name, metadata)?;
        let attempt = Attempt { metadata, action: "step_down", target: format!("epoch {}", asked.epoch), reason: &asked.reason };
        let outcome = outbox.step_down(&attempt, asked.epoch).await;
        outbox.concluded(&attempt, outcome).await
    }

    /// The outbox that a mutation is for. One that is not ours has no audit: what was tried is logged.
    fn wished(&self, action: &'static str, name: &str, metadata: &MetadataMap) -> Result<&Operated, Status> {
        let found = self.outbox(name);
        if found.is_err() {
            let caller = Caller::of(metadata);
            tracing::warn!(caller = caller.as_ref().map_or("", Caller::as_str), action, "an operation on an unknown outbox was refused");
        }
        found
    }
}

/// What came of a wish: refused by the checks or by the database. The latter has noted it already.
pub(super) enum Refused {
    ToNote(Status),
    Noted(Status),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::ToNote(status)
    }
}

impl Operated {
    /// Notes a refusal that is not noted yet.
    async fn concluded<T>(&self, attempt: &Attempt<'_>, outcome: Result<T, Refused>) -> Result<T, Status> {
        match outcome {
            Ok(answer) => Ok(answer),
            Err(Refused::Noted(status)) => Err(status),
            Err(Refused::ToNote(status)) => Err(self.refused(attempt, status).await),
        }
    }

    async fn requeue(&self, attempt: &Attempt<'_>, asked: &RequeueRowsRequest) -> Result<RequeueRowsResponse, Refused> {
        let mut violations = Violations::new();
        let caller = caller_of(&mut violations, attempt);
        let filter = Filter::of(&mut violations, asked.filter.as_ref());
        let seqs = self.seqs(&mut violations, &asked.names);
        if let Some(filter) = &filter {
            violations.check(filter.is_empty() != asked.names.is_empty(), "names", || {
                "or `filter` with one of its fields must be given, and not both".to_owned()
            });
            violations.check(filter.state.is_none(), "filter.state", || "must not be given: refused rows are taken".to_owned());
        }
        let (caller, filter, seqs) = violations.accept(DOMAIN, (caller, filter, seqs))?;
        let seqs = Some(seqs).filter(|seqs| !seqs.is_empty());
        let Filter { key, topic, code, .. } = filter;
        let row = self.ask(include_str!("../sql/requeue_rows.sql"), &[&caller, &attempt.reason, &seqs, &key, &topic, &code]).await?;
        Ok(RequeueRowsResponse { requeued_count: self.changed(&row)? })
    }

    async fn skip(&self, attempt: &Attempt<'_>, asked: &SkipRowsRequest) -> Result<SkipRowsResponse, Refused> {
        let mut violations = Violations::new();
        let caller = caller_of(&mut violations, attempt);
        let seqs = self.seqs(&mut violations, &asked.names);
        violations.check(!asked.names.is_empty(), "names", || "is required".to_owned());
        let (caller, seqs) = violations.accept(DOMAIN, (caller, seqs))?;
        let row = self.ask(include_str!("../sql/skip_rows.sql"), &[&caller, &attempt.reason, &seqs]).await?;
        Ok(SkipRowsResponse { skipped_count: self.changed(&row)? })
    }

    async fn set_paused(&self, metadata: &MetadataMap, reason: &str, pause: bool) -> Result<(), Status> {
        let action = if pause { "pause" } else { "resume" };
        let attempt = Attempt { metadata, action, target: "outbox".to_owned(), reason };
        let outcome = async {
            let mut violations = Violations::new();
            let caller = caller_of(&mut violations, &attempt);
            let (caller,) = violations.accept(DOMAIN, (caller,))?;
            self.ask(include_str!("../sql/set_paused.sql"), &[&caller, &reason, &pause]).await?;
            Ok(())
        };
        let outcome = outcome.await;
        self.concluded(&attempt, outcome).await
    }

    async fn step_down(&self, attempt: &Attempt<'_>, epoch: i64) -> Result<StepDownResponse, Refused> {
        let mut violations = Violations::new();
        let caller = caller_of(&mut violations, attempt);
        let epoch = violations.int("epoch", epoch, 0..=i64::MAX);
        let (caller, epoch) = violations.accept(DOMAIN, (caller, epoch))?;
        let row = self.ask(include_str!("../sql/step_down.sql"), &[&caller, &attempt.reason, &epoch]).await?;
        let (outcome, held): (String, i64) = (column(&row, 0)?, column(&row, 1)?);
        match outcome.as_str() {
            "DONE" => Ok(StepDownResponse { epoch: held }),
            "OUTBOX_NOT_HELD" => {
                let refused = refusal(Code::FailedPrecondition, "OUTBOX_NOT_HELD", DOMAIN, "no process has the outbox's lease");
                Err(Refused::Noted(refused.precondition("LEASE", self.resource(), "nobody has it").into_status()))
            }
            _ => {
                let refused = refusal(Code::Aborted, "LEASE_EPOCH_MISMATCH", DOMAIN, "the lease has another epoch by now");
                Err(Refused::Noted(refused.metadata("epoch", held).into_status()))
            }
        }
    }

    /// The rows that are named.
    fn seqs(&self, violations: &mut Violations, names: &[String]) -> Option<Vec<i64>> {
        if !violations.check(names.len() <= NAMES_MAX, "names", || format!("must be {NAMES_MAX} at most")) {
            return None;
        }
        let mut seqs = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            let seq = self.seq_of(name);
            violations.check(seq.is_some(), &format!("names[{at}]"), || {
                "must be `outboxes/{outbox}/quarantinedRows/{seq}` of the parent".to_owned()
            });
            seqs.extend(seq);
        }
        Some(seqs)
    }

    async fn ask(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Refused> {
        let client = self.client().await.map_err(Refused::Noted)?;
        let asked = async {
            let statement = client.prepare_cached(sql).await?;
            client.query_one(&statement, parameters).await
        };
        // What failed has no entry, and none can be made now: the answer says that nothing is known.
        asked.await.map_err(|error| Refused::Noted(failed_statement(error)))
    }

    /// How many rows were changed, or why none were.
    fn changed(&self, row: &Row) -> Result<i64, Refused> {
        let (outcome, culprit): (String, Option<i64>) = (column(row, 0)?, column(row, 1)?);
        let name = self.row_name(culprit.unwrap_or_default());
        match outcome.as_str() {
            "DONE" => column(row, 2),
            "QUARANTINED_ROW_NOT_FOUND" => Err(Refused::Noted(row_not_found(&name))),
            _ => {
                let message = "a row is in a state in which this can't be done to it";
                let refused = refusal(Code::FailedPrecondition, "QUARANTINED_ROW_STATE", DOMAIN, message);
                Err(Refused::Noted(refused.metadata("name", &name).precondition("STATE", name, "another state").into_status()))
            }
        }
    }
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Refused> {
    row.try_get(at).map_err(|error| Refused::Noted(failed_statement(error)))
}

/// Checks what every mutation must have: a caller's name and a reason.
fn caller_of(violations: &mut Violations, attempt: &Attempt<'_>) -> Option<String> {
    violations.text("reason", attempt.reason, 1..=REASON_CHARS_MAX);
    let caller = violations.caller(attempt.metadata)?;
    let is_named = attempt.metadata.get(idempo_rpc::CALLER_METADATA).is_some();
    violations.check(is_named, idempo_rpc::CALLER_METADATA, || "is required: who wants this".to_owned()).then(|| caller.as_str().to_owned())
}

fn target_of(names: &[String]) -> String {
    let noted: Vec<&str> = names.iter().take(NAMES_NOTED_MAX).map(String::as_str).collect();
    let target = noted.join(",");
    let target: String = target.chars().filter(|c| !c.is_control()).collect();
    if names.len() > NAMES_NOTED_MAX { format!("{target} and {} more", names.len() - NAMES_NOTED_MAX) } else { target }
}

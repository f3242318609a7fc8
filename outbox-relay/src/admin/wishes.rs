//! What people want of an outbox.

use idempo_proto::ops::v1::{
    NoteReplayRequest, NoteReplayResponse, PauseOutboxRequest, PauseOutboxResponse, RequeueRowsRequest, RequeueRowsResponse,
    ResumeOutboxRequest, ResumeOutboxResponse, SkipRowsRequest, SkipRowsResponse, StepDownRequest, StepDownResponse,
};
use idempo_rpc::operators::{Attempt, Audit as _, Entry, Refused, target_of};
use idempo_rpc::status::refusal;
use idempo_rpc::{Caller, Violations};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use super::rows::{Filter, row_not_found};
use super::{DOMAIN, Operated, Operations, failed_statement};

/// The most rows that one request names.
const NAMES_MAX: usize = 1_000;
/// The longest name that Kafka has for a topic, in characters.
const TOPIC_CHARS_MAX: usize = 249;
/// The longest text that says which events are replayed, in characters.
const SELECTION_CHARS_MAX: usize = 500;

impl Operations {
    pub(super) async fn requeue(&self, request: Request<RequeueRowsRequest>) -> Result<RequeueRowsResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let outbox = self.wished("requeue", &asked.parent, metadata)?;
        let attempt = Attempt { metadata, action: "requeue", target: target_of(&asked.names), reason: &asked.reason };
        let outcome = outbox.requeue(&attempt, asked).await;
        attempt.concluded(outbox, outcome).await
    }

    pub(super) async fn skip(&self, request: Request<SkipRowsRequest>) -> Result<SkipRowsResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let outbox = self.wished("skip", &asked.parent, metadata)?;
        let attempt = Attempt { metadata, action: "skip", target: target_of(&asked.names), reason: &asked.reason };
        let outcome = outbox.skip(&attempt, asked).await;
        attempt.concluded(outbox, outcome).await
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
        attempt.concluded(outbox, outcome).await
    }

    pub(super) async fn note_replay(&self, request: Request<NoteReplayRequest>) -> Result<NoteReplayResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let outbox = self.wished("replay", &asked.parent, metadata)?;
        let topic: String = asked.topic.chars().filter(|c| !c.is_control()).take(TOPIC_CHARS_MAX).collect();
        let attempt = Attempt { metadata, action: "replay", target: format!("topic {topic}"), reason: &asked.reason };
        let outcome = outbox.note_replay(&attempt, asked).await;
        attempt.concluded(outbox, outcome).await
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

impl Operated {
    async fn requeue(&self, attempt: &Attempt<'_>, asked: &RequeueRowsRequest) -> Result<RequeueRowsResponse, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
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
        let caller = attempt.caller(&mut violations);
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
            let caller = attempt.caller(&mut violations);
            let (caller,) = violations.accept(DOMAIN, (caller,))?;
            self.ask(include_str!("../sql/set_paused.sql"), &[&caller, &reason, &pause]).await?;
            Ok(())
        };
        let outcome = outcome.await;
        attempt.concluded(self, outcome).await
    }

    async fn step_down(&self, attempt: &Attempt<'_>, epoch: i64) -> Result<StepDownResponse, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
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

    /// The entry is all that comes of it.
    async fn note_replay(&self, attempt: &Attempt<'_>, asked: &NoteReplayRequest) -> Result<NoteReplayResponse, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        violations.text("topic", &asked.topic, 1..=TOPIC_CHARS_MAX);
        violations.text("selection", &asked.selection, 0..=SELECTION_CHARS_MAX);
        let count = violations.int("event_count", asked.event_count, 0..=i64::MAX);
        let (caller, count) = violations.accept(DOMAIN, (caller, count))?;
        let detail = format!("{count} events: {}", asked.selection);
        let (action, target, reason) = (attempt.action, attempt.target.as_str(), attempt.reason);
        let noted = self.add(Entry { caller: &caller, action, target, reason, outcome: "DONE", detail: &detail }).await;
        noted.map(|()| NoteReplayResponse {}).map_err(Refused::Noted)
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

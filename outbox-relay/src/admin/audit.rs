//! What was done, and what was refused.

use idempo_proto::ops::v1::{AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse};
use idempo_rpc::operators::{Denied, Tried};
use idempo_rpc::{Caller, REASON_CHARS_MAX, Violations, page, status, timestamp};
use jiff::Timestamp;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::{DOMAIN, Operated, Operations, failed_statement};

const REQUEST: &str = "idempo.ops.v1.ListAuditEntriesRequest";
/// What stands for a caller whose name is malformed.
const MALFORMED: &str = "(malformed)";

impl Operations {
    pub(super) async fn list_audit(&self, request: Request<ListAuditEntriesRequest>) -> Result<ListAuditEntriesResponse, Status> {
        let asked = request.get_ref();
        let outbox = self.outbox(&asked.parent)?;
        let mut violations = Violations::new();
        let limit = violations.page_size(asked.page_size);
        let before = violations.page_token(REQUEST, asked, &asked.page_token);
        let (limit, before) = violations.accept(DOMAIN, (limit, before))?;
        let before = before.and_then(|key| Some(i64::from_be_bytes(key.try_into().ok()?))).unwrap_or(i64::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let client = outbox.client().await?;
        let statement = client.prepare_cached(include_str!("../sql/list_audit.sql")).await.map_err(failed_statement)?;
        let rows = client.query(&statement, &[&before, &i64::try_from(limit + 1).unwrap_or(i64::MAX)]).await.map_err(failed_statement)?;
        let mut audit_entries = Vec::with_capacity(limit.min(rows.len()));
        let mut last = before;
        for row in rows.iter().take(limit) {
            last = row.try_get(0).map_err(failed_statement)?;
            audit_entries.push(entry(outbox, row).map_err(failed_statement)?);
        }
        let has_more = rows.len() > limit;
        let next_page_token = if has_more { page::encode(REQUEST, asked, &last.to_be_bytes()) } else { String::new() };
        Ok(ListAuditEntriesResponse { audit_entries, next_page_token })
    }
}

impl Operations {
    /// A request, with the name of the operator who sends it. Where he may not do this, that is noted at the outbox that it names; where it can't be, the
    /// next entry tells of it.
    pub(super) async fn admitted<M: prost::Message>(&self, request: Request<M>) -> Result<Request<M>, Status> {
        let Denied { status, tried } = match self.operators.admit(request) {
            Ok(request) => return Ok(request),
            Err(denied) => denied,
        };
        if let Some(tried) = tried {
            let Tried { caller, action, resource, target, reason, outcome, detail, .. } = tried.as_ref();
            let noted = async { self.outbox(resource)?.note([caller, action, target, reason, outcome, detail]).await };
            if let Err(failure) = noted.await {
                tracing::warn!(resource, failure = failure.message(), "a denied operation could not be noted");
                self.operators.not_noted(&tried);
            }
        }
        Err(status)
    }
}

fn entry(outbox: &Operated, row: &tokio_postgres::Row) -> Result<AuditEntry, tokio_postgres::Error> {
    Ok(AuditEntry {
        name: format!("{}/auditEntries/{}", outbox.resource(), row.try_get::<_, i64>(0)?),
        create_time: Some(timestamp::to_proto(row.try_get::<_, Timestamp>(1)?)),
        caller: row.try_get(2)?,
        action: row.try_get(3)?,
        target: row.try_get(4)?,
        reason: row.try_get(5)?,
        outcome: row.try_get(6)?,
        detail: row.try_get(7)?,
    })
}

/// A mutation that was asked for.
pub(super) struct Attempt<'a> {
    pub(super) metadata: &'a MetadataMap,
    pub(super) action: &'static str,
    pub(super) target: String,
    pub(super) reason: &'a str,
}

impl Operated {
    /// Notes that a mutation was refused, and gives the refusal back. Where it can't be noted, that is the answer.
    pub(super) async fn refused(&self, attempt: &Attempt<'_>, refusal: Status) -> Status {
        let caller = Caller::of(attempt.metadata);
        let caller = caller.as_ref().map_or(MALFORMED, Caller::as_str);
        // What was not checked, or did not pass, is cut to what would have.
        let reason: String = attempt.reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        let outcome = status::reason(&refusal).unwrap_or_default();
        tracing::warn!(outbox = self.name, caller, action = attempt.action, outcome, "an operation on the outbox was refused");
        match self.note([caller, attempt.action, &attempt.target, &reason, &outcome, refusal.message()]).await {
            Ok(()) => refusal,
            Err(failure) => failure,
        }
    }

    /// Adds an entry: caller, action, target, reason, outcome, detail.
    async fn note(&self, [caller, action, target, reason, outcome, detail]: [&str; 6]) -> Result<(), Status> {
        let client = self.client().await?;
        let statement = client.prepare_cached(include_str!("../sql/record_audit.sql")).await.map_err(failed_statement)?;
        let noted = client.query_one(&statement, &[&caller, &action, &target, &reason, &outcome, &detail]).await;
        noted.map(drop).map_err(failed_statement)
    }
}

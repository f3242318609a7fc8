//! What was done, and what was refused.

use idempo_proto::ops::v1::{ListProjectionAuditEntriesRequest, ListProjectionAuditEntriesResponse, ProjectionAuditEntry};
use idempo_rpc::operators::{Denied, Tried};
use idempo_rpc::{Caller, REASON_CHARS_MAX, Violations, page, status, timestamp};
use jiff::Timestamp;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::Operations;

const REQUEST: &str = "idempo.ops.v1.ListProjectionAuditEntriesRequest";
/// What stands for a caller whose name is malformed.
const MALFORMED: &str = "(malformed)";

/// A mutation that was asked for.
pub(super) struct Attempt<'a> {
    pub(super) metadata: &'a MetadataMap,
    pub(super) action: &'static str,
    pub(super) target: String,
    pub(super) reason: &'a str,
}

impl Operations {
    pub(super) async fn list_audit(
        &self,
        request: Request<ListProjectionAuditEntriesRequest>,
    ) -> Result<ListProjectionAuditEntriesResponse, Status> {
        let asked = request.get_ref();
        self.check_name(&asked.parent)?;
        let mut violations = Violations::new();
        let limit = violations.page_size(asked.page_size);
        let before = violations.page_token(REQUEST, asked, &asked.page_token);
        let (limit, before) = violations.accept(self.domain, (limit, before))?;
        let before = before.and_then(|key| Some(i64::from_be_bytes(key.try_into().ok()?))).unwrap_or(i64::MAX);
        let client = self.client().await?;
        let listed = async {
            let statement = client.prepare_cached(include_str!("../sql/list_audit.sql")).await?;
            let rows = client.query(&statement, &[&self.projection, &before, &(i64::from(limit) + 1)]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, self.entry(row)?))).collect::<Result<Vec<(i64, _)>, tokio_postgres::Error>>()
        };
        let mut entries = listed.await.map_err(|error| self.failed_statement(error))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let next_page_token = match entries.last() {
            Some((last, _)) if has_more => page::encode(REQUEST, asked, &last.to_be_bytes()),
            _ => String::new(),
        };
        Ok(ListProjectionAuditEntriesResponse { audit_entries: entries.into_iter().map(|(_, entry)| entry).collect(), next_page_token })
    }

    fn entry(&self, row: &tokio_postgres::Row) -> Result<ProjectionAuditEntry, tokio_postgres::Error> {
        Ok(ProjectionAuditEntry {
            name: format!("{}/auditEntries/{}", self.resource(), row.try_get::<_, i64>(0)?),
            create_time: Some(timestamp::to_proto(row.try_get::<_, Timestamp>(1)?)),
            caller: row.try_get(2)?,
            action: row.try_get(3)?,
            target: row.try_get(4)?,
            reason: row.try_get(5)?,
            outcome: row.try_get(6)?,
            detail: row.try_get(7)?,
        })
    }

    /// Notes that a mutation was refused, and gives the refusal back. Where it can't be noted, that is the answer.
    pub(super) async fn refused(&self, attempt: &Attempt<'_>, refusal: Status) -> Status {
        let caller = Caller::of(attempt.metadata);
        let caller = caller.as_ref().map_or(MALFORMED, Caller::as_str);
        // What was not checked, or did not pass, is cut to what would have.
        let reason: String = attempt.reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        let outcome = status::reason(&refusal).unwrap_or_default();
        tracing::warn!(
            projection = self.projection,
            caller,
            action = attempt.action,
            outcome,
            "an operation on the projection was refused"
        );
        let Attempt { action, target, .. } = attempt;
        match self.note([caller, action, target, &reason, &outcome, refusal.message()]).await {
            Ok(()) => refusal,
            Err(error) => self.failed(&error),
        }
    }

    /// A request, with the name of the operator who sends it. Where he may not do this, that is noted; where it can't be, the next entry tells of it.
    pub(super) async fn admitted<M: prost::Message>(&self, request: Request<M>) -> Result<Request<M>, Status> {
        let Denied { status, tried } = match self.operators.admit(request) {
            Ok(request) => return Ok(request),
            Err(denied) => denied,
        };
        if let Some(tried) = tried {
            let Tried { caller, action, target, reason, outcome, detail, .. } = tried.as_ref();
            if let Err(error) = self.note([caller, action, target, reason, outcome, detail]).await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(projection = self.projection, error, "a denied operation could not be noted");
                self.operators.not_noted(&tried);
            }
        }
        Err(status)
    }

    /// Adds an entry: caller, action, target, reason, outcome, detail.
    async fn note(&self, [caller, action, target, reason, outcome, detail]: [&str; 6]) -> Result<(), idempo_pg::Error> {
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/record_audit.sql")).await?;
        client.query_one(&statement, &[&self.projection, &caller, &action, &target, &reason, &outcome, &detail]).await?;
        Ok(())
    }
}

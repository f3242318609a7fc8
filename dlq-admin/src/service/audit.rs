//! What was done, and what was refused.

use idempo_proto::ops::v1::{DeadLetterAuditEntry, ListDeadLetterAuditEntriesRequest, ListDeadLetterAuditEntriesResponse};
use idempo_rpc::operators::{Audit, Entry};
use idempo_rpc::{Violations, timestamp};
use jiff::Timestamp;
use tokio_postgres::Row;
use tonic::{Request, Status};

use super::{DOMAIN, Service, failed_statement};

const REQUEST: &str = "idempo.ops.v1.ListDeadLetterAuditEntriesRequest";

impl Service {
    pub(super) async fn list_audit(
        &self,
        request: Request<ListDeadLetterAuditEntriesRequest>,
    ) -> Result<ListDeadLetterAuditEntriesResponse, Status> {
        let asked = request.get_ref();
        let mut violations = Violations::new();
        let page = violations.numbered_page(REQUEST, asked, asked.page_size, &asked.page_token);
        let (page,) = violations.accept(DOMAIN, (page,))?;
        let rows = self.query(include_str!("../sql/list_audit.sql"), &[&page.last_or(i64::MAX), &page.wanted()]).await?;
        let found = rows.iter().map(entry).collect::<Result<_, _>>().map_err(failed_statement)?;
        let (audit_entries, next_page_token) = page.cut(REQUEST, asked, found);
        Ok(ListDeadLetterAuditEntriesResponse { audit_entries, next_page_token })
    }

    /// A request, with the name of the operator who sends it. Where he may not do this, that is noted.
    pub(super) async fn admitted<M: prost::Message>(&self, request: Request<M>) -> Result<Request<M>, Status> {
        self.operators.admit_or_note(request, |_| Ok(self)).await
    }
}

impl Audit for Service {
    fn name(&self) -> &str {
        "dead letters"
    }

    async fn add(&self, Entry { caller, action, target, reason, outcome, detail }: Entry<'_>) -> Result<(), Status> {
        self.query_one(include_str!("../sql/record_audit.sql"), &[&caller, &action, &target, &reason, &outcome, &detail]).await.map(drop)
    }
}

fn entry(row: &Row) -> Result<(i64, DeadLetterAuditEntry), tokio_postgres::Error> {
    let id: i64 = row.try_get(0)?;
    let entry = DeadLetterAuditEntry {
        name: format!("deadLetterAuditEntries/{id}"),
        create_time: Some(timestamp::to_proto(row.try_get::<_, Timestamp>(1)?)),
        caller: row.try_get(2)?,
        action: row.try_get(3)?,
        target: row.try_get(4)?,
        reason: row.try_get(5)?,
        outcome: row.try_get(6)?,
        detail: row.try_get(7)?,
    };
    Ok((id, entry))
}

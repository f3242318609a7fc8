//! What was done, and what was refused.

use idempo_proto::ops::v1::{AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse};
use idempo_rpc::operators::{Audit, Entry};
use idempo_rpc::{Violations, timestamp};
use jiff::Timestamp;
use tokio_postgres::Row;
use tonic::{Request, Status};

use super::{DOMAIN, Operated, Operations, failed_statement};

const REQUEST: &str = "idempo.ops.v1.ListAuditEntriesRequest";

impl Operations {
    pub(super) async fn list_audit(&self, request: Request<ListAuditEntriesRequest>) -> Result<ListAuditEntriesResponse, Status> {
        let asked = request.get_ref();
        let outbox = self.outbox(&asked.parent)?;
        let mut violations = Violations::new();
        let page = violations.numbered_page(REQUEST, asked, asked.page_size, &asked.page_token);
        let (page,) = violations.accept(DOMAIN, (page,))?;
        let client = outbox.client().await?;
        let statement = client.prepare_cached(include_str!("../sql/list_audit.sql")).await.map_err(failed_statement)?;
        let rows = client.query(&statement, &[&page.last_or(i64::MAX), &page.wanted()]).await.map_err(failed_statement)?;
        let read = |row: &Row| Ok((row.try_get(0)?, entry(outbox, row)?));
        let found = rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>().map_err(failed_statement)?;
        let (audit_entries, next_page_token) = page.cut(REQUEST, asked, found);
        Ok(ListAuditEntriesResponse { audit_entries, next_page_token })
    }

    /// A request, with the name of the operator who sends it. Where he may not do this, that is noted at the outbox that it names.
    pub(super) async fn admitted<M: prost::Message>(&self, request: Request<M>) -> Result<Request<M>, Status> {
        self.operators.admit_or_note(request, |resource| self.outbox(resource)).await
    }
}

fn entry(outbox: &Operated, row: &Row) -> Result<AuditEntry, tokio_postgres::Error> {
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

impl Audit for Operated {
    fn name(&self) -> &str {
        &self.name
    }

    async fn add(&self, Entry { caller, action, target, reason, outcome, detail }: Entry<'_>) -> Result<(), Status> {
        let client = self.client().await?;
        let statement = client.prepare_cached(include_str!("../sql/record_audit.sql")).await.map_err(failed_statement)?;
        let noted = client.query_one(&statement, &[&caller, &action, &target, &reason, &outcome, &detail]).await;
        noted.map(drop).map_err(failed_statement)
    }
}

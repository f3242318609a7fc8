//! What was done, and what was refused.

use idempo_proto::ops::v1::{ListProjectionAuditEntriesRequest, ListProjectionAuditEntriesResponse, ProjectionAuditEntry};
use idempo_rpc::operators::{Audit, Entry};
use idempo_rpc::{Violations, timestamp};
use jiff::Timestamp;
use tokio_postgres::Row;
use tonic::{Request, Status};

use super::Operations;

const REQUEST: &str = "idempo.ops.v1.ListProjectionAuditEntriesRequest";

impl Operations {
    pub(super) async fn list_audit(
        &self,
        request: Request<ListProjectionAuditEntriesRequest>,
    ) -> Result<ListProjectionAuditEntriesResponse, Status> {
        let asked = request.get_ref();
        self.check_name(&asked.parent)?;
        let mut violations = Violations::new();
        let page = violations.numbered_page(REQUEST, asked, asked.page_size, &asked.page_token);
        let (page,) = violations.accept(self.domain, (page,))?;
        let client = self.client().await?;
        let listed = async {
            let statement = client.prepare_cached(include_str!("../sql/list_audit.sql")).await?;
            let rows = client.query(&statement, &[&self.projection, &page.last_or(i64::MAX), &page.wanted()]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, self.entry(row)?))).collect::<Result<Vec<_>, tokio_postgres::Error>>()
        };
        let found = listed.await.map_err(|error| self.failed_statement(error))?;
        let (audit_entries, next_page_token) = page.cut(REQUEST, asked, found);
        Ok(ListProjectionAuditEntriesResponse { audit_entries, next_page_token })
    }

    fn entry(&self, row: &Row) -> Result<ProjectionAuditEntry, tokio_postgres::Error> {
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

    /// A request, with the name of the operator who sends it. Where he may not do this, that is noted.
    pub(super) async fn admitted<M: prost::Message>(&self, request: Request<M>) -> Result<Request<M>, Status> {
        self.operators.admit_or_note(request, |_| Ok(self)).await
    }
}

impl Audit for Operations {
    fn name(&self) -> &str {
        self.projection
    }

    async fn add(&self, Entry { caller, action, target, reason, outcome, detail }: Entry<'_>) -> Result<(), Status> {
        let client = self.client().await?;
        let noted = async {
            let statement = client.prepare_cached(include_str!("../sql/record_audit.sql")).await?;
            client.query_one(&statement, &[&self.projection, &caller, &action, &target, &reason, &outcome, &detail]).await
        };
        noted.await.map(drop).map_err(|error| self.failed_statement(error))
    }
}

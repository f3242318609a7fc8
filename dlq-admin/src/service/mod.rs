//! `idempo.ops.v1.DeadLetterService`: what people see of dead letters, and what they do with them.
//!
//! It works through the database: what is asked for is stored there in one transaction with its audit entry, and whichever process has the job does
//! it ([`crate::jobs`]). Consumers are asked here for what only they know: what is parked behind a dead letter, whether they have it still, and what a
//! replay would do. A mutation that is refused leaves an audit entry as well. Nobody comes to it but whom the operators' file lets in
//! ([`idempo_rpc::operators`]).

mod audit;
mod discard;
mod filter;
mod jobs;
mod letters;
mod lines;
mod messages;
mod rehearse;
mod restore;

use std::pin::Pin;
use std::sync::Arc;

use idempo_dead_letter::DeadLetterId;
use idempo_pg::{Client, Pool};
use idempo_proto::ops::v1 as message;
use idempo_proto::ops::v1::dead_letter_service_server::DeadLetterService;
use idempo_rpc::{Operators, Violations, refusal, status};
use tokio::sync::Notify;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::consumers::Consumers;

/// The domain of this service's errors.
pub(crate) const DOMAIN: &str = "dlq-admin.idempo";

/// The most dead letters that one request names.
const NAMES_MAX: usize = 1_000;
/// What the names of dead letters must be like.
const NAME_FORM: &str = "must be `deadLetters/{consumer_group}.{topic}.{partition}.{offset}`";

/// The service.
pub(crate) struct Service {
    pub(crate) operators: Arc<Operators>,
    pub(crate) pool: Pool,
    pub(crate) consumers: Arc<Consumers>,
    /// Rung when there is a job to be worked on.
    pub(crate) bell: Arc<Notify>,
}

/// Some dead letters as the database's functions take them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Named {
    groups: Vec<String>,
    topics: Vec<String>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
}

impl FromIterator<DeadLetterId> for Named {
    fn from_iter<I: IntoIterator<Item = DeadLetterId>>(ids: I) -> Self {
        let mut named = Self::default();
        for DeadLetterId { group, topic, partition, offset } in ids {
            named.groups.push(group);
            named.topics.push(topic);
            named.partitions.push(partition);
            named.offsets.push(offset);
        }
        named
    }
}

impl Service {
    async fn client(&self) -> Result<Client, Status> {
        self.pool.get().await.map_err(|error| failed(&error))
    }

    async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Status> {
        let client = self.client().await?;
        let asked = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, parameters).await
        };
        asked.await.map_err(failed_statement)
    }

    async fn query_one(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Status> {
        let rows = self.query(sql, parameters).await?;
        // Statements that are asked so give one row by their form.
        rows.into_iter().next().ok_or_else(|| Status::internal("the database gave no row"))
    }
}

/// The dead letters that are named, at least one and `most` at most, each once.
fn named(violations: &mut Violations, names: &[String], most: usize) -> Option<Vec<DeadLetterId>> {
    if !violations.check((1..=most).contains(&names.len()), "names", || format!("must be 1 to {most}")) {
        return None;
    }
    let mut ids = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let id = name.parse::<DeadLetterId>().ok();
        violations.check(id.is_some(), &format!("names[{at}]"), || NAME_FORM.to_owned());
        ids.extend(id);
    }
    let mut distinct: Vec<&DeadLetterId> = ids.iter().collect();
    distinct.sort_unstable();
    distinct.dedup();
    violations.check(distinct.len() == ids.len(), "names", || "must name each dead letter once".to_owned()).then_some(ids)
}

/// The number of a resource: `collection/{id}`.
fn number_of(pattern: &str, name: &str) -> Option<i64> {
    let [id] = idempo_rpc::name::parse(pattern, name)?;
    idempo_rpc::name::number(id)
}

fn letter_not_found(name: &str) -> Status {
    refusal::not_found(DOMAIN, "DEAD_LETTER_NOT_FOUND", "dead letter", name).into_status()
}

/// The answer where the database has failed.
fn failed(error: &idempo_pg::Error) -> Status {
    status::of_error(error, DOMAIN)
}

/// The answer where a statement has failed.
fn failed_statement(error: tokio_postgres::Error) -> Status {
    failed(&error.into())
}

/// Declares each RPC with one answer as the method of [`Service`] with its name, for whom it is admitted.
macro_rules! rpcs {
    ($($rpc:ident = $handler:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl DeadLetterService for Service {
            $(async fn $rpc(&self, request: Request<message::$request>) -> Result<Response<message::$response>, Status> {
                let request = self.admitted(request).await?;
                self.$handler(request).await.map(Response::new)
            })+

            type ExportDeadLettersStream = Pin<Box<dyn Stream<Item = Result<message::ExportDeadLettersResponse, Status>> + Send>>;

            async fn export_dead_letters(
                &self,
                request: Request<message::ExportDeadLettersRequest>,
            ) -> Result<Response<Self::ExportDeadLettersStream>, Status> {
                let request = self.admitted(request).await?;
                let stream = self.export(request).await?;
                Ok(Response::new(Box::pin(stream)))
            }
        }
    };
}

rpcs! {
    list_dead_letter_groups = list_groups(ListDeadLetterGroupsRequest) -> ListDeadLetterGroupsResponse;
    list_dead_letters = list(ListDeadLettersRequest) -> ListDeadLettersResponse;
    get_dead_letter = read(GetDeadLetterRequest) -> GetDeadLetterResponse;
    discard_dead_letters = discard(DiscardDeadLettersRequest) -> DiscardDeadLettersResponse;
    restore_dead_letters = restore(RestoreDeadLettersRequest) -> RestoreDeadLettersResponse;
    annotate_dead_letter = annotate(AnnotateDeadLetterRequest) -> AnnotateDeadLetterResponse;
    import_dead_letters = import(ImportDeadLettersRequest) -> ImportDeadLettersResponse;
    plan_job = plan(PlanJobRequest) -> PlanJobResponse;
    rehearse_job = rehearse(RehearseJobRequest) -> RehearseJobResponse;
    apply_job = apply(ApplyJobRequest) -> ApplyJobResponse;
    cancel_job = cancel(CancelJobRequest) -> CancelJobResponse;
    get_job = read_job(GetJobRequest) -> GetJobResponse;
    list_jobs = list_jobs_page(ListJobsRequest) -> ListJobsResponse;
    list_job_members = list_members(ListJobMembersRequest) -> ListJobMembersResponse;
    list_dead_letter_audit_entries = list_audit(ListDeadLetterAuditEntriesRequest) -> ListDeadLetterAuditEntriesResponse;
}

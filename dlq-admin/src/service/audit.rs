//! What was done, and what was refused.

use idempo_proto::ops::v1::{DeadLetterAuditEntry, ListDeadLetterAuditEntriesRequest, ListDeadLetterAuditEntriesResponse};
use idempo_rpc::operators::{Denied, Tried};
use idempo_rpc::{Caller, REASON_CHARS_MAX, Violations, page, status, timestamp};
use jiff::Timestamp;
use tokio_postgres::Row;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::{DOMAIN, Service, failed_statement};

const REQUEST: &str = "idempo.ops.v1.ListDeadLetterAuditEntriesRequest";
/// What stands for a caller whose name is malformed.
const MALFORMED: &str = "(malformed)";
/// The most names that an audit entry lists.
const NAMES_NOTED_MAX: usize = 10;

/// A mutation that was asked for.
pub(super) struct Attempt<'a> {
    pub(super) metadata: &'a MetadataMap,
    pub(super) action: &'static str,
    pub(super) target: String,
    pub(super) reason: &'a str,
}

/// What came of a wish that was refused: by the checks, or by the database, which has noted it already.
pub(super) enum Refused {
    ToNote(Status),
    Noted(Status),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::ToNote(status)
    }
}

impl Attempt<'_> {
    /// Checks what every mutation must have: a caller's name and a reason. Gives the name.
    pub(super) fn caller(&self, violations: &mut Violations) -> Option<String> {
        violations.text("reason", self.reason, 1..=REASON_CHARS_MAX);
        let caller = violations.caller(self.metadata)?;
        let is_named = self.metadata.get(idempo_rpc::CALLER_METADATA).is_some();
        let required = || "is required: who wants this".to_owned();
        violations.check(is_named, idempo_rpc::CALLER_METADATA, required).then(|| caller.as_str().to_owned())
    }
}

impl Service {
    pub(super) async fn list_audit(
        &self,
        request: Request<ListDeadLetterAuditEntriesRequest>,
    ) -> Result<ListDeadLetterAuditEntriesResponse, Status> {
        let asked = request.get_ref();
        let mut violations = Violations::new();
        let limit = violations.page_size(asked.page_size);
        let before = violations.page_token(REQUEST, asked, &asked.page_token);
        let (limit, before) = violations.accept(DOMAIN, (limit, before))?;
        let before = before.and_then(|key| Some(i64::from_be_bytes(key.try_into().ok()?))).unwrap_or(i64::MAX);
        let rows = self.query(include_str!("../sql/list_audit.sql"), &[&before, &(i64::from(limit) + 1)]).await?;
        let read = rows.iter().map(entry).collect::<Result<Vec<_>, _>>();
        let mut entries = read.map_err(failed_statement)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let next_page_token = match entries.last() {
            Some((last, _)) if has_more => page::encode(REQUEST, asked, &last.to_be_bytes()),
            _ => String::new(),
        };
        Ok(ListDeadLetterAuditEntriesResponse { audit_entries: entries.into_iter().map(|(_, entry)| entry).collect(), next_page_token })
    }

    /// Gives an answer on, and notes a refusal that is not noted yet.
    pub(super) async fn concluded<T>(&self, attempt: &Attempt<'_>, outcome: Result<T, Refused>) -> Result<T, Status> {
        match outcome {
            Ok(answer) => Ok(answer),
            Err(Refused::Noted(status)) => Err(status),
            Err(Refused::ToNote(status)) => Err(self.refused(attempt, status).await),
        }
    }

    /// Notes that a mutation was refused, and gives the refusal back. Where it can't be noted, that is the answer.
    async fn refused(&self, attempt: &Attempt<'_>, refusal: Status) -> Status {
        let caller = Caller::of(attempt.metadata);
        let caller = caller.as_ref().map_or(MALFORMED, Caller::as_str);
        // What was not checked, or did not pass, is cut to what would have.
        let reason: String = attempt.reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        let outcome = status::reason(&refusal).unwrap_or_default();
        tracing::warn!(caller, action = attempt.action, outcome, "an operation on dead letters was refused");
        match self.note(caller, attempt, &reason, &outcome, refusal.message()).await {
            Ok(()) => refusal,
            Err(failure) => failure,
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
            if let Err(failure) = self.add([caller, action, target, reason, outcome, detail]).await {
                tracing::warn!(failure = failure.message(), "a denied operation could not be noted");
                self.operators.not_noted(&tried);
            }
        }
        Err(status)
    }

    /// Adds a row to the audit.
    pub(super) async fn note(&self, caller: &str, attempt: &Attempt<'_>, reason: &str, outcome: &str, detail: &str) -> Result<(), Status> {
        self.add([caller, attempt.action, &attempt.target, reason, outcome, detail]).await
    }

    /// Adds an entry: caller, action, target, reason, outcome, detail.
    async fn add(&self, [caller, action, target, reason, outcome, detail]: [&str; 6]) -> Result<(), Status> {
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

/// Dead letters that are named, as an audit entry tells of them.
pub(super) fn target_of(names: &[String]) -> String {
    let noted: Vec<&str> = names.iter().take(NAMES_NOTED_MAX).map(String::as_str).collect();
    let target: String = noted.join(",").chars().filter(|c| !c.is_control()).collect();
    if names.len() > NAMES_NOTED_MAX { format!("{target} and {} more", names.len() - NAMES_NOTED_MAX) } else { target }
}

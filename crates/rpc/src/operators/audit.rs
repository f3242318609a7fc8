//! What operators do and are refused, in the audit of the service that they ask.
//!
//! A change that is made is noted by the database, in the transaction of the change ([`Refused::Noted`] where a function of the schema refused it and has
//! noted that). What is refused before it comes to the database is noted here. Where it can't be noted, that failure is the answer: nobody is told of a
//! refusal that no entry tells of. Who is not let in at all is noted as far as his allowance goes ([`super`]).

use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::{Denied, Operators, Tried};
use crate::caller::{CALLER_METADATA, Caller};
use crate::{REASON_CHARS_MAX, Violations, status};

/// What stands for a caller whose name is malformed.
const MALFORMED: &str = "(malformed)";
/// The most names that an entry lists.
pub(super) const NAMES_NOTED_MAX: usize = 10;

/// An entry of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Who.
    pub caller: &'a str,
    /// What, as the audit calls it.
    pub action: &'a str,
    /// To what.
    pub target: &'a str,
    /// Why, in the caller's words.
    pub reason: &'a str,
    /// What came of it: `DONE`, or the reason of the refusal.
    pub outcome: &'a str,
    /// More of the same, for people.
    pub detail: &'a str,
}

/// Where a service's entries are kept.
pub trait Audit: Sync {
    /// What it is the audit of, in logs.
    fn name(&self) -> &str;

    /// Adds an entry.
    ///
    /// # Errors
    /// The answer where that can't be done.
    fn add(&self, entry: Entry<'_>) -> impl Future<Output = Result<(), Status>> + Send;
}

/// A change that was asked for.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    /// The request's metadata, which has the caller's name.
    pub metadata: &'a MetadataMap,
    /// What, as the audit calls it.
    pub action: &'static str,
    /// To what.
    pub target: String,
    /// Why, as the request has it: not yet checked.
    pub reason: &'a str,
}

/// What came of a change that was refused.
#[derive(Debug)]
pub enum Refused {
    /// By the checks: it is to be noted.
    ToNote(Status),
    /// By the database, which has noted it; or by what is away, of which there can be no entry.
    Noted(Status),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::ToNote(status)
    }
}

impl Attempt<'_> {
    /// Checks what every change must have: a caller's name, which it gives, and a reason of 1 to [`REASON_CHARS_MAX`] characters.
    pub fn caller(&self, violations: &mut Violations) -> Option<String> {
        violations.text("reason", self.reason, 1..=REASON_CHARS_MAX);
        let caller = violations.caller(self.metadata)?;
        let is_named = self.metadata.get(CALLER_METADATA).is_some();
        violations.check(is_named, CALLER_METADATA, || "is required: who wants this".to_owned()).then(|| caller.as_str().to_owned())
    }

    /// Gives an answer on, and notes a refusal that is not noted yet.
    ///
    /// # Errors
    /// The refusal; or, where it can't be noted, why not.
    pub async fn concluded<T>(&self, audit: &impl Audit, outcome: Result<T, Refused>) -> Result<T, Status> {
        match outcome {
            Ok(answer) => Ok(answer),
            Err(Refused::Noted(status)) => Err(status),
            Err(Refused::ToNote(status)) => Err(self.refused(audit, status).await),
        }
    }

    /// Notes a refusal, and gives it back; where it can't be noted, why not.
    pub async fn refused(&self, audit: &impl Audit, refusal: Status) -> Status {
        let caller = Caller::of(self.metadata);
        let caller = caller.as_ref().map_or(MALFORMED, Caller::as_str);
        // What was not checked, or did not pass, is cut to what would have.
        let reason: String = self.reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        let outcome = status::reason(&refusal).unwrap_or_default();
        tracing::warn!(audit = audit.name(), caller, action = self.action, outcome, "an operation was refused");
        let (target, detail) = (self.target.as_str(), refusal.message());
        match audit.add(Entry { caller, action: self.action, target, reason: &reason, outcome: &outcome, detail }).await {
            Ok(()) => refusal,
            Err(failure) => failure,
        }
    }
}

impl Operators {
    /// Lets a request in, with the name of who is asking in its `idempo-caller`. A change by who may not do this is noted in the audit of what the request
    /// names (`audit_of`, which is given its `parent` or `name`); where it can't be, the next entry tells of it.
    ///
    /// # Errors
    /// UNAUTHENTICATED (`OPERATOR_UNKNOWN`) or PERMISSION_DENIED (`OPERATOR_ROLE_REQUIRED`, `OPERATORS_NOT_CONFIGURED`, `OPERATION_WITHOUT_RULE`).
    pub async fn admit_or_note<'a, M: Message, A: Audit + 'a>(
        &self,
        request: Request<M>,
        audit_of: impl FnOnce(&str) -> Result<&'a A, Status>,
    ) -> Result<Request<M>, Status> {
        let Denied { status, tried } = match self.admit(request) {
            Ok(request) => return Ok(request),
            Err(denied) => denied,
        };
        if let Some(tried) = tried {
            let Tried { caller, action, resource, target, reason, outcome, detail, .. } = tried.as_ref();
            let noted = match audit_of(resource) {
                Ok(audit) => audit.add(Entry { caller, action, target, reason, outcome, detail }).await,
                Err(nowhere) => Err(nowhere),
            };
            if let Err(failure) = noted {
                tracing::warn!(resource, failure = failure.message(), "a denied operation could not be noted");
                self.not_noted(&tried);
            }
        }
        Err(status)
    }
}

/// What an entry says of several things with names: the first ones, and how many more there are. Without control characters.
#[must_use]
pub fn target_of(names: &[String]) -> String {
    let listed: Vec<&str> = names.iter().take(NAMES_NOTED_MAX).map(String::as_str).collect();
    let listed: String = listed.join(" ").chars().filter(|c| !c.is_control()).collect();
    match names.len().saturating_sub(NAMES_NOTED_MAX) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps entries, or can't.
    #[derive(Default)]
    struct Kept {
        entries: Mutex<Vec<[String; 6]>>,
        is_away: bool,
    }

    impl Audit for Kept {
        fn name(&self) -> &str {
            "kept"
        }

        async fn add(&self, entry: Entry<'_>) -> Result<(), Status> {
            if self.is_away {
                return Err(Status::unavailable("the audit is away"));
            }
            let Entry { caller, action, target, reason, outcome, detail } = entry;
            self.entries.lock().expect("unpoisoned").push([caller, action, target, reason, outcome, detail].map(str::to_owned));
            Ok(())
        }
    }

    fn attempt<'a>(metadata: &'a MetadataMap, reason: &'a str) -> Attempt<'a> {
        Attempt { metadata, action: "skip", target: "rows 7".to_owned(), reason }
    }

    fn called(name: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(CALLER_METADATA, name.parse().expect("a name"));
        metadata
    }

    #[tokio::test]
    async fn a_refusal_is_noted_once_with_what_would_have_passed_of_its_reason() {
        let (kept, metadata) = (Kept::default(), called("ann"));
        let reason = format!("a\n{}", "b".repeat(2 * REASON_CHARS_MAX));
        let attempt = attempt(&metadata, &reason);
        let refusal = || status::refusal(tonic::Code::FailedPrecondition, "ROW_STATE", "test.idempo", "it is sent").into_status();
        let noted = attempt.concluded::<()>(&kept, Err(Refused::ToNote(refusal()))).await.expect_err("refused");
        assert_eq!((noted.code(), noted.message()), (tonic::Code::FailedPrecondition, "it is sent"));
        attempt.concluded::<()>(&kept, Err(Refused::Noted(refusal()))).await.expect_err("refused");
        attempt.concluded(&kept, Ok(())).await.expect("done");
        let cut = format!("a{}", "b".repeat(REASON_CHARS_MAX - 1));
        assert_eq!(
            *kept.entries.lock().expect("unpoisoned"),
            [["ann", "skip", "rows 7", &cut, "ROW_STATE", "it is sent"].map(str::to_owned)]
        );
    }

    #[tokio::test]
    async fn a_refusal_that_can_not_be_noted_is_answered_by_why_not() {
        let (away, metadata) = (Kept { is_away: true, ..Kept::default() }, called("ann"));
        let answer = attempt(&metadata, "because").refused(&away, Status::invalid_argument("no")).await;
        assert_eq!((answer.code(), answer.message()), (tonic::Code::Unavailable, "the audit is away"));
    }

    #[test]
    fn a_change_must_have_a_named_caller_and_a_reason() {
        let caller = |metadata: &MetadataMap, reason| {
            let mut violations = Violations::new();
            let caller = attempt(metadata, reason).caller(&mut violations);
            violations.accept("test.idempo", (caller,)).map(|(caller,)| caller).ok()
        };
        assert_eq!(caller(&called("ann"), "because"), Some("ann".to_owned()));
        assert_eq!(caller(&called("ann"), ""), None);
        assert_eq!(caller(&MetadataMap::new(), "because"), None);
        assert_eq!(caller(&called("a b"), "because"), None);
    }

    #[test]
    fn many_names_are_told_by_the_first_ones() {
        let names: Vec<String> = (0..12).map(|n| format!("n{n}\n")).collect();
        assert_eq!(target_of(&names), "n0 n1 n2 n3 n4 n5 n6 n7 n8 n9 and 2 more");
        assert_eq!((target_of(&names[..2]).as_str(), target_of(&[]).as_str()), ("n0 n1", ""));
    }
}

//! Who may operate the platform: an operator is whoever holds a token that stands, by its digest, in the operators' file.
//!
//! Place in the flow: each service of `idempo.ops.v1` hands a request to [`Operators::admit_or_note`] before anything else, so nobody learns what exists by asking
//! for it. What comes back says by `idempo-caller` who is asking: that is the operator's name, whatever the request had there. Only a service of the
//! platform ([`Role::Service`]) speaks for somebody else.
//!
//! Invariants:
//! * Nobody is let in who does not hold a token for it, unless the settings say that everybody is: no file means nobody.
//! * An operation without a rule ([`operation`]) is refused to everybody but where everybody may do everything; a test holds the rules to the descriptor set.
//! * A change that is denied is noted in the [`Audit`] of its service, as far as the allowance goes; what goes without is counted, and told by the
//!   next entry. Those whom nobody knows and those who are known have an allowance each: no stranger can hide what an operator tries.
//! * A file that has become unreadable or wrong lets in whom it let in before, and complains; nothing is ever half taken over.
//!
//! Not here: what is encrypted on the way. A token is as secret as the connections that it goes over.

mod allowance;
mod audit;
mod config;
mod roster;
mod rules;
mod token;
mod tried;

pub use audit::{Attempt, Audit, Entry, Refused, target_of};
pub use config::OperatorsConfig;
pub use roster::Role;
pub use rules::{Operation, operation};
pub use token::{Authorize, InvalidToken, Token};

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::call::Method;
use crate::caller::{CALLER_METADATA, Caller, is_caller};
use crate::status;
use allowance::Allowance;
use roster::{Operator, Roster};
use tried::{Denied, Tried};

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest file, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

const DENIED: &str = "idempo_operations_denied_total";
const UNNOTED: &str = "idempo_operations_denied_unnoted_total";
const FILE_BROKEN: &str = "idempo_operators_file_broken";

/// Why there are no operators.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("the operators' file {} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong. Nothing of what is in it is told.
    #[error("the operators' file {}, line {line}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file is longer than a file of operators can be.
    #[error("the operators' file {} is longer than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Who may operate the platform.
#[derive(Debug)]
pub struct Operators {
    /// The domain of the service's errors.
    domain: &'static str,
    policy: Policy,
    /// For those whom nobody knows, and for operators.
    allowances: (Allowance, Allowance),
}

#[derive(Debug)]
enum Policy {
    Everybody,
    Nobody,
    Those { path: PathBuf, roster: RwLock<Arc<Roster>> },
}

/// Why somebody is not let in.
struct Refusal<'a> {
    code: Code,
    reason: &'static str,
    message: String,
    /// Who it is, where that is known.
    operator: Option<&'a Operator>,
}

impl Refusal<'static> {
    fn of(code: Code, reason: &'static str, message: &str) -> Self {
        Self { code, reason, message: message.to_owned(), operator: None }
    }

    fn nobody() -> Self {
        Self::of(Code::PermissionDenied, "OPERATORS_NOT_CONFIGURED", "this process is told of no operators (operators.file)")
    }

    fn no_token() -> Self {
        Self::of(Code::Unauthenticated, "OPERATOR_UNKNOWN", "an operator's token is needed: `authorization: Bearer …`")
    }

    fn unknown_token() -> Self {
        Self::of(Code::Unauthenticated, "OPERATOR_UNKNOWN", "the token is no operator's, or not any more")
    }

    fn no_rule() -> Self {
        Self::of(Code::PermissionDenied, "OPERATION_WITHOUT_RULE", "nothing says who may do this")
    }
}

impl<'a> Refusal<'a> {
    fn role(operator: &'a Operator) -> Self {
        let message = format!("{} is a {}, who may not do this", operator.name, operator.role);
        Refusal { operator: Some(operator), ..Refusal::of(Code::PermissionDenied, "OPERATOR_ROLE_REQUIRED", &message) }
    }

    fn status(&self, domain: &str) -> Status {
        let refusal = status::refusal(self.code, self.reason, domain, &self.message);
        match self.operator {
            Some(operator) => refusal.metadata("role", operator.role).into_status(),
            None => refusal.into_status(),
        }
    }
}

impl Operators {
    /// Those whom the settings name, for the service whose errors are of `domain`. Reads the file.
    ///
    /// # Errors
    /// Where the file can't be read, or is wrong.
    pub fn new(config: &OperatorsConfig, domain: &'static str) -> Result<Arc<Self>, Error> {
        describe_metrics();
        let policy = if config.has_file() {
            let path = config.file.clone();
            let read = std::fs::read(&path).map_err(|source| Error::Unreadable { path: path.clone(), source })?;
            let roster = RwLock::new(Arc::new(roster_of(&path, &read)?));
            metrics::gauge!(FILE_BROKEN).set(0.0);
            Policy::Those { path, roster }
        } else if config.open {
            tracing::warn!("everybody who reaches this process may operate it, in whatever name (operators.open)");
            Policy::Everybody
        } else {
            tracing::info!("nobody may operate this process: it is told of no operators (operators.file)");
            Policy::Nobody
        };
        Ok(Arc::new(Self { domain, policy, allowances: (Allowance::new(), Allowance::new()) }))
    }

    /// Everybody may do everything: for tests.
    #[must_use]
    pub fn everybody(domain: &'static str) -> Arc<Self> {
        Arc::new(Self { domain, policy: Policy::Everybody, allowances: (Allowance::new(), Allowance::new()) })
    }

    /// Lets a request in, or says why not, with what is to be noted in the audit.
    fn admit<M: Message>(&self, mut request: Request<M>) -> Result<Request<M>, Denied> {
        let roster = match &self.policy {
            Policy::Everybody => return Ok(request),
            Policy::Nobody => None,
            Policy::Those { roster, .. } => Some(Arc::clone(&roster.read().unwrap_or_else(PoisonError::into_inner))),
        };
        let method = Method::of(&request);
        match judged(roster.as_deref(), method, request.metadata()) {
            Ok(operator) => {
                set_caller(request.metadata_mut(), operator);
                Ok(request)
            }
            Err(refusal) => Err(self.denied(&request, method, &refusal)),
        }
    }

    /// The entry of a try could not be written: the next one tells of it.
    fn not_noted(&self, tried: &Tried) {
        metrics::counter!(UNNOTED).increment(1);
        self.allowance(tried.is_known).give_back(tried.others.saturating_add(1));
    }

    /// Takes over the file whenever it has changed, until `cancel`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn follow(&self, cancel: CancellationToken) {
        let Policy::Those { path, .. } = &self.policy else { return cancel.cancelled().await };
        let mut told = String::new();
        while cancel.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
            self.take_over(tokio::fs::read(path).await, &mut told);
        }
    }

    /// Takes over what was read, where it is what it must be. `told`: what was complained of last.
    fn take_over(&self, read: std::io::Result<Vec<u8>>, told: &mut String) {
        let Policy::Those { path, roster } = &self.policy else { return };
        let read = read.map_err(|source| Error::Unreadable { path: path.clone(), source });
        match read.and_then(|read| roster_of(path, &read)) {
            Ok(found) => {
                metrics::gauge!(FILE_BROKEN).set(0.0);
                let is_other = **roster.read().unwrap_or_else(PoisonError::into_inner) != found;
                if is_other || !told.is_empty() {
                    tracing::info!(operators = found.len(), "the operators' file was read again");
                }
                if is_other {
                    *roster.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
                }
                told.clear();
            }
            Err(error) => {
                metrics::gauge!(FILE_BROKEN).set(1.0);
                let problem = error.to_string();
                if problem != *told {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the operators' file is not what it must be: whom it let in before is let in still");
                    *told = problem;
                }
            }
        }
    }

    fn denied<M: Message>(&self, request: &Request<M>, method: Option<&'static str>, refusal: &Refusal<'_>) -> Denied {
        let status = refusal.status(self.domain);
        let method = method.unwrap_or("_OTHER");
        metrics::counter!(DENIED, "rpc_method" => method, "reason" => refusal.reason).increment(1);
        if operation(method) == Some(Operation::Read) {
            return Denied { status, tried: None };
        }
        let Some(others) = self.allowance(refusal.operator.is_some()).take() else {
            metrics::counter!(UNNOTED).increment(1);
            return Denied { status, tried: None };
        };
        let tried = Tried::of(request, method, refusal, others);
        let Tried { caller, action, resource, outcome, detail, .. } = &tried;
        tracing::warn!(caller, action, resource, outcome, detail, "an operation was refused to who may not do it");
        Denied { status, tried: Some(Box::new(tried)) }
    }

    const fn allowance(&self, is_known: bool) -> &Allowance {
        if is_known { &self.allowances.1 } else { &self.allowances.0 }
    }
}

/// Whether an operator can have this name: 1 to 64 letters, digits, `.`, `_`, `:` or `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    is_caller(text)
}

fn describe_metrics() {
    metrics::describe_counter!(DENIED, "Operations that were refused to who may not do them, by method and reason.");
    metrics::describe_counter!(
        UNNOTED,
        "Denied changes that have no audit entry of their own: too many came at once, or it could not be written."
    );
    metrics::describe_gauge!(
        FILE_BROKEN,
        "1 while the operators' file can't be read or is wrong, so that an earlier state of it is in force."
    );
}

/// Who is asking, where he may.
fn judged<'a>(roster: Option<&'a Roster>, method: Option<&str>, metadata: &MetadataMap) -> Result<&'a Operator, Refusal<'a>> {
    let roster = roster.ok_or_else(Refusal::nobody)?;
    let digest = token::sent(metadata).ok_or_else(Refusal::no_token)?;
    let operator = roster.holder(&digest).ok_or_else(Refusal::unknown_token)?;
    let ruled = method.and_then(|method| Some((method, operation(method)?)));
    let (method, operation) = ruled.ok_or_else(Refusal::no_rule)?;
    if rules::may(operator.role, method, operation) { Ok(operator) } else { Err(Refusal::role(operator)) }
}

/// Says who is asking. A service says itself for whom it asks, and asks for itself where it does not.
fn set_caller(metadata: &mut MetadataMap, operator: &Operator) {
    let speaks_for = Caller::of(metadata).is_some_and(|caller| !caller.is_anonymous());
    if operator.role == Role::Service && speaks_for {
        return;
    }
    // The names of operators are those of callers, which a header may have.
    if let Ok(name) = operator.name.parse() {
        metadata.insert(CALLER_METADATA, name);
    }
}

fn roster_of(path: &Path, read: &[u8]) -> Result<Roster, Error> {
    let path = || path.to_owned();
    if read.len() > FILE_BYTES_MAX {
        return Err(Error::TooLong { path: path() });
    }
    Roster::read(read).map_err(|roster::Flaw { line, problem }| Error::Malformed { path: path(), line, problem })
}

#[cfg(test)]
mod tests;

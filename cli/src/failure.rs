//! Why a command could not do what it was asked: one precise line, what may help, and the code to end with.

use std::error::Error;
use std::fmt::Write as _;

use idempo_errors::{Class, Classified};
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt as _;

use crate::exit::Exit;

/// How many names are proposed for one that is unknown.
const PROPOSED_MAX: usize = 3;
/// How alike a name must be to be proposed, 0 to 1 (Jaro-Winkler).
const ALIKE_MIN: f64 = 0.65;

/// Why a command could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What is wrong, in one line.
    pub message: String,
    /// What may help, in one line.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: one_line(&message.into()), hint: None }
    }

    /// The command was called wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same, with what may help.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(one_line(&hint.into()));
        self
    }

    /// Nothing of this kind has this name; the nearest names that exist are proposed, or all where there are few.
    #[must_use]
    pub fn unknown<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let mut alike: Vec<(f64, &str)> = known.iter().map(|other| (strsim::jaro_winkler(name, other), *other)).collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let near: Vec<&str> = alike.iter().filter(|(score, _)| *score >= ALIKE_MIN).take(PROPOSED_MAX).map(|(_, name)| *name).collect();
        let failure = Self::new(Exit::NotFound, format!("there is no {kind} `{name}`"));
        if !near.is_empty() {
            failure.hint(format!("did you mean {}?", near.join(", ")))
        } else if known.is_empty() {
            failure.hint(format!("there is no {kind} at all"))
        } else {
            failure.hint(format!("there are: {}", known.join(", ")))
        }
    }

    /// What a server answered.
    #[must_use]
    pub fn of_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let mut message = status.message().to_owned();
        if message.is_empty() {
            message = format!("the server answered {:?}", status.code());
        }
        if let Some(bad) = details.bad_request() {
            let fields: Vec<String> = bad.field_violations.iter().map(|one| format!("`{}` {}", one.field, one.description)).collect();
            message = format!("{message}: {}", fields.join("; "));
        }
        let mut hint = None;
        if let Some(info) = details.error_info() {
            let mut varies: Vec<String> = info.metadata.iter().map(|(key, value)| format!("{key} {value}")).collect();
            varies.sort_unstable();
            let _ = write!(message, " ({}{}{})", info.reason, if varies.is_empty() { "" } else { ": " }, varies.join(", "));
            hint = hint_of(&info.reason).map(str::to_owned);
        }
        if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
            hint = hint.or_else(|| Some(format!("try again in {} ms", delay.as_millis())));
        }
        Self { hint, ..Self::new(exit_of(status.code()), message) }
    }

    /// What came of a change that was asked for. Where it was not answered, whether it was made is seen at `look_at` alone.
    #[must_use]
    pub fn of_change(status: &Status, look_at: &str) -> Self {
        if is_answer(status) {
            return Self::of_status(status);
        }
        let why = match status.message() {
            "" => "no answer came",
            message => message,
        };
        Self::new(Exit::TimedOut, format!("the outcome is not known: look at {look_at} ({why})"))
    }

    /// What a server would refuse, for this reason: for who knows beforehand.
    #[must_use]
    pub fn refused(reason: &str, message: &str) -> Self {
        Self { hint: hint_of(reason).map(str::to_owned), ..Self::new(Exit::Conflict, format!("{message} ({reason})")) }
    }

    /// A failure of one of the platform's crates.
    pub fn of<E: Classified + Error>(what: &str, error: &E) -> Self {
        let exit = match error.class() {
            Class::Invalid => Exit::Usage,
            Class::NotFound => Exit::NotFound,
            Class::Denied => Exit::Denied,
            Class::Exhausted | Class::Unavailable => Exit::Unavailable,
            Class::DeadlineExceeded => Exit::TimedOut,
            Class::Internal => Exit::Failed,
        };
        Self::new(exit, format!("{what}: {}", chain(error)))
    }

    /// What a database could not do, or would not.
    pub fn of_database(name: &str, error: &idempo_pg::Error) -> Self {
        let failure = Self::of(name, error);
        match error {
            // For a service these are mistakes of its own; for an operator they are the answer.
            idempo_pg::Error::Refused(_) => Self { exit: Exit::Denied, ..failure },
            idempo_pg::Error::Config(_) => Self { exit: Exit::Usage, ..failure },
            _ => failure,
        }
    }

    /// What the checker could not read.
    #[must_use]
    pub fn of_checker(error: &idempo_checker::Error) -> Self {
        use idempo_checker::Error as E;
        let exit = match error {
            E::Database { .. } | E::Topic { .. } => Exit::Unavailable,
            E::Late(_) => Exit::TimedOut,
            // Something is there and is not what it must be.
            E::Format(_) => Exit::Differences,
            E::Io(_) => Exit::Failed,
        };
        Self::new(exit, chain(error))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::of_status(&status)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever reads our output has had enough of it: `idempo event stream | head` is no failure.
        let exit = if error.kind() == std::io::ErrorKind::BrokenPipe { Exit::Done } else { Exit::Failed };
        Self::new(exit, error.to_string())
    }
}

/// The one table from what a server answers to how the process ends.
#[must_use]
pub const fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Done,
        Code::InvalidArgument => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists | Code::OutOfRange => Exit::Conflict,
        Code::Unavailable | Code::ResourceExhausted => Exit::Unavailable,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
        // Cancelled is what our own side makes of a call that is not answered in time.
        Code::DeadlineExceeded | Code::Cancelled => Exit::TimedOut,
        Code::Unknown | Code::Internal | Code::Unimplemented | Code::DataLoss => Exit::Failed,
    }
}

/// Whether the process was never reached: no connection came about, so it has heard nothing, and another one may be asked instead even for a change.
#[must_use]
pub fn is_unreached(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Whether a status says what has become of the call. One that was not answered in time, or broke off, may have had its effect.
fn is_answer(status: &Status) -> bool {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => false,
        // The platform's own answers have details.
        Code::Unavailable => !status.details().is_empty() || is_unreached(status),
        // What our own side makes of a connection that breaks off.
        Code::Unknown | Code::Internal => status.source().is_none(),
        _ => true,
    }
}

/// What to do about a reason, where that is not plain.
fn hint_of(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "OPERATOR_UNKNOWN" => {
            "--token-file names the file with your token; a line in the operators' file must have it: `idempo operator new`"
        }
        "OPERATOR_ROLE_REQUIRED" => "whoever keeps the operators' file can give you another role",
        "OPERATORS_NOT_CONFIGURED" => "set operators.file of that process: `idempo operator new` makes a line for it",
        "OUTBOX_NOT_HELD" => "no relay runs, or none reaches the database: see `idempo relay status` and `idempo doctor`",
        "LEASE_EPOCH_MISMATCH" => "another relay has taken over since: look again with `idempo relay status`",
        "QUARANTINED_ROW_STATE" => "look at the row with `idempo outbox show`",
        "GENERATION_UNVERIFIED" => "`idempo projection verify` compares it; --force switches all the same",
        "GENERATION_LAGGING" => "`idempo projection status` shows how far it is; --force switches all the same",
        "LIVE_GENERATION_MISMATCH" => "somebody has switched since: look again with `idempo projection status`",
        "REBUILD_UNDER_WAY" => "`idempo projection status` shows it, `idempo projection cancel` ends it",
        "HISTORY_INCOMPLETE" => "rebuild from the event store: --from store",
        "JOB_MEMBERS_CHANGED" => "somebody has dealt with some of them since: `idempo dlq plan` makes another job",
        "DEAD_LETTER_IN_JOB" => "`idempo dlq jobs --state applying` shows the job",
        "DEAD_LETTER_NOT_OPEN" => "`idempo dlq show` tells what has become of it",
        "KEY_PARKED" => "`idempo dlq show` tells why the dead letter failed",
        "OUTBOX_NOT_FOUND" => "`idempo relay status` lists the outboxes",
        _ => return None,
    })
}

/// An error with its causes, without saying anything twice.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

/// Several lines as one.
pub(crate) fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn an_unknown_name_brings_the_nearest() {
        let failure = Failure::unknown("outbox", "walet", ["inventory", "wallet"]);
        assert_eq!((failure.exit, failure.hint.as_deref()), (Exit::NotFound, Some("did you mean wallet?")));
        assert_eq!(Failure::unknown("outbox", "zzz", ["a", "b"]).hint.as_deref(), Some("there are: a, b"));
        assert_eq!(Failure::unknown("outbox", "zzz", []).hint.as_deref(), Some("there is no outbox at all"));
    }

    #[test]
    fn a_status_becomes_one_line_with_its_details() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("reason", "must be 1 to 128 characters");
        details.set_error_info("INVALID_FIELD", "outbox-relay.idempo", []);
        let failure = Failure::of_status(&Status::with_error_details(Code::InvalidArgument, "fields are wrong", details));
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.message, "fields are wrong: `reason` must be 1 to 128 characters (INVALID_FIELD)");
    }

    #[test]
    fn a_change_that_was_not_answered_has_no_known_outcome() {
        for code in [Code::Cancelled, Code::DeadlineExceeded, Code::Unavailable] {
            let failure = Failure::of_change(&Status::new(code, "Timeout expired"), "`idempo dlq jobs`");
            assert_eq!(
                (failure.exit, failure.message.as_str()),
                (Exit::TimedOut, "the outcome is not known: look at `idempo dlq jobs` (Timeout expired)"),
                "{code:?}"
            );
        }
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        assert_eq!(Failure::of_change(&broken, "it").exit, Exit::TimedOut, "{broken:?}");
    }

    #[test]
    fn a_change_that_was_answered_has_the_outcome_of_the_answer() {
        let away = ErrorDetails::with_retry_info(Some(Duration::from_millis(200)));
        let status = Status::with_error_details(Code::Unavailable, "the database is away", away);
        assert_eq!(Failure::of_change(&status, "it"), Failure::of_status(&status));
        for code in [Code::FailedPrecondition, Code::NotFound, Code::PermissionDenied, Code::Internal] {
            let status = Status::new(code, "no");
            assert_eq!(Failure::of_change(&status, "it"), Failure::of_status(&status), "{code:?}");
        }
    }

    #[test]
    fn a_transient_status_says_when_to_try_again() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(200)));
        let failure = Failure::of_status(&Status::with_error_details(Code::Unavailable, "the database is away", details));
        assert_eq!((failure.exit, failure.hint.as_deref()), (Exit::Unavailable, Some("try again in 200 ms")));
    }
}

//! The one table from SQLSTATE to what follows.

use std::error::Error as _;

use crate::Error;

/// What a SQLSTATE means for whoever sent the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Refused,
    Exhausted,
    Unknown,
    Contention,
    Timeout,
    Constraint,
    Data,
}

/// SQLSTATE, or its first two characters for a whole class. The first match counts.
///
/// A backend that ends during a statement (57P01, 57P02) may have ended after the commit was on disk, so its outcome is unknown.
const TABLE: &[(&str, Kind)] = &[
    ("08001", Kind::Unavailable), // can't connect
    ("08004", Kind::Unavailable), // connection rejected
    ("08", Kind::Unknown),        // connection lost
    ("22", Kind::Data),           // data exception
    ("23", Kind::Constraint),     // integrity constraint
    ("25006", Kind::Unavailable), // read only: an old primary after a failover, or a standby
    ("25P03", Kind::Unavailable), // ended while idle in a transaction: rolled back
    ("25P04", Kind::Timeout),     // transaction_timeout
    ("26000", Kind::Unavailable), // the prepared statement is gone
    ("28", Kind::Refused),        // authorization
    ("3D000", Kind::Refused),     // no such database
    ("40003", Kind::Unknown),     // statement completion unknown
    ("40", Kind::Contention),     // serialization failure, deadlock
    ("42501", Kind::Refused),     // insufficient privilege
    ("53300", Kind::Unavailable), // too many connections
    ("53", Kind::Exhausted),      // disk, memory, configured limit
    ("55P03", Kind::Contention),  // lock_timeout, NOWAIT
    ("57014", Kind::Timeout),     // statement_timeout, cancelled
    ("57P03", Kind::Unavailable), // starting up, shutting down
    ("57P04", Kind::Unavailable), // database dropped
    ("57P05", Kind::Unavailable), // idle_session_timeout
    ("57", Kind::Unknown),        // ended by an administrator or by a crash
    ("58", Kind::Unavailable),    // io error of the server
];

fn kind(sqlstate: &str) -> Kind {
    TABLE.iter().find(|(prefix, _)| sqlstate.starts_with(prefix)).map_or(Kind::Data, |(_, kind)| *kind)
}

/// Says what follows from an error of a statement on a connection that was open.
///
/// Where the connection was lost, the outcome is [`Error::Unknown`], even for a read: whoever only reads may take it for unavailable, as
/// [`idempo_errors::Class`] does.
#[must_use]
pub fn classify(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        let lost = error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>());
        return if lost { Error::Unknown(error) } else { Error::Data { sqlstate: String::new(), source: error } };
    };
    let sqlstate = db.code().code().to_owned();
    match kind(&sqlstate) {
        Kind::Unavailable => Error::Unavailable(Some(error)),
        Kind::Refused => Error::Refused(error),
        Kind::Exhausted => Error::Exhausted(error),
        Kind::Unknown => Error::Unknown(error),
        Kind::Contention => Error::Contention(error),
        Kind::Timeout => Error::Timeout(error),
        Kind::Constraint => Error::Constraint { constraint: db.constraint().map(str::to_owned), sqlstate, source: error },
        Kind::Data => Error::Data { sqlstate, source: error },
    }
}

/// Says what follows from an error while connecting: nothing was sent, so nothing is unknown.
pub(crate) fn classify_connect(error: tokio_postgres::Error) -> Error {
    match error.as_db_error().map(|db| connect_kind(db.code().code())) {
        Some(Kind::Refused) => Error::Refused(error),
        Some(Kind::Data) => Error::Config(connect_text(&error)),
        _ => Error::Unavailable(Some(error)),
    }
}

/// What a SQLSTATE means for whoever connects. A database that is not in the state for it (class 55: it takes no connections for now, as
/// while it is renamed or copied) may be so soon; for a statement the same class is a defect of ours.
fn connect_kind(sqlstate: &str) -> Kind {
    match kind(sqlstate) {
        Kind::Refused => Kind::Refused,
        Kind::Data | Kind::Constraint if !sqlstate.starts_with("55") => Kind::Data,
        _ => Kind::Unavailable,
    }
}

fn connect_text(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_judged_by_its_own_entry_before_its_class() {
        assert_eq!(kind("40001"), Kind::Contention);
        assert_eq!(kind("40003"), Kind::Unknown);
        assert_eq!(kind("08006"), Kind::Unknown);
        assert_eq!(kind("08001"), Kind::Unavailable);
        assert_eq!(kind("57P01"), Kind::Unknown);
        assert_eq!(kind("57014"), Kind::Timeout);
        assert_eq!(kind("53100"), Kind::Exhausted);
        assert_eq!(kind("42P01"), Kind::Data);
        assert_eq!(kind("42501"), Kind::Refused);
        assert_eq!(kind("XX001"), Kind::Data);
    }

    #[test]
    fn a_database_that_takes_no_connection_now_is_unavailable_and_not_a_mistake_in_the_settings() {
        for sqlstate in ["55000", "55006", "57P03", "57P01", "53300", "53200", "08004"] {
            assert_eq!(connect_kind(sqlstate), Kind::Unavailable, "{sqlstate}");
        }
        assert_eq!(connect_kind("28P01"), Kind::Refused);
        assert_eq!(connect_kind("3D000"), Kind::Refused);
        assert_eq!(connect_kind("22023"), Kind::Data, "a session setting with a bad value");
        assert_eq!(kind("55000"), Kind::Data);
    }

    #[test]
    fn no_entry_is_hidden_behind_an_earlier_one() {
        for (at, (later, _)) in TABLE.iter().enumerate() {
            assert!(TABLE.iter().take(at).all(|(earlier, _)| !later.starts_with(earlier)), "{later} is never reached");
        }
    }
}

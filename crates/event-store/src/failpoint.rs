//! Named points of the append, where a test kills the process. They are no code without the feature `failpoints` of `idempo-runtime`.
//!
//! Between the steps of the append itself there are none: it is one call of one database function, and tests stop it there with triggers.

/// A batch is decided and a connection is had; the call was not sent. A kill leaves nothing in the database.
pub const APPEND_BEFORE_CALL: &str = "append.before_call";
/// The executor has looked at what waits while a batch is with the database. A kill may come before the call has left the process, while the
/// database works, or after its COMMIT: the command is there or not, and nobody knows.
pub const APPEND_IN_FLIGHT: &str = "append.in_flight";
/// The database has answered: the batch is durable, or its conflicts are known. A kill leaves durable commands that nobody was told of and for which
/// no doorbell rang.
pub const APPEND_ANSWERED: &str = "append.answered";
/// The executor has the answer and has told no caller. A kill is as at [`APPEND_ANSWERED`], with the doorbell rung.
pub const APPEND_BEFORE_TELLING: &str = "append.before_telling";
/// A caller was told, and its reply has not gone out. A kill leaves some callers of a batch with their replies, and others without.
pub const APPEND_BEFORE_REPLY: &str = "append.before_reply";

/// All of them.
pub const ALL: [&str; 5] = [APPEND_BEFORE_CALL, APPEND_IN_FLIGHT, APPEND_ANSWERED, APPEND_BEFORE_TELLING, APPEND_BEFORE_REPLY];

//! Named points of the relay, where a test kills the process. They are no code without the feature `failpoints` of `idempo-runtime`.

/// The lease is about to be asked for. A kill leaves nothing, or, of a stand-by that would have had it, an outbox that waits for another.
pub const RELAY_BEFORE_TAKE: &str = "relay.before_take";
/// The lease was taken, and nothing was done with it. A kill leaves a raised epoch.
pub const RELAY_TAKEN: &str = "relay.taken";
/// A page was read, and none of it was sent. A kill leaves its rows to be read again.
pub const RELAY_PAGE_READ: &str = "relay.page_read";
/// All records of a page were handed to the producer. A kill leaves any of them in Kafka, and the next holder sends all of them.
pub const RELAY_HANDED_OVER: &str = "relay.handed_over";
/// The brokers have acknowledged a page, and the position in memory has not moved over it. A kill leaves records in Kafka that the cursor does
/// not know of.
pub const RELAY_ACKNOWLEDGED: &str = "relay.acknowledged";
/// The position in memory has moved, and the cursor was not written. A kill is as at [`RELAY_ACKNOWLEDGED`], with more of them.
pub const RELAY_BEFORE_CURSOR: &str = "relay.before_cursor";
/// The cursor was written. A kill leaves nothing to be sent again but what came since.
pub const RELAY_CURSOR_WRITTEN: &str = "relay.cursor_written";
/// The lease is about to be renewed. A kill leaves it to its session's end.
pub const RELAY_BEFORE_RENEW: &str = "relay.before_renew";
/// The lease was renewed. A kill leaves a lease with all its time.
pub const RELAY_RENEWED: &str = "relay.renewed";
/// Asked to stop: the last position is stored, and the lease was not given back.
pub const RELAY_BEFORE_RELEASE: &str = "relay.before_release";
/// Asked to stop: the lease was given back.
pub const RELAY_RELEASED: &str = "relay.released";
/// Writers are about to be sent to the next outbox table.
pub const RELAY_BEFORE_ROTATE: &str = "relay.before_rotate";
/// Writers go to the next outbox table. A kill leaves a table that is to be emptied.
pub const RELAY_ROTATED: &str = "relay.rotated";
/// A table is about to be emptied.
pub const RELAY_BEFORE_TRUNCATE: &str = "relay.before_truncate";
/// A table was looked at, and emptied if everything in it was in Kafka.
pub const RELAY_TRUNCATED: &str = "relay.truncated";

/// All of them.
pub const ALL: [&str; 15] = [
    RELAY_BEFORE_TAKE,
    RELAY_TAKEN,
    RELAY_PAGE_READ,
    RELAY_HANDED_OVER,
    RELAY_ACKNOWLEDGED,
    RELAY_BEFORE_CURSOR,
    RELAY_CURSOR_WRITTEN,
    RELAY_BEFORE_RENEW,
    RELAY_RENEWED,
    RELAY_BEFORE_RELEASE,
    RELAY_RELEASED,
    RELAY_BEFORE_ROTATE,
    RELAY_ROTATED,
    RELAY_BEFORE_TRUNCATE,
    RELAY_TRUNCATED,
];

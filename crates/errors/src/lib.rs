//! What a caller can do about an error: the one vocabulary that every crate's errors are mapped to.
//!
//! A crate's error enum says what went wrong; its [`Class`] says what follows from it. One table (`idempo-rpc`) maps classes to gRPC codes.
//! A domain refusal is not an error and has no class.

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request is malformed and will stay so.
    Invalid,
    /// What was asked for does not exist.
    NotFound,
    /// The caller may not do this.
    Denied,
    /// A limit of ours was reached; the same request may succeed later.
    Exhausted,
    /// A dependency is away, or an outcome is unknown; the same request with the same key may be sent again.
    Unavailable,
    /// Time ran out; the outcome is unknown.
    DeadlineExceeded,
    /// A defect of ours, or data that breaks an invariant. Sending again will not help.
    Internal,
}

impl Class {
    /// Whether sending the same request again can succeed without anyone mending anything by hand.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Exhausted | Self::Unavailable | Self::DeadlineExceeded)
    }
}

/// An error that knows its class and has a stable code.
pub trait Classified: std::error::Error {
    /// What follows from the error.
    fn class(&self) -> Class;
    /// A stable name in `SCREAMING_SNAKE_CASE`: for clients, metrics and alerts. Never changes once shipped.
    fn code(&self) -> &'static str;
}

//! Why something is done.

use std::sync::Arc;

/// Why something is done, at most [`Reason::MAX_CHARS`] characters. Cheap to clone: states that hold it are cloned often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason(Option<Arc<str>>);

impl Reason {
    /// The longest reason, in characters.
    pub const MAX_CHARS: usize = 128;

    /// The reason, or `None` where it is too long.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        // A character takes at least one byte, so most texts need no count.
        let fits = text.len() <= Self::MAX_CHARS || text.chars().count() <= Self::MAX_CHARS;
        fits.then(|| Self((!text.is_empty()).then(|| Arc::from(text))))
    }

    /// The text; empty where no reason was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_counted_in_characters() {
        assert!(Reason::new(&"ä".repeat(128)).is_some());
        assert!(Reason::new(&"ä".repeat(129)).is_none());
        assert_eq!(Reason::new("").map(|reason| reason.as_str().len()), Some(0));
    }
}

//! A bounded memory of what happened last, which knows how far back it reaches.

use std::collections::VecDeque;

/// The latest `MAX` keys of one kind of event, with the stream version of each.
///
/// For states that must stay small: what is older is looked up in a table, and comes with the command.
///
/// It never says no by mistake: [`Recent::find`] tells "it was not after `version`" from "it may have been, and I have forgotten".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent<K, V, const MAX: usize> {
    entries: VecDeque<(u64, K, V)>,
    forgotten_version: u64,
}

impl<K, V, const MAX: usize> Default for Recent<K, V, MAX> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), forgotten_version: 0 }
    }
}

/// What a bounded memory knows about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory<V> {
    /// It happened.
    Happened(V),
    /// It did not happen after the version asked about.
    NotSince,
    /// It may have happened after the version asked about.
    Unknown,
}

impl<K: Copy + PartialEq, V: Copy, const MAX: usize> Recent<K, V, MAX> {
    /// Remembers what happened at `version`, which is above that of every call before.
    pub fn remember(&mut self, version: u64, key: K, value: V) {
        if self.entries.len() >= MAX
            && let Some((oldest_version, _, _)) = self.entries.pop_front()
        {
            self.forgotten_version = oldest_version;
        }
        self.entries.push_back((version, key, value));
    }

    /// What is known about `key`, for a caller that knows all up to and including `version`.
    #[must_use]
    pub fn find(&self, key: K, version: u64) -> Memory<V> {
        match self.entries.iter().rev().find(|(_, other, _)| *other == key) {
            Some((_, _, value)) => Memory::Happened(*value),
            None if self.forgotten_version > version => Memory::Unknown,
            None => Memory::NotSince,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_found_and_what_never_was_is_not() {
        let mut recent = Recent::<_, _, 2>::default();
        recent.remember(3, 'a', 1);
        assert_eq!(recent.find('a', 0), Memory::Happened(1));
        assert_eq!(recent.find('b', 0), Memory::NotSince);
    }

    #[test]
    fn what_may_be_forgotten_is_unknown_to_whoever_has_not_seen_it() {
        let mut recent = Recent::<_, _, 256>::default();
        for version in 1..=257_u64 {
            recent.remember(version, version, ());
        }
        assert_eq!(recent.find(1, 0), Memory::Unknown, "version 1 was forgotten");
        assert_eq!(recent.find(1, 1), Memory::NotSince, "the caller has seen version 1");
        assert_eq!(recent.find(2, 0), Memory::Happened(()));
    }
}

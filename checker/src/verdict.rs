//! What a check says.

use serde::Serialize;

/// How many flaws a verdict shows; it counts them all.
const SHOWN_MAX: usize = 5;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The invariant's name in the catalogue, such as `I1`.
    pub id: &'static str,
    /// What is claimed.
    pub claim: &'static str,
    /// How many things were looked at.
    pub looked_at: u64,
    /// What kind of things they are.
    pub of: &'static str,
    /// How many flaws there are.
    pub flaw_count: u64,
    /// The first of them.
    pub flaws: Vec<String>,
}

impl Verdict {
    /// A verdict on nothing yet.
    #[must_use]
    pub const fn new(id: &'static str, claim: &'static str, of: &'static str) -> Self {
        Self { id, claim, looked_at: 0, of, flaw_count: 0, flaws: Vec::new() }
    }

    /// Looks at one thing, which is flawed unless `holds`.
    pub fn look(&mut self, holds: bool, flaw: impl FnOnce() -> String) {
        self.looked_at += 1;
        self.require(holds, flaw);
    }

    /// Says something more of a thing that is looked at already.
    pub fn require(&mut self, holds: bool, flaw: impl FnOnce() -> String) {
        if holds {
            return;
        }
        self.flaw_count += 1;
        if self.flaws.len() < SHOWN_MAX {
            self.flaws.push(flaw());
        }
    }

    /// Counts things that are looked at in another way.
    pub fn looked_at(&mut self, count: usize) {
        self.looked_at = self.looked_at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Whether the claim holds: nothing is flawed, and there was something to look at.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.flaw_count == 0 && self.looked_at > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_on_nothing_does_not_hold() {
        assert!(!Verdict::new("I0", "nothing", "things").holds());
    }

    #[test]
    fn all_flaws_are_counted_and_the_first_are_shown() {
        let mut verdict = Verdict::new("I0", "everything", "things");
        for number in 0..9 {
            verdict.look(number == 0, || format!("thing {number}"));
        }
        assert_eq!((verdict.looked_at, verdict.flaw_count, verdict.flaws.len()), (9, 8, 5));
        assert!(!verdict.holds());
    }
}

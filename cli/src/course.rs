//! What is known of a command while it runs: what it has begun, what it asked, and what it would have done. Whoever ends it early is told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::exit::Exit;

/// What is known of a command while it runs.
#[derive(Debug, Default)]
pub(crate) struct Course {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What stops the thing that the command waits for, while it waits.
    goes_on: Option<String>,
    /// Where to look for what came of the change that is under way, while it is.
    changing: Option<String>,
    /// How long questions have stood.
    asked: Duration,
    /// What a dry run has left undone.
    would: Vec<Would>,
}

/// What a dry run has left undone.
#[derive(Debug)]
struct Would {
    target: Option<String>,
    what: String,
}

impl Course {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something goes on without the command, or has come to an end.
    pub(crate) fn goes_on(&self, stops: Option<String>) {
        self.state().goes_on = stops;
    }

    /// A change is under way, or is not any more.
    pub(crate) fn changing(&self, look_at: Option<&str>) {
        self.state().changing = look_at.map(str::to_owned);
    }

    /// A question stood for this long.
    pub(crate) fn asked(&self, length: Duration) {
        let mut state = self.state();
        state.asked = state.asked.saturating_add(length);
    }

    /// How long questions have stood: no command is to end because a person thinks.
    pub(crate) fn time_asked(&self) -> Duration {
        self.state().asked
    }

    /// A dry run has left something undone.
    pub(crate) fn would(&self, target: Option<&str>, what: &str) {
        self.state().would.push(Would { target: target.map(str::to_owned), what: what.to_owned() });
    }

    /// What a dry run has left undone, as a document each. `action` is the command's own words.
    pub(crate) fn dry_runs(&self, action: &str) -> Vec<Value> {
        let document = |would: &Would| json!({ "dry_run": true, "action": action, "target": would.target, "would": would.what });
        self.state().would.iter().map(document).collect()
    }

    /// What people are to be told of what is left behind by a command that ends so.
    pub(crate) fn left_behind(&self, exit: Exit) -> Option<String> {
        let state = self.state();
        if !matches!(exit, Exit::TimedOut | Exit::Interrupted | Exit::Unavailable) {
            return None;
        }
        match (&state.changing, &state.goes_on) {
            (Some(look_at), _) => Some(format!("the outcome is not known: look at {look_at}")),
            (None, Some(stops)) => Some(format!("it goes on: {stops}")),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_to_who_ends_the_command_early_and_to_nobody_else() {
        let course = Course::default();
        assert_eq!(course.left_behind(Exit::Interrupted), None);
        course.goes_on(Some("`idempo dlq cancel 7` stops it".to_owned()));
        for exit in [Exit::Interrupted, Exit::TimedOut, Exit::Unavailable] {
            assert_eq!(course.left_behind(exit).as_deref(), Some("it goes on: `idempo dlq cancel 7` stops it"));
        }
        for exit in [Exit::Done, Exit::Conflict, Exit::Failed] {
            assert_eq!(course.left_behind(exit), None, "{exit:?}");
        }
        course.goes_on(None);
        assert_eq!(course.left_behind(Exit::Interrupted), None);
    }

    #[test]
    fn a_change_that_nobody_waited_for_has_no_known_outcome() {
        let course = Course::default();
        course.goes_on(Some("nothing stops it".to_owned()));
        course.changing(Some("`idempo dlq audit`"));
        assert_eq!(course.left_behind(Exit::TimedOut).as_deref(), Some("the outcome is not known: look at `idempo dlq audit`"));
        course.changing(None);
        assert_eq!(course.left_behind(Exit::TimedOut).as_deref(), Some("it goes on: nothing stops it"));
    }

    #[test]
    fn a_dry_run_says_what_it_would_have_done_to_what() {
        let course = Course::default();
        course.would(Some("projections/inventory"), "stop it");
        course.would(None, "something");
        let documents = course.dry_runs("projection pause");
        assert_eq!(
            documents,
            [
                json!({ "dry_run": true, "action": "projection pause", "target": "projections/inventory", "would": "stop it" }),
                json!({ "dry_run": true, "action": "projection pause", "target": null, "would": "something" }),
            ]
        );
    }
}

//! Whether a process can do its work: a list of named conditions, all of which must be met.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

/// What a process still lacks to be ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The condition that is not met.
    pub condition: String,
    /// Why.
    pub reason: String,
}

/// Whether a role is ready: it is when every condition is met and it was not asked to stop. Cheap to clone; all clones are the same list.
#[derive(Debug, Clone)]
pub struct Readiness {
    list: Arc<List>,
}

#[derive(Debug)]
struct List {
    service: &'static str,
    conditions: Mutex<Conditions>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Conditions {
    stopping: bool,
    next: u64,
    by_number: BTreeMap<u64, (Cow<'static, str>, State)>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Not met so far.
    Pending,
    Met,
    /// Was looked at and is not met.
    Unmet(Cow<'static, str>),
}

/// One condition. Unmet until [`met`](Self::met) is called; dropping it takes it off the list.
#[derive(Debug)]
pub struct Condition {
    readiness: Readiness,
    number: u64,
}

impl Readiness {
    /// A list without conditions, hence ready. `service` names the role in log lines.
    #[must_use]
    pub fn new(service: &'static str) -> Self {
        Self { list: Arc::new(List { service, conditions: Mutex::default(), ready: watch::Sender::new(true) }) }
    }

    /// Adds a condition, unmet for now.
    #[must_use = "the condition is taken off the list when this is dropped"]
    pub fn condition(&self, name: impl Into<Cow<'static, str>>) -> Condition {
        let number = self.change(|conditions| {
            let number = conditions.next;
            conditions.next = number.wrapping_add(1);
            conditions.by_number.insert(number, (name.into(), State::Pending));
            number
        });
        Condition { readiness: self.clone(), number }
    }

    /// Whether every condition is met and no stop was asked for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.list.ready.borrow()
    }

    /// What is missing, in the order the conditions were added; empty when ready.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        self.lock().missing()
    }

    /// Waits until the role is ready.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait_ready(&self) {
        // The sender lives as long as `self`: this only ends by being ready.
        let _ = self.list.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Follows readiness as it changes: for a gRPC health service, say.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.list.ready.subscribe()
    }

    /// Makes the role not ready for good, because it is asked to stop.
    pub fn stop(&self) {
        self.change(|conditions| conditions.stopping = true);
    }

    fn set(&self, number: u64, state: State) {
        self.change(|conditions| {
            let stopping = conditions.stopping;
            let Some((name, known)) = conditions.by_number.get_mut(&number) else { return };
            if *known == state {
                return;
            }
            if let State::Unmet(reason) = &state
                && !stopping
                && *known == State::Met
            {
                warn!(role = self.list.service, condition = %name, %reason, "condition no longer met");
            }
            *known = state;
        });
    }

    /// Changes the list, then tells followers when readiness changed with it. Under the list's lock, so that followers see changes in order.
    fn change<T>(&self, change: impl FnOnce(&mut Conditions) -> T) -> T {
        let mut conditions = self.lock();
        let result = change(&mut conditions);
        let ready = conditions.are_met();
        let changed = self.list.ready.send_if_modified(|known| std::mem::replace(known, ready) != ready);
        if changed && ready {
            info!(role = self.list.service, "ready");
        } else if changed && conditions.next > 1 {
            let missing: Vec<_> = conditions.missing().into_iter().map(|missing| missing.condition).collect();
            info!(role = self.list.service, missing = missing.join(", "), "not ready");
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Conditions> {
        self.list.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conditions {
    fn are_met(&self) -> bool {
        !self.stopping && self.by_number.values().all(|(_, state)| *state == State::Met)
    }

    fn missing(&self) -> Vec<Missing> {
        let stopping = self.stopping.then(|| Missing { condition: "running".to_owned(), reason: "stopping".to_owned() });
        let unmet = self.by_number.values().filter_map(|(name, state)| {
            let reason = match state {
                State::Met => return None,
                State::Pending => "not yet".to_owned(),
                State::Unmet(reason) => reason.clone().into_owned(),
            };
            Some(Missing { condition: name.clone().into_owned(), reason })
        });
        stopping.into_iter().chain(unmet).collect()
    }
}

impl Condition {
    /// The condition is met. Cheap to call again and again.
    pub fn met(&self) {
        self.readiness.set(self.number, State::Met);
    }

    /// The condition is not met, for `reason`. Cheap to call again and again; a change from met is logged.
    pub fn unmet(&self, reason: impl Into<Cow<'static, str>>) {
        self.readiness.set(self.number, State::Unmet(reason.into()));
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.readiness.change(|conditions| {
            conditions.by_number.remove(&self.number);
        });
    }
}

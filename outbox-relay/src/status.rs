//! What an outbox is doing at this process, as readiness, metrics and logs tell it.

use std::sync::{Mutex, PoisonError};

use idempo_clock::SharedClock;
use idempo_runtime::Condition;
use jiff::Timestamp;

use crate::metrics::Metrics;

/// What an outbox is doing at this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// The database is not reached.
    Connecting,
    /// Another process has the lease.
    Standby,
    /// This process has the lease and prepares.
    Starting,
    /// This process relays.
    Relaying,
    /// This process has the lease, and people have paused the outbox. Rows wait.
    Paused,
    /// This process has the lease, and the brokers are away or don't acknowledge. Rows wait.
    BrokerAway,
    /// This process has the lease, and stands before something that only people can mend. Rows wait.
    Blocked {
        /// What it is, for people.
        reason: String,
    },
}

impl State {
    /// Every state's name, for the metric.
    pub(crate) const NAMES: [&str; 7] = ["connecting", "standby", "starting", "relaying", "paused", "broker_away", "blocked"];

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Standby => "standby",
            Self::Starting => "starting",
            Self::Relaying => "relaying",
            Self::Paused => "paused",
            Self::BrokerAway => "broker_away",
            Self::Blocked { .. } => "blocked",
        }
    }

    pub(crate) const fn is_leader(&self) -> bool {
        !matches!(self, Self::Connecting | Self::Standby)
    }
}

/// Tells the state of one outbox to whoever wants to know.
pub(crate) struct Status {
    name: String,
    state: Mutex<State>,
    last_error: Mutex<Option<(String, Timestamp)>>,
    clock: SharedClock,
    condition: Condition,
    metrics: Metrics,
}

impl Status {
    pub(crate) fn new(name: &str, condition: Condition, clock: SharedClock, metrics: Metrics) -> Self {
        let (state, last_error) = (Mutex::new(State::Connecting), Mutex::new(None));
        let status = Self { name: name.to_owned(), state, last_error, clock, condition, metrics };
        status.metrics.state(&State::Connecting);
        status
    }

    /// The outbox is in this state now. A change is logged; a stop that people must mend is an error.
    pub(crate) fn set(&self, state: State) {
        {
            let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if *current == state {
                return;
            }
            current.clone_from(&state);
        }
        let outbox = self.name.as_str();
        match &state {
            State::Blocked { reason } => {
                tracing::error!(outbox, reason, "the outbox is blocked: nothing of it is relayed until this is mended");
                self.went_wrong(reason);
            }
            State::BrokerAway => tracing::warn!(outbox, "the brokers are away: rows wait"),
            _ => tracing::info!(outbox, state = state.name(), "the outbox's state has changed"),
        }
        match &state {
            // Who paused it wants it so, and must be able to reach us to resume it.
            State::Standby | State::Relaying | State::Paused => self.condition.met(),
            State::Blocked { reason } => self.condition.unmet(format!("blocked: {reason}")),
            // A stand-by that takes over is as able to work as it was; if it is not, that is the next state.
            State::Starting => {}
            State::Connecting | State::BrokerAway => self.condition.unmet(state.name()),
        }
        self.metrics.state(&state);
    }

    /// A producer has started. Where the outbox was blocked, only time can tell whether it still is.
    pub(crate) fn relaying_unless_blocked(&self) {
        let stays = matches!(&*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Blocked { .. });
        if !stays {
            self.set(State::Relaying);
        }
    }

    /// Something went wrong, for who asks later.
    pub(crate) fn went_wrong(&self, what: impl Into<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some((what.into(), self.clock.now()));
    }

    /// The state, and what went wrong last and when.
    pub(crate) fn told(&self) -> (State, Option<(String, Timestamp)>) {
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.state.lock().unwrap_or_else(PoisonError::into_inner).clone(), last_error)
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_leader()
    }
}

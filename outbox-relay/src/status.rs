//! What an outbox is doing at this process, as readiness, metrics and logs tell it.

use std::sync::{Mutex, PoisonError};

use idempo_runtime::Condition;

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
    pub(crate) const NAMES: [&str; 6] = ["connecting", "standby", "starting", "relaying", "broker_away", "blocked"];

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Standby => "standby",
            Self::Starting => "starting",
            Self::Relaying => "relaying",
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
    condition: Condition,
    metrics: Metrics,
}

impl Status {
    pub(crate) fn new(name: &str, condition: Condition, metrics: Metrics) -> Self {
        let status = Self { name: name.to_owned(), state: Mutex::new(State::Connecting), condition, metrics };
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
                tracing::error!(outbox, reason, "the outbox is blocked: nothing of it is relayed until this is mended")
            }
            State::BrokerAway => tracing::warn!(outbox, "the brokers are away: rows wait"),
            _ => tracing::info!(outbox, state = state.name(), "the outbox's state has changed"),
        }
        match &state {
            State::Standby | State::Relaying => self.condition.met(),
            State::Blocked { reason } => self.condition.unmet(format!("blocked: {reason}")),
            State::Connecting | State::Starting | State::BrokerAway => self.condition.unmet(state.name()),
        }
        self.metrics.state(&state);
    }

    /// A producer has started. Where the outbox was blocked, only time can tell whether it still is.
    pub(crate) fn relaying_unless_blocked(&self) {
        let blocked = matches!(&*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Blocked { .. });
        if !blocked {
            self.set(State::Relaying);
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_leader()
    }
}

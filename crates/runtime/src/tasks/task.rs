//! What a task is: its name, when it is stopped, and what follows from its end. Declared as data, so that a reader sees it where the task is
//! spawned.

use std::borrow::Cow;

/// When a task is stopped, once the process has been asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Takes in new work: servers, consumers. Stopped first, and awaited before anything else is stopped.
    Edge,
    /// What work in flight still needs: batchers, producers, leases. Stopped once every task at the edge has ended.
    Core,
}

/// What follows from a task's end before it was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// The process cannot do without it: any end, error or panic ends the process with exit code 1. Only while the process stops may it end with
    /// success before its turn, as when those who fed it are gone.
    Critical,
    /// It has an end of its own: success is fine, an error or panic ends the process with exit code 1.
    Finite,
    /// Nothing follows; an error or panic is logged.
    Optional,
    /// It is started again.
    Restart(Restart),
}

/// How a task is started again: after a delay that doubles from `min_delay_ms` to `max_delay_ms` and is jittered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The first delay, in milliseconds.
    pub min_delay_ms: u64,
    /// The longest delay, in milliseconds.
    pub max_delay_ms: u64,
    /// How often in a row it may be started again before that counts as a failure of the process; 0 means always.
    pub attempts_max: u32,
    /// A run of at least this many milliseconds counts as sound: delays and attempts begin anew after it.
    pub steady_ms: u64,
}

impl Default for Restart {
    /// From 100 ms to 10 s, without limit; sound after 30 s.
    fn default() -> Self {
        Self { min_delay_ms: 100, max_delay_ms: 10_000, attempts_max: 0, steady_ms: 30_000 }
    }
}

/// A task to be spawned.
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) name: Cow<'static, str>,
    pub(crate) stage: Stage,
    pub(crate) on_end: OnEnd,
}

impl Task {
    /// A task the process cannot do without: it runs until it is cancelled.
    #[must_use]
    pub fn critical(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), stage: Stage::Core, on_end: OnEnd::Critical }
    }

    /// A task that ends by itself some time, and must do so with success.
    #[must_use]
    pub fn finite(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), stage: Stage::Core, on_end: OnEnd::Finite }
    }

    /// A task whose failure is logged and has no consequence.
    #[must_use]
    pub fn optional(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), stage: Stage::Core, on_end: OnEnd::Optional }
    }

    /// A task that is started again whenever it ends: for [`Tasks::spawn_restarting`](crate::Tasks::spawn_restarting).
    #[must_use]
    pub fn restarting(name: impl Into<Cow<'static, str>>, restart: Restart) -> Self {
        Self { name: name.into(), stage: Stage::Core, on_end: OnEnd::Restart(restart) }
    }

    /// The same task, stopped at `stage`; the default is [`Stage::Core`].
    #[must_use]
    pub fn stage(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }
}

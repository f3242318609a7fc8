//! The boot path. (Documentation follows.)

mod admin;
mod launch;
mod platform;
mod readiness;
mod role;
mod tasks;

pub use launch::{Launched, launch};
pub use platform::Platform;
pub use readiness::{Condition, Missing, Readiness};
pub use role::{Invalid, Role, Running};
pub use tasks::{Failure, OnEnd, Overrun, Restart, Stage, Task, Tasks};

/// Runs a role as a process.
#[must_use]
pub fn run<R: Role>() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}

//! How a process ends.

use std::process::ExitCode;

/// How a process ends. A second signal ends it from the signal handler, with 128 + the signal's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked, or stopped in order when asked to.
    Done,
    /// It could not start, or a task failed.
    Failure,
    /// The command line or the settings were refused.
    Usage,
    /// It was asked to stop and had work left at the end of the grace period.
    Overrun,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        let code: u8 = match exit {
            Exit::Done => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Overrun => 124,
        };
        code.into()
    }
}

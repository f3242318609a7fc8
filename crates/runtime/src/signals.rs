//! SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::signal::unix::{SignalKind, signal};

/// Signals that stop the process, and the exit code of the second of them.
const STOPPING: [(i32, i32); 2] = [(SIGTERM, 128 + SIGTERM), (SIGINT, 128 + SIGINT)];

/// Listens to the signals that stop the process.
#[derive(Debug)]
pub(crate) struct Signals {
    received: Arc<AtomicBool>,
}

impl Signals {
    /// From now on the first signal is remembered, and the second ends the process from within the signal handler, whatever its threads are busy with.
    pub(crate) fn install() -> io::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        for (number, code) in STOPPING {
            // In this order: the first signal finds the flag unset, and sets it.
            flag::register_conditional_shutdown(number, code, Arc::clone(&received))?;
            flag::register(number, Arc::clone(&received))?;
        }
        Ok(Self { received })
    }

    /// Waits for the first signal, and returns its name.
    pub(crate) async fn first(&self) -> io::Result<&'static str> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        if self.received.load(Ordering::SeqCst) {
            return Ok("a signal during the start");
        }
        tokio::select! {
            _ = terminate.recv() => Ok("SIGTERM"),
            _ = interrupt.recv() => Ok("SIGINT"),
        }
    }
}

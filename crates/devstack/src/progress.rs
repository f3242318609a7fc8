//! What people read while something takes its time.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

/// Tells what is being done. Cheap to clone.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Hands each line to `tell`.
    #[must_use]
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Writes each line to standard error, with the seconds since this call.
    #[must_use]
    pub fn to_stderr() -> Self {
        let began = Instant::now();
        Self::new(move |line| {
            // Nobody to tell is no reason to stop.
            let _ = writeln!(std::io::stderr(), "[{:6.1} s] {line}", began.elapsed().as_secs_f64());
        })
    }

    /// Keeps silent.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn tell(&self, line: &str) {
        (self.0)(line);
    }

    /// Does `work` and tells how long it took.
    pub(crate) async fn timed<T, E>(&self, done: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = Instant::now();
        let value = work.await?;
        self.tell(&format!("{done} ({:.1} s)", began.elapsed().as_secs_f64()));
        Ok(value)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

//! Threads for work that nobody waits for.
//!
//! To fold and encode a part takes a core for as long as it takes. On the threads that answer reads and commit batches, that would be in their way; so
//! the parts of a rebuild have threads of their own, which give way to all others where cores are scarce.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// How many threads there are: as many as the most parts that are folded at once by default.
const THREADS: usize = 2;
/// How much less these threads are than others to the scheduler, 0 to 19. At 10 one gets about a tenth of a core that another one wants too.
const NICENESS: i32 = 10;

/// The threads, made when they are first needed.
#[derive(Debug, Default)]
pub(crate) struct Background(OnceLock<Option<Runtime>>);

impl Background {
    /// Where to spawn what these threads are to do.
    ///
    /// # Errors
    /// Where the system has no more threads.
    pub(crate) fn handle(&self) -> io::Result<Handle> {
        let runtime = self.0.get_or_init(|| make().inspect_err(|error| tracing::error!(%error, "there are no threads for a rebuild")).ok());
        runtime.as_ref().map(|runtime| runtime.handle().clone()).ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A runtime that is dropped within another one would wait for its threads, which must not be done there.
        if let Some(runtime) = self.0.take().flatten() {
            runtime.shutdown_background();
        }
    }
}

fn make() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(THREADS).thread_name("rebuild").enable_all().on_thread_start(give_way).build()
}

/// On Linux this is about the thread that calls it. Where the system does not let it, the thread is as all others.
fn give_way() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread of a rebuild has the priority of all others");
    }
}

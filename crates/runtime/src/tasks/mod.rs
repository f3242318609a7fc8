//! The supervised tasks of a process.

mod live;
mod supervise;
mod task;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SetOnce;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use live::Live;
pub use task::{OnEnd, Restart, Stage, Task};

/// Of the grace period, the edge may use this share before the core is stopped as well; the rest is for what its last work in flight needs.
const EDGE_SHARE: (u32, u32) = (3, 4);

/// Why the process has to end: the first task that failed.
#[derive(Debug, thiserror::Error)]
#[error("task {task} failed")]
pub struct Failure {
    /// The name of the task.
    pub task: String,
    /// What happened to it.
    #[source]
    pub error: anyhow::Error,
}

/// Tasks were still running when the grace period ended. They were dropped where they stood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("still running at the end of the grace period: {}", .tasks.join(", "))]
pub struct Overrun {
    /// Their names.
    pub tasks: Vec<String>,
}

/// The supervised tasks of a process, or of one role in a process. Cheap to clone; all clones are the same tree.
///
/// Two branches, one for each [`Stage`]; every task has a token below its branch's. Cancellation goes downwards only, failures go upwards through
/// [`fail`](Self::fail).
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tree: Arc<Tree>,
}

#[derive(Debug, Default)]
struct Tree {
    stop_requested: CancellationToken,
    /// Cancelled when the grace period is over: drops what is still running.
    abandoned: CancellationToken,
    failure: SetOnce<Arc<Failure>>,
    edge: Branch,
    core: Branch,
}

#[derive(Debug, Default)]
struct Branch {
    token: CancellationToken,
    tracker: TaskTracker,
    live: Live,
}

impl Tasks {
    /// A tree without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs what `run` returns as a task of this tree, with a token that is cancelled when it is time to stop. What follows from its end is what
    /// `task` declares. A task spawned after its stage was stopped begins with its token cancelled.
    ///
    /// A task declared [`Task::restarting`] cannot be started twice from here: its end counts as that of a critical one. Use
    /// [`spawn_restarting`](Self::spawn_restarting).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F, Run>(&self, task: Task, run: F)
    where
        F: FnOnce(CancellationToken) -> Run,
        Run: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let cancel = self.token(task.stage);
        let run = run(cancel.clone());
        self.track(task.clone(), supervise::once(self.clone(), task, cancel, run));
    }

    /// Runs what `run` returns, again and again as `task` declares, until it is time to stop. `run` is called once for each start. A task that is
    /// not declared [`Task::restarting`] restarts by [`Restart::default`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn_restarting<F, Run>(&self, task: Task, run: F)
    where
        F: FnMut(CancellationToken) -> Run + Send + 'static,
        Run: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let restart = match task.on_end {
            OnEnd::Restart(restart) => restart,
            OnEnd::Critical | OnEnd::Finite | OnEnd::Optional => Restart::default(),
        };
        let cancel = self.token(task.stage);
        self.track(task.clone(), supervise::again(self.clone(), task, restart, cancel, run));
    }

    /// A token that is cancelled when `stage` is stopped; cancelling it stops nothing else. For things that take a token and are awaited by a task of
    /// that stage.
    #[must_use]
    pub fn token(&self, stage: Stage) -> CancellationToken {
        self.branch(stage).token.child_token()
    }

    /// Reports that `task` failed: the process is to end with exit code 1, after an orderly stop. The first failure is the one that is kept; later ones
    /// are only logged.
    pub fn fail(&self, task: &str, error: anyhow::Error) {
        error!(task, error = format!("{error:#}"), "task failed");
        let failure = Arc::new(Failure { task: task.to_owned(), error });
        // An earlier failure stands.
        let _ = self.tree.failure.set(failure);
    }

    /// Waits for the first failure; returns at once when there was one.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn failure(&self) -> Arc<Failure> {
        Arc::clone(self.tree.failure.wait().await)
    }

    /// The first failure, if there was one.
    #[must_use]
    pub fn failed(&self) -> Option<Arc<Failure>> {
        self.tree.failure.get().cloned()
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.tree.stop_requested.is_cancelled()
    }

    /// Asks for an orderly stop, as SIGTERM does. Whoever runs the tree then calls [`shut_down`](Self::shut_down).
    pub fn request_stop(&self) {
        self.tree.stop_requested.cancel();
    }

    /// A token that is cancelled when a stop is asked for, before any task is stopped. Cancelling it asks for nothing.
    #[must_use]
    pub fn stop_requested(&self) -> CancellationToken {
        self.tree.stop_requested.child_token()
    }

    /// The names of the tasks that are running, those at the edge first.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        [&self.tree.edge, &self.tree.core].into_iter().flat_map(|branch| branch.live.names()).collect()
    }

    /// Stops all tasks and waits for them, for at most `grace`: first the edge, then, once it has drained or used up three quarters of the time, the
    /// core.
    ///
    /// # Errors
    /// [`Overrun`] with the names of the tasks that did not end in time. They are dropped.
    ///
    /// # Cancel safety
    /// Dropped half-way, tasks that were asked to stop stay asked; calling again goes on.
    pub async fn shut_down(&self, grace: Duration) -> Result<(), Overrun> {
        let begun = Instant::now();
        let (share, of) = EDGE_SHARE;
        self.request_stop();
        self.tree.edge.stop();
        self.tree.edge.drained_by(begun + grace * share / of).await;
        self.tree.core.stop();
        self.tree.edge.drained_by(begun + grace).await;
        self.tree.core.drained_by(begun + grace).await;
        let tasks = self.running();
        self.tree.abandoned.cancel();
        if tasks.is_empty() { Ok(()) } else { Err(Overrun { tasks }) }
    }

    fn track(&self, task: Task, run: impl Future<Output = ()> + Send + 'static) {
        let branch = self.branch(task.stage);
        let entry = branch.live.enter(task.name);
        let abandoned = self.tree.abandoned.clone();
        branch.tracker.spawn(async move {
            let _entry = entry;
            let _ = abandoned.run_until_cancelled_owned(run).await;
        });
    }

    fn branch(&self, stage: Stage) -> &Branch {
        match stage {
            Stage::Edge => &self.tree.edge,
            Stage::Core => &self.tree.core,
        }
    }
}

impl Branch {
    fn stop(&self) {
        self.tracker.close();
        self.token.cancel();
    }

    async fn drained_by(&self, deadline: Instant) {
        // Who is late is told by the list of running tasks.
        let _ = timeout_at(deadline, self.tracker.wait()).await;
    }
}

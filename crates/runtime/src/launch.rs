//! Starting a role inside a process that is already up.

use std::net::SocketAddr;
use std::time::Duration;

use idempo_telemetry::metrics_handle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use crate::admin::Admin;
use crate::{Condition, Overrun, Platform, Role, Running, Task};

/// The condition that [`Role::start`] has returned.
pub(crate) const STARTED: &str = "started";

/// How often recorded values are moved into their histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long the tasks of a role that could not start may take to stop.
const FAILED_START_GRACE: Duration = Duration::from_secs(5);

/// A role that was started by [`launch`]. Dropping it stops nothing but the admin listener: call [`stop`](Self::stop).
#[derive(Debug)]
pub struct Launched {
    /// What the role runs with: its tasks, its readiness.
    pub platform: Platform,
    /// Where the role listens.
    pub running: Running,
    admin: Option<Admin>,
}

/// Starts a role in this process, without signals, flags or files: for the dev stack and for tests. `admin_listen` is where its admin listener is to
/// be, if anywhere (port 0 for any free one). Returns when [`Role::start`] has returned; await
/// [`wait_ready`](crate::Readiness::wait_ready) for more.
///
/// # Errors
/// What [`Role::start`] says, or that the admin listener could not be bound. Tasks spawned until then have been stopped.
pub async fn launch<R: Role>(config: R::Config, platform: Platform, admin_listen: Option<SocketAddr>) -> anyhow::Result<Launched> {
    let started = platform.readiness.condition(STARTED);
    let admin = match admin_listen {
        Some(listen) => Some(Admin::start(listen, &platform).await?),
        None => None,
    };
    match start::<R>(config, &platform, started).await {
        Ok(running) => Ok(Launched { platform, running, admin }),
        Err(error) => {
            platform.readiness.stop();
            // The error that kept the role from starting is the one to tell.
            let _ = platform.tasks.shut_down(FAILED_START_GRACE).await;
            Err(error)
        }
    }
}

/// Starts the role's own part, and what every role has. `started` is met with its return; it is made before anyone can ask whether the role is ready.
pub(crate) async fn start<R: Role>(config: R::Config, platform: &Platform, started: Condition) -> anyhow::Result<Running> {
    platform.tasks.spawn(Task::critical("metrics-upkeep"), |cancel| async move {
        let mut ticks = interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            metrics_handle().run_upkeep();
        }
        Ok(())
    });
    let running = R::start(config, platform.clone()).await?;
    for (name, address) in running.addresses() {
        info!(role = platform.service, name, %address, "listening");
    }
    started.met();
    Ok(running)
}

impl Launched {
    /// Where the admin listener is, if there is one.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Stops the role as SIGTERM does: not ready, then the edge, then the core, for at most `grace`.
    ///
    /// # Errors
    /// [`Overrun`] with the names of the tasks that did not end in time.
    pub async fn stop(self, grace: Duration) -> Result<(), Overrun> {
        self.platform.readiness.stop();
        let drained = self.platform.tasks.shut_down(grace).await;
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
        drained
    }
}

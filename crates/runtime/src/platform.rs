//! What a role is given.

use idempo_clock::SharedClock;
use uuid::Uuid;

use crate::{Readiness, Tasks};

/// What a role is given to run with. Cheap to clone. A process may hold any number of them: one for each role it runs.
#[derive(Clone)]
#[non_exhaustive]
pub struct Platform {
    /// The role's name.
    pub service: &'static str,
    /// Tells the time.
    pub clock: SharedClock,
    /// The role's tasks.
    pub tasks: Tasks,
    /// Whether the role is ready.
    pub readiness: Readiness,
    /// Names this run of the role among all others, for leases and client ids. Random, new at every start; never part of data at rest that outlives
    /// the run.
    pub instance: Uuid,
}

impl Platform {
    /// A platform without tasks or conditions, with a new instance id.
    #[must_use]
    pub fn new(service: &'static str, clock: SharedClock) -> Self {
        let instance = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        Self { service, clock, tasks: Tasks::new(), readiness: Readiness::new(service), instance }
    }
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform")
            .field("service", &self.service)
            .field("instance", &self.instance)
            .field("tasks", &self.tasks.running())
            .field("missing", &self.readiness.missing())
            .finish_non_exhaustive()
    }
}

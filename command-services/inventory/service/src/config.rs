//! The inventory service's settings.

use idempo_runtime::Invalid;
use serde::{Deserialize, Serialize};

/// The inventory service's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The inventory's database, as the role `idempo_inventory`.
    pub database: idempo_pg::Config,
    /// The gRPC server.
    pub grpc: idempo_rpc::ServerConfig,
    /// The limits of what decides and appends.
    pub executor: idempo_event_store::Config,
    /// What happens by itself.
    pub timers: idempo_command_service::Timers,
    /// What is refused while events are not carried away.
    pub shedding: idempo_command_service::Shedding,
}

impl Default for Config {
    fn default() -> Self {
        let database = idempo_pg::Config {
            application_name: "idempo-inventory".to_owned(),
            ..idempo_pg::Config::at("postgres://idempo_inventory@127.0.0.1:5432/inventory_db")
        };
        Self {
            database,
            grpc: idempo_rpc::ServerConfig::default(),
            executor: idempo_event_store::Config::default(),
            timers: idempo_command_service::Timers::default(),
            shedding: idempo_command_service::Shedding::default(),
        }
    }
}

impl Config {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.database.validate().map_err(|error| Invalid::new("database", error.to_string()))?;
        self.grpc.validate().map_err(|problem| Invalid::new("grpc", problem))?;
        self.executor.validate().map_err(|problem| Invalid::new("executor", problem))?;
        self.timers.validate()?;
        self.shedding.validate()
    }
}

//! The inventory service's settings.

use idempo_runtime::Invalid;
use serde::{Deserialize, Serialize};

/// The shortest wait between two looks at the reservations that are due, in milliseconds.
const POLL_INTERVAL_MIN_MS: u64 = 10;
/// The longest wait between two looks at the reservations that are due, in milliseconds.
const POLL_INTERVAL_MAX_MS: u64 = 60_000;

/// The inventory service's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The inventory's database, as the role `idempo_inventory`.
    pub database: idempo_pg::Config,
    /// The gRPC server.
    pub grpc: idempo_rpc::ServerConfig,
    /// What happens by itself.
    pub timers: Timers,
}

impl Default for Config {
    fn default() -> Self {
        let database = idempo_pg::Config {
            application_name: "idempo-inventory".to_owned(),
            ..idempo_pg::Config::at("postgres://idempo_inventory@127.0.0.1:5432/inventory_db")
        };
        Self { database, grpc: idempo_rpc::ServerConfig::default(), timers: Timers::default() }
    }
}

/// What happens by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timers {
    /// How long a reservation that was made meanwhile may stay unseen, in milliseconds, 10 to 60,000: it expires at most this late.
    pub poll_interval_ms: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { poll_interval_ms: 500 }
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
        if !(POLL_INTERVAL_MIN_MS..=POLL_INTERVAL_MAX_MS).contains(&self.timers.poll_interval_ms) {
            let bounds = format!("must be {POLL_INTERVAL_MIN_MS} to {POLL_INTERVAL_MAX_MS}");
            return Err(Invalid::new("timers.poll_interval_ms", bounds));
        }
        Ok(())
    }
}

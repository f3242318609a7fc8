//! A role's settings: built-in defaults, overlaid by a TOML file, by `IDEMPO_*` environment variables, and by flags.

mod error;
mod layer;
mod secret;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use figment::Figment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) use error::Error;
use layer::Layer;

use crate::Role;

/// The key of the settings that every role has.
const PLATFORM: &str = "platform";

/// Settings that every role has, under the key `platform`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlatformConfig {
    /// Where the admin listener answers `/livez`, `/readyz` and `/metrics`; port 0 takes any free one, which is then logged.
    pub admin_listen: SocketAddr,
    /// How long a stop may take, in milliseconds: 1 to 600,000.
    pub grace_ms: u64,
    /// Threads that run tasks: 1 to 64.
    pub worker_threads: usize,
    /// How the process logs.
    pub log: idempo_telemetry::Config,
}

impl Default for PlatformConfig {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            grace_ms: 10_000,
            worker_threads: 2,
            log: idempo_telemetry::Config::default(),
        }
    }
}

impl PlatformConfig {
    /// How long a stop may take.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    /// Checks the bounds.
    fn validate(&self) -> Result<(), crate::Invalid> {
        if !(1..=600_000).contains(&self.grace_ms) {
            return Err(crate::Invalid::new("platform.grace_ms", "must be 1 to 600,000"));
        }
        if !(1..=64).contains(&self.worker_threads) {
            return Err(crate::Invalid::new("platform.worker_threads", "must be 1 to 64"));
        }
        Ok(())
    }
}

/// Where settings come from, besides the defaults.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// A TOML file.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Flags, the last one winning.
    pub(crate) flags: Vec<Flag>,
}

/// A setting given by a flag.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    /// The flag as people know it, such as `--set`.
    pub(crate) name: &'static str,
    /// The dotted key it sets.
    pub(crate) key: String,
    /// The value's text.
    pub(crate) value: String,
}

/// A role's effective settings.
#[derive(Debug)]
pub(crate) struct Settings<C> {
    /// What every role has.
    pub(crate) platform: PlatformConfig,
    /// The role's own.
    pub(crate) role: C,
}

impl<C: Serialize> Settings<C> {
    /// The settings as TOML, with `***` in place of secrets.
    pub(crate) fn dump(&self) -> Result<String, Error> {
        let mut table = toml::Table::try_from(&self.role).map_err(|error| Error::Dump(error.to_string()))?;
        let platform = toml::Value::try_from(&self.platform).map_err(|error| Error::Dump(error.to_string()))?;
        table.insert(PLATFORM.to_owned(), platform);
        secret::mask_table(&mut table);
        toml::to_string_pretty(&table).map_err(|error| Error::Dump(error.to_string()))
    }
}

/// The settings of role `R` from `sources`, checked.
pub(crate) fn load<R: Role>(sources: Sources) -> Result<Settings<R::Config>, Error> {
    let layers = layer::all(R::Config::default(), sources)?;
    let (platform, role): (Vec<_>, Vec<_>) = layers.into_iter().map(Layer::split_platform).unzip();
    let platform = figment_of(platform);
    let role = figment_of(role);
    let settings = Settings { platform: extract(&platform, Some(PLATFORM))?, role: extract(&role, None)? };
    let checked: Result<(), crate::Invalid> = PlatformConfig::validate(&settings.platform).and_then(|()| R::validate(&settings.role));
    checked.map_err(|invalid| {
        let source = match invalid.key.strip_prefix("platform.") {
            Some(key) => error::source_of(&platform, key),
            None => error::source_of(&role, &invalid.key),
        };
        Error::Rejected(format!("{} ({source}): {}", invalid.key, invalid.reason))
    })?;
    Ok(settings)
}

fn figment_of(layers: Vec<Layer>) -> Figment {
    layers.into_iter().fold(Figment::new(), Figment::merge)
}

fn extract<T: DeserializeOwned>(figment: &Figment, prefix: Option<&str>) -> Result<T, Error> {
    figment.extract().map_err(|error| error::explain(figment, prefix, error))
}

//! What a binary of the platform is: a role.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Platform;

/// A role: what one binary does. Its `main` is `idempo_runtime::run::<Role>()`; the dev stack runs several in one process by
/// [`launch`](crate::launch).
pub trait Role: Sized + Send + 'static {
    /// Its name: the service's name in logs and traces, and the program's in `--help`.
    const NAME: &'static str;

    /// What it does, in one line, for `--help`.
    const ABOUT: &'static str;

    /// Its settings. Every struct in it is `#[serde(default, deny_unknown_fields)]`. The built-in defaults are those of [`Default`]; they hold no
    /// secret. The key `platform` is taken.
    type Config: Serialize + DeserializeOwned + Default + Send + 'static;

    /// Checks what the types of the settings cannot say.
    ///
    /// # Errors
    /// [`Invalid`] with the key that is wrong; the boot path adds where its value came from and ends with exit code 2.
    fn validate(config: &Self::Config) -> Result<(), Invalid> {
        let _ = config;
        Ok(())
    }

    /// Connects, spawns the role's tasks and returns as soon as they run. It does not wait for the stop. It may be dropped half-way when a signal
    /// comes first; what it spawned is then stopped in order.
    ///
    /// # Errors
    /// Whatever keeps the role from starting: the process ends with exit code 1.
    fn start(config: Self::Config, platform: Platform) -> impl Future<Output = anyhow::Result<Running>> + Send;
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct Invalid {
    /// The dotted key.
    pub key: String,
    /// What is wrong with its value, without the value.
    pub reason: String,
}

impl Invalid {
    /// The setting `key` cannot be used, because of `reason`.
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

/// A role that has started: where it listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    addresses: BTreeMap<&'static str, SocketAddr>,
}

impl Running {
    /// A role that listens nowhere.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an address that was bound; `name` says for what, such as `grpc`.
    #[must_use]
    pub fn with_address(mut self, name: &'static str, address: SocketAddr) -> Self {
        self.addresses.insert(name, address);
        self
    }

    /// The address bound for `name`.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.get(name).copied()
    }

    /// All addresses, by name.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> + '_ {
        self.addresses.iter().map(|(name, address)| (*name, *address))
    }
}

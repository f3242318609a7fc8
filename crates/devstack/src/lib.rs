//! Real PostgreSQL, Kafka and Redis as child processes, and the platform's binaries on top of them: for the demo, for `up`, for tests.
//!
//! Nothing here is needed to run idempo in production. What it keeps: when this process ends, by itself, by Ctrl-C or by SIGKILL, every server
//! and every binary it started is gone too; and the servers never run as root.

mod cluster;
mod command;
mod home;
mod operators;
mod platform;
mod ports;
mod process;
mod profile;
mod progress;
mod proxy;
mod servers;
mod surroundings;
pub mod testing;

pub use cluster::Cluster;
pub use command::Command;
pub use home::Keep;
pub use platform::{Platform, Service, binaries};
pub use ports::Ports;
pub use profile::profile;
pub use progress::Progress;
pub use proxy::{Delay, Held, Proxy, Swallow};
pub use servers::{BrokerProxy, Brokers, Given, Options, Server, Servers, default_root};
pub use surroundings::Surroundings;

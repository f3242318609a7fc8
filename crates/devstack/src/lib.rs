//! Real PostgreSQL, Kafka and Redis as child processes, and the platform's binaries on top of them: for the demo, for `up`, for tests.

mod cluster;
pub mod testing;

pub use cluster::Cluster;

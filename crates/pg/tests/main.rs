//! idempo-pg on a real PostgreSQL.

mod errors;
mod migrate;
mod pool;

//! The limits of a gRPC server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::connection::Lifetime;

/// The limits of a gRPC server. Every one is set: the libraries' own defaults are partly "unlimited".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Where to listen; port 0 for a free one.
    pub listen: SocketAddr,
    /// The longest a call may take, in milliseconds, 1 to 600,000. A caller's `grpc-timeout` can only shorten it.
    pub request_timeout_ms: u64,
    /// How many calls are worked on at once, over all connections; more are refused with RESOURCE_EXHAUSTED. Health and reflection don't count.
    pub concurrency_limit: usize,
    /// How many connections are open at once; more wait to be accepted.
    pub connections_limit: usize,
    /// How many calls are open at once on one connection.
    pub streams_per_connection_limit: u32,
    /// The largest request, in bytes.
    pub max_request_bytes: usize,
    /// The largest response, in bytes. Generated servers take it: `.max_encoding_message_size(…)`.
    pub max_response_bytes: usize,
    /// The largest header list of a request, in bytes.
    pub max_header_list_bytes: u32,
    /// How long a new connection may say nothing, in milliseconds.
    pub handshake_ms: u64,
    /// How often an HTTP/2 ping looks whether the peer is still there, in milliseconds.
    pub keepalive_interval_ms: u64,
    /// How long the answer to that ping may take, in milliseconds.
    pub keepalive_timeout_ms: u64,
    /// How often TCP itself looks, in milliseconds.
    pub tcp_keepalive_ms: u64,
    /// How old a connection gets before its client is asked to open another one, in milliseconds: so that load spreads over new servers.
    pub connection_age_ms: u64,
    /// How long open calls may take to end after their connection got too old or a shutdown was asked for, in milliseconds. Then their
    /// connections are cut.
    pub drain_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            request_timeout_ms: 10_000,
            concurrency_limit: 1024,
            connections_limit: 1024,
            streams_per_connection_limit: 256,
            max_request_bytes: 1024 * 1024,
            max_response_bytes: 4 * 1024 * 1024,
            max_header_list_bytes: 8 * 1024,
            handshake_ms: 5_000,
            keepalive_interval_ms: 20_000,
            keepalive_timeout_ms: 10_000,
            tcp_keepalive_ms: 60_000,
            connection_age_ms: 300_000,
            drain_ms: 10_000,
        }
    }
}

/// The longest that any of the times may be set to, in milliseconds: a day.
const TIME_MAX_MS: u64 = 86_400_000;

impl ServerConfig {
    /// Checks the limits against each other and against what makes sense.
    ///
    /// # Errors
    /// What is wrong, beginning with the field's name.
    pub fn validate(&self) -> Result<(), String> {
        let counts = [
            ("concurrency_limit", self.concurrency_limit),
            ("connections_limit", self.connections_limit),
            ("streams_per_connection_limit", usize::try_from(self.streams_per_connection_limit).unwrap_or(usize::MAX)),
            ("max_request_bytes", self.max_request_bytes),
            ("max_response_bytes", self.max_response_bytes),
            ("max_header_list_bytes", usize::try_from(self.max_header_list_bytes).unwrap_or(usize::MAX)),
        ];
        let times = [
            ("request_timeout_ms", self.request_timeout_ms),
            ("handshake_ms", self.handshake_ms),
            ("keepalive_interval_ms", self.keepalive_interval_ms),
            ("keepalive_timeout_ms", self.keepalive_timeout_ms),
            ("tcp_keepalive_ms", self.tcp_keepalive_ms),
            ("connection_age_ms", self.connection_age_ms),
            ("drain_ms", self.drain_ms),
        ];
        // A semaphore has no more permits, and a message's length has 32 bits.
        let count_max = usize::try_from(u32::MAX).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS);
        if let Some((field, _)) = counts.iter().find(|(_, value)| !(1..=count_max).contains(value)) {
            return Err(format!("{field} must be from 1 to {count_max}"));
        }
        if let Some((field, _)) = times.iter().find(|(_, value)| !(1..=TIME_MAX_MS).contains(value)) {
            return Err(format!("{field} must be from 1 to {TIME_MAX_MS}"));
        }
        if self.request_timeout_ms > 600_000 {
            return Err("request_timeout_ms must be from 1 to 600000".to_owned());
        }
        Ok(())
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// How long a connection may live: until its age, and then as long as calls may take to end.
    pub(crate) fn connection_lifetime(&self) -> Lifetime {
        let whole = Duration::from_millis(self.connection_age_ms.saturating_add(self.drain_ms));
        Lifetime { handshake: Duration::from_millis(self.handshake_ms), whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(ServerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_limit_of_nothing_or_of_everything_is_refused() {
        let refused =
            |config: ServerConfig, field: &str| assert!(config.validate().is_err_and(|problem| problem.starts_with(field)), "{field}");
        refused(ServerConfig { concurrency_limit: 0, ..Default::default() }, "concurrency_limit");
        refused(ServerConfig { connections_limit: usize::MAX, ..Default::default() }, "connections_limit");
        refused(ServerConfig { request_timeout_ms: 0, ..Default::default() }, "request_timeout_ms");
        refused(ServerConfig { request_timeout_ms: 600_001, ..Default::default() }, "request_timeout_ms");
        refused(ServerConfig { drain_ms: u64::MAX, ..Default::default() }, "drain_ms");
    }
}

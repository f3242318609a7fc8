//! Ports on this machine.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// Free ports are looked for here: below the range from which systems take ports for outgoing connections, so that none is taken between the
/// look and the use.
const FREE: std::ops::Range<u16> = 20_000..30_000;

/// Which ports are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Free ones: any number of stacks run side by side.
    Free,
    /// Always the same, for people: PostgreSQL 54320, Kafka 54392, Redis 54379, and see [`crate::Platform`].
    Fixed,
}

impl Ports {
    /// `fixed`, or a free port.
    pub(crate) fn pick(self, fixed: u16) -> Result<u16> {
        match self {
            Self::Fixed => {
                anyhow::ensure!(is_free(fixed), "port {fixed} is taken: is another `cargo xtask up` running?");
                Ok(fixed)
            }
            Self::Free => free(),
        }
    }
}

/// A port that nobody listens on, and that this process was not given before.
fn free() -> Result<u16> {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let span = u32::from(FREE.end - FREE.start);
    // Processes that start together begin at different places.
    let begin = std::process::id().wrapping_mul(7_919) % span;
    let port = (0..span)
        .filter_map(|step| u16::try_from((begin + step) % span).ok().map(|offset| FREE.start + offset))
        .find(|port| !given.contains(port) && is_free(*port))
        .context("no free port")?;
    given.insert(port);
    Ok(port)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let ports: HashSet<_> = (0..50).map(|_| Ports::Free.pick(0).expect("a port")).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_fixed_port_that_is_taken_is_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(Ports::Fixed.pick(taken.local_addr().expect("an address").port()).is_err());
    }
}

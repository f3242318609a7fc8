//! The whole platform, as its own binaries, on the servers that the benches run on.

use idempo_devstack::{Options, Platform, Progress, Servers};

/// Servers with the platform's databases and topics, and every process of the platform, ready.
pub(crate) async fn start() -> anyhow::Result<(Servers, Platform)> {
    // The servers are those of DATABASE_URL and KAFKA_BROKERS: nothing new is started but what those don't name.
    let servers = Servers::start(Options::throwaway(Progress::silent())).await?;
    servers.prepare().await?;
    let platform = Platform::start(&servers).await?;
    Ok((servers, platform))
}

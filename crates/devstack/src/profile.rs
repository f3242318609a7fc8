//! What the command line must know of a running platform.

use std::fmt::Write as _;

use anyhow::Result;

use crate::platform::Platform;
use crate::servers::Servers;

/// The role that reads everything and changes nothing.
const AUDITOR: &str = "idempo_auditor";
/// The command services, each with its event store.
const STORES: [(&str, &str); 2] = [("wallet", "wallet_db"), ("inventory", "inventory_db")];
/// The projections: the process that keeps each, and its database.
const PROJECTIONS: [(&str, &str, &str); 1] = [("inventory", "inventory-projector", "inventory_view_db")];

/// A file for `idempo --config`, with one profile: this platform.
///
/// # Errors
/// When the platform lacks a process, or the servers' URL is none.
pub fn profile(servers: &Servers, platform: &Platform) -> Result<String> {
    let cluster = servers.cluster()?;
    let mut text = String::from("default_profile = \"local\"\n\n[profiles.local]\n");
    for (key, prefix) in [("relays", "relay-"), ("dead_letters", "dlq-admin")] {
        let there = platform.services().filter(|(name, _)| name.starts_with(prefix));
        let addresses: Vec<String> = there.map(|(_, process)| format!("\"{}\"", process.grpc())).collect();
        writeln!(text, "{key} = [{}]", addresses.join(", "))?;
    }
    writeln!(text, "token_file = \"{}\"", platform.token_file().display())?;
    text.push_str("\n[profiles.local.projectors]\n");
    for (name, process, _) in PROJECTIONS {
        writeln!(text, "{name} = \"{}\"", platform.service(process)?.grpc())?;
    }
    text.push_str("\n[profiles.local.services]\n");
    for (name, _) in STORES {
        writeln!(text, "{name} = \"{}\"", platform.service(name)?.grpc())?;
    }
    text.push_str("\n[profiles.local.stores]\n");
    for (name, database) in STORES {
        writeln!(text, "{name} = \"{}\"", cluster.role_url(database, AUDITOR))?;
    }
    text.push_str("\n[profiles.local.views]\n");
    for (name, _, database) in PROJECTIONS {
        writeln!(text, "{name} = \"{}\"", cluster.role_url(database, AUDITOR))?;
    }
    writeln!(text, "\n[profiles.local.kafka]\nbrokers = \"{}\"", servers.kafka_brokers())?;
    Ok(text)
}

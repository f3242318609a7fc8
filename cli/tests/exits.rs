//! How commands end.

use anyhow::{Result, ensure};

use crate::world::World;

/// A relay's place where nobody listens.
const NOBODY: &str = "IDEMPO_CLI_RELAYS='[\"127.0.0.1:1\"]'";

pub(crate) async fn every_way_to_end_has_its_code(world: &mut World) -> Result<()> {
    for (code, words, said) in [
        (0, "relay status", ""),
        (0, "--help", ""),
        (0, "relay status -o jsonl | head -c 1", ""),
        (2, "relay stauts", "similar subcommands exist"),
        (2, "relay status --timeout soon", "no length of time"),
        (2, "relay pause wallet", "--reason"),
        (2, "relay pause wallet --reason x", "--yes"),
        (2, "relay status --config /nowhere.toml", "does not exist"),
        (3, "relay status walet", "did you mean wallet?"),
        (3, "relay status --profile lokal", "did you mean local?"),
        (3, "outbox show wallet 7", "no row in quarantine `7`"),
        (4, "relay step-down wallet --epoch 1000000 --reason x --yes", "LEASE_EPOCH_MISMATCH"),
        (124, "relay status --timeout 1ns", "not done"),
    ] {
        let ended = world.idempo(words)?;
        ensure!(ended.code == code || words.contains('|'), "`{words}` ended with {} instead of {code}: {ended:?}", ended.code);
        ensure!(ended.stderr.contains(said), "`{words}` does not say «{said}»: {ended:?}");
        ensure!(code == 0 || ended.stdout.is_empty(), "`{words}` failed and printed data: {ended:?}");
    }
    let away = world.shell(&format!("{NOBODY} idempo relay status")).output()?;
    ensure!(away.status.code() == Some(6), "a relay that is away: {away:?}");
    Ok(())
}

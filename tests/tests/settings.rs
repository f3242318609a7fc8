//! Settings of every binary, which needs nothing but itself for that.

use std::process::{Command, Output};

use anyhow::{Context as _, Result};

const SECRET: &str = "hunter2";

/// Every binary, and the environment that is enough for it.
const BINARIES: [(&str, &[(&str, &str)]); 5] = [
    ("idempo-wallet", &[("IDEMPO_DATABASE__URL", "postgres://idempo_wallet:hunter2@127.0.0.1/wallet_db")]),
    ("idempo-inventory", &[("IDEMPO_DATABASE__URL", "postgres://idempo_inventory:hunter2@127.0.0.1/inventory_db")]),
    (
        "idempo-inventory-projector",
        &[
            ("IDEMPO_DATABASE__URL", "postgres://idempo_inventory_projector:hunter2@127.0.0.1/inventory_view_db"),
            ("IDEMPO_DATABASE__PASSWORD", SECRET),
        ],
    ),
    (
        "idempo-outbox-relay",
        &[("IDEMPO_OUTBOXES", r#"[{name = "wallet", database = {url = "postgres://idempo_relay:hunter2@127.0.0.1/wallet_db"}}]"#)],
    ),
    (
        "idempo-dlq-admin",
        &[
            ("IDEMPO_DATABASE__URL", "postgres://idempo_dlq_admin:hunter2@127.0.0.1/ops_db"),
            ("IDEMPO_CONSUMERS", r#"[{group_prefix = "idempo.inventory", endpoint = "http://127.0.0.1:7003"}]"#),
        ],
    ),
];

fn run(binary: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(idempo_devstack::binaries()?.join(binary));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("IDEMPO_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).args(arguments);
    command.output().with_context(|| format!("{binary} is not built: `cargo build --workspace` makes it"))
}

fn dump(binary: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Result<String> {
    let output = run(binary, environment, &[&["--dump-config"], arguments].concat())?;
    let text = String::from_utf8(output.stdout)?;
    anyhow::ensure!(output.status.code() == Some(0), "{binary}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.stderr.is_empty(), "{binary} says beside its settings: {}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

pub(crate) fn every_binary_prints_its_effective_settings_with_secrets_masked() -> Result<()> {
    for (binary, environment) in BINARIES {
        let text = dump(binary, environment, &["--admin-listen", "127.0.0.1:7999"])?;
        let settings: toml::Table = text.parse().with_context(|| format!("{binary} prints no TOML:\n{text}"))?;
        let admin = settings.get("platform").and_then(|platform| platform.get("admin_listen")).and_then(toml::Value::as_str);
        assert_eq!(admin, Some("127.0.0.1:7999"), "{binary}:\n{text}");
        assert!(text.contains("***") && !text.contains(SECRET), "{binary}:\n{text}");
    }
    Ok(())
}

pub(crate) fn what_a_binary_prints_can_be_given_back_to_it_as_a_file() -> Result<()> {
    let file = std::env::temp_dir().join(format!("idempo-tests-{}.toml", std::process::id()));
    let path = file.to_str().context("a path in UTF-8")?;
    for (binary, environment) in BINARIES {
        // Without secrets: those are masked, and a mask is refused where it is given back.
        let public: Vec<_> = environment.iter().map(|(name, value)| (*name, value.replace(":hunter2@", "@"))).collect();
        let public: Vec<_> = public.iter().map(|(name, value)| (*name, value.as_str())).filter(|(_, value)| *value != SECRET).collect();
        let printed = dump(binary, &public, &[])?;
        std::fs::write(&file, &printed)?;
        let again = dump(binary, &[], &["--config", path]);
        std::fs::remove_file(&file)?;
        assert_eq!(again?, printed, "{binary}");
    }
    Ok(())
}

pub(crate) fn every_binary_refuses_an_unknown_key_and_names_it() -> Result<()> {
    for (binary, environment) in BINARIES {
        let by_environment = [environment, &[("IDEMPO_PLATFORM__GRACE", "1")]].concat();
        for output in [run(binary, &by_environment, &[])?, run(binary, environment, &["--set", "platform.grace=1"])?] {
            let said = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(2), "{binary}: {said}");
            assert!(said.contains("platform.grace ") && !said.contains(SECRET), "{binary}: {said}");
        }
    }
    Ok(())
}

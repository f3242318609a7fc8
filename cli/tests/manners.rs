//! How commands behave towards whoever runs them: colour, questions, time, and what they say of what is away.

use std::io::{Read as _, Write as _};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::world::World;

/// A field of a document, and null where it has none.
fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// Runs `idempo` with these words at a terminal, types `typed` once it asks, and gives how it ends and what was seen.
fn asked(world: &World, words: &str, typed: impl FnOnce() -> &'static str) -> Result<(ExitStatus, String)> {
    let mut terminal = world.shell(&format!("exec timeout 60 script -qec 'idempo {words}' /dev/null"));
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut keys, mut screen) = (terminal.stdin.take().context("keys")?, terminal.stdout.take().context("a screen")?);
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    let mut typed = Some(typed);
    loop {
        let read = screen.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        seen.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if String::from_utf8_lossy(&seen).contains("[y/N]")
            && let Some(typed) = typed.take()
        {
            keys.write_all(typed().as_bytes())?;
        }
    }
    Ok((terminal.wait()?, String::from_utf8_lossy(&seen).into_owned()))
}

pub(crate) async fn whoever_interrupts_a_question_has_nothing_done(world: &mut World) -> Result<()> {
    let (status, seen) = asked(world, "relay pause wallet --reason asked", || "\u{3}")?;
    ensure!(status.code() == Some(130) && seen.contains("interrupted: nothing was done"), "{status:?} {seen}");
    let relays = world.idempo("relay status wallet -o json")?;
    ensure!(relays.code == 0 && !relays.stdout.contains("\"paused\": true"), "{relays:?}");
    Ok(())
}

pub(crate) async fn a_command_s_time_is_not_over_while_a_person_thinks(world: &mut World) -> Result<()> {
    let thinks = || {
        // Longer than the command may take.
        let _ = std::process::Command::new("sleep").arg("4").status();
        "y\n"
    };
    let (status, seen) = asked(world, "relay resume wallet --reason asked --timeout 3s", thinks)?;
    ensure!(status.code() == Some(0) && seen.contains("resumed"), "{status:?} {seen}");
    Ok(())
}

pub(crate) async fn nothing_is_asked_where_no_input_is_wanted(world: &mut World) -> Result<()> {
    let (status, seen) = asked(world, "relay resume wallet --reason asked --no-input", || "y\n")?;
    ensure!(status.code() == Some(2) && seen.contains("--no-input forbids to ask: --yes says yes"), "{status:?} {seen}");
    let ended = world.idempo("relay resume wallet --reason asked --no-input --yes")?;
    ensure!(ended.code == 0, "{ended:?}");
    Ok(())
}

pub(crate) async fn a_terminal_has_colour_unless_somebody_wants_none(world: &mut World) -> Result<()> {
    for (variables, words, is_colored) in [
        ("TERM=xterm", "", true),
        ("TERM=xterm NO_COLOR=1", "", false),
        ("TERM=xterm NO_COLOR=", "", true),
        ("TERM=dumb", "", false),
        ("TERM=xterm", "--no-color", false),
        ("TERM=xterm", "--color always --no-color", false),
        ("TERM=xterm NO_COLOR=1", "--color always", true),
    ] {
        let output = world.shell(&format!("{variables} script -qec 'idempo relay status {words}' /dev/null")).output()?;
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.code() == Some(0) && seen.contains("wallet"), "{output:?}");
        ensure!(seen.contains("\u{1b}[3") == is_colored, "`{variables} {words}`: {seen:?}");
    }
    Ok(())
}

pub(crate) async fn a_dry_run_has_data_for_scripts(world: &mut World) -> Result<()> {
    let ended = world.idempo("relay pause wallet --reason x --dry-run -o json")?;
    let printed: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    ensure!(ended.code == 0 && ended.stderr.contains("dry run: would stop relaying"), "{ended:?}");
    ensure!(
        *field(&printed, "dry_run") == true && *field(&printed, "action") == "relay pause" && field(&printed, "would").is_string(),
        "{printed}"
    );
    let ended = world.idempo("projection pause inventory --reason x --dry-run -o jsonl")?;
    let printed: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    ensure!(*field(&printed, "target") == json!("projections/inventory") && ended.stdout.lines().count() == 1, "{printed}");
    let text = world.idempo("projection pause inventory --reason x --dry-run")?;
    ensure!(text.code == 0 && text.stdout.is_empty(), "{text:?}");
    Ok(())
}

pub(crate) async fn a_projection_that_may_be_where_nobody_answers_is_not_said_to_be_none(world: &mut World) -> Result<()> {
    let away = "IDEMPO_CLI_PROJECTORS__WALLET=127.0.0.1:1 idempo projection";
    let output = world.shell(&format!("{away} status wallet")).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(6) && said.contains("may be at the one that is away (127.0.0.1:1)"), "{output:?}");
    let output = world.shell(&format!("{away} status inventory")).output()?;
    ensure!(output.status.code() == Some(0), "the others are there: {output:?}");
    Ok(())
}

pub(crate) async fn days_and_weeks_are_lengths_of_time(world: &mut World) -> Result<()> {
    for since in ["7d", "2w", "'9d 4h'"] {
        let ended = world.idempo(&format!("event stream --since {since} --limit 1"))?;
        ensure!(ended.code == 0 && ended.stdout.lines().count() > 1, "{since}: {ended:?}");
    }
    Ok(())
}

//! Builds what a command needs, then lets it take this process' place.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::setup::root;
use crate::step::tell;

/// The showcase.
pub(crate) fn demo(arguments: Vec<OsString>) -> Result<ExitCode> {
    let programs = programs("debug")?;
    // The same selection of packages as for the tests, so that nothing is built twice.
    cargo("Building the platform (some minutes the first time)", &["build", "--workspace", "--bins"])?;
    let mut words: Vec<OsString> = vec!["demo".into()];
    words.extend(arguments);
    become_program(programs.join("idempo-showcase"), words)
}

/// The servers and the platform.
pub(crate) fn up() -> Result<ExitCode> {
    let programs = programs("debug")?;
    cargo("Building the platform (some minutes the first time)", &["build", "--workspace", "--bins"])?;
    become_program(programs.join("idempo-devstack"), vec!["up".into()])
}

/// Every test, or those that the arguments name, on servers that run as long as they do.
pub(crate) fn test(arguments: Vec<OsString>) -> Result<ExitCode> {
    let programs = programs("debug")?;
    cargo("Building the platform (some minutes the first time)", &["build", "--workspace", "--bins"])?;
    let mut tests: Vec<OsString> = vec!["test".into()];
    if !names_packages(&arguments) {
        tests.push("--workspace".into());
    }
    let for_cargo = arguments.iter().take_while(|argument| *argument != "--").cloned();
    let build: Vec<OsString> = tests.iter().cloned().chain(for_cargo).chain(["--no-run".into(), "--quiet".into()]).collect();
    cargo("Building the tests", &build)?;
    let mut command = Command::new(programs.join("idempo-devstack"));
    command.args(["run", "--", "cargo"]).args(tests).args(arguments);
    // A test program is a grandchild of ours: it ends with cargo, and cargo with us.
    let runner = format!("CARGO_TARGET_{}_RUNNER", host()?.to_uppercase().replace('-', "_"));
    command.env(runner, "setpriv --pdeathsig=KILL --").current_dir(root());
    Err(command.exec()).context("starting idempo-devstack")
}

/// Whether arguments for `cargo test` choose packages.
fn names_packages(arguments: &[OsString]) -> bool {
    let for_cargo = arguments.iter().take_while(|argument| *argument != "--");
    for_cargo.map(|argument| argument.to_string_lossy()).any(|argument| {
        argument.starts_with("--package") || argument == "--workspace" || (argument.starts_with("-p") && !argument.starts_with("--"))
    })
}

/// A measurement, in a release build.
pub(crate) fn bench(arguments: Vec<OsString>) -> Result<ExitCode> {
    let programs = programs("release")?;
    cargo(
        "Building the benches (some minutes the first time)",
        &["build", "--release", "-p", "idempo-benches", "-p", "idempo-devstack", "--bins"],
    )?;
    let mut words: Vec<OsString> = vec!["run".into(), "--".into(), programs.join("idempo-bench").into()];
    words.extend(arguments);
    become_program(programs.join("idempo-devstack"), words)
}

fn become_program(program: PathBuf, arguments: Vec<OsString>) -> Result<ExitCode> {
    let error = Command::new(&program).args(arguments).current_dir(root()).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

fn cargo<A: AsRef<OsStr>>(what: &str, arguments: &[A]) -> Result<()> {
    tell(&format!("{what} …"));
    let began = Instant::now();
    let status = Command::new("cargo").args(arguments).current_dir(root()).status().context("running cargo")?;
    anyhow::ensure!(status.success(), "{what}: cargo failed ({status})");
    tell(&format!("{what}: done in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// Where cargo puts the programs of a profile.
fn programs(profile: &str) -> Result<PathBuf> {
    let metadata =
        cargo_metadata::MetadataCommand::new().current_dir(root()).no_deps().exec().context("asking cargo about the workspace")?;
    Ok(metadata.target_directory.join(profile).into())
}

/// This machine, as Rust names it.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8(output.stdout).context("rustc -vV")?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc -vV names no host")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn packages_are_chosen_before_the_dashes_only() {
        assert!(names_packages(&words(&["-p", "idempo-pg"])));
        assert!(names_packages(&words(&["--release", "--package=idempo-pg", "--", "pool"])));
        assert!(!names_packages(&words(&["pool", "--", "-p"])));
        assert!(!names_packages(&words(&[])));
    }
}

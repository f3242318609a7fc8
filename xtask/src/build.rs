//! Builds what a command needs, then lets it take this process' place.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::setup::root;
use crate::step::tell;

/// The build that the demo, `up` and the tests share, so that nothing is built twice. It has the points where tests kill processes; see
/// docs/testing.md.
const PLATFORM: [&str; 5] = ["build", "--workspace", "--bins", "--features", FAILPOINTS];
/// The feature that makes these points live, in whatever is built together.
const FAILPOINTS: &str = "idempo-runtime/failpoints";
/// The crate that has it.
const RUNTIME: &str = "idempo-runtime";

/// What a measurement needs: itself, the servers, and the platform's binaries, without the points where tests kill them.
const MEASURED: [&str; 7] = [
    "idempo-benches",
    "idempo-devstack",
    "idempo-wallet",
    "idempo-inventory",
    "idempo-outbox-relay",
    "idempo-inventory-projector",
    "idempo-dlq-admin",
];

/// What a run with faults needs: itself, the servers, and the platform's binaries.
pub(crate) const CHAOS: [&str; 7] = [
    "idempo-chaos",
    "idempo-devstack",
    "idempo-wallet",
    "idempo-inventory",
    "idempo-outbox-relay",
    "idempo-inventory-projector",
    "idempo-dlq-admin",
];

/// The showcase.
pub(crate) fn demo(arguments: Vec<OsString>) -> Result<ExitCode> {
    let programs = programs("debug")?;
    cargo("Building the platform (some minutes the first time)", &PLATFORM)?;
    let mut words: Vec<OsString> = vec!["demo".into()];
    words.extend(arguments);
    become_program(programs.join("idempo-showcase"), words)
}

/// The servers and the platform.
pub(crate) fn up() -> Result<ExitCode> {
    let programs = programs("debug")?;
    cargo("Building the platform (some minutes the first time)", &PLATFORM)?;
    become_program(programs.join("idempo-devstack"), vec!["up".into()])
}

/// Every test, or those that the arguments name, on servers that run as long as they do.
pub(crate) fn test(arguments: Vec<OsString>) -> Result<ExitCode> {
    let programs = programs("debug")?;
    cargo("Building the platform (some minutes the first time)", &PLATFORM)?;
    let mut tests: Vec<OsString> = vec!["test".into()];
    let packages = named_packages(&arguments);
    if packages.is_empty() {
        tests.push("--workspace".into());
    }
    if packages.is_empty() || has_failpoints(&metadata()?, &packages) {
        tests.extend(["--features".into(), FAILPOINTS.into()]);
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

/// The packages that arguments for `cargo test` choose, or the flag that chooses all.
fn named_packages(arguments: &[OsString]) -> Vec<String> {
    let mut words = arguments.iter().map(|argument| argument.to_string_lossy()).take_while(|argument| argument != "--");
    let mut packages = Vec::new();
    while let Some(word) = words.next() {
        if word == "-p" || word == "--package" {
            packages.extend(words.next().map(String::from));
        } else if word == "--workspace" {
            packages.push(word.into_owned());
        } else if let Some(name) = word.strip_prefix("--package=").or_else(|| word.strip_prefix("-p")) {
            packages.push(name.to_owned());
        }
    }
    packages
}

/// Whether cargo takes the feature for these packages: it wants one that has it, or depends on the one that has it.
fn has_failpoints(metadata: &cargo_metadata::Metadata, packages: &[String]) -> bool {
    let takes = |name: &String| {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == name);
        package.is_some_and(|package| name == RUNTIME || package.dependencies.iter().any(|dependency| dependency.name == RUNTIME))
    };
    packages.iter().any(|name| name == "--workspace" || takes(name))
}

/// Faults under load.
pub(crate) fn chaos(arguments: Vec<OsString>) -> Result<ExitCode> {
    let programs = programs("debug")?;
    cargo("Building the platform (some minutes the first time)", &PLATFORM)?;
    become_program(programs.join("idempo-chaos"), arguments)
}

/// A measurement, in a release build.
pub(crate) fn bench(arguments: Vec<OsString>) -> Result<ExitCode> {
    let programs = programs("release")?;
    let chosen = MEASURED.iter().flat_map(|package| ["-p", package]);
    let build: Vec<&str> = ["build", "--release", "--bins"].into_iter().chain(chosen).collect();
    cargo("Building the benches and what they measure (some minutes the first time)", &build)?;
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
    Ok(metadata()?.target_directory.join(profile).into())
}

fn metadata() -> Result<cargo_metadata::Metadata> {
    cargo_metadata::MetadataCommand::new().current_dir(root()).no_deps().exec().context("asking cargo about the workspace")
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
        for (arguments, packages) in [
            (&["-p", "idempo-pg"][..], &["idempo-pg"][..]),
            (&["--release", "--package=idempo-pg", "-pidempo-rpc", "--", "pool"], &["idempo-pg", "idempo-rpc"]),
            (&["--package", "idempo-pg", "a_name"], &["idempo-pg"]),
            (&["--workspace"], &["--workspace"]),
            (&["pool", "--", "-p"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(named_packages(&words(arguments)), packages, "{arguments:?}");
        }
    }

    #[test]
    fn the_feature_is_given_to_packages_that_take_it() {
        let metadata = metadata().unwrap();
        for (package, takes) in [("--workspace", true), (RUNTIME, true), ("idempo-wallet", true), ("idempo-pg", false), ("nobody", false)] {
            assert_eq!(has_failpoints(&metadata, &[package.to_owned()]), takes, "{package}");
        }
    }
}

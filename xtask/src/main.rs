//! The one entry for people: `cargo xtask demo`, `up`, `test`, `chaos`, `sabotage`, `tidy`, `bench`.
//!
//! It needs only Rust and a C compiler on the machine; `setup`, which every other command begins with, installs or fetches the rest. It is kept
//! light, so that its own first build is quick: what needs the servers is `idempo-devstack`, which takes this process' place when everything is
//! built. So one process is left, and what it started ends with it.

mod build;
mod packages;
mod sabotage;
mod setup;
mod step;
mod tidy;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// idempo's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the showcase on real servers: thousands of commands through the public API, a killed relay, and every invariant checked.
    Demo {
        /// Handed to the showcase.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Start the servers and the platform, print their addresses, and stay until Ctrl-C.
    Up,
    /// Run every test on real servers.
    Test {
        /// Handed to `cargo test`, such as `-p idempo-pg`, `a_name`, or `-- --nocapture`; without packages, it is the whole workspace.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Break processes, servers and networks under load by a seeded schedule, let everything heal, and check every invariant.
    ///
    /// `--seed N`, `--for 60s`, `--faults kill,freeze,postgres,cut,swallow,delay,broker,kafka-away,transactions`, `--brokers 1|3`; what a run
    /// leaves is in target/chaos/<seed>. docs/chaos.md says how to read it.
    Chaos {
        /// Handed to the program; `--help` shows all.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Break a promise on purpose in a scratch build of the last commit, one after the other, and want the checker to see each.
    ///
    /// The patches are in chaos/sabotage; docs/sabotage.md says what each breaks. The first build takes as long as a cold one.
    Sabotage {
        /// Which patches, by a part of their names; all of them if none is named.
        names: Vec<String>,
        /// The commit to be broken.
        #[arg(long, value_name = "COMMIT", default_value = "HEAD")]
        at: String,
        /// The folder for the scratch tree, its build, and what the runs leave; by default target/sabotage.
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// Measure, in a release build, on real servers.
    Bench {
        /// Which benches, all of them if none is named, and their options: `--full`, `--rounds`, `--seconds`, `--rows`, `--help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check what the compiler can't: dependencies between crates, sizes, names, references, catalogues.
    Tidy {
        /// Write the catalogues in docs/catalogue anew instead of complaining about them.
        #[arg(long)]
        write: bool,
    },
    /// Install and fetch what the other commands need, and nothing else.
    Setup,
}

fn main() -> ExitCode {
    start().unwrap_or_else(|error| {
        // Causes, and no backtrace: what fails here is the machine, not the code.
        step::tell(&format!("xtask: {error:#}"));
        ExitCode::FAILURE
    })
}

fn start() -> Result<ExitCode> {
    match Arguments::parse().task {
        Task::Demo { arguments } => {
            setup::run()?;
            build::demo(arguments)
        }
        Task::Up => {
            setup::run()?;
            build::up()
        }
        Task::Test { arguments } => {
            setup::run()?;
            build::test(arguments)
        }
        Task::Chaos { arguments } => {
            setup::run()?;
            build::chaos(arguments)
        }
        Task::Sabotage { names, at, folder } => {
            setup::run()?;
            sabotage::run(&names, &at, folder)
        }
        Task::Bench { arguments } => {
            setup::run()?;
            build::bench(arguments)
        }
        Task::Tidy { write } => tidy::run(write),
        Task::Setup => setup::run().map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_for_the_tests_are_handed_on_as_they_are() {
        let given = ["cargo xtask", "test", "-p", "idempo-pg", "--", "--nocapture"];
        let Ok(Arguments { task: Task::Test { arguments } }) = Arguments::try_parse_from(given) else { unreachable!("it parses") };
        assert_eq!(arguments, ["-p", "idempo-pg", "--", "--nocapture"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;

        Arguments::command().debug_assert();
    }
}

//! The tree of commands. Completions and man pages are made from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::{audit, doctor, event, outbox, relay, replay, trace};
use crate::exit::EXIT_CODES;
use crate::print::{Color, Form, TimeFormat};

/// Operates idempo: relays, outboxes, events, projections, and the invariants that hold them together.
#[derive(Debug, Parser)]
#[command(name = "idempo", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command. Flags go before variables, variables before files.
#[derive(Debug, Args)]
#[command(next_help_heading = "For every command")]
pub struct Global {
    /// The form of data on stdout.
    #[arg(short, long, global = true, value_enum, env = "IDEMPO_CLI_OUTPUT", value_name = "FORM")]
    pub output: Option<Form>,
    /// Whether text is coloured; NO_COLOR and TERM=dumb are heeded.
    #[arg(long, global = true, value_enum, env = "IDEMPO_CLI_COLOR", value_name = "WHEN")]
    pub color: Option<Color>,
    /// How times are shown in text. JSON has ISO 8601 in UTC always.
    #[arg(long, global = true, value_enum, env = "IDEMPO_CLI_TIME_FORMAT", value_name = "FORMAT")]
    pub time_format: Option<TimeFormat>,
    /// How long the command may take, such as 500ms, 30s or 5m; then it ends with 124.
    #[arg(long, global = true, env = "IDEMPO_CLI_TIMEOUT", value_name = "TIME")]
    pub timeout: Option<String>,
    /// The only file to read profiles from.
    #[arg(long, global = true, env = "IDEMPO_CLI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The profile: which platform.
    #[arg(long, global = true, env = "IDEMPO_CLI_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Answers every question with yes. Without a terminal nothing is asked, and what would ask fails.
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Only says what would be done.
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Why: kept in the audit. Whatever changes something needs it.
    #[arg(long, global = true, env = "IDEMPO_CLI_REASON", value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who is asking: kept in the audit. `cli:` and the user's name where it is not given.
    #[arg(long, global = true, env = "IDEMPO_CLI_CALLER", value_name = "NAME")]
    pub caller: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the relays are doing, and how to hold them.
    #[command(subcommand)]
    Relay(relay::Command),
    /// Rows that Kafka refuses, and what was done about them.
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Events, decoded.
    #[command(subcommand)]
    Event(event::Command),
    /// Follows a command from its key to the read models.
    Trace(trace::Command),
    /// Writes events of the stores into a topic of their own.
    Replay(replay::Command),
    /// Looks at every dependency.
    Doctor(doctor::Command),
    /// Checks every invariant that can be seen from outside, on the running platform.
    Audit(audit::Command),
    /// The settings in force.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints a shell's completions: `source <(idempo completions bash)`.
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Prints the man page: `idempo man | man -l -`.
    Man,
}

/// On settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Shows the profile, its files, and what is in force. Secrets are masked.
    Show,
}

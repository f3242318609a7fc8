//! The tree of commands. Completions and man pages are made from it.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::{audit, dlq, doctor, event, operator, outbox, projection, relay, replay, top, trace};
use crate::exit::EXIT_CODES;
use crate::failure::Failure;
use crate::print::{Color, Form, TimeFormat};

/// Operates idempo: relays, outboxes, events, projections, dead letters, and the invariants that hold them together.
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
    /// No colour, whatever else is said; as --color never.
    #[arg(long, global = true)]
    pub no_color: bool,
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
    /// Never asks: what would ask fails, as it does without a terminal.
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Only says what would be done.
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Why: kept in the audit. Whatever changes something needs it.
    #[arg(long, global = true, env = "IDEMPO_CLI_REASON", value_name = "TEXT")]
    pub reason: Option<String>,
    /// The file with your token. The platform knows you by it.
    #[arg(long, global = true, env = "IDEMPO_CLI_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Who is asking, where the platform asks nobody for a token: kept in the audit. `cli:` and the user's name where it is not given.
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
    /// Read models: where they stand, building one anew, comparing, switching.
    #[command(subcommand)]
    Projection(projection::Command),
    /// Records that a consumer could not take: found, understood, rehearsed, replayed, discarded.
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Events, decoded.
    #[command(subcommand)]
    Event(event::Command),
    /// Follows a command from its key to the read models.
    Trace(trace::Command),
    /// Writes events of the stores into a topic of their own.
    Replay(replay::Command),
    /// Shows relays, projections and dead letters live, in a terminal.
    Top(top::Command),
    /// Looks at every dependency.
    Doctor(doctor::Command),
    /// Checks every invariant that can be seen from outside, on the running platform.
    Audit(audit::Command),
    /// Who may operate the platform.
    #[command(subcommand)]
    Operator(operator::Command),
    /// The settings in force.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints a shell's completions: `source <(idempo completions bash)`.
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Prints the man page, or that of a command: `idempo man relay pause | man -l -`.
    Man {
        /// Which command.
        command: Vec<String>,
    },
}

/// The part of the tree that these words lead to.
///
/// # Errors
/// [`crate::Exit::NotFound`] with the nearest names.
pub fn part(words: &[String]) -> Result<clap::Command, Failure> {
    let mut tree = Arguments::command();
    tree.build();
    words.iter().try_fold(tree, |tree, word| {
        let found = tree.get_subcommands().find(|command| command.get_name() == word).cloned();
        found.ok_or_else(|| Failure::unknown("command", word, tree.get_subcommands().map(clap::Command::get_name)))
    })
}

/// On settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Shows the profile, its files, and what is in force. Secrets are masked.
    Show,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound_and_every_part_of_it_says_what_it_is() {
        let mut tree = Arguments::command();
        tree.build();
        tree.clone().debug_assert();
        let mut nodes = vec![&tree];
        while let Some(node) = nodes.pop() {
            assert!(node.get_about().is_some(), "{}", node.get_name());
            for argument in node.get_arguments() {
                assert!(argument.get_help().is_some(), "{} of {}", argument.get_id(), node.get_name());
            }
            nodes.extend(node.get_subcommands().filter(|node| node.get_name() != "help"));
        }
    }

    #[test]
    fn every_command_on_projections_has_an_example_that_is_a_command() {
        let tree = part(&["projection".to_owned()]).expect("a part");
        for command in tree.get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  idempo ")).collect();
            assert!(!examples.is_empty(), "{} has no example: {help:?}", command.get_name());
            for example in examples {
                let words = std::iter::once("idempo").chain(example.split_whitespace());
                assert!(Arguments::try_parse_from(words).is_ok(), "{example}");
            }
        }
    }

    #[test]
    fn flags_go_before_variables() {
        let parsed = Arguments::try_parse_from(["idempo", "relay", "status", "-o", "jsonl"]).expect("a command");
        assert_eq!(parsed.global.output, Some(Form::Jsonl));
    }

    #[test]
    fn completions_and_the_man_page_have_every_command() {
        let tree = Arguments::command();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut tree.clone(), "idempo", &mut script);
            let script = String::from_utf8(script).expect("UTF-8");
            assert!(tree.get_subcommands().all(|command| script.contains(command.get_name())), "{shell}");
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(tree.clone()).render(&mut page).expect("a page");
        let page = String::from_utf8(page).expect("UTF-8").replace('\\', "");
        assert!(tree.get_subcommands().all(|command| page.contains(command.get_name())), "{page}");
    }

    #[test]
    fn a_part_of_the_tree_is_found_by_its_words() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(part(&words(&["relay", "pause"])).map(|command| command.get_name().to_owned()).ok().as_deref(), Some("pause"));
        assert!(part(&words(&["relay", "pose"])).is_err_and(|failure| failure.hint.is_some_and(|hint| hint.contains("pause"))));
    }
}

//! `idempo`, the operators' command line: over the platform's own gRPC, and over its stores and topics as a role that reads everything and changes
//! nothing.
//!
//! Place in the flow: outside of it. It needs no process of the platform to be alive but those it asks something of, so that it can say what is wrong
//! when they are not.
//!
//! What it keeps: data is on stdout and everything else on stderr; columns are the same whatever is in them; nothing is asked where there is no terminal;
//! what changes something needs a reason, leaves an audit entry at whom it asks, and does nothing under `--dry-run`; how it ends is one of [`Exit`].
//!
//! What it does not do: it writes to no database, and to no topic but one that `replay` is told.

pub mod arguments;
pub mod commands;
pub mod context;
mod course;
mod exit;
mod failure;
pub mod print;
mod question;
pub mod relays;
pub mod settings;
pub mod stores;
pub mod topics;

pub use exit::{EXIT_CODES, Exit};
pub use failure::{Failure, exit_of, is_unreached};

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
use tokio::time::Instant;

use arguments::{Arguments, Command, ConfigCommand};
use context::Context;
use course::Course;
use print::{Form, Printer, tell};
use settings::Profile;

/// How long a command may take where nothing was said about it, and it is none that takes as long as it takes.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = Arguments::command().try_get_matches().and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, words(&matches))));
    let (arguments, action) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    start(arguments, &action)
        .unwrap_or_else(|failure| {
            if failure.exit != Exit::Done {
                tell(&format!("error: {}", failure.message));
                if let Some(hint) = failure.hint {
                    tell(&format!("hint: {hint}"));
                }
            }
            failure.exit
        })
        .into()
}

/// The words of the command, as in `projection switch`.
fn words(matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    let mut matches = matches;
    while let Some((word, of_it)) = matches.subcommand() {
        words.push(word);
        matches = of_it;
    }
    words.join(" ")
}

fn start(arguments: Arguments, action: &str) -> Result<Exit, Failure> {
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    let Arguments { global, command } = arguments;
    let command = match command {
        // Needs no settings, and must work with wrong ones.
        Command::Completions { shell } => {
            // It would panic where whoever reads has had enough.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "idempo", &mut script);
            stdout.write_all(&script)?;
            stdout.flush()?;
            return Ok(Exit::Done);
        }
        Command::Man { command } => {
            clap_mangen::Man::new(arguments::part(&command)?).render(&mut stdout)?;
            stdout.flush()?;
            return Ok(Exit::Done);
        }
        Command::Operator(command) => {
            let mut printer = Printer::new(Context::style(&global, &Profile::default()), &mut stdout);
            let ended = commands::operator::run(&command, &mut printer)?;
            printer.flush()?;
            return Ok(ended);
        }
        command => command,
    };
    let context = Context::new(&global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut printer = Printer::new(context.style, &mut stdout);
        let exit = limited(command, &context, &mut printer).await;
        if exit.is_ok() {
            show_dry_run(&context, action, &mut printer)?;
        }
        printer.flush()?;
        if let Some(line) = exit.as_ref().err().and_then(|failure| context.course.left_behind(failure.exit)) {
            tell(&line);
        }
        exit
    });
    // A thread that waits for a broker's answer is not waited for.
    runtime.shutdown_background();
    ended
}

/// Where a dry run has printed no data of its own, what it has left undone is its data. In text people have been told already.
fn show_dry_run(context: &Context, action: &str, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let documents = context.course.dry_runs(action);
    if printer.style.form == Form::Text || printer.has_printed() {
        return Ok(());
    }
    documents.iter().try_for_each(|document| printer.one(document, &[]))
}

/// Runs the command until it ends, takes too long, or is interrupted.
async fn limited(command: Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let limit = context.timeout.or_else(|| (!takes_its_time(&command)).then_some(TIMEOUT_DEFAULT));
    tokio::select! {
        // What has ended has ended, whatever came with it.
        biased;
        ended = run(command, context, printer) => ended,
        () = out_of_time(limit, &context.course) => {
            let limit = limit.unwrap_or_default();
            Err(Failure::new(Exit::TimedOut, format!("not done after {} ms", limit.as_millis())).hint("--timeout gives it more time"))
        }
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

/// Waits until the command's time is over. It stands still while a question does.
async fn out_of_time(limit: Option<Duration>, course: &Course) {
    let began = Instant::now();
    let due = || limit.and_then(|limit| limit.checked_add(course.time_asked())).and_then(|length| began.checked_add(length));
    while let Some(at) = due() {
        tokio::time::sleep_until(at).await;
        if due().is_none_or(|due| due <= Instant::now()) {
            return;
        }
    }
    std::future::pending().await
}

/// Whether a command is one that goes on for as long as there is something to do.
const fn takes_its_time(command: &Command) -> bool {
    match command {
        Command::Audit(_)
        | Command::Top(_)
        | Command::Replay(_)
        | Command::Trace(_)
        | Command::Event(commands::event::Command::Tail { .. }) => true,
        Command::Projection(command) => command.takes_its_time(),
        Command::Dlq(command) => command.takes_its_time(),
        _ => false,
    }
}

async fn run(command: Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Relay(command) => commands::relay::run(command, context, printer).await,
        Command::Outbox(command) => commands::outbox::run(command, context, printer).await,
        Command::Projection(command) => commands::projection::run(command, context, printer).await,
        Command::Dlq(command) => commands::dlq::run(command, context, printer).await,
        Command::Event(command) => commands::event::run(command, context, printer).await,
        Command::Trace(command) => commands::trace::run(&command, context, printer).await,
        Command::Replay(command) => commands::replay::run(&command, context, printer).await,
        Command::Top(command) => commands::top::run(&command, context).await,
        Command::Doctor(command) => commands::doctor::run(&command, context, printer).await,
        Command::Audit(command) => commands::audit::run(&command, context, printer).await,
        Command::Config(ConfigCommand::Show) => commands::config::show(context, printer),
        Command::Operator(_) | Command::Completions { .. } | Command::Man { .. } => Ok(Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_s_time_stands_still_while_a_question_does() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (limit, asked) = (Duration::from_millis(20), Duration::from_millis(200));
            let course = Course::default();
            let began = Instant::now();
            let over = out_of_time(Some(limit), &course);
            course.asked(asked);
            over.await;
            assert!(began.elapsed() >= limit + asked, "{:?}", began.elapsed());
        });
    }

    #[test]
    fn a_command_is_known_by_its_words() {
        let matches = Arguments::command().try_get_matches_from(["idempo", "-y", "projection", "switch", "inventory", "--force"]);
        assert_eq!(words(&matches.expect("a command")), "projection switch");
    }
}

//! `idempo doctor`: whether everything is there that the platform needs, and as it must be.
//!
//! Everything is looked at at once, each thing with a limit of its own, and told in an order of its own as soon as it is known: where much is away, that is
//! said all the same, and soon.

mod brokers;
mod databases;
mod operators;
mod outboxes;
mod processes;
mod projections;

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, one_line};
use crate::print::{Cell, Form, Printer, Row, Tone, tell};

const COLUMNS: [&str; 4] = ["WHAT", "NAME", "VERDICT", "DETAIL"];
/// How long one dependency may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(8);
/// Of the time that the whole command has, how much one check may take: two of them come one after the other, and something is left to tell of it.
const CHECK_SHARE: f64 = 0.4;
/// How far behind something may be before somebody should look: as long as the alerts wait.
const BEHIND_MAX: Duration = Duration::from_secs(60);
/// The widest that the kinds of things are, in characters, as they stand in the first column.
const WHAT_WIDTH: usize = 12;
/// The widest that verdicts are, in characters.
const VERDICT_WIDTH: usize = 7;

/// Looks at every dependency: whether it is reached, its version, its settings, its schema, and whether it does what it is there for. Ends with 6 where
/// one is away, with 8 where one is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  idempo doctor
  idempo doctor -o jsonl | grep -v '\"fine\"'
  idempo doctor --timeout 5s")]
pub struct Command {}

/// What is to be said of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Fine,
    /// It works, and somebody should look.
    Odd,
    /// It is not as it must be.
    Wrong,
    /// It is not reached.
    Away,
}

#[derive(Debug)]
struct Check {
    what: &'static str,
    name: String,
    finding: Finding,
    detail: String,
}

/// What is known of one dependency, or of several that are asked together.
type Checks<'a> = BoxFuture<'a, Vec<Check>>;

/// Runs the command.
///
/// # Errors
/// Where stdout can't be written.
pub async fn run(_command: &Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let looked: FuturesOrdered<Checks<'_>> = all(context).into_iter().collect();
    let mut looked = std::pin::pin!(looked);
    let mut told = Told::new(context);
    told.head(printer)?;
    while let Some(checks) = looked.next().await {
        for check in checks {
            told.one(check, printer)?;
        }
        // Whoever waits for the rest sees what is known.
        printer.flush()?;
    }
    told.end(printer)
}

/// Everything that is looked at, in the order in which it is told.
fn all(context: &Context) -> Vec<Checks<'_>> {
    let (profile, limit) = (context.profile(), limit(context));
    let mut all: Vec<Checks<'_>> = vec![Box::pin(async { vec![settings(context)] }), Box::pin(outboxes::check(context, limit))];
    all.extend(profile.dead_letters.iter().map(|address| one(limit, "dead letters", address, processes::dead_letters(address, context))));
    all.push(Box::pin(async move { vec![operators::check(context, limit).await] }));
    for (what, processes) in [("service", &profile.services), ("projector", &profile.projectors)] {
        all.extend(processes.iter().map(|(name, address)| one(limit, what, name, processes::health(what, name, address))));
    }
    for (name, address) in &profile.projectors {
        all.push(Box::pin(projections::check(name, address, context, limit)));
    }
    for (name, url) in &profile.stores {
        all.push(Box::pin(databases::check("store", name, format!("{name}_db"), url, limit)));
    }
    for (name, url) in &profile.views {
        all.push(Box::pin(databases::check("view", name, format!("{name}_view_db"), url, limit)));
    }
    all.push(Box::pin(brokers::check(context, limit)));
    all
}

/// How long one check may take.
fn limit(context: &Context) -> Duration {
    context.timeout.map_or(CHECK_TIMEOUT, |whole| whole.mul_f64(CHECK_SHARE).min(CHECK_TIMEOUT))
}

/// A dependency that is asked by itself.
fn one<'a>(limit: Duration, what: &'static str, name: &'a str, check: impl Future<Output = Check> + Send + 'a) -> Checks<'a> {
    Box::pin(async move { vec![in_time(limit, what, name, check).await] })
}

/// A check that says nothing in time finds that its thing is away.
async fn in_time(limit: Duration, what: &'static str, name: &str, check: impl Future<Output = Check>) -> Check {
    tokio::time::timeout(limit, check).await.unwrap_or_else(|_| Check::silent(limit, what, name))
}

/// What is told so far.
struct Told {
    checks: Vec<Check>,
    name_width: usize,
}

impl Told {
    fn new(context: &Context) -> Self {
        let profile = context.profile();
        let topics = idempo_schemas::topics().topics.iter().map(|topic| topic.name);
        let processes = profile.relays.iter().chain(&profile.dead_letters).chain(profile.services.keys()).chain(profile.projectors.keys());
        let databases = profile.stores.keys().chain(profile.views.keys());
        let names = processes.chain(databases).map(String::as_str).chain(topics);
        let names = names.chain([context.settings.name.as_str(), profile.kafka.brokers.as_str()]);
        Self { checks: Vec::new(), name_width: names.map(|name| name.chars().count()).max().unwrap_or(0) }
    }

    fn head(&self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        if printer.style.form != Form::Text {
            return Ok(());
        }
        let [what, name, verdict, detail] = COLUMNS;
        self.line(what, name, verdict, verdict, detail, printer)
    }

    /// Tells of a check, but in one JSON document: that is told at the end.
    fn one(&mut self, check: Check, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match printer.style.form {
            Form::Text => {
                let (verdict, tone) = check.verdict();
                let painted = printer.painted(&Cell::toned(verdict, tone));
                self.line(check.what, &check.name, verdict, &painted, &check.detail, printer)?;
            }
            Form::Jsonl => printer.line(&check.row().json.to_string())?,
            Form::Json => {}
        }
        self.checks.push(check);
        Ok(())
    }

    /// A line of the table. Its columns are as wide as they must be for what is not known yet; colour has no width.
    fn line(&self, what: &str, name: &str, verdict: &str, painted: &str, detail: &str, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let pad = " ".repeat(VERDICT_WIDTH.saturating_sub(verdict.chars().count()));
        let width = self.name_width;
        printer.line(format!("{what:<WHAT_WIDTH$}  {name:<width$}  {painted}{pad}  {detail}").trim_end())
    }

    fn end(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        if printer.style.form == Form::Json {
            printer.list(&COLUMNS, &self.checks.iter().map(Check::row).collect::<Vec<_>>())?;
        }
        let count = |finding| self.checks.iter().filter(|check| check.finding == finding).count();
        let (away, wrong) = (count(Finding::Away), count(Finding::Wrong));
        if away + wrong > 0 {
            tell(&format!("{away} are away, {wrong} are wrong, of {}", self.checks.len()));
        }
        Ok(match (away, wrong) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::Differences,
            _ => Exit::Unavailable,
        })
    }
}

impl Check {
    fn new(what: &'static str, name: &str, finding: Finding, detail: impl Into<String>) -> Self {
        Self { what, name: name.to_owned(), finding, detail: one_line(&detail.into()) }
    }

    /// What is there and turns us away, or answers what it must not, is not away.
    fn failed(what: &'static str, name: &str, failure: Failure) -> Self {
        let finding = match failure.exit {
            Exit::Unavailable | Exit::TimedOut => Finding::Away,
            _ => Finding::Wrong,
        };
        Self::new(what, name, finding, failure.message)
    }

    fn silent(limit: Duration, what: &'static str, name: &str) -> Self {
        Self::new(what, name, Finding::Away, format!("says nothing within {} ms", limit.as_millis()))
    }

    fn verdict(&self) -> (&'static str, Tone) {
        match self.finding {
            Finding::Fine => ("fine", Tone::Good),
            Finding::Odd => ("odd", Tone::Odd),
            Finding::Wrong => ("wrong", Tone::Bad),
            Finding::Away => ("away", Tone::Bad),
        }
    }

    fn row(&self) -> Row {
        let (verdict, tone) = self.verdict();
        Row {
            json: json!({ "what": self.what, "name": self.name, "verdict": verdict, "detail": self.detail }),
            cells: vec![self.what.into(), self.name.as_str().into(), Cell::toned(verdict, tone), self.detail.as_str().into()],
        }
    }
}

fn settings(context: &Context) -> Check {
    let profile = context.profile();
    let missing: Vec<&str> = [
        ("relays", profile.relays.is_empty()),
        ("dead_letters", profile.dead_letters.is_empty()),
        ("services", profile.services.is_empty()),
        ("projectors", profile.projectors.is_empty()),
        ("stores", profile.stores.is_empty()),
        ("views", profile.views.is_empty()),
    ]
    .into_iter()
    .filter_map(|(key, is_missing)| is_missing.then_some(key))
    .collect();
    if missing.is_empty() {
        return Check::new("settings", &context.settings.name, Finding::Fine, "everything that commands need is set");
    }
    Check::new("settings", &context.settings.name, Finding::Odd, format!("not set, so not looked at: {}", missing.join(", ")))
}

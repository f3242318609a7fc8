//! `idempo audit`: every invariant that can be seen from outside, on the running platform.

mod gauges;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use idempo_checker::evidence::Sources;
use idempo_checker::facts::Place;
use idempo_checker::live::{self, Patience};
use idempo_checker::report::grouped;
use idempo_checker::{Report, Verdict};
use idempo_proto::ops::v1::{DeadLetterFilter, DeadLetterState};
use serde_json::json;

use self::gauges::Gauges;
use super::dlq::service::Service;
use crate::context::{Context, parse_timeout};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Cell, Form, Printer, Row, Tone, tell};
use crate::relays::missing;
use crate::settings::StoreUrl;

/// How many dead letters that were discarded are asked for.
const DISCARDED_MAX: usize = 1_000_000;

const COLUMNS: [&str; 5] = ["INVARIANT", "STATE", "LOOKED AT", "FLAWS", "CLAIM"];

/// Checks every invariant on the running platform, by reading stores, topics and read models. Ends with 8 where one does not hold.
#[derive(Debug, Args)]
pub struct Command {
    /// How long what is committed now may take to be in Kafka and in the read model.
    #[arg(long, default_value = "10s", value_name = "TIME")]
    patience: String,
    /// Audits again and again, with this pause between, until it is interrupted. Only what does not hold is printed.
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// After each audit, writes what was found into this file as gauges in Prometheus' text, for a node exporter's textfile collector.
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Unavailable`] where something can't be read; [`Exit::Differences`] where a stored event can't be decoded.
pub async fn run(command: &Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let audited = Audited {
        context,
        sources: sources(context)?,
        patience: Patience(parse_timeout(&command.patience)?),
        gauges: command.metrics.clone().map(Gauges::new),
    };
    let Some(every) = &command.every else {
        let report = audited.once().await?;
        show(&report, printer)?;
        return Ok(told(&report));
    };
    audited.again_and_again(parse_timeout(every)?, printer).await
}

/// What is audited, and where what was found is kept.
struct Audited<'a> {
    context: &'a Context,
    sources: Sources,
    patience: Patience,
    gauges: Option<Gauges>,
}

impl Audited<'_> {
    async fn once(&self) -> Result<Report, Failure> {
        let began = Instant::now();
        let report = self.looked().await;
        if let Some(gauges) = &self.gauges {
            gauges.write(report.as_ref().ok(), self.context.now(), began.elapsed())?;
        }
        report
    }

    async fn looked(&self) -> Result<Report, Failure> {
        let discarded = discarded(self.context).await?;
        live::audit(&self.sources, self.patience, &discarded).await.map_err(|error| Failure::of_checker(&error))
    }

    /// Ends where stdout or the file can't be written. What is away now may be there the next time.
    async fn again_and_again(&self, every: Duration, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        loop {
            match self.once().await {
                Ok(report) if told(&report) == Exit::Done => {}
                Ok(report) => {
                    show(&report, printer)?;
                    printer.flush()?;
                }
                Err(failure) if matches!(failure.exit, Exit::Unavailable | Exit::TimedOut) => {
                    tell(&format!("warning: {}", failure.message))
                }
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(every).await;
        }
    }
}

/// How an audit ends, with a line on stderr where something does not hold.
fn told(report: &Report) -> Exit {
    let broken: Vec<&str> = report.verdicts.iter().filter(|verdict| verdict.flaw_count > 0).map(|verdict| verdict.id).collect();
    if broken.is_empty() {
        return Exit::Done;
    }
    tell(&format!("{} of {} claims do not hold: {}", broken.len(), report.verdicts.len(), broken.join(", ")));
    Exit::Differences
}

fn sources(context: &Context) -> Result<Sources, Failure> {
    let profile = context.profile();
    let url = |urls: &std::collections::BTreeMap<String, StoreUrl>, key: &str, name: &str| {
        urls.get(name).map(|url| url.expose().to_owned()).ok_or_else(|| missing(&format!("{key}.{name}")))
    };
    Ok(Sources {
        wallet: url(&profile.stores, "stores", "wallet")?,
        inventory: url(&profile.stores, "stores", "inventory")?,
        inventory_view: url(&profile.views, "views", "inventory")?,
        brokers: profile.kafka.brokers.clone(),
        topics: idempo_schemas::topics().topics.iter().map(|topic| topic.name.to_owned()).collect(),
        dead_letters: Vec::new(),
        ops: None,
    })
}

/// Where the records are that people have discarded. Asked before anything is looked at: what is discarded meanwhile is still a flaw in this audit.
async fn discarded(context: &Context) -> Result<HashSet<Place>, Failure> {
    if context.profile().dead_letters.is_empty() {
        return Ok(HashSet::new());
    }
    let filter = DeadLetterFilter { state: DeadLetterState::Discarded.into(), ..DeadLetterFilter::default() };
    let letters = match Service::new(context)?.letters(&filter, DISCARDED_MAX).await {
        Ok((letters, _)) => letters,
        Err(failure) if failure.exit == Exit::Unavailable => {
            tell("warning: records that people have discarded count as flaws: the dead-letter service does not say which they are");
            return Ok(HashSet::new());
        }
        Err(failure) => return Err(failure),
    };
    if !letters.is_empty() {
        tell(&format!("{} records that people have discarded are left out, where they are no event of a store", letters.len()));
    }
    Ok(letters.into_iter().map(|letter| (letter.topic, letter.partition, letter.offset)).collect())
}

fn show(report: &Report, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let rows: Vec<Row> = report.verdicts.iter().map(row).collect();
    printer.list(&COLUMNS, &rows)?;
    if printer.style.form != Form::Text {
        return Ok(());
    }
    for verdict in report.verdicts.iter().filter(|verdict| verdict.flaw_count > 0) {
        printer.line("")?;
        printer.line(&format!("{}: {}", verdict.id, verdict.claim))?;
        for flaw in &verdict.flaws {
            printer.line(&format!("  {flaw}"))?;
        }
        let shown = u64::try_from(verdict.flaws.len()).unwrap_or(u64::MAX);
        if verdict.flaw_count > shown {
            printer.line(&format!("  and {} more", verdict.flaw_count - shown))?;
        }
    }
    Ok(())
}

/// A claim about which there is nothing yet to look at is not broken: a platform without items has no items with two owners.
fn row(verdict: &Verdict) -> Row {
    let (state, tone) = match (verdict.flaw_count, verdict.looked_at) {
        (0, 0) => ("nothing there", Tone::Odd),
        (0, _) => ("holds", Tone::Good),
        _ => ("broken", Tone::Bad),
    };
    Row {
        json: json!({
            "invariant": verdict.id, "state": state, "claim": verdict.claim, "looked_at": verdict.looked_at, "of": verdict.of,
            "flaw_count": verdict.flaw_count, "flaws": verdict.flaws,
        }),
        cells: vec![
            verdict.id.into(),
            Cell::toned(state, tone),
            format!("{} {}", grouped(verdict.looked_at), verdict.of).into(),
            verdict.flaw_count.into(),
            verdict.claim.into(),
        ],
    }
}

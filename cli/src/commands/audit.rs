//! `idempo audit`: every invariant that can be seen from outside, on the running platform.

use clap::Args;
use idempo_checker::evidence::Sources;
use idempo_checker::live::{self, Patience};
use idempo_checker::report::grouped;
use idempo_checker::{Report, Verdict};
use serde_json::json;

use crate::context::{Context, parse_timeout};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Cell, Form, Printer, Row, Tone, tell};
use crate::relays::missing;
use crate::settings::StoreUrl;

const COLUMNS: [&str; 5] = ["INVARIANT", "STATE", "LOOKED AT", "FLAWS", "CLAIM"];

/// Checks every invariant on the running platform, by reading stores, topics and read models. Ends with 8 where one does not hold.
#[derive(Debug, Args)]
pub struct Command {
    /// How long what is committed now may take to be in Kafka and in the read model.
    #[arg(long, default_value = "10s", value_name = "TIME")]
    patience: String,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Unavailable`] where something can't be read; [`Exit::Differences`] where a stored event can't be decoded.
pub async fn run(command: &Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let sources = sources(context)?;
    let patience = Patience(parse_timeout(&command.patience)?);
    let report = live::audit(&sources, patience).await.map_err(|error| Failure::of_checker(&error))?;
    show(&report, printer)?;
    let broken: Vec<&str> = report.verdicts.iter().filter(|verdict| verdict.flaw_count > 0).map(|verdict| verdict.id).collect();
    if broken.is_empty() {
        return Ok(Exit::Done);
    }
    tell(&format!("{} of {} claims do not hold: {}", broken.len(), report.verdicts.len(), broken.join(", ")));
    Ok(Exit::Differences)
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
    })
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

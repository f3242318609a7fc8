//! `idempo-checker`: checks a run from files and databases.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use idempo_checker::history::History;
use idempo_checker::{Evidence, Rules, Sources, check, dump};

/// Checks what a run left behind: 0 where every claim holds, 1 where one does not.
#[derive(Parser)]
#[command(name = "idempo-checker", version)]
struct Arguments {
    /// The client history, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    history: PathBuf,
    /// The wallet's database, for a role that reads everything; best left to the environment, since it may hold a password.
    #[arg(long, env = "IDEMPO_CHECKER_WALLET_URL", hide_env_values = true)]
    wallet_url: String,
    /// The inventory's database.
    #[arg(long, env = "IDEMPO_CHECKER_INVENTORY_URL", hide_env_values = true)]
    inventory_url: String,
    /// The database of the inventory's read model.
    #[arg(long, env = "IDEMPO_CHECKER_INVENTORY_VIEW_URL", hide_env_values = true)]
    inventory_view_url: String,
    /// The brokers, `host:port` with commas between.
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: String,
    /// A topic with events; can be given more than once.
    #[arg(long = "topic", default_value = "economy-events")]
    topics: Vec<String>,
    /// A topic with dead letters; can be given more than once.
    #[arg(long = "dead-letters")]
    dead_letters: Vec<String>,
    /// A dump of the topics that was made earlier in the run.
    #[arg(long, value_name = "FILE")]
    earlier: Option<PathBuf>,
    /// Writes a dump of the topics there.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// How many poison messages were put in.
    #[arg(long, default_value_t = 0)]
    poison: u64,
    /// Some commands may be unknown to their clients at the end.
    #[arg(long)]
    clients_gave_up: bool,
    /// Stores lost answers to services.
    #[arg(long)]
    stores_lost_answers: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        // Nobody to tell is no reason to end otherwise.
        let _ = writeln!(std::io::stderr(), "The run could not be checked: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let file = File::open(&arguments.history).with_context(|| format!("opening {}", arguments.history.display()))?;
    let history = History::read_jsonl(BufReader::new(file))?;
    let sources = Sources {
        wallet: arguments.wallet_url,
        inventory: arguments.inventory_url,
        inventory_view: arguments.inventory_view_url,
        brokers: arguments.brokers,
        topics: arguments.topics,
        dead_letters: arguments.dead_letters,
        ops: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the runtime")?;
    let mut evidence = runtime.block_on(Evidence::read(&sources, history))?;
    if let Some(path) = &arguments.earlier {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        evidence.earlier_topics = dump::read(bytes.into())?;
    }
    if let Some(path) = &arguments.dump {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        dump::write(&evidence.topics, &mut std::io::BufWriter::new(file)).with_context(|| format!("writing {}", path.display()))?;
    }
    let rules = Rules {
        must_meet: Vec::new(),
        clients_gave_up: arguments.clients_gave_up,
        stores_lost_answers: arguments.stores_lost_answers,
        poison_injected: arguments.poison,
        ..Rules::default()
    };
    let report = check(&evidence, &rules);
    let text = if arguments.json { report.to_json()? } else { report.to_string() };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

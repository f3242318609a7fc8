//! A small role, for the process tests of `idempo-runtime`: a server of lines, with a journal that work in flight needs.
//!
//! One command a line: `count` adds one to the journal and answers with its length; `open` makes the role ready; `fail`, `panic` and `flap` break the
//! journal, the journal by a panic, and a task that is started again; `stall` spawns a task that never stops.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use idempo_runtime::{Condition, Invalid, Platform, Restart, Role, Running, Stage, Task};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info, info_span};

/// Requests that may wait for the journal.
const JOURNAL_QUEUE_MAX: usize = 16;

fn main() -> ExitCode {
    idempo_runtime::run::<Sample>()
}

struct Sample;

/// The role's settings.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    grpc: Server,
    journal: Journal,
    /// Ready from the start, without waiting for `open`.
    open: bool,
    /// What the start does besides starting.
    start: Start,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    listen: SocketAddr,
}

impl Default for Server {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Journal {
    url: String,
    password: String,
    lines_max: u32,
}

impl Default for Journal {
    fn default() -> Self {
        Self { url: "journal://sample@localhost".to_owned(), password: String::new(), lines_max: 100 }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Start {
    #[default]
    Works,
    Fails,
    Hangs,
}

/// What the role's tasks share.
struct Shared {
    platform: Platform,
    open: Condition,
    flap: Arc<Notify>,
    journal: mpsc::Sender<Entry>,
}

enum Entry {
    Count(oneshot::Sender<u32>),
    Fail,
    Panic,
}

impl Role for Sample {
    const NAME: &'static str = "sample";
    const ABOUT: &'static str = "Serves lines, and breaks when told to";
    type Config = Config;

    fn validate(config: &Config) -> Result<(), Invalid> {
        if config.journal.lines_max == 0 {
            return Err(Invalid::new("journal.lines_max", "must be at least 1"));
        }
        Ok(())
    }

    async fn start(config: Config, platform: Platform) -> anyhow::Result<Running> {
        match config.start {
            Start::Works => {}
            Start::Fails => bail!("told to fail at the start"),
            Start::Hangs => pending().await,
        }
        let listener = TcpListener::bind(config.grpc.listen).await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let (journal, entries) = mpsc::channel(JOURNAL_QUEUE_MAX);
        let open = platform.readiness.condition("open");
        if config.open {
            open.met();
        }
        let flap = Arc::new(Notify::new());
        let shared = Arc::new(Shared { platform: platform.clone(), open, flap: Arc::clone(&flap), journal });

        let lines_max = config.journal.lines_max;
        platform.tasks.spawn(Task::critical("journal"), move |cancel| async move {
            cancel.run_until_cancelled_owned(keep(entries, lines_max)).await.unwrap_or(Ok(()))
        });
        platform.tasks.spawn_restarting(Task::restarting("flapping", Restart { min_delay_ms: 1, ..Restart::default() }), move |cancel| {
            let flap = Arc::clone(&flap);
            async move {
                info!("flapping started");
                match cancel.run_until_cancelled(flap.notified()).await {
                    Some(()) => bail!("told to flap"),
                    None => Ok(()),
                }
            }
        });
        platform.tasks.spawn(Task::critical("server").stage(Stage::Edge), move |cancel| async move {
            let connections = TaskTracker::new();
            while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
                connections.spawn(serve(accepted?.0, Arc::clone(&shared)));
            }
            connections.close();
            connections.wait().await;
            Ok(())
        });
        Ok(Running::new().with_address("lines", address))
    }
}

/// The journal: counts what it is given.
async fn keep(mut entries: mpsc::Receiver<Entry>, lines_max: u32) -> anyhow::Result<()> {
    let mut length = 0;
    while let Some(entry) = entries.recv().await {
        match entry {
            Entry::Count(reply) => {
                length = u32::min(length + 1, lines_max);
                metrics::counter!("sample_lines_total").increment(1);
                // Whoever asked may be gone.
                let _ = reply.send(length);
            }
            Entry::Fail => bail!("told to fail"),
            Entry::Panic => {
                #[expect(clippy::panic, reason = "what a panic does is what is tested")]
                {
                    panic!("told to panic")
                }
            }
        }
    }
    Ok(())
}

/// Answers the lines of one connection until its end.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let span = info_span!(target: "idempo_sample", "line", command = %line);
        let Ok(answer) = answer(&line, &shared).instrument(span).await else { return };
        if write.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn answer(line: &str, shared: &Shared) -> anyhow::Result<String> {
    info!("answering");
    match line {
        "count" => {
            let (reply, length) = oneshot::channel();
            shared.journal.send(Entry::Count(reply)).await?;
            return Ok(length.await?.to_string());
        }
        "open" => shared.open.met(),
        "close" => shared.open.unmet("told to close"),
        "fail" => shared.journal.send(Entry::Fail).await?,
        "panic" => shared.journal.send(Entry::Panic).await?,
        "flap" => shared.flap.notify_one(),
        "stop" => shared.platform.tasks.request_stop(),
        "stall" => shared.platform.tasks.spawn(Task::optional("stalled"), |_| pending()),
        "trace" => return Ok(idempo_telemetry::traceparent_of_current_span()),
        other => return Ok(format!("unknown: {other}")),
    }
    Ok("ok".to_owned())
}

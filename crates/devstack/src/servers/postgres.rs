//! PostgreSQL's own server: tuned for a small machine, and as durable as in production.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{Options, Started, program, ready};
use crate::cluster::{Cluster, session};
use crate::home::{Home, Keep};
use crate::process::{Launch, Process};

/// How long making a cluster may take.
const INITDB_LIMIT: Duration = Duration::from_secs(60);
/// How long the server may take to be ready; after a crash it reads its log first.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// The port in `up`.
const FIXED_PORT: u16 = 54_320;
/// Where distributions put versions of PostgreSQL, one folder each.
const VERSIONS: [&str; 2] = ["/usr/lib/postgresql", "/usr/pgsql"];

/// fsync, full_page_writes and synchronous_commit stay as they are: on.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
shared_buffers = 256MB
max_wal_size = 4GB
min_wal_size = 256MB
checkpoint_timeout = 15min
wal_compression = on
max_locks_per_transaction = 256
random_page_cost = 1.1
jit = off
autovacuum_naptime = 10s
log_line_prefix = '%m [%p] %a %d '
# What a killed server leaves behind is in its folder and goes with it.
dynamic_shared_memory_type = mmap
";

pub(super) async fn start(options: &Options, home: Option<&Home>, given: Option<String>) -> Result<Started> {
    if let Some(url) = given {
        options.progress.tell("PostgreSQL: using the one of DATABASE_URL");
        return Ok(Started::given(url));
    }
    let home = home.context("our own server needs a folder")?;
    let began = Instant::now();
    let (initdb, postgres) = (binary("initdb")?, binary("postgres")?);
    let folder = home.folder("postgres")?;
    let data = folder.join("data");
    let log = folder.join("postgres.log");
    let launch = |name: &str, program: &Path| Launch {
        log: Some(log.clone()),
        user: home.user.clone(),
        // An immediate shutdown: the server ends its backends too, where a killed one would leave it to each of them.
        death_signal: "QUIT",
        ..Launch::new(name, program, &folder)
    };
    if !data.join("PG_VERSION").exists() {
        // A folder that is deleted afterwards need not survive a power cut while it is being made.
        let sync: &[&str] = if options.keep == Keep::Nothing { &["--no-sync"] } else { &[] };
        launch("initdb", &initdb)
            .arguments(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--pgdata"])
            .arguments([&data])
            .arguments(sync)
            .run(INITDB_LIMIT)
            .await?;
    }
    let port = options.ports.pick(FIXED_PORT)?;
    let settings = data.join("postgresql.auto.conf");
    fs::write(&settings, format!("{SETTINGS}port = {port}\n")).with_context(|| format!("writing {}", settings.display()))?;
    let launch = launch("PostgreSQL", &postgres).arguments(["-D".as_ref(), data.as_os_str()]);
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let mut started = Started { address: url, launch: Some(launch), process: None };
    started.launch()?;
    answers(&mut started).await?;
    options.progress.tell(&format!("PostgreSQL is ready on port {port} ({:.1} s)", began.elapsed().as_secs_f64()));
    Ok(started)
}

/// Waits until the server answers.
pub(super) async fn answers(started: &mut Started) -> Result<()> {
    let superuser = Cluster::new(&started.address)?.superuser("postgres");
    ready(started.running()?, "PostgreSQL", READY_LIMIT, async || session(&superuser).await.is_ok()).await
}

/// Ends it as a power cut would, but with its backends.
pub(super) async fn crash(process: &mut Process) -> Result<()> {
    process.stop(Signal::QUIT, STOP_LIMIT).await.map(|_| ())
}

pub(super) async fn stop(process: Option<Process>, keep: Keep) -> Result<()> {
    let Some(mut process) = process else { return Ok(()) };
    // Fast: sessions are ended and everything is written. Immediate: as if killed, but with its backends.
    let signal = if keep == Keep::Everything { Signal::INT } else { Signal::QUIT };
    process.stop(signal, STOP_LIMIT).await.map(|_| ())
}

/// A program of the newest PostgreSQL on this machine.
fn binary(name: &str) -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = VERSIONS
        .iter()
        .flat_map(fs::read_dir)
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let mut places: Vec<PathBuf> = std::env::var_os("IDEMPO_POSTGRES_BIN").map(PathBuf::from).into_iter().collect();
    places.extend(versions.into_iter().map(|(_, path)| path));
    program(name, &places, "`cargo xtask setup` installs the package postgresql, or set IDEMPO_POSTGRES_BIN or DATABASE_URL")
}

//! Redis' own server.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Options, Started, program, ready};
use crate::home::{Home, Keep};
use crate::process::{Launch, Process};

/// How long the server may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long one question may take.
const PING_LIMIT: Duration = Duration::from_secs(1);
/// How long it may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The port in `up`.
const FIXED_PORT: u16 = 54_379;

pub(super) async fn start(options: &Options, home: Option<&Home>, given: Option<String>) -> Result<Started> {
    if let Some(url) = given {
        options.progress.tell("Redis: using the one of REDIS_URL");
        return Ok(Started::given(url));
    }
    let home = home.context("our own server needs a folder")?;
    let began = Instant::now();
    let server = program("redis-server", &[], "`cargo xtask setup` installs the package redis-server, or set REDIS_URL")?;
    let folder = home.folder("redis")?;
    let port = options.ports.pick(FIXED_PORT)?;
    let append_only = if options.keep == Keep::Everything { "yes" } else { "no" };
    let launch = Launch { log: Some(folder.join("redis.log")), user: home.user.clone(), ..Launch::new("Redis", &server, &folder) };
    let launch = launch
        .arguments(["--bind", "127.0.0.1", "--port"])
        .arguments([port.to_string()])
        .arguments(["--save", "", "--appendonly", append_only, "--dir"])
        .arguments([&folder]);
    let mut process = launch.spawn()?;
    ready(&mut process, "Redis", READY_LIMIT, async || {
        tokio::time::timeout(PING_LIMIT, ping(port)).await.is_ok_and(|answer| answer.is_ok_and(|answer| answer == *b"+PONG\r\n"))
    })
    .await?;
    options.progress.tell(&format!("Redis is ready on port {port} ({:.1} s)", began.elapsed().as_secs_f64()));
    Ok(Started::own(format!("redis://127.0.0.1:{port}"), launch, process))
}

pub(super) async fn stop(process: Option<Process>, keep: Keep) -> Result<()> {
    let Some(mut process) = process else { return Ok(()) };
    if keep == Keep::Nothing {
        return process.kill().map(|_| ());
    }
    process.stop(Signal::TERM, STOP_LIMIT).await.map(|_| ())
}

async fn ping(port: u16) -> std::io::Result<[u8; 7]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

//! Looks at a process from outside.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use idempo_devstack::Service;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What a GET on a process's admin listener answers: status code and body.
///
/// # Errors
/// When nobody answers HTTP there.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    tokio::time::timeout(ANSWER_LIMIT, ask(address, path)).await.with_context(|| format!("{address} does not answer"))?
}

async fn ask(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not HTTP")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).context("not HTTP")?.parse()?;
    Ok((status, body.to_owned()))
}

/// What `/readyz` says is missing; empty when the process is ready.
///
/// # Errors
/// When it does not answer, or not as it should.
pub async fn missing(service: &Service) -> Result<Vec<String>> {
    let (status, body) = get(service.admin(), "/readyz").await?;
    let report: serde_json::Value = serde_json::from_str(&body).with_context(|| format!("/readyz answers {body}"))?;
    let missing = report.get("missing").and_then(serde_json::Value::as_array).context("/readyz lists what is missing")?;
    let missing: Vec<String> =
        missing.iter().filter_map(|one| Some(format!("{}: {}", one.get("condition")?.as_str()?, one.get("reason")?.as_str()?))).collect();
    let ready = report.get("ready").and_then(serde_json::Value::as_bool).context("/readyz says whether it is ready")?;
    anyhow::ensure!(ready == (status == 200) && ready == missing.is_empty(), "/readyz contradicts itself: {status} {body}");
    Ok(missing)
}

/// The memory that a process holds, in KiB.
///
/// # Errors
/// When it does not run.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the system tells no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number of kB")
}

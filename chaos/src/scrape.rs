//! Metrics of processes that don't live long: read often, and added up over all lives of a process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The counters that are read.
const COUNTERS: [&str; 10] = [
    "idempo_append_conflicts_total",
    "idempo_idempotency_hits_total",
    "idempo_projection_duplicates_total",
    "idempo_projection_fenced_total",
    "idempo_projection_store_retries_total",
    "idempo_relay_fenced_total",
    "idempo_relay_producers_failed_total",
    "idempo_relay_rotations_total",
    "idempo_relay_takeovers_total",
    "idempo_relay_truncations_total",
];
/// The pause between two readings.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one reading may take.
const LIMIT: Duration = Duration::from_millis(400);

/// What the counters have come to.
pub(crate) type Totals = BTreeMap<String, u64>;

/// Reads metrics until it is dropped.
pub(crate) struct Scraper {
    totals: Arc<Mutex<Totals>>,
    processes: Vec<SocketAddr>,
    lives: Arc<Mutex<BTreeMap<(SocketAddr, String), u64>>>,
    task: JoinHandle<()>,
}

impl Scraper {
    /// Reads the metrics of these processes, by their admin addresses, again and again.
    pub(crate) fn start(processes: Vec<SocketAddr>) -> Self {
        let (totals, lives) = (Arc::default(), Arc::default());
        let task = tokio::spawn({
            let (processes, totals, lives) = (processes.clone(), Arc::clone(&totals), Arc::clone(&lives));
            async move {
                loop {
                    scrape(&processes, &totals, &lives).await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self { totals, processes, lives, task }
    }

    /// Reads once more and gives the totals. What a life counted after its last reading is not in them.
    pub(crate) async fn finish(self) -> Totals {
        self.task.abort();
        scrape(&self.processes, &self.totals, &self.lives).await;
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn scrape(processes: &[SocketAddr], totals: &Mutex<Totals>, lives: &Mutex<BTreeMap<(SocketAddr, String), u64>>) {
    let pages = processes.iter().map(|process| async move { (*process, tokio::time::timeout(LIMIT, page(*process)).await) });
    for (process, page) in futures_util::future::join_all(pages).await {
        // Who is away or frozen is read the next time.
        let Ok(Ok(page)) = page else { continue };
        let mut lives = lives.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, now) in counters(&page) {
            let before = lives.insert((process, name.clone()), now).unwrap_or(0);
            // A counter that is less than before has begun anew, in another life.
            *totals.entry(name).or_default() += if now >= before { now - before } else { now };
        }
    }
}

/// The counters of a page, over all their labels.
fn counters(page: &str) -> Totals {
    let mut counters = Totals::new();
    for line in page.lines() {
        let Some(name) = COUNTERS.iter().find(|name| line.strip_prefix(**name).is_some_and(|rest| rest.starts_with([' ', '{']))) else {
            continue;
        };
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        *counters.entry((*name).to_owned()).or_default() += value;
    }
    counters
}

async fn page(process: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(process).await?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {process}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not HTTP")?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "no metrics: {head}");
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels_and_not_mixed_with_its_namesakes() {
        let page = "# TYPE idempo_relay_fenced_total counter\nidempo_relay_fenced_total{outbox=\"wallet\"} 2\n\
                    idempo_relay_fenced_total{outbox=\"inventory\"} 3\nidempo_relay_fenced_total_more 9\nidempo_other 1\n";
        assert_eq!(counters(page), Totals::from([("idempo_relay_fenced_total".to_owned(), 5)]));
    }
}

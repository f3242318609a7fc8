//! A consumer that listens while rows are written, so that each record has two times: the broker's, and the one when a reader had it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rdkafka::message::Message as _;

use super::broker;
use super::order::{Order, Seen};
use super::place::Place;
use super::rows::{Rows, number_of};
use crate::since_1970;

/// How long one poll waits.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// A record that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// The number of its row.
    pub(super) number: u32,
    /// When the broker appended it, in whole milliseconds since 1970, cut off.
    pub(super) appended_ms: i64,
    /// When it was received, since 1970.
    pub(super) received: Duration,
}

/// Listens on a thread of its own.
pub(super) struct Listener {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<Heard>>>,
}

impl Listener {
    /// Listens to what comes into a topic from now on: the rows numbered `from` up to, not including, `to`.
    pub(super) fn start(place: &Place, topic: &str, rows: &Arc<Rows>, from: u32, to: u32) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, rows, topic) = (Arc::clone(&stop), Arc::clone(rows), topic.to_owned());
        let consumer = broker::consumer(&place.brokers)?;
        let ends = tokio::task::block_in_place(|| broker::ends(&consumer, &topic))?;
        broker::assign(&consumer, &topic, &ends)?;
        let listen = move || {
            let mut order = Order::new(&rows, from, to)?;
            let mut heard = Vec::new();
            while order.fresh < u64::from(to - from) {
                let Some(message) = consumer.poll(POLL_WAIT) else {
                    if stopped.load(Ordering::Acquire) {
                        break;
                    }
                    continue;
                };
                let message = message?;
                let received = since_1970()?;
                let number = number_of(message.payload().unwrap_or_default())?;
                let seen = order.take(message.key().unwrap_or_default(), message.partition(), number)?;
                ensure!(seen == Seen::Fresh, "row {number} came twice");
                heard.push(Heard { number, appended_ms: broker::appended_ms(&message)?, received });
            }
            ensure!(order.inverted == 0, "{} records came out of order", order.inverted);
            Ok(heard)
        };
        let thread = std::thread::Builder::new().name("listener".to_owned()).spawn(listen).context("starting the listener")?;
        Ok(Self { stop, thread })
    }

    /// Whether it has everything, or has failed.
    pub(super) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// What came; stops to listen.
    pub(super) fn finish(self) -> anyhow::Result<Vec<Heard>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the listener panicked"))?
    }
}

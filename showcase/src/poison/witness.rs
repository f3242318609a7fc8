//! A reader that never rests: what it was answered while generations were switched, from which of them, and how long it waited.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use idempo_checker::history::Answer;
use idempo_checker::method::Method;
use idempo_proto::inventory::v1::{ListItemsRequest, ListItemsResponse};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wire::Line;

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How long it took.
    pub took: Duration,
    /// The generation that answered; `None` where there was no answer.
    pub generation: Option<i32>,
}

/// A reader at work. It stops when this is dropped.
pub struct Witness {
    reading: JoinHandle<Vec<Seen>>,
    stop: watch::Sender<bool>,
    newest: watch::Receiver<Option<i32>>,
}

impl Witness {
    /// Reads one player's items again and again.
    #[must_use]
    pub fn start(line: Line, parent: String) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, newest) = watch::channel(None);
        let request: Bytes = ListItemsRequest { parent, page_size: 1, ..ListItemsRequest::default() }.encode_to_vec().into();
        let reading = tokio::spawn(async move {
            let mut seen = Vec::new();
            while !*stopped.borrow() {
                let began = Instant::now();
                let answer = line.send(Method::ListItems, request.clone(), PATIENCE).await;
                let took = began.elapsed();
                let generation = generation(&answer);
                seen.push(Seen { took, generation });
                sender.send_replace(generation);
            }
            seen
        });
        Self { reading, stop, newest }
    }

    /// Waits until it is answered from this generation.
    ///
    /// # Errors
    /// Where it is not within `limit`.
    pub async fn until(&mut self, generation: i32, limit: Duration) -> Result<()> {
        let waiting = self.newest.wait_for(|newest| *newest == Some(generation));
        tokio::time::timeout(limit, waiting)
            .await
            .with_context(|| format!("no read was answered from generation {generation} within {} s", limit.as_secs()))?
            .context("the witness died")?;
        Ok(())
    }

    /// Ends it, and gives all its reads.
    ///
    /// # Errors
    /// Where it died.
    pub async fn end(mut self) -> Result<Vec<Seen>> {
        self.stop.send_replace(true);
        (&mut self.reading).await.context("the witness died")
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn generation(answer: &Answer) -> Option<i32> {
    let Answer::Replied { reply, .. } = answer else { return None };
    ListItemsResponse::decode(reply.clone()).ok()?.freshness.map(|freshness| freshness.generation)
}

//! The live generation comes before one that is being built.
//!
//! Both want the same cores and disks, and the one that is being built takes what it can get. A live generation that has more before it than a batch
//! is catching up: then parts of a rebuild are begun so rarely that they cost it little, yet often enough that the rebuild comes to its end even
//! where the live one is always behind. One that does not move (it is paused, or has stopped, which a rebuild may be the remedy for) is not waited for.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::generations::Live;
use crate::partition::BATCH_RECORDS_MAX;
use crate::progress::Progress;

/// How long a part is put off at most.
const PUT_OFF_MAX: Duration = Duration::from_secs(2);
/// How often it is looked meanwhile. A generation that is catching up commits several times in it.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Puts the parts of a rebuild off while the live generation is catching up.
pub(crate) struct LiveFirst<T> {
    live: watch::Receiver<Live<T>>,
    /// Where the live generation was when it was seen not to move.
    still_at: Option<i64>,
}

impl<T> LiveFirst<T> {
    pub(crate) const fn new(live: watch::Receiver<Live<T>>) -> Self {
        Self { live, still_at: None }
    }

    /// Waits while the live generation is catching up, for [`PUT_OFF_MAX`] at most.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait(&mut self) {
        let deadline = Instant::now() + PUT_OFF_MAX;
        let mut stood = self.behind_at();
        while let Some(position) = stood.filter(|position| self.still_at != Some(*position))
            && Instant::now() < deadline
        {
            sleep(LOOK_INTERVAL).await;
            stood = self.behind_at();
            self.still_at = stood.filter(|stands| *stands == position);
        }
    }

    /// Where the live generation stands that is behind.
    fn behind_at(&self) -> Option<i64> {
        match &*self.live.borrow() {
            Live::Reading(reading) => behind_at(&reading.progress),
            Live::Unknown | Live::OtherLogic { .. } => None,
        }
    }
}

fn behind_at(progress: &Progress) -> Option<i64> {
    let batch = i64::try_from(BATCH_RECORDS_MAX).unwrap_or(i64::MAX);
    (progress.lag(None).events > batch).then(|| progress.position())
}

//! Where partitions end, for those who look at a projection. Many may look at once; the brokers are asked once a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use idempo_kafka::TopicEnds;
use tokio::time::{Instant, timeout};

use crate::progress::HEADS_FRESH_MS;

/// For how long what the brokers said is answered without asking them again.
const ENDS_FRESH: Duration = Duration::from_secs(1);
/// How long they are waited for.
const ENDS_WAIT: Duration = Duration::from_secs(2);
/// For how long what they said last is answered where they do not answer. Where partitions have grown beyond it, and another process goes on to read
/// them, a generation that is far behind would seem to have everything.
const ENDS_BELIEVED: Duration = Duration::from_millis(HEADS_FRESH_MS.unsigned_abs());

/// Where partitions end, with when that was said.
#[derive(Debug, Clone, Default)]
struct Heard(Option<(Instant, Vec<i64>)>);

impl Heard {
    /// What was said, where that is not longer ago than this.
    fn within(&self, age_max: Duration, now: Instant) -> Option<Vec<i64>> {
        let (at, ends) = self.0.as_ref()?;
        (now.saturating_duration_since(*at) < age_max).then(|| ends.clone())
    }
}

/// Where the partitions of a topic end.
pub(super) struct LateEnds {
    ends: TopicEnds,
    heard: Mutex<Heard>,
}

impl LateEnds {
    pub(super) fn new(ends: TopicEnds) -> Self {
        Self { ends, heard: Mutex::default() }
    }

    /// The first and the next offset of each partition, as the brokers say now.
    pub(super) async fn watermarks(&self) -> Result<Vec<(i64, i64)>, idempo_kafka::Error> {
        self.ends.watermarks().await
    }

    /// As the brokers said lately; none where they did not.
    pub(super) async fn known(&self) -> Vec<i64> {
        let heard = |age_max| self.heard.lock().unwrap_or_else(PoisonError::into_inner).within(age_max, Instant::now());
        if let Some(ends) = heard(ENDS_FRESH) {
            return ends;
        }
        if let Ok(Ok(found)) = timeout(ENDS_WAIT, self.watermarks()).await {
            let ends: Vec<i64> = found.into_iter().map(|(_, high)| high).collect();
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Heard(Some((Instant::now(), ends)));
        }
        heard(ENDS_BELIEVED).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_brokers_said_is_not_believed_for_ever() {
        let now = Instant::now();
        let heard = Heard(Some((now, vec![7])));
        let believed = |later: Duration| heard.within(ENDS_BELIEVED, now + later);
        assert_eq!((believed(ENDS_BELIEVED / 2), believed(ENDS_BELIEVED)), (Some(vec![7]), None));
        assert_eq!(Heard::default().within(ENDS_BELIEVED, now), None);
    }
}

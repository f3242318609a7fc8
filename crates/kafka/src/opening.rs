//! Which partitions a producer has opened: the first record that it sends to one goes alone, and nothing follows until it is acknowledged.
//!
//! What an idempotent producer rests on is that a broker knows the number of the last record it has of it, and refuses any but the next. Of a producer
//! that it has nothing of yet, a broker takes *any* number as the first (it can't tell a new producer from one whose records have all gone with
//! retention). So when of two first requests, sent one behind the other, the first is refused for the moment (too few replicas are in sync, and just
//! then they are again) and the second is taken, the second stands alone in the log. The client goes on from the same premise: an acknowledgement of
//! later records says that all before them are there too, since they could not be there otherwise. It tells the first as acknowledged, and they are
//! nowhere: lost, with an acknowledgement.
//!
//! While there is one request, nothing can overtake it. Once it is acknowledged, all in-sync replicas have its number, whichever of them leads next,
//! and a request that is not the next in turn is refused until it is.
//!
//! A broker forgets a producer a day (`producer.id.expiration.ms`) after its last record in a partition. So a partition to which nothing was sent for
//! [`KNOWN_FOR`] is opened again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long after its last record a producer relies on being known to the brokers.
const KNOWN_FOR: Duration = Duration::from_secs(60 * 60);

/// How a producer stands with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The brokers may have nothing of it.
    Unknown,
    /// The record that opens it is under way.
    Opening,
    /// They have a record of it; the last one was sent then.
    Known(Instant),
}

/// How a record may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Behind others, which need not be acknowledged.
    Free,
    /// Alone: what becomes of it is to be told to [`Openings::opened`] or [`Openings::failed`].
    Alone,
    /// Not yet.
    Wait,
}

/// How a producer stands with each partition.
#[derive(Debug, Default)]
pub(crate) struct Openings(Mutex<Vec<(String, Vec<Standing>)>>);

impl Openings {
    /// How the next record for a partition may go. [`Way::Alone`] is said once until it is told what became of that record.
    pub(crate) fn way(&self, topic: &str, partition: i32) -> Way {
        let now = Instant::now();
        self.with(topic, partition, |standing| match standing {
            Standing::Opening => Way::Wait,
            Standing::Known(sent) if now.saturating_duration_since(*sent) < KNOWN_FOR => {
                *sent = now;
                Way::Free
            }
            Standing::Unknown | Standing::Known(_) => {
                *standing = Standing::Opening;
                Way::Alone
            }
        })
    }

    /// The record that went alone is acknowledged.
    pub(crate) fn opened(&self, topic: &str, partition: i32) {
        let now = Instant::now();
        self.with(topic, partition, |standing| *standing = Standing::Known(now));
    }

    /// The record that went alone was not sent, or it is not known whether the brokers have it.
    pub(crate) fn failed(&self, topic: &str, partition: i32) {
        self.with(topic, partition, |standing| *standing = Standing::Unknown);
    }

    /// There are a handful of topics, so going through them is quicker than a hash of the name.
    fn with<T>(&self, topic: &str, partition: i32, look: impl FnOnce(&mut Standing) -> T) -> T {
        let mut topics = self.lock();
        let at = match topics.iter().position(|(name, _)| name == topic) {
            Some(at) => at,
            None => {
                topics.push((topic.to_owned(), Vec::new()));
                topics.len() - 1
            }
        };
        let place = usize::try_from(partition).unwrap_or(0);
        let mut none = Standing::Unknown;
        let Some((_, partitions)) = topics.get_mut(at) else { return look(&mut none) };
        if partitions.len() <= place {
            partitions.resize(place + 1, Standing::Unknown);
        }
        look(partitions.get_mut(place).unwrap_or(&mut none))
    }

    /// Nothing is left half done under it.
    fn lock(&self) -> MutexGuard<'_, Vec<(String, Vec<Standing>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_opened_by_one_record_and_anew_after_a_failure() {
        let openings = Openings::default();
        assert_eq!(openings.way("a", 3), Way::Alone);
        assert_eq!(openings.way("a", 3), Way::Wait);
        assert_eq!((openings.way("a", 2), openings.way("b", 3)), (Way::Alone, Way::Alone));
        openings.failed("a", 3);
        assert_eq!(openings.way("a", 3), Way::Alone);
        openings.opened("a", 3);
        assert_eq!((openings.way("a", 3), openings.way("a", 3)), (Way::Free, Way::Free));
        assert_eq!((openings.way("a", 2), openings.way("b", 3)), (Way::Wait, Way::Wait));
    }

    #[test]
    fn a_partition_that_was_silent_for_long_is_opened_again() {
        let openings = Openings::default();
        assert_eq!(openings.way("a", 0), Way::Alone);
        openings.opened("a", 0);
        let long_ago = Instant::now().checked_sub(KNOWN_FOR).expect("the machine runs for longer");
        openings.with("a", 0, |standing| *standing = Standing::Known(long_ago));
        assert_eq!((openings.way("a", 0), openings.way("a", 0)), (Way::Alone, Way::Wait));
    }
}

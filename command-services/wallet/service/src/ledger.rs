//! Watches that the ledger sums to zero: what leaves one account reaches another, so all postings of an asset add up to 0.
//!
//! The full sum is read once, when the service starts: 10 million postings take some 5 seconds of two cores, too dear for every look. After
//! that a look reads only the postings since the last one, which an index by time finds. Postings are never changed, so what was summed stays
//! summed; only the last [`SETTLING`] is read again each time, because a posting may be committed a while after the time it carries. One that is
//! committed later still is missed until the next start, with its other side, so that it can't raise a false alarm.

use std::time::Duration;

use idempo_decider::Timestamp;
use idempo_pg::{Error, Pool};
use idempo_runtime::{Platform, Task};
use jiff::SignedDuration;

use crate::{metrics, queries};

/// How often the ledger is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long after its time a posting may be committed and still be seen: more than all attempts at a batch take together.
const SETTLING: SignedDuration = SignedDuration::from_mins(2);

/// Keeps the gauge of the ledger's imbalance true, on every replica.
pub(crate) fn watch(pool: &Pool, platform: &Platform) {
    let (pool, clock) = (pool.clone(), platform.clock.clone());
    platform.tasks.spawn(Task::critical("ledger-watch"), |cancel| async move {
        let (mut sums, mut was) = (Sums::default(), 0.0);
        while let Some(look) = cancel.run_until_cancelled(sums.look(&pool, clock.now())).await {
            match look {
                Ok(imbalance) => {
                    if imbalance > was {
                        tracing::error!(imbalance, "the ledger does not sum to zero");
                    }
                    was = imbalance;
                    metrics::ledger_imbalance(imbalance);
                }
                // Whether the database is there is told by the readiness; the gauge keeps what was seen last.
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "the ledger could not be looked at"),
            }
            if cancel.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_none() {
                break;
            }
        }
        Ok(())
    });
}

/// What was summed so far.
#[derive(Debug)]
struct Sums {
    /// The postings before this time are summed for good.
    settled_until: Timestamp,
    /// By how much their sides differ, in minor units, added up over the assets and looks, so that one difference never hides another.
    settled: f64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { settled_until: Timestamp::UNIX_EPOCH, settled: 0.0 }
    }
}

impl Sums {
    /// By how much the two sides of all postings differ: 0, or something is wrong.
    ///
    /// # Cancel safety
    /// Cancel safe: a look counts only when it has ended.
    async fn look(&mut self, pool: &Pool, now: Timestamp) -> Result<f64, Error> {
        let until = now.checked_sub(SETTLING).map_or(self.settled_until, |until| until.max(self.settled_until));
        let mut client = pool.get().await?;
        let (settled, recent) = queries::ledger_sums(&mut client, self.settled_until, until).await?;
        self.settled += settled;
        self.settled_until = until;
        Ok(self.settled + recent)
    }
}

#[cfg(test)]
mod tests {
    use idempo_devstack::testing::{self, TestDatabase};

    use super::*;

    /// A grant of 5 coins at a time; its wallet's side is `posted`.
    async fn grant(database: &TestDatabase, at: Timestamp, posted: i64) {
        let (client, connection) = idempo_pg::connect(&database.superuser()).await.expect("connected");
        tokio::spawn(connection);
        let entry = "INSERT INTO wallet.entries (player_id, asset, version, kind, posted_delta, held_delta, posted_after, held_after,
                transaction_id, event_id, created_at, reason)
            VALUES (gen_random_uuid(), 1, 2, 1, $1, 0, $1, 0, gen_random_uuid(), gen_random_uuid(), $2, '')";
        client.execute(entry, &[&posted, &at]).await.expect("written");
        let transaction = "INSERT INTO wallet.transactions (transaction_id, asset, amount, from_account, to_player, created_at)
            VALUES (gen_random_uuid(), 1, 5, 1, gen_random_uuid(), $1)";
        client.execute(transaction, &[&at]).await.expect("written");
    }

    #[tokio::test]
    async fn a_posting_without_its_other_side_is_seen_at_the_next_look_and_stays() {
        let database = testing::database("wallet_db").await;
        let pool = Pool::open(&database.config("idempo_wallet")).expect("usable");
        let start: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
        let at = |seconds| start.checked_add(SignedDuration::from_secs(seconds)).expect("in range");
        let mut sums = Sums::default();
        grant(&database, at(-86_400), 5).await;
        grant(&database, at(-1), 5).await;
        assert_eq!(sums.look(&pool, at(0)).await.expect("looked"), 0.0);
        grant(&database, at(1), 7).await;
        assert_eq!(sums.look(&pool, at(10)).await.expect("looked"), 2.0);
        grant(&database, at(11), 5).await;
        assert_eq!(sums.look(&pool, at(20)).await.expect("looked"), 2.0, "each posting counts once");
        assert_eq!(sums.look(&pool, at(300)).await.expect("looked"), 2.0, "also when it has settled");
        assert_eq!(sums.look(&pool, at(310)).await.expect("looked"), 2.0);
        grant(&database, at(300), 3).await;
        assert_eq!(sums.look(&pool, at(320)).await.expect("looked"), 4.0, "a difference the other way does not hide it");
    }
}

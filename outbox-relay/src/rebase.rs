//! Noticing that the database is not the one that the cursor was written in.
//!
//! The cursor is made of transaction ids and numbers, which mean something in one database of one cluster only. So each take-over compares what
//! the database says about itself with what was stored beside the cursor:
//!
//! | what differs | how it comes about | what follows |
//! |---|---|---|
//! | nothing was stored | the first relay | it is stored |
//! | the cluster's identifier | a dump restored into another cluster, a logical copy, an upgrade into a fresh cluster | transaction ids are of another numbering: every row of the outbox is relayed again, in order |
//! | nothing, but the cursor is ahead of the database | a control file that was reset | the same |
//! | the timeline | a point-in-time restore, or a stand-by that was promoted | cursor and rows are of one moment, and rows are sent again from the cursor |
//! | the database's own number | a dump restored into the same cluster | the same |
//!
//! Nothing is lost in any of these: what is in the outbox is sent, whether it had been sent before or not, and consumers drop duplicates by the
//! stream's version. What no relay can mend is the other direction: a store that went back in time has lost events that are in Kafka. Then
//! streams go on from an earlier version, and consumers take their new events for duplicates. That is said in the log as an error, in the
//! audit, and in the runbook; people must decide.
//!
//! Why a relay can't miss it: a restore or a promotion ends every session, so whoever relays afterwards has taken the lease afterwards, and each
//! take-over looks before it sends. What is done is fenced by the epoch, and done in one transaction with what is stored; so it is done once.

use idempo_pg::{Config, Error};

use crate::metrics::Metrics;

/// How long numbering rows anew may take, in milliseconds: it writes each of them.
const REBASE_MAX_MS: u64 = 600_000;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    system_identifier: i64,
    timeline: i64,
    database_oid: u32,
}

/// What a look at the database's identity found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noticed {
    /// Nothing was stored.
    First,
    /// It is another cluster.
    OtherCluster,
    /// It is said to be the same database, but the cursor is ahead of it.
    CursorAhead,
    /// It is another timeline.
    OtherTimeline,
    /// It is another database of the same cluster.
    OtherDatabase,
}

impl Noticed {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::OtherCluster => "other_cluster",
            Self::CursorAhead => "cursor_ahead",
            Self::OtherTimeline => "other_timeline",
            Self::OtherDatabase => "other_database",
        }
    }

    /// What it means, for people.
    const fn meaning(self) -> &'static str {
        match self {
            Self::First => "the first relay of this database",
            Self::OtherCluster => {
                "the database was restored into another cluster: every row of the outbox is relayed again; Kafka may have events that the store no longer has"
            }
            Self::CursorAhead => {
                "the cursor is ahead of the database: every row of the outbox is relayed again; Kafka may have events that the store no longer has"
            }
            Self::OtherTimeline => {
                "the database was restored to a point in time, or a stand-by was promoted: rows are relayed again from the cursor; Kafka may have \
                 events that the store no longer has"
            }
            Self::OtherDatabase => {
                "the database was restored from a dump of the same cluster: rows are relayed again from the cursor; Kafka may have events that the \
                 store no longer has"
            }
        }
    }

    const fn renumbers(self) -> bool {
        matches!(self, Self::OtherCluster | Self::CursorAhead)
    }
}

/// Looks whether the cursor belongs to this database, and sees to it where it does not. `is_ahead` says that the cursor shows transactions which
/// the database has not begun. Tells whether the lease is to be taken again, because the position that came with it is not the stored one any more.
///
/// # Errors
/// Of the database.
pub(crate) async fn rebase(
    config: &Config,
    outbox: &str,
    owner: &str,
    epoch: i64,
    is_ahead: bool,
    metrics: &Metrics,
) -> Result<bool, Error> {
    let (client, connection) = idempo_pg::connect(&Config { statement_timeout_ms: REBASE_MAX_MS, ..config.clone() }).await?;
    let work = async {
        let row = client.query_one(include_str!("sql/read_identity.sql"), &[]).await?;
        let stored = match (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?) {
            (Some(system_identifier), Some(timeline), Some(database_oid)) => Some(Identity { system_identifier, timeline, database_oid }),
            _ => None,
        };
        let now = Identity { system_identifier: row.try_get(3)?, timeline: row.try_get(4)?, database_oid: row.try_get(5)? };
        let Some(noticed) = compare(stored, now, is_ahead) else { return Ok(false) };
        let by = format!("outbox-relay:{owner}");
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&epoch, &by, &noticed.name(), &noticed.meaning(), &noticed.renumbers()];
        let done: Option<i64> = client.query_one(include_str!("sql/rebase.sql"), &parameters).await?.try_get(0)?;
        let Some(rows) = done else { return Ok(true) };
        if noticed == Noticed::First {
            tracing::debug!(outbox, "the database's identity was stored");
        } else {
            tracing::error!(outbox, noticed = noticed.name(), rows, "{}", noticed.meaning());
            metrics.rebased(noticed.name());
        }
        Ok(noticed.renumbers())
    };
    tokio::select! {
        biased;
        done = work => done,
        lost = connection => Err(lost.err().unwrap_or(Error::Unavailable(None))),
    }
}

fn compare(stored: Option<Identity>, now: Identity, is_ahead: bool) -> Option<Noticed> {
    let Some(stored) = stored else {
        return Some(if is_ahead { Noticed::CursorAhead } else { Noticed::First });
    };
    if stored.system_identifier != now.system_identifier {
        Some(Noticed::OtherCluster)
    } else if is_ahead {
        Some(Noticed::CursorAhead)
    } else if stored.timeline != now.timeline {
        Some(Noticed::OtherTimeline)
    } else if stored.database_oid != now.database_oid {
        Some(Noticed::OtherDatabase)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_transaction_ids_meaningless_goes_before_what_only_went_back_in_time() {
        let stored = Identity { system_identifier: 1, timeline: 1, database_oid: 5 };
        let is = |now, ahead| compare(Some(stored), now, ahead);
        assert_eq!(is(stored, false), None);
        assert_eq!(is(stored, true), Some(Noticed::CursorAhead));
        assert_eq!(is(Identity { timeline: 2, ..stored }, false), Some(Noticed::OtherTimeline));
        assert_eq!(is(Identity { timeline: 2, ..stored }, true), Some(Noticed::CursorAhead));
        assert_eq!(is(Identity { database_oid: 6, ..stored }, false), Some(Noticed::OtherDatabase));
        assert_eq!(is(Identity { system_identifier: 2, timeline: 2, database_oid: 6 }, false), Some(Noticed::OtherCluster));
        assert_eq!(compare(None, stored, false), Some(Noticed::First));
        assert_eq!(compare(None, stored, true), Some(Noticed::CursorAhead));
    }
}

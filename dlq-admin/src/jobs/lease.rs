//! Jobs in the database, as a worker uses them.

use std::future::Future;
use std::time::Duration;

use idempo_dead_letter::DeadLetterId;
use idempo_pg::Pool;
use tokio::time::{MissedTickBehavior, interval};

use super::ask::Answers;
use crate::intake::chain;

/// A job that this worker has.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: i64,
    pub(super) epoch: i64,
    /// `replay` or `discard`.
    pub(super) action: String,
    /// Members a second; 0 for no limit.
    pub(super) rate: i32,
    pub(super) force: bool,
    pub(super) caller: String,
    pub(super) reason: String,
}

/// Members of a job, all of one consumer group, that stand as sent.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) consumer_group: String,
    pub(super) ordinals: Vec<i64>,
    pub(super) names: Vec<String>,
    /// Of each, whether it was sent before.
    pub(super) resent: Vec<bool>,
}

impl Members {
    /// How many are sent for the first time.
    pub(super) fn fresh(&self) -> u32 {
        u32::try_from(self.resent.iter().filter(|resent| !**resent).count()).unwrap_or(u32::MAX)
    }
}

/// What is to be done next.
pub(super) enum Next {
    Members(Members),
    /// Nothing but what is under way.
    Nothing,
    Ended,
    Lost,
}

/// The leases on jobs.
#[derive(Clone)]
pub(super) struct Leases {
    pub(super) pool: Pool,
    /// Who this process is, in leases and in the audit.
    pub(super) instance: String,
    pub(super) lease_ms: i64,
}

impl Leases {
    /// Takes a job that nobody works on.
    pub(super) async fn take(&self) -> Result<Option<Job>, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/take_job.sql")).await?;
        let Some(row) = client.query_opt(&statement, &[&self.instance, &self.lease_ms]).await? else { return Ok(None) };
        Ok(Some(Job {
            id: row.try_get("id")?,
            epoch: row.try_get("epoch")?,
            action: row.try_get("action")?,
            rate: row.try_get("rate")?,
            force: row.try_get("force")?,
            caller: row.try_get("caller")?,
            reason: row.try_get("reason")?,
        }))
    }

    /// Does some work on a job and keeps its lease meanwhile; `None` where the lease was lost before the work was done.
    pub(super) async fn kept<T>(&self, job: &Job, renewals_per_lease: u32, work: impl Future<Output = T>) -> Option<T> {
        let length = Duration::from_millis(self.lease_ms.unsigned_abs());
        let mut ticks = interval(length / renewals_per_lease);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lost = async {
            loop {
                ticks.tick().await;
                match self.renew(job, self.lease_ms).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    // Where it stays away the lease ends by itself, and what is written names the epoch.
                    Err(error) => tracing::debug!(job = job.id, error = chain(&error), "the lease on a job could not be renewed"),
                }
            }
        };
        tokio::select! {
            // What the work has come to counts, though the lease be lost in the same moment.
            biased;
            done = work => Some(done),
            () = lost => None,
        }
    }

    /// Gives a job up, so that another process need not wait for the end of the lease.
    pub(super) async fn give_up(&self, job: &Job) {
        if let Err(error) = self.renew(job, 0).await {
            tracing::debug!(job = job.id, error = chain(&error), "a job could not be given up; its lease ends by itself");
        }
    }

    async fn renew(&self, job: &Job, lease_ms: i64) -> Result<bool, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/renew_job.sql")).await?;
        Ok(client.query_one(&statement, &[&job.id, &job.epoch, &lease_ms]).await?.try_get(0)?)
    }

    /// The next members to ask about: they stand as sent from then on. Where others are under way, those behind the last one of these.
    pub(super) async fn next(&self, job: &Job, most: i64, beyond: Option<i64>) -> Result<Next, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let row = if let Some(beyond) = beyond {
            let statement = client.prepare_cached(include_str!("../sql/further_members.sql")).await?;
            client.query_one(&statement, &[&job.id, &job.epoch, &most, &beyond]).await?
        } else {
            let statement = client.prepare_cached(include_str!("../sql/next_members.sql")).await?;
            client.query_one(&statement, &[&job.id, &job.epoch, &most, &self.instance]).await?
        };
        match row.try_get::<_, String>("outcome")?.as_str() {
            "members" => {}
            "none" => return Ok(Next::Nothing),
            "ended" | "paused" => return Ok(Next::Ended),
            _ => return Ok(Next::Lost),
        }
        let group: String = row.try_get("consumer_group")?;
        let (topics, partitions, offsets): (Vec<String>, Vec<i32>, Vec<i64>) =
            (row.try_get("topics")?, row.try_get("partitions")?, row.try_get("offsets")?);
        let places = topics.into_iter().zip(partitions).zip(offsets);
        let name = |((topic, partition), offset)| DeadLetterId { group: group.clone(), topic, partition, offset }.to_string();
        let names = places.map(name).collect();
        Ok(Next::Members(Members { names, consumer_group: group, ordinals: row.try_get("ordinals")?, resent: row.try_get("resent")? }))
    }

    /// Writes what has become of members. False where another process has the job.
    pub(super) async fn settle(&self, job: &Job, answers: &Answers) -> Result<bool, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/settle_members.sql")).await?;
        let Answers { ordinals, states, codes, reasons, records, hindrance } = answers;
        let row = client.query_one(&statement, &[&job.id, &job.epoch, ordinals, states, codes, reasons, records, hindrance]).await?;
        Ok(row.try_get(0)?)
    }
}

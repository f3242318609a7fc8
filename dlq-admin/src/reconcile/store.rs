//! Open dead letters in the database, as they are asked about.

use std::time::Duration;

use idempo_dead_letter::DeadLetterId;
use idempo_pg::Pool;
use jiff::Timestamp;

use super::answer::Ended;

/// What stands in the audit as the reason.
const REASON: &str = "its consumer says so";

/// A consumer group that is to be asked about its dead letters behind this number.
pub(super) struct Inquiry {
    pub(super) group: String,
    pub(super) behind: i64,
}

/// An open dead letter, as it was when its consumer was asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenLetter {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) revision: i64,
    pub(super) last_failed_at: Timestamp,
}

/// Some dead letters of a consumer group.
pub(super) struct Page {
    /// Those that no job has.
    pub(super) letters: Vec<OpenLetter>,
    /// When this was so, on the database's clock; none where there are no letters.
    pub(super) asked: Option<Timestamp>,
    /// The number behind which there may be more.
    pub(super) goes_on_behind: Option<i64>,
}

pub(super) struct Store {
    pub(super) pool: Pool,
    /// Who this process is, in the audit.
    pub(super) instance: String,
}

impl Store {
    /// Takes a consumer group that nobody else asks for so long.
    pub(super) async fn take(&self, interval: Duration) -> Result<Option<Inquiry>, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/take_inquiry.sql")).await?;
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        let Some(row) = client.query_opt(&statement, &[&interval_ms]).await? else { return Ok(None) };
        Ok(Some(Inquiry { group: row.try_get(0)?, behind: row.try_get(1)? }))
    }

    /// Open dead letters behind a number, so many at most.
    pub(super) async fn page(&self, group: &str, behind: i64, most: usize) -> Result<Page, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/open_letters.sql")).await?;
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = client.query(&statement, &[&group, &behind, &limit]).await?;
        let mut page = Page { letters: Vec::with_capacity(rows.len()), asked: None, goes_on_behind: None };
        for row in &rows {
            let id: i64 = row.try_get("id")?;
            page.asked = Some(row.try_get("asked")?);
            page.goes_on_behind = (rows.len() >= most).then_some(id);
            if row.try_get("is_in_job")? {
                continue;
            }
            let (topic, partition, offset) = (row.try_get("topic")?, row.try_get("partition")?, row.try_get("record_offset")?);
            let name = DeadLetterId { group: group.to_owned(), topic, partition, offset }.to_string();
            page.letters.push(OpenLetter { id, name, revision: row.try_get("revision")?, last_failed_at: row.try_get("last_failed_at")? });
        }
        Ok(page)
    }

    /// Notes how far a consumer group was asked.
    pub(super) async fn moved(&self, group: &str, behind: i64) -> Result<(), idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/move_inquiry.sql")).await?;
        client.query_one(&statement, &[&group, &behind]).await?;
        Ok(())
    }

    /// Writes down what has ended, as far as it is as it was when it was asked about. Gives how many came to be what.
    pub(super) async fn settle(&self, ended: &Ended, asked: Timestamp) -> Result<Vec<(String, i64)>, idempo_pg::Error> {
        let Ended { ids, revisions, failed_at, states, ended_at, details } = ended;
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/settle_ended.sql")).await?;
        let rows =
            client.query(&statement, &[&asked, ids, revisions, failed_at, states, ended_at, details, &self.instance, &REASON]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

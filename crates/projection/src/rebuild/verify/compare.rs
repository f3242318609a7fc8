//! Comparing all tables of two generations as one snapshot shows them.

use std::collections::{BTreeMap, BTreeSet};

use idempo_pg::Transaction;
use serde_json::{Value, json};

use crate::generations::known::Against;
use crate::rebuild::scan::Failure;

/// The most rows of a sample of one table.
const SAMPLE_TABLE_ROWS_MAX: i32 = 25;
/// The table of the streams' versions.
const VERSIONS: &str = "stream_version";

/// A table's fingerprint of a part: rows, and 128 bits.
type Fingerprint = (i64, i64, i64);

/// What is compared with what.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) projection: &'static str,
    /// What the rows are expected to be: another generation's, or 0 for the session's fold.
    pub(super) expected: i32,
    pub(super) generation: i32,
    /// What the differences are called, and how many of them are kept.
    pub(super) against: Against,
    pub(super) sample_rows_max: usize,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) rows: i64,
    pub(super) buckets: i32,
    pub(super) different: i32,
    pub(super) sample: Vec<Value>,
    /// Whether the streams' versions differ.
    pub(super) versions_differ: bool,
}

impl Pair {
    /// Compares these tables, each with its key.
    pub(super) async fn compare(self, transaction: &Transaction<'_>, tables: &[(String, Vec<String>)]) -> Result<Findings, Failure> {
        let mut findings = Findings::default();
        for (table, keys) in tables {
            let key = keys.first().map_or("", String::as_str);
            let expected = self.fingerprints(transaction, self.expected, table, key).await?;
            let found = self.fingerprints(transaction, self.generation, table, key).await?;
            let all: BTreeSet<i32> = expected.keys().chain(found.keys()).copied().collect();
            let different: Vec<i32> = all.iter().copied().filter(|bucket| expected.get(bucket) != found.get(bucket)).collect();
            findings.rows = findings.rows.saturating_add(found.values().map(|(rows, ..)| *rows).sum());
            findings.buckets = findings.buckets.saturating_add(count(all.len()));
            findings.different = findings.different.saturating_add(count(different.len()));
            findings.versions_differ |= table == VERSIONS && !different.is_empty();
            let room = self.sample_rows_max.saturating_sub(findings.sample.len());
            if !different.is_empty() && room > 0 {
                findings.sample.extend(self.differences(transaction, (table, keys), &different).await?.into_iter().take(room));
            }
        }
        Ok(findings)
    }

    async fn fingerprints(
        self,
        transaction: &Transaction<'_>,
        generation: i32,
        table: &str,
        key: &str,
    ) -> Result<BTreeMap<i32, Fingerprint>, Failure> {
        let rows = transaction.query(include_str!("../../sql/fingerprints.sql"), &[&self.projection, &generation, &table, &key]).await?;
        let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)));
        Ok(rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>()?)
    }

    /// A sample of the rows of some parts of a table that the two don't both have.
    async fn differences(
        self,
        transaction: &Transaction<'_>,
        (table, keys): (&str, &[String]),
        buckets: &[i32],
    ) -> Result<Vec<Value>, Failure> {
        let Self { projection, expected, generation, against, .. } = self;
        let sql = include_str!("../../sql/differences.sql");
        let rows = transaction.query(sql, &[&projection, &expected, &generation, &table, &keys, &buckets, &SAMPLE_TABLE_ROWS_MAX]).await?;
        let field = match against {
            Against::Live => "live_row",
            Against::Fold => "fold_row",
        };
        let difference = |row: &tokio_postgres::Row| {
            let (key, expected, found): (String, Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(json!({"against": against.name(), "table": table, "key": key, field: expected, "row": found}))
        };
        Ok(rows.iter().map(difference).collect::<Result<_, tokio_postgres::Error>>()?)
    }
}

/// The tables that a generation has of those that are compared, with their keys.
pub(super) async fn tables_of(
    transaction: &Transaction<'_>,
    projection: &str,
    generation: i32,
) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let rows = transaction.query(include_str!("../../sql/tables_of.sql"), &[&projection, &generation]).await?;
    let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    Ok(rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>()?)
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

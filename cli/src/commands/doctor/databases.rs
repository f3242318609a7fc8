//! Whether databases let us in, and are as the platform needs them.

use std::time::Duration;

use idempo_schemas::{Database, MigrationSet};
use tokio_postgres::Client;

use super::{Check, Finding};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::settings::StoreUrl;
use crate::stores::connect;

/// The oldest PostgreSQL that has what the event store needs.
const POSTGRES_VERSION_MIN: u32 = 15;

/// One database, whose schema is that of the one with the name `like`.
pub(super) async fn check(what: &'static str, name: &str, like: String, url: &StoreUrl, limit: Duration) -> Vec<Check> {
    let looked = async {
        let client = connect(name, url).await?;
        let mut checks = server(what, name, &client).await?;
        match idempo_schemas::database(&like) {
            Some(database) => checks.push(schema(what, name, database, &client).await?),
            None => checks.push(Check::new(what, name, Finding::Odd, format!("this program knows no schema of {like}"))),
        }
        Ok::<_, Failure>(checks)
    };
    match tokio::time::timeout(limit, looked).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(failure)) => vec![failed(what, name, url, failure)],
        Err(_) => vec![Check::new(what, name, Finding::Away, format!("{} says nothing within {} ms", url.masked(), limit.as_millis()))],
    }
}

/// A database that is there and does not let us in is another matter than one that is away: here somebody has to mend the URL, the password or the role.
fn failed(what: &'static str, name: &str, url: &StoreUrl, failure: Failure) -> Check {
    let why = if failure.exit == Exit::Denied { "turns the role away: " } else { "" };
    let Check { finding, detail, .. } = Check::failed(what, name, failure);
    Check::new(what, name, finding, format!("{} {why}{detail}", url.masked()))
}

/// The server's version, its durability, and that our role can't write.
async fn server(what: &'static str, name: &str, client: &Client) -> Result<Vec<Check>, Failure> {
    let wrong = |error| Failure::of_database(name, &idempo_pg::classify(error));
    let mut set = std::collections::BTreeMap::new();
    for row in client.query(include_str!("../../sql/server_settings.sql"), &[]).await.map_err(wrong)? {
        let (setting, value): (String, String) = (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
        set.insert(setting, value);
    }
    let is = |setting: &str, value: &str| set.get(setting).is_some_and(|found| found == value);
    let version = set.get("server_version").cloned().unwrap_or_default();
    let major = version.split(['.', ' ']).next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    let finding = if major >= POSTGRES_VERSION_MIN { Finding::Fine } else { Finding::Wrong };
    let mut checks = vec![Check::new(what, name, finding, format!("PostgreSQL {version}"))];
    let lossy: Vec<&str> = ["fsync", "full_page_writes"].into_iter().filter(|setting| is(setting, "off")).collect();
    if !lossy.is_empty() || is("synchronous_commit", "off") {
        let off = [lossy, if is("synchronous_commit", "off") { vec!["synchronous_commit"] } else { Vec::new() }].concat();
        checks.push(Check::new(what, name, Finding::Wrong, format!("{} off: what was acknowledged can be lost", off.join(", "))));
    } else {
        checks.push(Check::new(what, name, Finding::Fine, "what is committed survives a crash"));
    }
    if is("default_transaction_read_only", "on") {
        checks.push(Check::new(what, name, Finding::Fine, "the role only reads"));
    } else {
        checks.push(Check::new(what, name, Finding::Odd, "the role may write: a role for operators should not"));
    }
    Ok(checks)
}

async fn schema(what: &'static str, name: &str, database: &Database, client: &Client) -> Result<Check, Failure> {
    let wrong = |error| Failure::of_database(name, &idempo_pg::classify(error));
    let (mut told, mut finding) = (Vec::new(), Finding::Fine);
    for set in database.sets {
        let row = client.query_one(include_str!("../../sql/migrated.sql"), &[&set.history]).await.map_err(wrong)?;
        let last: Option<String> = row.try_get("last").map_err(wrong)?;
        let (last, due) = (last.and_then(|last| last.parse::<u32>().ok()).unwrap_or(0), due(set));
        let history = set.history.trim_start_matches("migrations_");
        match last.cmp(&due) {
            std::cmp::Ordering::Equal => told.push(format!("{history} V{last}")),
            std::cmp::Ordering::Less => {
                finding = Finding::Wrong;
                told.push(format!("{history} V{last}, V{due} is due"));
            }
            std::cmp::Ordering::Greater => {
                finding = if finding == Finding::Wrong { finding } else { Finding::Odd };
                told.push(format!("{history} V{last}, this program knows V{due}"));
            }
        }
    }
    Ok(Check::new(what, name, finding, format!("schema {}", told.join(", "))))
}

/// The number of the last migration of a history.
fn due(set: &MigrationSet) -> u32 {
    let number = |name: &str| name.strip_prefix('V')?.split_once("__")?.0.parse().ok();
    set.files.iter().filter_map(|(name, _)| number(name)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_migration_of_every_history_is_known() {
        for set in idempo_schemas::databases().iter().flat_map(|database| database.sets) {
            assert_eq!(usize::try_from(due(set)).ok(), Some(set.files.len()), "{}", set.history);
        }
    }
}

//! `idempo doctor`: whether everything is there that the platform needs, and as it must be.

mod operators;

use std::time::Duration;

use clap::Args;
use idempo_kafka::{Error as KafkaError, TopicEnds};
use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use idempo_proto::ops::v1::relay_service_client::RelayServiceClient;
use idempo_proto::ops::v1::{GetRelayStatusRequest, ListDeadLetterGroupsRequest};
use idempo_schemas::{Database, MigrationSet};
use serde_json::json;
use tokio_postgres::Client;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::context::{Context, channel};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Cell, Printer, Row, Tone, tell};
use crate::settings::StoreUrl;
use crate::stores::connect;
use crate::topics::Topics;

const COLUMNS: [&str; 4] = ["WHAT", "NAME", "VERDICT", "DETAIL"];
/// How long one dependency may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(8);
/// The oldest PostgreSQL that has what the event store needs.
const POSTGRES_VERSION_MIN: u32 = 15;

/// Looks at every dependency: whether it is reached, its version, its settings, its schema. Ends with 6 where one is away, with 8 where one is wrong.
#[derive(Debug, Args)]
pub struct Command {}

/// What is to be said of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Fine,
    /// It works, and somebody should look.
    Odd,
    /// It is not as it must be.
    Wrong,
    /// It is not reached.
    Away,
}

struct Check {
    what: &'static str,
    name: String,
    finding: Finding,
    detail: String,
}

/// Runs the command.
///
/// # Errors
/// Where the profile can't be used at all.
pub async fn run(_command: &Command, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let mut checks = vec![settings(context)];
    let profile = context.profile();
    for address in &profile.relays {
        checks.push(in_time("relay", address, relay(address, context)).await);
    }
    for address in &profile.dead_letters {
        checks.push(in_time("dead letters", address, dead_letters(address, context)).await);
    }
    checks.push(operators::check(context).await);
    for (what, processes) in [("service", &profile.services), ("projector", &profile.projectors)] {
        for (name, address) in processes {
            checks.push(in_time(what, name, health(what, name, address)).await);
        }
    }
    for (name, url) in &profile.stores {
        checks.extend(database("store", name, &format!("{name}_db"), url).await);
    }
    for (name, url) in &profile.views {
        checks.extend(database("view", name, &format!("{name}_view_db"), url).await);
    }
    checks.extend(kafka(context).await?);
    let rows: Vec<Row> = checks.iter().map(Check::row).collect();
    printer.list(&COLUMNS, &rows)?;
    let count = |finding| checks.iter().filter(|check| check.finding == finding).count();
    let (away, wrong) = (count(Finding::Away), count(Finding::Wrong));
    if away + wrong > 0 {
        tell(&format!("{away} are away, {wrong} are wrong, of {}", checks.len()));
    }
    Ok(match (away, wrong) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Differences,
        _ => Exit::Unavailable,
    })
}

impl Check {
    fn new(what: &'static str, name: &str, finding: Finding, detail: impl Into<String>) -> Self {
        Self { what, name: name.to_owned(), finding, detail: detail.into() }
    }

    /// What is there and turns us away is not away.
    fn failed(what: &'static str, name: &str, failure: Failure) -> Self {
        let finding = if failure.exit == Exit::Denied { Finding::Wrong } else { Finding::Away };
        Self::new(what, name, finding, failure.message)
    }

    fn row(&self) -> Row {
        let (verdict, tone) = match self.finding {
            Finding::Fine => ("fine", Tone::Good),
            Finding::Odd => ("odd", Tone::Odd),
            Finding::Wrong => ("wrong", Tone::Bad),
            Finding::Away => ("away", Tone::Bad),
        };
        Row {
            json: json!({ "what": self.what, "name": self.name, "verdict": verdict, "detail": self.detail }),
            cells: vec![self.what.into(), self.name.as_str().into(), Cell::toned(verdict, tone), self.detail.as_str().into()],
        }
    }
}

/// A check that says nothing in time finds that its thing is away.
async fn in_time(what: &'static str, name: &str, check: impl Future<Output = Check>) -> Check {
    let silent = || Check::new(what, name, Finding::Away, format!("says nothing within {} s", CHECK_TIMEOUT.as_secs()));
    tokio::time::timeout(CHECK_TIMEOUT, check).await.unwrap_or_else(|_| silent())
}

fn settings(context: &Context) -> Check {
    let profile = context.profile();
    let missing: Vec<&str> = [
        ("relays", profile.relays.is_empty()),
        ("dead_letters", profile.dead_letters.is_empty()),
        ("services", profile.services.is_empty()),
        ("projectors", profile.projectors.is_empty()),
        ("stores", profile.stores.is_empty()),
        ("views", profile.views.is_empty()),
    ]
    .into_iter()
    .filter_map(|(key, is_missing)| is_missing.then_some(key))
    .collect();
    if missing.is_empty() {
        return Check::new("settings", &context.settings.name, Finding::Fine, "everything that commands need is set");
    }
    Check::new("settings", &context.settings.name, Finding::Odd, format!("not set, so not looked at: {}", missing.join(", ")))
}

async fn relay(address: &str, context: &Context) -> Check {
    let asked = async {
        let mut client = RelayServiceClient::new(channel(address)?);
        Ok::<_, Failure>(client.get_relay_status(context.request(GetRelayStatusRequest::default())).await?.into_inner())
    };
    match asked.await {
        Ok(answer) => {
            let held = answer.outboxes.iter().filter(|outbox| outbox.held_here).count();
            Check::new("relay", address, Finding::Fine, format!("holds {held} of {} outboxes", answer.outboxes.len()))
        }
        Err(failure) => Check::failed("relay", address, failure),
    }
}

/// Open dead letters are players whose read models stand still: nothing is wrong with the service, and somebody has to look.
async fn dead_letters(address: &str, context: &Context) -> Check {
    let asked = async {
        let mut client = DeadLetterServiceClient::new(channel(address)?);
        Ok::<_, Failure>(client.list_dead_letter_groups(context.request(ListDeadLetterGroupsRequest::default())).await?.into_inner())
    };
    match asked.await {
        Ok(answer) if answer.total_count == 0 => Check::new("dead letters", address, Finding::Fine, "none are open"),
        Ok(answer) => {
            let detail = format!("{} are open, in {} groups: `idempo dlq groups`", answer.total_count, answer.groups.len());
            Check::new("dead letters", address, Finding::Odd, detail)
        }
        Err(failure) => Check::failed("dead letters", address, failure),
    }
}

async fn health(what: &'static str, name: &str, address: &str) -> Check {
    let asked = async {
        let mut client = HealthClient::new(channel(address)?);
        Ok::<_, Failure>(client.check(HealthCheckRequest::default()).await?.into_inner().status())
    };
    match asked.await {
        Ok(ServingStatus::Serving) => Check::new(what, name, Finding::Fine, format!("serves at {address}")),
        Ok(status) => Check::new(what, name, Finding::Wrong, format!("says {} at {address}", status.as_str_name())),
        Err(failure) => Check::new(what, name, Finding::Away, format!("{address}: {}", failure.message)),
    }
}

async fn database(what: &'static str, name: &str, like: &str, url: &StoreUrl) -> Vec<Check> {
    let looked = async {
        let client = connect(name, url).await?;
        let mut checks = server(what, name, &client).await?;
        match idempo_schemas::database(like) {
            Some(database) => checks.push(schema(what, name, database, &client).await?),
            None => checks.push(Check::new(what, name, Finding::Odd, format!("this program knows no schema of {like}"))),
        }
        Ok::<_, Failure>(checks)
    };
    match tokio::time::timeout(CHECK_TIMEOUT, looked).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(failure)) => vec![Check::new(what, name, Finding::Away, format!("{}: {}", url.masked(), failure.message))],
        Err(_) => vec![Check::new(what, name, Finding::Away, format!("{} says nothing", url.masked()))],
    }
}

/// The server's version, its durability, and that our role can't write.
async fn server(what: &'static str, name: &str, client: &Client) -> Result<Vec<Check>, Failure> {
    let wrong = |error| Failure::of_database(name, &idempo_pg::classify(error));
    let mut set = std::collections::BTreeMap::new();
    for row in client.query(include_str!("../sql/server_settings.sql"), &[]).await.map_err(wrong)? {
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
        let row = client.query_one(include_str!("../sql/migrated.sql"), &[&set.history]).await.map_err(wrong)?;
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

async fn kafka(context: &Context) -> Result<Vec<Check>, Failure> {
    let topics = Topics::new(context)?;
    let brokers = &topics.config().brokers;
    let there = match tokio::time::timeout(CHECK_TIMEOUT, topics.there()).await {
        Ok(Ok(there)) => there,
        Ok(Err(failure)) => return Ok(vec![Check::new("kafka", brokers, Finding::Away, failure.message)]),
        Err(_) => {
            return Ok(vec![Check::new("kafka", brokers, Finding::Away, format!("says nothing within {} s", CHECK_TIMEOUT.as_secs()))]);
        }
    };
    let mut checks = vec![Check::new("kafka", brokers, Finding::Fine, "the brokers answer")];
    for topic in idempo_schemas::topics().topics {
        if !there.iter().any(|(name, _)| *name == topic.name) {
            checks.push(Check::new("topic", topic.name, Finding::Wrong, "is not there: a relay makes it when it boots"));
            continue;
        }
        let ends = TopicEnds::new(topics.config(), topic.name, topic.partitions).map_err(crate::topics::wrong)?;
        checks.push(match ends.check().await {
            Ok(()) => Check::new("topic", topic.name, Finding::Fine, format!("{} partitions", topic.partitions)),
            Err(error @ KafkaError::Unavailable { .. }) => Check::new("topic", topic.name, Finding::Away, error.to_string()),
            Err(error) => Check::new("topic", topic.name, Finding::Wrong, error.to_string()),
        });
    }
    Ok(checks)
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

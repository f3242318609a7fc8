//! What must hold after kills, once everything is quiet.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use idempo_ids::Uuid;
use idempo_inventory_projector::Rows;
use idempo_projection::Event;
use idempo_proto::inventory::v1 as inventory;
use idempo_tests::{World, metrics, probe};
use prost::Message as _;

use super::load::{Answer, COINS, Command, Ended};

/// How long it may take until everything that is stored is everywhere.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// Of the commands that were answered at once, one in so many is sent again.
const REPEATED_ONE_IN: usize = 8;
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The metric that says how far the read model is behind.
const FRESHNESS: &str = "idempo_projection_freshness_seconds";

/// Checks everything.
pub(super) async fn pass(world: &World, ended: &Ended) -> Result<()> {
    let began = Instant::now();
    repeated_answers_are_equal(ended).await?;
    keys_are_bound_once(world, ended).await?;
    balances_are_as_answered(world, ended).await?;
    let (events, doubled) = topic_has_each_event_in_order(world).await?;
    let rows = read_model_is_the_fold(world).await?;
    items_are_where_they_were_sent(ended, &rows)?;
    nothing_is_left_to_do(world).await?;
    writeln!(
        std::io::stderr(),
        "{} commands, {} of them sent again after no answer; {events} events on the topic, {doubled} records twice; checked in {} ms",
        ended.settled.len(),
        ended.unsure(),
        began.elapsed().as_millis()
    )?;
    Ok(())
}

/// All answers to one key are equal: those that were sent again after no answer, and some of the others, are sent once more.
async fn repeated_answers_are_equal(ended: &Ended) -> Result<()> {
    let mut lines = ended.lines.clone();
    for (at, settled) in ended.settled.iter().enumerate() {
        if settled.attempts > 1 || at % REPEATED_ONE_IN == 0 {
            let (answer, replayed) = lines.send(&settled.command).await?;
            ensure!(answer == settled.answer, "{:?} was answered {:?}, and then {answer:?}", settled.command, settled.answer);
            ensure!(replayed, "{:?} was answered, and is done once more", settled.command);
        }
    }
    Ok(())
}

/// Every command that was answered is bound to its key, in its service's database.
async fn keys_are_bound_once(world: &World, ended: &Ended) -> Result<()> {
    let mut keys: HashMap<&str, Vec<Uuid>> = HashMap::new();
    for settled in &ended.settled {
        let (database, key) = match &settled.command {
            Command::GrantFunds(request) => ("wallet_db", &request.request_id),
            Command::TransferFunds(request) => ("wallet_db", &request.request_id),
            Command::GrantItem(request) => ("inventory_db", &request.request_id),
            Command::TransferItem(request) => ("inventory_db", &request.request_id),
        };
        keys.entry(database).or_default().push(key.parse()?);
    }
    for (database, keys) in keys {
        let bound: i64 = world.auditor(database).await?.query_one(include_str!("../sql/keys_bound.sql"), &[&keys]).await?.try_get(0)?;
        ensure!(bound == i64::try_from(keys.len())?, "{database}: {bound} rows for {} answered keys", keys.len());
    }
    Ok(())
}

/// Every command that was applied has moved its coins once, and those that were refused have moved none.
async fn balances_are_as_answered(world: &World, ended: &Ended) -> Result<()> {
    let mut due: BTreeMap<&str, i64> = ended.wallets.iter().map(|name| (name.as_str(), COINS)).collect();
    for settled in ended.settled.iter().filter(|settled| matches!(settled.answer, Answer::Replied(_))) {
        let moves = match &settled.command {
            Command::GrantFunds(request) => vec![(&request.wallet, request.amount)],
            Command::TransferFunds(request) => vec![(&request.from_wallet, -request.amount), (&request.to_wallet, request.amount)],
            Command::GrantItem(_) | Command::TransferItem(_) => Vec::new(),
        };
        for (name, amount) in moves {
            *due.get_mut(name.as_str()).context("a wallet of ours")? += amount;
        }
    }
    for (name, due) in due {
        let coins = world.coins(name, "").await?;
        ensure!(coins == due, "{name} has {coins} coins, and by the answers {due}");
    }
    Ok(())
}

/// Everything that is stored is on the topic and nothing else; the first records of a stream's events are in the order of their versions, and
/// each record that comes again is the same, byte by byte. How many events there are, and how many records came again.
async fn topic_has_each_event_in_order(world: &World) -> Result<(usize, usize)> {
    let mut stored: Vec<Bytes> = world.envelopes("wallet_db").await?;
    stored.extend(world.envelopes("inventory_db").await?);
    let stored: HashMap<Uuid, Bytes> =
        stored.into_iter().map(|envelope| Ok((Event::decode(&envelope)?.event_id.uuid(), envelope))).collect::<Result<_>>()?;
    let began = Instant::now();
    loop {
        let records = world.records().await?;
        let mut sent: HashMap<Uuid, usize> = HashMap::new();
        let mut versions: HashMap<Uuid, u64> = HashMap::new();
        for record in &records {
            let event = Event::decode(&record.value)?;
            let (id, stream) = (event.event_id.uuid(), event.stream_id.uuid());
            let envelope = stored.get(&id).with_context(|| format!("event {id} is on the topic, and not in the store"))?;
            ensure!(*envelope == record.value, "a record of event {id} is not what is stored");
            let times = sent.entry(id).or_default();
            *times += 1;
            if *times == 1 {
                let version = versions.entry(stream).or_default();
                *version += 1;
                ensure!(*version == event.version, "stream {stream}: version {} comes where {version} is due", event.version);
            }
        }
        if sent.len() == stored.len() {
            return Ok((stored.len(), records.len() - stored.len()));
        }
        ensure!(began.elapsed() < QUIET_LIMIT, "{} of {} stored events are on the topic", sent.len(), stored.len());
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// The read model comes to be the fold of the stored events.
async fn read_model_is_the_fold(world: &World) -> Result<Rows> {
    let (due, began) = (world.folded().await?, Instant::now());
    loop {
        let rows = world.projected().await?;
        if rows == due {
            return Ok(rows);
        }
        if began.elapsed() > QUIET_LIMIT {
            // Row by row, so that it can be read.
            for (item, row) in &due.items {
                ensure!(
                    rows.items.get(item) == Some(row),
                    "item {item}: {:?} in the read model, and {row:?} by the events",
                    rows.items.get(item)
                );
            }
            bail!("the read model is not the fold: {} items and {} by the events", rows.items.len(), due.items.len());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Every item that was granted is there once, with the player whom it was sent to last.
fn items_are_where_they_were_sent(ended: &Ended, rows: &Rows) -> Result<()> {
    let mut due: HashMap<Uuid, Uuid> = HashMap::new();
    for settled in &ended.settled {
        let Answer::Replied(reply) = &settled.answer else { continue };
        let (item, player) = match &settled.command {
            Command::GrantItem(request) => (inventory::GrantItemResponse::decode(reply.as_slice())?.item, &request.player),
            Command::TransferItem(request) => match &request.what {
                Some(inventory::transfer_item_request::What::Item(item)) => (item.clone(), &request.to_player),
                _ => bail!("only items are transferred"),
            },
            Command::GrantFunds(_) | Command::TransferFunds(_) => continue,
        };
        due.insert(last_part(&item)?, last_part(player)?);
    }
    let owners: HashMap<Uuid, Uuid> = rows.items.iter().map(|(item, row)| (item.uuid(), row.owner.uuid())).collect();
    for (item, owner) in &due {
        ensure!(owners.get(item) == Some(owner), "item {item} belongs to {:?}, and by the answers to {owner}", owners.get(item));
    }
    let players: std::collections::HashSet<&Uuid> = due.values().collect();
    let theirs = owners.values().filter(|owner| players.contains(owner)).count();
    ensure!(theirs == due.len(), "{theirs} items belong to the players, and by the answers {}", due.len());
    Ok(())
}

/// The id at the end of a name.
fn last_part(name: &str) -> Result<Uuid> {
    Ok(name.rsplit('/').next().context("a name")?.parse()?)
}

/// The outboxes' backlog and the projection's lag come to be nothing, and the cursors know it.
async fn nothing_is_left_to_do(world: &World) -> Result<()> {
    let began = Instant::now();
    loop {
        let mut left = Vec::new();
        for database in ["wallet_db", "inventory_db"] {
            let row = world.superuser(database).await?.query_one(include_str!("../sql/has_unacked.sql"), &[]).await?;
            left.extend(row.try_get::<_, bool>(0)?.then(|| format!("rows of {database}")));
        }
        let (_, page) = probe::get(world.platform.service("inventory-projector")?.admin(), "/metrics").await?;
        let behind: Vec<f64> =
            metrics::parse(&page)?.into_iter().filter(|(name, _)| name.starts_with(FRESHNESS)).map(|(_, value)| value).collect();
        ensure!(!behind.is_empty(), "the projector does not tell {FRESHNESS}");
        left.extend(behind.iter().any(|seconds| *seconds > 0.0).then(|| format!("{behind:?} s of the read model")));
        if left.is_empty() {
            return Ok(());
        }
        ensure!(began.elapsed() < QUIET_LIMIT, "left after {QUIET_LIMIT:?}: {}", left.join(", "));
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

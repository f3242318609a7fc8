//! What stands in the tables after a busy time: sums, chains, and that nothing can be changed.

use idempo_decider::Decider as _;
use idempo_devstack::testing::eventually;
use idempo_event_store::Domain as _;
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::wallet::v1 as api;
use idempo_wallet::WalletDomain;
use idempo_wallet_domain::{Asset, Rules};
use jiff::SignedDuration;
use prost::Message as _;
use tokio_postgres::error::SqlState;

use crate::support::*;

/// Some of everything, through two replicas, all at once: many of it refused.
async fn busy_time(world: &World, second: &Client) -> Vec<String> {
    let mut wallets = Vec::new();
    for _ in 0..6 {
        wallets.push(world.wallet(500).await);
    }
    let tasks = (0..240_usize).map(|number| {
        let mut client = if number % 2 == 0 { world.wallets.clone() } else { second.clone() };
        let (a, b) = (wallets[number % 6].clone(), wallets[(number * 5 + 1) % 6].clone());
        let amount = i64::try_from(number % 37 + 1).unwrap();
        async move {
            match number % 5 {
                0 => drop(client.grant_funds(world.grant(&a, amount)).await),
                1 if a != b => {
                    if let Ok(sent) = client.transfer_funds(world.transfer(&a, &b, amount * 4)).await {
                        let partial = api::ShortfallPolicy::Partial.into();
                        let reverse = world.reverse(&sent.into_inner().transaction_id);
                        drop(client.reverse_transaction(api::ReverseTransactionRequest { shortfall_policy: partial, ..reverse }).await);
                    }
                }
                2 => drop(client.burn_funds(world.burn(&a, amount * 5)).await),
                3 if a != b => {
                    if let Ok(placed) = client.place_hold(world.place(&a, amount, 60_000)).await {
                        let hold = placed.into_inner().hold.unwrap().name;
                        drop(client.capture_hold(world.capture(&hold, 1, &b)).await);
                    }
                }
                _ => {
                    if let Ok(placed) = client.place_hold(world.place(&a, amount, 5_000)).await {
                        let hold = placed.into_inner().hold.unwrap().name;
                        if number % 2 == 0 {
                            drop(client.release_hold(world.release(&hold)).await);
                        }
                    }
                }
            }
        }
    });
    futures_util::future::join_all(tasks).await;
    world.clock.advance(SignedDuration::from_secs(10));
    eventually(PATIENCE, "what is left of the holds expires", async || {
        let mut held = 0;
        for wallet in &wallets {
            held += world.coins(wallet).await.1;
        }
        held == 0
    })
    .await;
    wallets
}

#[tokio::test]
async fn after_a_busy_time_the_ledger_is_the_fold_of_the_events_and_sums_to_zero() {
    let world = World::new().await;
    let (second, client) = world.replica().await;
    let wallets = busy_time(&world, &client).await;
    let database = world.superuser().await;
    let unbalanced = "SELECT count(*) FROM (SELECT FROM wallet.postings GROUP BY transaction_id, asset HAVING sum(posted_delta) <> 0) AS x";
    assert_eq!(database.query_one(unbalanced, &[]).await.unwrap().get::<_, i64>(0), 0);
    let one_sided = "SELECT count(*) FROM (SELECT FROM wallet.postings GROUP BY transaction_id HAVING count(*) <> 2) AS x";
    assert_eq!(database.query_one(one_sided, &[]).await.unwrap().get::<_, i64>(0), 0);
    let broken_chains = "SELECT count(*) FROM (
        SELECT posted_after - posted_delta <> coalesce(lag(posted_after) OVER w, 0) OR held_after - held_delta <> coalesce(lag(held_after) OVER w, 0) AS broken
        FROM wallet.entries WINDOW w AS (PARTITION BY player_id, asset ORDER BY version)
    ) AS x WHERE broken";
    assert_eq!(database.query_one(broken_chains, &[]).await.unwrap().get::<_, i64>(0), 0);
    let without_entry = "SELECT count(*) FROM es.events AS e WHERE e.version > 1 AND NOT EXISTS (
        SELECT FROM wallet.entries AS n WHERE n.event_id = e.event_id AND n.version = e.version)";
    assert_eq!(database.query_one(without_entry, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(
        database.query_one("SELECT count(*) FROM wallet.transactions WHERE reverses IS NOT NULL", &[]).await.unwrap().get::<_, i64>(0) > 0
    );

    for wallet in wallets {
        let player: idempo_ids::Uuid = wallet["wallets/".len()..].parse().unwrap();
        let events =
            "SELECT e.envelope FROM es.events AS e JOIN es.streams AS s USING (stream_id) WHERE s.partition_key = $1 ORDER BY e.version";
        let mut folded = idempo_wallet_domain::Wallet::default();
        for row in database.query(events, &[&player]).await.unwrap() {
            let envelope = EventEnvelope::decode(row.get::<_, &[u8]>(0)).unwrap();
            Rules::evolve(&mut folded, &WalletDomain.decode(envelope.data.unwrap()).unwrap());
        }
        let read = world.get(&wallet).await;
        assert_eq!(read.etag, folded.version().to_string());
        for (asset, balance) in Asset::ALL.into_iter().zip(read.balances) {
            assert_eq!((balance.posted, balance.held), (folded.balance(asset).posted(), folded.balance(asset).held()));
        }
        assert_eq!(folded.open_holds(), 0);
    }
    second.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn the_ledger_can_only_grow() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let hold = world.hold(&wallet, 1).await;
    world.wallets.clone().release_hold(world.release(&hold)).await.unwrap();
    let service = session(&world.database.config("idempo_wallet")).await;
    let superuser = world.superuser().await;
    for change in [
        "UPDATE wallet.entries SET posted_after = 1",
        "DELETE FROM wallet.entries",
        "TRUNCATE wallet.entries",
        "UPDATE wallet.transactions SET amount = 1",
        "DELETE FROM wallet.transactions",
        "UPDATE wallet.wallets SET opened_at = now()",
        "DELETE FROM wallet.wallets",
        "DELETE FROM wallet.holds",
        "UPDATE wallet.holds SET state = 1, resolved_at = NULL",
        "UPDATE wallet.holds SET amount = 5",
    ] {
        let denied = service.batch_execute(change).await.unwrap_err();
        assert_eq!(denied.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{change}");
        let refused = superuser.batch_execute(change).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::RESTRICT_VIOLATION), "{change}");
    }
    for insert in [
        "INSERT INTO wallet.wallets VALUES (gen_random_uuid(), now())",
        "INSERT INTO es.streams VALUES (gen_random_uuid(), 1, gen_random_uuid(), 0)",
    ] {
        assert_eq!(service.batch_execute(insert).await.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{insert}");
    }
}

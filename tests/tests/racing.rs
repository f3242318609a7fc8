//! One command, sent many times at the same moment.

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use idempo_ids::Uuid;
use idempo_proto::wallet::v1 as api;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_tests::World;

use crate::wallets::is_replay;

/// How often the command is sent.
const SENDS: usize = 64;
/// How many connections they come on.
const CONNECTIONS: usize = 8;

pub(crate) async fn sixty_four_racing_sends_of_one_command_have_one_effect(world: &mut World) -> Result<()> {
    let (from, to) = (world.wallet(100).await?, world.wallet(0).await?);
    let transfer = world.transfer(&from, &to, 30);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = WalletServiceClient::new(world.channel("wallet")?);
        // The connection is there before the race.
        client.get_wallet(api::GetWalletRequest { name: from.clone(), ..Default::default() }).await?;
        clients.push(client);
    }
    let racing = clients.iter().cycle().take(SENDS).map(|client| {
        let (mut client, transfer) = (client.clone(), transfer.clone());
        tokio::spawn(async move { client.transfer_funds(transfer).await })
    });
    let racing: Vec<_> = racing.collect();
    let mut answers = Vec::new();
    for answer in try_join_all(racing).await? {
        answers.push(answer?);
    }

    let first = answers.first().context("an answer")?.get_ref().clone();
    assert!(answers.iter().all(|answer| *answer.get_ref() == first), "{answers:#?}");
    assert_eq!(answers.iter().filter(|answer| !is_replay(answer.metadata())).count(), 1, "one of them is the first answer");
    assert_eq!((world.coins(&from, &first.position).await?, world.coins(&to, &first.position).await?), (70, 30));
    assert_one_effect(world, &transfer.request_id, &first.transaction_id, [&from, &to]).await
}

/// Looks past the service, as the auditor.
async fn assert_one_effect(world: &World, request_id: &str, transaction_id: &str, wallets: [&str; 2]) -> Result<()> {
    let database = world.auditor("wallet_db").await?;
    let key: Uuid = request_id.parse()?;
    let row = database.query_one(include_str!("sql/keys.sql"), &[&key]).await?;
    assert_eq!(row.try_get::<_, i64>(0)?, 1, "the key is bound once");
    let transaction: Uuid = transaction_id.parse()?;
    let row = database.query_one(include_str!("sql/transactions.sql"), &[&transaction]).await?;
    assert_eq!(row.try_get::<_, i64>(0)?, 1, "one transaction");
    for (wallet, versions) in wallets.into_iter().zip([3_i64, 2]) {
        let player: Uuid = wallet.rsplit_once('/').context("a name")?.1.parse()?;
        let row = database.query_one(include_str!("sql/events.sql"), &[&player]).await?;
        assert_eq!((row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?), (versions, versions), "events of {wallet}, and its version");
    }
    Ok(())
}

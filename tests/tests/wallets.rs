//! Wallets, through the public API.

use anyhow::{Context as _, Result};
use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1 as api;
use idempo_tests::World;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic_types::StatusExt as _;

/// Whether an answer says that it was given before.
pub(crate) fn is_replay(metadata: &MetadataMap) -> bool {
    metadata.get("idempo-replayed").is_some_and(|value| value == "true")
}

pub(crate) async fn what_was_opened_granted_and_transferred_is_read_back(world: &mut World) -> Result<()> {
    let (from, to) = (world.wallet(500).await?, world.wallet(0).await?);
    let sent = world.wallets()?.transfer_funds(world.transfer(&from, &to, 120)).await?.into_inner();
    assert_eq!(world.coins(&from, &sent.position).await?, 380);
    assert_eq!(world.coins(&to, &sent.position).await?, 120);

    let entries = api::ListEntriesRequest { parent: to.clone(), min_position: sent.position.clone(), ..Default::default() };
    let entries = world.wallets()?.list_entries(entries).await?.into_inner().entries;
    let received: Vec<_> = entries.iter().filter(|entry| entry.kind() == api::EntryKind::TransferIn).collect();
    let [received] = received.as_slice() else { anyhow::bail!("one transfer was received: {entries:#?}") };
    assert_eq!((received.posted_delta, received.posted_after, received.asset()), (120, 120, Asset::Coin));
    assert_eq!((&received.counterparty, &received.transaction_id), (&from, &sent.transaction_id));
    Ok(())
}

pub(crate) async fn the_same_request_twice_gets_equal_answers(world: &mut World) -> Result<()> {
    let mut wallets = world.wallets()?;
    let open = world.open(&world.id().to_string());
    let (first, second) = (wallets.open_wallet(open.clone()).await?, wallets.open_wallet(open).await?);
    assert_eq!((is_replay(first.metadata()), is_replay(second.metadata())), (false, true));
    assert_eq!(first.get_ref(), second.get_ref());

    let wallet = first.into_inner().wallet.context("a wallet")?.name;
    let grant = world.grant(&wallet, 70);
    let first = wallets.grant_funds(grant.clone()).await?;
    // Between the two the wallet changes, and the second answer is the first one all the same.
    wallets.grant_funds(world.grant(&wallet, 7)).await?;
    let second = wallets.grant_funds(grant).await?;
    assert_eq!((is_replay(first.metadata()), is_replay(second.metadata())), (false, true));
    assert_eq!(first.get_ref(), second.get_ref());
    assert_eq!(world.coins(&wallet, "").await?, 77);
    Ok(())
}

pub(crate) async fn a_refusal_is_the_same_the_second_time(world: &mut World) -> Result<()> {
    let (from, to) = (world.wallet(10).await?, world.wallet(0).await?);
    let overdraft = world.transfer(&from, &to, 11);
    let first = world.wallets()?.transfer_funds(overdraft.clone()).await.err().context("an overdraft is refused")?;
    let info = first.get_details_error_info().context("ErrorInfo")?;
    assert_eq!(
        (first.code(), info.reason.as_str(), info.domain.as_str()),
        (Code::FailedPrecondition, "INSUFFICIENT_FUNDS", "wallet.idempo")
    );
    // Now it could be paid; but that key has its answer.
    world.wallets()?.grant_funds(world.grant(&from, 100)).await?;
    let second = world.wallets()?.transfer_funds(overdraft).await.err().context("the refusal stands")?;
    assert_eq!((first.code(), first.message(), first.details()), (second.code(), second.message(), second.details()));
    assert_eq!((is_replay(first.metadata()), is_replay(second.metadata())), (false, true));
    Ok(())
}

pub(crate) async fn another_payload_under_a_used_key_is_refused_by_field(world: &mut World) -> Result<()> {
    let wallet = world.wallet(0).await?;
    let grant = world.grant(&wallet, 5);
    world.wallets()?.grant_funds(grant.clone()).await?;
    let changed = api::GrantFundsRequest { amount: 6, ..grant };
    let refused = world.wallets()?.grant_funds(changed).await.err().context("another payload is refused")?;
    let info = refused.get_details_error_info().context("ErrorInfo")?;
    assert_eq!((refused.code(), info.reason.as_str()), (Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH"));
    assert_eq!(info.metadata.get("field").map(String::as_str), Some("amount"));
    assert_eq!(world.coins(&wallet, "").await?, 5);
    Ok(())
}

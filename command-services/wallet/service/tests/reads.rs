//! Reads: now, as it was, page by page, and never before what the reader has seen.

use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1 as api;
use idempo_proto::wallet::v1::EntryKind;
use idempo_rpc::timestamp;
use jiff::{SignedDuration, Timestamp};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::*;

fn as_of(wallet: &str, time: Timestamp) -> api::GetWalletRequest {
    api::GetWalletRequest { name: wallet.to_owned(), as_of: Some(timestamp::to_proto(time)), ..Default::default() }
}

#[tokio::test]
async fn a_wallet_is_read_as_it_was() {
    let world = World::new().await;
    let opened = world.now();
    let wallet = world.wallet(0).await;
    let mut client = world.wallets.clone();
    let mut seen = vec![(opened, (0, 0), "1".to_owned())];
    for step in 1..=3 {
        world.clock.advance(SignedDuration::from_secs(10));
        client.grant_funds(world.grant(&wallet, 10 * step)).await.unwrap();
        world.hold(&wallet, step).await;
        seen.push((world.now(), world.coins(&wallet).await, world.get(&wallet).await.etag));
    }
    world.clock.advance(SignedDuration::from_secs(10));
    for (time, (posted, held), etag) in seen {
        for time in [time, time + SignedDuration::from_secs(9)] {
            let was = client.get_wallet(as_of(&wallet, time)).await.unwrap().into_inner().wallet.unwrap();
            assert_eq!((was.balances[0].posted, was.balances[0].held, &was.etag), (posted, held, &etag));
        }
    }
    for outside in [opened - SignedDuration::from_millis(1), world.now() + SignedDuration::from_millis(1)] {
        let (code, reason, metadata) = refused(client.get_wallet(as_of(&wallet, outside)).await);
        assert_eq!((code, reason.as_str()), (Code::OutOfRange, "AS_OF_OUT_OF_RANGE"));
        assert_eq!(metadata["oldest"].parse::<Timestamp>().unwrap(), opened);
        assert_eq!(metadata["newest"].parse::<Timestamp>().unwrap(), world.now());
    }
}

#[tokio::test]
async fn a_read_includes_the_position_it_names_or_says_that_it_is_behind() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(10).await, world.wallet(0).await);
    let sent = world.wallets.clone().transfer_funds(world.transfer(&wallet, &other, 3)).await.unwrap().into_inner();
    let (second, mut client) = world.replica().await;
    let request = api::GetWalletRequest { name: other.clone(), min_position: sent.position.clone(), ..Default::default() };
    let read = client.get_wallet(request).await.unwrap().into_inner().wallet.unwrap();
    assert_eq!(read.balances[0].posted, 3);
    let streams = idempo_rpc::position::decode(&sent.position).unwrap();
    let ahead: Vec<_> = streams.iter().map(|(stream, version)| (*stream, version + 1)).collect();
    let ahead = idempo_rpc::position::encode(&ahead);
    let request = api::GetWalletRequest { name: other, min_position: ahead.clone(), ..Default::default() };
    let status = client.get_wallet(request).await.unwrap_err();
    assert!(status.get_details_retry_info().is_some());
    let (code, reason, metadata) = refused::<()>(Err(status));
    assert_eq!((code, reason.as_str(), metadata["projection"].as_str()), (Code::Unavailable, "PROJECTION_BEHIND", "wallet"));
    let list = api::ListEntriesRequest { parent: wallet, min_position: ahead, ..Default::default() };
    assert_refused(client.list_entries(list).await, Code::Unavailable, "PROJECTION_BEHIND");
    second.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn an_entry_of_each_kind_says_what_it_did() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(100).await, world.wallet(50).await);
    let mut client = world.wallets.clone();
    client.burn_funds(api::BurnFundsRequest { reason: "a tax".to_owned(), ..world.burn(&wallet, 1) }).await.unwrap();
    let sent = client.transfer_funds(world.transfer(&wallet, &other, 2)).await.unwrap().into_inner();
    client.transfer_funds(world.transfer(&other, &wallet, 3)).await.unwrap();
    let (captured, released) = (world.hold(&wallet, 10).await, world.hold(&wallet, 20).await);
    client.capture_hold(world.capture(&captured, 4, &other)).await.unwrap();
    client.release_hold(world.release(&released)).await.unwrap();
    let list = |parent: &str| api::ListEntriesRequest { parent: parent.to_owned(), ..Default::default() };
    let entries = client.list_entries(list(&wallet)).await.unwrap().into_inner().entries;
    let lines: Vec<_> =
        entries.iter().map(|entry| (entry.kind(), entry.posted_delta, entry.held_delta, entry.posted_after, entry.held_after)).collect();
    assert_eq!(
        lines,
        [
            (EntryKind::Release, 0, -20, 96, 0),
            (EntryKind::CaptureOut, -4, -10, 96, 20),
            (EntryKind::Hold, 0, 20, 100, 30),
            (EntryKind::Hold, 0, 10, 100, 10),
            (EntryKind::TransferIn, 3, 0, 100, 0),
            (EntryKind::TransferOut, -2, 0, 97, 0),
            (EntryKind::Burn, -1, 0, 99, 0),
            (EntryKind::Mint, 100, 0, 100, 0),
        ]
    );
    assert_eq!(entries[0].name, format!("{wallet}/entries/9"));
    assert_eq!((entries[0].counterparty.as_str(), entries[0].transaction_id.as_str()), ("", ""));
    assert!(released.ends_with(&entries[0].hold_id) && captured.ends_with(&entries[1].hold_id));
    assert_eq!((entries[1].counterparty.as_str(), entries[7].counterparty.as_str()), (other.as_str(), "systemAccounts/mint"));
    assert_eq!((entries[6].counterparty.as_str(), entries[6].reason.as_str()), ("systemAccounts/burn", "a tax"));
    assert_eq!(entries[5].transaction_id, sent.transaction_id);
    let of_other = client.list_entries(list(&other)).await.unwrap().into_inner().entries;
    assert_eq!(
        (of_other[0].kind(), of_other[0].posted_delta, of_other[0].counterparty.as_str()),
        (EntryKind::CaptureIn, 4, wallet.as_str())
    );
    assert_eq!(of_other[2].transaction_id, sent.transaction_id);
}

#[tokio::test]
async fn pages_are_complete_and_without_repetition_while_entries_arrive() {
    let world = World::new().await;
    let wallet = world.wallet(0).await;
    let mut client = world.wallets.clone();
    for number in 1..=25 {
        let asset = if number % 2 == 0 { Asset::Stamp } else { Asset::Coin };
        client.grant_funds(api::GrantFundsRequest { asset: asset.into(), ..world.grant(&wallet, number) }).await.unwrap();
    }
    let mut request = api::ListEntriesRequest { parent: wallet.clone(), page_size: 10, ..Default::default() };
    let (mut amounts, mut pages) = (Vec::new(), 0);
    loop {
        let page = client.list_entries(request.clone()).await.unwrap().into_inner();
        amounts.extend(page.entries.iter().map(|entry| entry.posted_delta));
        pages += 1;
        // Between pages, something new comes in at the front.
        client.grant_funds(world.grant(&wallet, 1_000)).await.unwrap();
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        request.page_size = 10 + pages;
    }
    assert_eq!(amounts, (1..=25).rev().collect::<Vec<_>>());
    assert_eq!(pages, 3);
    let other_filter =
        api::ListEntriesRequest { filter: Some(api::EntryFilter { asset: Asset::Coin.into(), ..Default::default() }), ..request.clone() };
    assert_eq!(violations(client.list_entries(other_filter).await), ["page_token"]);
    let other_wallet = api::ListEntriesRequest { parent: world.wallet(0).await, ..request };
    assert_eq!(violations(client.list_entries(other_wallet).await), ["page_token"]);
}

#[tokio::test]
async fn a_last_page_that_is_full_has_no_next_one() {
    let world = World::new().await;
    let wallet = world.wallet(1).await;
    let mut client = world.wallets.clone();
    client.grant_funds(world.grant(&wallet, 2)).await.unwrap();
    let page =
        client.list_entries(api::ListEntriesRequest { parent: wallet, page_size: 2, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((page.entries.len(), page.next_page_token.as_str()), (2, ""));
    let empty = world.wallet(0).await;
    let page = client.list_entries(api::ListEntriesRequest { parent: empty, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((page.entries.len(), page.next_page_token.as_str()), (0, ""));
}

#[tokio::test]
async fn filters_must_all_hold() {
    let world = World::new().await;
    let wallet = world.wallet(0).await;
    let mut client = world.wallets.clone();
    let mut times = Vec::new();
    for number in 1..=6 {
        world.clock.advance(SignedDuration::from_secs(1));
        times.push(timestamp::to_proto(world.now()));
        let asset = if number % 2 == 0 { Asset::Stamp } else { Asset::Coin };
        client.grant_funds(api::GrantFundsRequest { asset: asset.into(), ..world.grant(&wallet, number) }).await.unwrap();
    }
    client.burn_funds(world.burn(&wallet, 1)).await.unwrap();
    let mut amounts = async |filter| {
        let request = api::ListEntriesRequest { parent: wallet.clone(), filter: Some(filter), ..Default::default() };
        let entries = client.list_entries(request).await.unwrap().into_inner().entries;
        entries.iter().map(|entry| entry.posted_delta).collect::<Vec<_>>()
    };
    let none = api::EntryFilter::default();
    assert_eq!(amounts(none).await, [-1, 6, 5, 4, 3, 2, 1]);
    assert_eq!(amounts(api::EntryFilter { asset: Asset::Coin.into(), ..none }).await, [-1, 5, 3, 1]);
    assert_eq!(amounts(api::EntryFilter { kind: EntryKind::Burn.into(), ..none }).await, [-1]);
    assert_eq!(amounts(api::EntryFilter { kind: EntryKind::Mint.into(), asset: Asset::Stamp.into(), ..none }).await, [6, 4, 2]);
    assert_eq!(amounts(api::EntryFilter { start_time: Some(times[1]), end_time: Some(times[4]), ..none }).await, [4, 3, 2]);
    let stamps = api::EntryFilter { asset: Asset::Stamp.into(), start_time: Some(times[1]), end_time: Some(times[4]), ..none };
    assert_eq!(amounts(stamps).await, [4, 2]);
    // A bound between two microseconds belongs to the later one.
    let between = prost_types::Timestamp { nanos: times[1].nanos + 1, ..times[1] };
    assert_eq!(amounts(api::EntryFilter { start_time: Some(between), end_time: Some(times[3]), ..none }).await, [3]);
}

#[tokio::test]
async fn a_statement_adds_up() {
    let world = World::new().await;
    let wallet = world.wallet(100).await;
    let mut client = world.wallets.clone();
    let begin = world.now();
    world.clock.advance(SignedDuration::from_hours(1));
    let start = world.now();
    client.grant_funds(world.grant(&wallet, 30)).await.unwrap();
    client.burn_funds(world.burn(&wallet, 50)).await.unwrap();
    client.place_hold(world.place(&wallet, 5, 86_400_000)).await.unwrap();
    world.clock.advance(SignedDuration::from_hours(1));
    let end = world.now();
    client.grant_funds(world.grant(&wallet, 1)).await.unwrap();
    let mut statement = async |asset: Asset, start, end| {
        let request = api::GetStatementRequest {
            wallet: wallet.clone(),
            asset: asset.into(),
            start_time: Some(timestamp::to_proto(start)),
            end_time: Some(timestamp::to_proto(end)),
            ..Default::default()
        };
        let answer = client.get_statement(request).await.unwrap().into_inner();
        assert_eq!(answer.opening_posted + answer.credits - answer.debits, answer.closing_posted);
        (answer.opening_posted, answer.credits, answer.debits, answer.closing_posted, answer.entry_count)
    };
    assert_eq!(statement(Asset::Coin, start, end).await, (100, 30, 50, 80, 3));
    assert_eq!(statement(Asset::Coin, begin, end + SignedDuration::from_secs(1)).await, (0, 131, 50, 81, 5));
    assert_eq!(statement(Asset::Coin, end, end + SignedDuration::from_secs(1)).await, (80, 1, 0, 81, 1));
    assert_eq!(statement(Asset::Coin, begin - SignedDuration::from_hours(2), begin).await, (0, 0, 0, 0, 0));
    assert_eq!(statement(Asset::Stamp, begin, end).await, (0, 0, 0, 0, 0));
}

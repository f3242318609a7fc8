//! Runs that are right, also where that is hard to see.

use idempo_checker::Evidence;
use idempo_checker::history::{Answer, Purpose, Read};
use idempo_checker::method::Method;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::event::v1::{self as event, Asset, ItemPortion, SystemAccount, UniqueItem, hold_captured};
use tonic::Code;
use uuid::Uuid;

use crate::world::{At, Made, World, bytes_of, passes, player};

pub(crate) const SWORD: &str = "sword";
pub(crate) const ARROW: &str = "arrow";

pub(crate) fn id(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

pub(crate) fn opened(owner: u8) -> (Uuid, Data) {
    (player(owner), Data::WalletOpened(event::WalletOpened { player_id: bytes_of(player(owner)), ..Default::default() }))
}

pub(crate) fn minted(owner: u8, transaction: u8, amount: i64) -> (Uuid, Data) {
    let minted = event::FundsMinted {
        transaction_id: bytes_of(id(transaction)),
        asset: Asset::Coin.into(),
        amount,
        from: SystemAccount::Mint.into(),
        ..Default::default()
    };
    (player(owner), Data::FundsMinted(minted))
}

pub(crate) fn burned(owner: u8, transaction: u8, amount: i64) -> (Uuid, Data) {
    let burned = event::FundsBurned {
        transaction_id: bytes_of(id(transaction)),
        asset: Asset::Coin.into(),
        amount,
        to: SystemAccount::Burn.into(),
        ..Default::default()
    };
    (player(owner), Data::FundsBurned(burned))
}

pub(crate) fn transfer(from: u8, to: u8, transaction: u8, amount: i64) -> Vec<(Uuid, Data)> {
    let (transaction_id, asset) = (bytes_of(id(transaction)), Asset::Coin.into());
    let sent = event::FundsSent {
        transaction_id: transaction_id.clone(),
        asset,
        amount,
        to_player_id: bytes_of(player(to)),
        ..Default::default()
    };
    let received = event::FundsReceived { transaction_id, asset, amount, from_player_id: bytes_of(player(from)), ..Default::default() };
    vec![(player(from), Data::FundsSent(sent)), (player(to), Data::FundsReceived(received))]
}

pub(crate) fn held(owner: u8, hold: u8, amount: i64) -> (Uuid, Data) {
    let held = event::HoldPlaced { hold_id: bytes_of(id(hold)), asset: Asset::Coin.into(), amount, ..Default::default() };
    (player(owner), Data::HoldPlaced(held))
}

pub(crate) fn captured(owner: u8, to: u8, hold: u8, transaction: u8, (held_amount, captured_amount): (i64, i64)) -> Vec<(Uuid, Data)> {
    let (hold_id, transaction_id, asset) = (bytes_of(id(hold)), bytes_of(id(transaction)), Asset::Coin.into());
    let out = event::HoldCaptured {
        hold_id: hold_id.clone(),
        transaction_id: transaction_id.clone(),
        asset,
        held_amount,
        captured_amount,
        to: Some(hold_captured::To::ToPlayerId(bytes_of(player(to)))),
    };
    let from_player_id = bytes_of(player(owner));
    let came = event::CaptureReceived { transaction_id, hold_id, asset, amount: captured_amount, from_player_id };
    vec![(player(owner), Data::HoldCaptured(out)), (player(to), Data::CaptureReceived(came))]
}

pub(crate) fn hold_expired(owner: u8, hold: u8, amount: i64) -> (Uuid, Data) {
    let expired = event::HoldExpired { hold_id: bytes_of(id(hold)), asset: Asset::Coin.into(), amount };
    (player(owner), Data::HoldExpired(expired))
}

pub(crate) fn sword(item: u8, hop: u64) -> Option<ItemPortion> {
    Some(ItemPortion { item_type: SWORD.to_owned(), what: Some(What::Unique(UniqueItem { item_id: bytes_of(id(item)), hop })) })
}

pub(crate) fn arrows(quantity: i64) -> Option<ItemPortion> {
    Some(ItemPortion { item_type: ARROW.to_owned(), what: Some(What::Quantity(quantity)) })
}

pub(crate) fn granted(owner: u8, portion: Option<ItemPortion>) -> (Uuid, Data) {
    (player(owner), Data::ItemGranted(event::ItemGranted { portion, reason: String::new() }))
}

pub(crate) fn reserved(owner: u8, reservation: u8, portion: Option<ItemPortion>) -> (Uuid, Data) {
    let reserved = event::ItemReserved { reservation_id: bytes_of(id(reservation)), portion, ..Default::default() };
    (player(owner), Data::ItemReserved(reserved))
}

pub(crate) fn released(owner: u8, reservation: u8, portion: Option<ItemPortion>) -> (Uuid, Data) {
    (player(owner), Data::ReservationReleased(event::ReservationReleased { reservation_id: bytes_of(id(reservation)), portion }))
}

pub(crate) fn moved(from: u8, to: u8, transfer: u8, reservation: Option<u8>, portion: &Option<ItemPortion>) -> Vec<(Uuid, Data)> {
    let transfer_id = bytes_of(id(transfer));
    let sent = event::ItemSent {
        transfer_id: transfer_id.clone(),
        portion: portion.clone(),
        to_player_id: bytes_of(player(to)),
        reservation_id: reservation.map(|number| bytes_of(id(number))).unwrap_or_default(),
    };
    let received = event::ItemReceived { transfer_id, portion: portion.clone(), from_player_id: bytes_of(player(from)) };
    vec![(player(from), Data::ItemSent(sent)), (player(to), Data::ItemReceived(received))]
}

pub(crate) fn consumed(owner: u8, portion: Option<ItemPortion>) -> (Uuid, Data) {
    (player(owner), Data::ItemConsumed(event::ItemConsumed { portion, reason: String::new() }))
}

/// Commands of the good run that tests change.
pub(crate) struct Marks {
    pub(crate) grant: Made,
    pub(crate) transfer: Made,
    pub(crate) refused: Made,
    /// The second send of `grant`.
    pub(crate) again: usize,
}

/// Two players with money and items, with every kind of event, a refusal, a repetition, and a retry after an unknown outcome.
pub(crate) fn good_world() -> (World, Marks) {
    let mut world = World::new();
    for owner in [1, 2] {
        world.apply(Method::OpenWallet, At::Wallet, vec![opened(owner)]);
    }
    let grant = world.apply(Method::GrantFunds, At::Wallet, vec![minted(1, 101, 100)]);
    world.apply(Method::GrantFunds, At::Wallet, vec![minted(2, 102, 100)]);
    let transfer_made = world.apply(Method::TransferFunds, At::Wallet, transfer(1, 2, 103, 30));
    world.apply(Method::BurnFunds, At::Wallet, vec![burned(2, 104, 5)]);
    world.apply(Method::PlaceHold, At::Wallet, vec![held(1, 51, 40)]);
    world.apply(Method::CaptureHold, At::Wallet, captured(1, 2, 51, 105, (40, 25)));
    world.apply(Method::PlaceHold, At::Wallet, vec![held(1, 52, 10)]);
    expire_hold(&mut world, 1, 52, 10);
    let again = world.again(&grant, Purpose::Again);
    let refused = world.refuse(Method::BurnFunds, At::Wallet, "INSUFFICIENT_FUNDS");

    // The first answer is lost, and the retry finds the work done.
    let retried = world.send(Method::TransferFunds, Answer::Unknown { code: Code::DeadlineExceeded, reason: String::new() });
    let position = world.append(At::Wallet, retried.key, retried.command, transfer(2, 1, 106, 1));
    world.remember(At::Wallet, &retried, &position);
    world.again(&retried, Purpose::Retry);

    world.apply(Method::GrantItem, At::Inventory, vec![granted(1, sword(7, 1))]);
    world.apply(Method::GrantItem, At::Inventory, vec![granted(1, sword(8, 1))]);
    world.apply(Method::TransferItem, At::Inventory, moved(1, 2, 61, None, &sword(7, 2)));
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(2, 71, sword(7, 2))]);
    world.apply(Method::ReleaseReservation, At::Inventory, vec![released(2, 71, sword(7, 2))]);
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(2, 72, sword(7, 2))]);
    world.apply(Method::TransferItem, At::Inventory, moved(2, 1, 62, Some(72), &sword(7, 3)));
    world.apply(Method::ConsumeItem, At::Inventory, vec![consumed(1, sword(8, 2))]);
    world.apply(Method::GrantItem, At::Inventory, vec![granted(1, arrows(20))]);
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(1, 73, arrows(5))]);
    world.apply(Method::TransferItem, At::Inventory, moved(1, 2, 63, Some(73), &arrows(5)));
    world.apply(Method::ConsumeItem, At::Inventory, vec![consumed(2, arrows(2))]);
    world.read_wallet(player(1));
    world.read_wallet(player(1));
    (world, Marks { grant, transfer: transfer_made, refused, again })
}

/// A timer's command: no client has sent it.
fn expire_hold(world: &mut World, owner: u8, hold: u8, amount: i64) {
    let key = world.new_key();
    let scope = Uuid::from_bytes([9; 16]);
    let command = idempo_checker::ids::command(key, scope);
    world.append(At::Wallet, key, command, vec![hold_expired(owner, hold, amount)]);
    let row = idempo_checker::facts::KeyRow { key, scope, is_refused: false, reply: bytes::Bytes::new() };
    world.store(At::Wallet).keys.push(row);
}

pub(crate) fn good() -> Evidence {
    good_world().0.finish()
}

#[test]
fn a_good_run_passes() {
    passes(&good());
}

#[test]
fn an_unknown_outcome_may_have_settled_either_way() {
    let (mut world, _) = good_world();
    let unknown = || Answer::Unknown { code: Code::Unavailable, reason: String::new() };
    let done = world.send(Method::TransferFunds, unknown());
    let position = world.append(At::Wallet, done.key, done.command, transfer(1, 2, 120, 1));
    world.remember(At::Wallet, &done, &position);
    world.send(Method::TransferFunds, unknown());
    let evidence = world.finish();
    let rules = idempo_checker::Rules { clients_gave_up: true, ..crate::world::rules() };
    let report = idempo_checker::check(&evidence, &rules);
    assert!(report.holds(), "{report}");
}

#[test]
fn commands_that_were_under_way_at_the_same_moment_may_come_in_any_order() {
    let (mut world, _) = good_world();
    let first = world.apply(Method::GrantFunds, At::Wallet, vec![minted(1, 120, 5)]);
    let second = world.apply(Method::GrantFunds, At::Wallet, vec![minted(1, 121, 5)]);
    let mut evidence = world.finish();
    // The later version was sent earlier, and answered after the other one was sent.
    let invoked_us = evidence.history.attempts[first.attempt].invoked_us;
    evidence.history.attempts[second.attempt].invoked_us = invoked_us - 50;
    passes(&evidence);
}

#[test]
fn duplicates_in_kafka_are_fine_anywhere_after_the_first_occurrence() {
    let mut evidence = good();
    let topic = &mut evidence.topics[0];
    let partition = topic.records[0].partition;
    let repeated: Vec<_> = topic.records.iter().filter(|record| record.partition == partition).cloned().collect();
    for mut record in repeated {
        record.offset += 1_000;
        topic.records.push(record);
    }
    topic.records.sort_by_key(|record| (record.partition, record.offset));
    evidence.view = Some(crate::world::view_of(&evidence.topics[0]));
    passes(&evidence);
}

#[test]
fn a_twin_may_be_answered_first_and_reads_at_the_same_moment_have_no_order() {
    let (mut world, marks) = good_world();
    let twin = world.again(&marks.grant, Purpose::Twin);
    let first = world.history.attempts[marks.grant.attempt].clone();
    // Both were under way at once, and the second one was the one that did it.
    world.history.attempts[twin].invoked_us = first.invoked_us;
    world.history.attempts[twin].settled_us = first.settled_us;
    let answers = (world.history.attempts[marks.grant.attempt].answer.clone(), world.history.attempts[twin].answer.clone());
    (world.history.attempts[twin].answer, world.history.attempts[marks.grant.attempt].answer) = answers;
    // It was asked for before the last one was answered, and shows less.
    let last = world.history.reads[1].clone();
    let overlapping = Read { mark: 1, floor: 1, client: 5, ..last.clone() };
    world.history.reads.extend([Read { client: 5, ..last }, overlapping]);
    passes(&world.finish());
}

#[test]
fn what_was_dumped_earlier_is_a_part_of_what_is_there_at_the_end() {
    let mut evidence = good();
    let mut topic = evidence.topics[0].clone();
    let mut left: std::collections::HashMap<i32, i64> = std::collections::HashMap::new();
    topic.records.retain(|record| {
        let count = left.entry(record.partition).or_default();
        *count += 1;
        *count <= 3
    });
    evidence.earlier_topics.push(topic);
    let mut store = evidence.stores[0].clone();
    store.events.truncate(4);
    evidence.earlier_stores.push(store);
    passes(&evidence);
}

//! What is planned is well formed: tests over every kind of command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use idempo_checker::history::Expected;
use idempo_checker::method::Method;
use idempo_clock::ManualClock;
use idempo_ids::{PlayerId, Uuid};
use idempo_proto::event::v1::Asset;
use jiff::Timestamp;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost_types::FileDescriptorSet;

use super::client::{MOVES, plan_move};
use super::dice::Dice;
use super::planned::Planned;
use super::world::{OpenHold, Piece, Player, Posted, ReservedQuantity, ResolvedAs, Shelf, Stack, World};

/// How often each kind of command is planned.
const TRIES: usize = 300;

fn piece(player: usize, item_id: u8, weapon: bool, reservation: Option<String>, equipped: bool) -> Piece {
    Piece { player, item_id: Uuid::from_bytes([item_id; 16]).to_string(), weapon, hop: 1, reservation, equipped }
}

/// A world in which everything is possible.
fn world() -> World {
    let id = |last: u8| PlayerId::new(Uuid::from_bytes([last; 16]));
    let reservation = |last: u8| format!("players/{}/reservations/{}", id(1), Uuid::from_bytes([last; 16]));
    let hold = |last: u8| format!("wallets/{}/holds/{}", id(1), Uuid::from_bytes([last; 16]));
    World {
        players: (1..=3).map(|last| Player { id: id(last), available: [10_000, 10_000] }).collect(),
        everyone: (1..=20).map(id).collect(),
        shelf: Arc::new(Shelf { weapons: vec!["sword".to_owned()], trinkets: vec!["ring".to_owned()], stacks: vec!["arrow".to_owned()] }),
        holds: vec![OpenHold { player: 0, name: hold(50), amount: 20 }],
        resolved_holds: vec![(hold(51), ResolvedAs::Captured), (hold(52), ResolvedAs::Released)],
        transactions: vec![Posted { player: 0, transaction_id: Uuid::from_bytes([60; 16]).to_string(), asset: Asset::Coin, change: 5 }],
        reversed: vec![Uuid::from_bytes([61; 16]).to_string()],
        pieces: vec![
            piece(0, 70, true, None, false),
            piece(1, 71, false, None, false),
            piece(0, 72, true, Some(reservation(80)), false),
            piece(2, 73, true, None, true),
        ],
        stacks: vec![Stack { player: 0, item_type: "arrow".to_owned(), free: 30 }],
        reserved: vec![ReservedQuantity { player: 0, name: reservation(81), item_type: "arrow".to_owned(), quantity: 4 }],
        gone: vec![format!("players/{}/items/{}", id(1), Uuid::from_bytes([74; 16]))],
    }
}

fn every_plan() -> Vec<Planned> {
    let world = world();
    let mut dice = Dice::new(7, 1, ManualClock::new(Timestamp::from_second(1_700_000_000).expect("in range")));
    let mut plans = Vec::new();
    for (next, _) in MOVES {
        let planned: Vec<Planned> = (0..TRIES).filter_map(|_| plan_move(&world, &mut dice, 0, *next)).collect();
        assert!(!planned.is_empty(), "{next:?} is possible");
        plans.extend(planned);
    }
    plans
}

/// The bytes of each top-level field, by number.
fn fields(message: &Bytes) -> BTreeMap<u32, Vec<u8>> {
    let mut rest = message.clone();
    let mut fields: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).expect("a message");
        let before = rest.clone();
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).expect("a message");
        fields.entry(number).or_default().extend_from_slice(&before[..before.len() - rest.len()]);
    }
    fields
}

/// The name of a field of a method's request.
fn field_name(set: &FileDescriptorSet, method: Method, number: u32) -> String {
    let request = format!("{}Request", method.name());
    let message = set.file.iter().flat_map(|file| &file.message_type).find(|message| message.name() == request).expect("a request");
    let field = message.field.iter().find(|field| u32::try_from(field.number()) == Ok(number)).expect("a field");
    field.name().to_owned()
}

#[test]
fn a_changed_request_differs_in_the_field_it_says_and_in_no_other() {
    let set: FileDescriptorSet = prost::Message::decode(idempo_proto::DESCRIPTOR_SET).expect("the built-in descriptors");
    for planned in every_plan() {
        let Some((changed, field)) = planned.change else { continue };
        let (first, second) = (fields(&planned.request), fields(&changed));
        let numbers: BTreeSet<u32> = first.keys().chain(second.keys()).copied().collect();
        let differing: Vec<String> = numbers
            .into_iter()
            .filter(|number| first.get(number) != second.get(number))
            .map(|number| field_name(&set, planned.method, number))
            .collect();
        assert_eq!(differing, vec![field.to_owned()], "{:?} {:?}", planned.method, planned.expected);
    }
}

#[test]
fn every_request_carries_its_key_and_only_those_without_one_don_t() {
    let mut keys = BTreeSet::new();
    for planned in every_plan() {
        let request_id = fields(&planned.request).remove(&1).map(|field| String::from_utf8_lossy(&field[1..]).into_owned());
        assert_eq!(request_id, planned.key.map(|key| key.to_string()), "{:?}", planned.method);
        assert!(planned.key.is_some() || planned.expected == Expected::Invalid("request_id".into()));
        assert!(planned.key.is_none_or(|key| keys.insert(key)), "a key is used twice");
    }
}

#[test]
fn every_way_to_fail_is_planned() {
    let reasons: BTreeSet<String> = every_plan()
        .iter()
        .filter(|planned| planned.expected != Expected::Applied)
        .map(|planned| format!("{:?}", planned.expected))
        .collect();
    for reason in ["INSUFFICIENT_FUNDS", "HOLD_ALREADY_CAPTURED", "NOT_RESOURCE_OWNER", "ETAG_MISMATCH", "ITEM_RESERVED", "ITEM_EQUIPPED"] {
        assert!(reasons.contains(&format!("{:?}", Expected::Refused((*reason).into()))), "{reason}");
    }
    for field in ["request_id", "amount", "to_wallet", "ttl_ms", "what", "stack.quantity", "reservation", "item_type", "to_player"] {
        assert!(reasons.contains(&format!("{:?}", Expected::Invalid((*field).into()))), "{field}");
    }
}

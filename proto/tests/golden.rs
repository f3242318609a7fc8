//! The golden bytes in `schemas/golden/`: one file for each event type and version, named by its number, with the envelope as hex.
//!
//! A new event gets its file by running this test once with `IDEMPO_WRITE_GOLDEN=1`, which adds missing files and changes none. A file is never
//! edited: a changed encoding is a new version of the event, with a new number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::hold_captured::To;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::event::v1::*;
use prost::Message as _;
use prost_types::Timestamp;

fn id(seed: u8) -> Bytes {
    Bytes::from(vec![seed; 16])
}

fn time() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_793_491_200, nanos: 123_456_000 })
}

fn unique() -> Option<ItemPortion> {
    let what = Some(What::Unique(UniqueItem { item_id: id(9), hop: 2 }));
    Some(ItemPortion { item_type: "iron_sword".to_owned(), what })
}

fn stack() -> Option<ItemPortion> {
    Some(ItemPortion { item_type: "iron_ore".to_owned(), what: Some(What::Quantity(64)) })
}

fn wallet_samples() -> Vec<(u32, &'static str, Data)> {
    let (asset, amount) = (Asset::Coin.into(), 1_250);
    let reason = || "match reward".to_owned();
    let (transaction_id, reverses_transaction_id) = (id(1), id(2));
    let minted = FundsMinted {
        transaction_id: id(1),
        asset,
        amount,
        from: SystemAccount::Mint.into(),
        reason: reason(),
        reverses_transaction_id: id(2),
    };
    let burned = FundsBurned {
        transaction_id: id(1),
        asset,
        amount,
        to: SystemAccount::Burn.into(),
        reason: reason(),
        reverses_transaction_id: id(2),
    };
    let sent = FundsSent { transaction_id: id(1), asset, amount, to_player_id: id(3), reason: reason(), reverses_transaction_id: id(2) };
    let received = FundsReceived { transaction_id, asset, amount, from_player_id: id(3), reason: reason(), reverses_transaction_id };
    let placed =
        HoldPlaced { hold_id: id(4), asset: Asset::Stamp.into(), amount: 3, placed_at: time(), expires_at: time(), reason: reason() };
    let to = Some(To::ToPlayerId(id(3)));
    let captured = HoldCaptured { hold_id: id(4), transaction_id: id(1), asset, held_amount: 3, captured_amount: 2, to };
    let capture_received = CaptureReceived { transaction_id: id(1), hold_id: id(4), asset, amount: 2, from_player_id: id(5) };
    vec![
        (100, "wallet_opened", Data::WalletOpened(WalletOpened { player_id: id(5), opened_at: time() })),
        (101, "funds_minted", Data::FundsMinted(minted)),
        (102, "funds_burned", Data::FundsBurned(burned)),
        (103, "funds_sent", Data::FundsSent(sent)),
        (104, "funds_received", Data::FundsReceived(received)),
        (105, "hold_placed", Data::HoldPlaced(placed)),
        (106, "hold_captured", Data::HoldCaptured(captured)),
        (107, "hold_released", Data::HoldReleased(HoldReleased { hold_id: id(4), asset, amount })),
        (108, "hold_expired", Data::HoldExpired(HoldExpired { hold_id: id(4), asset, amount })),
        (109, "capture_received", Data::CaptureReceived(capture_received)),
    ]
}

fn inventory_samples() -> Vec<(u32, &'static str, Data)> {
    let created = ItemTypeCreated {
        item_type: "iron_sword".to_owned(),
        display_name: "Iron sword".to_owned(),
        kind: ItemKind::Unique.into(),
        rarity: Rarity::Common.into(),
        weapon_bonus: 5,
        equippable: true,
    };
    let reason = || "match reward".to_owned();
    let reserved = ItemReserved { reservation_id: id(6), portion: stack(), expires_at: time(), reason: reason() };
    let sent = ItemSent { transfer_id: id(7), portion: unique(), to_player_id: id(3), reservation_id: id(6) };
    vec![
        (200, "item_type_created", Data::ItemTypeCreated(created)),
        (201, "item_granted", Data::ItemGranted(ItemGranted { portion: unique(), reason: reason() })),
        (202, "item_reserved", Data::ItemReserved(reserved)),
        (203, "reservation_released", Data::ReservationReleased(ReservationReleased { reservation_id: id(6), portion: stack() })),
        (204, "reservation_expired", Data::ReservationExpired(ReservationExpired { reservation_id: id(6), portion: stack() })),
        (205, "item_sent", Data::ItemSent(sent)),
        (206, "item_received", Data::ItemReceived(ItemReceived { transfer_id: id(7), portion: unique(), from_player_id: id(5) })),
        (207, "item_consumed", Data::ItemConsumed(ItemConsumed { portion: unique(), reason: reason() })),
        (208, "item_equipped", Data::ItemEquipped(ItemEquipped { item_id: id(9), item_type: "iron_sword".to_owned() })),
        (209, "item_unequipped", Data::ItemUnequipped(ItemUnequipped { item_id: id(9) })),
    ]
}

fn envelope(data: Data) -> EventEnvelope {
    EventEnvelope {
        event_id: id(0xe1),
        stream_id: id(0xe2),
        version: 42,
        partition_key: id(0xe3),
        decided_at: time(),
        command_id: id(0xe4),
        correlation_id: id(0xe5),
        causation_id: id(0xe6),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        data: Some(data),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/golden")
}

fn hex(bytes: &[u8]) -> String {
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let text = text.trim_end();
    assert!(text.len().is_multiple_of(2));
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The fields of the envelope's `data`, by the descriptor set.
fn declared() -> BTreeMap<u32, String> {
    let set = prost_types::FileDescriptorSet::decode(idempo_proto::DESCRIPTOR_SET).unwrap();
    let message = set.file.iter().flat_map(|file| &file.message_type).find(|message| message.name() == "EventEnvelope").unwrap();
    let fields = message.field.iter().filter(|field| field.oneof_index.is_some());
    fields.map(|field| (field.number().unsigned_abs(), field.name().to_owned())).collect()
}

#[test]
fn every_event_has_golden_bytes_that_decode_to_what_they_meant() {
    let samples: Vec<_> = wallet_samples().into_iter().chain(inventory_samples()).collect();
    let sampled: BTreeMap<u32, String> = samples.iter().map(|(number, name, _)| (*number, (*name).to_owned())).collect();
    assert_eq!(sampled, declared(), "an event without a sample here");
    for (number, name, data) in samples {
        let path = folder().join(format!("{number}_{name}.hex"));
        let envelope = envelope(data);
        if std::env::var_os("IDEMPO_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, hex(&envelope.encode_to_vec())).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let decoded = EventEnvelope::decode(&*from_hex(&golden)).unwrap();
        assert_eq!(decoded, envelope, "{name} no longer means what it meant");
        assert_eq!(hex(&envelope.encode_to_vec()), golden, "{name} is no longer encoded as it was");
    }
}

#[test]
fn no_golden_file_is_left_without_its_event() {
    let declared = declared();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some((number, rest)) = name.split_once('_') else { continue };
        let event = declared.get(&number.parse().unwrap()).unwrap_or_else(|| panic!("{name}: its event is gone"));
        assert_eq!(rest, format!("{event}.hex"));
    }
}

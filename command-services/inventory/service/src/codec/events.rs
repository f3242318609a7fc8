//! Events of inventories as they are stored and sent.

use bytes::Bytes;
use idempo_decider::Timestamp;
use idempo_event_store::DecodeError;
use idempo_ids::{ItemId, PlayerId, ReservationId, TransferId, Uuid};
use idempo_inventory_domain::Reason;
use idempo_inventory_domain::inventory::Event;
use idempo_inventory_domain::item_type::ItemTypeId;
use idempo_inventory_domain::portion::{Portion, QUANTITY_MAX};
use idempo_proto::event::v1 as message;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_rpc::timestamp;

/// The event as it is stored.
pub(super) fn encode(event: &Event) -> Data {
    match event {
        Event::Granted { portion, reason } => {
            Data::ItemGranted(message::ItemGranted { portion: portion_of(portion), reason: reason.as_str().to_owned() })
        }
        Event::Reserved { reservation, portion, expires_at, reason } => Data::ItemReserved(message::ItemReserved {
            reservation_id: id(*reservation),
            portion: portion_of(portion),
            expires_at: Some(timestamp::to_proto(*expires_at)),
            reason: reason.as_str().to_owned(),
        }),
        Event::Released { reservation, portion } => {
            Data::ReservationReleased(message::ReservationReleased { reservation_id: id(*reservation), portion: portion_of(portion) })
        }
        Event::Expired { reservation, portion } => {
            Data::ReservationExpired(message::ReservationExpired { reservation_id: id(*reservation), portion: portion_of(portion) })
        }
        Event::Sent { transfer, portion, to, reservation } => Data::ItemSent(message::ItemSent {
            transfer_id: id(*transfer),
            portion: portion_of(portion),
            to_player_id: id(*to),
            reservation_id: reservation.map(id).unwrap_or_default(),
        }),
        Event::Received { transfer, portion, from } => Data::ItemReceived(message::ItemReceived {
            transfer_id: id(*transfer),
            portion: portion_of(portion),
            from_player_id: id(*from),
        }),
        Event::Consumed { portion, reason } => {
            Data::ItemConsumed(message::ItemConsumed { portion: portion_of(portion), reason: reason.as_str().to_owned() })
        }
        Event::Equipped { item, item_type } => {
            Data::ItemEquipped(message::ItemEquipped { item_id: id(*item), item_type: item_type.as_str().to_owned() })
        }
        Event::Unequipped { item } => Data::ItemUnequipped(message::ItemUnequipped { item_id: id(*item) }),
    }
}

/// The number of an event's field in `EventEnvelope.data`.
pub(super) const fn event_type(data: &Data) -> i16 {
    match data {
        Data::ItemTypeCreated(_) => 200,
        Data::ItemGranted(_) => 201,
        Data::ItemReserved(_) => 202,
        Data::ReservationReleased(_) => 203,
        Data::ReservationExpired(_) => 204,
        Data::ItemSent(_) => 205,
        Data::ItemReceived(_) => 206,
        Data::ItemConsumed(_) => 207,
        Data::ItemEquipped(_) => 208,
        Data::ItemUnequipped(_) => 209,
        // Neither an inventory's nor an item type's: never encoded here.
        _ => 0,
    }
}

/// A stored event.
pub(super) fn decode(data: Data) -> Result<Event, DecodeError> {
    let (name, decoded) = match data {
        Data::ItemGranted(event) => ("ItemGranted", granted(event)),
        Data::ItemReserved(event) => ("ItemReserved", reserved(event)),
        Data::ReservationReleased(event) => ("ReservationReleased", released(event)),
        Data::ReservationExpired(event) => ("ReservationExpired", expired(event)),
        Data::ItemSent(event) => ("ItemSent", sent(event)),
        Data::ItemReceived(event) => ("ItemReceived", received(event)),
        Data::ItemConsumed(event) => ("ItemConsumed", consumed(event)),
        Data::ItemEquipped(event) => ("ItemEquipped", equipped(&event)),
        Data::ItemUnequipped(event) => ("ItemUnequipped", unequipped(&event)),
        _ => ("EventEnvelope", Err("it is no event of an inventory")),
    };
    decoded.map_err(|problem| DecodeError { event_type: name, problem })
}

/// Why stored bytes are no event.
type Problem = &'static str;

fn granted(event: message::ItemGranted) -> Result<Event, Problem> {
    Ok(Event::Granted { portion: portion(event.portion)?, reason: reason(&event.reason)? })
}

fn reserved(event: message::ItemReserved) -> Result<Event, Problem> {
    Ok(Event::Reserved {
        reservation: ReservationId::new(uuid(&event.reservation_id)?),
        portion: portion(event.portion)?,
        expires_at: time(event.expires_at.as_ref())?,
        reason: reason(&event.reason)?,
    })
}

fn released(event: message::ReservationReleased) -> Result<Event, Problem> {
    Ok(Event::Released { reservation: ReservationId::new(uuid(&event.reservation_id)?), portion: portion(event.portion)? })
}

fn expired(event: message::ReservationExpired) -> Result<Event, Problem> {
    Ok(Event::Expired { reservation: ReservationId::new(uuid(&event.reservation_id)?), portion: portion(event.portion)? })
}

fn sent(event: message::ItemSent) -> Result<Event, Problem> {
    let reservation = if event.reservation_id.is_empty() { None } else { Some(ReservationId::new(uuid(&event.reservation_id)?)) };
    Ok(Event::Sent {
        transfer: TransferId::new(uuid(&event.transfer_id)?),
        portion: portion(event.portion)?,
        to: PlayerId::new(uuid(&event.to_player_id)?),
        reservation,
    })
}

fn received(event: message::ItemReceived) -> Result<Event, Problem> {
    Ok(Event::Received {
        transfer: TransferId::new(uuid(&event.transfer_id)?),
        portion: portion(event.portion)?,
        from: PlayerId::new(uuid(&event.from_player_id)?),
    })
}

fn consumed(event: message::ItemConsumed) -> Result<Event, Problem> {
    Ok(Event::Consumed { portion: portion(event.portion)?, reason: reason(&event.reason)? })
}

fn equipped(event: &message::ItemEquipped) -> Result<Event, Problem> {
    Ok(Event::Equipped { item: ItemId::new(uuid(&event.item_id)?), item_type: item_type(&event.item_type)? })
}

fn unequipped(event: &message::ItemUnequipped) -> Result<Event, Problem> {
    Ok(Event::Unequipped { item: ItemId::new(uuid(&event.item_id)?) })
}

fn id(id: impl Into<Uuid>) -> Bytes {
    Bytes::copy_from_slice(id.into().as_bytes())
}

fn portion_of(portion: &Portion) -> Option<message::ItemPortion> {
    let what = match portion {
        Portion::Unique { item, hop, .. } => message::item_portion::What::Unique(message::UniqueItem { item_id: id(*item), hop: *hop }),
        Portion::Stack { quantity, .. } => message::item_portion::What::Quantity(i64::from(*quantity)),
    };
    Some(message::ItemPortion { item_type: portion.item_type().as_str().to_owned(), what: Some(what) })
}

fn portion(portion: Option<message::ItemPortion>) -> Result<Portion, Problem> {
    let portion = portion.ok_or("it has no portion")?;
    let item_type = item_type(&portion.item_type)?;
    match portion.what {
        Some(message::item_portion::What::Unique(unique)) => {
            if unique.hop == 0 {
                return Err("its hop is 0");
            }
            Ok(Portion::Unique { item_type, item: ItemId::new(uuid(&unique.item_id)?), hop: unique.hop })
        }
        Some(message::item_portion::What::Quantity(quantity)) => {
            let quantity = u32::try_from(quantity).ok().filter(|quantity| (1..=QUANTITY_MAX).contains(quantity));
            Ok(Portion::Stack { item_type, quantity: quantity.ok_or("its quantity is out of bounds")? })
        }
        None => Err("its portion is empty"),
    }
}

fn item_type(text: &str) -> Result<ItemTypeId, Problem> {
    ItemTypeId::parse(text).ok_or("its item type is no slug")
}

fn uuid(bytes: &Bytes) -> Result<Uuid, Problem> {
    Uuid::from_slice(bytes).map_err(|_| "an id has not 16 bytes")
}

fn time(time: Option<&prost_types::Timestamp>) -> Result<Timestamp, Problem> {
    time.and_then(timestamp::from_proto).ok_or("a time is missing or out of range")
}

fn reason(text: &str) -> Result<Reason, Problem> {
    Reason::new(text).ok_or("its reason is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid_of(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn every_event() -> Vec<Event> {
        let item_type = ItemTypeId::parse("iron_sword").expect("a slug");
        let unique = Portion::Unique { item_type: item_type.clone(), item: ItemId::new(uuid_of(1)), hop: 3 };
        let stack = Portion::Stack { item_type: item_type.clone(), quantity: QUANTITY_MAX };
        let (reservation, transfer) = (ReservationId::new(uuid_of(2)), TransferId::new(uuid_of(3)));
        let (player, why) = (PlayerId::new(uuid_of(4)), Reason::new("why").expect("short"));
        let expires_at = Timestamp::from_microsecond(1_800_000_000_123_456).expect("a time");
        vec![
            Event::Granted { portion: unique.clone(), reason: why.clone() },
            Event::Granted { portion: stack.clone(), reason: Reason::default() },
            Event::Reserved { reservation, portion: stack.clone(), expires_at, reason: why.clone() },
            Event::Released { reservation, portion: stack.clone() },
            Event::Expired { reservation, portion: unique.clone() },
            Event::Sent { transfer, portion: unique.clone(), to: player, reservation: Some(reservation) },
            Event::Sent { transfer, portion: stack.clone(), to: player, reservation: None },
            Event::Received { transfer, portion: unique, from: player },
            Event::Consumed { portion: stack, reason: why },
            Event::Equipped { item: ItemId::new(uuid_of(1)), item_type },
            Event::Unequipped { item: ItemId::new(uuid_of(1)) },
        ]
    }

    #[test]
    fn every_event_survives_the_round_trip() {
        for event in every_event() {
            assert_eq!(decode(encode(&event)), Ok(event));
        }
    }

    #[test]
    fn an_events_number_is_that_of_its_field() {
        for event in every_event() {
            let data = encode(&event);
            let number = event_type(&data);
            let encoded = prost::Message::encode_to_vec(&message::EventEnvelope { data: Some(data), ..Default::default() });
            let (field, _) = prost::encoding::decode_key(&mut encoded.as_slice()).expect("a key");
            assert_eq!(u32::try_from(number), Ok(field), "{event:?}");
        }
    }

    /// `schemas/golden` has the bytes of every event that was ever shipped: those of this service are 200 to 299.
    #[test]
    fn every_shipped_event_is_read_and_stored_alike() {
        use crate::codec::item_type;
        use prost::Message as _;
        let mut seen = 0;
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../schemas/golden")).expect("the folder") {
            let path = file.expect("a file").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            if !name.starts_with('2') {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
            let bytes: Vec<u8> =
                digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).expect("two digits")).collect();
            let data = message::EventEnvelope::decode(bytes.as_slice()).expect("an envelope").data.expect("an event");
            assert!(name.starts_with(&event_type(&data).to_string()), "{name}");
            let again = match &data {
                Data::ItemTypeCreated(_) => item_type::encode(&item_type::decode(data.clone()).expect("an event of an item type")),
                _ => encode(&decode(data.clone()).expect("an event of an inventory")),
            };
            assert_eq!(again, data, "{name}");
            seen += 1;
        }
        assert!(seen >= 10);
    }

    #[test]
    fn what_is_no_event_of_an_inventory_is_refused() {
        let foreign = Data::ItemTypeCreated(message::ItemTypeCreated::default());
        let without_portion = Data::ItemGranted(message::ItemGranted::default());
        let short_id = Data::ItemUnequipped(message::ItemUnequipped { item_id: Bytes::from_static(b"short") });
        let portion = message::ItemPortion { item_type: "arrow".to_owned(), what: Some(message::item_portion::What::Quantity(0)) };
        let nothing = Data::ItemConsumed(message::ItemConsumed { portion: Some(portion), reason: String::new() });
        for data in [foreign, without_portion, short_id, nothing] {
            assert!(decode(data.clone()).is_err(), "{data:?}");
        }
    }
}

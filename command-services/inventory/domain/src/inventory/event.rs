//! What can happen to an inventory. Each event is on the stream of one inventory.

use idempo_decider::{Reason, Timestamp};
use idempo_ids::{ItemId, PlayerId, ReservationId, TransferId};

use crate::item_type::ItemTypeId;
use crate::portion::Portion;

/// What happened to one inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An item or a quantity was minted into this inventory.
    Granted {
        /// What was granted.
        portion: Portion,
        /// Why.
        reason: Reason,
    },
    /// An item or a quantity was reserved.
    Reserved {
        /// The reservation.
        reservation: ReservationId,
        /// What was reserved.
        portion: Portion,
        /// When it ends by itself.
        expires_at: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// A reservation was released.
    Released {
        /// The reservation.
        reservation: ReservationId,
        /// What was reserved.
        portion: Portion,
    },
    /// A reservation reached the end of its time to live.
    Expired {
        /// The reservation.
        reservation: ReservationId,
        /// What was reserved.
        portion: Portion,
    },
    /// An item or a quantity left this inventory. The other leg is [`Event::Received`].
    Sent {
        /// The transfer, the same on both legs.
        transfer: TransferId,
        /// What was sent.
        portion: Portion,
        /// The receiver.
        to: PlayerId,
        /// The reservation that this transfer fulfilled.
        reservation: Option<ReservationId>,
    },
    /// An item or a quantity reached this inventory.
    Received {
        /// The transfer, the same on both legs.
        transfer: TransferId,
        /// What was received.
        portion: Portion,
        /// The sender.
        from: PlayerId,
    },
    /// An item or a quantity was destroyed by use.
    Consumed {
        /// What was consumed.
        portion: Portion,
        /// Why.
        reason: Reason,
    },
    /// A weapon was equipped. What was equipped before is put away by the same event.
    Equipped {
        /// The weapon.
        item: ItemId,
        /// Its type.
        item_type: ItemTypeId,
    },
    /// The equipped weapon was put away.
    Unequipped {
        /// The weapon.
        item: ItemId,
    },
}

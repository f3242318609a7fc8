//! What an inventory event is about.

use idempo_ids::ItemId;

use crate::item_type::ItemTypeId;

/// The most pieces that one command moves and one stack holds.
pub const QUANTITY_MAX: u32 = 1_000_000_000;

/// One unique item at one moment of its history, or a quantity of a stackable type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Portion {
    /// One unique item.
    Unique {
        /// Its type.
        item_type: ItemTypeId,
        /// The item.
        item: ItemId,
        /// The changes of ownership up to and including the event that carries this: 1 for the mint, then +1 for each change of owner and
        /// for the burn. Both legs of a transfer carry the same number.
        hop: u64,
    },
    /// A quantity of a stackable type.
    Stack {
        /// The type.
        item_type: ItemTypeId,
        /// How many, 1 to [`QUANTITY_MAX`].
        quantity: u32,
    },
}

impl Portion {
    /// Its type.
    #[must_use]
    pub const fn item_type(&self) -> &ItemTypeId {
        match self {
            Self::Unique { item_type, .. } | Self::Stack { item_type, .. } => item_type,
        }
    }

    /// How many pieces it is: 1 for a unique item.
    #[must_use]
    pub const fn quantity(&self) -> u32 {
        match self {
            Self::Unique { .. } => 1,
            Self::Stack { quantity, .. } => *quantity,
        }
    }

    /// The unique item, where it is one.
    #[must_use]
    pub const fn item(&self) -> Option<ItemId> {
        match self {
            Self::Unique { item, .. } => Some(*item),
            Self::Stack { .. } => None,
        }
    }

    /// The same after one more change of ownership.
    #[must_use]
    pub(crate) fn after_hop(&self) -> Self {
        let mut next = self.clone();
        if let Self::Unique { hop, .. } = &mut next {
            *hop = hop.saturating_add(1);
        }
        next
    }
}

//! What one player has. A stream begins with the first item; a player who never had one has an empty inventory.

mod command;
mod decide;
mod event;
mod rejection;
mod state;

pub use command::{Action, Command, ItemSelection, ReservationLookup, StackSelection, TransferSelection};
pub use decide::Rules;
pub use event::Event;
pub use rejection::{Capacity, Rejection, Resource};
pub use state::{Ending, Inventory, OwnedItem, Reservation, Shared, Stack};

/// The most unique items of one player.
pub const UNIQUE_ITEMS_MAX: usize = 10_000;

/// The most stacks of one player.
pub const STACKS_MAX: usize = 1_000;

/// The most reservations that one player has open at a time.
pub const OPEN_RESERVATIONS_MAX: usize = 1_000;

/// How many ended reservations, the latest, an inventory's state remembers.
pub const RECENT_MAX: usize = 256;

/// The shortest life of a reservation, in milliseconds.
pub const RESERVATION_TTL_MIN_MS: i64 = 1_000;

/// The longest life of a reservation, in milliseconds: 30 days.
pub const RESERVATION_TTL_MAX_MS: i64 = 2_592_000_000;

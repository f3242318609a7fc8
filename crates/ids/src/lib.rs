//! Typed ids, and how one id is derived from another.
//!
//! Every id is 16 bytes. Ids that name something made by a command are derived from the command's id, so that a command that is decided
//! twice makes the same things twice. A derived id keeps the time prefix of the id it comes from: index locality, and partitions by time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
pub use uuid::Uuid;

/// A text or byte string that is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID")
    }
}

impl std::error::Error for InvalidId {}

macro_rules! typed_id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The id with this value.
            #[must_use]
            pub const fn new(value: Uuid) -> Self {
                Self(value)
            }

            /// The id's value.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The id's 16 bytes.
            #[must_use]
            pub const fn bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these bytes.
            ///
            /// # Errors
            /// [`InvalidId`] where they are not 16.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidId> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| InvalidId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hyphenated(text).map(Self)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

typed_id! {
    /// A player.
    PlayerId;
    /// A stream of events.
    StreamId;
    /// An event.
    EventId;
    /// A command: an idempotency key in its scope.
    CommandId;
    /// What a chain of commands and events belongs to.
    CorrelationId;
    /// A double-entry transaction of the wallet.
    TransactionId;
    /// A hold on funds.
    HoldId;
    /// A unique item.
    ItemId;
    /// A reservation of an item or a quantity.
    ReservationId;
    /// A transfer of items.
    TransferId;
}

/// Parses the hyphenated form only, in either case: 36 characters. Other spellings of one id would be other resource names.
///
/// # Errors
/// [`InvalidId`] for everything else.
pub fn parse_hyphenated(text: &str) -> Result<Uuid, InvalidId> {
    if text.len() != 36 {
        return Err(InvalidId);
    }
    Uuid::try_parse(text).map_err(|_| InvalidId)
}

/// Derives the id of the `ordinal`-th thing called `label` that comes from `base`: the same each time.
///
/// The result has the layout of a UUIDv7. Its 48 bits of time are those of `base`, the rest is SHA-256 over base, label and ordinal.
#[must_use]
pub fn derive(base: Uuid, label: &str, ordinal: u32) -> Uuid {
    let digest = Sha256::new().chain_update(base.as_bytes()).chain_update(label.as_bytes()).chain_update(ordinal.to_be_bytes()).finalize();
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(base.as_bytes().iter().take(6).chain(digest.iter().take(10))) {
        *to = *from;
    }
    uuid::Builder::from_bytes(bytes).with_version(uuid::Version::SortRand).with_variant(uuid::Variant::RFC4122).into_uuid()
}

impl StreamId {
    /// The id of the stream of `category` that belongs to `owner`: the same each time, in every service.
    #[must_use]
    pub fn of(category: &str, owner: Uuid) -> Self {
        Self(derive(owner, category, 0))
    }
}

impl CommandId {
    /// The id of the command that is remembered under `key` in `scope` (a digest of caller and method).
    ///
    /// The scope is part of it: two callers may use one key, or one caller for two methods, and what those commands make must not have the
    /// same ids.
    #[must_use]
    pub fn of(key: Uuid, scope: &[u8; 16]) -> Self {
        let mut label = [0_u8; uuid::fmt::Simple::LENGTH];
        Self(derive(key, Uuid::from_bytes(*scope).simple().encode_lower(&mut label), 0))
    }
}

impl EventId {
    /// The id of the `ordinal`-th event of a command, from 0.
    #[must_use]
    pub fn of(command: CommandId, ordinal: u32) -> Self {
        Self(derive(command.uuid(), "event", ordinal))
    }
}

/// The milliseconds since 1970 in a UUIDv7, or `None` for any other kind of UUID.
#[must_use]
pub fn v7_millis(id: Uuid) -> Option<u64> {
    if id.get_version() != Some(uuid::Version::SortRand) || id.get_variant() != uuid::Variant::RFC4122 {
        return None;
    }
    Some(id.as_bytes().iter().take(6).fold(0, |millis, byte| (millis << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_is_stable_and_keeps_the_time_of_its_base() {
        let base = Uuid::try_parse("01890a5d-ac96-774b-bcce-b302099a8057").expect("a literal");
        let derived = derive(base, "event", 0);
        assert_eq!(derived, derive(base, "event", 0));
        assert_eq!(v7_millis(derived), v7_millis(base));
        assert_ne!(derived, derive(base, "event", 1));
        assert_ne!(derived, derive(base, "hold", 0));
    }

    #[test]
    fn a_key_is_another_command_in_another_scope() {
        let key = Uuid::try_parse("01890a5d-ac96-774b-bcce-b302099a8057").expect("a literal");
        assert_eq!(CommandId::of(key, &[1; 16]), CommandId::of(key, &[1; 16]));
        assert_ne!(CommandId::of(key, &[1; 16]), CommandId::of(key, &[2; 16]));
        assert_eq!(v7_millis(CommandId::of(key, &[1; 16]).uuid()), v7_millis(key));
    }

    #[test]
    fn only_the_hyphenated_form_names_an_id() {
        assert!(PlayerId::from_str("01890a5d-ac96-774b-bcce-b302099a8057").is_ok());
        assert!(PlayerId::from_str("01890a5dac96774bbcceb302099a8057").is_err());
        assert!(PlayerId::from_str("{01890a5d-ac96-774b-bcce-b302099a805}").is_err());
        assert!(PlayerId::from_str("").is_err());
    }
}

//! Item types: the kinds of items there are. Each is a stream of its own, with one event.

use std::fmt;
use std::sync::Arc;

use idempo_decider::{Context, Decider, Decision, States};
use idempo_ids::{Uuid, derive};

/// The most characters of an item type's id.
pub const ID_CHARS_MAX: usize = 64;
/// The most characters of an item type's display name.
pub const DISPLAY_NAME_CHARS_MAX: usize = 128;
/// The most that a weapon adds to damage.
pub const WEAPON_BONUS_MAX: u8 = 20;

/// An item type's id: 1 to 64 lower-case letters, digits and `_`. Cheap to clone: an inventory holds it once per item.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemTypeId(Arc<str>);

impl ItemTypeId {
    /// The id with this text, or `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        ((1..=ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The UUID that owns the type's stream: the same each time, in every service.
    #[must_use]
    pub fn owner(&self) -> Uuid {
        derive(Uuid::nil(), self.as_str(), 0)
    }
}

impl fmt::Display for ItemTypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ItemTypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemTypeId({})", self.0)
    }
}

/// Whether each piece of a type is told apart. Only what is told apart can be equipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// Every piece has an id and a history of its own.
    Unique {
        /// What it is as a weapon; `None` for what can't be equipped.
        weapon: Option<Weapon>,
    },
    /// Pieces are only counted.
    Stackable,
}

/// What can be equipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weapon {
    /// What it adds to damage, 0 to [`WEAPON_BONUS_MAX`].
    pub bonus: u8,
}

/// How rare a type is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rarity {
    /// Common.
    Common,
    /// Uncommon.
    Uncommon,
    /// Rare.
    Rare,
}

/// A kind of item. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemType {
    /// Its id.
    pub id: ItemTypeId,
    /// What players see, 1 to [`DISPLAY_NAME_CHARS_MAX`] characters.
    pub display_name: String,
    /// Unique or stackable.
    pub kind: ItemKind,
    /// How rare it is.
    pub rarity: Rarity,
}

/// What can be asked of an item type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Creates it.
    Create(ItemType),
}

/// What can happen to an item type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was created.
    Created(ItemType),
}

/// Why a command on an item type is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// There is a type with this id. It may differ from what was asked for.
    AlreadyExists,
}

/// The rules of item types.
#[derive(Debug, Clone, Copy)]
pub struct Rules;

impl Decider for Rules {
    type State = Option<ItemType>;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(states: States<'_, Self::State>, command: &Command, _context: &Context) -> Result<Decision<Event>, Rejection> {
        let Command::Create(item_type) = command;
        match states.primary() {
            None => Ok(Decision::one(Event::Created(item_type.clone()))),
            Some(_) => Err(Rejection::AlreadyExists),
        }
    }

    fn evolve(state: &mut Self::State, event: &Event) {
        let Event::Created(item_type) = event;
        *state = Some(item_type.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_type_id_is_a_short_slug() {
        for text in ["a", "iron_sword_2", "9", &"x".repeat(64)] {
            assert_eq!(ItemTypeId::parse(text).map(|id| id.as_str().to_owned()), Some(text.to_owned()));
        }
        for text in ["", "Iron", "iron-sword", "iron sword", "é", &"x".repeat(65)] {
            assert_eq!(ItemTypeId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_item_types_owner_is_a_function_of_its_id() {
        let id = |text| ItemTypeId::parse(text).expect("a slug");
        assert_eq!(id("iron_sword").owner(), id("iron_sword").owner());
        assert_ne!(id("iron_sword").owner(), id("iron_swore").owner());
    }
}

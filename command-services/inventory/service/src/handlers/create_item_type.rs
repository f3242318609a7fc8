//! CreateItemType.

use idempo_inventory_domain::item_type::{DISPLAY_NAME_CHARS_MAX, ItemKind, ItemType, WEAPON_BONUS_MAX};
use idempo_proto::event::v1 as event;
use idempo_proto::inventory::v1 as message;
use idempo_proto::inventory::v1::{CreateItemTypeRequest, CreateItemTypeResponse};
use idempo_rpc::Violations;
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::{DOMAIN, kind_of, rarity_of};

const METHOD: &str = "idempo.inventory.v1.InventoryService/CreateItemType";

/// Creates an item type.
pub(crate) async fn create_item_type(
    handlers: &Handlers,
    request: Request<CreateItemTypeRequest>,
) -> Result<Response<CreateItemTypeResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let item_type = match &asked.item_type {
        Some(item_type) => checked(&mut violations, item_type),
        None => {
            violations.add("item_type", "is required");
            None
        }
    };
    let checked = violations.accept(DOMAIN, (item_type,));
    let (attempt, (item_type,)) = handlers.accept(attempt, checked).await?;
    handlers.create(attempt, item_type).await
}

fn checked(violations: &mut Violations, asked: &message::ItemType) -> Option<ItemType> {
    let id = fields::item_type(violations, "item_type.name", &asked.name);
    let display_name = violations.text("item_type.display_name", &asked.display_name, 1..=DISPLAY_NAME_CHARS_MAX);
    let kind = kind(violations, asked);
    let rarity = violations.enumeration::<event::Rarity>("item_type.rarity", asked.rarity).and_then(rarity_of);
    Some(ItemType { id: id?, display_name: display_name?.to_owned(), kind: kind?, rarity: rarity? })
}

/// The kind that three fields say together: only a unique type can be equipped, and only what can be equipped adds to damage.
fn kind(violations: &mut Violations, asked: &message::ItemType) -> Option<ItemKind> {
    let kind = violations.enumeration::<event::ItemKind>("item_type.kind", asked.kind);
    let bonus = violations.int("item_type.weapon_bonus", i64::from(asked.weapon_bonus), 0..=i64::from(WEAPON_BONUS_MAX));
    let (kind, _) = kind.zip(bonus)?;
    let can_be_equipped = !asked.equippable || kind == event::ItemKind::Unique;
    violations.check(can_be_equipped, "item_type.equippable", || "must be false for a type that is not unique".to_owned());
    let has_use = asked.weapon_bonus == 0 || asked.equippable;
    violations.check(has_use, "item_type.weapon_bonus", || "must be 0 for what can't be equipped".to_owned());
    kind_of(kind, asked.equippable, asked.weapon_bonus).ok()
}

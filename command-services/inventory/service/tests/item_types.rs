use idempo_proto::event::v1::{ItemKind, Rarity};
use idempo_proto::inventory::v1::{CreateItemTypeRequest, GetItemTypeRequest, ItemType, ListItemTypesRequest};
use tonic::Code;

use crate::support::{World, invalid, refused, stackable, unique, weapon};

fn create(world: &World, item_type: ItemType) -> CreateItemTypeRequest {
    CreateItemTypeRequest { request_id: world.key(), item_type: Some(item_type), ..Default::default() }
}

fn get(id: &str) -> GetItemTypeRequest {
    GetItemTypeRequest { name: format!("itemTypes/{id}") }
}

#[tokio::test]
async fn a_created_item_type_can_be_read_at_once() {
    let world = World::new().await;
    for item_type in [weapon("iron_sword"), unique("gem"), stackable("arrow_2")] {
        let created = world.client().create_item_type(create(&world, item_type.clone())).await.expect("created").into_inner();
        assert_eq!(created.item_type.as_ref(), Some(&item_type));
        assert!(!created.position.is_empty());
        let name = item_type.name.clone();
        let read = world.client().get_item_type(GetItemTypeRequest { name }).await.expect("found").into_inner();
        assert_eq!(read.item_type, Some(item_type));
    }
    world.stop().await;
}

#[tokio::test]
async fn an_item_type_is_created_once_and_never_changes() {
    let world = World::new().await;
    world.client().create_item_type(create(&world, weapon("sword"))).await.expect("created");
    for again in [weapon("sword"), stackable("sword")] {
        let answer = world.client().create_item_type(create(&world, again)).await;
        let metadata = refused(answer, Code::AlreadyExists, "ITEM_TYPE_ALREADY_EXISTS");
        assert_eq!(metadata.get("name").map(String::as_str), Some("itemTypes/sword"));
    }
    let read = world.client().get_item_type(get("sword")).await.expect("found").into_inner();
    assert_eq!(read.item_type, Some(weapon("sword")));
    world.stop().await;
}

#[tokio::test]
async fn an_unknown_item_type_is_not_found() {
    let world = World::new().await;
    refused(world.client().get_item_type(get("sword")).await, Code::NotFound, "ITEM_TYPE_NOT_FOUND");
    world.stop().await;
}

#[tokio::test]
async fn a_creation_that_is_only_checked_creates_nothing() {
    let world = World::new().await;
    let request = CreateItemTypeRequest { validate_only: true, ..create(&world, weapon("sword")) };
    let checked = world.client().create_item_type(request.clone()).await.expect("would be created").into_inner();
    assert_eq!(checked.item_type, Some(weapon("sword")));
    refused(world.client().get_item_type(get("sword")).await, Code::NotFound, "ITEM_TYPE_NOT_FOUND");
    let request = CreateItemTypeRequest { validate_only: false, ..request };
    world.client().create_item_type(request).await.expect("the key was not bound");
    world.stop().await;
}

#[tokio::test]
async fn every_bad_field_of_an_item_type_is_named() {
    let world = World::new().await;
    let good = weapon("sword");
    let long = "x".repeat(129);
    let bad: [(ItemType, &[&str]); 12] = [
        (ItemType { name: "itemTypes/Sword".to_owned(), ..good.clone() }, &["item_type.name"]),
        (ItemType { name: "sword".to_owned(), ..good.clone() }, &["item_type.name"]),
        (ItemType { name: format!("itemTypes/{}", "x".repeat(65)), ..good.clone() }, &["item_type.name"]),
        (ItemType { display_name: String::new(), ..good.clone() }, &["item_type.display_name"]),
        (ItemType { display_name: long, ..good.clone() }, &["item_type.display_name"]),
        (ItemType { display_name: "a\nb".to_owned(), ..good.clone() }, &["item_type.display_name"]),
        (ItemType { kind: 0, rarity: 0, ..good.clone() }, &["item_type.kind", "item_type.rarity"]),
        (ItemType { kind: 9, rarity: -1, ..good.clone() }, &["item_type.kind", "item_type.rarity"]),
        (ItemType { weapon_bonus: 21, ..good.clone() }, &["item_type.weapon_bonus"]),
        (ItemType { weapon_bonus: -1, ..good.clone() }, &["item_type.weapon_bonus"]),
        (ItemType { equippable: false, ..good.clone() }, &["item_type.weapon_bonus"]),
        (ItemType { kind: ItemKind::Stackable.into(), rarity: Rarity::Rare.into(), ..good }, &["item_type.equippable"]),
    ];
    for (item_type, fields) in bad {
        invalid(world.client().create_item_type(create(&world, item_type)).await, fields);
    }
    let nothing = CreateItemTypeRequest { request_id: world.key(), ..Default::default() };
    invalid(world.client().create_item_type(nothing).await, &["item_type"]);
    invalid(world.client().get_item_type(GetItemTypeRequest::default()).await, &["name"]);
    world.stop().await;
}

#[tokio::test]
async fn item_types_are_listed_by_id_page_by_page() {
    let world = World::new().await;
    let ids = ["a", "a_b", "a1", "b", "z", "_x", "9"];
    for id in ids {
        world.client().create_item_type(create(&world, unique(id))).await.expect("created");
    }
    let mut names = Vec::new();
    let mut request = ListItemTypesRequest { page_size: 3, ..Default::default() };
    let mut pages = 0;
    loop {
        let page = world.client().list_item_types(request.clone()).await.expect("a page").into_inner();
        names.extend(page.item_types.into_iter().map(|item_type| item_type.name));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let mut expected: Vec<String> = ids.iter().map(|id| format!("itemTypes/{id}")).collect();
    expected.sort_unstable();
    assert_eq!((names, pages), (expected, 3));
    let all = world.client().list_item_types(ListItemTypesRequest::default()).await.expect("a page").into_inner();
    assert_eq!((all.item_types.len(), all.next_page_token.as_str()), (ids.len(), ""));
    world.stop().await;
}

#[tokio::test]
async fn a_page_that_can_not_be_is_refused() {
    let world = World::new().await;
    for (page_size, page_token, field) in
        [(-1, "", "page_size"), (1_001, "", "page_size"), (1, "AAAA", "page_token"), (1, "?", "page_token")]
    {
        let request = ListItemTypesRequest { page_size, page_token: page_token.to_owned() };
        invalid(world.client().list_item_types(request).await, &[field]);
    }
    world.stop().await;
}

//! Items, through the public API: commands at the inventory service, reads at the projector.

use anyhow::{Context as _, Result};
use idempo_proto::inventory::v1 as api;
use idempo_tests::World;

/// The names of what a player has, with what every answer has to say about its freshness.
async fn listed(world: &World, player: &str, position: &str) -> Result<Vec<String>> {
    let answer = world.items(player, position).await?;
    let freshness = answer.freshness.context("every answer says how fresh it is")?;
    assert_eq!(freshness.generation, 1);
    assert!(freshness.lag_events >= 0 && freshness.lag_ms >= 0, "{freshness:?}");
    Ok(answer.items.into_iter().map(|item| item.name).collect())
}

pub(crate) async fn what_was_granted_and_transferred_is_listed_at_its_position(world: &mut World) -> Result<()> {
    let item_type = world.item_type().await?;
    let (from, to) = (world.player(), world.player());
    let (item, position) = world.item(&from, &item_type).await?;
    assert_eq!(listed(world, &from, &position).await?, std::slice::from_ref(&item));
    assert_eq!(listed(world, &to, "").await?, Vec::<String>::new());

    let moved = world.inventories()?.transfer_item(world.transfer_item(&from, &to, &item)).await?.into_inner();
    assert_eq!(listed(world, &to, &moved.position).await?, std::slice::from_ref(&moved.item));
    assert_eq!(listed(world, &from, &moved.position).await?, Vec::<String>::new());

    let (_, id) = moved.item.rsplit_once('/').context("a name")?;
    let parent = format!("items/{id}");
    let request = api::GetItemRequest { name: parent.clone(), min_position: moved.position.clone() };
    let found = world.queries()?.get_item(request).await?.into_inner().item.context("an item")?;
    assert_eq!((found.name, found.item_type, found.hop), (moved.item, item_type, 2));
    let request = api::ListItemEventsRequest { parent, min_position: moved.position, ..Default::default() };
    let history = world.queries()?.list_item_events(request).await?.into_inner().events;
    let history: Vec<(&str, &str)> = history.iter().map(|event| (event.event_type.as_str(), event.player.as_str())).collect();
    assert_eq!(history, [("ItemGranted", from.as_str()), ("ItemSent", from.as_str()), ("ItemReceived", to.as_str())]);
    Ok(())
}

//! Reads your writes: what a read with a position has to show, and what it showed.

use bytes::Bytes;
use idempo_checker::history::{Answer, Read, Word};
use idempo_checker::method::Method;
use idempo_checker::{ids, position};
use idempo_proto::inventory::v1::{GetItemRequest, GetItemResponse, ItemState};
use idempo_proto::wallet::v1::{GetWalletRequest, GetWalletResponse};
use prost::Message as _;

use super::planned::Look;
use super::recorder::{Reading, Recorder};
use super::world::World;

/// Reads what a command changed, with the command's position, and writes down what should have been there.
pub(super) async fn look(recorder: &mut Recorder, world: &World, look: Look, min_position: &str) {
    let read = match look {
        Look::Wallet(player) => wallet(recorder, world, player, min_position).await,
        Look::NewestItem => match world.pieces.last() {
            Some(piece) => own_item(recorder, world, &piece.item_id, min_position).await,
            None => return,
        },
        Look::Item(item_id) => own_item(recorder, world, &item_id, min_position).await,
        Look::Given(item_id, owner, hop) => {
            let name = format!("{owner}/items/{item_id}");
            item(recorder, &item_id, vec![("name".into(), name), ("hop".into(), hop.to_string())], hop, min_position).await
        }
    };
    recorder.history.reads.push(read);
}

async fn wallet(recorder: &Recorder, world: &World, player: usize, min_position: &str) -> Read {
    let name = world.wallet_name(player);
    let request = GetWalletRequest { name: name.clone(), as_of: None, min_position: min_position.to_owned() };
    let reading = recorder.read(Method::GetWallet, request.encode_to_vec().into()).await;
    let stream = ids::stream("wallet", world.player_id(player).uuid());
    let demanded = position::decode(min_position).unwrap_or_default();
    let mut read = reading.of(name.clone(), min_position);
    read.floor = demanded.iter().find(|(id, _)| *id == stream).map_or(u64::MAX, |(_, version)| *version);
    read.wanted = vec![("name".into(), name)];
    if let Some(wallet) = reply_of::<GetWalletResponse>(&reading).and_then(|response| response.wallet) {
        read.mark = wallet.etag.parse().unwrap_or_default();
        read.seen = Some(vec![("name".into(), wallet.name)]);
    }
    read
}

async fn own_item(recorder: &Recorder, world: &World, item_id: &str, min_position: &str) -> Read {
    let piece = world.piece_at(item_id).and_then(|at| world.pieces.get(at));
    let (wanted, hop) = piece.map_or_else(
        || (vec![("name".into(), "an item that the client knows".to_owned())], 0),
        |piece| {
            let state = if piece.reservation.is_some() { ItemState::Reserved } else { ItemState::Owned };
            let wanted = vec![
                ("name".into(), world.item_name(piece)),
                ("state".into(), state.as_str_name().to_owned()),
                ("hop".into(), piece.hop.to_string()),
                ("equipped".into(), piece.equipped.to_string()),
            ];
            (wanted, piece.hop)
        },
    );
    item(recorder, item_id, wanted, hop, min_position).await
}

async fn item(recorder: &Recorder, item_id: &str, wanted: Vec<(Word, String)>, floor: u64, min_position: &str) -> Read {
    let name = format!("items/{item_id}");
    let request = GetItemRequest { name: name.clone(), min_position: min_position.to_owned() };
    let reading = recorder.read(Method::GetItem, request.encode_to_vec().into()).await;
    let mut read = reading.of(name, min_position);
    read.floor = floor;
    if let Some(response) = reply_of::<GetItemResponse>(&reading) {
        read.lag_events = response.freshness.map(|freshness| freshness.lag_events);
        if let Some(item) = response.item {
            read.mark = u64::try_from(item.hop).unwrap_or_default();
            read.seen = Some(vec![
                ("state".into(), item.state().as_str_name().to_owned()),
                ("hop".into(), item.hop.to_string()),
                ("equipped".into(), item.equipped.to_string()),
                ("name".into(), item.name),
            ]);
        }
    }
    read.wanted = wanted;
    read
}

fn reply_of<M: prost::Message + Default>(reading: &Reading) -> Option<M> {
    match &reading.answer {
        Answer::Replied { reply, .. } => M::decode(Bytes::clone(reply)).ok(),
        _ => None,
    }
}

//! GetWallet.

use idempo_proto::wallet::v1::{GetWalletRequest, GetWalletResponse};
use idempo_rpc::{Violations, refusal};
use tonic::{Request, Response, Status};

use super::{Handlers, away, fields, wallet_not_found};
use crate::codec::DOMAIN;
use crate::queries;

/// Reads a wallet, now or as it was.
pub(crate) async fn get_wallet(handlers: &Handlers, request: Request<GetWalletRequest>) -> Result<Response<GetWalletResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let player = fields::wallet(&mut violations, "name", &asked.name);
    let as_of = violations.optional_timestamp("as_of", asked.as_of.as_ref());
    let position = violations.position("min_position", &asked.min_position);
    let (player, as_of, position) = violations.accept(DOMAIN, (player, as_of, position))?;
    let now = handlers.clock.now();
    let client = handlers.reader_at(&asked.min_position, &position).await?;
    let found = queries::wallet(&client, player, as_of).await.map_err(|error| away(&error))?;
    let (opened_at, wallet) = found.ok_or_else(|| wallet_not_found(player))?;
    match as_of {
        Some(as_of) if as_of < opened_at || as_of > now => Err(refusal::as_of_out_of_range(DOMAIN, opened_at, now).into_status()),
        _ => Ok(Response::new(GetWalletResponse { wallet: Some(wallet) })),
    }
}

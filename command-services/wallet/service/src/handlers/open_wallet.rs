//! OpenWallet.

use idempo_ids::PlayerId;
use idempo_proto::wallet::v1::{OpenWalletRequest, OpenWalletResponse};
use idempo_rpc::Violations;
use idempo_wallet_domain::{Action, Command};
use tonic::{Request, Response, Status};

use super::Handlers;
use super::mutation::Shared;
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.wallet.v1.WalletService/OpenWallet";

/// Opens a wallet.
pub(crate) async fn open_wallet(handlers: &Handlers, request: Request<OpenWalletRequest>) -> Result<Response<OpenWalletResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let player = violations.uuid("player_id", &asked.player_id).map(PlayerId::new);
    let checked = violations.accept(DOMAIN, (player,));
    let (attempt, (wallet,)) = handlers.accept(attempt, checked).await?;
    handlers.submit(attempt, Command { wallet, action: Action::Open }).await
}

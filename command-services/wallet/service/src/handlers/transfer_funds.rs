//! TransferFunds.

use idempo_proto::wallet::v1::{TransferFundsRequest, TransferFundsResponse};
use idempo_rpc::Violations;
use idempo_wallet_domain::{Action, Command};
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.wallet.v1.WalletService/TransferFunds";

/// Moves available funds from one wallet to another.
pub(crate) async fn transfer_funds(
    handlers: &Handlers,
    request: Request<TransferFundsRequest>,
) -> Result<Response<TransferFundsResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: &asked.etag, validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let wallet = fields::wallet(&mut violations, "from_wallet", &asked.from_wallet);
    let to = fields::other_wallet(&mut violations, "to_wallet", &asked.to_wallet, wallet);
    let asset = fields::asset(&mut violations, "asset", asked.asset);
    let amount = fields::amount(&mut violations, "amount", asked.amount);
    let reason = fields::reason(&mut violations, &asked.reason);
    let checked = violations.accept(DOMAIN, (wallet, to, asset, amount, reason));
    let (attempt, (wallet, to, asset, amount, reason)) = handlers.accept(attempt, checked).await?;
    handlers.submit(attempt, Command { wallet, action: Action::Transfer { to, asset, amount, reason } }).await
}

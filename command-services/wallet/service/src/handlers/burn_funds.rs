//! BurnFunds.

use idempo_proto::wallet::v1::{BurnFundsRequest, BurnFundsResponse};
use idempo_rpc::Violations;
use idempo_wallet_domain::{Action, Command};
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.wallet.v1.WalletService/BurnFunds";

/// Takes funds out of a wallet for good.
pub(crate) async fn burn_funds(handlers: &Handlers, request: Request<BurnFundsRequest>) -> Result<Response<BurnFundsResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: &asked.etag, validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let wallet = fields::wallet(&mut violations, "wallet", &asked.wallet);
    let asset = fields::asset(&mut violations, "asset", asked.asset);
    let amount = fields::amount(&mut violations, "amount", asked.amount);
    let reason = fields::reason(&mut violations, &asked.reason);
    let checked = violations.accept(DOMAIN, (wallet, asset, amount, reason));
    let (attempt, (wallet, asset, amount, reason)) = handlers.accept(attempt, checked).await?;
    handlers.submit(attempt, Command { wallet, action: Action::Burn { asset, amount, reason } }).await
}

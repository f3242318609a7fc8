//! PlaceHold.

use idempo_proto::wallet::v1::{PlaceHoldRequest, PlaceHoldResponse};
use idempo_rpc::Violations;
use idempo_wallet_domain::{Action, Command, HOLD_TTL_MAX_MS, HOLD_TTL_MIN_MS};
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.wallet.v1.WalletService/PlaceHold";

/// Puts available funds on hold.
pub(crate) async fn place_hold(handlers: &Handlers, request: Request<PlaceHoldRequest>) -> Result<Response<PlaceHoldResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: &asked.etag, validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let wallet = fields::wallet(&mut violations, "wallet", &asked.wallet);
    let asset = fields::asset(&mut violations, "asset", asked.asset);
    let amount = fields::amount(&mut violations, "amount", asked.amount);
    let ttl_ms = violations.int("ttl_ms", asked.ttl_ms, HOLD_TTL_MIN_MS..=HOLD_TTL_MAX_MS);
    let reason = fields::reason(&mut violations, &asked.reason);
    let checked = violations.accept(DOMAIN, (wallet, asset, amount, ttl_ms, reason));
    let (attempt, (wallet, asset, amount, ttl_ms, reason)) = handlers.accept(attempt, checked).await?;
    handlers.submit(attempt, Command { wallet, action: Action::PlaceHold { asset, amount, ttl_ms, reason } }).await
}

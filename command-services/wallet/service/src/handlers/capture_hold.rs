//! CaptureHold.

use idempo_proto::wallet::v1::{CaptureHoldRequest, CaptureHoldResponse};
use idempo_rpc::Violations;
use idempo_wallet_domain::{Action, Amount, Command};
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, away, fields};
use crate::codec::DOMAIN;
use crate::queries;

const METHOD: &str = "idempo.wallet.v1.WalletService/CaptureHold";

/// Captures a hold, wholly or in part.
pub(crate) async fn capture_hold(
    handlers: &Handlers,
    request: Request<CaptureHoldRequest>,
) -> Result<Response<CaptureHoldResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: &asked.etag, validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let hold = fields::hold(&mut violations, "hold", &asked.hold);
    let amount = amount(&mut violations, asked.amount);
    let to = fields::receiver(&mut violations, "to", &asked.to, hold.map(|(wallet, _)| wallet));
    let checked = violations.accept(DOMAIN, (hold, amount, to));
    let (attempt, ((wallet, hold), amount, to)) = handlers.accept(attempt, checked).await?;
    let client = handlers.reader().await?;
    let lookup = queries::hold_lookup(&client, wallet, hold).await.map_err(|error| away(&error))?;
    drop(client);
    handlers.submit(attempt, Command { wallet, action: Action::CaptureHold { hold, amount, to, lookup } }).await
}

/// An amount; 0 for all of it.
fn amount(violations: &mut Violations, value: i64) -> Option<Option<Amount>> {
    if value == 0 { Some(None) } else { fields::amount(violations, "amount", value).map(Some) }
}

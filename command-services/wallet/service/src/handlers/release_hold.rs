//! ReleaseHold.

use idempo_proto::wallet::v1::{ReleaseHoldRequest, ReleaseHoldResponse};
use idempo_rpc::Violations;
use idempo_wallet_domain::{Action, Command};
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, away, fields};
use crate::codec::DOMAIN;
use crate::queries;

const METHOD: &str = "idempo.wallet.v1.WalletService/ReleaseHold";

/// Releases a hold.
pub(crate) async fn release_hold(
    handlers: &Handlers,
    request: Request<ReleaseHoldRequest>,
) -> Result<Response<ReleaseHoldResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: &asked.etag, validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let hold = fields::hold(&mut violations, "hold", &asked.hold);
    let checked = violations.accept(DOMAIN, (hold,));
    let (attempt, ((wallet, hold),)) = handlers.accept(attempt, checked).await?;
    let client = handlers.reader().await?;
    let lookup = queries::hold_lookup(&client, wallet, hold).await.map_err(|error| away(&error))?;
    drop(client);
    handlers.submit(attempt, Command { wallet, action: Action::ReleaseHold { hold, lookup } }).await
}

//! ReverseTransaction.

use idempo_ids::TransactionId;
use idempo_proto::wallet::v1::{ReverseTransactionRequest, ReverseTransactionResponse, ShortfallPolicy};
use idempo_rpc::Violations;
use idempo_wallet_domain::{Command, Reversal, Shortfall};
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, away, fields};
use crate::codec::DOMAIN;
use crate::queries;

const METHOD: &str = "idempo.wallet.v1.WalletService/ReverseTransaction";

/// Posts a transaction's amount the other way.
pub(crate) async fn reverse_transaction(
    handlers: &Handlers,
    request: Request<ReverseTransactionRequest>,
) -> Result<Response<ReverseTransactionResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let transaction = violations.uuid("transaction_id", &asked.transaction_id).map(TransactionId::new);
    let shortfall = shortfall(&mut violations, asked.shortfall_policy);
    let reason = fields::reason(&mut violations, &asked.reason);
    let checked = violations.accept(DOMAIN, (transaction, shortfall, reason));
    let (attempt, (transaction, shortfall, reason)) = handlers.accept(attempt, checked).await?;
    let client = handlers.reader().await?;
    let lookup = queries::transaction_lookup(&client, transaction).await.map_err(|error| away(&error))?;
    drop(client);
    handlers.submit(attempt, Command::reverse(Reversal { transaction, lookup, shortfall, reason })).await
}

fn shortfall(violations: &mut Violations, value: i32) -> Option<Shortfall> {
    let policy = violations.optional_enumeration::<ShortfallPolicy>("shortfall_policy", value)?;
    Some(match policy {
        None | Some(ShortfallPolicy::Unspecified | ShortfallPolicy::Refuse) => Shortfall::Refuse,
        Some(ShortfallPolicy::Partial) => Shortfall::Partial,
    })
}

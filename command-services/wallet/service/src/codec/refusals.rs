//! A rejection as the answer that is stored under the command's key. CONVENTIONS: the code says what a caller can do, the reason what it was.

use idempo_ids::HoldId;
use idempo_rpc::refusal::not_found;
use idempo_rpc::status::{StatusBuilder, refusal as begin};
use idempo_wallet_domain::{Action, Asset, Command, OPEN_HOLDS_MAX, Rejection, Resolution, Side};
use tonic::Code;

use super::numbers::asset;
use super::{DOMAIN, hold_name, wallet_name};

/// The answer to a refused command.
pub(super) fn refusal(command: &Command, rejection: &Rejection) -> StatusBuilder {
    let wallet = wallet_name(command.wallet);
    match *rejection {
        Rejection::WalletAlreadyOpen => begin(Code::AlreadyExists, "WALLET_ALREADY_OPEN", DOMAIN, "the wallet is open already")
            .metadata("name", &wallet)
            .resource("wallet", wallet, "it was opened before"),
        Rejection::WalletNotFound(side) => not_found(DOMAIN, "WALLET_NOT_FOUND", "wallet", &wallet_of(command, side)),
        Rejection::InsufficientFunds { asset, available, required } => insufficient_funds(wallet, asset, available, required),
        Rejection::SelfTransfer => {
            begin(Code::InvalidArgument, "SELF_TRANSFER", DOMAIN, "payer and payee are the same wallet").metadata("wallet", wallet)
        }
        Rejection::HoldNotFound | Rejection::HoldResolved(_) | Rejection::HoldNotDue | Rejection::CaptureExceedsHold { .. } => {
            hold_refusal(command, rejection)
        }
        Rejection::TransactionNotFound => {
            let name = transaction_of(command);
            not_found(DOMAIN, "TRANSACTION_NOT_FOUND", "transaction", &name)
        }
        Rejection::TransactionAlreadyReversed => {
            failed(command, "TRANSACTION_ALREADY_REVERSED", "a transaction is reversed once, and this one was")
        }
        Rejection::TransactionNotReversible => failed(command, "TRANSACTION_NOT_REVERSIBLE", "this transaction is a reversal itself"),
        Rejection::BalanceLimit(side, of) => {
            let name = wallet_of(command, side);
            begin(Code::FailedPrecondition, "BALANCE_LIMIT", DOMAIN, "the balance would be above its limit")
                .metadata("asset", asset(of).as_str_name())
                .metadata("wallet", &name)
                .metadata("limit", i64::MAX)
                .precondition("BALANCE", name, "the balance would be above its limit")
        }
        Rejection::TooManyHolds => begin(Code::FailedPrecondition, "TOO_MANY_HOLDS", DOMAIN, "the wallet has too many open holds")
            .metadata("limit", OPEN_HOLDS_MAX)
            .precondition("HOLDS", wallet, format!("at most {OPEN_HOLDS_MAX} holds may be open")),
        Rejection::TtlOutOfRange => {
            let text = "is out of bounds";
            begin(Code::InvalidArgument, "INVALID_FIELD", DOMAIN, format!("ttl_ms {text}")).violation("ttl_ms", text)
        }
        Rejection::Outpaced => {
            begin(Code::Aborted, "WALLET_CHANGED", DOMAIN, "the wallet changed too often meanwhile; ask again with a new request_id")
                .metadata("wallet", wallet)
        }
    }
}

fn insufficient_funds(wallet: String, of: Asset, available: i64, required: i64) -> StatusBuilder {
    let name = asset(of).as_str_name();
    begin(Code::FailedPrecondition, "INSUFFICIENT_FUNDS", DOMAIN, format!("{available} of {required} {name} are available"))
        .metadata("asset", name)
        .metadata("available", available)
        .metadata("required", required)
        .precondition("BALANCE", wallet, format!("{available} of {required} {name} are available"))
}

fn hold_refusal(command: &Command, rejection: &Rejection) -> StatusBuilder {
    let name = hold_of(command).map_or_else(String::new, |hold| hold_name(command.wallet, hold));
    let (reason, text) = match rejection {
        Rejection::HoldResolved(Resolution::Captured) => ("HOLD_ALREADY_CAPTURED", "the hold was captured before"),
        Rejection::HoldResolved(Resolution::Released) => ("HOLD_ALREADY_RELEASED", "the hold was released before"),
        Rejection::HoldResolved(Resolution::Expired) => ("HOLD_EXPIRED", "the hold has expired"),
        Rejection::HoldNotDue => ("HOLD_NOT_DUE", "the hold has not reached the end of its life"),
        Rejection::CaptureExceedsHold { .. } => ("CAPTURE_EXCEEDS_HOLD", "more is to be captured than is held"),
        _ => return not_found(DOMAIN, "HOLD_NOT_FOUND", "hold", &name),
    };
    let answer = begin(Code::FailedPrecondition, reason, DOMAIN, text).metadata("hold", &name).precondition("HOLD", name, text);
    match rejection {
        Rejection::CaptureExceedsHold { held, requested } => answer.metadata("held", held.get()).metadata("requested", requested.get()),
        _ => answer,
    }
}

fn failed(command: &Command, reason: &str, text: &str) -> StatusBuilder {
    let name = transaction_of(command);
    begin(Code::FailedPrecondition, reason, DOMAIN, text).metadata("transaction_id", &name).precondition("TRANSACTION", name, text)
}

fn wallet_of(command: &Command, side: Side) -> String {
    match side {
        Side::Own => wallet_name(command.wallet),
        Side::Peer => wallet_name(command.peer().unwrap_or(command.wallet)),
    }
}

const fn hold_of(command: &Command) -> Option<HoldId> {
    match &command.action {
        Action::CaptureHold { hold, .. } | Action::ReleaseHold { hold, .. } | Action::ExpireHold { hold, .. } => Some(*hold),
        _ => None,
    }
}

fn transaction_of(command: &Command) -> String {
    match &command.action {
        Action::Reverse(reversal) => reversal.transaction.to_string(),
        _ => String::new(),
    }
}

//! The refusals that every service answers alike.

use tonic::Code;

use crate::descriptor;
use crate::status::{RETRY_AFTER, StatusBuilder, refusal};

/// A key was used before with another payload; `of` is the method or the full name of its request, `fields` the numbers that differ.
pub fn request_id_reused(domain: &str, of: &str, fields: &[u32]) -> StatusBuilder {
    let message = descriptor::request_of(of).unwrap_or(of);
    let names: Vec<String> = fields.iter().map(|number| descriptor::field_name(message, *number)).collect();
    let names = names.join(",");
    let text = format!("this request_id was used with another request; what differs: {names}");
    refusal(Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH", domain, text).metadata("field", names)
}

/// A key is older than the window in which new keys are taken, and nothing is stored under it.
pub fn request_id_expired(domain: &str) -> StatusBuilder {
    let text = "this request_id was not seen before and is older than 24 hours; look up what became of the request, or make a new one";
    refusal(Code::FailedPrecondition, "REQUEST_ID_EXPIRED", domain, text)
}

/// The resource is not at the version that the caller expects. The caller reads it again and decides anew; a client library does not.
pub fn etag_mismatch(domain: &str, current: u64) -> StatusBuilder {
    refusal(Code::Aborted, "ETAG_MISMATCH", domain, "the resource has changed since it was read").metadata("current_etag", current)
}

/// A read model did not reach the position `min_position` in time; `lag_ms` is how far it is behind.
pub fn projection_behind(domain: &str, projection: &str, position: &str, lag_ms: i64) -> StatusBuilder {
    refusal(Code::Unavailable, "PROJECTION_BEHIND", domain, "the read model has not reached min_position yet")
        .metadata("projection", projection)
        .metadata("position", position)
        .metadata("lag_ms", lag_ms)
        .retry_after(RETRY_AFTER)
}

/// A partition of a read model has stopped before `offset` and waits for a person, so `min_position` is not reached; `code` says what stopped it.
/// Trying again soon does not help.
pub fn projection_stopped(domain: &str, projection: &str, position: &str, (partition, offset, code): (i32, i64, &str)) -> StatusBuilder {
    let text = "the read model has not reached min_position, and a partition of it has stopped";
    refusal(Code::Unavailable, "PROJECTION_STOPPED", domain, text)
        .metadata("projection", projection)
        .metadata("position", position)
        .metadata("partition", partition)
        .metadata("offset", offset)
        .metadata("code", code)
}

/// What `min_position` asks for is of a key that has a dead letter, so it waits for people: `letter` names it. Trying again soon does not help.
pub fn key_parked(domain: &str, projection: &str, position: &str, letter: &str) -> StatusBuilder {
    let text = "what min_position asks for is parked behind a dead letter, which waits for people";
    refusal(Code::FailedPrecondition, "KEY_PARKED", domain, text)
        .metadata("projection", projection)
        .metadata("position", position)
        .metadata("dead_letter", letter)
        .precondition("DEAD_LETTER", letter, "neither replayed nor discarded")
}

/// There is no history at the time that was asked for.
pub fn as_of_out_of_range(domain: &str, oldest: jiff::Timestamp, newest: jiff::Timestamp) -> StatusBuilder {
    refusal(Code::OutOfRange, "AS_OF_OUT_OF_RANGE", domain, format!("there is history from {oldest} to {newest}"))
        .metadata("oldest", oldest)
        .metadata("newest", newest)
}

/// There is no resource of the type `kind` (such as `wallet`) with this name; `reason` is such as `WALLET_NOT_FOUND`.
pub fn not_found(domain: &str, reason: &str, kind: &str, name: &str) -> StatusBuilder {
    refusal(Code::NotFound, reason, domain, format!("there is no {kind} {name}")).metadata("name", name).resource(kind, name, "")
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn a_reused_key_names_the_fields_by_method_or_message() {
        for of in ["idempo.wallet.v1.WalletService/GrantFunds", "idempo.wallet.v1.GrantFundsRequest"] {
            let info = request_id_reused("wallet.idempo", of, &[4, 5]).into_status().get_details_error_info().expect("an ErrorInfo");
            assert_eq!(info.metadata.get("field").map(String::as_str), Some("amount,reason"));
        }
    }
}

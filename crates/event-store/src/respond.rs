//! From an outcome to the answer of an RPC.

use bytes::Bytes;
use prost::Message;
use tonic::{Response, Status};

pub use idempo_rpc::REPLAYED_METADATA;
use idempo_rpc::{refusal, status};

use crate::submission::{Error, Outcome};

/// The answer to an RPC. A replayed answer carries the metadata `idempo-replayed: true` and is otherwise equal to the first.
///
/// `method` is the RPC's full name, such as `idempo.wallet.v1.WalletService/GrantFunds`.
///
/// # Errors
/// The status of a refusal, of a reused or expired key, or of an infrastructure failure.
pub fn respond<R: Message + Default>(result: Result<Outcome, Error>, domain: &str, method: &str) -> Result<Response<R>, Status> {
    match result {
        Ok(Outcome::Replied { reply, replayed }) => {
            let mut response = Response::new(R::decode(reply).map_err(|_| status::of_error(&Error::Corrupt, domain))?);
            mark(response.metadata_mut(), replayed);
            Ok(response)
        }
        Ok(Outcome::Refused { status: stored, replayed }) => {
            let mut refused = status::decode(&stored, domain);
            mark(refused.metadata_mut(), replayed);
            Err(refused)
        }
        Ok(Outcome::KeyReused { fields }) => Err(refusal::request_id_reused(domain, method, &fields).into_status()),
        Ok(Outcome::KeyOutOfWindow) => Err(refusal::request_id_expired(domain).into_status()),
        Err(error) => Err(status::of_error(&error, domain)),
    }
}

fn mark(metadata: &mut tonic::metadata::MetadataMap, replayed: bool) {
    if replayed {
        metadata.insert(REPLAYED_METADATA, tonic::metadata::MetadataValue::from_static("true"));
    }
}

/// The stored status of a command whose key was too old when it was first seen.
pub(crate) fn key_expired(domain: &str) -> Bytes {
    refusal::request_id_expired(domain).encode()
}

/// The stored status of a command whose etag is not the stream's version.
pub(crate) fn etag_mismatch(domain: &str, current: u64) -> Bytes {
    refusal::etag_mismatch(domain, current).encode()
}

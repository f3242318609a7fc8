//! The consumers that have the dead letters: who they are, and how they are asked.

use std::sync::Arc;
use std::time::Duration;

use idempo_proto::ops::v1::parked_service_client::ParkedServiceClient;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::config::ConsumerOf;
use crate::token::{Authorized, ConsumerToken};

/// How long a connection to a consumer may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a consumer may be silent on a connection that is used, until the connection is given up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer of a consumer, in bytes: that of 1,000 dead letters, or one with the first MiB of its value.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Who asks, where it is no person, or their name can't be told to a consumer.
pub(crate) const UNNAMED: &str = "dlq-admin";

/// A client of a consumer's dead letters. It is a service of the platform, which speaks for operators.
pub(crate) type Parked = ParkedServiceClient<InterceptedService<Channel, Authorized>>;

/// All consumers that the service knows.
#[derive(Debug)]
pub(crate) struct Consumers {
    known: Vec<(String, Parked)>,
}

impl Consumers {
    /// These consumers, asked with this token; connections are made when they are first used, and anew when they break.
    ///
    /// # Errors
    /// Where an endpoint is none.
    pub(crate) fn new(consumers: &[ConsumerOf], token: &Arc<ConsumerToken>) -> Result<Self, tonic::transport::Error> {
        let client = |consumer: &ConsumerOf| {
            let endpoint = Endpoint::from_shared(consumer.endpoint.clone())?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT);
            let client = ParkedServiceClient::with_interceptor(endpoint.connect_lazy(), Authorized(Arc::clone(token)));
            let client = client.max_decoding_message_size(ANSWER_BYTES_MAX);
            Ok((consumer.group_prefix.clone(), client))
        };
        let mut known = consumers.iter().map(client).collect::<Result<Vec<_>, tonic::transport::Error>>()?;
        // The longest prefix says most.
        known.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(Self { known })
    }

    /// The consumer of this group; `None` where nobody has said which one it is.
    pub(crate) fn of(&self, group: &str) -> Option<Parked> {
        let is_it = |prefix: &str| group.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.known.iter().find(|(prefix, _)| is_it(prefix)).map(|(_, client)| client.clone())
    }
}

/// A request in the name of `caller`, to be answered within `limit`.
pub(crate) fn asked_by<T>(caller: &str, limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(idempo_rpc::CALLER_METADATA, caller.parse().unwrap_or_else(|_| MetadataValue::from_static(UNNAMED)));
    request.set_timeout(limit);
    request
}

/// Whether a consumer that answers so may answer otherwise later, or may have done what it was asked for. One that does not know our token says nothing
/// of what it was asked about: one of the two files of tokens is behind.
pub(crate) fn is_transient(status: &Status) -> bool {
    status.code() == tonic::Code::Unauthenticated || is_away(status)
}

/// Whether that is no answer of the consumer's, or one that says that it can't answer at the moment.
pub(crate) fn is_away(status: &Status) -> bool {
    use tonic::Code;
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Internal
            | Code::DataLoss
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_consumer_has_its_group_and_those_of_its_generations_and_the_longest_prefix_counts() {
        let of = |prefix: &str| ConsumerOf { group_prefix: prefix.to_owned(), endpoint: "http://127.0.0.1:1".to_owned() };
        let token = ConsumerToken::new(&crate::Config::default()).expect("none");
        let consumers = Consumers::new(&[of("idempo.inventory"), of("idempo.inventory.eu")], &token).expect("endpoints");
        let found = |group: &str| consumers.of(group).is_some();
        assert!(found("idempo.inventory") && found("idempo.inventory.g12") && found("idempo.inventory.eu.g1"));
        assert!(!found("idempo.inventory2.g1") && !found("idempo") && !found(""));
        assert_eq!(consumers.known.first().map(|(prefix, _)| prefix.as_str()), Some("idempo.inventory.eu"));
    }
}

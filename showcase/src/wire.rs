//! How the showcase speaks to the services: over the public gRPC API, keeping the bytes of every answer as they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use idempo_checker::history::{Answer, Refusal};
use idempo_checker::ids;
use idempo_checker::method::{Method, Service};
use idempo_rpc::{CALLER_METADATA, RawCodec};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to each service; the clients share them.
const CHANNELS_PER_SERVICE: usize = 4;
/// The metadata in which a service says that it had answered this before.
const REPLAYED: &str = "idempo-replayed";

/// The addresses of the services, `http://host:port`; those of a service with several instances have commas between them.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The wallet service.
    pub wallet: String,
    /// The inventory service.
    pub inventory: String,
    /// The inventory read model.
    pub inventory_query: String,
}

/// Connections to every service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Wire {
    wallet: Vec<Channels>,
    inventory: Vec<Channels>,
    inventory_query: Vec<Channels>,
}

/// The connections to one instance of a service.
type Channels = Vec<Channel>;

impl Wire {
    /// Connects to every service.
    ///
    /// # Errors
    /// Where an address is none, or nobody answers there.
    pub async fn connect(addresses: &Addresses) -> anyhow::Result<Self> {
        Ok(Self {
            wallet: channels(&addresses.wallet).await?,
            inventory: channels(&addresses.inventory).await?,
            inventory_query: channels(&addresses.inventory_query).await?,
        })
    }

    /// The line of one client: a connection to each service, and the caller's name.
    ///
    /// # Errors
    /// Where the caller's name can't stand in metadata.
    pub fn line(&self, client: u16) -> anyhow::Result<Line> {
        let pick = |instances: &[Channels]| {
            let channels = instances.iter().filter_map(|channels| channels.get(usize::from(client) % CHANNELS_PER_SERVICE).cloned());
            Instances { channels: channels.collect(), turn: Arc::new(AtomicUsize::new(usize::from(client))) }
        };
        let caller = format!("showcase-{client}");
        let caller_metadata = MetadataValue::try_from(caller.as_str())?;
        let (wallet, inventory, inventory_query) = (pick(&self.wallet), pick(&self.inventory), pick(&self.inventory_query));
        Ok(Line { wallet, inventory, inventory_query, caller, caller_metadata })
    }
}

async fn channels(addresses: &str) -> anyhow::Result<Vec<Channels>> {
    let mut instances = Vec::new();
    for address in addresses.split(',') {
        let endpoint = Endpoint::from_shared(address.to_owned())?.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let mut channels = Vec::with_capacity(CHANNELS_PER_SERVICE);
        for _ in 0..CHANNELS_PER_SERVICE {
            channels.push(endpoint.connect().await?);
        }
        instances.push(channels);
    }
    Ok(instances)
}

/// One connection to each instance of a service. They take turns, so that what is sent again goes to another instance, where there is one.
#[derive(Debug, Clone)]
struct Instances {
    channels: Vec<Channel>,
    turn: Arc<AtomicUsize>,
}

impl Instances {
    fn next(&self) -> Option<Channel> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(self.channels.len())?;
        self.channels.get(turn).cloned()
    }
}

/// What one client sends with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Line {
    wallet: Instances,
    inventory: Instances,
    inventory_query: Instances,
    caller: String,
    caller_metadata: MetadataValue<Ascii>,
}

impl Line {
    /// The id of the command that this caller makes by this method under this key.
    #[must_use]
    pub fn command_id(&self, method: Method, key: Uuid) -> Uuid {
        ids::command(key, ids::scope(&self.caller, method.path().trim_start_matches('/')))
    }

    /// Sends one request once. The service gets `patience` as its deadline, and the client stops waiting shortly after.
    ///
    /// # Cancel safety
    /// Dropping it leaves the outcome unknown.
    pub async fn send(&self, method: Method, request: Bytes, patience: Duration) -> Answer {
        let instances = match method.service() {
            Service::Wallet => &self.wallet,
            Service::Inventory => &self.inventory,
            Service::InventoryQuery => &self.inventory_query,
        };
        let Some(channel) = instances.next() else {
            return Answer::Unknown { code: Code::Unavailable, reason: "NO_INSTANCE".to_owned() };
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(patience);
        request.metadata_mut().insert(CALLER_METADATA, self.caller_metadata.clone());
        match tokio::time::timeout(patience, unary(channel, method, request)).await {
            Ok(Ok(response)) => {
                let replayed = response.metadata().get(REPLAYED).is_some_and(|value| value == "true");
                Answer::Replied { reply: response.into_inner(), replayed }
            }
            // The service says nothing then; the client's own library does, about a connection that is gone.
            Ok(Err(status)) if status.code() == Code::Unknown && std::error::Error::source(&status).is_some() => {
                Answer::Unknown { code: Code::Unavailable, reason: "CONNECTION_LOST".to_owned() }
            }
            Ok(Err(status)) => classify(&status),
            Err(_elapsed) => Answer::Unknown { code: Code::DeadlineExceeded, reason: "CLIENT_STOPPED_WAITING".to_owned() },
        }
    }
}

async fn unary(channel: Channel, method: Method, request: tonic::Request<Bytes>) -> Result<tonic::Response<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    grpc.unary(request, http::uri::PathAndQuery::from_static(method.path()), RawCodec).await
}

/// Says what a status means for the command: settled, or unknown.
///
/// Unknown are the codes that gRPC gives no definite meaning, and an ABORTED that asks to try again (the key is still running).
#[must_use]
pub fn classify(status: &Status) -> Answer {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let asks_to_retry = details.retry_info().is_some();
    match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::ResourceExhausted
        | Code::Unknown
        | Code::Internal
        | Code::DataLoss => return Answer::Unknown { code: status.code(), reason },
        Code::Aborted if asks_to_retry => return Answer::Unknown { code: Code::Aborted, reason },
        _ => {}
    }
    let mut fields: Vec<String> =
        details.bad_request().iter().flat_map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone())).collect();
    if let Some(field) = details.error_info().and_then(|info| info.metadata.get("field")) {
        fields.push(field.clone());
    }
    let replayed = status.metadata().get(REPLAYED).is_some_and(|value| value == "true");
    let refusal = Refusal {
        code: status.code(),
        reason,
        fields,
        message: status.message().to_owned(),
        details: Bytes::copy_from_slice(status.details()),
    };
    Answer::Refused { refusal, replayed }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    fn one(name: &str, value: &str) -> std::collections::HashMap<String, String> {
        std::collections::HashMap::from([(name.to_owned(), value.to_owned())])
    }

    fn status(code: Code, details: ErrorDetails) -> Status {
        Status::with_error_details(code, "a message", details)
    }

    #[test]
    fn what_may_have_happened_is_unknown() {
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::ResourceExhausted, Code::Unknown, Code::Internal] {
            assert!(!classify(&status(code, ErrorDetails::new())).is_definite(), "{code:?}");
        }
        let mut running = ErrorDetails::with_error_info("REQUEST_IN_PROGRESS", "wallet.idempo", one("a", "b"));
        running.set_retry_info(Some(Duration::from_millis(10)));
        assert!(!classify(&status(Code::Aborted, running)).is_definite());
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_says_nothing_about_the_command() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // As a process that is killed: its kernel closes what it had open.
                let _readable = client.readable().await;
                drop(client);
            }
        });
        let addresses = Addresses { wallet: address.clone(), inventory: address.clone(), inventory_query: address };
        let line = Wire::connect(&addresses).await.expect("somebody listens").line(0).expect("a name");
        let answer = line.send(Method::GrantFunds, Bytes::new(), Duration::from_secs(5)).await;
        // Which code the client makes of it depends on how far the request had got.
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }

    #[test]
    fn a_refusal_keeps_its_reason_and_its_fields() {
        let mut details = ErrorDetails::with_bad_request(vec![FieldViolation::new("amount", "must be at least 1")]);
        details.set_error_info("INVALID_FIELD", "wallet.idempo", one("a", "b"));
        let Answer::Refused { refusal, replayed: false } = classify(&status(Code::InvalidArgument, details)) else { panic!("definite") };
        assert_eq!((refusal.reason.as_str(), refusal.fields), ("INVALID_FIELD", vec!["amount".to_owned()]));
        let reused = ErrorDetails::with_error_info("REQUEST_ID_PAYLOAD_MISMATCH", "wallet.idempo", one("field", "reason"));
        let Answer::Refused { refusal, .. } = classify(&status(Code::AlreadyExists, reused)) else { panic!("definite") };
        assert_eq!(refusal.fields, vec!["reason".to_owned()]);
        let stale = ErrorDetails::with_error_info("ETAG_MISMATCH", "wallet.idempo", one("current_etag", "7"));
        assert!(classify(&status(Code::Aborted, stale)).is_definite());
    }
}

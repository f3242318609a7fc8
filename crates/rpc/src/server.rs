//! The server: one stack for every service.

use std::future::{self, ready};
use std::net::SocketAddr;
use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use idempo_errors::{Class, Classified};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder;
use tower::{BoxError, ServiceBuilder};

use crate::call::{self, CallLayer};
use crate::config::ServerConfig;
use crate::connection::{self, READ_TURN_BYTES};
use crate::deadline::DeadlineLayer;
use crate::health;
use crate::transport_error::{contain_panic, explain, limit_request, overloaded};

/// The flow-control window of a connection and of each of its calls, in bytes: what a client may send before it is read.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The largest HTTP/2 frame, in bytes: the protocol's own default.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// The fewest bytes that a call and its reset take on the wire, of a client that means the call: their frames, a deadline, a message with an id. Ours
/// take 85 and more.
const RESET_CALL_BYTES_MIN: usize = 64;
/// How many calls that their client has reset may wait on a connection, unseen, before it is cut off with ENHANCE_YOUR_CALM ("rapid reset",
/// CVE-2023-44487): as many as fit into a turn of reading ([`READ_TURN_BYTES`]) and the read that goes beyond it. What was read is looked at before
/// more is read, so this bounds how many there are in one turn, and neither how many there are in a second nor while this process gets no core: a
/// client whose deadlines pass then gives up all its calls, and those that it sends again, many times over, and has no more than this in a turn.
/// Without turns no number tells the two apart: with a quarter of the calls that may be open, clients of a loaded machine were cut off; with four
/// times as many, 64 connections that sent bursts of them took 270 MB, and 1.6 GB with headers as long as they may be. With turns it was 97 MB, and
/// 3 MB where they sent without end.
///
/// Who stays below it with longer calls has a turn like others, and the memory of a turn. A call that came with its reset gets to no handler
/// ([`DeadlineLayer`]); one that is reset later gives its place back, and there are never more at once than `concurrency_limit`.
const PENDING_RESETS_MAX: usize = 2 * READ_TURN_BYTES / RESET_CALL_BYTES_MIN;
/// How many calls we reset for a client's errors before its connection ends.
const ERROR_RESETS_MAX: usize = 64;
/// How long connections get to end after they are cut.
const CUT: Duration = Duration::from_secs(1);

/// The health service, as reflection lists it.
const HEALTH: &str = <HealthServer<HealthService> as NamedService>::NAME;

/// What a process serves.
#[derive(Debug)]
pub struct Service {
    /// The domain of the errors that the transport makes: `<service>.idempo`.
    pub domain: &'static str,
    /// The generated servers.
    pub routes: Routes,
    /// Their names (`NamedService::NAME`), for the health service.
    pub names: Vec<&'static str>,
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error("the gRPC server's configuration is invalid: {0}")]
    Config(String),
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The built-in descriptor set can't be read.
    #[error("the descriptor set can't be read")]
    Descriptors(#[source] tonic_reflection::server::Error),
    /// The server stopped by itself.
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
    /// Calls were still open when the time to drain was over. Their connections were cut, their outcome is unknown to their callers.
    #[error("calls were still open after {drain_ms} ms of draining")]
    NotDrained {
        /// The time that they had, in milliseconds.
        drain_ms: u64,
    },
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Config(_) | Self::Descriptors(_) => Class::Internal,
            Self::Bind { .. } | Self::Transport(_) => Class::Unavailable,
            Self::NotDrained { .. } => Class::DeadlineExceeded,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "GRPC_CONFIG_INVALID",
            Self::Bind { .. } => "GRPC_ADDRESS_UNAVAILABLE",
            Self::Descriptors(_) => "DESCRIPTORS_UNREADABLE",
            Self::Transport(_) => "GRPC_SERVER_FAILED",
            Self::NotDrained { .. } => "GRPC_NOT_DRAINED",
        }
    }
}

/// Listens on `config.listen`, and answers the bound address and a future that serves there: `service`, its health (as `ready` says) and
/// reflection. The future ends when `shutdown` is cancelled and all calls have ended. Nothing is served until it is polled, but connections
/// already queue up.
///
/// # Errors
/// [`Error::Config`], [`Error::Bind`] and [`Error::Descriptors`] at once; [`Error::Transport`] and [`Error::NotDrained`] from the future.
///
/// # Cancel safety
/// Dropping the future stops accepting; calls that are open go on in tasks of their own.
pub async fn serve(
    config: &ServerConfig,
    service: Service,
    ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> Result<(SocketAddr, impl Future<Output = Result<(), Error>> + Send + 'static), Error> {
    config.validate().map_err(Error::Config)?;
    call::describe_metrics();
    let bind_error = |source| Error::Bind { address: config.listen, source };
    let incoming = TcpIncoming::bind(config.listen)
        .map_err(bind_error)?
        .with_nodelay(Some(true))
        .with_keepalive(Some(Duration::from_millis(config.tcp_keepalive_ms)));
    let address = incoming.local_addr().map_err(bind_error)?;

    let reporter = HealthReporter::new();
    let is_ready = *ready.borrow();
    health::report(&reporter, &service.names, is_ready).await;
    let names = service.names.clone();
    let (domain, request_timeout) = (service.domain, config.request_timeout());
    let routes = routes(config, service, &reporter)?;

    // A call meets these from top to bottom, and its answer from bottom to top.
    let around_every_call = ServiceBuilder::new()
        .layer(CallLayer)
        .map_response(move |answer| explain(answer, domain))
        .layer(DeadlineLayer { longest: request_timeout, domain });

    let cut = CancellationToken::new();
    let connections = connection::accept(incoming, config.connections_limit, config.connection_lifetime(), cut.clone());
    let serving = http2(config)
        .layer(around_every_call)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
    let following = health::follow(reporter, names, ready, shutdown.clone());
    let drain_ms = config.drain_ms;

    let served = async move {
        let telling_health = async {
            following.await;
            future::pending().await
        };
        let mut serving = Box::pin(async {
            tokio::select! {
                served = serving => served.map_err(Error::Transport),
                never = telling_health => never,
            }
        });
        let drained_by = async {
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_millis(drain_ms)).await;
        };
        tokio::select! {
            biased;
            served = &mut serving => return served,
            () = drained_by => {}
        }
        cut.cancel();
        // Whether they end or not, they are given up.
        let _ = tokio::time::timeout(CUT, serving).await;
        Err(Error::NotDrained { drain_ms })
    };
    Ok((address, served))
}

/// The service's own methods behind the limit of calls at once; health and reflection answer even when that is reached.
fn routes(config: &ServerConfig, service: Service, reporter: &HealthReporter) -> Result<Routes, Error> {
    let (domain, max_request_bytes) = (service.domain, config.max_request_bytes);
    let names = service.names;
    let admitted = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(move |_overloaded: BoxError| ready(overloaded(domain))))
        .load_shed()
        .concurrency_limit(config.concurrency_limit)
        .map_request(move |request| limit_request(request, max_request_bytes))
        .map_future(move |handler| contain_panic(handler, domain))
        .service(service.routes.prepare());

    // Every message can be looked up, events and the details of errors too; what is listed is what is served here.
    let reflection = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(idempo_proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        names.iter().copied().chain([HEALTH]).fold(builder, Builder::with_service_name)
    };
    let platform = Routes::new(HealthServer::new(HealthService::from_health_reporter(reporter.clone())))
        .add_service(reflection().build_v1().map_err(Error::Descriptors)?)
        .add_service(reflection().build_v1alpha().map_err(Error::Descriptors)?);
    Ok(platform.into_axum_router().fallback_service(admitted).into())
}

/// The transport with every limit set.
///
/// `max_connection_age_grace` stays unset: with it, tonic 0.14 closes old connections without telling their clients first. What ends
/// connections that stay open after their age is their [`connection::Lifetime`].
/// `timeout` stays unset: it would answer CANCELLED.
fn http2(config: &ServerConfig) -> Server {
    Server::builder()
        .accept_http1(false)
        .max_concurrent_streams(config.streams_per_connection_limit)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_max_header_list_size(config.max_header_list_bytes)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .http2_keepalive_interval(Some(Duration::from_millis(config.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(config.keepalive_timeout_ms)))
        .max_connection_age(Duration::from_millis(config.connection_age_ms))
}

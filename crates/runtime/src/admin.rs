//! The admin listener: liveness, readiness and metrics over HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use idempo_telemetry::metrics_handle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::{Missing, Platform, Readiness};

/// How long open admin connections may keep a process from ending.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// An admin listener that runs until it is stopped or dropped. It outlives the role's tasks, so that a stop can be watched.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    stop: DropGuard,
    server: JoinHandle<()>,
}

impl Admin {
    /// Binds `listen` (port 0 for any free one) and answers `/livez`, `/readyz` and `/metrics` there.
    pub(crate) async fn start(listen: SocketAddr, platform: &Platform) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen} (platform.admin_listen)"))?;
        let address = listener.local_addr().context("cannot tell the admin listener's address")?;
        let stop = CancellationToken::new();
        let server = axum::serve(listener, routes(platform.readiness.clone())).with_graceful_shutdown(stop.clone().cancelled_owned());
        let tasks = platform.tasks.clone();
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                tasks.fail("admin", error.into());
            }
        });
        info!(role = platform.service, name = "admin", %address, "listening");
        Ok(Self { address, stop: stop.drop_guard(), server })
    }

    /// Answers what has been asked, and ends.
    pub(crate) async fn stop(self) {
        let Self { stop, mut server, .. } = self;
        drop(stop);
        if timeout(STOP_LIMIT, &mut server).await.is_err() {
            server.abort();
            warn!("admin connections were cut at the end");
        }
    }
}

fn routes(readiness: Readiness) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics)).with_state(readiness)
}

/// The process is alive as long as its runtime can answer this.
async fn livez() -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct Report {
    ready: bool,
    missing: Vec<Missing>,
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_string(&Report { ready: missing.is_empty(), missing }) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics_handle().render())
}

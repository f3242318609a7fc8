//! A trace that a client begins: it goes with the events to Kafka, and the service's span is a child of the client's.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_tests::World;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// How long a span, or an event, may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(15);
/// What the client's trace is called.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// What the client's span is called.
const SPAN_ID: &str = "00f067aa0ba902b7";

/// A collector of traces.
struct Collector(mpsc::UnboundedSender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans);
        for span in spans {
            // Nobody waits for more spans once the test is over.
            let _ = self.0.send(span);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> Result<(SocketAddr, mpsc::UnboundedReceiver<Span>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (send, spans) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(send));
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    Ok((address, spans))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn the_trace_of_a_call_goes_with_its_events_to_kafka(world: &mut World) -> Result<()> {
    let (collector, mut spans) = collector().await?;
    let endpoint = format!("http://{collector}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    world.platform.start_replica("wallet", "wallet-traced", &variables).await?;
    let mut wallets = WalletServiceClient::new(world.channel("wallet-traced")?);

    let wallet = world.wallet(0).await?;
    let mut traced = Request::new(world.grant(&wallet, 9));
    traced.metadata_mut().insert("traceparent", format!("00-{TRACE_ID}-{SPAN_ID}-01").parse()?);
    let granted = wallets.grant_funds(traced).await?.into_inner();
    assert_eq!(granted.wallet.context("a wallet")?.name, wallet);

    let server = tokio::time::timeout(ARRIVAL_LIMIT, async {
        loop {
            let span = spans.recv().await.context("the collector is gone")?;
            if hex(&span.trace_id) == TRACE_ID && hex(&span.parent_span_id) == SPAN_ID {
                return anyhow::Ok(span);
            }
        }
    });
    let server = server.await.context("no span of the call came to the collector")??;
    assert_eq!(server.name, "idempo.wallet.v1.WalletService/GrantFunds");

    let stored = world.envelopes("wallet_db").await?;
    let (_, player) = wallet.split_once('/').context("a name")?;
    let traceparents = tokio::time::timeout(ARRIVAL_LIMIT, async {
        loop {
            let records = world.records().await?;
            let of_wallet: Vec<_> = records.into_iter().filter(|record| record.key == player.as_bytes()).collect();
            if of_wallet.len() == 2 {
                assert!(of_wallet.iter().all(|record| stored.contains(&record.value)));
                return anyhow::Ok(of_wallet.into_iter().map(|record| record.traceparent).collect::<Vec<_>>());
            }
        }
    });
    let traceparents = traceparents.await.context("the wallet's events did not come to Kafka")??;
    // The wallet was opened at the other replica, which traces nothing.
    let [None, Some(of_grant)] = traceparents.as_slice() else { anyhow::bail!("traceparents: {traceparents:?}") };
    let parts: Vec<&str> = of_grant.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { anyhow::bail!("not a traceparent: {of_grant}") };
    assert_eq!((*version, *trace, *flags), ("00", TRACE_ID, "01"));
    assert_ne!(*span, SPAN_ID, "the events were made in a span of the service's");
    Ok(())
}

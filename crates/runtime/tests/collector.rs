//! Traces leave the process for an OTLP collector, when one is named.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use rustix::process::Signal;

use crate::sample::{Sample, program};

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send, received) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(send));
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    (address, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_still_queued_at_sigterm_reach_the_collector_and_log_lines_name_their_trace() {
    let (address, mut received) = collector().await;
    let (traceparent, line) = tokio::task::spawn_blocking(move || {
        let mut command = program(&["--set", "open=true"]);
        // Nothing leaves before the end.
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")).env("OTEL_BSP_SCHEDULE_DELAY", "600000");
        let mut sample = Sample::spawn(&mut command, &[]);
        let traceparent = sample.connect().ask("trace");
        let line = sample.message("answering");
        sample.signal(Signal::TERM);
        assert_eq!(sample.exit_code(), Some(0));
        assert!(sample.complaints().is_empty(), "{:#?}", sample.complaints());
        (traceparent, line)
    })
    .await
    .unwrap();
    let ids: Vec<_> = traceparent.split('-').collect();
    assert_eq!((ids.len(), ids[0], ids[3]), (4, "00", "01"), "{traceparent}");
    assert_eq!((line["trace_id"].as_str(), line["span_id"].as_str()), (Some(ids[1]), Some(ids[2])), "{line}");
    assert_eq!(line["span"]["command"], "trace");

    let export = tokio::time::timeout(Duration::from_secs(10), received.recv()).await.unwrap().unwrap();
    let resource = export.resource_spans[0].resource.as_ref().unwrap();
    let service = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
    assert!(format!("{:?}", service.value).contains("\"sample\""), "{service:?}");
    let spans: Vec<_> = export.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans).collect();
    let names: BTreeSet<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert!(names.contains("line"), "{names:?}");
    assert!(spans.iter().all(|span| !span.name.contains("poll") && !span.name.contains("hyper")), "{names:?}");
}

#[test]
fn without_an_endpoint_nothing_is_traced() {
    let mut sample = Sample::start(&["open=true"]);
    assert_eq!(sample.connect().ask("trace"), "");
    assert!(sample.message("answering").get("trace_id").is_none());
}

#[test]
fn a_collector_that_is_away_or_forbidden_keeps_nobody_from_working_and_ending() {
    for forbidden in [false, true] {
        let mut command = program(&["--set", "open=true"]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
        if forbidden {
            command.env("OTEL_SDK_DISABLED", "true");
        }
        let mut sample = Sample::spawn(&mut command, &[]);
        assert_eq!(sample.connect().ask("trace").is_empty(), forbidden);
        sample.signal(Signal::TERM);
        assert_eq!(sample.exit_code(), Some(0));
        // What was lost is said, once the work is done.
        assert_eq!(sample.complaints().is_empty(), forbidden, "{:#?}", sample.complaints());
    }
}

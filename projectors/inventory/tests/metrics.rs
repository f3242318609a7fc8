//! What /metrics says of generations, in a process that shares the work with another one.

use idempo_devstack::Service;
use idempo_devstack::testing::{self, eventually};
use idempo_proto::ops::v1::projection_service_client::ProjectionServiceClient;
use idempo_proto::ops::v1::{
    CancelRebuildRequest, DropGenerationRequest, GenerationState, PauseProjectionRequest, ResumeProjectionRequest, StartRebuildRequest,
    SwitchGenerationRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{PARTITIONS, PROJECTION, Stage, generation_name, said};
use crate::support::LIMIT;
use crate::world::large_sample;

/// A rebuild of so few events a second is under way for as long as a test looks at it.
const SLOW: i64 = 20;

/// A process beside the one of the stage.
pub(crate) async fn beside(stage: &Stage, log: &std::path::Path) -> Service {
    beside_with(stage, log, &[]).await
}

/// The same, with further variables.
pub(crate) async fn beside_with(stage: &Stage, log: &std::path::Path, further: &[(&str, &str)]) -> Service {
    let (view, store) = stage.databases();
    let variables = [
        ("IDEMPO_DATABASE__URL", testing::cluster().role_url(view, "idempo_inventory_projector")),
        ("IDEMPO_EVENT_STORE__URL", testing::cluster().role_url(store, "idempo_rebuilder")),
        ("IDEMPO_KAFKA__BROKERS", testing::kafka_brokers()),
        ("IDEMPO_CONSUMER__GROUP_ID", stage.topic.clone()),
        ("IDEMPO_CONSUMER__TOPICS", format!("[\"{}\"]", stage.topic)),
        ("IDEMPO_PARTITIONS", PARTITIONS.to_string()),
        ("IDEMPO_REBUILD_PART_EVENTS", stage.config.rebuild_part_events.to_string()),
        ("IDEMPO_OPERATORS__OPEN", "true".to_owned()),
        // Whoever wants comparisons in a test says so.
        ("IDEMPO_SAMPLE_INTERVAL_MS", stage.config.sample_interval_ms.to_string()),
    ];
    let further = further.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let variables = variables.into_iter().chain(further).map(|(name, value)| (name.to_owned(), value)).collect();
    Service::run("the other projector", "idempo-inventory-projector", variables, log.to_owned()).await.expect("it starts")
}

/// What a process says of a metric of the projection with this label beside, or none.
pub(crate) async fn value(service: &Service, metric: &str, label: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(service.admin()).await.expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: projector\r\nConnection: close\r\n\r\n").await.expect("it is asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let is_it = |line: &&str| {
        line.starts_with(&format!("idempo_projection_{metric}{{")) && line.contains("projection=\"inventory\"") && line.contains(label)
    };
    answer.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
}

/// Waits until it says so.
pub(crate) async fn says(service: &Service, metric: &str, label: &str, is_it: impl Fn(f64) -> bool) {
    let awaited = format!("{metric}{{{label}}}");
    eventually(LIMIT, &awaited, async || value(service, metric, label).await.is_some_and(&is_it)).await;
}

fn rebuild(events_per_second_max: i64) -> StartRebuildRequest {
    StartRebuildRequest {
        name: PROJECTION.to_owned(),
        events_per_second_max,
        reason: "a test".to_owned(),
        ..StartRebuildRequest::default()
    }
}

pub(crate) fn is(expected: f64) -> impl Fn(f64) -> bool {
    move |found| (found - expected).abs() < f64::EPSILON
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_of_a_rebuild_while_it_runs_and_of_what_came_of_it() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    let events = u32::try_from(world.envelopes.len()).expect("few");
    stage.append(&world.envelopes, "100").await;
    stage.publish(&world.envelopes).await;
    let log = std::env::temp_dir().join(format!("{}metrics.log", stage.topic));
    let mut process = beside(&stage, &log).await;
    eventually(LIMIT, "all is read", async || stage.lag().await == 0).await;
    says(&process, "live_generation", "", is(1.0)).await;
    says(&process, "rebuild_generation", "", is(0.0)).await;

    stage.ops.start_rebuild(said(rebuild(SLOW))).await.expect("it begins");
    says(&process, "rebuild_phase", "phase=\"scanning\"", is(1.0)).await;
    says(&process, "rebuild_generation", "", is(2.0)).await;
    says(&process, "rebuild_events_expected", "", is(f64::from(events))).await;
    says(&process, "rebuild_events", "", |read| read > 0.0 && read < f64::from(events)).await;
    says(&process, "rebuild_ratio", "", |ratio| ratio > 0.0 && ratio < 1.0).await;
    says(&process, "rebuild_age_seconds", "", |age| age > 0.0).await;
    says(&process, "generations", "state=\"building\"", is(1.0)).await;
    assert_eq!(value(&process, "rebuild_duration_seconds", "").await, None, "nothing was built yet");
    stage
        .ops
        .cancel_rebuild(said(CancelRebuildRequest { name: generation_name(2), reason: "a test".to_owned() }))
        .await
        .expect("cancelled");
    says(&process, "rebuild_phase", "phase=\"scanning\"", is(0.0)).await;
    says(&process, "rebuild_generation", "", is(0.0)).await;
    eventually(LIMIT, "it is gone", async || stage.traces(2).await == 0).await;

    let begun = stage.ops.start_rebuild(said(rebuild(0))).await.expect("it begins").into_inner().generation.expect("a generation");
    let number = begun.generation;
    eventually(LIMIT, "it is ready", async || stage.generation(number).await.state() == GenerationState::Ready).await;
    says(&process, "generations", "state=\"ready\"", is(1.0)).await;
    says(&process, "rebuild_duration_seconds", "", |took| took > 0.0).await;
    says(&process, "rebuild_events_expected", "", is(0.0)).await;
    stage.verified(number).await;
    says(&process, "verification", "state=\"equal\"", is(1.0)).await;
    says(&process, "switches_total", "", is(0.0)).await;
    let switch =
        SwitchGenerationRequest { name: generation_name(number), reason: "a test".to_owned(), ..SwitchGenerationRequest::default() };
    stage.ops.switch_generation(said(switch)).await.expect("it is switched");
    says(&process, "live_generation", "", is(f64::from(number))).await;
    says(&process, "switches_total", "", is(1.0)).await;
    says(&process, "generations", "state=\"retired\"", is(1.0)).await;

    // Of one that is dropped nothing is said any more, by whichever process; the other ones' series stay.
    says(&process, "position", "version=\"1\"", |_| true).await;
    let drop = DropGenerationRequest { name: generation_name(1), reason: "a test".to_owned() };
    stage.ops.drop_generation(said(drop)).await.expect("it is dropped");
    for metric in ["position", "head", "events_total", "freshness_seconds", "stopped_partitions"] {
        eventually(LIMIT, metric, async || value(&process, metric, "version=\"1\"").await.is_none()).await;
        assert!(value(&process, metric, &format!("version=\"{number}\"")).await.is_some(), "{metric}");
    }

    // Alone, it does all of the work itself.
    let mut ops = ProjectionServiceClient::connect(format!("http://{}", process.grpc())).await.expect("it is reached");
    let stage = stage.replaced_after(async |_, _| {
        let before = value(&process, "rebuilt_events_total", "").await.unwrap_or_default();
        ops.start_rebuild(said(rebuild(0))).await.expect("it begins");
        says(&process, "rebuilt_events_total", "", |read| read >= before + f64::from(events)).await;
        says(&process, "paused", "", is(0.0)).await;
        let pause = PauseProjectionRequest { name: PROJECTION.to_owned(), reason: "a test".to_owned() };
        ops.pause_projection(said(pause)).await.expect("it is paused");
        says(&process, "paused", "", is(1.0)).await;
        let resume = ResumeProjectionRequest { name: PROJECTION.to_owned(), reason: "a test".to_owned() };
        ops.resume_projection(said(resume)).await.expect("it goes on");
        says(&process, "paused", "", is(0.0)).await;
    });
    let stage = stage.await;
    process.stop().await.expect("it stops");
    stage.stop().await;
    // An error shows the end of it; nobody needs the rest.
    let _ = std::fs::remove_file(log);
}

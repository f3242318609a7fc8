//! Every process of the platform, as its surroundings see it.

use anyhow::{Context as _, Result};
use idempo_tests::{World, log, metrics, probe};
use serde_json::Value;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// The gRPC services of each process that has any.
pub(crate) const SERVICES: [(&str, &[&str]); 6] = [
    ("wallet", &["idempo.wallet.v1.WalletService"]),
    ("inventory", &["idempo.inventory.v1.InventoryService"]),
    (
        "inventory-projector",
        &["idempo.inventory.v1.InventoryQueryService", "idempo.ops.v1.ProjectionService", "idempo.ops.v1.ParkedService"],
    ),
    ("relay-1", &["idempo.ops.v1.RelayService"]),
    ("relay-2", &["idempo.ops.v1.RelayService"]),
    ("dlq-admin", &["idempo.ops.v1.DeadLetterService"]),
];

pub(crate) async fn every_process_is_ready_and_alive(world: &mut World) -> Result<()> {
    for (name, service) in world.platform.services() {
        assert_eq!(probe::missing(service).await?, Vec::<String>::new(), "{name}");
        assert_eq!(probe::get(service.admin(), "/livez").await?, (200, "ok\n".to_owned()), "{name}");
        assert_eq!(probe::get(service.admin(), "/nothing").await?.0, 404, "{name}");
    }
    Ok(())
}

pub(crate) async fn every_process_tells_its_metrics(world: &mut World) -> Result<()> {
    for (name, service) in world.platform.services() {
        let (status, page) = probe::get(service.admin(), "/metrics").await?;
        assert_eq!(status, 200, "{name}");
        let samples = metrics::parse(&page).with_context(|| format!("the metrics of {name}"))?;
        let memory = samples.get("process_resident_memory_bytes").copied().unwrap_or_default();
        assert!(memory > 1e6, "{name} tells no memory:\n{page}");
        let own = samples.keys().filter(|sample| sample.starts_with("idempo_") || sample.starts_with("db_")).count();
        assert!(own > 0, "{name} tells nothing of its own:\n{page}");
    }
    Ok(())
}

pub(crate) async fn every_service_is_serving_by_its_name(world: &mut World) -> Result<()> {
    for (process, services) in SERVICES {
        let mut health = HealthClient::new(world.channel(process)?);
        for service in services.iter().copied().chain([""]) {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = health.check(request).await.with_context(|| format!("the health of {process} ({service})"))?;
            assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{process} {service}");
        }
        let unknown = health.check(HealthCheckRequest { service: "idempo.nothing.v1.Nothing".to_owned() }).await;
        assert_eq!(unknown.map(|_| ()).map_err(|status| status.code()), Err(tonic::Code::NotFound), "{process}");
    }
    Ok(())
}

/// What is said above INFO though nothing was done to anybody, and why.
const FROM_THE_START: [(&str, &str); 1] =
    [("[thrd:main]: Failed to acquire idempotence PID", "a broker that was just made is still loading, and librdkafka tries again")];

pub(crate) async fn nobody_has_complained_so_far(world: &mut World) -> Result<()> {
    for (name, service) in world.platform.services() {
        let lines = log::lines(service)?;
        assert!(lines.iter().any(|line| log::text(line, "message") == "ready"), "{name} does not say that it is ready");
        let is_due = |line: &&&Value| FROM_THE_START.iter().any(|(start, _)| log::text(line, "message").starts_with(start));
        let complaints: Vec<&Value> = log::complaints(&lines).into_iter().filter(|line| !is_due(&line)).collect();
        assert!(complaints.is_empty(), "{name}: {complaints:#?}");
    }
    Ok(())
}

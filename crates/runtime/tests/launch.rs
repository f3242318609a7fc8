//! Several roles in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use idempo_clock::ManualClock;
use idempo_runtime::{Platform, Role, Running, Stage, Task, launch};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::sample::get;

/// A role that counts how often it was stopped.
struct Counted;

impl Role for Counted {
    const NAME: &'static str = "counted";
    const ABOUT: &'static str = "";
    type Config = (bool, Option<()>);

    async fn start((starts, _): Self::Config, platform: Platform) -> anyhow::Result<Running> {
        let (stopped, _) = watch::channel(false);
        platform.tasks.spawn(Task::critical("server").stage(Stage::Edge), move |cancel| async move {
            cancel.cancelled().await;
            stopped.send_replace(true);
            Ok(())
        });
        if !starts {
            bail!("told not to start");
        }
        Ok(Running::new().with_address("grpc", SocketAddr::from((Ipv4Addr::LOCALHOST, 1))))
    }
}

fn platform() -> Platform {
    Platform::new("counted", ManualClock::new(Timestamp::UNIX_EPOCH))
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_in_one_process_start_and_stop_each_by_itself() {
    let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let first = launch::<Counted>((true, None), platform(), any).await.unwrap();
    let second = launch::<Counted>((true, None), platform(), any).await.unwrap();
    assert_ne!(first.platform.instance, second.platform.instance);
    assert_eq!(first.running.address("grpc").map(|address| address.port()), Some(1));
    let (to_first, to_second) = (first.admin().unwrap(), second.admin().unwrap());
    second.platform.readiness.wait_ready().await;
    let tasks = first.platform.tasks.clone();
    first.stop(Duration::from_secs(5)).await.unwrap();
    assert!(tasks.running().is_empty());
    let (status, body) = tokio::task::spawn_blocking(move || get(to_second, "/readyz").unwrap()).await.unwrap();
    assert_eq!((status, body.as_str()), (200, r#"{"ready":true,"missing":[]}"#));
    assert!(tokio::task::spawn_blocking(move || get(to_first, "/livez")).await.unwrap().is_err());
    second.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_role_that_cannot_start_leaves_no_task_behind() {
    let platform = platform();
    let error = launch::<Counted>((false, None), platform.clone(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "told not to start");
    assert!(platform.tasks.running().is_empty());
    assert!(!platform.readiness.is_ready());
}

//! The health service: SERVING while the process is ready, for the server as a whole and for each of its services by name.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The name that stands for the server as a whole.
const WHOLE_SERVER: &str = "";

/// Tells what `ready` says now.
pub(crate) async fn report(reporter: &HealthReporter, names: &[&'static str], ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names.iter().copied().chain([WHOLE_SERVER]) {
        reporter.set_service_status(name, status).await;
    }
}

/// Tells each change of `ready` until `shutdown`. Then nothing is served any more, and the streams of those who watch end: they would keep
/// the server from draining.
pub(crate) async fn follow(
    mut reporter: HealthReporter,
    names: Vec<&'static str>,
    mut ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    loop {
        let now = *ready.borrow_and_update();
        report(&reporter, &names, now).await;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            changed = ready.changed() => {
                if changed.is_err() {
                    // Nobody is left to change it.
                    shutdown.cancelled().await;
                    break;
                }
            }
        }
    }
    report(&reporter, &names, false).await;
    for name in names.iter().copied().chain([WHOLE_SERVER]) {
        reporter.clear_service_status(name).await;
    }
}

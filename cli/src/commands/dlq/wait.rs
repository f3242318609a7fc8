//! Waiting for a job, with progress on stderr.

use std::time::Duration;

use idempo_proto::ops::v1::{DeadLetterJob, GetJobRequest, JobState};
use indicatif::{ProgressBar, ProgressStyle};

use super::service::Service;
use super::shown::settled;
use crate::failure::Failure;
use idempo_message::enum_text;

/// How long a rehearsal may take.
pub(super) const REHEARSAL_LIMIT: Duration = Duration::from_secs(120);
/// The pause between two questions.
const ASK_PAUSE: Duration = Duration::from_millis(200);

/// Waits until a job is not being applied any more, and gives it as it is then.
pub(super) async fn until_settled(service: &Service<'_>, job: &mut DeadLetterJob) -> Result<(), Failure> {
    let bar = ProgressBar::new(u64::try_from(job.member_count).unwrap_or(0));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} dead letters · {per_sec} · {msg}") {
        bar.set_style(style);
    }
    loop {
        let counts = job.counts.unwrap_or_default();
        bar.set_position(u64::try_from(settled(&counts)).unwrap_or(0));
        let state = enum_text(job.state().as_str_name(), "JOB_STATE_");
        bar.set_message(if job.hindrance.is_empty() { state } else { format!("{state}: {}", job.hindrance) });
        if !matches!(job.state(), JobState::Applying | JobState::Cancelling) {
            bar.finish_and_clear();
            return Ok(());
        }
        tokio::time::sleep(ASK_PAUSE).await;
        let asked = GetJobRequest { name: job.name.clone() };
        *job = service.ask(asked, async |client, request| client.get_job(request).await).await?.job.unwrap_or_default();
    }
}

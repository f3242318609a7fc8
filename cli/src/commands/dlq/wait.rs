//! Waiting for a job, with progress on stderr.

use std::time::Duration;

use idempo_proto::ops::v1::{DeadLetterJob, GetJobRequest, JobState};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::service::{Service, short};
use super::shown::settled;
use crate::failure::Failure;
use crate::print::tell;
use idempo_message::enum_text;

/// How long a rehearsal may take.
pub(super) const REHEARSAL_LIMIT: Duration = Duration::from_secs(120);
/// How long it is looked what comes of a job for which nobody waits: most are done by then.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// The pause between two questions.
const ASK_PAUSE: Duration = Duration::from_millis(200);
/// How often it is told how far a job is where there is no terminal to show it on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is told at most what keeps a job from getting on.
const HINDRANCE_INTERVAL: Duration = Duration::from_secs(2);

/// Waits until a job is not being applied any more, and gives it as it is then.
///
/// # Cancel safety
/// Dropping it leaves the job as it was last seen.
pub(super) async fn until_settled(service: &Service<'_>, job: &mut DeadLetterJob) -> Result<(), Failure> {
    let mut shown = Shown::new(job);
    while is_under_way(job) {
        shown.show(job);
        tokio::time::sleep(ASK_PAUSE).await;
        let asked = GetJobRequest { name: job.name.clone() };
        *job = service.ask(asked, async |client, request| client.get_job(request).await).await?.job.unwrap_or_default();
    }
    shown.bar.finish_and_clear();
    Ok(())
}

/// Whether a job goes on by itself.
pub(super) fn is_under_way(job: &DeadLetterJob) -> bool {
    matches!(job.state(), JobState::Applying | JobState::Cancelling)
}

/// What was shown of a job, so that it is not told over and over.
struct Shown {
    /// Hidden where stderr is no terminal: then lines stand for it.
    bar: ProgressBar,
    progress_at: Instant,
    hindrance: String,
    hindrance_at: Option<Instant>,
}

impl Shown {
    fn new(job: &DeadLetterJob) -> Self {
        let bar = ProgressBar::new(u64::try_from(job.member_count).unwrap_or(0));
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} dead letters · {per_sec} · {msg}") {
            bar.set_style(style);
        }
        Self { bar, progress_at: Instant::now(), hindrance: String::new(), hindrance_at: None }
    }

    fn show(&mut self, job: &DeadLetterJob) {
        let settled = settled(&job.counts.unwrap_or_default());
        self.bar.set_position(u64::try_from(settled).unwrap_or(0));
        self.bar.set_message(enum_text(job.state().as_str_name(), "JOB_STATE_"));
        let is_news = !job.hindrance.is_empty() && job.hindrance != self.hindrance;
        if is_news && self.hindrance_at.is_none_or(|at| at.elapsed() >= HINDRANCE_INTERVAL) {
            self.bar.suspend(|| tell(&format!("job {} is held up: {}", short(&job.name), job.hindrance)));
            (self.hindrance, self.hindrance_at) = (job.hindrance.clone(), Some(Instant::now()));
        }
        if self.bar.is_hidden() && self.progress_at.elapsed() >= PROGRESS_INTERVAL {
            tell(&format!("job {}: {settled} of {} are settled", short(&job.name), job.member_count));
            self.progress_at = Instant::now();
        }
    }
}

//! Waiting for what runs on in the projectors, with progress on stderr.

use std::time::{Duration, Instant};

use idempo_proto::ops::v1::{Generation, GenerationState, GetVerificationResponse, RebuildPhase, VerificationState};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;

use super::projectors::{Projector, short};
use super::shown::progress;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{span, tell};
use idempo_message::enum_text;

/// The pause between two questions.
const ASK_PAUSE: Duration = Duration::from_millis(300);
/// How often it is said how things get on where stderr is no terminal.
const SAY_INTERVAL: Duration = Duration::from_secs(5);

/// Waits until a rebuild has come to an end, and gives the generation as it is then.
pub(super) async fn until_ready(projector: &Projector<'_>, generation: &mut Generation, context: &Context) -> Result<(), Failure> {
    let (projection, number) = (projection_of(&generation.name), generation.generation);
    context.goes_on(format!("`idempo projection cancel {projection} {number}` stops it, `idempo projection status {projection}` shows it"));
    let bar = bar("{bar:40} {pos}/{len} events · {msg}");
    let mut lines = Lines::new();
    loop {
        *generation = match projector.generation(&generation.name).await {
            Err(failure) if failure.exit == Exit::NotFound => {
                bar.finish_and_clear();
                return Err(cancelled(&generation.name));
            }
            found => found?,
        };
        let rebuild = generation.rebuild.clone().unwrap_or_default();
        bar.set_length(u64::try_from(rebuild.events_total.max(rebuild.events_done)).unwrap_or(0));
        bar.set_position(u64::try_from(rebuild.events_done).unwrap_or(0));
        let phase = enum_text(rebuild.phase().as_str_name(), "REBUILD_PHASE_");
        let left = if rebuild.remaining_ms < 0 { "?".to_owned() } else { span(SignedDuration::from_millis(rebuild.remaining_ms)) };
        bar.set_message(format!("{phase} · {:.0}/s · {left} left", rebuild.events_per_second));
        lines.say(&bar, || format!("generation {}: {}", generation.generation, progress(&rebuild)));
        if rebuild.phase() == RebuildPhase::Failed {
            bar.finish_and_clear();
            let failure = Failure::new(Exit::Failed, format!("the rebuild can't go on: {} ({})", rebuild.failure, rebuild.failure_code));
            return Err(failure.hint("`idempo projection cancel` removes it"));
        }
        match generation.state() {
            GenerationState::Building => {}
            GenerationState::Dropping => {
                bar.finish_and_clear();
                return Err(cancelled(&generation.name));
            }
            _ => {
                bar.finish_and_clear();
                context.has_ended();
                return Ok(());
            }
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
}

fn cancelled(generation: &str) -> Failure {
    Failure::new(Exit::Conflict, format!("{generation} is gone: the rebuild was cancelled"))
}

/// Waits until a comparison has come to an end.
pub(super) async fn until_compared(projector: &Projector<'_>, name: &str, context: &Context) -> Result<GetVerificationResponse, Failure> {
    context.goes_on(format!("`idempo projection status {}` shows what comes of it", projection_of(name)));
    let bar = bar("{spinner} {msg}");
    let mut lines = Lines::new();
    loop {
        let answer = projector.verification(name).await?;
        let verification = answer.verification.clone().unwrap_or_default();
        bar.set_message(format!("{} rows compared", verification.rows));
        bar.tick();
        lines.say(&bar, || format!("{name}: {} rows compared", verification.rows));
        let is_under_way =
            matches!(verification.state(), VerificationState::Unspecified | VerificationState::Waiting | VerificationState::Running);
        if !is_under_way {
            bar.finish_and_clear();
            context.has_ended();
            return Ok(answer);
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
}

/// The projection, as operators name it, whose generation this is.
fn projection_of(generation: &str) -> &str {
    short(generation).split('/').next().unwrap_or_default()
}

/// Progress where stderr is no terminal: a line now and then.
struct Lines {
    said_at: Instant,
}

impl Lines {
    fn new() -> Self {
        Self { said_at: Instant::now() }
    }

    /// Says it where the bar is seen by nobody, and nothing was said for a while.
    fn say(&mut self, bar: &ProgressBar, line: impl FnOnce() -> String) {
        if bar.is_hidden() && self.said_at.elapsed() >= SAY_INTERVAL {
            tell(&line());
            self.said_at = Instant::now();
        }
    }
}

/// Progress for people: shown on stderr, and only where that is a terminal.
fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

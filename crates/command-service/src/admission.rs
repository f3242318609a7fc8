//! Back-pressure at the front door: while events pile up that nobody carries away, commands that can wait are refused first.
//!
//! A backlog that grows fills the disk of the database that everything depends on, and each command makes it longer. So a service asks its own
//! database how long the oldest event has waited, which works also when every relay is dead, and refuses commands by their [`Criticality`] once that is
//! too long. A refused command has bound no key and had no effect. Reads are never refused for it, nor is what ends something that was begun: refusing
//! that would leave holds and reservations behind, and make more work than it saves.
//!
//! Why it does not flap: a class is refused only when two looks in a row have found the backlog too old, and admitted again only when its age has
//! fallen well below. One look alone proves nothing: a row that was committed a moment ago carries the time at which its transaction began.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idempo_event_store::postgres::backlog_age;
use idempo_pg::Pool;
use idempo_rpc::status::refusal;
use idempo_runtime::{Invalid, Platform, Task};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// The longest age that may be set, in milliseconds: a week.
const AGE_MAX_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// The shortest wait between two looks that may be set, in milliseconds.
const POLL_INTERVAL_MIN_MS: u64 = 10;
/// The longest, in milliseconds.
const POLL_INTERVAL_MAX_MS: u64 = 60_000;
/// A look that takes long is followed by a pause this many times as long, so that looking never takes more than a small share of one connection.
const PAUSE_FACTOR: u32 = 10;
/// What a refused caller is told to wait: a backlog goes within seconds, not milliseconds.
const RETRY_AFTER: Duration = Duration::from_secs(5);

const BACKLOG_AGE: &str = "idempo_backlog_age_seconds";
const SHEDDING: &str = "idempo_shedding";
const SHED: &str = "idempo_shed_commands_total";

/// How much depends on a command. What is less critical is refused earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Criticality {
    /// It can wait: what is only looks, and new business that nobody has begun.
    Low,
    /// What players do.
    Normal,
    /// It ends something that was begun, and is never refused for the age of the backlog.
    Critical,
}

impl Criticality {
    const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::Critical => "critical",
        }
    }
}

/// When commands are refused because events are not carried away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shedding {
    /// How long the oldest event may wait before commands of low criticality are refused, in milliseconds, 1 to 604,800,000 (a week). The default
    /// is longer than a broker's failover or a rolling restart takes, which nobody shall feel.
    pub low_after_ms: u64,
    /// The same for commands of normal criticality; not below `low_after_ms`.
    pub normal_after_ms: u64,
    /// How far the age must fall before what was refused is admitted again, in percent of the age at which refusing began, 1 to 100.
    pub resume_percent: u64,
    /// How often the age is looked at, in milliseconds, 10 to 60,000.
    pub poll_interval_ms: u64,
}

impl Default for Shedding {
    fn default() -> Self {
        Self { low_after_ms: 60_000, normal_after_ms: 300_000, resume_percent: 50, poll_interval_ms: 1_000 }
    }
}

impl Shedding {
    /// Checks what the types can't say. The settings are those of the key `shedding`.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        let bounds = [
            ("low_after_ms", self.low_after_ms, 1, AGE_MAX_MS),
            ("normal_after_ms", self.normal_after_ms, self.low_after_ms, AGE_MAX_MS),
            ("resume_percent", self.resume_percent, 1, 100),
            ("poll_interval_ms", self.poll_interval_ms, POLL_INTERVAL_MIN_MS, POLL_INTERVAL_MAX_MS),
        ];
        let outside = bounds.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value));
        outside.map_or(Ok(()), |(name, _, least, most)| Err(Invalid::new(format!("shedding.{name}"), format!("must be {least} to {most}"))))
    }
}

/// What is admitted, as the looks at the backlog have it.
#[derive(Debug)]
struct Judgement {
    limits: Shedding,
    /// The least critical commands that are admitted.
    admitted: Criticality,
    age_before: Duration,
}

impl Judgement {
    const fn new(limits: Shedding) -> Self {
        Self { limits, admitted: Criticality::Low, age_before: Duration::ZERO }
    }

    /// Takes up what a look has found; the least critical commands that are admitted after it.
    fn look(&mut self, age: Duration) -> Criticality {
        let lasting = age.min(self.age_before);
        self.age_before = age;
        let is_shed = |class: Criticality, after_ms: u64| {
            if self.admitted > class {
                age > Duration::from_millis(after_ms.saturating_mul(self.limits.resume_percent) / 100)
            } else {
                lasting >= Duration::from_millis(after_ms)
            }
        };
        self.admitted = if is_shed(Criticality::Normal, self.limits.normal_after_ms) {
            Criticality::Critical
        } else if is_shed(Criticality::Low, self.limits.low_after_ms) {
            Criticality::Normal
        } else {
            Criticality::Low
        };
        self.admitted
    }
}

/// Who may come in now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission {
    domain: &'static str,
    admitted: watch::Receiver<Criticality>,
    age_ms: Arc<AtomicU64>,
}

impl Admission {
    /// Lets a command in, or says why not and when to come again. Counts what it refuses.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with the reason `BACKLOG_TOO_OLD`. The command has had no effect, and its key is not bound by this attempt.
    pub fn admit(&self, criticality: Criticality) -> Result<(), Status> {
        if criticality >= *self.admitted.borrow() {
            return Ok(());
        }
        counter!(SHED, "criticality" => criticality.name()).increment(1);
        let text = "events wait for too long to be sent, so what can wait is not taken now; nothing was done";
        Err(refusal(Code::ResourceExhausted, "BACKLOG_TOO_OLD", self.domain, text)
            .metadata("backlog_age_ms", self.age_ms.load(Ordering::Relaxed))
            .metadata("criticality", criticality.name())
            .quota("backlog", "the age of the oldest event that is not sent")
            .retry_after(RETRY_AFTER)
            .into_status())
    }
}

/// Starts to look at the age of the backlog. Everything is admitted until two looks have found it too old. `domain` is the service's name in errors.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start_admission(domain: &'static str, shedding: &Shedding, pool: &Pool, platform: &Platform) -> Admission {
    describe_gauge!(BACKLOG_AGE, Unit::Seconds, "How long the oldest event of the service has waited that is not known to be in Kafka");
    describe_gauge!(
        SHEDDING,
        "What is refused for the age of the backlog: 0 nothing, 1 commands of low criticality, 2 those of normal too"
    );
    describe_counter!(SHED, Unit::Count, "Commands that were refused for the age of the backlog, by criticality");
    let (told, admitted) = watch::channel(Criticality::Low);
    let age_ms = Arc::<AtomicU64>::default();
    let look = Look { pool: pool.clone(), judgement: Judgement::new(shedding.clone()), told, age_ms: Arc::clone(&age_ms) };
    platform.tasks.spawn(Task::critical("admission"), |cancel| async move {
        look.run(cancel).await;
        Ok(())
    });
    Admission { domain, admitted, age_ms }
}

/// Looks at the backlog again and again.
struct Look {
    pool: Pool,
    judgement: Judgement,
    told: watch::Sender<Criticality>,
    age_ms: Arc<AtomicU64>,
}

impl Look {
    async fn run(mut self, cancel: CancellationToken) {
        let interval = Duration::from_millis(self.judgement.limits.poll_interval_ms);
        loop {
            let began = Instant::now();
            match cancel.run_until_cancelled(backlog_age(&self.pool)).await {
                Some(Ok(age)) => self.found(age),
                // Whether the database is there is told by the readiness. One that does not answer changes nothing here: its backlog is what it was.
                Some(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "the backlog could not be looked at"),
                None => return,
            }
            let wait = interval.max(began.elapsed() * PAUSE_FACTOR);
            if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    fn found(&mut self, age: Duration) {
        let before = self.judgement.admitted;
        let admitted = self.judgement.look(age);
        self.age_ms.store(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        gauge!(BACKLOG_AGE).set(age);
        gauge!(SHEDDING).set(match admitted {
            Criticality::Low => 0.0,
            Criticality::Normal => 1.0,
            Criticality::Critical => 2.0,
        });
        if admitted == before {
            return;
        }
        let (age_ms, admitted_from) = (age.as_millis(), admitted.name());
        if admitted > before {
            tracing::warn!(age_ms, admitted_from, "the backlog is too old: commands that can wait are refused");
        } else {
            tracing::info!(age_ms, admitted_from, "the backlog has become younger: more commands are admitted again");
        }
        self.told.send_replace(admitted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement() -> Judgement {
        Judgement::new(Shedding { low_after_ms: 10_000, normal_after_ms: 60_000, resume_percent: 50, ..Shedding::default() })
    }

    /// What is admitted after each of these ages, in seconds.
    fn admitted(ages: &[u64]) -> Vec<Criticality> {
        let mut judgement = judgement();
        ages.iter().map(|age| judgement.look(Duration::from_secs(*age))).collect()
    }

    #[test]
    fn what_is_less_critical_is_refused_earlier_and_what_is_critical_never() {
        use Criticality::{Critical, Low, Normal};
        assert_eq!(admitted(&[9, 10, 11, 59, 60, 61]), [Low, Low, Normal, Normal, Normal, Critical]);
        assert_eq!(admitted(&[100_000, 100_000]), [Low, Critical]);
    }

    #[test]
    fn one_look_alone_refuses_nothing() {
        use Criticality::Low;
        assert_eq!(admitted(&[0, 3_600, 0, 3_600, 0]), [Low; 5]);
    }

    #[test]
    fn what_was_refused_is_admitted_again_well_below_where_that_began() {
        use Criticality::{Critical, Low, Normal};
        assert_eq!(
            admitted(&[61, 61, 59, 31, 30, 9, 6, 5, 9, 9]),
            [Low, Critical, Critical, Critical, Normal, Normal, Normal, Low, Low, Low]
        );
    }

    #[test]
    fn the_refusal_says_why_and_when_to_come_again() {
        use tonic_types::StatusExt as _;
        let (told, admitted) = watch::channel(Criticality::Low);
        let admission = Admission { domain: "sample.idempo", admitted, age_ms: Arc::new(AtomicU64::new(61_000)) };
        assert!(admission.admit(Criticality::Low).is_ok());
        told.send_replace(Criticality::Critical);
        assert!(admission.admit(Criticality::Critical).is_ok());
        for criticality in [Criticality::Low, Criticality::Normal] {
            let status = admission.admit(criticality).expect_err("refused");
            assert_eq!(status.code(), Code::ResourceExhausted);
            let details = status.get_error_details();
            let info = details.error_info().expect("an ErrorInfo");
            assert_eq!((info.reason.as_str(), info.domain.as_str()), ("BACKLOG_TOO_OLD", "sample.idempo"));
            assert_eq!(info.metadata.get("backlog_age_ms").map(String::as_str), Some("61000"));
            assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(RETRY_AFTER));
            assert_eq!(details.quota_failure().expect("a QuotaFailure").violations.len(), 1);
        }
    }

    #[test]
    fn ages_the_wrong_way_round_are_refused() {
        assert!(Shedding::default().validate().is_ok());
        for wrong in [
            Shedding { normal_after_ms: 1, ..Shedding::default() },
            Shedding { low_after_ms: 0, ..Shedding::default() },
            Shedding { resume_percent: 101, ..Shedding::default() },
            Shedding { poll_interval_ms: 1, ..Shedding::default() },
        ] {
            assert!(wrong.validate().is_err(), "{wrong:?}");
        }
    }
}

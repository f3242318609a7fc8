//! The metrics of a projection's generations, as every process of it reads them beside the read model.
//!
//! None has a generation's number as a label, so that series don't come and go with generations: of a projection one rebuild is under way at most, and
//! where a number matters it is the value. How far a generation's own consumer is, also while it catches up or is built from Kafka, its `version`
//! tells in `idempo_projection_position` and `idempo_projection_head`; those series are shown for as long as this process follows the generation.

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::generations::known::{Generation, Known, Phase, Source, State, Verdict};

const GENERATIONS: &str = "idempo_projection_generations";
const LIVE: &str = "idempo_projection_live_generation";
const PAUSED: &str = "idempo_projection_paused";
const SWITCHES: &str = "idempo_projection_switches_total";
const REBUILD_GENERATION: &str = "idempo_projection_rebuild_generation";
const REBUILD_PHASE: &str = "idempo_projection_rebuild_phase";
const REBUILD_EVENTS: &str = "idempo_projection_rebuild_events";
const REBUILD_EVENTS_EXPECTED: &str = "idempo_projection_rebuild_events_expected";
const REBUILD_RATIO: &str = "idempo_projection_rebuild_ratio";
const REBUILD_AGE: &str = "idempo_projection_rebuild_age_seconds";
const REBUILD_DURATION: &str = "idempo_projection_rebuild_duration_seconds";
const REBUILT_EVENTS: &str = "idempo_projection_rebuilt_events_total";
const VERIFICATION: &str = "idempo_projection_verification";

/// The states of generations, and what they are called.
const STATES: [(State, &str); 5] = [
    (State::Building, "building"),
    (State::Ready, "ready"),
    (State::Live, "live"),
    (State::Retired, "retired"),
    (State::Dropping, "dropping"),
];
/// The phases of a rebuild that is under way, and what they are called.
const PHASES: [(Phase, &str); 5] = [
    (Phase::Waiting, "waiting"),
    (Phase::Scanning, "scanning"),
    (Phase::Indexing, "indexing"),
    (Phase::CatchingUp, "catching_up"),
    (Phase::Failed, "failed"),
];
/// The states of a comparison, and what they are called.
const VERDICTS: [(Verdict, &str); 5] = [
    (Verdict::Waiting, "waiting"),
    (Verdict::Running, "running"),
    (Verdict::Equal, "equal"),
    (Verdict::Different, "different"),
    (Verdict::Failed, "failed"),
];

/// The metrics of one projection's generations.
pub(crate) struct GenerationMeters {
    projection: &'static str,
    /// The live generation, once it was seen.
    live: Option<i32>,
}

impl GenerationMeters {
    pub(crate) fn new(projection: &'static str) -> Self {
        describe();
        Self { projection, live: None }
    }

    /// Shows what is noted now. `read` is how many events a rebuild has read that is reading the event store; `now_ms` the time since 1970.
    pub(crate) fn show(&mut self, known: &Known, read: Option<i64>, now_ms: i64) {
        for (state, name) in STATES {
            let generations = known.generations.iter().filter(|generation| generation.state == state).count();
            gauge!(GENERATIONS, self.by("state", name)).set(number(i64::try_from(generations).unwrap_or(i64::MAX)));
        }
        gauge!(LIVE, "projection" => self.projection).set(f64::from(known.live));
        gauge!(PAUSED, "projection" => self.projection).set(if known.pause.is_some() { 1.0 } else { 0.0 });
        let switches = counter!(SWITCHES, "projection" => self.projection);
        if self.live.replace(known.live).is_some_and(|before| before != known.live) {
            switches.increment(1);
        }
        self.show_rebuild(known, read, now_ms);
        let compared = known.generations.iter().filter_map(|generation| generation.verification.as_ref());
        let last = compared.max_by_key(|verification| verification.started_at).map(|verification| verification.verdict);
        for (verdict, name) in VERDICTS {
            gauge!(VERIFICATION, self.by("state", name)).set(if last == Some(verdict) { 1.0 } else { 0.0 });
        }
    }

    fn show_rebuild(&self, known: &Known, read: Option<i64>, now_ms: i64) {
        let building = known.generations.iter().find(|generation| generation.state == State::Building);
        let rebuild = building.and_then(|generation| generation.rebuild.as_ref());
        gauge!(REBUILD_GENERATION, "projection" => self.projection).set(f64::from(building.map_or(0, |generation| generation.number)));
        for (phase, name) in PHASES {
            let is_it = rebuild.is_some_and(|rebuild| rebuild.phase == phase);
            gauge!(REBUILD_PHASE, self.by("phase", name)).set(if is_it { 1.0 } else { 0.0 });
        }
        let (mut done, mut expected) = (0.0, 0.0);
        if let Some(rebuild) = rebuild.filter(|rebuild| rebuild.source == Source::EventStore) {
            expected = number(rebuild.events_total);
            done = match rebuild.phase {
                Phase::Waiting => 0.0,
                Phase::Scanning | Phase::Failed => number(read.unwrap_or(0)),
                Phase::Indexing | Phase::CatchingUp | Phase::Done => expected,
            };
        }
        gauge!(REBUILD_EVENTS, "projection" => self.projection).set(done);
        gauge!(REBUILD_EVENTS_EXPECTED, "projection" => self.projection).set(expected);
        gauge!(REBUILD_RATIO, "projection" => self.projection).set(if expected > 0.0 { (done / expected).min(1.0) } else { 0.0 });
        let age_ms = rebuild.map_or(0, |rebuild| now_ms.saturating_sub(rebuild.started_at.as_millisecond()).max(0));
        gauge!(REBUILD_AGE, "projection" => self.projection).set(seconds(age_ms));
        // That of one that was removed since stays shown: it was the last one.
        if let Some(ms) = known.generations.iter().filter_map(built_at_in_ms).max().map(|(_, ms)| ms) {
            gauge!(REBUILD_DURATION, "projection" => self.projection).set(seconds(ms));
        }
    }

    /// The labels of a metric that has one beside the projection.
    fn by(&self, label: &'static str, of: &'static str) -> Vec<Label> {
        vec![Label::from_static_parts("projection", self.projection), Label::from_static_parts(label, of)]
    }
}

/// This process has brought events of the event store into a generation that is being built.
pub(crate) fn rebuilt(projection: &'static str, events: i64) {
    counter!(REBUILT_EVENTS, "projection" => projection).increment(events.unsigned_abs());
}

/// When a generation was ready, and how long that took since it was asked for, both in milliseconds.
fn built_at_in_ms(generation: &Generation) -> Option<(i64, i64)> {
    let rebuild = generation.rebuild.as_ref()?;
    let ready_at = rebuild.ready_at?.as_millisecond();
    Some((ready_at, ready_at.saturating_sub(rebuild.started_at.as_millisecond())))
}

fn seconds(ms: i64) -> f64 {
    std::time::Duration::from_millis(ms.unsigned_abs()).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "more than 2^53 events would be shown rounded, and nothing is decided by it")]
const fn number(count: i64) -> f64 {
    count as f64
}

fn describe() {
    describe_gauge!(GENERATIONS, Unit::Count, "Generations of the projection, by state");
    describe_gauge!(LIVE, Unit::Count, "Number of the generation that reads are answered from");
    describe_gauge!(PAUSED, Unit::Count, "1 while people have paused the projection");
    describe_counter!(SWITCHES, Unit::Count, "Times that this process saw another generation become the live one");
    describe_gauge!(REBUILD_GENERATION, Unit::Count, "Number of the generation that is being built; 0 while none is");
    describe_gauge!(REBUILD_PHASE, Unit::Count, "1 for what the rebuild that is under way is doing, by phase");
    describe_gauge!(REBUILD_EVENTS, Unit::Count, "Events of the event store that the rebuild under way has read; 0 while none is");
    describe_gauge!(
        REBUILD_EVENTS_EXPECTED,
        Unit::Count,
        "Events that the rebuild under way has to read of the event store; 0 while none is"
    );
    describe_gauge!(REBUILD_RATIO, Unit::Count, "Share of the event store that the rebuild under way has read, 0 to 1");
    describe_gauge!(REBUILD_AGE, Unit::Seconds, "How long ago the rebuild under way was asked for; 0 while none is");
    describe_gauge!(REBUILD_DURATION, Unit::Seconds, "From the request to ready, of the generation that was built last");
    describe_counter!(
        REBUILT_EVENTS,
        Unit::Count,
        "Events of the event store that this process has brought into generations that are being built"
    );
    describe_gauge!(VERIFICATION, Unit::Count, "1 for what came of the last comparison of a generation, by state");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_phase_and_verdict_is_shown_under_one_name() {
        let names = |names: &mut Vec<&str>| {
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all);
        };
        names(&mut STATES.map(|(_, name)| name).to_vec());
        names(&mut PHASES.map(|(_, name)| name).to_vec());
        names(&mut VERDICTS.map(|(_, name)| name).to_vec());
    }
}

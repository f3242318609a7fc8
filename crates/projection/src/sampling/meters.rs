//! The metrics of the comparisons. They are of this process: others look at other players.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::compare::Wrong;

const PLAYERS: &str = "idempo_projection_sampled_players_total";
const ROWS: &str = "idempo_projection_sampled_rows_total";
const SKIPS: &str = "idempo_projection_sample_skips_total";
const FOUND: &str = "idempo_projection_sample_different_total";
const DIFFERENT: &str = "idempo_projection_sample_different_players";
const AGE: &str = "idempo_projection_sample_age_seconds";
const DURATION: &str = "idempo_projection_sample_duration_seconds";

pub(super) struct Meters {
    projection: &'static str,
    players: Counter,
    rows: Counter,
    different: Gauge,
    age: Gauge,
    duration: Histogram,
}

impl Meters {
    pub(super) fn new(projection: &'static str) -> Self {
        describe();
        let meters = Self {
            projection,
            players: counter!(PLAYERS, "projection" => projection),
            rows: counter!(ROWS, "projection" => projection),
            different: gauge!(DIFFERENT, "projection" => projection),
            age: gauge!(AGE, "projection" => projection),
            duration: histogram!(DURATION, "projection" => projection),
        };
        // An alarm on what rises needs a 0 to rise from.
        for wrong in [Wrong::Rows, Wrong::BeyondStore] {
            counter!(FOUND, meters.by(wrong.reason())).increment(0);
        }
        meters.different.set(0.0);
        meters
    }

    pub(super) fn compared(&self, rows: i64, took: Duration) {
        self.players.increment(1);
        self.rows.increment(u64::try_from(rows).unwrap_or(0));
        self.duration.record(took);
    }

    pub(super) fn skipped(&self, reason: &'static str) {
        counter!(SKIPS, self.by(reason)).increment(1);
    }

    pub(super) fn found(&self, reason: &'static str) {
        counter!(FOUND, self.by(reason)).increment(1);
    }

    pub(super) fn different(&self, players: usize) {
        self.different.set(f64::from(u32::try_from(players).unwrap_or(u32::MAX)));
    }

    pub(super) fn age(&self, age: Duration) {
        self.age.set(age.as_secs_f64());
    }

    fn by(&self, reason: &'static str) -> Vec<Label> {
        vec![Label::from_static_parts("projection", self.projection), Label::from_static_parts("reason", reason)]
    }
}

fn describe() {
    describe_counter!(PLAYERS, Unit::Count, "Players whose rows were compared with the fold of their events");
    describe_counter!(ROWS, Unit::Count, "Rows that the events of these players say there are");
    describe_counter!(SKIPS, Unit::Count, "Comparisons of a player that were not made, by reason");
    describe_counter!(
        FOUND,
        Unit::Count,
        "Players whose rows were found not to be as the events say, by reason: always 0, or something is wrong"
    );
    describe_gauge!(DIFFERENT, Unit::Count, "Players found by this process whose rows are not as the events say until they are mended");
    describe_gauge!(AGE, Unit::Seconds, "How long ago this process last compared a player, or began to");
    describe_histogram!(DURATION, Unit::Seconds, "Time from drawing a player to the end of the comparison");
}

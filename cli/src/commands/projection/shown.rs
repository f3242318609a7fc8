//! How projections, generations and comparisons are shown.

use std::fmt::Write as _;

use idempo_proto::ops::v1::{
    Difference, Generation, GenerationState, Projection, ProjectionAuditEntry, Rebuild, RebuildPhase, Verification, VerificationAgainst,
    VerificationState,
};
use jiff::SignedDuration;

use super::projection_json;
use super::projectors::short;
use crate::failure::Failure;
use crate::print::{Cell, Form, Printer, Row, Style, Tone, known, span};
use idempo_message::{enum_text, json_of, time_of};

const COLUMNS: [&str; 8] = ["PROJECTION", "LIVE", "LOGIC", "LAG EVENTS", "LAG", "STOPPED", "PAUSED", "GENERATIONS"];
const GENERATION_COLUMNS: [&str; 8] = ["GENERATION", "STATE", "LOGIC", "LAG EVENTS", "LAG", "BEGUN", "BUILT", "COMPARED"];
const PARTITION_COLUMNS: [&str; 7] = ["GENERATION", "PARTITION", "NEXT OFFSET", "HEAD", "LAG EVENTS", "LAG", "STOPPED"];
const DIFFERENCE_COLUMNS: [&str; 6] = ["TABLE", "KEY", "LIVE ROW", "ROW", "FOLD ROW", "FROM"];
const AUDIT_COLUMNS: [&str; 7] = ["WHEN", "CALLER", "ACTION", "TARGET", "OUTCOME", "DETAIL", "REASON"];

pub(super) fn list(projections: &[Projection], printer: &mut Printer<'_>) -> Result<(), Failure> {
    let rows: Vec<Row> = projections.iter().map(row).collect();
    printer.list(&COLUMNS, &rows)
}

fn row(projection: &Projection) -> Row {
    let stopped = projection.stopped_partitions;
    let paused = if projection.paused { Cell::toned(format!("by {}", projection.paused_by), Tone::Odd) } else { "-".into() };
    let generations: Vec<String> = projection.generations.iter().map(|generation| generation.generation.to_string()).collect();
    Row {
        json: projection_json(projection),
        cells: vec![
            short(&projection.name).into(),
            projection.live_generation.into(),
            projection.logic.as_str().into(),
            known(projection.lag_events).into(),
            lag(projection.lag_ms),
            Cell::toned(stopped.to_string(), if stopped == 0 { Tone::Plain } else { Tone::Bad }),
            paused,
            generations.join(" ").into(),
        ],
    }
}

/// A projection: as text, a table of its generations, and of their partitions where they are wanted.
pub(super) fn status(projection: &Projection, partitions: bool, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.style.form != Form::Text {
        return printer.one(&projection_json(projection), &[]);
    }
    list(std::slice::from_ref(projection), printer)?;
    if projection.paused {
        printer.line(&format!("paused by {}: {}", projection.paused_by, projection.pause_reason))?;
    }
    printer.line("")?;
    let style = printer.style;
    let rows: Vec<Row> = projection.generations.iter().map(|generation| generation_row(generation, &style)).collect();
    printer.list(&GENERATION_COLUMNS, &rows)?;
    let broken = projection.generations.iter().flat_map(|generation| generation.partitions.iter().map(move |one| (generation, one)));
    for (generation, partition) in broken.filter(|(_, partition)| !partition.stop_code.is_empty()) {
        let text = format!("generation {} partition {}: {}", generation.generation, partition.partition, partition.stop_reason);
        printer.line(&format!("{} {}", printer.painted(&Cell::toned("stopped", Tone::Bad)), text))?;
    }
    if partitions {
        printer.line("")?;
        let rows: Vec<Row> = projection.generations.iter().flat_map(partition_rows).collect();
        printer.list(&PARTITION_COLUMNS, &rows)?;
    }
    Ok(())
}

/// One generation.
pub(super) fn generation(generation: &Generation, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let json = json_of("idempo.ops.v1.Generation", generation);
    if printer.style.form != Form::Text {
        return printer.one(&json, &[]);
    }
    let style = printer.style;
    printer.list(&GENERATION_COLUMNS, &[generation_row(generation, &style)])
}

fn generation_row(generation: &Generation, style: &Style) -> Row {
    Row {
        json: json_of("idempo.ops.v1.Generation", generation),
        cells: vec![
            generation.generation.into(),
            Cell::toned(state_text(generation.state()), state_tone(generation.state())),
            if generation.logic.is_empty() { "-".into() } else { generation.logic.as_str().into() },
            known(generation.lag_events).into(),
            lag(generation.lag_ms),
            style.time(time_of(generation.create_time.as_ref())).into(),
            generation.rebuild.as_ref().map_or_else(|| "-".into(), rebuild_cell),
            generation.verification.as_ref().map_or_else(|| "-".into(), verification_cell),
        ],
    }
}

fn rebuild_cell(rebuild: &Rebuild) -> Cell {
    match rebuild.phase() {
        RebuildPhase::Done => {
            let (began, ready) = (time_of(rebuild.start_time.as_ref()), time_of(rebuild.ready_time.as_ref()));
            let took = began.zip(ready).map_or_else(String::new, |(began, ready)| format!(" in {}", span(ready.duration_since(began))));
            Cell::toned(format!("done{took}"), Tone::Good)
        }
        RebuildPhase::Failed => Cell::toned(format!("failed: {}", rebuild.failure), Tone::Bad),
        _ => Cell::toned(progress(rebuild), Tone::Odd),
    }
}

/// How a rebuild gets on: its phase, how far it is, how fast, and how long it will still take where that is known.
pub(super) fn progress(rebuild: &Rebuild) -> String {
    let phase = enum_text(rebuild.phase().as_str_name(), "REBUILD_PHASE_");
    let mut text = format!("{phase}, {} of {} events", rebuild.events_done, rebuild.events_total);
    if rebuild.events_per_second > 0.0 {
        let _ = write!(text, ", {:.0}/s", rebuild.events_per_second);
    }
    if rebuild.remaining_ms >= 0 {
        let _ = write!(text, ", {} left", span(SignedDuration::from_millis(rebuild.remaining_ms)));
    }
    text
}

fn verification_cell(verification: &Verification) -> Cell {
    let tone = match verification.state() {
        VerificationState::Equal => Tone::Good,
        VerificationState::Different | VerificationState::Failed => Tone::Bad,
        _ => Tone::Odd,
    };
    Cell::toned(outcome(verification), tone)
}

/// What a comparison came to, or where it is.
pub(super) fn outcome(verification: &Verification) -> String {
    let (state, live) = (verification.state(), verification.compared_with);
    let with = match verification.against() {
        VerificationAgainst::Fold => "the fold".to_owned(),
        _ => live.to_string(),
    };
    match state {
        VerificationState::Equal => format!("equal to {with}"),
        VerificationState::Different => format!("differs from {with}"),
        VerificationState::Failed => format!("failed: {}", verification.failure),
        _ => verification_text(state),
    }
}

/// The state of a comparison as people write it.
pub(super) fn verification_text(state: VerificationState) -> String {
    enum_text(state.as_str_name(), "VERIFICATION_STATE_")
}

fn partition_rows(generation: &Generation) -> Vec<Row> {
    let row = |partition: &idempo_proto::ops::v1::Partition| Row {
        json: json_of("idempo.ops.v1.Partition", partition),
        cells: vec![
            generation.generation.into(),
            partition.partition.into(),
            partition.next_offset.into(),
            known(partition.head).into(),
            known(partition.lag_events).into(),
            lag(partition.lag_ms),
            if partition.stop_code.is_empty() { "-".into() } else { Cell::toned(partition.stop_code.as_str(), Tone::Bad) },
        ],
    };
    generation.partitions.iter().map(row).collect()
}

/// What came of a comparison.
pub(super) fn verification(name: &str, verification: &Verification, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let json = json_of("idempo.ops.v1.Verification", verification);
    let mut fields = vec![
        ("generation", name.into()),
        ("outcome", verification_cell(verification)),
        ("rows", verification.rows.into()),
        ("buckets", verification.buckets.into()),
        ("differing", verification.buckets_different.into()),
    ];
    if verification.against() == VerificationAgainst::Fold {
        fields.push(("from live", verification.live_buckets_different.into()));
    }
    printer.one(&json, &fields)
}

/// What differed. A row that one side does not have is `none`; `-` is the side that was not looked at.
pub(super) fn differences(differences: &[Difference], printer: &mut Printer<'_>) -> Result<(), Failure> {
    let or_none = |row: &str| if row.is_empty() { "none".to_owned() } else { row.to_owned() };
    let beside = |row: &str, is_looked_at: bool| if is_looked_at { or_none(row) } else { "-".to_owned() };
    let row = |difference: &Difference| Row {
        json: json_of("idempo.ops.v1.Difference", difference),
        cells: vec![
            difference.table.as_str().into(),
            difference.key.as_str().into(),
            beside(&difference.live_row, difference.against() != VerificationAgainst::Fold).into(),
            or_none(&difference.row).into(),
            beside(&difference.fold_row, difference.against() == VerificationAgainst::Fold).into(),
            if difference.against() == VerificationAgainst::Fold { "the fold".into() } else { "the live one".into() },
        ],
    };
    printer.list(&DIFFERENCE_COLUMNS, &differences.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn audit(entries: &[ProjectionAuditEntry], printer: &mut Printer<'_>) -> Result<(), Failure> {
    let style = printer.style;
    let row = |entry: &ProjectionAuditEntry| Row {
        json: json_of("idempo.ops.v1.ProjectionAuditEntry", entry),
        cells: vec![
            style.time(time_of(entry.create_time.as_ref())).into(),
            entry.caller.as_str().into(),
            entry.action.as_str().into(),
            entry.target.as_str().into(),
            Cell::toned(entry.outcome.as_str(), if entry.outcome == "DONE" { Tone::Plain } else { Tone::Odd }),
            entry.detail.as_str().into(),
            entry.reason.as_str().into(),
        ],
    };
    printer.list(&AUDIT_COLUMNS, &entries.iter().map(row).collect::<Vec<_>>())
}

/// A state as people write it.
pub(super) fn state_text(state: GenerationState) -> String {
    enum_text(state.as_str_name(), "GENERATION_STATE_")
}

const fn state_tone(state: GenerationState) -> Tone {
    match state {
        GenerationState::Live | GenerationState::Ready => Tone::Good,
        GenerationState::Building | GenerationState::Dropping | GenerationState::Unspecified => Tone::Odd,
        GenerationState::Retired => Tone::Plain,
    }
}

fn lag(lag_ms: i64) -> Cell {
    match lag_ms {
        0 => "-".into(),
        // Nobody has said it.
        ..0 => "?".into(),
        _ => span(SignedDuration::from_millis(lag_ms)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_says_how_fast_it_is_and_how_long_it_will_take_where_that_is_known() {
        let rebuild = Rebuild { phase: RebuildPhase::Scanning.into(), events_done: 5, events_total: 205, ..Rebuild::default() };
        let running = Rebuild { events_per_second: 40.0, remaining_ms: 5_000, ..rebuild.clone() };
        assert_eq!(progress(&running), "scanning, 5 of 205 events, 40/s, 5s left");
        assert_eq!(progress(&Rebuild { remaining_ms: -1, ..rebuild }), "scanning, 5 of 205 events");
    }

    #[test]
    fn a_lag_that_nobody_has_said_is_none_of_zero() {
        assert_eq!([lag(-1), lag(0), lag(2_000)], ["?".into(), "-".into(), "2s".into()]);
    }
}

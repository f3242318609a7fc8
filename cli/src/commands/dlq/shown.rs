//! How dead letters, their groups and jobs are shown.

use idempo_proto::ops::v1::{
    DeadLetter, DeadLetterAuditEntry, DeadLetterGroup, DeadLetterJob, DeadLetterState, GetDeadLetterResponse, JobAction, JobCounts,
    JobMember, JobPart, JobState, MemberState, RehearseJobResponse, RehearsedMember, RowDifference,
};
use serde_json::Value;

use super::service::short;
use crate::failure::{Failure, one_line};
use crate::print::{Cell, Form, Printer, Row, Style, Tone};
use idempo_message::{enum_text, json_of, time_of};

const GROUP_COLUMNS: [&str; 8] = ["GROUP", "CODE", "TYPE", "TOPIC", "CONSUMER", "COUNT", "FIRST", "LAST"];
const LETTER_COLUMNS: [&str; 8] = ["NAME", "STATE", "CODE", "TYPE", "KEY", "BYTES", "REPLAYS", "FAILED"];
const JOB_COLUMNS: [&str; 9] = ["JOB", "ACTION", "STATE", "MEMBERS", "SETTLED", "FAILED", "RECORDS", "PLANNED", "HINDRANCE"];
const PART_COLUMNS: [&str; 6] = ["CODE", "TYPE", "TOPIC", "CONSUMER", "COUNT", "GUARDED"];
const MEMBER_COLUMNS: [&str; 5] = ["NAME", "STATE", "RECORDS", "CODE", "REASON"];
const REHEARSED_COLUMNS: [&str; 5] = ["NAME", "WOULD", "RECORDS", "CODE", "REASON"];
const DIFFERENCE_COLUMNS: [&str; 4] = ["TABLE", "KEY", "BEFORE", "AFTER"];
const AUDIT_COLUMNS: [&str; 7] = ["WHEN", "CALLER", "ACTION", "TARGET", "OUTCOME", "DETAIL", "REASON"];
/// How many bytes of what can't be decoded are shown as text.
const RAW_BYTES_SHOWN_MAX: usize = 256;

pub(super) fn groups(groups: &[DeadLetterGroup], printer: &mut Printer<'_>) -> Result<(), Failure> {
    let style = printer.style;
    let row = |group: &DeadLetterGroup| Row {
        json: json_of("idempo.ops.v1.DeadLetterGroup", group),
        cells: vec![
            short(&group.name).into(),
            Cell::toned(group.code.as_str(), Tone::Bad),
            or_dash(&group.event_type),
            group.topic.as_str().into(),
            group.consumer_group.as_str().into(),
            group.count.into(),
            style.time(time_of(group.first_fail_time.as_ref())).into(),
            style.time(time_of(group.last_fail_time.as_ref())).into(),
        ],
    };
    printer.list(&GROUP_COLUMNS, &groups.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn letters(letters: &[DeadLetter], printer: &mut Printer<'_>) -> Result<(), Failure> {
    let style = printer.style;
    let rows: Vec<Row> = letters.iter().map(|letter| letter_row(letter, &style)).collect();
    printer.list(&LETTER_COLUMNS, &rows)
}

fn letter_row(letter: &DeadLetter, style: &Style) -> Row {
    Row {
        json: json_of("idempo.ops.v1.DeadLetter", letter),
        cells: vec![
            short(&letter.name).into(),
            state_cell(letter.state()),
            letter.code.as_str().into(),
            or_dash(&letter.event_type),
            if letter.has_key { letter.key.as_str().into() } else { "-".into() },
            if letter.tombstone { "none".into() } else { letter.value_bytes.into() },
            letter.replay_count.into(),
            style.time(time_of(letter.last_fail_time.as_ref())).into(),
        ],
    }
}

/// One dead letter: what is known of it, then its event, or its bytes where they are none.
pub(super) fn letter(found: &GetDeadLetterResponse, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let event = serde_json::from_str::<Value>(&found.event_json).unwrap_or_default();
    let letter = found.dead_letter.clone().unwrap_or_default();
    let style = printer.style;
    let time = |at: &Option<prost_types::Timestamp>| Cell::from(style.time(time_of(at.as_ref())));
    let twice = letter.first_code != letter.code || letter.first_reason != letter.reason;
    let mut fields: Vec<(&str, Cell)> = vec![
        ("dead letter", short(&letter.name).into()),
        ("state", state_cell(letter.state())),
        ("code", letter.code.as_str().into()),
        ("reason", one_line(&letter.reason).into()),
        ("stage", format!("{}, {}", letter.stage, letter.disposition).into()),
        ("at first", if twice { format!("{}: {}", letter.first_code, one_line(&letter.first_reason)).into() } else { "the same".into() }),
        ("attempts", letter.attempts.into()),
        ("replays", letter.replay_count.into()),
        ("consumer", letter.consumer_group.as_str().into()),
        ("record", format!("{} partition {} offset {}", letter.topic, letter.partition, letter.offset).into()),
        ("key", if letter.has_key { letter.key.as_str().into() } else { "none".into() }),
        ("type", or_dash(&letter.event_type)),
        ("recorded", time(&letter.record_time)),
        ("failed first", time(&letter.first_fail_time)),
        ("failed last", time(&letter.last_fail_time)),
        ("parked behind", parked_behind(found)),
    ];
    if !letter.job.is_empty() {
        fields.push(("job", short(&letter.job).into()));
    }
    if !letter.note.is_empty() {
        fields.push(("note", format!("{} ({})", letter.note, letter.note_caller).into()));
    }
    printer.one(&letter_json(found, &event), &fields)?;
    if style.form != Form::Text {
        return Ok(());
    }
    if found.undecodable_reason.is_empty() && !event.is_null() {
        printer.line("event")?;
        return printer.json(&event);
    }
    printer.line(&format!("it is no event: {}", found.undecodable_reason))?;
    if letter.tombstone {
        return printer.line("it has no value");
    }
    let shown = found.value.get(..found.value.len().min(RAW_BYTES_SHOWN_MAX)).unwrap_or_default();
    let begins = if found.value.len() > shown.len() { "it begins with " } else { "" };
    printer.line(&format!("{begins}{}", shown.escape_ascii()))
}

/// The answer as JSON, with the event as what it is and not as text.
fn letter_json(found: &GetDeadLetterResponse, event: &Value) -> Value {
    let mut json = json_of("idempo.ops.v1.GetDeadLetterResponse", found);
    if let Value::Object(fields) = &mut json {
        fields.remove("event_json");
        fields.insert("event".to_owned(), event.clone());
    }
    json
}

fn parked_behind(found: &GetDeadLetterResponse) -> Cell {
    match &found.parked_behind {
        None => format!("not known: {}", found.unparked_reason).into(),
        Some(behind) if behind.record_count == 0 => "nothing".into(),
        Some(behind) => {
            let records = if behind.record_count == 1 { "1 record".to_owned() } else { format!("{} records", behind.record_count) };
            let text = format!("{records}, offsets {} to {}", behind.first_offset, behind.last_offset);
            Cell::toned(text, Tone::Odd)
        }
    }
}

pub(super) fn jobs(jobs: &[DeadLetterJob], printer: &mut Printer<'_>) -> Result<(), Failure> {
    let style = printer.style;
    printer.list(&JOB_COLUMNS, &jobs.iter().map(|job| job_row(job, &style)).collect::<Vec<_>>())
}

fn job_row(job: &DeadLetterJob, style: &Style) -> Row {
    let counts = job.counts.unwrap_or_default();
    let failed = counts.failed_again + counts.refused;
    Row {
        json: json_of("idempo.ops.v1.DeadLetterJob", job),
        cells: vec![
            short(&job.name).into(),
            action_text(job.action()).into(),
            Cell::toned(enum_text(job.state().as_str_name(), "JOB_STATE_"), job_tone(job.state())),
            job.member_count.into(),
            settled(&counts).into(),
            Cell::toned(failed.to_string(), if failed == 0 { Tone::Plain } else { Tone::Bad }),
            counts.records.into(),
            style.time(time_of(job.create_time.as_ref())).into(),
            or_dash(&job.hindrance),
        ],
    }
}

/// A job with its parts.
pub(super) fn job(job: &DeadLetterJob, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.style.form != Form::Text {
        return printer.one(&json_of("idempo.ops.v1.DeadLetterJob", job), &[]);
    }
    jobs(std::slice::from_ref(job), printer)?;
    printer.line("")?;
    let row = |part: &JobPart| Row {
        json: json_of("idempo.ops.v1.JobPart", part),
        cells: vec![
            part.code.as_str().into(),
            or_dash(&part.event_type),
            part.topic.as_str().into(),
            if part.served {
                part.consumer_group.as_str().into()
            } else {
                Cell::toned(format!("{} (not served)", part.consumer_group), Tone::Bad)
            },
            part.count.into(),
            Cell::toned(part.guarded_count.to_string(), if part.guarded_count == 0 { Tone::Plain } else { Tone::Odd }),
        ],
    };
    printer.list(&PART_COLUMNS, &job.parts.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn members(members: &[JobMember], printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.list(&MEMBER_COLUMNS, &members.iter().map(member_row).collect::<Vec<_>>())
}

fn member_row(member: &JobMember) -> Row {
    let state = member.state();
    let tone = match state {
        MemberState::Applied | MemberState::Discarded => Tone::Good,
        MemberState::FailedAgain | MemberState::Refused => Tone::Bad,
        MemberState::Sent | MemberState::Cancelled | MemberState::Gone => Tone::Odd,
        MemberState::Unspecified | MemberState::Waiting => Tone::Plain,
    };
    Row {
        json: json_of("idempo.ops.v1.JobMember", member),
        cells: vec![
            short(&member.name).into(),
            Cell::toned(enum_text(state.as_str_name(), "MEMBER_STATE_"), tone),
            member.records.into(),
            or_dash(&member.code),
            or_dash(&member.reason),
        ],
    }
}

/// What a rehearsal found.
pub(super) fn rehearsal(found: &RehearseJobResponse, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.style.form != Form::Text {
        return printer.one(&json_of("idempo.ops.v1.RehearseJobResponse", found), &[]);
    }
    let row = |member: &RehearsedMember| Row {
        json: Value::Null,
        cells: vec![
            short(&member.name).into(),
            if member.would_apply { Cell::toned("apply", Tone::Good) } else { Cell::toned("fail", Tone::Bad) },
            member.records.into(),
            or_dash(&member.code),
            or_dash(&member.reason),
        ],
    };
    printer.list(&REHEARSED_COLUMNS, &found.members.iter().map(row).collect::<Vec<_>>())?;
    printer.line("")?;
    let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    let row = |difference: &RowDifference| Row {
        json: Value::Null,
        cells: vec![
            difference.table.as_str().into(),
            difference.key.as_str().into(),
            or_none(&difference.before).into(),
            or_none(&difference.after).into(),
        ],
    };
    printer.list(&DIFFERENCE_COLUMNS, &found.differences.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn audit(entries: &[DeadLetterAuditEntry], printer: &mut Printer<'_>) -> Result<(), Failure> {
    let style = printer.style;
    let row = |entry: &DeadLetterAuditEntry| Row {
        json: json_of("idempo.ops.v1.DeadLetterAuditEntry", entry),
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

/// Members with which nothing more is to be done.
pub(super) const fn settled(counts: &JobCounts) -> i64 {
    counts.applied + counts.discarded + counts.failed_again + counts.gone + counts.refused + counts.cancelled
}

fn action_text(action: JobAction) -> String {
    enum_text(action.as_str_name(), "JOB_ACTION_")
}

fn or_dash(text: &str) -> Cell {
    if text.is_empty() { "-".into() } else { one_line(text).into() }
}

/// The state of a dead letter as people write it.
pub(crate) fn state_cell(state: DeadLetterState) -> Cell {
    let tone = match state {
        DeadLetterState::Open => Tone::Bad,
        DeadLetterState::Replayed => Tone::Good,
        DeadLetterState::Discarded => Tone::Plain,
        DeadLetterState::Gone | DeadLetterState::ExportOnly | DeadLetterState::Unspecified => Tone::Odd,
    };
    Cell::toned(enum_text(state.as_str_name(), "DEAD_LETTER_STATE_"), tone)
}

const fn job_tone(state: JobState) -> Tone {
    match state {
        JobState::Done => Tone::Good,
        JobState::Planned | JobState::Cancelled | JobState::Unspecified => Tone::Plain,
        JobState::Applying | JobState::Paused | JobState::Cancelling => Tone::Odd,
    }
}

//! Rows as messages.

use idempo_proto::ops::v1::{
    DeadLetter, DeadLetterGroup, DeadLetterJob, DeadLetterState, JobAction, JobCounts, JobMember, JobPart, JobState, MemberState,
};
use idempo_rpc::timestamp::to_proto;
use jiff::Timestamp;
use serde::Deserialize;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::consumers::Consumers;

const STATES: [(&str, DeadLetterState); 5] = [
    ("open", DeadLetterState::Open),
    ("replayed", DeadLetterState::Replayed),
    ("discarded", DeadLetterState::Discarded),
    ("gone", DeadLetterState::Gone),
    ("export_only", DeadLetterState::ExportOnly),
];

const JOB_STATES: [(&str, JobState); 6] = [
    ("planned", JobState::Planned),
    ("applying", JobState::Applying),
    ("paused", JobState::Paused),
    ("cancelling", JobState::Cancelling),
    ("cancelled", JobState::Cancelled),
    ("done", JobState::Done),
];

const MEMBER_STATES: [(&str, MemberState); 8] = [
    ("waiting", MemberState::Waiting),
    ("sent", MemberState::Sent),
    ("applied", MemberState::Applied),
    ("discarded", MemberState::Discarded),
    ("failed_again", MemberState::FailedAgain),
    ("gone", MemberState::Gone),
    ("refused", MemberState::Refused),
    ("cancelled", MemberState::Cancelled),
];

/// What the database calls a state of a dead letter.
pub(super) fn state_name(state: DeadLetterState) -> Option<&'static str> {
    name_in(&STATES, state)
}

/// What the database calls a state of a job.
pub(super) fn job_state_name(state: JobState) -> Option<&'static str> {
    name_in(&JOB_STATES, state)
}

/// What the database calls a state of a member.
pub(super) fn member_state_name(state: MemberState) -> Option<&'static str> {
    name_in(&MEMBER_STATES, state)
}

fn name_in<S: Copy + PartialEq>(names: &[(&'static str, S)], state: S) -> Option<&'static str> {
    names.iter().find(|(_, known)| *known == state).map(|(name, _)| *name)
}

fn state_in<S: Copy + Default>(names: &[(&'static str, S)], name: &str) -> S {
    names.iter().find(|(known, _)| *known == name).map(|(_, state)| *state).unwrap_or_default()
}

/// A dead letter from a row of `ops.letter`.
pub(super) fn letter(row: &Row) -> Result<DeadLetter, Error> {
    let (consumer_group, topic): (String, String) = (row.try_get("consumer_group")?, row.try_get("topic")?);
    let (partition, offset): (i32, i64) = (row.try_get("partition")?, row.try_get("record_offset")?);
    let time = |column: &str| row.try_get::<_, Option<Timestamp>>(column).map(|at| at.map(to_proto));
    let id = |column: &str| row.try_get::<_, Option<Uuid>>(column).map(|id| id.map(|id| id.hyphenated().to_string()).unwrap_or_default());
    Ok(DeadLetter {
        name: format!("deadLetters/{consumer_group}.{topic}.{partition}.{offset}"),
        consumer_group,
        topic,
        partition,
        offset,
        state: state_in(&STATES, row.try_get("state")?).into(),
        group: group_name(row.try_get("group_id")?),
        code: row.try_get("code")?,
        reason: row.try_get("reason")?,
        stage: row.try_get("stage")?,
        disposition: row.try_get("disposition")?,
        first_code: row.try_get("first_code")?,
        first_reason: row.try_get("first_reason")?,
        attempts: row.try_get("attempts")?,
        replay_count: row.try_get("replay_count")?,
        event_type: row.try_get("event_type")?,
        event_id: id("event_id")?,
        stream_id: id("stream_id")?,
        version: row.try_get::<_, Option<i64>>("version")?.unwrap_or_default(),
        key: row.try_get::<_, Option<String>>("key_text")?.unwrap_or_default(),
        has_key: row.try_get("has_key")?,
        value_bytes: row.try_get("value_bytes")?,
        tombstone: row.try_get("tombstone")?,
        record_time: time("recorded_at")?,
        first_fail_time: time("first_failed_at")?,
        last_fail_time: time("last_failed_at")?,
        state_change_time: time("state_changed_at")?,
        app_version: row.try_get("app_version")?,
        traceparent: row.try_get("traceparent")?,
        job: row.try_get::<_, Option<i64>>("job_id")?.map(job_name).unwrap_or_default(),
        note: row.try_get("note")?,
        note_caller: row.try_get("note_caller")?,
        revision: row.try_get("revision")?,
    })
}

/// A group from a row of `count_groups.sql`.
pub(super) fn group(row: &Row) -> Result<DeadLetterGroup, Error> {
    Ok(DeadLetterGroup {
        name: group_name(row.try_get("id")?),
        code: row.try_get("code")?,
        event_type: row.try_get("event_type")?,
        topic: row.try_get("topic")?,
        consumer_group: row.try_get("consumer_group")?,
        disposition: row.try_get("disposition")?,
        count: row.try_get("letters")?,
        first_fail_time: Some(to_proto(row.try_get("first_failed_at")?)),
        last_fail_time: Some(to_proto(row.try_get("last_failed_at")?)),
    })
}

/// A part of a job, as `ops.parts_of` writes it.
#[derive(Deserialize)]
struct Part {
    consumer_group: String,
    topic: String,
    code: String,
    event_type: String,
    count: i64,
    guarded: i64,
}

/// A job from a row of `ops.job`, with its parts as text.
pub(super) fn job(row: &Row, consumers: &Consumers) -> Result<DeadLetterJob, Error> {
    let count = |column: &str| row.try_get::<_, i64>(column);
    let time = |column: &str| row.try_get::<_, Option<Timestamp>>(column).map(|at| at.map(to_proto));
    let counts = JobCounts {
        waiting: 0,
        sent: count("sent")?,
        applied: count("applied")?,
        discarded: count("discarded")?,
        failed_again: count("failed_again")?,
        gone: count("gone")?,
        refused: count("refused")?,
        cancelled: count("cancelled")?,
        records: count("records")?,
    };
    let (member_count, state): (i64, JobState) = (count("members")?, state_in(&JOB_STATES, row.try_get("state")?));
    let sent = counts.sent + counts.applied + counts.discarded + counts.failed_again + counts.gone + counts.refused + counts.cancelled;
    let parts: Vec<Part> = serde_json::from_str(row.try_get("parts_text")?).unwrap_or_default();
    let part = |part: Part| JobPart {
        served: consumers.of(&part.consumer_group).is_some(),
        consumer_group: part.consumer_group,
        topic: part.topic,
        code: part.code,
        event_type: part.event_type,
        count: part.count,
        guarded_count: part.guarded,
    };
    let action = if row.try_get::<_, &str>("action")? == "discard" { JobAction::Discard } else { JobAction::Replay };
    Ok(DeadLetterJob {
        name: job_name(count("id")?),
        action: action.into(),
        state: state.into(),
        caller: row.try_get("caller")?,
        reason: row.try_get("reason")?,
        member_count,
        parts: parts.into_iter().map(part).collect(),
        counts: Some(JobCounts { waiting: member_count - sent, ..counts }),
        members_per_second_max: row.try_get("members_per_second_max")?,
        members_max: count("members_max")?,
        force: row.try_get("force")?,
        worker_instance: row.try_get::<_, Option<String>>("worker")?.unwrap_or_default(),
        create_time: time("planned_at")?,
        rehearse_time: time("rehearsed_at")?,
        apply_time: time("applied_at")?,
        end_time: time("ended_at")?,
        hindrance: row.try_get("hindrance")?,
    })
}

/// A member of a job from a row of `list_members.sql`.
pub(super) fn member(row: &Row) -> Result<JobMember, Error> {
    Ok(JobMember {
        name: row.try_get("name")?,
        state: state_in(&MEMBER_STATES, row.try_get("state")?).into(),
        code: row.try_get("code")?,
        reason: row.try_get("reason")?,
        records: row.try_get("records")?,
        change_time: Some(to_proto(row.try_get("changed_at")?)),
    })
}

fn group_name(id: i64) -> String {
    format!("deadLetterGroups/{id}")
}

pub(super) fn job_name(id: i64) -> String {
    format!("deadLetterJobs/{id}")
}

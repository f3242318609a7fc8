//! From what is known to what is answered.

use std::collections::BTreeMap;

use idempo_proto::ops::v1::{
    GenerationState, Partition, Rebuild, RebuildPhase, RebuildSource, Verification, VerificationAgainst, VerificationState,
};
use idempo_rpc::timestamp;
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::generations::known::{Against, Verdict};
use crate::generations::{Generation, Phase, Source, State, known};

/// What is answered for a number that the brokers have not said.
const UNKNOWN: i64 = -1;

/// Where a generation stands on one partition.
pub(super) struct Position {
    pub(super) generation: i32,
    pub(super) partition: i32,
    pub(super) next_offset: i64,
    epoch: i64,
    newest_at: Option<Timestamp>,
    stop: Option<(String, Option<String>)>,
}

impl Position {
    pub(super) fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let stop_code: Option<String> = row.try_get(5)?;
        let stop_reason: Option<String> = row.try_get(6)?;
        Ok(Self {
            generation: row.try_get(0)?,
            partition: row.try_get(1)?,
            next_offset: row.try_get(2)?,
            epoch: row.try_get(3)?,
            newest_at: row.try_get(4)?,
            stop: stop_code.map(|code| (code, stop_reason)),
        })
    }

    /// As it is answered, with where the partition ends. `since`: from when on the lag counts while nothing was read.
    fn message(&self, ends: &[i64], (since, now): (Timestamp, Timestamp)) -> Partition {
        let head = usize::try_from(self.partition).ok().and_then(|at| ends.get(at)).copied();
        let lag_events = head.map_or(UNKNOWN, |head| head.saturating_sub(self.next_offset).max(0));
        let behind_ms = now.as_millisecond().saturating_sub(self.newest_at.unwrap_or(since).as_millisecond()).max(0);
        let (stop_code, stop_reason) = self.stop.clone().unwrap_or_default();
        Partition {
            partition: self.partition,
            next_offset: self.next_offset,
            head: head.unwrap_or(UNKNOWN),
            lag_events,
            lag_ms: if lag_events > 0 { behind_ms } else { lag_events },
            stop_code,
            stop_reason: stop_reason.unwrap_or_default(),
            epoch: self.epoch,
        }
    }
}

/// Where the partitions of a generation stand, with where they end. Of its first `due`, those that no consumer was given yet are there too: they are as
/// far behind as they can be.
pub(super) fn partitions(own: &[&Position], due: i32, ends: &[i64], span: (Timestamp, Timestamp)) -> Vec<Partition> {
    let mut partitions: BTreeMap<i32, Partition> = own.iter().map(|at| (at.partition, at.message(ends, span))).collect();
    for partition in 0..due {
        let unread = Position { generation: 0, partition, next_offset: 0, epoch: 0, newest_at: None, stop: None };
        partitions.entry(partition).or_insert_with(|| unread.message(ends, span));
    }
    partitions.into_values().collect()
}

/// How many events partitions lack together.
pub(super) fn lag_of(partitions: &[Partition]) -> i64 {
    if partitions.iter().any(|partition| partition.lag_events == UNKNOWN) {
        return UNKNOWN;
    }
    partitions.iter().map(|partition| partition.lag_events).sum()
}

/// How long ago the newest event was decided that a generation has, on the partition that is furthest behind.
pub(super) fn lag_ms_of(partitions: &[Partition]) -> i64 {
    if lag_of(partitions) == UNKNOWN {
        return UNKNOWN;
    }
    partitions.iter().map(|partition| partition.lag_ms).max().unwrap_or(0)
}

pub(super) fn state_of(generation: &Generation) -> GenerationState {
    match generation.state {
        State::Building => GenerationState::Building,
        State::Ready => GenerationState::Ready,
        State::Live => GenerationState::Live,
        State::Retired => GenerationState::Retired,
        State::Dropping => GenerationState::Dropping,
    }
}

pub(super) fn verification(known: &known::Verification) -> Verification {
    let state = match known.verdict {
        Verdict::Waiting => VerificationState::Waiting,
        Verdict::Running => VerificationState::Running,
        Verdict::Equal => VerificationState::Equal,
        Verdict::Different => VerificationState::Different,
        Verdict::Failed => VerificationState::Failed,
    };
    Verification {
        state: state.into(),
        compared_with: known.compared_with.unwrap_or_default(),
        caller: known.caller.clone(),
        rows: known.rows,
        buckets: known.buckets,
        buckets_different: known.buckets_different,
        start_time: Some(timestamp::to_proto(known.started_at)),
        end_time: known.ended_at.map(timestamp::to_proto),
        failure: known.failure.clone().unwrap_or_default(),
        against: against_of(known.against).into(),
        live_buckets_different: known.live_buckets_different,
    }
}

/// What a generation was compared with.
pub(super) const fn against_of(against: Against) -> VerificationAgainst {
    match against {
        Against::Live => VerificationAgainst::Live,
        Against::Fold => VerificationAgainst::Fold,
    }
}

/// How far a rebuild is, from `rebuild_progress.sql` and where its consumer stands.
pub(super) fn rebuild(known: &known::Rebuild, row: &Row, positions: &[&Position]) -> Result<Rebuild, tokio_postgres::Error> {
    let (buckets_done, scanned, lately, lately_ms): (i64, i64, i64, i64) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let targets: Vec<i64> = row.try_get::<_, Option<Vec<i64>>>(5)?.unwrap_or_default();
    let begins: Vec<i64> = row.try_get::<_, Option<Vec<i64>>>(4)?.unwrap_or_else(|| vec![0; targets.len()]);
    let is_scanned = known.source == Source::EventStore && matches!(known.phase, Phase::Waiting | Phase::Scanning | Phase::Indexing);
    let (events_done, events_total, (events, ms)) = if is_scanned {
        (scanned, known.events_total, (lately, lately_ms))
    } else {
        let next = |partition: usize| positions.iter().find(|at| usize::try_from(at.partition) == Ok(partition)).map(|at| at.next_offset);
        let read =
            begins.iter().enumerate().map(|(partition, begin)| next(partition).unwrap_or(*begin).saturating_sub(*begin).max(0)).sum();
        let total = targets.iter().zip(&begins).map(|(target, begin)| target.saturating_sub(*begin).max(0)).sum();
        (read, total, (read, row.try_get(6)?))
    };
    let is_reading = matches!(known.phase, Phase::Scanning | Phase::CatchingUp);
    let remaining_ms = match known.phase {
        Phase::Done => 0,
        // Rows come at the rate of the last ten seconds.
        _ if is_reading && events > 0 => events_total.saturating_sub(events_done).max(0).saturating_mul(ms) / events,
        _ => -1,
    };
    Ok(Rebuild {
        source: source_of(known.source).into(),
        phase: phase_of(known.phase).into(),
        caller: known.caller.clone(),
        reason: known.reason.clone(),
        workers: known.workers,
        events_per_second_max: known.events_per_second_max,
        worker_instance: row.try_get::<_, Option<String>>(7)?.filter(|_| known.phase != Phase::Done).unwrap_or_default(),
        events_done,
        events_total,
        buckets_done: i32::try_from(buckets_done).unwrap_or(i32::MAX),
        buckets_total: known.buckets,
        events_per_second: if is_reading { per_second(events, ms) } else { 0.0 },
        remaining_ms,
        start_time: Some(timestamp::to_proto(known.started_at)),
        ready_time: known.ready_at.map(timestamp::to_proto),
        failure_code: known.failure.as_ref().map(|(code, _)| code.clone()).unwrap_or_default(),
        failure: known.failure.as_ref().map(|(_, text)| text.clone()).unwrap_or_default(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(events: i64, ms: i64) -> f64 {
    events as f64 * 1_000.0 / ms.max(1) as f64
}

const fn source_of(source: Source) -> RebuildSource {
    match source {
        Source::EventStore => RebuildSource::EventStore,
        Source::Kafka => RebuildSource::Kafka,
    }
}

const fn phase_of(phase: Phase) -> RebuildPhase {
    match phase {
        Phase::Waiting => RebuildPhase::Waiting,
        Phase::Scanning => RebuildPhase::Scanning,
        Phase::Indexing => RebuildPhase::Indexing,
        Phase::CatchingUp => RebuildPhase::CatchingUp,
        Phase::Done => RebuildPhase::Done,
        Phase::Failed => RebuildPhase::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, next_offset: i64) -> Position {
        Position { generation: 1, partition, next_offset, epoch: 1, newest_at: None, stop: None }
    }

    const SPAN: (Timestamp, Timestamp) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);

    #[test]
    fn a_lag_that_the_brokers_have_not_told_is_not_called_none() {
        let (first, second) = (at(0, 7), at(1, 7));
        for (ends, heads, lag) in [(&[9, 7][..], [9, 7], 2), (&[9], [9, -1], -1), (&[], [-1, -1], -1)] {
            let found = partitions(&[&first, &second], 2, ends, SPAN);
            assert_eq!((found[0].head, found[1].head, lag_of(&found)), (heads[0], heads[1], lag));
            assert_eq!(lag_ms_of(&found).signum(), lag.signum(), "{found:?}");
        }
    }

    #[test]
    fn a_partition_that_nobody_was_given_is_as_far_behind_as_it_can_be() {
        let second = at(1, 5);
        let found = partitions(&[&second], 3, &[4, 5, 6], SPAN);
        assert_eq!(found.iter().map(|one| (one.partition, one.lag_events)).collect::<Vec<_>>(), [(0, 4), (1, 0), (2, 6)]);
        assert_eq!(lag_of(&partitions(&[&second], 0, &[4, 5, 6], SPAN)), 0, "of what has no consumer yet, only what it has");
    }
}

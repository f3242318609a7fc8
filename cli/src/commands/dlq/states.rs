//! States, as they are named on the command line.

use clap::ValueEnum;
use idempo_proto::ops::v1::{DeadLetterState, JobState, MemberState};

/// Where a dead letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// It waits for a decision.
    Open,
    /// Its consumer has applied it.
    Replayed,
    /// Its consumer never applies it.
    Discarded,
    /// Its consumer has it no more.
    Gone,
    /// Its consumer does not have the record.
    ExportOnly,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OfJob {
    /// Nothing was done.
    Planned,
    /// It is being applied.
    Applying,
    /// As many members as were allowed are settled.
    Paused,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled.
    Cancelled,
    /// All members are settled.
    Done,
}

/// What has become of a member of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OfMember {
    /// It was not sent.
    Waiting,
    /// The consumer's answer is not known.
    Sent,
    /// It was applied.
    Applied,
    /// It was discarded.
    Discarded,
    /// It has failed again.
    FailedAgain,
    /// It was gone before.
    Gone,
    /// It was refused.
    Refused,
    /// The job was cancelled before.
    Cancelled,
}

impl From<State> for DeadLetterState {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Replayed => Self::Replayed,
            State::Discarded => Self::Discarded,
            State::Gone => Self::Gone,
            State::ExportOnly => Self::ExportOnly,
        }
    }
}

impl From<OfJob> for JobState {
    fn from(state: OfJob) -> Self {
        match state {
            OfJob::Planned => Self::Planned,
            OfJob::Applying => Self::Applying,
            OfJob::Paused => Self::Paused,
            OfJob::Cancelling => Self::Cancelling,
            OfJob::Cancelled => Self::Cancelled,
            OfJob::Done => Self::Done,
        }
    }
}

impl From<OfMember> for MemberState {
    fn from(state: OfMember) -> Self {
        match state {
            OfMember::Waiting => Self::Waiting,
            OfMember::Sent => Self::Sent,
            OfMember::Applied => Self::Applied,
            OfMember::Discarded => Self::Discarded,
            OfMember::FailedAgain => Self::FailedAgain,
            OfMember::Gone => Self::Gone,
            OfMember::Refused => Self::Refused,
            OfMember::Cancelled => Self::Cancelled,
        }
    }
}

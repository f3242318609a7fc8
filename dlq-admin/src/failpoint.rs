//! Named points of the dead-letter service, where a test kills the process. They are no code without the feature `failpoints` of `idempo-runtime`.

/// Dead letters were read from Kafka, and none is written. A kill leaves them to be read again.
pub const DLQ_BEFORE_TAKE_IN: &str = "dlq.before_take_in";
/// Dead letters and the position behind them are committed, and the task does not know it. A kill leaves nothing to be done again.
pub const DLQ_TAKEN_IN: &str = "dlq.taken_in";
/// A job was taken, and nothing was done with it. A kill leaves it to whoever takes it when the lease has ended.
pub const DLQ_JOB_TAKEN: &str = "dlq.job_taken";
/// Members stand as sent, and their consumer was not asked. A kill leaves members about which it is asked for the first time then.
pub const DLQ_BEFORE_ASK: &str = "dlq.before_ask";
/// The consumer has answered, and nothing of that is written. A kill leaves members of which the consumer says that they are gone.
pub const DLQ_ANSWERED: &str = "dlq.answered";
/// What has become of members is committed, and the worker does not know it. A kill leaves a job whose next members are to be taken.
pub const DLQ_SETTLED: &str = "dlq.settled";
/// The job has come to its end, and the worker does not know it. A kill leaves nothing to be done.
pub const DLQ_JOB_ENDED: &str = "dlq.job_ended";

/// Those of reading the topics.
pub const INTAKE: [&str; 2] = [DLQ_BEFORE_TAKE_IN, DLQ_TAKEN_IN];
/// Those of a job.
pub const JOB: [&str; 5] = [DLQ_JOB_TAKEN, DLQ_BEFORE_ASK, DLQ_ANSWERED, DLQ_SETTLED, DLQ_JOB_ENDED];

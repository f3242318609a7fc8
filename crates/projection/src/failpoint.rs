//! Named points of a projection, where a test kills the process. They are no code without the feature `failpoints` of `idempo-runtime`.

/// A partition was assigned and not yet taken from the store. A kill leaves the earlier epoch.
pub const PROJECT_BEFORE_ACQUIRE: &str = "project.before_acquire";
/// A partition's epoch is raised, and nothing of it was read. A kill leaves an epoch under which nothing was ever committed.
pub const PROJECT_ACQUIRED: &str = "project.acquired";
/// Records were fetched and nothing was done with them. A kill leaves them to be read again.
pub const PROJECT_FETCHED: &str = "project.fetched";
/// Within the batch's transaction everything is written, and COMMIT was not sent. A kill must roll all of it back.
pub const PROJECT_BEFORE_COMMIT: &str = "project.before_commit";
/// The batch is committed, and the task does not know it. A kill leaves a batch that must not be applied again.
pub const PROJECT_COMMITTED: &str = "project.committed";
/// The task knows that a batch is in, and has not hinted the group at it. A kill leaves Kafka's offset behind the checkpoint.
pub const PROJECT_BEFORE_HINT: &str = "project.before_hint";
/// A record has failed as often as it is tried, and nothing was sent. A kill leaves it to be tried by whoever comes next.
pub const PROJECT_BEFORE_DEAD_LETTER: &str = "project.before_dead_letter";
/// The dead-letter topic has the record, and the store does not. A kill leaves it to be sent again, as the same one.
pub const PROJECT_DEAD_LETTER_PRODUCED: &str = "project.dead_letter_produced";
/// Within a drain's transaction everything is written, and COMMIT was not sent. A kill must leave the wish.
pub const PROJECT_BEFORE_DRAIN_COMMIT: &str = "project.before_drain_commit";
/// The drain is committed, and the task does not know it. A kill leaves dead letters that must not be applied again.
pub const PROJECT_DRAINED: &str = "project.drained";
/// A rebuild's part of the events is folded, and nothing of it is written. A kill leaves it to be read again.
pub const REBUILD_FOLDED: &str = "rebuild.folded";
/// Within the part's transaction all its rows are written, and COMMIT was not sent. A kill must roll all of it back.
pub const REBUILD_BEFORE_COMMIT: &str = "rebuild.before_commit";
/// The part is committed, and the rebuild does not know it. A kill leaves a part that must not be written again.
pub const REBUILD_COMMITTED: &str = "rebuild.committed";
/// All parts are in, and the indexes are not made. A kill leaves them to be made.
pub const REBUILD_SCANNED: &str = "rebuild.scanned";
/// Some tables have their indexes, and others may not. A kill leaves the others to be made ready, and the former as they are.
pub const REBUILD_INDEXED_PARTLY: &str = "rebuild.indexed_partly";
/// All tables have their indexes, and it is not noted where the consumer begins. A kill leaves that to be noted.
pub const REBUILD_INDEXED: &str = "rebuild.indexed";
/// It is noted, and the consumer has not begun. A kill leaves it to whoever comes next.
pub const REBUILD_FINISHED: &str = "rebuild.finished";

/// A part of the fold that a generation is compared with is in, and others are not. A kill leaves a comparison to be begun anew, and nothing else.
pub const VERIFY_FOLDED: &str = "verify.folded";
/// A generation is compared, and nobody knows what came of it. A kill leaves the comparison to be done again.
pub const VERIFY_COMPARED: &str = "verify.compared";
/// A reactor's partition was assigned and not yet taken from the log. A kill leaves the earlier epoch.
pub const REACT_BEFORE_ACQUIRE: &str = "react.before_acquire";
/// It is taken, and where it begins is not stored. A kill leaves it to begin at the head of whenever it is taken next.
pub const REACT_ACQUIRED: &str = "react.acquired";
/// It has begun, and nothing of it was read. A kill must leave its beginning where it is.
pub const REACT_BEGUN: &str = "react.begun";
/// Within the transaction the effects are entered and the position is moved, and COMMIT was not sent. A kill must roll all of it back.
pub const REACT_BEFORE_RECORD: &str = "react.before_record";
/// Effects are in the log, and none of them was begun. A kill leaves them pending.
pub const REACT_RECORDED: &str = "react.recorded";
/// Effects were performed, and the log does not know it. A kill leaves them to be performed again, with the same ids.
pub const REACT_PERFORMED: &str = "react.performed";
/// The log knows it, and the task does not. A kill leaves effects that must not be performed again.
pub const REACT_DONE: &str = "react.done";

/// Within the transaction a player's rows are made anew, and COMMIT was not sent. A kill must roll all of it back.
pub const PLAYER_BEFORE_COMMIT: &str = "player.before_commit";

/// Those of a consumer.
pub const ALL: [&str; 6] =
    [PROJECT_BEFORE_ACQUIRE, PROJECT_ACQUIRED, PROJECT_FETCHED, PROJECT_BEFORE_COMMIT, PROJECT_COMMITTED, PROJECT_BEFORE_HINT];

/// Those of dead letters.
pub const DEAD_LETTERS: [&str; 4] =
    [PROJECT_BEFORE_DEAD_LETTER, PROJECT_DEAD_LETTER_PRODUCED, PROJECT_BEFORE_DRAIN_COMMIT, PROJECT_DRAINED];

/// Those of a rebuild.
pub const REBUILD: [&str; 7] =
    [REBUILD_FOLDED, REBUILD_BEFORE_COMMIT, REBUILD_COMMITTED, REBUILD_SCANNED, REBUILD_INDEXED_PARTLY, REBUILD_INDEXED, REBUILD_FINISHED];

/// Those of a comparison with the fold.
pub const VERIFY: [&str; 2] = [VERIFY_FOLDED, VERIFY_COMPARED];

/// Those of a reactor.
pub const REACT: [&str; 7] =
    [REACT_BEFORE_ACQUIRE, REACT_ACQUIRED, REACT_BEGUN, REACT_BEFORE_RECORD, REACT_RECORDED, REACT_PERFORMED, REACT_DONE];

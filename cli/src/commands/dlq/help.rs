//! What `--help` says below the flags: how a command is used, and how it ends.

pub(super) const GROUPS: &str = "\
Examples:
  idempo dlq groups
  idempo dlq groups --consumer idempo.inventory.g1

Exit codes:
  0  whether there are any or none
  3  there is no such topic or consumer group
  6  the dead-letter service is away";

pub(super) const LIST: &str = "\
Examples:
  idempo dlq list --state open
  idempo dlq list --code VERSION_GAP --since 1h -o jsonl

Exit codes:
  0  whether there are any or none
  3  there is no such group, code, event type, topic or consumer group
  6  the dead-letter service is away";

pub(super) const SHOW: &str = "\
Examples:
  idempo dlq show idempo.inventory.g1.economy-events.8.4

Exit codes:
  0  shown
  3  there is no such dead letter
  6  the dead-letter service is away";

pub(super) const PARKED: &str = "\
Examples:
  idempo dlq parked inventory --code VERSION_GAP

Exit codes:
  0  whether there are any or none
  3  there is no such projection or code
  6  the projector is away";

pub(super) const PLAN: &str = "\
Examples:
  idempo dlq plan --group 1 --reason \"the check is gone\"
  idempo dlq plan --discard --code UNDECODABLE_RECORD --reason \"no events\"

Exit codes:
  0    planned
  3    one that is named does not exist
  4    one that is named is not open, or the filter takes none
  6    the dead-letter service is away
  124  it is not known whether it was planned: see `idempo dlq jobs`";

pub(super) const REHEARSE: &str = "\
Examples:
  idempo dlq rehearse 7 --reason \"is it mended?\"

Exit codes:
  0  all would be applied
  3  there is no such job
  5  some would fail
  6  the dead-letter service is away";

pub(super) const REPLAY: &str = "\
Examples:
  idempo dlq replay 7 --reason \"the check is gone\" --wait
  idempo dlq replay --code VERSION_GAP --rps 50 --max 500 --reason \"a trial\" --wait

A job that was planned to discard discards. One that pauses at --max goes on in the same way.

Exit codes:
  0    all is applied, or as much as --max allows
  1    nothing was applied
  3    there is no such job or dead letter
  4    not in the state that this needs, or changed since the plan
  5    some have failed or were refused, or are not settled yet
  6    the dead-letter service is away
  124  longer than --timeout, or it is not known whether it was begun: see `idempo dlq jobs`
  130  interrupted; the job goes on";

pub(super) const DISCARD: &str = "\
Examples:
  idempo dlq discard idempo.inventory.g1.economy-events.8.6 --reason \"no event\"
  idempo dlq discard --code UNDECODABLE_RECORD --max 1 --reason \"one first\" --wait

What was planned with `idempo dlq plan --discard` is applied by `idempo dlq replay JOB`.

Exit codes:
  0    all is discarded, or as much as --max allows
  1    nothing was discarded
  3    there is no such dead letter
  4    one is not open, or in a job that is being applied
  5    some were refused, or are not settled yet
  6    the dead-letter service is away
  124  longer than --timeout, or it is not known whether it was begun: see `idempo dlq jobs`
  130  interrupted; the job goes on";

pub(super) const RESTORE: &str = "\
Examples:
  idempo dlq restore idempo.inventory.g1.economy-events.8.4 --reason \"settled by mistake\"

Exit codes:
  0    open again
  3    there is no such dead letter
  4    one is in a job that is being applied
  5    some can only be exported: their consumer does not have the record any more
  6    the dead-letter service or a consumer is away
  124  it is not known whether it was done: see `idempo dlq audit`";

pub(super) const ANNOTATE: &str = "\
Examples:
  idempo dlq annotate idempo.inventory.g1.economy-events.8.6 \"a script of ours\" --reason \"found out\"

Exit codes:
  0    noted
  3    there is no such dead letter
  6    the dead-letter service is away
  124  it is not known whether it was noted: see `idempo dlq audit`";

pub(super) const EXPORT: &str = "\
Examples:
  idempo dlq export --state open --reason \"for the team\" > letters.jsonl

Exit codes:
  0  exported
  3  there is no such group, code, event type, topic or consumer group
  6  the dead-letter service is away";

pub(super) const IMPORT: &str = "\
Examples:
  idempo dlq import letters.jsonl --reason \"they were lost here\"

Those that are known stay as they are: doing it again does no harm.

Exit codes:
  0    taken in
  2    a line is none of an export
  3    there is no such file
  6    the dead-letter service is away
  124  it is not known whether it was done: see `idempo dlq audit`";

pub(super) const JOBS: &str = "\
Examples:
  idempo dlq jobs --state applying

Exit codes:
  0  whether there are any or none
  6  the dead-letter service is away";

pub(super) const JOB: &str = "\
Examples:
  idempo dlq job 7
  idempo dlq job 7 --members --state failed-again

Exit codes:
  0  shown
  3  there is no such job
  6  the dead-letter service is away";

pub(super) const CANCEL: &str = "\
Examples:
  idempo dlq cancel 7 --reason \"not yet\"

Exit codes:
  0    cancelled, or being cancelled while what was sent comes to its end
  3    there is no such job
  4    it is done
  6    the dead-letter service is away
  124  it is not known whether it was cancelled: see `idempo dlq jobs`";

pub(super) const AUDIT: &str = "\
Examples:
  idempo dlq audit --limit 200

Exit codes:
  0  whether there are entries or none
  6  the dead-letter service is away";

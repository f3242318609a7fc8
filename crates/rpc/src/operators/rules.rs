//! What each operation asks of whoever wants it. An operation without a rule is refused to everybody.

use super::roster::Role;

/// The service that a service may ask in the name of an operator.
const FOR_SERVICES: &str = "idempo.ops.v1.ParkedService/";

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It shows something, and leaves everything as it is.
    Read,
    /// It changes something, or takes something away; the action is how the audit calls it.
    Change(&'static str),
}

use Operation::{Change, Read};

/// Every operation, by its method's full name.
const RULES: [(&str, Operation); 47] = [
    ("idempo.ops.v1.RelayService/GetRelayStatus", Read),
    ("idempo.ops.v1.RelayService/ListQuarantinedRows", Read),
    ("idempo.ops.v1.RelayService/GetQuarantinedRow", Read),
    ("idempo.ops.v1.RelayService/RequeueRows", Change("requeue")),
    ("idempo.ops.v1.RelayService/SkipRows", Change("skip")),
    ("idempo.ops.v1.RelayService/PauseOutbox", Change("pause")),
    ("idempo.ops.v1.RelayService/ResumeOutbox", Change("resume")),
    ("idempo.ops.v1.RelayService/StepDown", Change("step_down")),
    ("idempo.ops.v1.RelayService/NoteReplay", Change("replay")),
    ("idempo.ops.v1.RelayService/ListAuditEntries", Read),
    ("idempo.ops.v1.ProjectionService/ListProjections", Read),
    ("idempo.ops.v1.ProjectionService/GetProjection", Read),
    ("idempo.ops.v1.ProjectionService/ListGenerations", Read),
    ("idempo.ops.v1.ProjectionService/GetGeneration", Read),
    ("idempo.ops.v1.ProjectionService/StartRebuild", Change("rebuild")),
    ("idempo.ops.v1.ProjectionService/RebuildPlayer", Change("rebuild_player")),
    ("idempo.ops.v1.ProjectionService/CancelRebuild", Change("cancel")),
    ("idempo.ops.v1.ProjectionService/VerifyGeneration", Change("verify")),
    ("idempo.ops.v1.ProjectionService/GetVerification", Read),
    ("idempo.ops.v1.ProjectionService/SwitchGeneration", Change("switch")),
    ("idempo.ops.v1.ProjectionService/RollBackGeneration", Change("roll_back")),
    ("idempo.ops.v1.ProjectionService/DropGeneration", Change("drop")),
    ("idempo.ops.v1.ProjectionService/PauseProjection", Change("pause")),
    ("idempo.ops.v1.ProjectionService/ResumeProjection", Change("resume")),
    ("idempo.ops.v1.ProjectionService/ListProjectionAuditEntries", Read),
    ("idempo.ops.v1.ParkedService/ListParkedLetters", Read),
    ("idempo.ops.v1.ParkedService/GetParkedLetter", Read),
    ("idempo.ops.v1.ParkedService/GetParkedLetterStandings", Read),
    ("idempo.ops.v1.ParkedService/ReplayParkedLetters", Change("replay")),
    ("idempo.ops.v1.ParkedService/DiscardParkedLetters", Change("discard")),
    // It folds and writes, in a transaction that is rolled back.
    ("idempo.ops.v1.ParkedService/RehearseParkedLetters", Change("rehearse")),
    ("idempo.ops.v1.DeadLetterService/ListDeadLetterGroups", Read),
    ("idempo.ops.v1.DeadLetterService/ListDeadLetters", Read),
    ("idempo.ops.v1.DeadLetterService/GetDeadLetter", Read),
    ("idempo.ops.v1.DeadLetterService/DiscardDeadLetters", Change("discard")),
    ("idempo.ops.v1.DeadLetterService/RestoreDeadLetters", Change("restore")),
    ("idempo.ops.v1.DeadLetterService/AnnotateDeadLetter", Change("annotate")),
    // Who takes all bytes away stands in the audit.
    ("idempo.ops.v1.DeadLetterService/ExportDeadLetters", Change("export")),
    ("idempo.ops.v1.DeadLetterService/ImportDeadLetters", Change("import")),
    ("idempo.ops.v1.DeadLetterService/PlanJob", Change("plan")),
    ("idempo.ops.v1.DeadLetterService/RehearseJob", Change("rehearse")),
    ("idempo.ops.v1.DeadLetterService/ApplyJob", Change("apply")),
    ("idempo.ops.v1.DeadLetterService/CancelJob", Change("cancel")),
    ("idempo.ops.v1.DeadLetterService/GetJob", Read),
    ("idempo.ops.v1.DeadLetterService/ListJobs", Read),
    ("idempo.ops.v1.DeadLetterService/ListJobMembers", Read),
    ("idempo.ops.v1.DeadLetterService/ListDeadLetterAuditEntries", Read),
];

/// What an operation does, by its method's full name (`package.Service/Method`, with or without a leading slash); `None` where there is no rule for it.
#[must_use]
pub fn operation(method: &str) -> Option<Operation> {
    let method = method.trim_start_matches('/');
    RULES.iter().find(|(name, _)| *name == method).map(|(_, operation)| *operation)
}

/// Whether somebody with this role may do it.
pub(super) fn may(role: Role, method: &str, operation: Operation) -> bool {
    match role {
        Role::Viewer => operation == Read,
        Role::Operator => true,
        Role::Service => method.starts_with(FOR_SERVICES),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::descriptor;

    #[test]
    fn every_operation_of_the_descriptor_set_has_one_rule_and_no_rule_is_for_nothing() {
        let known: BTreeSet<&str> = descriptor::methods().filter(|method| method.starts_with("idempo.ops.v1.")).collect();
        let ruled: BTreeSet<&str> = RULES.iter().map(|(method, _)| *method).collect();
        assert_eq!(ruled.len(), RULES.len(), "a rule stands twice");
        let missing: Vec<_> = known.difference(&ruled).collect();
        assert!(missing.is_empty(), "no rule says who may do these: {missing:?}");
        let idle: Vec<_> = ruled.difference(&known).collect();
        assert!(idle.is_empty(), "rules for what there is not: {idle:?}");
    }

    #[test]
    fn what_only_shows_something_is_named_so() {
        for (method, operation) in RULES {
            let name = method.rsplit('/').next().unwrap_or(method);
            let is_named_so = name.starts_with("Get") || name.starts_with("List");
            assert_eq!(operation == Read, is_named_so, "{method}");
        }
    }

    #[test]
    fn a_viewer_sees_an_operator_does_and_a_service_asks_for_parked_letters_only() {
        let may = |role, method: &str| may(role, method, operation(method).expect("a rule"));
        let (see, change) = ("idempo.ops.v1.RelayService/GetRelayStatus", "idempo.ops.v1.RelayService/PauseOutbox");
        assert!(may(Role::Viewer, see) && !may(Role::Viewer, change));
        assert!(may(Role::Operator, see) && may(Role::Operator, change));
        assert!(!may(Role::Service, see) && !may(Role::Service, change));
        assert!(may(Role::Service, "idempo.ops.v1.ParkedService/ReplayParkedLetters"));
    }
}

//! What people do to an outbox.

use std::time::Duration;

use idempo_devstack::testing;
use idempo_proto::ops::v1::{
    AuditEntry, GetQuarantinedRowRequest, GetRelayStatusRequest, ListAuditEntriesRequest, ListQuarantinedRowsRequest, NoteReplayRequest,
    Outbox, OutboxState, PauseOutboxRequest, QuarantineFilter, QuarantineState, RequeueRowsRequest, ResumeOutboxRequest, SkipRowsRequest,
    StepDownRequest,
};
use idempo_rpc::status::reason;
use tonic::{Code, Request};

use crate::quarantine::{by_operator, quarantined, requeue_key, skip};
use crate::support::{LIMIT, Operations, Stage, dump};
use crate::writers::write_some;

const OUTBOX: &str = "outboxes/test";

async fn status(operations: &mut Operations) -> Outbox {
    let request = GetRelayStatusRequest { name: OUTBOX.to_owned() };
    operations.get_relay_status(request).await.expect("an answer").into_inner().outboxes.remove(0)
}

async fn audit(operations: &mut Operations) -> Vec<AuditEntry> {
    let request = ListAuditEntriesRequest { parent: OUTBOX.to_owned(), ..Default::default() };
    operations.list_audit_entries(request).await.expect("an answer").into_inner().audit_entries
}

fn pause() -> PauseOutboxRequest {
    PauseOutboxRequest { name: OUTBOX.to_owned(), reason: "a test".to_owned() }
}

fn resume() -> ResumeOutboxRequest {
    ResumeOutboxRequest { name: OUTBOX.to_owned(), reason: "a test".to_owned() }
}

#[tokio::test]
async fn a_paused_outbox_sends_nothing_also_after_a_restart_until_it_is_resumed() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let mut first = stage.relay("first").start();
    let mut operations = first.operations().await;
    write_some(&session, 1, 10).await;
    stage.relayed(&session).await;
    operations.pause_outbox(by_operator(pause())).await.expect("done");
    testing::eventually(Duration::from_secs(5), "it is paused", async || status(&mut operations).await.state() == OutboxState::Paused)
        .await;
    write_some(&session, 1, 10).await;
    first.kill();
    let second = stage.relay("second").start();
    let mut operations = second.operations().await;
    testing::eventually(LIMIT, "it is paused there too", async || status(&mut operations).await.state() == OutboxState::Paused).await;
    let told = status(&mut operations).await;
    assert_eq!((told.paused, told.paused_by.as_str(), told.pause_reason.as_str()), (true, "operator", "a test"));
    assert!(told.held_here && told.backlog_rows == 10 && told.tables.len() == 3, "{told:?}");
    assert_eq!(dump(&stage.topic(), 12).await.len(), 10);
    assert!(second.is_ready(), "who paused it must be able to resume it");
    operations.resume_outbox(by_operator(resume())).await.expect("done");
    stage.relayed(&session).await;
    assert_eq!(dump(&stage.topic(), 12).await.len(), 20);
    let done: Vec<_> = audit(&mut operations).await.into_iter().map(|entry| (entry.action, entry.caller, entry.outcome)).collect();
    let by = |action: &str| (action.to_owned(), "operator".to_owned(), "DONE".to_owned());
    assert_eq!(done, [by("resume"), by("pause")]);
}

#[tokio::test]
async fn who_steps_down_leaves_the_lease_to_a_stand_by_and_takes_it_back_where_there_is_none() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let first = stage.relay("first").start();
    stage.held_by(&session, "first").await;
    let mut second = stage.relay("second").start();
    let mut operations = second.operations().await;
    testing::eventually(LIMIT, "the second stands by", async || status(&mut operations).await.state() == OutboxState::Standby).await;
    let (_, epoch) = stage.holder(&session).await;
    let wish = |epoch| StepDownRequest { name: OUTBOX.to_owned(), reason: "a test".to_owned(), epoch };
    let refused = operations.step_down(by_operator(wish(epoch + 1))).await.expect_err("another epoch");
    assert_eq!((refused.code(), reason(&refused).as_deref()), (Code::Aborted, Some("LEASE_EPOCH_MISMATCH")));
    // The stand-by takes the request for the holder.
    let answer = operations.step_down(by_operator(wish(epoch))).await.expect("done").into_inner();
    assert_eq!(answer.epoch, epoch);
    stage.held_by(&session, "second").await;
    write_some(&session, 1, 10).await;
    stage.relayed(&session).await;
    testing::eventually(LIMIT, "the first stands by", async || first.is_ready()).await;

    drop(first);
    let (_, epoch) = stage.holder(&session).await;
    operations.step_down(by_operator(wish(0))).await.expect("done");
    testing::eventually(LIMIT, "there is no other", async || {
        let (holder, now) = stage.holder(&session).await;
        holder.as_deref() == Some("second") && now > epoch
    })
    .await;
    second.kill();
    let outcomes: Vec<String> = session
        .client
        .query("SELECT outcome FROM outbox.audit ORDER BY id", &[])
        .await
        .expect("rows")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(outcomes, ["LEASE_EPOCH_MISMATCH", "DONE", "DONE"]);
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_is_in_the_audit() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    write_some(&session, 1, 1).await;
    session
        .client
        .batch_execute("INSERT INTO outbox.r0 (topic, key, payload) SELECT 99, key, '\\x01' FROM outbox.r0")
        .await
        .expect("inserted");
    write_some(&session, 1, 1).await;
    let relay = stage.relay("relay").start();
    let mut operations = relay.operations().await;
    stage.relayed(&session).await;
    let (held, parked) = (2, 3);

    let nameless = operations.pause_outbox(pause()).await.expect_err("no caller");
    assert_eq!((nameless.code(), reason(&nameless).as_deref()), (Code::InvalidArgument, Some("INVALID_FIELD")));
    assert!(nameless.message().contains("idempo-caller"), "{nameless:?}");
    let silent = operations.pause_outbox(by_operator(PauseOutboxRequest { name: OUTBOX.to_owned(), ..Default::default() })).await;
    assert!(silent.expect_err("no reason").message().contains("reason"));
    let mut malformed = Request::new(pause());
    malformed.metadata_mut().insert("idempo-caller", "not a name".parse().expect("ASCII"));
    assert_eq!(operations.pause_outbox(malformed).await.expect_err("no name").code(), Code::InvalidArgument);
    let unknown = operations.pause_outbox(by_operator(PauseOutboxRequest { name: "outboxes/other".to_owned(), ..pause() })).await;
    assert_eq!(reason(&unknown.expect_err("not ours")).as_deref(), Some("OUTBOX_NOT_FOUND"));

    let both = RequeueRowsRequest {
        parent: OUTBOX.to_owned(),
        names: vec![format!("{OUTBOX}/quarantinedRows/{held}")],
        filter: Some(QuarantineFilter { topic_number: 99, ..Default::default() }),
        reason: "x".to_owned(),
    };
    let nothing = RequeueRowsRequest { names: Vec::new(), filter: None, ..both.clone() };
    for request in [both, nothing] {
        assert_eq!(operations.requeue_rows(by_operator(request)).await.expect_err("either, or").code(), Code::InvalidArgument);
    }
    let names = vec![format!("{OUTBOX}/quarantinedRows/{held}"), format!("{OUTBOX}/quarantinedRows/77")];
    let request = SkipRowsRequest { parent: OUTBOX.to_owned(), names, reason: "x".to_owned() };
    let missing = operations.skip_rows(by_operator(request)).await.expect_err("one is not there");
    assert_eq!(reason(&missing).as_deref(), Some("QUARANTINED_ROW_NOT_FOUND"));
    let names = vec![format!("{OUTBOX}/quarantinedRows/{parked}")];
    let request = RequeueRowsRequest { parent: OUTBOX.to_owned(), names, filter: None, reason: "x".to_owned() };
    let waiting = operations.requeue_rows(by_operator(request)).await.expect_err("it only waits");
    assert_eq!((waiting.code(), reason(&waiting).as_deref()), (Code::FailedPrecondition, Some("QUARANTINED_ROW_STATE")));

    let rows = quarantined(&mut operations).await;
    assert_eq!(rows.iter().map(|row| row.state()).collect::<Vec<_>>(), [QuarantineState::Held, QuarantineState::Parked]);
    assert!(!status(&mut operations).await.paused);
    let entries = audit(&mut operations).await;
    let outcomes: Vec<_> =
        entries.iter().rev().map(|entry| (entry.caller.as_str(), entry.action.as_str(), entry.outcome.as_str())).collect();
    let expected = [
        ("anonymous", "pause", "INVALID_FIELD"),
        ("operator", "pause", "INVALID_FIELD"),
        ("(malformed)", "pause", "INVALID_FIELD"),
        ("operator", "requeue", "INVALID_FIELD"),
        ("operator", "requeue", "INVALID_FIELD"),
        ("operator", "skip", "QUARANTINED_ROW_NOT_FOUND"),
        ("operator", "requeue", "QUARANTINED_ROW_STATE"),
    ];
    assert_eq!(outcomes, expected);
    // A parked row may be skipped while a held one stands before it; twice is as once.
    assert_eq!(skip(&mut operations, parked).await.expect("done").skipped_count, 1);
    assert_eq!(skip(&mut operations, parked).await.expect("done").skipped_count, 0);
    assert_eq!(requeue_key(&mut operations, 1).await.expect("done").requeued_count, 1);
}

#[tokio::test]
async fn a_replay_is_noted_with_its_topic_its_events_and_its_reason() {
    let stage = Stage::new().await;
    let relay = stage.relay("first").start();
    let mut operations = relay.operations().await;
    let note = NoteReplayRequest {
        parent: OUTBOX.to_owned(),
        topic: "economy-events".to_owned(),
        event_count: 7,
        selection: "of one player".to_owned(),
        reason: "a consumer lost them".to_owned(),
    };
    operations.note_replay(by_operator(note.clone())).await.expect("noted");
    let wrong = NoteReplayRequest { topic: String::new(), event_count: -1, ..note };
    let refused = operations.note_replay(by_operator(wrong)).await.expect_err("refused");
    assert_eq!((refused.code(), reason(&refused).as_deref()), (Code::InvalidArgument, Some("INVALID_FIELD")));
    let entries = audit(&mut operations).await;
    let told: Vec<_> = entries.iter().map(|e| [&e.action, &e.target, &e.outcome, &e.reason].map(String::as_str)).collect();
    assert_eq!(
        told,
        [["replay", "topic ", "INVALID_FIELD", "a consumer lost them"], ["replay", "topic economy-events", "DONE", "a consumer lost them"],]
    );
    assert_eq!(entries.last().map(|entry| entry.detail.as_str()), Some("7 events: of one player"));
}

#[tokio::test]
async fn rows_in_quarantine_are_listed_by_page_and_filter_and_read_with_their_bytes() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let sql = "INSERT INTO outbox.r0 (topic, key, payload) SELECT 99, gen_random_uuid(), '\\x0102' FROM generate_series(1, 5)";
    session.client.batch_execute(sql).await.expect("inserted");
    let relay = stage.relay("relay").start();
    let mut operations = relay.operations().await;
    stage.relayed(&session).await;
    let mut request = ListQuarantinedRowsRequest { parent: OUTBOX.to_owned(), page_size: 2, ..Default::default() };
    let mut seqs = Vec::new();
    loop {
        let page = operations.list_quarantined_rows(request.clone()).await.expect("an answer").into_inner();
        seqs.extend(page.quarantined_rows.iter().map(|row| row.seq));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    let mut filtered = async |filter: QuarantineFilter| {
        let request = ListQuarantinedRowsRequest { parent: OUTBOX.to_owned(), filter: Some(filter), ..Default::default() };
        operations.list_quarantined_rows(request).await.expect("an answer").into_inner().quarantined_rows.len()
    };
    assert_eq!(filtered(QuarantineFilter { topic_number: 3, ..Default::default() }).await, 0);
    assert_eq!(filtered(QuarantineFilter { code: "TOPIC_NUMBER_UNKNOWN".to_owned(), ..Default::default() }).await, 5);
    assert_eq!(filtered(QuarantineFilter { state: QuarantineState::Parked.into(), ..Default::default() }).await, 0);
    let request = GetQuarantinedRowRequest { name: format!("{OUTBOX}/quarantinedRows/3") };
    let row = operations.get_quarantined_row(request).await.expect("an answer").into_inner();
    assert_eq!((row.payload.as_ref(), row.envelope), (&[1, 2][..], None));
    let request = GetQuarantinedRowRequest { name: format!("{OUTBOX}/quarantinedRows/9") };
    assert_eq!(operations.get_quarantined_row(request).await.expect_err("none").code(), Code::NotFound);
}

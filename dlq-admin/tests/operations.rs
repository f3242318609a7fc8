//! What people do with dead letters, and what they are refused.

use idempo_proto::ops::v1::{
    AnnotateDeadLetterRequest, ApplyJobRequest, CancelJobRequest, DeadLetterFilter, DeadLetterState, DiscardDeadLettersRequest,
    ExportDeadLettersRequest, ImportDeadLettersRequest, JobState, MemberState, PlanJobRequest, RehearseJobRequest,
    RestoreDeadLettersRequest,
};
use idempo_rpc::status::reason;
use tonic::{Code, Request};

use crate::support::{Client, Stage, audit, by_operator, list, plan_all};

fn discard(names: Vec<String>) -> DiscardDeadLettersRequest {
    DiscardDeadLettersRequest { names, reason: "garbage".to_owned() }
}

fn restore(names: Vec<String>) -> RestoreDeadLettersRequest {
    RestoreDeadLettersRequest { names, reason: "a mistake".to_owned() }
}

async fn export(client: &mut Client, filter: DeadLetterFilter) -> Vec<String> {
    let request = ExportDeadLettersRequest { filter: Some(filter), reason: "a copy".to_owned() };
    let mut stream = client.export_dead_letters(by_operator(request)).await.expect("a stream").into_inner();
    let mut lines = Vec::new();
    while let Some(message) = stream.message().await.expect("a message") {
        lines.extend(message.lines);
    }
    lines
}

#[tokio::test]
async fn what_is_discarded_can_be_restored_as_far_as_its_consumer_has_it() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 3).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let names = vec![stage.name(1), stage.name(2)];
    let discarded = client.discard_dead_letters(by_operator(discard(names.clone()))).await.expect("discarded").into_inner();
    assert_eq!(discarded.job.expect("a job").state(), JobState::Done);
    assert!(discarded.members.iter().all(|member| member.state() == MemberState::Discarded), "{:?}", discarded.members);
    assert_eq!(stage.fake.state().held.len(), 1);

    // The consumer's database was restored from a copy: it has one of them again.
    stage.fake.holds([stage.name(1)], 0);
    let restored = client.restore_dead_letters(by_operator(restore(names.clone()))).await.expect("restored").into_inner().dead_letters;
    let states: Vec<_> = restored.iter().map(|letter| (letter.offset, letter.state())).collect();
    assert_eq!(states, [(1, DeadLetterState::Open), (2, DeadLetterState::ExportOnly)]);
    let again = client.restore_dead_letters(by_operator(restore(names))).await.expect("restored").into_inner().dead_letters;
    assert_eq!(again, restored, "twice is as once");
    let closed = client.discard_dead_letters(by_operator(discard(vec![stage.name(2)]))).await.expect_err("it is not open");
    assert_eq!((closed.code(), reason(&closed).as_deref()), (Code::FailedPrecondition, Some("DEAD_LETTER_NOT_OPEN")));
    let unknown = client.restore_dead_letters(by_operator(restore(vec![stage.name(9)]))).await.expect_err("there is none");
    assert_eq!((unknown.code(), reason(&unknown).as_deref()), (Code::NotFound, Some("DEAD_LETTER_NOT_FOUND")));
}

#[tokio::test]
async fn an_export_comes_back_by_an_import_byte_for_byte_and_what_is_known_stays() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 120).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let lines = export(&mut client, DeadLetterFilter::default()).await;
    assert_eq!(lines.len(), 120);
    assert_eq!(export(&mut client, DeadLetterFilter { code: "VERSION_GAP".to_owned(), ..Default::default() }).await.len(), 30);
    session.client.batch_execute("DELETE FROM ops.dead_letter WHERE record_offset > 20").await.expect("lost");
    let import = ImportDeadLettersRequest { lines: lines.clone(), reason: "they were lost".to_owned() };
    let imported = client.import_dead_letters(by_operator(import.clone())).await.expect("imported").into_inner();
    assert_eq!((imported.imported_count, imported.known_count), (100, 20));
    let imported = client.import_dead_letters(by_operator(import)).await.expect("imported").into_inner();
    assert_eq!((imported.imported_count, imported.known_count), (0, 120));
    let strip = |lines: &[String]| {
        let mut letters: Vec<String> = lines
            .iter()
            .map(|line| {
                let mut letter: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let fields = letter.as_object_mut().expect("an object");
                // The first is what changes, the second is told anew from the value.
                assert!(fields.remove("state").is_some() && fields.remove("event_type").is_some());
                letter.to_string()
            })
            .collect();
        letters.sort();
        letters
    };
    assert_eq!(strip(&export(&mut client, DeadLetterFilter::default()).await), strip(&lines));
    let kept = list(&mut client, DeadLetterFilter { state: DeadLetterState::ExportOnly.into(), ..Default::default() }, 1_000).await;
    assert_eq!(kept.len(), 100);

    let mut wrong = lines;
    wrong.truncate(2);
    wrong.push("{\"no\": \"letter\"}".to_owned());
    let refused = client.import_dead_letters(by_operator(ImportDeadLettersRequest { lines: wrong, reason: "x".to_owned() })).await;
    assert!(refused.expect_err("one is none").message().contains("lines[2]"));
}

#[tokio::test]
async fn lists_are_paged_and_filtered_and_notes_stay_beside_their_dead_letter() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 25).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let all = list(&mut client, DeadLetterFilter::default(), 7).await;
    assert_eq!(all.len(), 25);
    let group = all.first().map(|letter| letter.group.clone()).expect("a group");
    let filters = [
        (DeadLetterFilter { group, ..Default::default() }, 7),
        (DeadLetterFilter { key: "key 13".to_owned(), ..Default::default() }, 1),
        (DeadLetterFilter { event_type: "item_sent".to_owned(), ..Default::default() }, 6),
        (DeadLetterFilter { topic: "other".to_owned(), ..Default::default() }, 0),
        (DeadLetterFilter { fail_time_from: Some(proto_time("2100-01-01T00:00:00Z")), ..Default::default() }, 0),
        (DeadLetterFilter { fail_time_before: Some(proto_time("2100-01-01T00:00:00Z")), ..Default::default() }, 25),
    ];
    for (filter, expected) in filters {
        let found = list(&mut client, filter.clone(), 5).await.len();
        // Which of the four groups is first hangs on the order in which they were written.
        assert!(found == expected || (!filter.group.is_empty() && found == 6), "{filter:?}: {found}");
    }
    let request = AnnotateDeadLetterRequest { name: stage.name(3), note: "asked the team".to_owned(), reason: "x".to_owned() };
    let noted = client.annotate_dead_letter(by_operator(request)).await.expect("noted").into_inner().dead_letter.expect("it");
    assert_eq!((noted.note.as_str(), noted.note_caller.as_str(), noted.revision), ("asked the team", "operator", 1));
}

fn proto_time(time: &str) -> prost_types::Timestamp {
    idempo_rpc::timestamp::to_proto(time.parse().expect("a time"))
}

#[tokio::test]
async fn what_is_done_and_what_is_refused_is_in_the_audit() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 8).await;
    let process = stage.start(None);
    let mut client = process.client().await;

    let nameless = client.discard_dead_letters(Request::new(discard(vec![stage.name(1)]))).await.expect_err("no caller");
    assert!(nameless.message().contains("idempo-caller"), "{nameless:?}");
    let silent = DiscardDeadLettersRequest { reason: String::new(), ..discard(vec![stage.name(1)]) };
    assert!(client.discard_dead_letters(by_operator(silent)).await.expect_err("no reason").message().contains("reason"));
    let twice = discard(vec![stage.name(1), stage.name(1)]);
    assert!(client.discard_dead_letters(by_operator(twice)).await.expect_err("twice").message().contains("once"));
    let everything = PlanJobRequest { reason: "all".to_owned(), ..Default::default() };
    client.plan_job(by_operator(everything)).await.expect_err("all of them is no filter");
    let filter = Some(DeadLetterFilter { code: "NOTHING".to_owned(), ..Default::default() });
    let nothing = PlanJobRequest { filter, reason: "x".to_owned(), ..Default::default() };
    assert_eq!(reason(&client.plan_job(by_operator(nothing)).await.expect_err("none")).as_deref(), Some("NO_DEAD_LETTERS"));
    let unknown = PlanJobRequest { names: vec![stage.name(99)], reason: "x".to_owned(), ..Default::default() };
    assert_eq!(reason(&client.plan_job(by_operator(unknown)).await.expect_err("none")).as_deref(), Some("DEAD_LETTER_NOT_FOUND"));
    let no_job = ApplyJobRequest { name: "deadLetterJobs/77".to_owned(), reason: "x".to_owned(), ..Default::default() };
    assert_eq!(client.apply_job(by_operator(no_job)).await.expect_err("none").code(), Code::NotFound);
    let no_name = CancelJobRequest { name: "jobs/1".to_owned(), reason: "x".to_owned() };
    assert_eq!(client.cancel_job(by_operator(no_name)).await.expect_err("none").code(), Code::NotFound);
    let away = restore(vec![stage.name(99)]);
    client.restore_dead_letters(by_operator(away)).await.expect_err("there is none");
    let garbage = ImportDeadLettersRequest { lines: vec!["x".to_owned()], reason: "x".to_owned() };
    client.import_dead_letters(by_operator(garbage)).await.expect_err("no JSON");
    let planned = plan_all(&mut client).await;
    let rehearse = RehearseJobRequest { name: planned.name.clone(), members_max: 2_000, reason: "x".to_owned() };
    client.rehearse_job(by_operator(rehearse)).await.expect_err("too many");
    client.cancel_job(by_operator(CancelJobRequest { name: planned.name, reason: "no".to_owned() })).await.expect("cancelled");
    client.discard_dead_letters(by_operator(discard(vec![stage.name(1)]))).await.expect("discarded");

    let entries = audit(&mut client).await;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.caller.split(':').next().unwrap_or_default(), entry.action.as_str(), entry.outcome.as_str()))
        .collect();
    let expected = [
        ("anonymous", "discard", "INVALID_FIELD"),
        ("operator", "discard", "INVALID_FIELD"),
        ("operator", "discard", "INVALID_FIELD"),
        ("operator", "plan", "INVALID_FIELD"),
        ("operator", "plan", "NO_DEAD_LETTERS"),
        ("operator", "plan", "DEAD_LETTER_NOT_FOUND"),
        ("operator", "apply", "JOB_NOT_FOUND"),
        ("operator", "cancel", "JOB_NOT_FOUND"),
        ("operator", "restore", "DEAD_LETTER_NOT_FOUND"),
        ("operator", "import", "INVALID_FIELD"),
        ("operator", "plan", "DONE"),
        ("operator", "rehearse", "INVALID_FIELD"),
        ("operator", "cancel", "DONE"),
        ("operator", "discard", "DONE"),
        ("operator", "discard", "DONE"),
        ("dlq-admin", "end", "DONE"),
    ];
    assert_eq!(told, expected, "{entries:#?}");
    let change = session.client.batch_execute("DELETE FROM ops.audit").await;
    assert!(change.is_err(), "the audit is append-only");
}

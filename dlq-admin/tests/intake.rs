//! From the dead-letter topics into the database.

use bytes::Bytes;
use idempo_dead_letter::DeadLetter;
use idempo_devstack::testing;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::{EventEnvelope, ItemConsumed};
use idempo_proto::ops::v1::{DeadLetterFilter, DeadLetterState, GetDeadLetterRequest, GetDeadLetterResponse};
use jiff::SignedDuration;
use prost::Message as _;

use crate::support::{Client, LIMIT, Session, Stage, list};

async fn read(client: &mut Client, name: &str) -> GetDeadLetterResponse {
    client.get_dead_letter(GetDeadLetterRequest { name: name.to_owned() }).await.expect("an answer").into_inner()
}

async fn are_known(session: &Session, count: i64) {
    testing::eventually(LIMIT, &format!("{count} dead letters are known"), async || {
        session.count("SELECT count(*) FROM ops.dead_letter").await == count
    })
    .await;
}

/// Waits until everything that was produced is behind the positions.
async fn is_read(session: &Session, records: i64) {
    testing::eventually(LIMIT, &format!("{records} records are read"), async || {
        session.count("SELECT coalesce(sum(next_offset), 0)::bigint FROM ops.position").await == records
    })
    .await;
}

fn event() -> Vec<u8> {
    let envelope = EventEnvelope {
        event_id: vec![1; 16].into(),
        stream_id: vec![2; 16].into(),
        version: 7,
        data: Some(Data::ItemConsumed(ItemConsumed::default())),
        ..Default::default()
    };
    envelope.encode_to_vec()
}

#[tokio::test]
async fn a_dead_letter_is_one_row_however_often_it_was_produced_with_its_first_and_its_last_error() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let first = stage.letter(1, "key", Some(&event()));
    let again = DeadLetter {
        code: "ROWS_REFUSED".to_owned(),
        message: "the store refuses".to_owned(),
        replay_count: 1,
        last_failed_at: first.last_failed_at + SignedDuration::from_secs(60),
        ..first.clone()
    };
    stage.produce(&[first.clone(), first.clone(), again.clone()]).await;
    is_read(&session, 3).await;
    // One that was under way for long says nothing new.
    stage.produce(&[first.clone(), stage.letter(2, "other", None)]).await;
    is_read(&session, 5).await;
    are_known(&session, 2).await;

    let letters = list(&mut client, DeadLetterFilter::default(), 1).await;
    let codes: Vec<_> = letters.iter().map(|letter| (letter.offset, letter.code.as_str(), letter.replay_count)).collect();
    assert_eq!(codes, [(1, "ROWS_REFUSED", 1), (2, "UNDECODABLE", 0)]);
    let letter = letters.first().expect("the first");
    assert_eq!((letter.first_code.as_str(), letter.event_type.as_str(), letter.version), ("UNDECODABLE", "item_consumed", 7));
    assert_eq!((letter.state(), letter.key.as_str()), (DeadLetterState::Open, "key"));
    let shown = read(&mut client, &letter.name).await;
    assert!(shown.event_json.contains("02020202-0202-0202-0202-020202020202"), "{}", shown.event_json);
    assert_eq!((shown.undecodable_reason.as_str(), shown.headers.len()), ("", 1), "{:?}", shown.headers);
    assert_eq!(shown.unparked_reason, "its consumer does not have it");
    assert_eq!(shown.value.as_ref(), event());
}

#[tokio::test]
async fn what_cannot_be_decoded_is_shown_raw_with_the_reason_and_a_strangers_record_is_kept() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let garbage = stage.letter(1, "a", Some(b"\xff\x00garbage"));
    let tombstone = stage.letter(2, "b", None);
    let mut keyless = stage.letter(3, "c", Some(b""));
    keyless.original.key = None;
    keyless.message = "with a \0 in it".to_owned();
    stage.produce(&[garbage.clone(), tombstone.clone(), keyless.clone()]).await;
    let stranger = (Some(Bytes::from_static(b"\xfe")), Some(Bytes::from_static(b"hello")), vec![("x".to_owned(), None)]);
    stage.produce_raw(&[stranger]).await;
    is_read(&session, 4).await;
    stage.fake.holds([garbage.id.to_string()], 2);

    let shown = read(&mut client, &garbage.id.to_string()).await;
    assert_eq!((shown.value.as_ref(), shown.event_json.as_str()), (&b"\xff\x00garbage"[..], ""));
    assert!(shown.undecodable_reason.contains("EventEnvelope"), "{}", shown.undecodable_reason);
    let parked = shown.parked_behind.expect("its consumer says");
    assert_eq!((parked.record_count, parked.first_offset, parked.last_offset), (2, 1_000, 1_001));
    let shown = read(&mut client, &tombstone.id.to_string()).await;
    assert!(shown.dead_letter.expect("it is there").tombstone && shown.undecodable_reason.contains("tombstone"));
    let shown = read(&mut client, &keyless.id.to_string()).await.dead_letter.expect("it is there");
    assert_eq!((shown.has_key, shown.tombstone, shown.value_bytes, shown.reason.as_str()), (false, false, 0, "with a \u{fffd} in it"));

    let filter = DeadLetterFilter { state: DeadLetterState::ExportOnly.into(), ..Default::default() };
    let strangers = list(&mut client, filter, 100).await;
    let stranger = strangers.first().expect("it is kept");
    assert_eq!((strangers.len(), stranger.code.as_str(), stranger.consumer_group.as_str()), (1, "NOT_A_DEAD_LETTER", "unknown.dlq"));
    assert_eq!(read(&mut client, &stranger.name).await.value.as_ref(), b"hello");
    assert!(!process.log().contains("\"ERROR\""), "{}", process.log());
}

#[tokio::test]
async fn a_process_that_was_overtaken_writes_nothing() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let take = "SELECT epoch, next_offset FROM ops.take_partition('t', 0)";
    let first: i64 = session.client.query_one(take, &[]).await.expect("taken").get(0);
    let second: i64 = session.client.query_one(take, &[]).await.expect("taken").get(0);
    let take_in = "SELECT ops.take_in('t', 0, $1, $2, $3, '[]')";
    let write = async |epoch: i64, from: i64, to: i64| -> bool {
        session.client.query_one(take_in, &[&epoch, &from, &to]).await.expect("an answer").get(0)
    };
    assert!(!write(first, 0, 5).await, "another has taken it");
    assert!(write(second, 0, 5).await);
    assert!(!write(second, 0, 5).await, "it stands elsewhere");
    assert_eq!(session.count("SELECT next_offset FROM ops.position").await, 5);
}

#[tokio::test]
async fn what_was_settled_and_fails_later_is_open_again_and_what_failed_before_is_not() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let process = stage.start(None);
    let letter = stage.letter(1, "key", None);
    stage.produce(std::slice::from_ref(&letter)).await;
    are_known(&session, 1).await;
    let settle = "UPDATE ops.dead_letter SET state = 'replayed', state_changed_at = '2026-01-01 00:00:00Z'";
    session.client.batch_execute(settle).await.expect("settled");
    let fails_at = |time: &str| DeadLetter { last_failed_at: time.parse().expect("a time"), replay_count: 1, ..letter.clone() };
    stage.produce(&[fails_at("2025-12-31T23:59:59Z")]).await;
    is_read(&session, 2).await;
    assert_eq!(session.count("SELECT count(*) FROM ops.dead_letter WHERE state = 'open'").await, 0);
    stage.produce(&[fails_at("2026-01-01T00:00:01Z")]).await;
    is_read(&session, 3).await;
    assert_eq!(session.count("SELECT count(*) FROM ops.dead_letter WHERE state = 'open'").await, 1);
    drop(process);
}

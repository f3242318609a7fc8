//! Dead letters as people operate them, on real servers: listed, rehearsed, replayed, discarded, through the service.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use idempo_dead_letter::{DeadLetter, DeadLetterId, Original};
use idempo_devstack::testing::eventually;
use idempo_ids::Uuid;
use idempo_inventory_projector::{fold, read_rows};
use idempo_kafka::by_hand::{self, Anything};
use idempo_kafka::{Consumer, ConsumerConfig, StartOffset, partition_of};
use idempo_pg::Pool;
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::inventory::v1::ListItemsRequest;
use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::parked_letter_standing::Standing;
use idempo_proto::ops::v1::{
    DiscardParkedLettersRequest, DropGenerationRequest, GenerationState, GetParkedLetterRequest, ListParkedLettersRequest, ParkedLetter,
    ParkedLetterEnd, ParkedLetterStage, ParkedLetterState, RebuildSource, RehearseParkedLettersRequest, ReplayParkedLettersRequest,
    StartRebuildRequest, VerificationState,
};
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::stage::{DEAD_LETTER_PARTITIONS, PARTITIONS, PROJECTION, Stage, generation_name, kafka, said};
use crate::standings::end_of;
use crate::support::LIMIT;
use crate::world::{PLAYERS, player, sample, stream};

/// What an operator "forgot": rows of a player are refused.
const TRAP: &str = "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'forgotten'; END $$;
    CREATE TRIGGER forgotten BEFORE INSERT OR UPDATE ON inventory_g1.stacks FOR EACH ROW
    WHEN (NEW.player_id = '{player}') EXECUTE FUNCTION public.refuse()";
pub(crate) const CURE: &str = "DROP TRIGGER forgotten ON inventory_g1.stacks; DROP FUNCTION public.refuse()";

pub(crate) fn trap(number: usize) -> String {
    TRAP.replace("{player}", &player(number).to_string())
}

fn key_of(envelope: &EventEnvelope) -> Uuid {
    Uuid::from_slice(&envelope.partition_key).expect("a key")
}

impl Stage {
    pub(crate) async fn letters(&self) -> Vec<ParkedLetter> {
        let asked = ListParkedLettersRequest { parent: PROJECTION.to_owned(), page_size: 1_000, ..ListParkedLettersRequest::default() };
        self.parked.clone().list_parked_letters(said(asked)).await.expect("a list").into_inner().parked_letters
    }

    /// Writes a record under a player's key that is no event.
    pub(crate) async fn garbage(&self, key: Uuid, value: Option<&[u8]>) {
        let key = key.to_string();
        let partition = partition_of(key.as_bytes(), PARTITIONS);
        by_hand::write(&kafka(), &self.topic, &[Anything { partition, key: Some(key.as_bytes()), value }]).await.expect("it is written");
    }

    pub(crate) async fn replay(&self, names: &[String], force: bool) -> Vec<Outcome> {
        let asked = ReplayParkedLettersRequest { names: names.to_vec(), reason: "mended".to_owned(), force, wait_ms: 10_000 };
        let answer = self.parked.clone().replay_parked_letters(said(asked)).await.expect("an answer").into_inner();
        answer.outcomes.into_iter().map(|outcome| outcome.outcome.expect("an outcome")).collect()
    }

    pub(crate) async fn discard(&self, names: &[String]) -> Vec<Outcome> {
        let asked = DiscardParkedLettersRequest { names: names.to_vec(), reason: "garbage".to_owned(), wait_ms: 10_000 };
        let answer = self.parked.clone().discard_parked_letters(said(asked)).await.expect("an answer").into_inner();
        answer.outcomes.into_iter().map(|outcome| outcome.outcome.expect("an outcome")).collect()
    }

    fn pool(&self) -> Pool {
        Pool::open(&self.config.generation_database(1)).expect("a pool")
    }

    /// Everything in the dead-letter topic.
    async fn dead_letter_topic(&self) -> Vec<DeadLetter> {
        let topic = idempo_dead_letter::dlq_topic(&self.topic);
        let ends = idempo_kafka::watermarks(&kafka(), &topic, DEAD_LETTER_PARTITIONS).await.expect("the ends");
        let wanted: i64 = ends.iter().map(|(_, high)| *high).sum();
        let config = ConsumerConfig { group_id: format!("{topic}-reader"), topics: vec![topic], ..ConsumerConfig::default() };
        let (consumer, mut events) = Consumer::start(&kafka(), &config).expect("a consumer");
        let mut letters = Vec::new();
        while let Some(event) = events.next().await {
            let idempo_kafka::Event::Assigned(assigned) = event else { continue };
            let starts: Vec<_> = assigned.partitions().iter().map(|partition| (partition.clone(), StartOffset::Beginning)).collect();
            for mut stream in assigned.start(starts) {
                let end = ends[usize::try_from(stream.partition().partition).expect("small")].1;
                for _ in 0..end {
                    let record = stream.recv().await.expect("a record");
                    let headers =
                        record.headers().iter().map(|(name, value)| (name.to_owned(), value.map(|value| value.to_vec().into()))).collect();
                    let (key, value) = record.into_parts();
                    letters.push(DeadLetter::from_record(Original { key, value, headers }).expect("a dead letter"));
                }
            }
            break;
        }
        consumer.close().await;
        assert_eq!(i64::try_from(letters.len()).expect("small"), wanted);
        letters
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_parks_its_keys_and_people_find_rehearse_replay_and_discard_it_until_the_read_model_is_the_fold() {
    let stage = Stage::start().await;
    let world = sample(3);
    // Player 0's rows are refused; player 1 has garbage before all of its events.
    stage.damage(&trap(0)).await;
    stage.garbage(player(1).uuid(), Some(b"not an envelope")).await;
    stage.publish(&world.envelopes).await;
    eventually(LIMIT, "all is read", async || stage.lag().await == 0).await;
    let letters = stage.letters().await;
    let codes: BTreeMap<&str, (ParkedLetterStage, &str)> =
        letters.iter().map(|letter| (letter.key.as_str(), (letter.stage(), letter.code.as_str()))).collect();
    let keys = [player(0).to_string(), player(1).to_string()];
    let expected = [(ParkedLetterStage::Persist, "READ_MODEL_REFUSED"), (ParkedLetterStage::Decode, "UNDECODABLE_RECORD")];
    assert_eq!(codes, keys.iter().map(String::as_str).zip(expected).collect());
    let name_of = |number: usize| letters.iter().find(|letter| letter.key == keys[number]).expect("it is there").name.clone();
    let names = [name_of(0), name_of(1)];

    readers_are_told(&stage, &world.envelopes, &names[0]).await;
    rehearsals_say_what_would_be(&stage, &names).await;

    let parked: i64 = letters.iter().filter(|letter| letter.name == names[0]).map(|letter| letter.parked_records).sum();
    assert!(matches!(stage.replay(&names[..1], false).await[..], [Outcome::FailedAgain(ref failed)] if failed.replay_count == 1));
    stage.damage(CURE).await;
    let outcomes = stage.replay(&names[..1], false).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Applied(applied)] if applied.records == parked + 1 && applied.blocked_by.is_empty()),
        "{outcomes:?}"
    );
    let own = world.envelopes.iter().filter(|envelope| key_of(envelope) == player(1).uuid()).count();
    let outcomes = stage.discard(&names[1..]).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Discarded(done)] if done.records_applied == i64::try_from(own).expect("small")),
        "{outcomes:?}"
    );
    assert_eq!(stage.letters().await, []);
    assert_eq!(read_rows(&stage.pool()).await.expect("rows"), fold(&world.events()).expect("it folds"));

    // What is done stays done, and says so.
    let again = stage.replay(&names, false).await;
    let ends: Vec<_> =
        again.iter().map(|outcome| if let Outcome::Gone(gone) = outcome { gone.end() } else { panic!("{outcome:?}") }).collect();
    assert_eq!(ends, [ParkedLetterEnd::Applied, ParkedLetterEnd::Discarded]);
    the_topic_and_the_audit_have_it(stage, &names).await;
}

/// Reads that ask for what is parked are refused by name and at once; all others are answered.
async fn readers_are_told(stage: &Stage, envelopes: &[EventEnvelope], letter: &str) {
    for number in 0..PLAYERS {
        let own = envelopes.iter().filter(|envelope| *envelope.stream_id == stream(number).bytes()[..]).map(|envelope| envelope.version);
        let Some(version) = own.max() else { continue };
        let min_position = idempo_rpc::position::encode(&[(stream(number), version)]);
        let asked = ListItemsRequest { parent: format!("players/{}", player(number)), min_position, ..ListItemsRequest::default() };
        let (began, answer) = (Instant::now(), stage.queries.clone().list_items(said(asked)).await);
        if number > 1 {
            answer.expect("an answer");
            continue;
        }
        let refused = answer.expect_err("it is parked");
        let info = refused.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((refused.code(), info.reason.as_str()), (Code::FailedPrecondition, "KEY_PARKED"));
        assert!(number != 0 || info.metadata["dead_letter"] == letter);
        assert!(began.elapsed() < LIMIT / 4, "{:?}", began.elapsed());
    }
}

/// A rehearsal says what fails and what changes, and changes nothing.
async fn rehearsals_say_what_would_be(stage: &Stage, names: &[String]) {
    let rehearsed = async |discard| {
        let asked = RehearseParkedLettersRequest { names: names.to_vec(), discard };
        stage.parked.clone().rehearse_parked_letters(said(asked)).await.expect("a rehearsal").into_inner()
    };
    let (before, letters) = (read_rows(&stage.pool()).await.expect("rows"), stage.letters().await);
    let replay = rehearsed(false).await;
    let failures: Vec<&str> = replay.rehearsals.iter().map(|one| one.would_fail.as_ref().expect("it fails").code.as_str()).collect();
    assert_eq!(failures, ["READ_MODEL_REFUSED", "UNDECODABLE_RECORD"]);
    let discard = rehearsed(true).await;
    assert!(discard.rehearsals[1].would_fail.is_none() && discard.rehearsals[1].would_apply_records > 0, "{discard:?}");
    assert!(discard.rows_changed > 0 && discard.differences.iter().all(|row| row.before != row.after), "{discard:?}");
    assert_eq!((read_rows(&stage.pool()).await.expect("rows"), stage.letters().await), (before, letters));
}

async fn the_topic_and_the_audit_have_it(mut stage: Stage, names: &[String]) {
    let ids: Vec<DeadLetterId> = names.iter().map(|name| name.parse().expect("a name")).collect();
    let mut told: Vec<(DeadLetterId, u32)> =
        stage.dead_letter_topic().await.into_iter().map(|letter| (letter.id, letter.replay_count)).collect();
    told.sort();
    let mut expected = vec![(ids[0].clone(), 0), (ids[0].clone(), 1), (ids[1].clone(), 0)];
    expected.sort();
    assert_eq!(told, expected);
    let audit = stage.audit().await;
    let done: Vec<(&str, &str, &str)> =
        audit.iter().rev().map(|entry| (entry.action.as_str(), entry.target.as_str(), entry.outcome.as_str())).collect();
    let (first, second) = (names[0].as_str(), names[1].as_str());
    let expected = [
        ("replay", first, "DONE"),
        ("replay", first, "DONE"),
        ("discard", second, "DONE"),
        ("replay", first, "ABSENT"),
        ("replay", second, "ABSENT"),
        ("replay", first, "GONE"),
        ("replay", second, "GONE"),
    ];
    assert_eq!(done, expected);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_replayed_in_vain_five_times_is_replayed_by_force_alone() {
    let mut stage = Stage::start().await;
    stage.garbage(player(0).uuid(), None).await;
    eventually(LIMIT, "it is a dead letter", async || stage.letters().await.len() == 1).await;
    let letter = stage.letters().await.remove(0);
    assert_eq!((letter.value_size, letter.state(), letter.attempts), (-1, ParkedLetterState::Parked, 3));
    let names = [letter.name.clone()];
    for count in 1..=5 {
        let outcomes = stage.replay(&names, false).await;
        assert!(matches!(&outcomes[..], [Outcome::FailedAgain(again)] if again.replay_count == count), "{outcomes:?}");
    }
    let outcomes = stage.replay(&names, false).await;
    assert!(matches!(&outcomes[..], [Outcome::Refused(refused)] if refused.code == "REPLAYED_TOO_OFTEN"), "{outcomes:?}");
    assert_eq!(stage.audit().await[0].outcome, "REPLAYED_TOO_OFTEN");
    let outcomes = stage.replay(&names, true).await;
    assert!(matches!(&outcomes[..], [Outcome::FailedAgain(again)] if again.replay_count == 6), "{outcomes:?}");
    let others = [names[0].replace(".g1.", ".g9."), names[0].replace("deadLetters/", "deadLetters/other-")];
    let outcomes = stage.replay(&others, false).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Gone(_), Outcome::Refused(other)] if other.code == "DEAD_LETTER_OF_OTHER_CONSUMER"),
        "{outcomes:?}"
    );
    bad_requests_are_refused_and_noted(&mut stage, &names[0]).await;
    stage.stop().await;
}

async fn bad_requests_are_refused_and_noted(stage: &mut Stage, name: &str) {
    let asked =
        |names: Vec<String>, reason: &str, wait_ms| ReplayParkedLettersRequest { names, reason: reason.to_owned(), force: false, wait_ms };
    let name = name.to_owned();
    let cases = [
        asked(vec![], "why", 0),
        asked(vec![name.clone(), name.clone()], "why", 0),
        asked(vec!["deadLetters/nonsense".to_owned()], "why", 0),
        asked(vec![name.clone()], "", 0),
        asked(vec![name.clone()], "why", 10_001),
    ];
    for case in cases {
        let refused = stage.parked.replay_parked_letters(said(case.clone())).await.expect_err("it is refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{case:?}");
        assert_eq!(stage.audit().await[0].outcome, "INVALID_FIELD", "{case:?}");
    }
    let unnamed = stage.parked.replay_parked_letters(asked(vec![name.clone()], "why", 0)).await.expect_err("nobody said who it is");
    assert_eq!(unnamed.code(), Code::InvalidArgument);
    for name in [name.replace(".g1.", ".g7."), "deadLetters/x".to_owned()] {
        let missing = stage.parked.get_parked_letter(said(GetParkedLetterRequest { name })).await.expect_err("there is none");
        let info = missing.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((missing.code(), info.reason.as_str()), (Code::NotFound, "DEAD_LETTER_NOT_FOUND"));
    }
    let found =
        stage.parked.get_parked_letter(said(GetParkedLetterRequest { name: name.clone() })).await.expect("it is there").into_inner();
    assert_eq!(found.parked_letter.expect("a dead letter").name, name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_generation_has_dead_letters_of_its_own_and_takes_them_along_when_it_is_dropped() {
    let mut stage = Stage::start().await;
    stage.garbage(player(0).uuid(), None).await;
    let world = sample(3);
    stage.publish(&world.envelopes).await;
    eventually(LIMIT, "all is read", async || stage.lag().await == 0).await;
    let source = RebuildSource::Kafka.into();
    let asked = StartRebuildRequest { name: PROJECTION.to_owned(), source, reason: "a test".to_owned(), ..StartRebuildRequest::default() };
    stage.ops.start_rebuild(said(asked)).await.expect("it begins");
    assert_eq!(stage.settled(2).await.state(), GenerationState::Ready);
    let letters = stage.letters().await;
    let found: Vec<(i32, i64)> = letters.iter().map(|letter| (letter.generation, letter.offset)).collect();
    assert_eq!(found, [(1, letters[0].offset), (2, letters[0].offset)]);
    assert!(letters[0].consumer_group.ends_with(".g1") && letters[1].consumer_group.ends_with(".g2"), "{letters:?}");
    assert!(letters.iter().all(|letter| letter.parked_records > 0), "{letters:?}");
    // Both have parked the same; without it one has what the other lacks.
    assert_eq!(stage.verified(2).await.state(), VerificationState::Equal);
    assert!(matches!(stage.discard(&[letters[1].name.clone()]).await[..], [Outcome::Discarded(_)]));
    assert_eq!(stage.verified(2).await.state(), VerificationState::Different);
    assert_eq!(stage.letters().await, letters[..1]);
    stage.garbage(player(1).uuid(), None).await;
    eventually(LIMIT, "both have one more", async || stage.letters().await.len() == 3).await;
    let asked = DropGenerationRequest { name: generation_name(2), reason: "a test".to_owned() };
    stage.ops.drop_generation(said(asked)).await.expect("it is dropped");
    eventually(LIMIT, "nothing is left of it", async || stage.traces(2).await == 0).await;
    assert_eq!(stage.letters().await.iter().map(|letter| letter.generation).collect::<Vec<_>>(), [1, 1]);
    // The same record is with the generation that is left, and that says nothing of the one that is gone.
    let standings = stage.standings(&[letters[0].name.clone(), letters[1].name.clone()]).await;
    assert!(matches!(standings[0], Some(Standing::Held(_))), "{standings:?}");
    assert_eq!(end_of(standings[1].as_ref()), ParkedLetterEnd::GenerationGone);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_dead_letters_are_replayed_in_a_moment_and_pages_tell_of_all_of_them() {
    const LETTERS: usize = 5_000;
    let stage = Stage::start().await;
    // Put there by hand: a flood of them would stop the partition.
    let topic = &stage.topic;
    let values: Vec<EventEnvelope> = (0..LETTERS).map(|number| crate::world::granted(1_000 + number)).collect();
    let rows: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(offset, envelope)| {
            let key = key_of(envelope).to_string();
            let partition = partition_of(key.as_bytes(), PARTITIONS);
            let value: String = envelope.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("({partition}, {offset}, '{key}', '\\x{value}')")
        })
        .collect();
    let sql = format!(
        "INSERT INTO projection.dead_letter (projection, generation, topic, partition, record_offset, group_id, key, value, headers, streams, stage, code,
            reason, first_code, first_reason, attempts, first_failed_at, last_failed_at)
         SELECT 'inventory', 1, '{topic}', v.partition, v.record_offset, '{topic}.g1', v.key::bytea, v.value::bytea, '', '{{}}', 'apply', 'TEST', '', 'TEST', '', 3,
            now(), now() FROM (VALUES {}) AS v (partition, record_offset, key, value)",
        rows.join(",")
    );
    stage.damage(&sql).await;
    let mut names = Vec::new();
    let mut asked = ListParkedLettersRequest { parent: PROJECTION.to_owned(), page_size: 999, ..ListParkedLettersRequest::default() };
    loop {
        let page = stage.parked.clone().list_parked_letters(said(asked.clone())).await.expect("a page").into_inner();
        names.extend(page.parked_letters.into_iter().map(|letter| letter.name));
        if page.next_page_token.is_empty() {
            break;
        }
        asked.page_token = page.next_page_token;
    }
    assert_eq!(names.len(), LETTERS);
    let began = Instant::now();
    for names in names.chunks(1_000) {
        let outcomes = stage.replay(names, false).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(applied) if applied.records == 1)), "{outcomes:?}");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let rows = read_rows(&stage.pool()).await.expect("rows");
    assert_eq!((rows.stacks.len(), stage.letters().await.len()), (LETTERS, 0));
    stage.stop().await;
}

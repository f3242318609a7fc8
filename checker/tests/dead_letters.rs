//! Dead letters: a run with poison that was settled, and such runs with one thing wrong.

use bytes::Bytes;
use idempo_checker::checks::dead_letters::Rows;
use idempo_checker::checks::vacuity::{Seen, Trouble};
use idempo_checker::evidence::Calm;
use idempo_checker::facts::{AuditRow, DeadLetters, Job, Letter, Member, Record, Topic};
use idempo_checker::history::Read;
use idempo_checker::method::Method;
use idempo_checker::poison::Injected;
use idempo_checker::{Evidence, Rules, check, ids, partition};
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;
use prost::Message as _;
use uuid::Uuid;

use crate::good::{good_world, granted, id, sword};
use crate::world::{At, PARTITIONS, TOPIC, bytes_of, flagged_under, player};

const GROUP: &str = "idempo.inventory.g1";
/// When keys were parked and nothing else was wrong, and when they were freed.
const CALM: Calm = Calm { from_us: 5_000_000, to_us: 6_000_000, settling_us: 7_000_000 };

/// What a run with poison is held to.
fn with_poison() -> Rules {
    let mut rules = crate::world::rules();
    rules.must_meet.extend([Trouble::Parked, Trouble::Interrupted]);
    rules
}

fn passes(evidence: &Evidence) {
    let report = check(evidence, &with_poison());
    assert!(report.holds(), "{report}");
}

/// Claims on dead letters are broken and no others, and one of the flaws says `phrase`.
#[track_caller]
fn flagged(evidence: &Evidence, phrase: &str) {
    flagged_under(evidence, &with_poison(), &["dlq"], phrase);
}

fn row(caller: &str, action: &str, target: String) -> AuditRow {
    AuditRow { caller: caller.to_owned(), action: action.to_owned(), target, outcome: "DONE".to_owned() }
}

/// An event of a player's inventory that says nothing.
fn forged(owner: Uuid, version: u64) -> Bytes {
    let envelope = EventEnvelope {
        event_id: bytes_of(id(240)),
        stream_id: bytes_of(ids::stream("inventory", owner)),
        version,
        partition_key: bytes_of(owner),
        data: Some(Data::ItemGranted(idempo_proto::event::v1::ItemGranted::default())),
        ..EventEnvelope::default()
    };
    envelope.encode_to_vec().into()
}

/// Writes a record by hand behind all others of its partition, which the read model has gone past.
fn inject(evidence: &mut Evidence, key: Uuid, value: Bytes) -> Record {
    let key = Bytes::from(key.to_string());
    let partition = partition::of_key(&key, PARTITIONS).expect("there are partitions");
    let topic = &mut evidence.topics[0];
    let last = topic.records.iter().filter(|record| record.partition == partition).map(|record| record.offset).max();
    let offset = last.map_or(0, |last| last + 1);
    let record = Record { partition, offset, produced_ms: None, key: key.clone(), value: value.clone(), headers: vec![] };
    topic.records.push(record.clone());
    topic.records.sort_by_key(|record| (record.partition, record.offset));
    let view = evidence.view.as_mut().expect("a view");
    view.checkpoints
        .iter_mut()
        .filter(|checkpoint| checkpoint.partition == partition)
        .for_each(|checkpoint| checkpoint.next_offset = offset + 1);
    evidence.poison.push(Injected { key, value });
    record
}

/// The record that a consumer writes of one that it can't take.
fn dead(record: &Record) -> Record {
    let header = |name: &str, value: String| (format!("__idempo.errors.{name}"), Bytes::from(value));
    let headers = vec![
        ("traceparent".to_owned(), Bytes::from_static(b"00")),
        header("topic", TOPIC.to_owned()),
        header("partition", record.partition.to_string()),
        header("offset", record.offset.to_string()),
        header("consumer.group", GROUP.to_owned()),
    ];
    Record { partition: 0, offset: 0, headers, ..record.clone() }
}

/// Notes that a record is a dead letter that the one job has settled.
fn settle(evidence: &mut Evidence, record: &Record, (state, member): (&str, &str), records: u64) {
    let topic = &mut evidence.dead_letters[0];
    let offset = i64::try_from(topic.records.len()).expect("few");
    topic.records.push(Record { offset, ..dead(record) });
    let letters = evidence.ops.as_mut().expect("dead letters");
    let letter = Letter {
        consumer_group: GROUP.to_owned(),
        place: (TOPIC.to_owned(), record.partition, record.offset),
        key: std::str::from_utf8(&record.key).ok().map(str::to_owned),
        state: state.to_owned(),
        code: "UNDECODABLE_RECORD".to_owned(),
        members: vec![Member { job: 1, state: member.to_owned(), records }],
    };
    let action = if member == "discarded" { "discard" } else { "replay" };
    letters.wishes.push(row("dev", action, letter.name()));
    letters.letters.push(letter);
}

/// A read of an item that waits for a player's inventory, sent in the calm.
fn read(owner: Uuid, took_us: u64) -> Read {
    let subject = format!("items/{}", id(7));
    Read {
        client: 3,
        method: Method::GetItem,
        wanted: vec![("name".into(), subject.clone())],
        seen: Some(vec![("name".into(), subject.clone())]),
        subject,
        invoked_us: CALM.from_us + 1,
        settled_us: CALM.from_us + 1 + took_us,
        awaited: vec![(ids::stream("inventory", owner), 1)],
        refused: String::new(),
        mark: 1,
        floor: 1,
        lag_events: None,
        retries: 0,
    }
}

/// A read that was refused because what it waits for is parked.
fn refused(owner: Uuid) -> Read {
    Read { seen: None, refused: "KEY_PARKED".to_owned(), mark: 0, client: 4, ..read(owner, 100) }
}

/// A good run with two poisoned keys: one of nobody, with garbage, and the first player's, with an event out of its place. Both were discarded.
fn poisoned() -> Evidence {
    let (mut world, _) = good_world();
    world.history.reads.push(read(player(2), 100));
    world.history.reads.push(refused(player(1)));
    let mut evidence = world.finish();
    evidence.calm = Some(CALM);
    evidence.met.add(Trouble::Interrupted, 1);
    evidence.dead_letters.push(Topic { name: format!("{TOPIC}.dlq"), partitions: 3, records: vec![] });
    let job = || "deadLetterJobs/1".to_owned();
    evidence.ops = Some(DeadLetters {
        jobs: vec![Job { id: 1, state: "done".to_owned(), begun: true }, Job { id: 2, state: "planned".to_owned(), begun: false }],
        audit: vec![
            row("dev", "plan", job()),
            row("dev", "apply", job()),
            row("dlq-admin:1", "end", job()),
            row("dev", "plan", "deadLetterJobs/2".to_owned()),
        ],
        ..DeadLetters::default()
    });
    let garbage = inject(&mut evidence, player(9), Bytes::from_static(b"\xff"));
    settle(&mut evidence, &garbage, ("discarded", "discarded"), 0);
    let gap = inject(&mut evidence, player(1), forged(player(1), 1 << 40));
    settle(&mut evidence, &gap, ("discarded", "discarded"), 3);
    evidence
}

fn ops(evidence: &mut Evidence) -> &mut DeadLetters {
    evidence.ops.as_mut().expect("dead letters")
}

#[test]
fn a_run_whose_poison_was_settled_passes() {
    passes(&poisoned());
}

#[test]
fn poison_without_a_dead_letter_is_flagged() {
    let mut evidence = poisoned();
    ops(&mut evidence).letters.pop();
    evidence.dead_letters[0].records.pop();
    // Its reader was refused for it, and nobody can say any more that this was due; and nothing else was parked behind anything.
    flagged_under(&evidence, &with_poison(), &["I12", "dlq", "run"], "has 0 dead letters");
}

#[test]
fn poison_that_was_acknowledged_and_is_not_in_the_topic_is_flagged() {
    let mut evidence = poisoned();
    evidence.poison.push(Injected { key: Bytes::from(player(8).to_string()), value: Bytes::new() });
    flagged(&evidence, "was acknowledged and is not in the topic");
    // Of two that are alike, one.
    let mut alike = poisoned();
    let one = alike.poison[0].clone();
    alike.poison.push(one);
    flagged(&alike, "was acknowledged and is not in the topic");
}

#[test]
fn poison_that_its_consumer_takes_for_an_event_that_it_has_seen_needs_no_dead_letter() {
    let mut evidence = poisoned();
    inject(&mut evidence, player(1), forged(player(1), 1));
    passes(&evidence);
    // Of the last version it is known which event that was.
    let mut conflict = poisoned();
    let version = conflict.stores[1].streams.iter().find(|row| row.partition_key == player(1)).expect("a stream").version;
    inject(&mut conflict, player(1), forged(player(1), version));
    flagged(&conflict, "has 0 dead letters");
}

#[test]
fn an_event_that_is_a_dead_letter_is_flagged_unless_its_rows_were_refused() {
    let mut evidence = poisoned();
    let own = |record: &&Record| record.event().is_some() && record.key == player(1).to_string();
    let record = evidence.topics[0].records.iter().find(own).expect("an event").clone();
    settle(&mut evidence, &record, ("replayed", "applied"), 2);
    flagged(&evidence, "is a dead letter and was no poison");
    let rows_refused = Rules { rows: Rows::SomeRefused, ..with_poison() };
    flagged_under(&evidence, &rows_refused, &["dlq"], "is a dead letter and was no poison");
    ops(&mut evidence).letters.last_mut().expect("one").code = "READ_MODEL_REFUSED".to_owned();
    assert!(check(&evidence, &rows_refused).holds());
    // Its consumer could take it before it was parked.
    let letter = ops(&mut evidence).letters.last_mut().expect("one");
    (letter.state, letter.members[0].state) = ("gone".to_owned(), "gone".to_owned());
    assert!(check(&evidence, &rows_refused).holds());
    (ops(&mut evidence).letters.last_mut().expect("one")).state = "discarded".to_owned();
    flagged_under(&evidence, &rows_refused, &["dlq"], "is discarded and should be replayed or gone");
}

#[test]
fn two_dead_letters_of_one_record_are_flagged() {
    let mut evidence = poisoned();
    let mut twin = ops(&mut evidence).letters[0].clone();
    twin.consumer_group = "somebody.else".to_owned();
    ops(&mut evidence).letters.push(twin);
    flagged(&evidence, "has 2 dead letters");
    // Also where it needs none.
    let mut needless = poisoned();
    let record = inject(&mut needless, player(1), forged(player(1), 1));
    for _ in 0..2 {
        settle(&mut needless, &record, ("discarded", "discarded"), 0);
    }
    flagged(&needless, "has 2 dead letters");
}

#[test]
fn what_is_in_a_dead_letter_topic_and_not_shown_and_the_reverse_are_flagged() {
    let mut lost = poisoned();
    let other = inject(&mut lost, player(7), Bytes::new());
    lost.dead_letters[0].records.push(dead(&other));
    flagged(&lost, "is in a dead-letter topic and not shown");
    let mut made_up = poisoned();
    made_up.dead_letters[0].records.pop();
    flagged(&made_up, "is shown and in no dead-letter topic");
    let mut changed = poisoned();
    changed.dead_letters[0].records[0].value = Bytes::from_static(b"\xfe");
    flagged(&changed, "its dead letter has other bytes");
    let mut unnamed = poisoned();
    unnamed.dead_letters[0].records[0].headers.clear();
    flagged(&unnamed, "does not say what it is a dead letter of");
}

#[test]
fn a_dead_letter_that_was_settled_twice_or_by_nobody_is_flagged() {
    let mut twice = poisoned();
    ops(&mut twice).letters[0].members.push(Member { job: 2, state: "discarded".to_owned(), records: 0 });
    flagged(&twice, "jobs have settled it 2 times");
    let mut by_nobody = poisoned();
    ops(&mut by_nobody).letters[0].members.clear();
    flagged(&by_nobody, "jobs have settled it 0 times");
    let mut otherwise = poisoned();
    let letter = &mut ops(&mut otherwise).letters[0];
    (letter.state, letter.members[0].state) = ("replayed".to_owned(), "applied".to_owned());
    flagged(&otherwise, "is replayed and should be discarded");
}

#[test]
fn what_failed_again_or_was_gone_before_it_was_settled_is_fine() {
    let mut evidence = poisoned();
    let member = |state: &str| Member { job: 1, state: state.to_owned(), records: 0 };
    ops(&mut evidence).letters[0].members.splice(0..0, [member("failed_again"), member("gone"), member("refused")]);
    passes(&evidence);
}

#[test]
fn what_is_left_open_or_parked_or_under_way_is_flagged() {
    let mut open = poisoned();
    (ops(&mut open).letters[0].state, ops(&mut open).letters[0].members[0].state) = ("open".to_owned(), "failed_again".to_owned());
    flagged(&open, "is open");
    let mut under_way = poisoned();
    ops(&mut under_way).jobs[0].state = "applying".to_owned();
    flagged(&under_way, "job 1 is applying");
    let mut parked = poisoned();
    let record = parked.topics[0].records.iter().find(|record| record.key == player(9).to_string()).expect("the garbage").clone();
    parked.view.as_mut().expect("a view").parked.insert((TOPIC.to_owned(), record.partition, record.offset));
    flagged(&parked, "is parked");
}

#[test]
fn an_action_that_is_not_in_the_audit_is_flagged() {
    for (action, phrase) in [("plan", "is planned 0 times"), ("apply", "is begun 0 times"), ("end", "has ended 0 times")] {
        let mut evidence = poisoned();
        ops(&mut evidence).audit.retain(|row| row.action != action || row.target != "deadLetterJobs/1");
        flagged(&evidence, phrase);
    }
    let mut refused = poisoned();
    ops(&mut refused).wishes[0].outcome = "GONE".to_owned();
    flagged(&refused, "its consumer's audit does not say so");
    let mut twice = poisoned();
    let end = ops(&mut twice).audit[2].clone();
    ops(&mut twice).audit.push(end);
    flagged(&twice, "has ended 2 times");
}

#[test]
fn a_read_that_waits_with_other_players_keys_is_flagged() {
    let mut late = poisoned();
    late.history.reads.push(Read { client: 5, ..read(player(2), CALM.settling_us) });
    flagged(&late, "waited for");
    let mut unanswered = poisoned();
    unanswered.history.reads.push(Read { client: 5, ..refused(player(2)) });
    flagged_under(&unanswered, &with_poison(), &["I12", "dlq"], "KEY_PARKED");
    let mut nobody = poisoned();
    nobody.history.reads.retain(|read| read.method != Method::GetItem);
    let report = check(&nobody, &with_poison());
    assert_eq!(report.broken().map(|verdict| (verdict.id, verdict.looked_at)).collect::<Vec<_>>(), [("dlq", 0)], "{report}");
}

#[test]
fn a_read_that_was_refused_for_another_reason_is_flagged() {
    let mut evidence = poisoned();
    let read = evidence.history.reads.iter_mut().find(|read| read.seen.is_none()).expect("the refused one");
    read.refused = "ITEM_NOT_FOUND".to_owned();
    flagged_under(&evidence, &with_poison(), &["I12"], "ITEM_NOT_FOUND");
}

#[test]
fn a_parked_event_that_is_never_applied_is_flagged_as_a_lost_row() {
    let (mut world, _) = good_world();
    world.apply(Method::GrantItem, At::Inventory, vec![granted(1, sword(9, 1))]);
    let mut evidence = world.finish();
    let lost = evidence.view.as_mut().expect("a view").tables.get_mut("items").expect("items").remove(&id(9).to_string());
    assert!(lost.is_some());
    flagged_under(&evidence, &crate::world::rules(), &["I7"], "items");
}

#[test]
fn a_run_in_which_nothing_was_parked_or_no_job_was_disturbed_is_vacuous() {
    let mut evidence = poisoned();
    for letter in &mut ops(&mut evidence).letters {
        letter.members[0].records = 0;
    }
    flagged_under(&evidence, &with_poison(), &["run"], "no record was parked behind a dead letter");
    let mut evidence = poisoned();
    evidence.met = Seen::default();
    for trouble in [Trouble::Takeover, Trouble::Fenced] {
        evidence.met.add(trouble, 1);
    }
    flagged_under(&evidence, &with_poison(), &["run"], "no job on dead letters was under way when their service was killed");
}

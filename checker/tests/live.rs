//! A platform that is audited while it runs: what is not everywhere yet is no flaw, what is missing is.

use std::collections::HashSet;

use idempo_checker::facts::{Record, Topic};
use idempo_checker::live::{Cursor, Look, check};
use idempo_checker::{Evidence, Report};

use crate::good::good;
use crate::world::view_of;

/// A cursor that stands for every row, but those in quarantine.
fn cursor(quarantined: &[i64]) -> Cursor {
    Cursor::parse("1000000:1000000:", None, 0, HashSet::from_iter(quarantined.iter().copied())).expect("a cursor")
}

/// What an audit sees of a run.
fn look(evidence: Evidence) -> Look {
    Look {
        outboxes: evidence.outboxes,
        cursors: vec![cursor(&[]), cursor(&[])],
        awaited_streams: 1,
        view: evidence.view.expect("a view"),
        topics: evidence.topics,
        stores: evidence.stores,
        wallet_tables: evidence.wallet_tables,
        wallet_sums: evidence.wallet_sums.expect("sums"),
        databases: 3,
        ..Look::default()
    }
}

fn broken(look: &Look) -> Vec<String> {
    let report: Report = check(look);
    report.verdicts.iter().filter(|verdict| verdict.flaw_count > 0).map(|verdict| format!("{} {:?}", verdict.id, verdict.flaws)).collect()
}

/// Takes the last record out of a topic that is the last of its stream and partition, and tells its event.
fn take_last(topic: &mut Topic, fits: impl Fn(&Record) -> bool) -> Record {
    let is_last = |at: &usize| topic.records.get(at + 1).is_none_or(|next| next.partition != topic.records[*at].partition);
    let at = (0..topic.records.len()).rev().find(|at| is_last(at) && fits(&topic.records[*at])).expect("such a record");
    topic.records.remove(at)
}

#[test]
fn a_platform_at_rest_is_right() {
    assert_eq!(broken(&look(good())), Vec::<String>::new());
}

#[test]
fn what_the_cursor_stands_for_has_to_be_in_kafka_and_nothing_else() {
    let mut evidence = good();
    let lost = take_last(&mut evidence.topics[0], |_| true).event().expect("an event").event_id;
    evidence.view = Some(view_of(&evidence.topics[0]));
    let events: Vec<_> = evidence.stores.iter().flat_map(|store| &store.events).collect();
    let (seq, xid) = events.iter().find(|event| event.event_id == lost).map(|event| (event.seq, event.xid)).expect("it is stored");
    let mut look = look(evidence);
    let flaws = broken(&look);
    assert!(flaws.len() == 1 && flaws[0].starts_with("I5") && flaws[0].contains(&lost.to_string()), "{flaws:?}");
    look.cursors = vec![cursor(&[seq]), cursor(&[seq])];
    assert_eq!(broken(&look), Vec::<String>::new(), "it is in quarantine");
    let before = || Cursor::parse(&format!("{xid}:{xid}:"), None, 0, HashSet::new()).expect("a cursor");
    look.cursors = vec![before(), before()];
    assert_eq!(broken(&look), Vec::<String>::new(), "it is not relayed yet");
}

#[test]
fn what_people_have_discarded_is_no_flaw_unless_it_is_an_event_of_a_store() {
    let mut evidence = good();
    let topic = &mut evidence.topics[0];
    let garbage = Record { offset: 1_000_000, value: b"garbage".as_slice().into(), ..topic.records.last().expect("a record").clone() };
    let (stranger, own) = (garbage.clone(), topic.records.first().expect("a record").clone());
    topic.records.push(garbage);
    let place = |record: &Record| (topic.name.clone(), record.partition, record.offset);
    let (stranger, own) = (place(&stranger), place(&own));
    let mut look = look(evidence);
    look.leave_out(&HashSet::from([own]));
    assert!(!broken(&look).is_empty(), "a record that nobody knows is one too many");
    look.leave_out(&HashSet::from([stranger]));
    assert_eq!(broken(&look), Vec::<String>::new(), "it is left out, and the stores' own event is not");
}

#[test]
fn what_is_parked_is_not_in_the_rows() {
    let mut evidence = good();
    let whole = evidence.topics[0].clone();
    let parked = take_last(&mut evidence.topics[0], |record| {
        let envelope: idempo_proto::event::v1::EventEnvelope = prost::Message::decode(record.value.clone()).expect("an envelope");
        format!("{:?}", envelope.data).starts_with("Some(Item")
    });
    let mut look = look(good());
    look.view = idempo_checker::facts::View { checkpoints: view_of(&whole).checkpoints, ..view_of(&evidence.topics[0]) };
    assert!(!broken(&look).is_empty(), "it has passed a record that it does not have");
    look.view.parked.insert((whole.name.clone(), parked.partition, parked.offset));
    assert_eq!(broken(&look), Vec::<String>::new(), "it says that it has parked it");
}

#[test]
fn a_read_model_is_compared_up_to_where_it_is() {
    let mut evidence = good();
    let whole = evidence.topics[0].clone();
    take_last(&mut evidence.topics[0], |record| {
        let envelope: idempo_proto::event::v1::EventEnvelope = prost::Message::decode(record.value.clone()).expect("an envelope");
        format!("{:?}", envelope.data).starts_with("Some(Item")
    });
    let mut look = look(good());
    look.view = view_of(&evidence.topics[0]);
    assert_ne!(view_of(&whole).versions, look.view.versions, "it has not read everything");
    assert_eq!(broken(&look), Vec::<String>::new(), "it will read the rest");
    let row = look.view.tables.get_mut("item_events").and_then(|rows| rows.values_mut().next()).expect("a row");
    row.push('!');
    let flaws = broken(&look);
    assert!(flaws.len() == 2 && flaws.iter().all(|flaw| flaw.starts_with("I7")), "{flaws:?}");
}

#[test]
fn what_retention_has_removed_is_not_missed() {
    let mut look = look(good());
    let topic = &mut look.topics[0];
    let first = topic.records.first().cloned().expect("a record");
    topic.records.remove(0);
    let flaws = broken(&look);
    assert!(["I5", "I6"].iter().all(|id| flaws.iter().any(|flaw| flaw.starts_with(id))), "{flaws:?}");
    look.beginnings.insert((look.topics[0].name.clone(), first.partition), first.offset + 1);
    assert_eq!(broken(&look), Vec::<String>::new());
}

#[test]
fn what_stands_still_is_flagged() {
    let mut look = look(good());
    look.outboxes[0].backlog_rows = 3;
    let flaws = broken(&look);
    assert!(flaws.len() == 1 && flaws[0].starts_with("I13") && flaws[0].contains("3 rows"), "{flaws:?}");
    look.outboxes[0].backlog_rows = 0;
    look.behind.insert(uuid::Uuid::from_u128(7), (5, 4));
    assert!(broken(&look)[0].contains("was at version 5, and the read model has 4"));
}

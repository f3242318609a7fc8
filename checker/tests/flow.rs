//! I5 to I8, wrong on purpose: what is in Kafka and in the read model.

use idempo_checker::Evidence;
use idempo_checker::method::Method;
use prost::Message as _;

use crate::good::{good, good_world, granted, sword};
use crate::world::{At, flagged, rewrite, view_of};

/// A change of the topic that the read model has read too.
fn with_topic(change: impl FnOnce(&mut idempo_checker::facts::Topic)) -> Evidence {
    let mut evidence = good();
    change(&mut evidence.topics[0]);
    evidence
}

/// Two neighbours in one partition that are of one stream.
fn neighbours(evidence: &Evidence) -> usize {
    let records = &evidence.topics[0].records;
    let pair = |at: &usize| {
        let (one, next) = (&records[*at], &records[*at + 1]);
        one.partition == next.partition && one.event().expect("an event").stream_id == next.event().expect("an event").stream_id
    };
    // The wallet's: the read model passes them over, so that nothing but the order is wrong.
    (0..records.len() - 1).find(pair).expect("streams have more than one event")
}

#[test]
fn a_lost_event_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::GrantFunds, At::Wallet, vec![crate::good::minted(1, 120, 5)]);
    let lost = world.stores[0].events.last().expect("an event").envelope.clone();
    let mut evidence = world.finish();
    evidence.topics[0].records.retain(|record| record.value != lost);
    flagged(&evidence, &["I5"], "is not in Kafka");
}

#[test]
fn a_ghost_event_in_kafka_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::GrantFunds, At::Wallet, vec![crate::good::minted(1, 120, 5)]);
    let (stores, mut evidence) = (world.stores.clone(), good());
    // Its transaction was rolled back, and the relay had sent it all the same.
    evidence.topics = vec![crate::world::topic_of(&stores)];
    evidence.view = Some(view_of(&evidence.topics[0]));
    flagged(&evidence, &["I5"], "is no event of a store");
}

#[test]
fn a_record_that_is_no_event_is_flagged() {
    let evidence = with_topic(|topic| topic.records.last_mut().expect("a record").value = bytes::Bytes::from_static(b"\xff"));
    flagged(&evidence, &["I5", "I6", "I7"], "is no event");
}

#[test]
fn an_inversion_in_the_topic_is_flagged() {
    let mut evidence = good();
    let at = neighbours(&evidence);
    let records = &mut evidence.topics[0].records;
    let value = records[at].value.clone();
    records[at].value = std::mem::replace(&mut records[at + 1].value, value);
    flagged(&evidence, &["I6"], "comes after version");
}

#[test]
fn a_changed_duplicate_is_flagged() {
    let mut evidence = good();
    let mut event = evidence.stores[0].events[0].clone();
    rewrite(&mut event, |envelope| envelope.traceparent = "changed".to_owned());
    let records = &mut evidence.topics[0].records;
    let original = records.iter().find(|record| record.value == evidence.stores[0].events[0].envelope).expect("its record").clone();
    let last = records.iter().rposition(|record| record.partition == original.partition).expect("a record");
    let offset = records[last].offset + 1;
    records.insert(last + 1, idempo_checker::facts::Record { offset, value: event.envelope, ..original });
    evidence.view = Some(view_of(&evidence.topics[0]));
    flagged(&evidence, &["I5", "I6"], "with other bytes");
}

#[test]
fn a_record_in_the_wrong_partition_is_flagged() {
    let mut evidence = good();
    let records = &mut evidence.topics[0].records;
    let from = records[0].partition;
    let to = (0..12).find(|partition| records.iter().all(|record| record.partition != *partition)).expect("an empty one");
    for record in records.iter_mut().filter(|record| record.partition == from) {
        record.partition = to;
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    evidence.view = Some(view_of(&evidence.topics[0]));
    flagged(&evidence, &["I6"], "should be in partition");
}

#[test]
fn a_record_with_another_key_is_flagged() {
    let evidence = with_topic(|topic| {
        let partition = topic.records[0].partition;
        let key = (0_u32..).map(|number| format!("somebody {number}"));
        let same = |key: &String| idempo_checker::partition::of_key(key.as_bytes(), topic.partitions) == Some(partition);
        topic.records[0].key = key.into_iter().find(same).expect("some key").into();
    });
    flagged(&evidence, &["I6"], "has another key than its envelope says");
}

#[test]
fn a_record_that_was_there_and_is_gone_is_flagged() {
    let mut evidence = good();
    let mut earlier = evidence.topics[0].clone();
    let last = earlier.records.last().expect("a record").clone();
    earlier.records.push(idempo_checker::facts::Record { offset: last.offset + 1, ..last });
    evidence.earlier_topics.push(earlier);
    flagged(&evidence, &["I8"], "was there and is gone or changed");
}

#[test]
fn a_record_that_came_in_before_what_was_delivered_is_flagged() {
    let mut evidence = good();
    let mut earlier = evidence.topics[0].clone();
    let at = (1..earlier.records.len()).find(|at| earlier.records[*at].partition == earlier.records[at - 1].partition).expect("two in one");
    earlier.records.remove(at - 1);
    evidence.earlier_topics.push(earlier);
    flagged(&evidence, &["I8"], "came in before what was there");
}

#[test]
fn what_kafka_had_and_the_stores_never_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::GrantFunds, At::Wallet, vec![crate::good::minted(1, 120, 5)]);
    let earlier = crate::world::topic_of(&world.stores);
    let mut evidence = good();
    evidence.earlier_topics.push(earlier);
    flagged(&evidence, &["I5", "I8"], "was there and is no event of a store");
}

#[test]
fn a_read_model_row_that_is_off_missing_or_too_much_is_flagged() {
    let table = |evidence: &mut Evidence, change: &dyn Fn(&mut idempo_checker::facts::Rows)| {
        change(evidence.view.as_mut().expect("a view").tables.get_mut("items").expect("items"));
    };
    let mut off = good();
    table(&mut off, &|rows| rows.values_mut().for_each(|row| *row = row.replace("hop 3", "hop 2")));
    flagged(&off, &["I7"], "hop 2");
    let mut missing = good();
    table(&mut missing, &|rows| drop(rows.pop_first()));
    flagged(&missing, &["I7"], "the table «»");
    let mut ghost = good();
    table(&mut ghost, &|rows| drop(rows.insert("ghost".to_owned(), "row".to_owned())));
    flagged(&ghost, &["I7"], "follows from no event");
}

#[test]
fn a_checkpoint_ahead_of_its_rows_is_flagged() {
    let (mut world, _) = good_world();
    let before = world.finish();
    (world, _) = good_world();
    world.apply(Method::GrantItem, At::Inventory, vec![granted(2, sword(9, 1))]);
    let mut evidence = world.finish();
    // Rows and versions of before, under the checkpoints of after.
    let (view, before) = (evidence.view.as_mut().expect("a view"), before.view.expect("a view"));
    view.tables = before.tables;
    view.versions = before.versions;
    flagged(&evidence, &["I7"], "its checkpoint stands for");
}

#[test]
fn rows_ahead_of_their_checkpoint_are_flagged() {
    let mut evidence = good();
    let records = &evidence.topics[0].records;
    let item = records.iter().rfind(|record| {
        let data = idempo_proto::event::v1::EventEnvelope::decode(record.value.clone()).expect("an event").data;
        matches!(data, Some(idempo_proto::event::v1::event_envelope::Data::ItemConsumed(_)))
    });
    let (partition, offset) = item.map(|record| (record.partition, record.offset)).expect("something was consumed");
    let view = evidence.view.as_mut().expect("a view");
    view.checkpoints.iter_mut().find(|checkpoint| checkpoint.partition == partition).expect("its checkpoint").next_offset = offset;
    flagged(&evidence, &["I13", "I7"], "the fold says «");
}

//! I2, I3, I4 and I8, wrong on purpose: what commands left in the stores.

use idempo_checker::facts::KeyRow;
use idempo_checker::history::Answer;
use idempo_checker::ids;
use idempo_checker::method::Method;
use tonic::Code;

use crate::good::{good, good_world, minted, transfer};
use crate::world::{At, flagged, rewrite, scope};

#[test]
fn an_effect_that_is_there_twice_is_flagged() {
    let (mut world, marks) = good_world();
    world.append(At::Wallet, marks.grant.key, marks.grant.command, vec![minted(1, 120, 100)]);
    // Also: its answer stands for the first effect only, and two events in Kafka have one id and not the same bytes.
    flagged(&world.finish(), &["I2", "I4", "I5", "I6"], "took effect otherwise than once");
}

#[test]
fn an_effect_in_two_transactions_is_flagged() {
    let (mut world, marks) = good_world();
    let events = &mut world.store(At::Wallet).events;
    events.iter_mut().rfind(|event| event.command_id() == marks.transfer.command).expect("two legs").xid += 1_000;
    flagged(&world.finish(), &["I2"], "events of more than one transaction");
}

#[test]
fn an_effect_of_a_refused_command_is_flagged() {
    let (mut world, marks) = good_world();
    world.append(At::Wallet, marks.refused.key, marks.refused.command, vec![minted(1, 120, 1)]);
    flagged(&world.finish(), &["I3"], "was refused and has 1 events");
}

#[test]
fn one_leg_of_a_transfer_is_flagged() {
    let (mut world, _) = good_world();
    let mut legs = transfer(1, 2, 120, 5);
    legs.pop();
    world.apply(Method::TransferFunds, At::Wallet, legs);
    flagged(&world.finish(), &["I1", "I3"], "one leg without the other");
}

#[test]
fn an_effect_whose_key_is_free_is_flagged() {
    let (mut world, _) = good_world();
    let made = world.send(Method::GrantFunds, Answer::Unknown { code: Code::Unavailable, reason: String::new() });
    world.append(At::Wallet, made.key, made.command, vec![minted(1, 120, 5)]);
    flagged(&world.finish(), &["I3"], "its key is free");
}

#[test]
fn a_key_that_was_applied_without_an_effect_is_flagged() {
    let (mut world, _) = good_world();
    let key = world.new_key();
    let row = KeyRow { key, scope: scope(Method::GrantFunds), is_refused: false, reply: vec![1].into() };
    world.store(At::Wallet).keys.push(row);
    flagged(&world.finish(), &["I3"], "was applied, which has 0 events");
}

#[test]
fn a_lost_acknowledged_command_is_flagged() {
    let (mut world, _) = good_world();
    let made = world.apply(Method::GrantFunds, At::Wallet, vec![minted(1, 120, 5)]);
    let store = world.store(At::Wallet);
    let lost = store.events.pop().expect("its event");
    store.streams.iter_mut().find(|row| row.stream_id == lost.stream_id).expect("its stream").version -= 1;
    store.keys.retain(|row| row.key != made.key);
    flagged(&world.finish(), &["I2", "I4"], "was acknowledged at");
}

#[test]
fn an_acknowledged_command_at_another_version_is_flagged() {
    let (mut world, marks) = good_world();
    world.history.attempts[marks.transfer.attempt].position[0].1 += 1;
    // The wallet in its reply is at the right one.
    flagged(&world.finish(), &["I1", "I4"], "was acknowledged at");
}

#[test]
fn an_event_of_another_chain_is_flagged() {
    let (mut world, marks) = good_world();
    let events = &mut world.store(At::Wallet).events;
    let event = events.iter_mut().find(|event| event.command_id() == marks.grant.command).expect("its event");
    rewrite(event, |envelope| envelope.correlation_id = vec![3; 16].into());
    flagged(&world.finish(), &["I4"], "does not say that it belongs to");
}

#[test]
fn an_event_with_an_id_of_no_command_is_flagged() {
    let (mut world, marks) = good_world();
    let events = &mut world.store(At::Wallet).events;
    let event = events.iter_mut().find(|event| event.command_id() == marks.grant.command).expect("its event");
    event.event_id = ids::event(marks.grant.command, 5);
    let id = event.event_id;
    rewrite(event, |envelope| envelope.event_id = crate::world::bytes_of(id));
    flagged(&world.finish(), &["I2"], "took effect otherwise than once");
}

#[test]
fn a_gap_in_a_stream_is_flagged() {
    let (mut world, _) = good_world();
    let made = world.apply(Method::GrantFunds, At::Wallet, vec![minted(1, 120, 5)]);
    let (stream, version) = world.position_of(made.command)[0];
    let store = world.store(At::Wallet);
    let event = store.events.last_mut().expect("its event");
    event.version += 1;
    rewrite(event, |envelope| envelope.version += 1);
    store.streams.iter_mut().find(|row| row.stream_id == stream).expect("its stream").version = version + 1;
    world.history.attempts[made.attempt].position = vec![(stream, version + 1)];
    flagged(
        &world.finish(),
        &["I1", "I6", "I8"],
        &format!("version {} of stream {stream} comes after version {}", version + 1, version - 1),
    );
}

#[test]
fn a_stream_row_a_number_and_an_envelope_that_lie_are_flagged() {
    let mut row = good();
    row.stores[0].streams[0].version += 1;
    // The reads are held to the row.
    flagged(&row, &["I8"], "its last event is");
    let mut number = good();
    number.stores[0].events[0].seq = 999;
    flagged(&number, &["I8"], "comes after 999");
    let mut envelope = good();
    envelope.stores[0].events[0].decoded.version = 9;
    flagged(&envelope, &["I8"], "says otherwise than its row");
}

#[test]
fn versions_against_real_time_are_flagged() {
    let (mut world, _) = good_world();
    let first = world.apply(Method::GrantFunds, At::Wallet, vec![minted(1, 120, 5)]);
    let second = world.apply(Method::GrantFunds, At::Wallet, vec![minted(1, 121, 5)]);
    let attempts = &mut world.history.attempts;
    // The higher version was answered before the lower one was sent.
    let (invoked_us, settled_us) = (attempts[first.attempt].invoked_us, attempts[first.attempt].settled_us);
    attempts[first.attempt].invoked_us = attempts[second.attempt].invoked_us;
    attempts[first.attempt].settled_us = attempts[second.attempt].settled_us;
    (attempts[second.attempt].invoked_us, attempts[second.attempt].settled_us) = (invoked_us, settled_us);
    flagged(&world.finish(), &["I8"], "was sent only at");
}

#[test]
fn an_event_that_a_store_had_and_has_no_more_is_flagged() {
    let mut evidence = good();
    let mut earlier = evidence.stores[0].clone();
    earlier.events[2].envelope = bytes::Bytes::from_static(b"other");
    evidence.earlier_stores.push(earlier);
    flagged(&evidence, &["I8"], "is gone or changed");
}

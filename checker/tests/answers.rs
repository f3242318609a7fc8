//! I2, I3 and I12, wrong on purpose: what clients were told.

use bytes::Bytes;
use idempo_checker::history::{Answer, Expected, Purpose, Read};
use idempo_checker::method::Method;
use tonic::Code;

use crate::good::{good, good_world, minted};
use crate::world::{At, flagged, flagged_under, player, refusal, rules};

#[test]
fn unequal_answers_for_one_key_are_flagged() {
    let (mut world, marks) = good_world();
    world.history.attempts[marks.again].answer = Answer::Replied { reply: Bytes::from_static(b"another"), replayed: true };
    flagged(&world.finish(), &["I2"], "and then OK with 7 bytes");
}

#[test]
fn an_answer_that_is_not_the_stored_one_is_flagged() {
    let (mut world, marks) = good_world();
    let row = world.store(At::Wallet).keys.iter_mut().find(|row| row.key == marks.transfer.key).expect("a key");
    row.reply = Bytes::from_static(b"another");
    flagged(&world.finish(), &["I2"], "under its key stands a reply with 7 other bytes");
}

#[test]
fn an_answer_that_is_stored_nowhere_is_flagged() {
    let (mut world, marks) = good_world();
    world.store(At::Wallet).keys.retain(|row| row.key != marks.transfer.key);
    flagged(&world.finish(), &["I2", "I3"], "under its key stands nothing");
}

#[test]
fn a_wrong_replay_mark_is_flagged() {
    let (mut world, marks) = good_world();
    let Answer::Replied { replayed, .. } = &mut world.history.attempts[marks.again].answer else { panic!("a reply") };
    *replayed = false;
    flagged(&world.finish(), &["I2"], "2 answers that say they are the first");
    let (mut world, marks) = good_world();
    let Answer::Replied { replayed, .. } = &mut world.history.attempts[marks.transfer.attempt].answer else { panic!("a reply") };
    *replayed = true;
    let evidence = world.finish();
    flagged(&evidence, &["I2"], "only answers marked as replayed");
    let lenient = idempo_checker::Rules { stores_lost_answers: true, ..rules() };
    assert!(idempo_checker::check(&evidence, &lenient).holds());
}

#[test]
fn a_command_that_is_never_settled_is_flagged() {
    let (mut world, _) = good_world();
    world.send(Method::GrantFunds, Answer::Unknown { code: Code::Unavailable, reason: String::new() });
    flagged(&world.finish(), &["I3"], "never got a definite answer");
}

#[test]
fn an_answer_that_was_not_due_is_flagged() {
    let (mut world, marks) = good_world();
    world.history.attempts[marks.refused.attempt].expected = Expected::Refused("WALLET_NOT_FOUND".into());
    flagged(&world.finish(), &["API"], "should be Refused(\"WALLET_NOT_FOUND\")");
    let (mut world, _) = good_world();
    let made = world.send(Method::GrantFunds, Answer::Unknown { code: Code::Internal, reason: String::new() });
    let position = world.append(At::Wallet, made.key, made.command, vec![minted(1, 120, 5)]);
    world.remember(At::Wallet, &made, &position);
    world.again(&made, Purpose::Retry);
    flagged(&world.finish(), &["API"], "broke the service");
}

#[test]
fn a_refusal_and_a_reply_to_one_key_are_flagged() {
    let (mut world, marks) = good_world();
    world.history.attempts[marks.again].answer = Answer::Refused { refusal: refusal("INSUFFICIENT_FUNDS"), replayed: true };
    flagged(&world.finish(), &["API", "I2"], "and then FailedPrecondition INSUFFICIENT_FUNDS");
}

fn last_read(change: impl FnOnce(&mut Read)) -> idempo_checker::Evidence {
    let mut evidence = good();
    change(evidence.history.reads.last_mut().expect("two reads"));
    evidence
}

#[test]
fn a_stale_read_is_flagged() {
    let evidence = last_read(|read| {
        read.mark -= 1;
        read.client = 7;
    });
    flagged(&evidence, &["I12"], "before the position's");
}

#[test]
fn a_read_that_goes_back_is_flagged() {
    let evidence = last_read(|read| {
        read.mark -= 1;
        read.floor = 0;
    });
    flagged(&evidence, &["I12"], "went back from");
}

#[test]
fn a_read_that_misses_the_write_or_never_came_is_flagged() {
    flagged(&last_read(|read| read.wanted.push(("state".into(), "RESERVED".to_owned()))), &["I12"], "should show");
    flagged(&last_read(|read| read.seen = None), &["I12"], "shows None");
}

#[test]
fn a_read_of_what_never_was_is_flagged() {
    let evidence = last_read(|read| read.mark = 99);
    flagged(&evidence, &["I12"], "never went beyond");
    assert_eq!(evidence.history.reads[1].subject, format!("wallets/{}", player(1)));
}

#[test]
fn a_vacuous_run_is_flagged() {
    let (mut world, marks) = good_world();
    world.history.attempts.remove(marks.again);
    world.history.reads.clear();
    let mut evidence = world.finish();
    evidence.met = Default::default();
    evidence.history.attempts.retain(|attempt| attempt.purpose == Purpose::First && attempt.answer.is_definite());
    for phrase in
        ["no repetition was answered", "no outcome was unknown", "settled after an unknown", "nothing was read", "no relay was taken over"]
    {
        // What has no read and no repetition says nothing of them either.
        flagged_under(&evidence, &rules(), &["I12", "I2", "run"], phrase);
    }
    let mut unfenced = good();
    unfenced.met = Default::default();
    unfenced.met.add(idempo_checker::checks::vacuity::Trouble::Takeover, 1);
    flagged(&unfenced, &["run"], "no write was fenced off");
}

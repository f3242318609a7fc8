//! I1, wrong on purpose.

use idempo_checker::history::Answer;
use idempo_checker::method::Method;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::wallet::v1::{TransferFundsResponse, Wallet};
use prost::Message as _;

use crate::good::{burned, good, good_world, held, minted, transfer};
use crate::world::{At, flagged, rewrite};

#[test]
fn a_double_spend_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::TransferFunds, At::Wallet, transfer(1, 2, 120, 40));
    world.apply(Method::TransferFunds, At::Wallet, transfer(1, 2, 121, 40));
    flagged(&world.finish(), &["I1"], "posted: -");
}

#[test]
fn a_negative_balance_that_heals_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::BurnFunds, At::Wallet, vec![burned(1, 120, 500)]);
    world.apply(Method::GrantFunds, At::Wallet, vec![minted(1, 121, 500)]);
    flagged(&world.finish(), &["I1"], "posted: -");
}

#[test]
fn more_on_hold_than_there_is_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::PlaceHold, At::Wallet, vec![held(1, 55, 5_000)]);
    flagged(&world.finish(), &["I1"], "held: 5000");
}

#[test]
fn a_leg_with_another_amount_is_flagged() {
    let (mut world, marks) = good_world();
    let events = &mut world.store(At::Wallet).events;
    let leg = events.iter_mut().rfind(|event| event.command_id() == marks.transfer.command).expect("two legs");
    rewrite(leg, |envelope| {
        if let Some(Data::FundsReceived(received)) = &mut envelope.data {
            received.amount += 1;
        }
    });
    flagged(&world.finish(), &["I1", "I3"], "don't sum to zero");
}

#[test]
fn a_ledger_line_with_another_balance_after_it_is_flagged() {
    let mut evidence = good();
    let entries = evidence.wallet_tables.get_mut("entries").expect("entries");
    let row = entries.values_mut().next().expect("a row");
    *row = row.replace("posted 100 = 100", "posted 100 = 101");
    flagged(&evidence, &["I7"], "posted 100 = 101");
}

#[test]
fn a_reply_that_shows_another_balance_or_another_version_is_flagged() {
    let tell = |change: &dyn Fn(&mut Wallet)| {
        let (mut world, marks) = good_world();
        let attempt = &mut world.history.attempts[marks.transfer.attempt];
        let Answer::Replied { reply, .. } = &mut attempt.answer else { panic!("a reply") };
        let mut told = TransferFundsResponse::decode(reply.as_ref()).expect("its reply");
        change(told.from_wallet.as_mut().expect("a wallet"));
        *reply = told.encode_to_vec().into();
        let stored = reply.clone();
        world.store(At::Wallet).keys.iter_mut().find(|row| row.key == marks.transfer.key).expect("its key").reply = stored;
        world.finish()
    };
    flagged(&tell(&|wallet| wallet.balances[0].available -= 1), &["I1"], "posted, held and available (70, 0, 69)");
    flagged(&tell(&|wallet| wallet.balances[0].posted += 1), &["I1"], "posted, held and available (71, 0, 70)");
    flagged(&tell(&|wallet| wallet.etag = "2".to_owned()), &["I1"], "no wallet that its position has");
}

#[test]
fn sums_of_the_database_that_are_not_zero_are_flagged() {
    let mut evidence = good();
    evidence.wallet_sums.as_mut().expect("sums").total.insert(1, 5);
    flagged(&evidence, &["I1"], "all postings of asset 1 sum to 5");
}

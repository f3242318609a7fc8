//! The checker is quick enough for runs of hours.

use std::time::{Duration, Instant};

use idempo_checker::method::Method;

use crate::good::{minted, opened};
use crate::world::{At, World, player};

/// Every command of this many makes one event. The world looks streams up one by one, so it has few.
const COMMANDS: usize = 20_000;
/// A million events in a minute, and as much again for a machine that does other things.
const LIMIT: Duration = Duration::from_micros(120 * COMMANDS as u64);

#[test]
fn twenty_thousand_events_are_checked_in_their_share_of_a_minute() {
    let mut world = World::new();
    for owner in 1..=8 {
        world.apply(Method::OpenWallet, At::Wallet, vec![opened(owner)]);
    }
    for (number, owner) in (0..COMMANDS).zip((1..=8).cycle()) {
        let made = world.apply(Method::GrantFunds, At::Wallet, vec![minted(owner, 1, 1)]);
        assert!(number == 0 || made.attempt > 0);
    }
    assert_eq!(world.stores[0].streams[0].partition_key, player(1));
    let evidence = world.finish();
    let began = Instant::now();
    let report = idempo_checker::check(&evidence, &idempo_checker::Rules::default());
    let took = began.elapsed();
    assert!(took < LIMIT, "{took:?} for {COMMANDS} events, {report}");
}

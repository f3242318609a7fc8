//! The checker is quick enough for runs of hours.

use std::time::Duration;

use idempo_checker::method::Method;

use crate::good::{minted, opened};
use crate::world::{At, World, player};

/// Every command of this many makes one event, by the one method whose reply shows no wallet: the world adds a wallet up anew for each reply.
const COMMANDS: usize = 20_000;
/// A million events in a minute of one processor's time.
const LIMIT: Duration = Duration::from_micros(60 * COMMANDS as u64);

#[test]
fn twenty_thousand_events_are_checked_in_their_share_of_a_minute() {
    let mut world = World::new();
    for owner in 1..=8 {
        world.apply(Method::OpenWallet, At::Wallet, vec![opened(owner)]);
    }
    for (number, owner) in (0..COMMANDS).zip((1..=8).cycle()) {
        let made = world.apply(Method::ReverseTransaction, At::Wallet, vec![minted(owner, 1, 1)]);
        assert!(number == 0 || made.attempt > 0);
    }
    assert_eq!(world.stores[0].streams[0].partition_key, player(1));
    let evidence = world.finish();
    let began = on_cpu();
    let report = idempo_checker::check(&evidence, &idempo_checker::Rules::default());
    let took = on_cpu() - began;
    assert!(took < LIMIT, "{took:?} for {COMMANDS} events, {report}");
}

/// How long this thread has been on a processor: what others do on the machine does not count.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says so");
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds come first"))
}

//! Short runs with fixed seeds, on one broker: what a whole run does, in a quarter of its time.

use std::time::Duration;

use idempo_chaos::faults::Family;
use idempo_chaos::run::{self, Plan};
use idempo_chaos::stage::Instances;
use idempo_devstack::Brokers;

/// The seeds: of all families they have the relay's, the services' and the projectors' kills and freezes, and lost answers; the first one has
/// PostgreSQL's stop besides, the second one brokers that are away.
const SEEDS: [u64; 2] = [11, 12];
/// How long each plays.
const LENGTH: Duration = Duration::from_secs(16);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_runs_end_healed_and_every_claim_holds() {
    for seed in SEEDS {
        let plan = Plan {
            seed,
            length: LENGTH,
            families: Family::ALL.to_vec(),
            brokers: Brokers::OneBehindProxy,
            instances: Instances::One,
            players: 96,
            clients: 24,
            think: Duration::from_millis(40),
            folder: run::folder(seed).expect("the test's program is somewhere").with_extension("test"),
        };
        let account = run::run(&plan).await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        assert!(account.holds(), "{account}");
    }
}

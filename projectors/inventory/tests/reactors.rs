//! Effects beside a projection of the same topic: counted before and after everything that is done to the projection, also where it is killed; and a
//! reactor that is killed wherever it can be.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use idempo_clock::SystemClock;
use idempo_devstack::testing::{self, eventually};
use idempo_ids::Uuid;
use idempo_inventory_projector::InventoryProjection;
use idempo_projection::failpoint::{
    REACT, REACT_ACQUIRED, REACT_BEFORE_ACQUIRE, REACT_BEGUN, REBUILD_BEFORE_COMMIT, REBUILD_COMMITTED, REBUILD_FOLDED,
};
use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::{
    DropGenerationRequest, GenerationState, RebuildSource, RollBackGenerationRequest, StartRebuildRequest, SwitchGenerationRequest,
    VerificationState,
};
use idempo_runtime::{Platform, launch};
use tokio_util::sync::CancellationToken;

use crate::dead_letters::{CURE, trap};
use crate::notifier::{Office, Receipts, Running, expected, reaction};
use crate::stage::{PARTITIONS, PROJECTION, Stage, config_of, generation_name, said};
use crate::support::LIMIT;
use crate::world::large_sample;

/// A rebuild of so few events a second is under way when its process ends.
const SLOW: i64 = 400;
/// The signal by which a process ends itself at once.
const SIGABRT: i32 = 6;

/// What was done, by the log and by the receiver.
type Counted = (Vec<(Uuid, bool, String)>, Receipts);

async fn counted(office: &Office) -> Counted {
    (office.effects().await, office.receipts().await)
}

fn rebuild(source: RebuildSource, events_per_second_max: i64) -> StartRebuildRequest {
    let workers = if source == RebuildSource::Kafka { 0 } else { 2 };
    StartRebuildRequest { name: PROJECTION.to_owned(), source: source.into(), workers, events_per_second_max, reason: "a test".to_owned() }
}

async fn switch(stage: &mut Stage, number: i32) {
    let asked = SwitchGenerationRequest { name: generation_name(number), live_generation: 0, force: false, reason: "a test".to_owned() };
    stage.ops.switch_generation(said(asked)).await.expect("it is switched to");
    eventually(LIMIT, "reads are answered from it", async || stage.read_generation().await == number).await;
}

/// Has generation 2 built from the event store, by processes that are killed in the middle; and generation 3 from Kafka.
async fn rebuilt_twice(mut stage: Stage) -> Stage {
    stage.ops.start_rebuild(said(rebuild(RebuildSource::EventStore, SLOW))).await.expect("it begins");
    eventually(LIMIT, "some events are in", async || stage.generation(2).await.rebuild.is_some_and(|how| how.events_done > 0)).await;
    let topic = stage.topic.clone();
    let killed = async |view: &str, store: &str| {
        for point in [REBUILD_FOLDED, REBUILD_BEFORE_COMMIT, REBUILD_COMMITTED] {
            Process::of_the_projector((view, store), &topic, (point, 1)).died(point).await;
        }
    };
    let mut stage = stage.replaced_after(killed).await;
    assert_eq!(stage.settled(2).await.state(), GenerationState::Ready);
    stage.ops.start_rebuild(said(rebuild(RebuildSource::Kafka, 0))).await.expect("it begins");
    assert_eq!(stage.settled(3).await.state(), GenerationState::Ready);
    stage
}

/// Replays the dead letters of all generations, once in vain and once not.
async fn replayed(stage: &Stage) {
    let names: Vec<String> = stage.letters().await.into_iter().map(|letter| letter.name).collect();
    assert!(!names.is_empty(), "the rows of a player were refused");
    let in_vain = stage.replay(&names, false).await;
    assert!(in_vain.iter().all(|outcome| matches!(outcome, Outcome::FailedAgain(_))), "{in_vain:?}");
    stage.damage(CURE).await;
    let outcomes = stage.replay(&names, false).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(applied) if applied.records > 1)), "{outcomes:?}");
    assert_eq!(stage.letters().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_rebuilds_nor_switches_nor_replays_repeat_an_effect_and_later_events_have_their_own() {
    let (office, stage) = (Office::new().await, Stage::start().await);
    let notifier = Running::start(&office, &stage.topic);
    eventually(LIMIT, "every partition has begun", async || office.begun().await == i64::from(PARTITIONS)).await;
    let world = large_sample();
    let (before, after) = world.envelopes.split_at(world.envelopes.len() * 2 / 3);
    stage.damage(&trap(0)).await;
    stage.append(before, "7").await;
    stage.publish(before).await;
    let effects = expected(before);
    assert!(effects.len() > 100, "only {} effects", effects.len());
    office.all_done(effects.len()).await;
    eventually(LIMIT, "all is read", async || stage.lag().await == 0).await;
    let first = counted(&office).await;
    let told: BTreeSet<Uuid> = first.1.iter().map(|(id, ..)| *id).collect();
    assert_eq!((first.0.len(), first.1.len(), &told), (effects.len(), effects.len(), &effects.iter().copied().collect()));

    let mut stage = rebuilt_twice(stage).await;
    assert_eq!(counted(&office).await, first, "two rebuilds");
    replayed(&stage).await;
    assert_eq!(counted(&office).await, first, "a replay");
    for number in [2, 3] {
        assert_eq!(stage.verified(number).await.state(), VerificationState::Equal);
    }
    switch(&mut stage, 2).await;
    let back = RollBackGenerationRequest { name: PROJECTION.to_owned(), force: false, reason: "a test".to_owned() };
    stage.ops.roll_back_generation(said(back)).await.expect("it goes back");
    eventually(LIMIT, "reads are answered from generation 1", async || stage.read_generation().await == 1).await;
    switch(&mut stage, 2).await;
    for number in [1, 3] {
        let asked = DropGenerationRequest { name: generation_name(number), reason: "a test".to_owned() };
        stage.ops.drop_generation(said(asked)).await.expect("it is dropped");
        eventually(LIMIT, "it is gone", async || stage.traces(number).await == 0).await;
    }
    // The same events once more, as a relay sends them that has lost its place.
    stage.publish(&before[before.len() / 2..]).await;
    notifier.stop().await;
    let notifier = Running::start(&office, &stage.topic);
    stage.append(after, "7").await;
    stage.publish(after).await;
    let later = expected(after);
    office.all_done(effects.len() + later.len()).await;
    let (effects_in_log, receipts) = counted(&office).await;
    assert!(first.0.iter().all(|effect| effects_in_log.contains(effect)), "what was done stays as it was");
    assert_eq!(effects_in_log.len(), effects.len() + later.len());
    assert_eq!(receipts[..first.1.len()], first.1);
    let of_later: BTreeSet<Uuid> = receipts[first.1.len()..].iter().map(|(id, ..)| *id).collect();
    assert_eq!((receipts.len() - first.1.len(), of_later), (later.len(), later.into_iter().collect()));
    notifier.stop().await;
    stage.stop().await;
}

/// The variables by which a process is told its databases, its topic, and where it ends itself: a point, and how often it is reached.
const DATABASES: &str = "TOLD_DATABASES";
const TOPIC: &str = "TOLD_TOPIC";
const KILL_AT: &str = "TOLD_KILL_AT";

/// A process of a test: this program, as one of its tests that are ignored. It ends with the test, for it reads from it.
struct Process(Child);

impl Process {
    fn of_the_notifier(office: &Office, topic: &str, kill_at: Option<(&str, u32)>) -> Self {
        Self::start("reactors::a_process_of_the_notifier", office.name(), topic, kill_at)
    }

    fn of_the_projector((view, store): (&str, &str), topic: &str, kill_at: (&str, u32)) -> Self {
        Self::start("reactors::a_process_of_the_projector", &format!("{view},{store}"), topic, Some(kill_at))
    }

    fn start(test: &str, databases: &str, topic: &str, kill_at: Option<(&str, u32)>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([test, "--exact", "--ignored", "--nocapture"]).stdin(Stdio::piped()).stdout(Stdio::null());
        command.env(DATABASES, databases).env(TOPIC, topic);
        if let Some((point, times)) = kill_at {
            command.env(KILL_AT, format!("{point}:{times}"));
        }
        Self(command.spawn().expect("it starts"))
    }

    /// Waits until it has ended itself.
    async fn died(mut self, point: &str) {
        eventually(LIMIT, point, async || self.0.try_wait().expect("it is a child").is_some()).await;
        let status = self.0.wait().expect("it is a child");
        assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}");
    }

    fn kill(mut self) {
        self.0.kill().expect("it lives");
        self.0.wait().expect("it is a child");
    }
}

/// Has this process end as it was told; gives its databases and its topic.
fn told() -> (String, String) {
    let [databases, topic] = [DATABASES, TOPIC].map(|name| std::env::var(name).expect("it is started by a test"));
    if let Ok(kill_at) = std::env::var(KILL_AT) {
        let (point, times) = kill_at.split_once(':').expect("a point and a number");
        let left = AtomicU32::new(times.parse().expect("a number"));
        let end = move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                // Nothing is unwound, flushed or closed in order.
                std::process::abort();
            }
        };
        fail::cfg_callback(point, end).expect("a build with failpoints, as `cargo xtask test` makes it");
    }
    std::thread::spawn(|| {
        // It ends, and this process with it, when the test does.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    (databases, topic)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that other tests start"]
async fn a_process_of_the_notifier() {
    let (database, topic) = told();
    reaction(&database, &topic).run(CancellationToken::new()).await.expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that other tests start"]
async fn a_process_of_the_projector() {
    let (databases, topic) = told();
    let (view, store) = databases.split_once(',').expect("two databases");
    let cluster = testing::cluster();
    let config = config_of(&topic, cluster.role(view, "idempo_inventory_projector"), cluster.role(store, "idempo_rebuilder"));
    let platform = Platform::new("inventory-projector", SystemClock::shared());
    let _launched = launch::<InventoryProjection>(config, platform, None).await.expect("it starts");
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_reactor_is_killed_no_effect_is_lost_or_has_a_second_id_and_the_first_time_of_each_is_in_order() {
    let (office, stage) = (Office::new().await, Stage::start().await);
    let world = large_sample();
    let (old, new) = world.envelopes.split_at(world.envelopes.len() / 4);
    stage.publish(old).await;
    for (point, times) in [(REACT_BEFORE_ACQUIRE, 1), (REACT_ACQUIRED, 2), (REACT_BEGUN, 3)] {
        Process::of_the_notifier(&office, &stage.topic, Some((point, times))).died(point).await;
    }
    let process = Process::of_the_notifier(&office, &stage.topic, None);
    eventually(LIMIT, "every partition has begun", async || office.begun().await == i64::from(PARTITIONS)).await;
    process.kill();
    let points: Vec<(&str, u32)> = REACT.into_iter().flat_map(|point| [(point, 1), (point, 3)]).collect();
    for ((point, times), some) in points.iter().zip(new.chunks(new.len().div_ceil(points.len()))) {
        let process = Process::of_the_notifier(&office, &stage.topic, Some((point, *times)));
        stage.publish(some).await;
        process.died(point).await;
    }
    let process = Process::of_the_notifier(&office, &stage.topic, None);
    let effects = expected(new);
    office.all_done(effects.len()).await;
    process.kill();

    let log: BTreeSet<Uuid> = office.effects().await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(log, effects.iter().copied().collect(), "of the old events, none");
    let receipts = office.receipts().await;
    let mut first = BTreeMap::<Uuid, Vec<i64>>::new();
    let mut told = BTreeSet::new();
    for (id, player, version) in &receipts {
        if told.insert(*id) {
            first.entry(*player).or_default().push(*version);
        }
    }
    assert_eq!(told, log);
    assert!(receipts.len() > told.len(), "no kill came between performing and noting");
    assert!(first.values().all(|versions| versions.is_sorted()), "{first:?}");
    stage.stop().await;
}

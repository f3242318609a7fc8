//! Random batches on PostgreSQL and on the memory twin: the same results, the same streams.

use std::collections::BTreeMap;

use idempo_event_store::memory::MemoryStore;
use idempo_event_store::store::{CommandAppend, CommandResult, Store};
use idempo_ids::Uuid;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::conformance::batch;
use crate::support::{append, fresh_account, fresh_key, key};

const BATCHES: usize = 400;
const STREAMS: usize = 6;

/// A batch whose commands chain on what the generator believes of the streams, which is sometimes wrong; keys come again.
fn random_batch(
    rng: &mut ChaCha8Rng,
    streams: &[idempo_event_store::StreamTarget],
    believed: &mut BTreeMap<usize, u64>,
    used: &mut Vec<Uuid>,
) -> Vec<CommandAppend> {
    let mut in_batch = Vec::new();
    let mut commands = Vec::new();
    if rng.random_bool(0.2) {
        *believed.entry(rng.random_range(0..STREAMS)).or_default() += rng.random_range(0..3);
    }
    for _ in 0..rng.random_range(1..8) {
        let id = if !used.is_empty() && rng.random_bool(0.2) { used[rng.random_range(0..used.len())] } else { fresh_key() };
        if in_batch.contains(&id) {
            continue;
        }
        in_batch.push(id);
        used.push(id);
        let first = rng.random_range(0..STREAMS);
        let second = (first + rng.random_range(1..STREAMS)) % STREAMS;
        let chosen: &[usize] = if rng.random_bool(0.4) { &[first, second] } else { &[first] };
        let is_refusal = rng.random_bool(0.2);
        let touches: Vec<_> = chosen
            .iter()
            .map(|index| {
                let expected = believed.get(index).copied().unwrap_or(0);
                let added = if is_refusal { 0 } else { rng.random_range(1..3) };
                *believed.entry(*index).or_default() += u64::from(added);
                (streams[*index], expected, added)
            })
            .collect();
        commands.push(append(key(id, 1), &touches));
    }
    commands
}

fn shape(results: &[CommandResult]) -> Vec<(u8, Option<Vec<u8>>)> {
    let one = |result: &CommandResult| match result {
        CommandResult::Appended => (0, None),
        CommandResult::Taken(settled) => (1, Some(settled.reply.to_vec())),
        CommandResult::Conflict { .. } => (2, None),
    };
    results.iter().map(one).collect()
}

#[tokio::test]
async fn postgresql_and_the_memory_twin_answer_alike() {
    let (_database, postgres) = crate::conformance::postgres().await;
    let memory = MemoryStore::<()>::default();
    let mut seen = [0_usize; 3];
    for seed in 0..3 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let streams: Vec<_> = (0..STREAMS).map(|_| fresh_account()).collect();
        let (mut believed, mut used) = (BTreeMap::new(), Vec::new());
        for round in 0..BATCHES {
            let commands = random_batch(&mut rng, &streams, &mut believed, &mut used);
            let ours = shape(&postgres.append(batch(commands.clone())).await.unwrap());
            let twins = shape(&memory.append(batch(commands)).await.unwrap());
            assert_eq!(ours, twins, "seed {seed}, batch {round}");
            ours.iter().for_each(|(kind, _)| seen[usize::from(*kind)] += 1);
            for (index, target) in streams.iter().enumerate() {
                let events = memory.load(vec![(target.stream_id, 0)]).await.unwrap();
                believed.insert(index, events.last().map_or(0, |event| event.version));
            }
        }
        for target in &streams {
            let after = vec![(target.stream_id, 0)];
            assert_eq!(postgres.load(after.clone()).await.unwrap(), memory.load(after).await.unwrap());
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "the test must see every result: {seen:?}");
}

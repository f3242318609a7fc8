//! Dead letters and parked records in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use idempo_dead_letter::DeadLetterId;
use idempo_ids::StreamId;

use super::{Model, State};
use crate::batch::Entry;
use crate::parking::Parked;
use crate::parking::letters::{Drain, Drainage, Drained, Letter, Next, ParkedCounts, Parking, Wished, Wishes};
use crate::store::StoreError;

/// What is parked.
#[derive(Debug, Clone, Default)]
pub(super) struct Lots {
    /// By partition and offset.
    letters: BTreeMap<(i32, i64), Kept>,
    /// By partition, key and offset.
    followers: BTreeMap<(i32, Bytes, i64), Entry>,
}

#[derive(Debug, Clone)]
struct Kept {
    letter: Letter,
    revision: i64,
    wish: Option<bool>,
    is_begun: bool,
}

/// The most records behind dead letters that one drain takes: so few that tests have queues of several parts.
const FOLLOWERS_MAX: usize = 4;

impl Lots {
    pub(super) fn park(&mut self, partition: i32, parking: &Parking) {
        if let Some(letter) = &parking.letter {
            self.enter(partition, letter.clone());
        }
        for entry in &parking.followers {
            self.followers.insert((partition, entry.key.clone().unwrap_or_default(), entry.offset), entry.clone());
        }
    }

    fn enter(&mut self, partition: i32, letter: Letter) {
        let kept = Kept { revision: 1, wish: None, is_begun: false, letter };
        self.letters.insert((partition, kept.letter.entry.offset), kept);
    }

    pub(super) fn parked(&self, partition: i32) -> Parked {
        let own = self.letters.iter().filter(|((of, _), _)| *of == partition);
        Parked {
            keys: own.filter_map(|(_, kept)| kept.letter.entry.key.clone()).collect(),
            records: count(self.followers.keys().filter(|(of, ..)| *of == partition).count()),
            recent: Vec::new(),
        }
    }

    /// Asks for a dead letter to be replayed, or discarded. `false` where there is none, or it is asked for already.
    pub(super) fn wish(&mut self, partition: i32, offset: i64, is_discard: bool) -> bool {
        match self.letters.get_mut(&(partition, offset)).filter(|kept| kept.wish.is_none()) {
            Some(kept) => {
                kept.wish = Some(is_discard);
                kept.revision += 1;
                true
            }
            None => false,
        }
    }

    /// The dead letters, with how often each was replayed in vain.
    pub(super) fn letters(&self) -> Vec<(i32, i64, u32)> {
        self.letters.iter().map(|((partition, offset), kept)| (*partition, *offset, kept.letter.failure.replay_count)).collect()
    }

    pub(super) fn wished(&self, partition: i32) -> Vec<Wished> {
        let own = self.letters.iter().filter(|((of, _), _)| *of == partition);
        let mut wished: Vec<Wished> = own.filter_map(|((_, offset), kept)| self.wished_one(partition, *offset, kept)).collect();
        // Queues that don't fit come with the next part.
        let mut room = FOLLOWERS_MAX;
        for wished in &mut wished {
            wished.has_more = wished.followers.len() > room;
            wished.followers.truncate(room);
            room -= wished.followers.len();
        }
        wished
    }

    fn wished_one(&self, partition: i32, offset: i64, kept: &Kept) -> Option<Wished> {
        let failure = &kept.letter.failure;
        Some(Wished {
            offset,
            revision: kept.revision,
            is_discard: kept.wish?,
            is_begun: kept.is_begun,
            head: kept.letter.entry.clone(),
            followers: self.behind(partition, &kept.letter.entry),
            has_more: false,
            attempts: failure.attempts,
            replay_count: failure.replay_count,
            first_failed_at: failure.first_failed_at,
        })
    }

    fn behind(&self, partition: i32, head: &Entry) -> Vec<Entry> {
        let Some(key) = head.key.clone() else { return Vec::new() };
        let range = (partition, key.clone(), i64::MIN)..=(partition, key, i64::MAX);
        self.followers.range(range).map(|(_, entry)| entry.clone()).collect()
    }

    fn is_as_read(&self, partition: i32, letter: &Drained) -> bool {
        self.letters.get(&(partition, letter.offset)).is_some_and(|kept| kept.revision == letter.revision && kept.wish.is_some())
    }

    fn settle(&mut self, partition: i32, drained: &Drained) {
        let Some(mut kept) = self.letters.remove(&(partition, drained.offset)) else { return };
        if let Some(key) = kept.letter.entry.key.clone() {
            self.followers.retain(|(of, behind, offset), _| *of != partition || *behind != key || *offset > drained.through);
        }
        kept.revision += 1;
        match &drained.next {
            Next::Free => {}
            Next::More => {
                kept.is_begun = true;
                self.letters.insert((partition, drained.offset), kept);
            }
            Next::Failed(failure) => {
                (kept.wish, kept.letter.failure) = (None, failure.clone());
                self.letters.insert((partition, drained.offset), kept);
            }
            Next::Blocked(letter) => {
                let key = letter.entry.key.clone().unwrap_or_default();
                self.followers.remove(&(partition, key, letter.entry.offset));
                self.enter(partition, (**letter).clone());
            }
        }
    }

    pub(super) fn wishes(&self) -> Wishes {
        let mut partitions: Vec<i32> = self.letters.iter().filter(|(_, kept)| kept.wish.is_some()).map(|((of, _), _)| *of).collect();
        partitions.dedup();
        Wishes { partitions, has_letters: !self.letters.is_empty() }
    }

    pub(super) fn counts(&self) -> ParkedCounts {
        let kept = || self.letters.values().map(|kept| &kept.letter);
        ParkedCounts {
            letters: count(self.letters.len()),
            keys: count(kept().filter(|letter| letter.entry.key.is_some()).count()),
            records: count(self.followers.len()),
            oldest_at: kept().map(|letter| letter.failure.first_failed_at).min(),
        }
    }

    pub(super) fn of_stream(&self, streams: &[StreamId]) -> Option<DeadLetterId> {
        let found = self.letters.iter().find(|(_, kept)| kept.letter.streams.iter().any(|stream| streams.contains(stream)));
        found.map(|((partition, offset), kept)| {
            let group = kept.letter.group.to_string();
            DeadLetterId { group, topic: String::new(), partition: *partition, offset: *offset }
        })
    }
}

impl<M: Model> State<M> {
    pub(super) fn drain(&mut self, drain: &Drain<M::Writes>) -> Result<Drainage, StoreError> {
        if self.checkpoints.get(&drain.partition).is_none_or(|checkpoint| checkpoint.epoch != drain.epoch) {
            return Ok(Drainage::Fenced);
        }
        if !drain.letters.iter().all(|letter| self.lots.is_as_read(drain.partition, letter)) {
            return Ok(Drainage::Stale);
        }
        self.model.merge(&drain.writes).map_err(|reason| StoreError::Refused(reason.into()))?;
        self.versions.extend(drain.versions.iter().map(|end| (end.stream, *end)));
        for letter in &drain.letters {
            self.lots.settle(drain.partition, letter);
        }
        Ok(Drainage::Done)
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

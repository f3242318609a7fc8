//! Effects that wait to be performed, in memory: those of a key one after the other. Pure.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use idempo_ids::Uuid;

use super::EffectId;
use super::log::Pending;

/// What waits, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What waits, by key. A key without anything has no entry.
    waiting: HashMap<Uuid, VecDeque<Pending>>,
    /// Keys of which something waits and nothing is under way, in the order in which they came to be so.
    ready: VecDeque<Uuid>,
    /// Keys of which an effect is under way.
    busy: HashSet<Uuid>,
    /// Keys that wait for people: nothing of them is here.
    blocked: BTreeSet<Uuid>,
    /// What is here, waiting or under way.
    known: HashSet<EffectId>,
}

impl Queue {
    /// Adds an effect behind those of its key, unless it is here already, or its key is blocked.
    pub(super) fn push(&mut self, effect: Pending) {
        let key = effect.key;
        if self.blocked.contains(&key) || !self.known.insert(effect.id) {
            return;
        }
        let queue = self.waiting.entry(key).or_default();
        queue.push_back(effect);
        if queue.len() == 1 && !self.busy.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// The next effect to begin with. Its key is busy until it is [`Self::finished`] or [`Self::block`]ed.
    pub(super) fn begin(&mut self) -> Option<Pending> {
        let key = self.ready.pop_front()?;
        let queue = self.waiting.get_mut(&key)?;
        let effect = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&key);
        }
        self.busy.insert(key);
        effect
    }

    /// An effect is not under way any more, and its key goes on.
    pub(super) fn finished(&mut self, id: EffectId, key: Uuid) {
        self.known.remove(&id);
        self.busy.remove(&key);
        if self.waiting.contains_key(&key) {
            self.ready.push_back(key);
        }
    }

    /// An effect is not under way any more, and its key waits for people: what waits of it is forgotten here.
    pub(super) fn block(&mut self, id: EffectId, key: Uuid) {
        self.known.remove(&id);
        self.busy.remove(&key);
        for effect in self.waiting.remove(&key).into_iter().flatten() {
            self.known.remove(&effect.id);
        }
        self.blocked.insert(key);
    }

    /// These keys wait for people, and no others.
    pub(super) fn set_blocked(&mut self, keys: BTreeSet<Uuid>) {
        self.blocked = keys;
    }

    /// How many keys wait for people.
    pub(super) fn blocked(&self) -> usize {
        self.blocked.len()
    }

    /// How many effects are here.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use idempo_ids::EventId;
    use jiff::Timestamp;

    use super::*;
    use crate::reactor::log::Place;

    fn effect(key: u128, offset: i64) -> Pending {
        let event = EventId::new(Uuid::from_u128(offset.unsigned_abs().into()));
        Pending {
            id: EffectId::of("test", event, 0),
            place: Place { offset, ordinal: 0 },
            event,
            key: Uuid::from_u128(key),
            decided_at: Timestamp::UNIX_EPOCH,
            traceparent: String::new(),
            effect: bytes::Bytes::new(),
        }
    }

    fn offset(effect: Option<Pending>) -> Option<i64> {
        effect.map(|effect| effect.place.offset)
    }

    #[test]
    fn the_effects_of_a_key_come_one_after_the_other_and_those_of_others_beside_them() {
        let mut queue = Queue::default();
        for (key, offset) in [(1, 0), (1, 1), (2, 2), (1, 3)] {
            queue.push(effect(key, offset));
            queue.push(effect(key, offset));
        }
        assert_eq!((offset(queue.begin()), offset(queue.begin()), offset(queue.begin())), (Some(0), Some(2), None));
        queue.finished(effect(1, 0).id, Uuid::from_u128(1));
        assert_eq!((offset(queue.begin()), offset(queue.begin()), queue.len()), (Some(1), None, 3));
    }

    #[test]
    fn what_is_under_way_is_not_taken_again() {
        let mut queue = Queue::default();
        queue.push(effect(1, 0));
        assert_eq!(offset(queue.begin()), Some(0));
        queue.push(effect(1, 0));
        assert_eq!((offset(queue.begin()), queue.len()), (None, 1));
    }

    #[test]
    fn what_comes_while_an_effect_of_its_key_is_under_way_waits_for_it() {
        let mut queue = Queue::default();
        queue.push(effect(1, 0));
        assert_eq!(offset(queue.begin()), Some(0));
        queue.push(effect(1, 1));
        assert_eq!(offset(queue.begin()), None);
        queue.finished(effect(1, 0).id, Uuid::from_u128(1));
        assert_eq!((offset(queue.begin()), offset(queue.begin())), (Some(1), None));
    }

    #[test]
    fn of_a_blocked_key_nothing_is_taken_until_it_is_free() {
        let mut queue = Queue::default();
        queue.push(effect(1, 0));
        queue.push(effect(1, 1));
        assert_eq!(offset(queue.begin()), Some(0));
        queue.block(effect(1, 0).id, Uuid::from_u128(1));
        queue.push(effect(1, 2));
        assert_eq!((offset(queue.begin()), queue.len(), queue.blocked()), (None, 0, 1));
        queue.set_blocked(BTreeSet::new());
        queue.push(effect(1, 1));
        assert_eq!(offset(queue.begin()), Some(1));
    }
}

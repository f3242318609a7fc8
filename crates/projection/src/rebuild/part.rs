//! The parts in which the event store is read.
//!
//! Ids of streams have the time of their owner's making in front, so equal ranges of ids would have very different numbers of events. The parts are
//! cut along the streams that there are when a rebuild begins, in the order of their ids (which is that of `es.events`' primary key), where so and so
//! many events have come together.

use idempo_ids::Uuid;

/// How many events a part has, where nothing else is said. It bounds the memory of a rebuild: a worker holds what follows from one part.
pub const PART_EVENTS_DEFAULT: u32 = 16_384;
/// The most parts.
const PARTS_MAX: i64 = 65_536;

/// Whole streams: those with ids from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: Uuid,
    pub(crate) last: Uuid,
}

/// Cuts streams into parts.
#[derive(Debug)]
pub(crate) struct Cut {
    /// From so many events on a part is full.
    full: i64,
    parts: Vec<Part>,
    /// Events of the last part; `None` where the next stream begins a part.
    filled: Option<i64>,
}

impl Cut {
    /// Parts of about `part_events` events, of `events` in all. A part has less than that, and one stream more.
    pub(crate) fn new(events: i64, part_events: u32) -> Self {
        let full = i64::from(part_events.max(1)).max(events / PARTS_MAX + 1);
        Self { full, parts: Vec::new(), filled: None }
    }

    /// Adds the next stream, in the order of their ids, with how many events it has.
    pub(crate) fn add(&mut self, stream: Uuid, events: i64) {
        let filled = self.filled.unwrap_or(0).saturating_add(events);
        match self.parts.last_mut().filter(|_| self.filled.is_some()) {
            Some(part) => part.last = stream,
            None => self.parts.push(Part { first: stream, last: stream }),
        }
        self.filled = Some(filled).filter(|filled| *filled < self.full);
    }

    /// The parts, in the order of the ids.
    pub(crate) fn parts(self) -> Vec<Part> {
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// The parts of streams that have so many events each, as pairs of places in the list.
    fn cut(streams: &[i64], part_events: u32) -> Vec<(u128, u128)> {
        let mut cut = Cut::new(streams.iter().sum(), part_events);
        for (at, events) in (0..).zip(streams) {
            cut.add(id(at), *events);
        }
        cut.parts().into_iter().map(|part| (part.first.as_u128(), part.last.as_u128())).collect()
    }

    #[test]
    fn parts_have_whole_streams_and_about_as_many_events_each() {
        assert_eq!(cut(&[], 10), []);
        assert_eq!(cut(&[3, 3, 3, 3, 3], 6), [(0, 1), (2, 3), (4, 4)]);
        assert_eq!(cut(&[1, 1, 1], 100), [(0, 2)]);
    }

    #[test]
    fn a_stream_that_fills_more_than_a_part_is_not_cut() {
        assert_eq!(cut(&[1, 50, 1, 1], 10), [(0, 1), (2, 3)]);
    }

    #[test]
    fn however_small_parts_are_wanted_there_are_not_more_than_can_be_kept() {
        let streams = vec![1; 200_000];
        let parts = cut(&streams, 1);
        assert!(i64::try_from(parts.len()).expect("few") <= PARTS_MAX, "{}", parts.len());
        assert!(parts.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        assert_eq!((parts.first().map(|part| part.0), parts.last().map(|part| part.1)), (Some(0), Some(199_999)));
    }
}

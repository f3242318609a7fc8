//! I8: the versions of every stream run from 1 without a gap, and its row says the last one.

use std::collections::HashMap;

use idempo_ids::StreamId;

use super::Verdict;
use crate::facts::{Store, StoredEvent};

/// I8 on the stores. `seq` grows with the version, and the envelope says what the row says.
#[must_use]
pub fn gapless(stores: &[&Store]) -> Verdict {
    let mut verdict = Verdict::new("I8", "stream versions run from 1 without a gap", "streams");
    for store in stores {
        let mut streams: HashMap<StreamId, Vec<&StoredEvent>> = HashMap::new();
        for event in &store.events {
            verdict.require(envelope_agrees(event), || {
                format!("{}: the envelope of {} says otherwise than its row", store.name, event.event_id)
            });
            streams.entry(event.stream_id).or_default().push(event);
        }
        for row in &store.streams {
            let mut events = streams.remove(&row.stream_id).unwrap_or_default();
            events.sort_by_key(|event| event.version);
            let gapless = events.iter().zip(1..).all(|(event, version)| event.version == version);
            let last = events.last().map_or(0, |event| event.version);
            let ordered = events.windows(2).all(|pair| matches!(pair, [first, second] if first.seq < second.seq));
            let owned = events.iter().all(|event| event.partition_key() == row.partition_key);
            verdict.look(gapless && last == row.version && ordered && owned, || {
                format!("{}: stream {} is at {} and has {} events up to {last}", store.name, row.stream_id, row.version, events.len())
            });
        }
        verdict.require(streams.is_empty(), || format!("{}: {} streams have events and no row", store.name, streams.len()));
    }
    verdict
}

fn envelope_agrees(event: &StoredEvent) -> bool {
    event.decoded.stream_id == event.stream_id.bytes().as_slice()
        && event.decoded.version == event.version
        && event.decoded.event_id == event.event_id.bytes().as_slice()
        && event.decoded.data.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::samples::{event, store, stream};

    #[test]
    fn gapless_streams_pass() {
        let store = store(vec![event(1, stream(1), 1, 1, 0), event(2, stream(2), 1, 2, 0), event(3, stream(1), 2, 3, 0)]);
        let verdict = gapless(&[&store]);
        assert!(verdict.holds());
        assert_eq!(verdict.looked_at, 2);
    }

    #[test]
    fn a_gap_a_wrong_start_a_late_row_and_a_lying_envelope_are_flagged() {
        let good = || store(vec![event(1, stream(1), 1, 1, 0), event(2, stream(1), 2, 2, 0), event(3, stream(1), 3, 3, 0)]);
        let mut gap = good();
        gap.events.remove(1);
        let mut start = good();
        start.events.remove(0);
        let mut row_ahead = good();
        row_ahead.streams[0].version = 4;
        let mut order = good();
        order.events[0].seq = 9;
        let mut lying = good();
        lying.events[1].decoded.version = 7;
        let mut no_row = good();
        no_row.streams.clear();
        for bad in [gap, start, row_ahead, order, lying, no_row] {
            assert!(gapless(&[&bad]).flaw_count > 0, "{bad:?}");
        }
    }
}

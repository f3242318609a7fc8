//! Positions: where a command's events stand, as text that clients hand back as they got it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idempo_ids::StreamId;
use idempo_proto::position::v1::{Position, StreamPosition};
use prost::Message as _;

/// The most streams in a position.
pub const STREAMS_MAX: usize = 8;

/// The longest text that is looked at: more than 8 streams take.
const CHARS_MAX: usize = 512;

/// The position at these versions of these streams: base64url of an `idempo.position.v1.Position`. No streams are the empty text.
#[must_use]
pub fn encode(streams: &[(StreamId, u64)]) -> String {
    debug_assert!(streams.len() <= STREAMS_MAX, "a command names at most 8 streams");
    let streams = streams.iter().map(|(id, version)| StreamPosition { stream_id: id.bytes().to_vec().into(), version: *version });
    URL_SAFE_NO_PAD.encode(Position { streams: streams.collect() }.encode_to_vec())
}

/// The streams and versions of a position: 1 to 8 different streams, versions from 1 to 2^63 - 1. `None` for any other text.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<(StreamId, u64)>> {
    if text.len() > CHARS_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let position = Position::decode(bytes.as_slice()).ok()?;
    if !(1..=STREAMS_MAX).contains(&position.streams.len()) {
        return None;
    }
    let mut seen = BTreeSet::new();
    let streams = position.streams.iter().map(|stream| {
        let id = StreamId::from_slice(&stream.stream_id).ok()?;
        let in_range = (1..=i64::MAX.unsigned_abs()).contains(&stream.version);
        (in_range && seen.insert(id)).then_some((id, stream.version))
    });
    streams.collect()
}

#[cfg(test)]
mod tests {
    use idempo_ids::Uuid;

    use super::*;

    fn stream(n: u128) -> StreamId {
        StreamId::new(Uuid::from_u128(n))
    }

    #[test]
    fn a_position_survives_the_round_trip() {
        let streams: Vec<_> = (1..=8).map(|n| (stream(n), u64::try_from(n).expect("small"))).collect();
        assert_eq!(decode(&encode(&streams)), Some(streams));
    }

    #[test]
    fn nothing_changed_is_the_empty_position() {
        assert_eq!(encode(&[]), "");
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let encode_all = |streams: Vec<StreamPosition>| URL_SAFE_NO_PAD.encode(Position { streams }.encode_to_vec());
        let entry = |n: u128, version| StreamPosition { stream_id: stream(n).bytes().to_vec().into(), version };
        assert_eq!(decode(""), None);
        assert_eq!(decode("not base64!"), None);
        assert_eq!(decode("AAAA"), None);
        assert_eq!(decode(&"A".repeat(513)), None);
        assert_eq!(decode(&encode_all((1..=9).map(|n| entry(n, 1)).collect())), None, "nine streams");
        assert_eq!(decode(&encode_all(vec![entry(1, 1), entry(1, 2)])), None, "one stream twice");
        assert_eq!(decode(&encode_all(vec![entry(1, 0)])), None, "version 0");
        assert_eq!(decode(&encode_all(vec![entry(1, u64::MAX)])), None, "a version that no database holds");
        let short = StreamPosition { stream_id: vec![1, 2, 3].into(), version: 1 };
        assert_eq!(decode(&encode_all(vec![short])), None, "a short id");
    }
}

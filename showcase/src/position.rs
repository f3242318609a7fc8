//! What stands behind a position. To clients it is opaque; a checker has to look inside.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idempo_ids::StreamId;
use idempo_proto::position::v1 as wire;
use prost::Message as _;

use crate::history::Position;

/// The streams and versions that a position stands for; `None` where it is none.
#[must_use]
pub fn decode(position: &str) -> Option<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(position).ok()?;
    let position = wire::Position::decode(bytes.as_slice()).ok()?;
    position.streams.iter().map(|stream| Some((StreamId::from_slice(&stream.stream_id).ok()?, stream.version))).collect()
}

/// The position that stands for these streams and versions.
#[must_use]
pub fn encode(position: &[(StreamId, u64)]) -> String {
    let streams = position
        .iter()
        .map(|(stream, version)| wire::StreamPosition { stream_id: stream.bytes().to_vec().into(), version: *version })
        .collect();
    URL_SAFE_NO_PAD.encode(wire::Position { streams }.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use idempo_ids::Uuid;

    use super::*;

    #[test]
    fn a_position_is_read_back_as_it_was_written_and_other_text_is_none() {
        let position = vec![(StreamId::new(Uuid::from_bytes([7; 16])), 12), (StreamId::new(Uuid::from_bytes([8; 16])), 1)];
        assert_eq!(decode(&encode(&position)), Some(position));
        assert_eq!(decode("not/a/position"), None);
        assert_eq!(decode(""), Some(vec![]));
    }
}

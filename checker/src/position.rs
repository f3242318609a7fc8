//! What stands behind a position. To clients it is opaque; a checker has to look inside.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idempo_proto::position::v1 as wire;
use prost::Message as _;
use uuid::Uuid;

use crate::ids;

/// The versions of streams that a position stands for.
pub type Position = Vec<(Uuid, u64)>;

/// The streams and versions that a position stands for; `None` where it is none.
#[must_use]
pub fn decode(position: &str) -> Option<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(position).ok()?;
    let position = wire::Position::decode(bytes.as_slice()).ok()?;
    position.streams.iter().map(|stream| Some((ids::of_bytes(&stream.stream_id)?, stream.version))).collect()
}

/// The position that stands for these streams and versions.
#[must_use]
pub fn encode(position: &[(Uuid, u64)]) -> String {
    let streams = position
        .iter()
        .map(|(stream, version)| wire::StreamPosition { stream_id: stream.as_bytes().to_vec().into(), version: *version })
        .collect();
    URL_SAFE_NO_PAD.encode(wire::Position { streams }.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_as_it_was_written_and_other_text_is_none() {
        let position = vec![(Uuid::from_bytes([7; 16]), 12), (Uuid::from_bytes([8; 16]), 1)];
        assert_eq!(decode(&encode(&position)), Some(position));
        assert_eq!(decode("not/a/position"), None);
        assert_eq!(decode(""), Some(vec![]));
    }
}

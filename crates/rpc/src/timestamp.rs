//! Protobuf timestamps as times, and back.

use jiff::Timestamp;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// The first second of the year 1 and the last of the year 9999: the range of `google.protobuf.Timestamp`.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The protobuf form of a time.
#[must_use]
pub fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    let nanoseconds = time.as_nanosecond();
    // Before 1970 too, protobuf counts nanoseconds forward from the second. Both parts are in range for every time there is.
    let seconds = i64::try_from(nanoseconds.div_euclid(NANOS_PER_SECOND)).unwrap_or(i64::MAX);
    let nanos = i32::try_from(nanoseconds.rem_euclid(NANOS_PER_SECOND)).unwrap_or(0);
    prost_types::Timestamp { seconds, nanos }
}

/// The time of a protobuf timestamp; `None` outside the years 1 to 9999, or where the nanoseconds are not those of a second.
#[must_use]
pub fn from_proto(timestamp: &prost_types::Timestamp) -> Option<Timestamp> {
    if !SECONDS.contains(&timestamp.seconds) || !(0..=999_999_999).contains(&timestamp.nanos) {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(timestamp.seconds) * NANOS_PER_SECOND + i128::from(timestamp.nanos)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_round_trip_on_both_sides_of_1970() {
        for text in ["2026-11-23T01:39:00.123456Z", "1969-12-31T23:59:59.5Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"] {
            let time: Timestamp = text.parse().expect("a literal");
            let proto = to_proto(time);
            assert!(proto.nanos >= 0);
            assert_eq!(from_proto(&proto), Some(time), "{text}");
        }
    }

    #[test]
    fn what_is_no_protobuf_timestamp_is_no_time() {
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0), (253_402_300_800, 0), (-62_135_596_801, 0)] {
            assert_eq!(from_proto(&prost_types::Timestamp { seconds, nanos }), None);
        }
    }
}

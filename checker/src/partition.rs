//! Kafka's default partitioner, written down a second time, from `org.apache.kafka.common.utils.Utils.murmur2`.

/// The hash of a key, as Java's clients have it.
#[must_use]
pub fn murmur2(key: &[u8]) -> i32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let scramble = |word: u32| {
        let word = word.wrapping_mul(MULTIPLIER);
        (word ^ (word >> 24)).wrapping_mul(MULTIPLIER)
    };
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    for chunk in key.chunks(4) {
        let word = chunk.iter().rev().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
        hash = if chunk.len() == 4 { hash.wrapping_mul(MULTIPLIER) ^ scramble(word) } else { (hash ^ word).wrapping_mul(MULTIPLIER) };
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition of a key among so many: the hash without its sign, modulo. `None` where there are none.
#[must_use]
pub fn of_key(key: &[u8], partitions: i32) -> Option<i32> {
    (partitions > 0).then(|| (murmur2(key) & i32::MAX).checked_rem(partitions)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Kafka's own Java class.
    const VECTORS: &str = include_str!("../../schemas/murmur2.txt");

    #[test]
    fn every_hash_and_partition_is_that_of_kafkas_own_class() {
        let mut seen = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split(' ').collect();
            let text = fields[0].trim_matches('"');
            let key: Vec<u8> = (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect();
            assert_eq!(murmur2(&key), fields[1].parse::<i32>().expect("an int"), "{line}");
            assert_eq!(of_key(&key, 12), fields[2].parse().ok(), "{line}");
            seen += 1;
        }
        assert!(seen >= 25, "{seen} vectors");
        assert_eq!(of_key(b"key", 0), None);
    }
}

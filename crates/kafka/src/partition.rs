//! Which partition a key belongs to: murmur2, as Kafka's Java clients do (`org.apache.kafka.common.utils.Utils.murmur2`).

/// The seed of Kafka's Java clients.
const SEED: u32 = 0x9747_b28c;
/// Murmur2's multiplier.
const M: u32 = 0x5bd1_e995;
/// Murmur2's shift.
const R: u32 = 24;

/// The 32-bit murmur2 hash of `key`, as Java clients have it.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0, |k, byte| (k << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of `key` in a topic of `partitions` partitions: the hash without its sign, modulo. 0 where there are none.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff).cast_signed().checked_rem(partitions.max(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `key in hex, hash as Java's signed int, partition of 12`, made with Kafka's own Java class.
    const VECTORS: &str = include_str!("../../../schemas/murmur2.txt");

    #[test]
    fn every_hash_and_partition_is_that_of_the_java_client() {
        let mut seen = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let mut fields = line.split(' ');
            let key = unhex(fields.next().expect("a key").trim_matches('"'));
            let hash: i32 = fields.next().expect("a hash").parse().expect("an int");
            let partition: i32 = fields.next().expect("a partition").parse().expect("an int");
            assert_eq!(murmur2(&key).cast_signed(), hash, "{line}");
            assert_eq!(partition_of(&key, 12), partition, "{line}");
            seen += 1;
        }
        assert!(seen >= 40, "only {seen} vectors");
    }

    #[test]
    fn a_topic_without_partitions_has_no_other_answer_than_0() {
        assert_eq!(partition_of(b"key", 0), 0);
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect()
    }
}

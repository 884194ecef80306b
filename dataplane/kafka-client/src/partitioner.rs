//! Which partition a key belongs to.
//!
//! Two functions, both fixed for ever by data that already lies in partitions: murmur2 as the Java client does it,
//! and FNV-1a as the 2017 gateway's library did it, for topics whose keys must stay where they are. Records without a
//! key are placed by the accumulator (sticky), not here.

/// How a topic's keys map to partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Partitioner {
    /// `toPositive(murmur2(key)) % n`, as `org.apache.kafka.clients.producer` since 0.8.2.
    #[default]
    Murmur2,
    /// `abs(int32(fnv1a32(key)) % n)`, as the 2017 gateway.
    Fnv1a,
}

impl Partitioner {
    /// The partition of `key` among `partition_count` partitions.
    pub fn partition(self, key: &[u8], partition_count: u32) -> u32 {
        assert!(partition_count > 0, "a topic has at least one partition");
        match self {
            // toPositive masks the sign bit, it does not negate: -1 becomes 0x7fffffff.
            Partitioner::Murmur2 => (murmur2(key) & 0x7fff_ffff) % partition_count,
            // Go's % keeps the sign of the dividend, then the sign is dropped.
            Partitioner::Fnv1a => (i64::from(fnv1a(key) as i32) % i64::from(partition_count)).unsigned_abs() as u32,
        }
    }
}

/// MurmurHash2, 32 bits, with the seed of the Java client.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// FNV-1a, 32 bits.
pub fn fnv1a(data: &[u8]) -> u32 {
    data.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_the_java_clients_numbers() {
        // UtilsTest.testMurmur2 of the Java client, and the values its documentation of "1" to "12345" gives.
        for (key, hash) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
            ("1", -1993445489),
            ("12", 126087238),
            ("123", -267702483),
            ("1234", -1614185708),
            ("12345", -1188365604),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn murmur2_partitions_are_the_masked_hash_modulo_n() {
        for (key, hash) in [("21", -973932308i32), ("foobar", -790332482), ("abc", 479470107)] {
            for n in [1u32, 2, 3, 4, 7, 100] {
                let expected = (hash as u32 & 0x7fff_ffff) % n;
                assert_eq!(Partitioner::Murmur2.partition(key.as_bytes(), n), expected, "{key} of {n}");
            }
        }
    }

    #[test]
    fn fnv1a_gives_the_published_numbers() {
        // From the authors' test suite (draft-eastlake-fnv).
        for (key, hash) in [("", 0x811c9dc5), ("a", 0xe40c292c), ("b", 0xe70c2de5), ("foobar", 0xbf9cf968)] {
            assert_eq!(fnv1a(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn fnv1a_partitions_drop_the_sign_after_the_remainder() {
        // int32(0xbf9cf968) = -1080231576; -1080231576 % 10 = -6 in Go; the sign is dropped.
        assert_eq!(Partitioner::Fnv1a.partition(b"foobar", 10), 6);
        // int32(0xe40c292c) = -468965076.
        assert_eq!(Partitioner::Fnv1a.partition(b"a", 7), (468965076 % 7) as u32);
        assert_eq!(Partitioner::Fnv1a.partition(b"", 1), 0);
    }
}

//! How fast a shard delivers to each broker, where an operator has set a limit: live traffic keeps the rest.

use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};

/// Buckets of a shard, by cluster and broker. A bucket holds a tenth of a second, so that a pause is not made up for.
#[derive(Debug)]
pub struct Pace {
    /// Of this shard. `None`: as fast as brokers take it.
    bytes_per_s: Option<u64>,
    buckets: HashMap<(usize, i32), Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Below zero: so much was taken ahead.
    bytes: i64,
    filled_at: Instant,
}

const HOLDS_MS: u64 = 100;

impl Pace {
    /// `bytes_per_s` of the process, which `shard_count` shards share.
    pub fn new(bytes_per_s: Option<u64>, shard_count: usize) -> Pace {
        let of_shard = bytes_per_s.map(|bytes| (bytes / shard_count.max(1) as u64).max(1));
        Pace { bytes_per_s: of_shard, buckets: HashMap::new() }
    }

    /// Takes `bytes` for a broker, or says when there will be some. What is larger than a bucket goes when the bucket is full,
    /// and is paid for afterwards.
    pub fn take(&mut self, broker: (usize, i32), bytes: u64, now: Instant) -> Result<(), Instant> {
        let Some(rate) = self.bytes_per_s else { return Ok(()) };
        let most = i64::try_from(rate * HOLDS_MS / 1_000).unwrap_or(i64::MAX).max(1);
        let bucket = self.buckets.entry(broker).or_insert(Bucket { bytes: most, filled_at: now });
        let elapsed_us = now.saturating_duration_since(bucket.filled_at).as_micros().min(10_000_000) as u64;
        let came = i64::try_from(rate.saturating_mul(elapsed_us) / 1_000_000).unwrap_or(i64::MAX);
        if came > 0 {
            (bucket.bytes, bucket.filled_at) = (bucket.bytes.saturating_add(came).min(most), now);
        }
        if bucket.bytes <= 0 {
            let missing = bucket.bytes.unsigned_abs() + 1;
            return Err(now + Duration::from_micros(missing.saturating_mul(1_000_000) / rate + 1));
        }
        bucket.bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_bytes_a_second_pass_to_each_broker_whatever_their_sizes() {
        for sizes in [vec![100], vec![5_000], vec![1, 3_000, 40_000]] {
            let start = Instant::now();
            let (mut pace, mut now, mut passed) = (Pace::new(Some(200_000), 2), start, 0);
            for size in sizes.iter().cycle() {
                if now >= start + Duration::from_secs(10) {
                    break;
                }
                match pace.take((0, 1), *size, now) {
                    Ok(()) => passed += size,
                    Err(at) => {
                        assert!(at > now, "{sizes:?}");
                        now = at;
                    }
                }
            }
            assert!((980_000..=1_060_000).contains(&passed), "{passed} bytes of {sizes:?} in 10 s");
            assert_eq!(pace.take((0, 2), 1, now), Ok(()), "another broker has its own");
        }
        let mut unlimited = Pace::new(None, 2);
        assert!((0..1_000).all(|_| unlimited.take((0, 1), 1 << 30, Instant::now()).is_ok()));
    }
}

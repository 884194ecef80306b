//! What goes through each topic: counted by the shards, asked for by the control plane. Metrics tell of the hundred busiest
//! only; this tells of every topic, and of one process.

use foldhash::HashMap;
use model::Side;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Since the shard first saw the topic. Written by one shard.
#[derive(Debug, Default)]
struct Counts([AtomicU64; 4]);

/// Messages and bytes, a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub publish_messages: f64,
    pub publish_bytes: f64,
    pub subscribe_messages: f64,
    pub subscribe_bytes: f64,
}

/// The counts of all shards.
#[derive(Debug)]
pub struct Traffic {
    /// By [`model::Topic::index`].
    shards: Vec<Mutex<HashMap<u32, Arc<Counts>>>>,
    sampled: Mutex<Sampled>,
}

#[derive(Debug, Default)]
struct Sampled {
    at: Option<Instant>,
    sums: HashMap<u32, [u64; 4]>,
    rates: HashMap<u32, Rates>,
}

/// One shard's part. One per shard.
#[derive(Debug)]
pub struct ShardTraffic {
    traffic: Arc<Traffic>,
    shard: usize,
    known: RefCell<HashMap<u32, Arc<Counts>>>,
}

fn add(sum: &mut [u64; 4], counts: &[u64; 4]) {
    sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traffic {
    pub fn new(shard_count: usize) -> Traffic {
        Traffic { shards: (0..shard_count).map(|_| Mutex::default()).collect(), sampled: Mutex::default() }
    }

    pub fn shard(self: &Arc<Traffic>, shard: usize) -> ShardTraffic {
        ShardTraffic { traffic: Arc::clone(self), shard, known: RefCell::default() }
    }

    /// Makes rates of what was counted since the last call. Called by the control plane every few seconds.
    pub fn sample(&self, now: Instant) {
        let mut sums: HashMap<u32, [u64; 4]> = HashMap::default();
        let mut kept: HashMap<u32, [u64; 4]> = HashMap::default();
        let sampled = &mut *lock(&self.sampled);
        for shard in &self.shards {
            lock(shard).retain(|topic, counts| {
                // What its shard does not hold any more is of an earlier snapshot; it begins anew with the next message.
                let is_held = Arc::strong_count(counts) > 1;
                let counts = counts.0.each_ref().map(|count| count.load(Relaxed));
                add(sums.entry(*topic).or_default(), &counts);
                if is_held {
                    add(kept.entry(*topic).or_default(), &counts);
                }
                is_held
            });
        }
        let elapsed_s = sampled.at.map(|at| now.saturating_duration_since(at).as_secs_f64().max(1e-3));
        sampled.at = Some(now);
        let rate = |topic: &u32, sum: &[u64; 4]| {
            let before = sampled.sums.get(topic).copied().unwrap_or_default();
            let rate = |n: usize| elapsed_s.map_or(0.0, |s| sum[n].saturating_sub(before[n]) as f64 / s);
            let [publish_messages, publish_bytes, subscribe_messages, subscribe_bytes] = [0, 1, 2, 3].map(rate);
            Rates { publish_messages, publish_bytes, subscribe_messages, subscribe_bytes }
        };
        sampled.rates = sums.iter().map(|(topic, sum)| (*topic, rate(topic, sum))).collect();
        sampled.sums = kept;
    }

    /// Of one topic, between the last two samples.
    pub fn rates(&self, topic: u32) -> Rates {
        lock(&self.sampled).rates.get(&topic).copied().unwrap_or_default()
    }
}

impl ShardTraffic {
    pub fn count(&self, side: Side, topic: u32, messages: usize, bytes: usize) {
        let mut known = self.known.borrow_mut();
        let counts = known.entry(topic).or_insert_with(|| {
            let mut all = lock(&self.traffic.shards[self.shard]);
            Arc::clone(all.entry(topic).or_default())
        });
        let first = match side {
            Side::Publish => 0,
            Side::Subscribe => 2,
        };
        for (count, more) in counts.0[first..].iter().zip([messages, bytes]) {
            // No other shard writes it.
            count.store(count.load(Relaxed) + more as u64, Relaxed);
        }
    }

    /// Topics that are not used any more are let go of: a new snapshot came.
    pub fn forget(&self) {
        self.known.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_are_what_all_shards_counted_between_two_samples() {
        let traffic = Arc::new(Traffic::new(2));
        let shards = [traffic.shard(0), traffic.shard(1)];
        let start = Instant::now();
        shards[0].count(Side::Publish, 1, 10, 1_000);
        traffic.sample(start);
        assert_eq!(traffic.rates(1), Rates::default(), "since when is not known");
        for shard in &shards {
            shard.count(Side::Publish, 1, 20, 2_000);
            shard.count(Side::Subscribe, 2, 5, 50);
        }
        traffic.sample(start + Duration::from_secs(4));
        assert_eq!(traffic.rates(1), Rates { publish_messages: 10.0, publish_bytes: 1_000.0, ..Rates::default() });
        assert_eq!(traffic.rates(2), Rates { subscribe_messages: 2.5, subscribe_bytes: 25.0, ..Rates::default() });
        traffic.sample(start + Duration::from_secs(8));
        assert_eq!(traffic.rates(1), Rates::default(), "nothing since");
        // A new snapshot, a message under it: nothing is counted twice or taken back.
        shards[0].forget();
        traffic.sample(start + Duration::from_secs(9));
        shards[0].count(Side::Publish, 1, 3, 30);
        traffic.sample(start + Duration::from_secs(10));
        assert_eq!(traffic.rates(1).publish_messages, 3.0);
    }
}

//! Randomness as a value: SplitMix64 from the seed the owner of a [`crate::Client`] gave.
//!
//! It spreads retries and picks partitions; the SCRAM nonce comes from it too, so production seeds must be random.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): one add and two multiplies per number.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// `span` shortened by up to a quarter.
    pub(crate) fn jitter(&mut self, span: Duration) -> Duration {
        let quarter = span.as_micros() as usize / 4;
        span - Duration::from_micros(self.below(quarter + 1) as u64)
    }
}

//! How long, how large: HDR histograms, one per shard, merged when read.
//!
//! Layout, as in HdrHistogram with two significant digits: values below 256 have a step each; above, every power of
//! two has 128 steps. With 7 bits of precision, value 1000 = 0b11_1110_1000 lies in the power 2^9 (shift 2), step
//! 1000 >> 2 = 250, so at index 2 * 128 + 250 = 506, which stands for 1000..=1003.
//!
//! A shard's part is an array of counts that it alone writes, so that a scrape can read it at any time; the merged
//! counts become an `hdrhistogram` for quantiles and fixed `le` buckets for Prometheus. 31 KiB per part.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::family::{Handle, Kind};
use crate::limits::{HISTOGRAM_PRECISION_BITS, HISTOGRAM_VALUE_MAX};
use crate::text;

const HALF: u64 = 1 << HISTOGRAM_PRECISION_BITS;
const STEPS: usize = index_of(HISTOGRAM_VALUE_MAX) + 1;
const _: () = assert!(STEPS * 8 <= 32 * 1024);

const fn index_of(value: u64) -> usize {
    if value < 2 * HALF {
        return value as usize;
    }
    let shift = value.ilog2() - HISTOGRAM_PRECISION_BITS;
    (shift as u64 * HALF + (value >> shift)) as usize
}

/// The largest value counted at `index`.
fn value_of(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * HALF {
        return index;
    }
    let shift = index / HALF - 1;
    ((index - shift * HALF + 1) << shift) - 1
}

/// What the recorded numbers are, and with it the buckets that Prometheus sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Recorded in microseconds, shown in seconds; the name ends in `_seconds`.
    Seconds,
    /// Recorded and shown in bytes; the name ends in `_bytes`.
    Bytes,
    /// Plain numbers, such as records per batch.
    Count,
}

/// (bound as recorded, as shown)
type Bounds = &'static [(u64, &'static str)];

const SECONDS: Bounds = &[
    (100, "0.0001"),
    (200, "0.0002"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_000, "0.002"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (20_000, "0.02"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (200_000, "0.2"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (120_000_000, "120"),
];

const BYTES: Bounds = &[
    (64, "64"),
    (256, "256"),
    (1 << 10, "1024"),
    (4 << 10, "4096"),
    (16 << 10, "16384"),
    (64 << 10, "65536"),
    (256 << 10, "262144"),
    (1 << 20, "1048576"),
    (4 << 20, "4194304"),
    (16 << 20, "16777216"),
];

const COUNTS: Bounds = &[
    (1, "1"),
    (2, "2"),
    (5, "5"),
    (10, "10"),
    (20, "20"),
    (50, "50"),
    (100, "100"),
    (200, "200"),
    (500, "500"),
    (1_000, "1000"),
    (10_000, "10000"),
];

impl Unit {
    fn bounds(self) -> Bounds {
        match self {
            Unit::Seconds => SECONDS,
            Unit::Bytes => BYTES,
            Unit::Count => COUNTS,
        }
    }

    fn shown(self, recorded: u64) -> f64 {
        match self {
            Unit::Seconds => recorded as f64 / 1e6,
            Unit::Bytes | Unit::Count => recorded as f64,
        }
    }

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
            Unit::Count => "",
        }
    }
}

pub struct HistogramSlot {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// Parts added up: counts per step, and the exact sum.
#[derive(Default)]
pub struct Merged {
    /// Empty or `STEPS` long.
    counts: Vec<u64>,
    sum: u64,
}

impl Merged {
    /// Values recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their exact sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The usual quantiles, in recorded units (microseconds for [`Unit::Seconds`]).
    pub fn quantiles(&self) -> Quantiles {
        let mut histogram = hdrhistogram::Histogram::<u64>::new_with_max(HISTOGRAM_VALUE_MAX, 2).expect("valid bounds");
        for (index, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            histogram.saturating_record_n(value_of(index), count);
        }
        Quantiles {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// What [`Merged::quantiles`] found; each is the upper end of its step, so at most 0.8 % too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quantiles {
    pub count: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

pub enum HistogramKind {}

impl Kind for HistogramKind {
    type Slot = HistogramSlot;
    type Total = Merged;
    type Spec = Unit;

    const TYPE: &'static str = "histogram";
    const KEEPS_ENDED: bool = true;

    fn slot(_unit: Unit) -> HistogramSlot {
        HistogramSlot { counts: (0..STEPS).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    fn add(total: &mut Merged, slot: &HistogramSlot) {
        total.counts.resize(STEPS, 0);
        for (count, part) in total.counts.iter_mut().zip(&slot.counts) {
            *count += part.load(Ordering::Relaxed);
        }
        total.sum = total.sum.wrapping_add(slot.sum.load(Ordering::Relaxed));
    }

    fn merge(total: &mut Merged, other: &Merged) {
        if other.counts.is_empty() {
            return;
        }
        total.counts.resize(STEPS, 0);
        for (count, part) in total.counts.iter_mut().zip(&other.counts) {
            *count += part;
        }
        total.sum = total.sum.wrapping_add(other.sum);
    }

    fn write(out: &mut String, name: &str, pairs: &str, unit: Unit, total: &Merged) {
        let mut steps = total.counts.iter().enumerate().peekable();
        let mut below = 0u64;
        for &(bound, shown) in unit.bounds() {
            // A step that begins at or below the bound counts as below it: exact bounds such as 1024 bytes are
            // where they belong, and values up to 0.8 % above come with them.
            while let Some((_, count)) = steps.next_if(|(index, _)| *index <= index_of(bound)) {
                below += count;
            }
            text::sample(out, name, "_bucket", pairs, &format!("le=\"{shown}\""), below);
        }
        let count = below + steps.map(|(_, count)| count).sum::<u64>();
        text::sample(out, name, "_bucket", pairs, "le=\"+Inf\"", count);
        text::sample(out, name, "_sum", pairs, "", unit.shown(total.sum));
        text::sample(out, name, "_count", pairs, "", count);
    }
}

/// One shard's part of a histogram.
pub type Histogram = Handle<HistogramKind>;

impl Histogram {
    /// Counts one value in recorded units: two loads, adds and stores.
    pub fn record(&self, value: u64) {
        let value = value.min(HISTOGRAM_VALUE_MAX);
        let (count, sum) = (&self.slot.counts[index_of(value)], &self.slot.sum);
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        sum.store(sum.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
    }

    /// For [`Unit::Seconds`].
    pub fn record_us(&self, us: u64) {
        self.record(us);
    }

    /// For [`Unit::Seconds`].
    pub fn record_duration(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_follow_each_other_without_gap() {
        for index in 1..STEPS {
            let first = value_of(index - 1) + 1;
            assert_eq!(index_of(first), index, "first value of step {index}");
            assert_eq!(index_of(value_of(index)), index, "last value of step {index}");
        }
        assert_eq!(value_of(STEPS - 1), HISTOGRAM_VALUE_MAX);
        assert_eq!((index_of(1000), value_of(506)), (506, 1003));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn quantiles_are_those_of_the_values_up_to_the_precision(
            mut values in prop::collection::vec(0u64..5_000_000, 1..400)
        ) {
            let slot = HistogramKind::slot(Unit::Seconds);
            for &value in &values {
                slot.counts[index_of(value)].fetch_add(1, Ordering::Relaxed);
            }
            let mut merged = Merged::default();
            HistogramKind::add(&mut merged, &slot);
            let found = merged.quantiles();
            values.sort_unstable();
            for (quantile, found) in [(0.5, found.p50), (0.9, found.p90), (0.99, found.p99), (1.0, found.max)] {
                let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
                let exact = values[rank - 1];
                prop_assert!(found >= exact && found <= exact + exact / 50 + 1, "{quantile}: {found} for {exact}");
            }
            prop_assert_eq!(found.count, values.len() as u64);
        }
    }
}

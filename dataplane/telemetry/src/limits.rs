//! Every bound of this crate.

/// Label sets of one family, unless it asks for another cap; the `other` sets come on top.
pub const LABEL_SETS_DEFAULT: usize = 200;

/// Bytes of one label value; longer ones are cut at a character and end in `…`.
pub const LABEL_VALUE_BYTES_MAX: usize = 256;

/// Bits of precision of a histogram: 128 steps per power of two, so a value is at most 0.8 % off.
pub const HISTOGRAM_PRECISION_BITS: u32 = 7;

/// Largest value a histogram tells apart, 2^37 - 1: 38 hours in microseconds, 128 GiB in bytes. Larger ones count as
/// this one.
pub const HISTOGRAM_VALUE_MAX: u64 = (1 << 37) - 1;

//! Every number the job store is bounded by.

/// A job's number is below this: an id has so many bits for it.
pub const SEQ_MAX: u64 = (1 << 44) - 1;

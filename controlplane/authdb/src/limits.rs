//! Limits of the tenants' database, whichever it is. How many rows there may be is the snapshot's business:
//! `model::limits`.

/// Histories of which a process remembers how far they went. A new one begins with a restored backup.
pub const HISTORIES_REMEMBERED: usize = 16;

/// Generations of which is known what they changed. A reader that is further behind reads everything.
pub const CHANGES_KEPT: u64 = 1_000;

/// Apps that are read one by one; for more, reading everything is cheaper.
pub const CHANGED_APPS_MAX: usize = 256;

/// Rows of the audit log that are kept, and after how many new ones older ones are removed. What has to be kept longer is
/// read from there in time.
pub const AUDIT_ROWS_MAX: i64 = 1_000_000;
pub const AUDIT_SWEEP_ROWS: i64 = 1_000;

/// Things of one kind that a row names as gone along.
pub const AUDIT_CASCADES_MAX: i64 = 1_000;

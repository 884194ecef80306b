//! Limits of the tenants' database. How many rows there may be is the snapshot's business: `model::limits`.

use std::time::Duration;

/// How long a statement waits for another process that is writing. Writers hold the lock for milliseconds.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of one process: each is a thread. Writers queue anyway, so this is about readers.
pub const CONNECTIONS_MAX: u32 = 4;

/// How long a caller waits for one of them.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const _: () = assert!(ACQUIRE_TIMEOUT.as_millis() > BUSY_TIMEOUT.as_millis());

/// How long opening waits for another process that is opening (and migrating) the same file, looking every step.
pub const OPEN_LOCK_TIMEOUT: Duration = Duration::from_secs(30);
pub const OPEN_LOCK_STEP: Duration = Duration::from_millis(20);

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

/// Rows of a large table that are in memory as rows at the same time.
pub const LOAD_ROWS: i64 = 10_000;

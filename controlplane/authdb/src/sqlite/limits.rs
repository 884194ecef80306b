//! Limits of one file and its connections.

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

/// Rows of a large table that are in memory as rows at the same time.
pub const LOAD_ROWS: i64 = 10_000;

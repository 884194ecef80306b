//! Limits of the admin client.

use std::time::Duration;

/// How long an operation may take with all its retries, and again so long until the result is visible.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one request may take. The broker is told the same, so that it does not go on without us.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const _: () = assert!(REQUEST_TIMEOUT.as_millis() < OPERATION_TIMEOUT.as_millis());

/// How long a call waits while no connection to any broker stands.
pub const UNREACHABLE_CALL_PATIENCE: Duration = Duration::from_millis(2500);

/// How long an operation goes on trying after the first call that reached nobody.
pub const UNREACHABLE_PATIENCE: Duration = Duration::from_secs(2);

/// How long one broker may take to say what it knows of a topic; a slower one is not waited for.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a deletion waits for the topic to disappear everywhere.
pub const GONE_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two attempts: first, and at most (it doubles).
pub const RETRY_FIRST: Duration = Duration::from_millis(50);
pub const RETRY_MAX: Duration = Duration::from_secs(1);

/// Calls that may wait for the driver; more wait outside.
pub const CALLS_MAX: usize = 64;

/// Records on their way, or runs of them; more wait outside.
pub const RECORDS_MAX: usize = 256;

/// Events of all connections that may wait for the driver; a connection with more stops reading.
pub const EVENTS_MAX: usize = 64;

/// Bytes read from a socket at once.
pub const READ_BYTES: usize = 16 * 1024;

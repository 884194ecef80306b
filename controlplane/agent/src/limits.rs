//! Limits of the agent.

use std::time::Duration;

/// How often the database is asked whether anything changed.
pub const POLL_PERIOD: Duration = Duration::from_millis(200);

/// How long the first look at the database may delay a start that has a snapshot from disk to serve.
pub const FIRST_LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Calls of `refresh` that may wait at the same time; more wait outside.
pub const REFRESHES_MAX: usize = 64;

/// How long `refresh` waits for the shards to have taken the snapshot. They take it within a tick unless they hang.
pub const APPLIED_TIMEOUT: Duration = Duration::from_secs(2);

/// A database that fails is reported in the log once, and again after this long.
pub const COMPLAIN_PERIOD: Duration = Duration::from_secs(60);

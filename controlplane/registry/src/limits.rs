//! Limits of the registry.

use std::time::Duration;

/// Longest node id, and longest name of an election.
pub const NODE_ID_BYTES_MAX: usize = 64;

/// Largest announcement, as JSON.
pub const NODE_BYTES_MAX: usize = 16 * 1024;

/// Largest wish, as JSON. A node announces the one that it obeys.
pub const WISH_BYTES_MAX: usize = 4 * 1024;
const _: () = assert!(2 * WISH_BYTES_MAX < NODE_BYTES_MAX);

/// Most nodes on one machine.
pub const NODES_MAX: usize = 1000;

/// Most node directories under one data directory: each belongs to a process that once ran beside the others.
pub const NODE_DIRS_MAX: usize = NODES_MAX;

/// How often a local registry looks at its directory: for those who watch, and whether its own files are still there.
pub const WATCH_PERIOD: Duration = Duration::from_millis(250);

/// How often a local candidate looks whether it can lead.
pub const CAMPAIGN_PERIOD: Duration = Duration::from_millis(50);

/// Largest file of an election: an epoch and a candidate.
pub const ELECTION_BYTES_MAX: usize = 1024;
const _: () = assert!(2 * NODE_ID_BYTES_MAX < ELECTION_BYTES_MAX);

/// Least time between two announcements of one node; changes in between go out together.
pub const ANNOUNCE_PERIOD_MIN: Duration = Duration::from_millis(200);

/// A registration that failed is tried again after this, then after twice as long, and so on.
pub const RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest wait between two tries.
pub const RETRY_MAX: Duration = Duration::from_secs(10);

/// Ending a registration waits so long for the registry. A drain goes on meanwhile.
pub const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Taking a registration back is tried so often; after that it ends with the session.
pub const UNREGISTER_TRIES_MAX: u32 = 10;

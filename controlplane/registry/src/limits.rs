//! Limits of the registry.

use std::time::Duration;

/// Longest node id.
pub const NODE_ID_BYTES_MAX: usize = 64;

/// Largest announcement, as JSON.
pub const NODE_BYTES_MAX: usize = 16 * 1024;

/// Most nodes on one machine.
pub const NODES_MAX: usize = 1000;

/// How often a local watch looks at the directory.
pub const WATCH_PERIOD: Duration = Duration::from_millis(250);

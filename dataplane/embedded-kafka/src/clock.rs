//! Both clocks, read once per event: what happens in it happens at one moment.

use std::time::Instant;

/// A moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub at: Instant,
    /// Epoch milliseconds.
    pub ms: i64,
}

impl Now {
    /// Reads the clocks.
    pub fn read() -> Now {
        Now { at: Instant::now(), ms: runtime::clock::now_ms() }
    }
}

//! `[jobs]`: messages that are kept here until they are due.

use daemon::Bytes;
use gateway::JobsConfig;

daemon::keys! {
    /// Delayed jobs are kept on this gateway's disk, and published when they are due.
    pub struct JobsKeys {
        /// keep them; otherwise they are 503, and what is kept already fires all the same
        pub enabled: bool = default("true"),
        /// with less than this free on the disk nothing more is kept; empty: 5GiB, or a tenth of the disk if that is less
        pub free_bytes_min: Option<Bytes> = default(""),
    }
}

impl JobsKeys {
    pub fn config(&self) -> JobsConfig {
        JobsConfig { enabled: self.enabled, free_bytes_min: self.free_bytes_min.map(|bytes| bytes.0) }
    }
}

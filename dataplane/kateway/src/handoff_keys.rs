//! `[handoff]`: what is kept here of publishes that Kafka cannot take now.

use std::time::Duration;

use daemon::{Bytes, Check};
use gateway::{HandoffConfig, HandoffDevice};

/// A receipt lives at least so long: whoever got it has to come to ask.
const RECEIPTS_KEEP_MIN: Duration = Duration::from_secs(1);

daemon::keys! {
    /// Publishes that Kafka cannot take now are answered 202 once they are safe in this gateway's own journal.
    pub struct HandoffKeys {
        /// keep them; otherwise they are 503, and what is kept already is delivered all the same
        pub enabled: bool = default("true"),
        /// how the journal writes
        pub device: Device = default("auto"),
        /// disk that the journal may have; empty: 10GiB, or half of what is free at the start if that is less
        pub bytes_max: Option<Bytes> = default(""),
        /// what may wait of one topic
        pub topic_bytes_max: Bytes = default("1GiB"),
        /// what may wait of one app
        pub app_bytes_max: Bytes = default("10GiB"),
        /// with less than this free on the disk nothing more is kept; empty: 5GiB, or a tenth of the disk if that is less
        pub free_bytes_min: Option<Bytes> = default(""),
        /// while the oldest message of a topic waits for longer, new ones of the topic are 503; none is ever dropped for its age; empty: however old
        pub age_max: Option<Duration> = default(""),
        /// how long can be asked what became of a message that was kept
        pub receipts_keep: Duration = default("24h"),
        /// most that is delivered to one broker per second beside live traffic; empty: as much as it takes
        pub drain_bytes_per_s: Option<Bytes> = default(""),
    }
}

daemon::words! {
    /// How the journal writes.
    pub enum Device {
        Auto = "auto",
        Mmap = "mmap",
        Direct = "direct",
    }
}

impl HandoffKeys {
    pub fn config(&self) -> HandoffConfig {
        let bytes = |given: Option<Bytes>| given.map(|bytes| bytes.0);
        HandoffConfig {
            enabled: self.enabled,
            device: match self.device {
                Device::Auto => HandoffDevice::Auto,
                Device::Mmap => HandoffDevice::Mmap,
                Device::Direct => HandoffDevice::Direct,
            },
            bytes_max: bytes(self.bytes_max),
            topic_bytes_max: self.topic_bytes_max.0,
            app_bytes_max: self.app_bytes_max.0,
            free_bytes_min: bytes(self.free_bytes_min),
            age_max: self.age_max,
            receipts_keep: self.receipts_keep,
            drain_bytes_per_s: bytes(self.drain_bytes_per_s),
        }
    }

    /// Whatever is configured, the largest message fits.
    pub fn check(&self, message_bytes_max: usize, check: &mut Check<'_>) {
        let message = message_bytes_max as u64;
        for (key, room) in [
            ("handoff.bytes_max", self.bytes_max),
            ("handoff.topic_bytes_max", Some(self.topic_bytes_max)),
            ("handoff.app_bytes_max", Some(self.app_bytes_max)),
        ] {
            if room.is_some_and(|room| room.0 < message) {
                check.mistake(key, format!("a message of limits.message_bytes ({message}) would never fit"));
            }
        }
        if self.age_max.is_some_and(|age| age.is_zero()) {
            check.mistake("handoff.age_max", "must be at least 1ms; leave it out for none");
        }
        if self.drain_bytes_per_s.is_some_and(|rate| rate.0 == 0) {
            check.mistake("handoff.drain_bytes_per_s", "nothing would ever be delivered; leave it out for no limit");
        }
        if self.receipts_keep < RECEIPTS_KEEP_MIN {
            check.mistake("handoff.receipts_keep", "must be at least 1s");
        }
    }
}

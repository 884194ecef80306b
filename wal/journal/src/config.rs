//! What a journal is told when it is opened.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits;

/// See the fields; [`Config::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its directory; made when it is not there, its parent is.
    pub dir: PathBuf,
    /// Whose it is; another node's directory is refused.
    pub node: String,
    /// Powers of two.
    pub segment_bytes_first: u64,
    pub segment_bytes_max: u64,
    /// Room that only reserved records may use.
    pub reserve_bytes: u64,
    /// Ordinary records make no new file when the file system would be left with less than this.
    pub floor_bytes: u64,
    pub spares_max: usize,
    pub poison_again_within: Duration,
    pub read_only_pause: Duration,
    pub background: Background,
}

/// What reads and scrubs run on; see [`Journal::background`](crate::Journal::background) for what they do run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// glommio, on a ring of its own; a plain thread where there can be none, and on a disk that is not the system's.
    #[default]
    Ring,
    /// A plain thread that reads with the journal's own disk.
    Plain,
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>, node: impl Into<String>) -> Config {
        Config {
            dir: dir.into(),
            node: node.into(),
            segment_bytes_first: limits::SEGMENT_BYTES_FIRST,
            segment_bytes_max: limits::SEGMENT_BYTES_MAX,
            reserve_bytes: limits::RESERVE_BYTES,
            floor_bytes: 0,
            spares_max: limits::SPARES_MAX,
            poison_again_within: limits::POISON_AGAIN_WITHIN,
            read_only_pause: limits::READ_ONLY_PAUSE,
            background: Background::default(),
        }
    }

    /// # Panics
    /// When lengths are no powers of two, or contradict each other.
    pub(crate) fn check(&self) {
        let (first, max) = (self.segment_bytes_first, self.segment_bytes_max);
        assert!(first.is_power_of_two() && first >= limits::SEGMENT_BYTES_MIN, "first segment of {first} bytes");
        assert!(
            max.is_power_of_two() && max >= first && max <= limits::SEGMENT_BYTES_MAX,
            "segments up to {max} bytes"
        );
        assert!(self.reserve_bytes <= first / 2, "a reserve of {} of {first} bytes", self.reserve_bytes);
    }
}

/// The time, as values: on the wall for people, and since some begin for what is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub wall_ms: i64,
    pub monotonic_ms: u64,
}

/// Where salts and ids come from; a seed in a simulation.
pub type Random = Box<dyn FnMut() -> [u8; 16] + Send>;

//! The least that is durable: one writer appends a page of 4 KiB to a zeroed file and calls `fdatasync`, again and again.
//! What a disk does of that in the same minutes is what a log's rate is read beside.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::limits::PROBE_BYTES;
use crate::measure::ForeignMeter;
use crate::outcome::{histogram, us};
use crate::publish::message;

const PAGE_BYTES: u64 = 4096;
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// How a table names it.
pub const NAME: &str = "probe: 4 KiB and fdatasync, one writer";

/// What the disk did.
pub struct Probed {
    pub syncs_per_second: f64,
    /// Microseconds of one.
    pub latency: Histogram<u64>,
    pub foreign_cores: f64,
}

/// With a file of its own, which stays in `dir`. What comes before is as long as it takes to make it, and `warmup`.
pub fn measure(dir: &Path, warmup: Duration, duration: Duration) -> Result<Probed> {
    let path = dir.join("probe");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    for _ in 0..PROBE_BYTES / ZEROS.len() as u64 {
        file.write_all(&ZEROS)?;
    }
    file.sync_all()?;
    let page = message(PAGE_BYTES as usize);
    let (mut latency, mut at) = (histogram(), 0);
    // The file is there: making it may have taken long.
    let begin = Instant::now() + warmup;
    let mut meter = None;
    loop {
        let began = Instant::now();
        if began >= begin + duration {
            break;
        }
        let counts = began >= begin;
        if counts {
            meter.get_or_insert_with(ForeignMeter::start);
        }
        file.write_all_at(&page, at)?;
        file.sync_data()?;
        at = (at + PAGE_BYTES) % PROBE_BYTES;
        if counts {
            latency.saturating_record(us(began.elapsed()));
        }
    }
    let syncs_per_second = latency.len() as f64 / duration.as_secs_f64();
    Ok(Probed { syncs_per_second, latency, foreign_cores: meter.map_or(0.0, |meter| meter.cores()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::TempDir;

    #[test]
    fn syncs_of_the_window_are_counted_however_long_the_file_took() {
        let dir = TempDir::new().expect("a directory");
        let probed = measure(&dir.path, Duration::from_millis(10), Duration::from_millis(100)).expect("a probe");
        assert!(probed.syncs_per_second > 0.0 && probed.latency.max() > 0, "{}", probed.syncs_per_second);
        assert!((probed.latency.len() as f64 - probed.syncs_per_second / 10.0).abs() < 0.001);
    }
}

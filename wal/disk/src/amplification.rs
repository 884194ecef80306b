//! What a commit of one page costs the device here: a file system may write much more than was changed.
//!
//! The page cache keeps what one large write or a read-ahead brought in folios of up to 1 MiB and more. A change of one
//! byte of a mapped file makes its whole folio dirty, and `msync` writes all of it. It is how the file came into memory
//! that decides, so it is measured on a file made and read as a segment is.

use std::fs;
use std::io;
use std::path::Path;

use crate::segment::{Device, Segment};
use crate::transfer;

/// The file that is written, in the directory that is asked about.
const PROBE_NAME: &str = "amplification.probe";
const PROBE_BYTES: u64 = 4 << 20;
const PAGE_BYTES: u64 = 4096;
const COMMITS: u64 = 16;
const READ_BYTES: usize = 64 << 10;
/// Apart, so that no two commits share a folio of up to 256 KiB.
const STRIDE_BYTES: u64 = PROBE_BYTES / COMMITS;
const _: () = assert!(STRIDE_BYTES.is_multiple_of(PAGE_BYTES));

/// Bytes written for each byte committed, when a segment in `dir` is written by this device: 16 commits of one page each to
/// a file of 4 MiB that [`Zero`](crate::Operation::Zero) made, half of them after it was read anew. 1 is the best there
/// is. None: the kernel does not account for this file system (tmpfs), or for anything. Its file is removed.
///
/// What counts is what this thread made dirty (`write_bytes` of `/proc/thread-self/io`). Measured on ext4, Linux 6.18, for
/// files made in other ways; of the mapped device the disk wrote just that much (`/proc/diskstats`), of the plain one it
/// wrote only the blocks that were changed, so there the number says too much:
///
/// ```text
///   in memory since it was made by           mapped   plain   direct
///     writes of 4 KiB                             1       1        1
///     writes of 16 KiB                            4       4        1
///     writes of 64 KiB                           16      16        1
///     writes of 1 MiB                           256     256        1
///     one write of 4 MiB                        512     512        1
///   read in pieces of 64 KiB, with read-ahead    21      21        1
///   the same without read-ahead                   1       1        1
/// ```
///
/// After `fallocate` instead of zeroes it is 1 too: what that costs is not pages but a journal commit of the file system
/// for every first write to a block, which no one sees here.
pub fn commit_amplification(dir: &Path, device: Device) -> io::Result<Option<f64>> {
    let path = dir.join(PROBE_NAME);
    let measured = make(&path).and_then(|()| measure(&path, device));
    let removed = fs::remove_file(&path);
    let factor = measured?;
    removed.map(|()| factor)
}

/// As a segment is made.
fn make(path: &Path) -> io::Result<()> {
    let file = fs::File::options().write(true).create(true).truncate(true).open(path)?;
    transfer::zero(&file, PROBE_BYTES)?;
    file.sync_data()
}

fn measure(path: &Path, device: Device) -> io::Result<Option<f64>> {
    let segment = Segment::open(path, device)?;
    let page = [1; PAGE_BYTES as usize];
    let Some(before) = bytes_written()? else { return Ok(None) };
    for commit in 0..COMMITS {
        // The second half as after a restart: what was not in memory is read first, in pieces as recovery does.
        if commit == COMMITS / 2 {
            rustix::fs::fadvise(segment.file(), 0, None, rustix::fs::Advice::DontNeed)?;
            for at in (0..PROBE_BYTES).step_by(READ_BYTES) {
                transfer::read(segment.file(), at, READ_BYTES)?;
            }
        }
        segment.write(commit * STRIDE_BYTES, &page, &[])?;
        segment.persist()?;
    }
    let after = bytes_written()?.unwrap_or(before);
    Ok(factor(after - before))
}

/// Bytes written for each that was committed. None of nothing: this file system is not accounted for.
fn factor(written_bytes: u64) -> Option<f64> {
    (written_bytes > 0).then(|| written_bytes as f64 / (COMMITS * PAGE_BYTES) as f64)
}

/// What this thread has made dirty or written directly until now, as the kernel accounts for it. None: it does not.
pub(crate) fn bytes_written() -> io::Result<Option<u64>> {
    match fs::read_to_string("/proc/thread-self/io") {
        Ok(text) => Ok(parse(&text)),
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(err) => Err(err),
    }
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments made in other ways, each commit of which is said to write so much.
    fn made_by(device: Device, make: impl Fn(&Path)) -> Option<f64> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PROBE_NAME);
        make(&path);
        measure(&path, device).unwrap()
    }

    #[test]
    fn a_segment_made_by_small_writes_costs_what_is_committed_and_nothing_is_left_behind() {
        for device in [Device::Plain, Device::Mapped, Device::Direct] {
            let dir = tempfile::tempdir().unwrap();
            match commit_amplification(dir.path(), device) {
                Ok(Some(factor)) if device == Device::Plain => assert!(factor >= 1.0, "{factor}"),
                Ok(Some(factor)) => assert!((1.0..2.0).contains(&factor), "{device:?}: {factor}"),
                Ok(None) => eprintln!("skipped: the kernel does not account for {}", dir.path().display()),
                Err(err) if err.kind() == io::ErrorKind::Unsupported => eprintln!("skipped: {err}"),
                Err(err) => panic!("{device:?}: {err}"),
            }
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_segment_made_by_one_large_write_is_seen_to_cost_more_where_folios_are_large() {
        let large = |path: &Path| {
            fs::write(path, vec![0; PROBE_BYTES as usize]).unwrap();
            fs::File::open(path).unwrap().sync_all().unwrap();
        };
        let [by_pages, at_once] = [made_by(Device::Mapped, |path| make(path).unwrap()), made_by(Device::Mapped, large)];
        match (by_pages, at_once) {
            (Some(by_pages), Some(at_once)) if at_once > by_pages => assert!(at_once > 3.0 * by_pages, "{at_once}"),
            (by_pages, at_once) => {
                assert_eq!(by_pages, at_once);
                eprintln!("skipped: no large folios here");
            }
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_and_a_probe_left_by_a_crash_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            commit_amplification(&dir.path().join("none"), Device::Plain).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        fs::write(dir.path().join(PROBE_NAME), "left").unwrap();
        commit_amplification(dir.path(), Device::Plain).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_factor_is_of_what_was_committed_and_nothing_accounted_is_no_factor() {
        let committed = COMMITS * PAGE_BYTES;
        assert_eq!([0, committed, 256 * committed].map(factor), [None, Some(1.0), Some(256.0)]);
        let text = "rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n";
        assert_eq!([parse(text), parse("rchar: 1\n"), parse("")], [Some(4096), None, None]);
    }
}

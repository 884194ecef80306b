//! A segment: a file that was zeroed, and whose length never changes while it is open.
//!
//! Every block of it is allocated and its metadata durable before it is opened, so a write needs no room and a persist no
//! journal commit of the file system. In return it refuses what would change that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::transfer;

/// One open segment.
pub struct Segment {
    path: PathBuf,
    file: fs::File,
    bytes: u64,
}

impl Segment {
    pub fn open(path: &Path) -> io::Result<Segment> {
        let file = fs::File::options().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Segment { path: path.to_owned(), file, bytes })
    }

    pub fn file(&self) -> &fs::File {
        &self.file
    }

    pub fn write(&self, at: u64, head: &[u8], body: &[u8]) -> io::Result<usize> {
        check_end(&self.path, self.bytes, at, head.len() + body.len())?;
        transfer::write(&self.file, head, body, at)
    }

    pub fn persist(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Whether so many bytes from `at` on lie within a segment of `segment_bytes`.
pub fn check_end(path: &Path, segment_bytes: u64, at: u64, bytes: usize) -> io::Result<()> {
    match at.checked_add(bytes as u64) {
        Some(end) if end <= segment_bytes => Ok(()),
        _ => {
            let path = path.display();
            let told =
                format!("{bytes} bytes at {at} would pass the end of segment {path}, {segment_bytes} bytes long");
            Err(io::Error::new(io::ErrorKind::InvalidInput, told))
        }
    }
}

/// What is answered to who would change a segment's length.
pub fn length_is_fixed(path: &Path) -> io::Error {
    let told = format!("{} is open as a segment, so its length does not change", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, told)
}

/// What is answered to who would zero a file that has something in it.
pub fn is_not_empty(path: &Path, bytes: u64) -> io::Error {
    let told = format!("{} is to be zeroed and holds {bytes} bytes; only an empty file is zeroed", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, told)
}

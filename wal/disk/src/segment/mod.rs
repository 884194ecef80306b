//! A segment: a file that was zeroed, and whose length never changes while it is open.
//!
//! Every block of it is allocated and its metadata durable before it is opened, so a write needs no room and a persist no
//! journal commit of the file system. In return it refuses what would change that.
//!
//! Somebody else may still cut it off. It looks at the length before each persist; one that is shorter than it was is
//! broken for good. One that was cut off and grown again in between has zeros where something was: who reads must check
//! what it reads.

mod direct;
mod mapping;
mod sigbus;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::transfer;
use direct::Direct;
use mapping::Mapping;

/// How segments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// `pwrite`, and `fdatasync` to persist.
    Plain,
    /// A copy into the file's mapping, and `msync` of the dirty pages to persist. No system call for a write. The kernel
    /// may write half of a copy back at any time.
    Mapped,
    /// Past the page cache, whole pages of 4 KiB only, each write durable when it returns. One that failed may have been
    /// done in part, so the file is not written any more and no persist succeeds.
    Direct,
}

/// One open segment.
pub struct Segment {
    path: PathBuf,
    /// For reading, and for the length.
    file: fs::File,
    bytes: u64,
    writer: Writer,
}

enum Writer {
    Plain,
    Mapped(Mapping),
    Direct(Direct),
}

impl Segment {
    pub fn open(path: &Path, device: Device) -> io::Result<Segment> {
        let file = fs::File::options().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        let writer = match device {
            Device::Plain => Writer::Plain,
            Device::Mapped => Writer::Mapped(Mapping::of(&file, path)?),
            Device::Direct => Writer::Direct(Direct::open(path)?),
        };
        Ok(Segment { path: path.to_owned(), file, bytes, writer })
    }

    pub fn file(&self) -> &fs::File {
        &self.file
    }

    pub fn write(&self, at: u64, head: &[u8], body: &[u8]) -> io::Result<usize> {
        check_end(&self.path, self.bytes, at, head.len() + body.len())?;
        match &self.writer {
            Writer::Plain => transfer::write(&self.file, head, body, at),
            Writer::Mapped(mapping) => mapping.write(at, head, body),
            Writer::Direct(direct) => direct.write(at, head, body),
        }
    }

    /// A write failed before it was begun.
    pub fn note_failed_write(&self) {
        if let Writer::Direct(direct) = &self.writer {
            direct.give_up();
        }
    }

    pub fn persist(&self) -> io::Result<()> {
        let (path, bytes, is) = (self.path.display(), self.bytes, self.file.metadata()?.len());
        if is < bytes {
            let told = format!("segment {path} was cut off by somebody else: it had {bytes} bytes and has {is}");
            return Err(io::Error::other(told));
        }
        match &self.writer {
            Writer::Plain => self.file.sync_data(),
            Writer::Mapped(mapping) => mapping.persist(),
            Writer::Direct(direct) => direct.check(),
        }
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

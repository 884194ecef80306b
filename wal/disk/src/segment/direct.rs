//! A segment past the page cache (O_DIRECT) and durable with each write (O_DSYNC).
//!
//! Pages only: offset and length are multiples of 4096, and so is the address of the memory, or the bytes are copied into
//! a buffer where it is. Cost of a write: that copy (12 ns for 1 KiB), and one write to the device that flushes its cache.
//! Reading goes through the page cache, from which the kernel drops what is written here.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::transfer;

/// Offsets, lengths and addresses are multiples of this. No device we know has larger sectors.
pub const PAGE_BYTES: usize = 4096;

/// What is copied, and then written at once; a longer write is done in several.
const COPY_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(COPY_BYTES_MAX.is_multiple_of(PAGE_BYTES));

/// Writes in a row that took no whole page, until it is an error.
const SHORT_WRITES_MAX: usize = 10;

/// A file open for direct writing.
pub struct Direct {
    file: fs::File,
    path: PathBuf,
    /// One for the file; holds the bytes of one write. Held while writing: one writer at a time.
    copy: Mutex<AlignedBuffer>,
    /// A write failed, and may have been done in part.
    failed: AtomicBool,
}

impl Direct {
    pub fn open(path: &Path) -> io::Result<Direct> {
        let opened = fs::File::options().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path);
        let file = opened.map_err(|err| match err.raw_os_error() {
            Some(libc::EINVAL) => refused(path),
            _ => err,
        })?;
        let (copy, failed) = (Mutex::default(), AtomicBool::new(false));
        Ok(Direct { file, path: path.to_owned(), copy, failed })
    }

    pub fn write(&self, at: u64, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let bytes = head.len() + body.len();
        if !at.is_multiple_of(PAGE_BYTES as u64) || !bytes.is_multiple_of(PAGE_BYTES) {
            let path = self.path.display();
            let told = format!("{bytes} bytes at {at}: direct segment {path} takes whole pages of {PAGE_BYTES} only");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
        }
        self.check()?;
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match (head, body) {
            (whole, []) | ([], whole) if is_aligned(whole) => self.write_pages(whole, at),
            _ => self.write_copied(&mut copy, head, body, at),
        };
        written.map(|()| bytes).map_err(|err| {
            self.give_up();
            let path = self.path.display();
            io::Error::new(
                err.kind(),
                format!("{bytes} bytes at {at} of direct segment {path}: {err}; it is not written any more"),
            )
        })
    }

    /// Whatever was written is durable, unless something could not be.
    pub fn check(&self) -> io::Result<()> {
        match self.failed.load(Ordering::Acquire) {
            true => Err(io::Error::other(format!("an earlier write of direct segment {} failed", self.path.display()))),
            false => Ok(()),
        }
    }

    /// A write failed.
    pub fn give_up(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn write_copied(&self, copy: &mut AlignedBuffer, mut head: &[u8], mut body: &[u8], at: u64) -> io::Result<()> {
        let mut position = at;
        while !(head.is_empty() && body.is_empty()) {
            let (of_head, later_head) = head.split_at(head.len().min(COPY_BYTES_MAX));
            let (of_body, later_body) = body.split_at(body.len().min(COPY_BYTES_MAX - of_head.len()));
            self.write_pages(copy.filled(of_head, of_body), position)?;
            position += (of_head.len() + of_body.len()) as u64;
            (head, body) = (later_head, later_body);
        }
        Ok(())
    }

    fn write_pages(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        write_all_pages(bytes, at, |bytes, at| transfer::again(|| rustix::io::pwrite(&self.file, bytes, at)))
    }
}

/// Until all is written. A short write may end within a page; that page is written again, from its beginning.
fn write_all_pages(bytes: &[u8], at: u64, mut write: impl FnMut(&[u8], u64) -> Result<usize, Errno>) -> io::Result<()> {
    let (mut done, mut short) = (0, 0);
    while done < bytes.len() {
        let written = write(&bytes[done..], at + done as u64)?;
        let whole_pages = if done + written == bytes.len() { written } else { written - written % PAGE_BYTES };
        short = if whole_pages == 0 { short + 1 } else { 0 };
        if short > SHORT_WRITES_MAX {
            return Err(io::ErrorKind::WriteZero.into());
        }
        done += whole_pages;
    }
    Ok(())
}

fn refused(path: &Path) -> io::Error {
    let told = format!(
        "the file system of {} does no direct writes (O_DIRECT: EINVAL), as tmpfs does not; use the mapped device there",
        path.display()
    );
    io::Error::new(io::ErrorKind::Unsupported, told)
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(PAGE_BYTES)
}

/// Memory at an address that suits; a page longer than what is in it.
#[derive(Default)]
struct AlignedBuffer {
    memory: Vec<u8>,
}

impl AlignedBuffer {
    fn filled(&mut self, head: &[u8], body: &[u8]) -> &[u8] {
        let bytes = head.len() + body.len();
        if self.memory.len() < bytes + PAGE_BYTES {
            self.memory = vec![0; bytes + PAGE_BYTES];
        }
        let begin = self.memory.as_ptr().addr().next_multiple_of(PAGE_BYTES) - self.memory.as_ptr().addr();
        let room = &mut self.memory[begin..begin + bytes];
        room[..head.len()].copy_from_slice(head);
        room[head.len()..].copy_from_slice(body);
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_write_goes_on_at_the_page_it_ended_in_and_not_for_ever() {
        let all: Vec<u8> = (0..4 * PAGE_BYTES).map(|n| (n / 7) as u8).collect();
        for script in [&[16_384][..], &[4096, 12_288], &[5000, 0, 100, 8192, 4095, 4096], &[16_383, 4096]] {
            let (mut target, mut calls) = (vec![0; 2 * PAGE_BYTES + all.len()], script.iter());
            write_all_pages(&all, 2 * PAGE_BYTES as u64, |bytes, at| {
                let (some, at) = (*calls.next().expect("no call too many"), at as usize);
                assert!(at % PAGE_BYTES == 0 && bytes.len() % PAGE_BYTES == 0, "{at} {}", bytes.len());
                target[at..at + some].copy_from_slice(&bytes[..some]);
                Ok(some)
            })
            .unwrap();
            assert!(target[2 * PAGE_BYTES..] == all, "{script:?}");
            assert_eq!(calls.len(), 0, "{script:?}");
        }
        let mut calls = 0;
        let nothing = |_: &[u8], _| {
            calls += 1;
            Ok(calls % 2)
        };
        assert_eq!(write_all_pages(&all, 0, nothing).unwrap_err().kind(), io::ErrorKind::WriteZero);
        assert_eq!(calls, SHORT_WRITES_MAX + 1);
        let failing = write_all_pages(&all, 0, |_, _| Err(Errno::NOSPC));
        assert_eq!(failing.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn bytes_lie_at_a_page_whatever_was_in_the_buffer_before() {
        let mut buffer = AlignedBuffer::default();
        for bytes in [PAGE_BYTES, 3 * PAGE_BYTES, PAGE_BYTES, 64 * PAGE_BYTES] {
            let (head, body) = (vec![1; 100], vec![2; bytes - 100]);
            let filled = buffer.filled(&head, &body);
            assert!(is_aligned(filled) && filled == [head, body].concat(), "{bytes}");
        }
    }

    #[test]
    fn a_file_system_without_direct_writes_is_named_with_what_to_use_instead() {
        let told = refused(Path::new("/d/s")).to_string();
        assert!(told.contains("/d/s") && told.contains("use the mapped device"), "{told}");
    }
}

//! The book as a file (wal/FORMAT.md, "Book of jobs"): what a start begins with, instead of with the whole log.
//!
//! The journal's checkpoint names one. If all its checkpoints are lost, the newest good file is used; it says which lsn it is of.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes};
use disk::{Disk, Entry, Open, WaitedDisk};

use crate::table::limits::WRITE_BYTES;

const MAGIC: &[u8; 8] = b"GAFKAJOB";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const PREFIX: &str = "book-";
const SUFFIX: &str = ".jobs";
const TEMPORARY: &str = "book.tmp";

/// Files kept: as many as the journal keeps checkpoints.
pub const KEPT: usize = 3;

fn name(number: u64) -> String {
    format!("{PREFIX}{number:016x}{SUFFIX}")
}

/// Books there are, newest first.
pub fn numbers(listing: &[Entry]) -> Vec<u64> {
    let number = |entry: &Entry| {
        let digits = entry.name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
    };
    let mut numbers: Vec<u64> = listing.iter().filter_map(number).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers
}

/// Writes one, durable when this returns.
pub async fn write<D: WaitedDisk>(
    disk: &D,
    dir: &Path,
    store: &[u8; 16],
    number: u64,
    book: Vec<u8>,
) -> io::Result<()> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.put_u32_le(0);
    header.put_u32_le(HEADER_BYTES as u32);
    header.put_slice(MAGIC);
    header.put_u32_le(VERSION);
    header.put_u32_le(0);
    header.put_slice(store);
    header.put_u64_le(number);
    header.put_u64_le(book.len() as u64);
    header.put_u32_le(crc32c::crc32c(&book));
    header.put_u32_le(0);
    let crc = crc32c::crc32c(&header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    debug_assert_eq!(header.len(), HEADER_BYTES);
    let temporary = dir.join(TEMPORARY);
    let written = async {
        let file = disk.open(&temporary, Open::Empty).await?;
        disk.write_all(&file, header.into(), 0).await?;
        let (mut book, mut at) = (Bytes::from(book), HEADER_BYTES as u64);
        while !book.is_empty() {
            let some = book.split_to(book.len().min(WRITE_BYTES));
            let bytes = some.len() as u64;
            disk.write_all(&file, some, at).await?;
            at += bytes;
        }
        disk.persist(&file, 0).await?;
        disk.rename(&temporary, &dir.join(name(number))).await?;
        disk.persist_dir(dir).await
    };
    let written = written.await;
    if written.is_err() {
        // It takes room that somebody may lack; the next one empties it, too.
        drop(disk.remove(&temporary).await);
    }
    written
}

/// Reads one. `Ok(None)`: it is rotten, or another store's.
pub fn read(disk: &dyn Disk, dir: &Path, store: Option<&[u8; 16]>, number: u64) -> io::Result<Option<Bytes>> {
    let path = dir.join(name(number));
    let file = disk.open(&path, Open::Reading)?;
    let length = disk.look_at(&path)?.bytes;
    let header = disk.read(&file, 0, HEADER_BYTES)?;
    let Some(book_bytes) = check(&header, store, number) else { return Ok(None) };
    if length != HEADER_BYTES as u64 + book_bytes {
        return Ok(None);
    }
    let book = disk.read(&file, HEADER_BYTES as u64, book_bytes as usize)?;
    let crc = u32::from_le_bytes(header[56..60].try_into().expect("four bytes"));
    Ok((book.len() as u64 == book_bytes && crc32c::crc32c(&book) == crc).then_some(book))
}

/// Bytes of the book behind this header.
fn check(header: &[u8], store: Option<&[u8; 16]>, number: u64) -> Option<u64> {
    let header: &[u8; HEADER_BYTES] = header.try_into().ok()?;
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let is_whole = u32_at(0) == crc32c::crc32c(&header[4..]);
    let is_ours = &header[8..16] == MAGIC && u32_at(16) == VERSION && u32_at(20) == 0 && u64_at(40) == number;
    let is_stores = store.is_none_or(|store| &header[24..40] == store);
    (is_whole && is_ours && is_stores).then(|| u64_at(48))
}

/// Removes all but the newest ones and what is half made. What cannot be removed is tried again with the next.
pub fn remove_old(disk: &dyn Disk, dir: &Path, kept: usize) -> io::Result<()> {
    let listing = disk.list(dir)?;
    let old: Vec<PathBuf> = numbers(&listing).into_iter().skip(kept).map(|number| dir.join(name(number))).collect();
    old.iter().try_for_each(|path| disk.remove(path))
}

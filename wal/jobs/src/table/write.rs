//! Writing a table: parts as the rows come, then the directory, then their names.
//!
//! ```text
//!   rows ──▶ block ──▶ table-…-0000.jobs.tmp, -0001 …   persisted ─┐
//!     └────▶ sorter ─▶ table-….dir.tmp                  persisted ─┴▶ all renamed ─▶ directory persisted ─▶ Meta
//! ```
//!
//! A file has its name only when it is durable, and the owner learns of the table when the names are. What a crash leaves is
//! unknown to every [`Meta`]; what an error or a stop leaves is removed at once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use disk::WaitedDisk;
use journal::format::PAGE_BYTES;

use super::format::block::{self, RowRef};
use super::format::page::Entry;
use super::format::tail::{BLOCK_ENTRY_BYTES, BlockEntry, FOOTER_BYTES, Footer};
use super::format::{FileKey, Header, SECTOR_BYTES, StoreId};
use super::limits::{BLOCK_BYTES_TARGET, BODY_BYTES_MAX, Limits, PART_BYTES_MAX, PARTS_MAX, ROWS_MAX};
use super::meta::{self, Meta, PartMeta};
use super::output::Output;
use super::sorter::Sorter;
use crate::Key;

/// Why there is no table. Its files are gone, but for those that could not be removed, which are [`unknown`](super::unknown).
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A full disk, for one; again later.
    #[error("cannot {what} {path:?}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("table {number:#x} was stopped before it was whole")]
    Stopped { number: u64 },
    #[error("table {number:#x} would have more than {max} {of}: merge fewer at once")]
    TooLarge { number: u64, of: &'static str, max: u64 },
}

/// Which table is made, and where.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub dir: &'a Path,
    pub store: StoreId,
    pub number: u64,
    pub tier: u8,
}

/// Makes a table of rows in the order of their keys. `None`: there were none.
///
/// # Panics
/// When the rows are not in order, or a body is longer than [`BODY_BYTES_MAX`].
pub async fn write<'r, D: WaitedDisk>(
    disk: &D,
    target: Target<'_>,
    rows: impl IntoIterator<Item = RowRef<'r>>,
    limits: Limits,
    stop: &AtomicBool,
) -> Result<Option<Meta>, WriteError> {
    let mut writer = Writer::new(disk, target, limits, stop);
    for row in rows {
        if let Err(err) = writer.push(&row).await {
            writer.discard().await;
            return Err(err);
        }
    }
    writer.finish().await
}

/// A table being made, row by row. Who drops it unfinished leaves files behind; [`Writer::discard`] does not.
pub struct Writer<'a, D> {
    disk: &'a D,
    target: Target<'a>,
    limits: Limits,
    stop: &'a AtomicBool,
    block: block::Builder,
    part: Option<Part<'a, D>>,
    parts: Vec<PartMeta>,
    sorter: Sorter,
    seqs: Option<(u64, u64)>,
    rows: u64,
    /// Files that were made, and will have these names.
    made: Vec<String>,
}

/// The part that is open.
struct Part<'a, D> {
    output: Output<'a, D>,
    key: FileKey,
    index: Vec<u8>,
    rows: u64,
    first: Key,
    last: Key,
}

impl<'a, D: WaitedDisk> Writer<'a, D> {
    /// No file is made before there is a row.
    ///
    /// # Panics
    /// When a limit is above its default: offsets would not fit.
    pub fn new(disk: &'a D, target: Target<'a>, limits: Limits, stop: &'a AtomicBool) -> Self {
        assert!(limits.part_bytes <= PART_BYTES_MAX, "{limits:?}");
        assert!(limits.block_bytes <= BLOCK_BYTES_TARGET, "{limits:?}");
        let header = Header { store: target.store, number: target.number, part: 0 };
        Writer {
            disk,
            target,
            limits,
            stop,
            block: block::Builder::new(),
            part: None,
            parts: Vec::new(),
            sorter: Sorter::new(target.dir, header, limits.sort_entries),
            seqs: None,
            rows: 0,
            made: Vec::new(),
        }
    }

    /// The next row. After an error, [`Writer::discard`].
    ///
    /// # Panics
    /// When it does not come behind the row before, or its body is too long.
    pub async fn push(&mut self, row: &RowRef<'_>) -> Result<(), WriteError> {
        assert!(row.body.len() <= BODY_BYTES_MAX, "the journal took no longer one: {}", row.body.len());
        let Key { seq, due_ms } = row.key;
        if self.rows == ROWS_MAX {
            return Err(self.too_large("jobs", ROWS_MAX));
        }
        self.rows += 1;
        let (min, max) = self.seqs.unwrap_or((seq, seq));
        self.seqs = Some((min.min(seq), max.max(seq)));
        self.block.push(row);
        let sorted = self.sorter.push(self.disk, Entry { seq, due_ms, queue: row.queue }).await;
        sorted.map_err(|source| self.io("sort the directory of", meta::directory_name(self.target.number), source))?;
        match self.block.bytes() < self.limits.block_bytes {
            true => Ok(()),
            false => self.close_block().await,
        }
    }

    async fn close_block(&mut self) -> Result<(), WriteError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(WriteError::Stopped { number: self.target.number });
        }
        if let Some(part) = &self.part {
            let tail = part.index.len() + BLOCK_ENTRY_BYTES + FOOTER_BYTES;
            let end = block_begin(part.output.at()) + (self.block.bytes() + tail) as u64;
            if end.next_multiple_of(SECTOR_BYTES as u64) > self.limits.part_bytes {
                self.close_part().await?;
            }
        }
        let number = self.parts.len() as u32;
        let name = meta::part_name(self.target.number, number);
        if self.part.is_none() {
            if self.parts.len() == PARTS_MAX {
                return Err(self.too_large("parts", PARTS_MAX as u64));
            }
            self.made.push(name.clone());
            let opened = self.open_part(number).await;
            self.part = Some(opened.map_err(|source| self.io("begin", name.clone(), source))?);
        }
        let part = self.part.as_mut().expect("opened above");
        let put = part.put(&mut self.block).await;
        put.map_err(|source| self.io("write", name, source))
    }

    async fn open_part(&self, part: u32) -> io::Result<Part<'a, D>> {
        let name = meta::part_name(self.target.number, part);
        let path = self.target.dir.join(meta::temporary(&name));
        let mut output = Output::create(self.disk, &path, true).await?;
        let header = Header { store: self.target.store, number: self.target.number, part };
        output.put(&header.encode()).await?;
        output.align(PAGE_BYTES);
        let first = self.block.first();
        Ok(Part { output, key: header.key(), index: Vec::new(), rows: 0, first, last: first })
    }

    async fn close_part(&mut self) -> Result<(), WriteError> {
        let number = self.parts.len() as u32;
        let Some(mut part) = self.part.take() else { return Ok(()) };
        let finished = part.finish().await;
        let bytes =
            finished.map_err(|source| self.io("finish", meta::part_name(self.target.number, number), source))?;
        let Part { rows, first, last, .. } = part;
        self.parts.push(PartMeta { number, bytes, rows, first, last });
        Ok(())
    }

    /// Makes it durable, then gives the files their names. After an error its files are removed.
    pub async fn finish(mut self) -> Result<Option<Meta>, WriteError> {
        if self.rows == 0 {
            return Ok(None);
        }
        match self.finish_files().await {
            Ok(meta) => Ok(Some(meta)),
            Err(err) => {
                self.discard().await;
                Err(err)
            }
        }
    }

    async fn finish_files(&mut self) -> Result<Meta, WriteError> {
        if !self.block.is_empty() {
            self.close_block().await?;
        }
        self.close_part().await?;
        let number = self.target.number;
        let name = meta::directory_name(number);
        let path = self.target.dir.join(meta::temporary(&name));
        let (disk, stop) = (self.disk, self.stop);
        let sorted = self.sorter.finish(disk, &path, || !stop.load(Ordering::Relaxed)).await;
        let sorted = sorted.map_err(|source| self.io("write", name.clone(), source))?;
        let directory_bytes = sorted.ok_or(WriteError::Stopped { number })?;
        for run in self.sorter.take_runs() {
            // One that stays has a temporary name, and goes at the next start.
            let _ = disk.remove(&run).await;
        }
        self.made.push(name);
        for name in &self.made {
            let (from, to) = (self.target.dir.join(meta::temporary(name)), self.target.dir.join(name));
            let renamed = disk.rename(&from, &to).await;
            renamed.map_err(|source| WriteError::Io { what: "give its name to", path: to, source })?;
        }
        let persisted = disk.persist_dir(self.target.dir).await;
        persisted.map_err(|source| self.io("make durable the names in", String::new(), source))?;
        let (seq_min, seq_max) = self.seqs.expect("there is a row");
        let parts = std::mem::take(&mut self.parts);
        Ok(Meta { number, tier: self.target.tier, rows: self.rows, seq_min, seq_max, parts, directory_bytes })
    }

    /// Removes what there is of it. What cannot be removed is found at the next start, and so not told here.
    pub async fn discard(self) {
        let Writer { disk, target, sorter, made, part, .. } = self;
        drop(part);
        for path in sorter.made {
            let _ = disk.remove(&path).await;
        }
        for name in made {
            let _ = disk.remove(&target.dir.join(meta::temporary(&name))).await;
            let _ = disk.remove(&target.dir.join(name)).await;
        }
    }

    fn too_large(&self, of: &'static str, max: u64) -> WriteError {
        WriteError::TooLarge { number: self.target.number, of, max }
    }

    fn io(&self, what: &'static str, name: String, source: io::Error) -> WriteError {
        WriteError::Io { what, path: self.target.dir.join(name), source }
    }
}

/// Where a block goes when a file is so long.
fn block_begin(at: u64) -> u64 {
    at.next_multiple_of(SECTOR_BYTES as u64)
}

impl<D: WaitedDisk> Part<'_, D> {
    async fn put(&mut self, block: &mut block::Builder) -> io::Result<()> {
        self.output.align(SECTOR_BYTES);
        let (at, bytes) = (self.output.at(), block.bytes());
        let entry = BlockEntry { first: block.first(), at: at as u32, bytes: bytes as u32, rows: block.rows() };
        entry.encode(&mut self.index);
        self.rows += u64::from(block.rows());
        self.last = block.last();
        self.output.put(block.seal(self.key, at)).await?;
        block.clear();
        Ok(())
    }

    /// Index and footer behind the blocks, all durable; its length.
    async fn finish(&mut self) -> io::Result<u64> {
        self.output.align(SECTOR_BYTES);
        let entries = (self.index.len() / BLOCK_ENTRY_BYTES) as u32;
        let footer = Footer::new(&self.index, entries, self.rows, self.key, self.output.at());
        self.output.put(&self.index).await?;
        self.output.put(&footer.seal(self.key, self.output.at())).await?;
        self.output.finish().await
    }
}

//! Reading a table: block by block in the order of dues, one job by its key, a due by its number.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use disk::WaitedDisk;
use journal::format::PAGE_BYTES;

use super::file::TableFile;
use super::format::StoreId;
use super::format::block::Block;
use super::format::tail::BlockEntry;
use super::meta::{Meta, PartMeta};
use super::open::read_page;
use super::rotten::{ReadError, Rotten, Why};
use crate::Key;

/// A table that can be read, by any number at once. It never changes; its files are open from their first use on.
pub struct Table {
    pub(super) dir: PathBuf,
    pub(super) store: StoreId,
    pub(super) meta: Meta,
    pub(super) parts: Vec<Arc<Part>>,
    pub(super) directory: Arc<Directory>,
}

pub(super) struct Part {
    pub meta: PartMeta,
    pub file: TableFile,
    /// At least one.
    pub blocks: Vec<BlockEntry>,
}

pub(super) struct Directory {
    pub file: TableFile,
    pub pages: Pages,
}

pub(super) enum Pages {
    /// The first number of each.
    Known(Vec<u64>),
    /// The file is not there, or not as long as it was.
    Unknown(Rotten),
}

/// One block of a table. Of one table only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockRef {
    pub(super) part: u32,
    pub(super) block: u32,
}

impl Table {
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The block that can have the first job from this key on. There may be none in it: then it is the first of the next.
    pub fn block_at_or_after(&self, key: Key) -> Option<BlockRef> {
        let part = self.parts.partition_point(|part| part.meta.last < key);
        let blocks = &self.parts.get(part)?.blocks;
        let block = blocks.partition_point(|block| block.first <= key).saturating_sub(1);
        Some(BlockRef { part: part as u32, block: block as u32 })
    }

    /// The block behind this one.
    pub fn next(&self, after: BlockRef) -> Option<BlockRef> {
        let BlockRef { part, block } = after;
        match (block as usize + 1) < self.parts[part as usize].blocks.len() {
            true => Some(BlockRef { part, block: block + 1 }),
            false => ((part as usize + 1) < self.parts.len()).then_some(BlockRef { part: part + 1, block: 0 }),
        }
    }

    /// The key of its first job; no job before it is in this block or a later one.
    pub fn first_key(&self, block: BlockRef) -> Key {
        self.entry(block).first
    }

    /// Bytes that reading it takes.
    pub fn block_bytes(&self, block: BlockRef) -> usize {
        self.entry(block).bytes as usize
    }

    /// One block, checked.
    pub async fn read_block<D: WaitedDisk>(&self, disk: &D, block: BlockRef) -> Result<Block, ReadError> {
        let entry = self.entry(block);
        let file = &self.parts[block.part as usize].file;
        let (at, rows) = (u64::from(entry.at), entry.row_count());
        let rotten = |why| ReadError::Rotten(file.rotten(at, entry.bytes.into(), rows, why));
        if entry.is_gap() {
            return Err(rotten(Why::Missing));
        }
        let bytes = file.read(disk, at, entry.bytes as usize).await.map_err(|err| match err {
            ReadError::Rotten(Rotten { why, .. }) => rotten(why),
            err => err,
        })?;
        let read = Block::decode(&bytes, file.key, at).map_err(|bad| rotten(Why::Bad(bad)))?;
        match read.bytes() == bytes.len() && read.first() == entry.first && read.row_count() == entry.rows {
            true => Ok(read),
            false => Err(rotten(Why::Other)),
        }
    }

    /// The job of this key: its queue and body.
    pub async fn read_job<D: WaitedDisk>(&self, disk: &D, key: Key) -> Result<Option<(u32, Bytes)>, ReadError> {
        let Some(block) = self.block_at_or_after(key).filter(|block| self.first_key(*block) <= key) else {
            return Ok(None);
        };
        let block = self.read_block(disk, block).await?;
        let row = block.rows().find(|row| row.key >= key).filter(|row| row.key == key);
        Ok(row.map(|row| (row.queue, row.body)))
    }

    /// When the job of this number is due, and its queue. One that was moved while tables were merged can be in one table
    /// with two dues; `is_its` says which is the job's. One page is read, two when a job lies across them.
    pub async fn find<D: WaitedDisk>(
        &self,
        disk: &D,
        seq: u64,
        is_its: impl Fn(i64) -> bool,
    ) -> Result<Option<(i64, u32)>, ReadError> {
        let firsts = match &self.directory.pages {
            Pages::Known(firsts) => firsts,
            Pages::Unknown(rotten) => return Err(rotten.clone().into()),
        };
        let mut error = None;
        for index in (0..firsts.partition_point(|first| *first <= seq)).rev() {
            match read_page(disk, &self.directory.file, (1 + index as u64) * PAGE_BYTES as u64).await {
                Ok(entries) => {
                    let its = entries.iter().find(|entry| entry.seq == seq && is_its(entry.due_ms));
                    if let Some(entry) = its {
                        return Ok(Some((entry.due_ms, entry.queue)));
                    }
                }
                Err(err) => error = Some(err),
            }
            if firsts[index] < seq {
                break;
            }
        }
        error.map_or(Ok(None), Err)
    }

    /// Every job by number, when it is due, and its queue; a rotten page is an error. Stopped: as if there were no more.
    pub async fn each_number<D: WaitedDisk>(
        &self,
        disk: &D,
        stop: &AtomicBool,
        mut each: impl FnMut(u64, i64, u32),
    ) -> Result<(), ReadError> {
        let pages = match &self.directory.pages {
            Pages::Known(firsts) => firsts.len(),
            Pages::Unknown(rotten) => return Err(rotten.clone().into()),
        };
        for page in 0..pages as u64 {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let entries = read_page(disk, &self.directory.file, (1 + page) * PAGE_BYTES as u64).await?;
            entries.iter().for_each(|entry| each(entry.seq, entry.due_ms, entry.queue));
        }
        Ok(())
    }

    /// The block of this table that is at a rotten place. None: what is there is no block.
    pub fn block_of(&self, rotten: &Rotten) -> Option<BlockRef> {
        let part = self.parts.iter().position(|part| part.file.path == rotten.file)?;
        let block = self.parts[part].blocks.iter().position(|block| u64::from(block.at) == rotten.at)?;
        Some(BlockRef { part: part as u32, block: block as u32 })
    }

    /// Which jobs are in a block that cannot be read, as far as the directory tells and the first `count_max`: their keys and
    /// queues, not in order. An error: it does not tell of all.
    pub async fn jobs_of<D: WaitedDisk>(
        &self,
        disk: &D,
        block: BlockRef,
        count_max: usize,
        stop: &AtomicBool,
    ) -> Result<Vec<(Key, u32)>, ReadError> {
        let first = self.first_key(block);
        // Behind the last block of a part no key is its.
        let last = self.parts[block.part as usize].meta.last;
        let next = self.next(block).map(|next| self.first_key(next));
        let is_its = |key: &Key| (first..=last).contains(key) && next.is_none_or(|next| *key < next);
        let mut found = Vec::new();
        let each = |seq, due_ms, queue| {
            let key = Key { due_ms, seq };
            if is_its(&key) && found.len() < count_max {
                found.push((key, queue));
            }
        };
        self.each_number(disk, stop, each).await?;
        Ok(found)
    }

    /// The same table without the parts whose jobs are all before this key, and the names of their files. Write its meta down
    /// before removing those.
    pub fn release_before(&self, from: Key) -> (Table, Vec<String>) {
        let mut meta = self.meta.clone();
        let released = meta.release_before(from);
        let parts = self.parts[released.len()..].to_vec();
        let directory = Arc::clone(&self.directory);
        (Table { dir: self.dir.clone(), store: self.store, meta, parts, directory }, released)
    }

    pub(super) fn entry(&self, block: BlockRef) -> &BlockEntry {
        &self.parts[block.part as usize].blocks[block.block as usize]
    }
}

//! Opening a table: its indexes are read, or made again from the blocks.
//!
//! Memory: 32 bytes a block, 8 bytes a page of the directory. 100 million jobs of 64 bytes are 43 parts of 4,096 blocks
//! (5.6 MB) and 220,000 pages (1.8 MB).
//!
//! What was not found has a place in the index, too, with the key after the last one before it: who reads there is told,
//! instead of being led past it.

use std::path::Path;
use std::sync::Arc;

use disk::{Open, WaitedDisk};
use journal::format::{Bad, PAGE_BYTES, u64_at};

use super::file::TableFile;
use super::format::block::{self, Block};
use super::format::tail::{BLOCK_ENTRY_BYTES, BlockEntry, FOOTER_BYTES, GAP, PAGE_ENTRY_BYTES};
use super::format::{DIRECTORY, Header, SECTOR_BYTES, StoreId, page};
use super::limits::BLOCK_BYTES_MAX;
use super::meta::{self, Meta, PartMeta};
use super::read::{Directory, Pages, Part, Table};
use super::rotten::{ReadError, Rotten, Why};

const _: () = assert!(size_of::<BlockEntry>() <= 32, "what a block costs in memory");

/// Why a table is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The program is older than the file; nothing was touched.
    #[error("{file:?} was written by a newer version: {bad}")]
    Newer { file: std::path::PathBuf, bad: Bad },
    #[error("cannot open table {number:#x}")]
    Read {
        number: u64,
        #[source]
        source: ReadError,
    },
}

impl Table {
    /// Opens it, and tells what is rotten as far as that takes no reading of blocks that an index names. A rotten index is made
    /// again, which reads its part; a rotten directory is not ([`Table::rebuild_directory`]).
    pub async fn open<D: WaitedDisk>(
        disk: &D,
        dir: &Path,
        store: StoreId,
        meta: &Meta,
    ) -> Result<(Table, Vec<Rotten>), OpenError> {
        let number = meta.number;
        let read = |source| OpenError::Read { number, source };
        let mut rotten = Vec::new();
        let mut parts = Vec::with_capacity(meta.parts.len());
        for part in &meta.parts {
            let header = Header { store, number, part: part.number };
            let file = TableFile::new(dir.join(meta::part_name(number, part.number)), header, Open::Existing);
            check_header(disk, &file, &mut rotten).await?;
            let blocks = match index_of_part(disk, &file, part).await {
                Ok(blocks) => blocks,
                Err(ReadError::Rotten(index)) => {
                    rotten.push(index);
                    blocks_again(disk, &file, part, &mut rotten).await.map_err(read)?
                }
                Err(err) => return Err(read(err)),
            };
            parts.push(Arc::new(Part { meta: *part, file, blocks }));
        }
        let header = Header { store, number, part: DIRECTORY };
        let file = TableFile::new(dir.join(meta::directory_name(number)), header, Open::Reading);
        let pages = match check_length(disk, &file, meta.directory_bytes).await {
            Ok(()) => {
                check_header(disk, &file, &mut rotten).await?;
                match index_of_directory(disk, &file, meta.directory_bytes).await {
                    Ok(firsts) => Pages::Known(firsts),
                    Err(ReadError::Rotten(index)) => {
                        rotten.push(index);
                        pages_again(disk, &file, meta, &mut rotten).await.map_err(read)?
                    }
                    Err(err) => return Err(read(err)),
                }
            }
            Err(ReadError::Rotten(gone)) => {
                rotten.push(gone.clone());
                Pages::Unknown(gone)
            }
            Err(err) => return Err(read(err)),
        };
        let directory = Arc::new(Directory { file, pages });
        Ok((Table { dir: dir.to_owned(), store, meta: meta.clone(), parts, directory }, rotten))
    }
}

/// A rotten header is told and done without: nothing stands in it that its reader does not know.
async fn check_header<D: WaitedDisk>(disk: &D, file: &TableFile, rotten: &mut Vec<Rotten>) -> Result<(), OpenError> {
    match file.check_header(disk).await {
        Ok(()) => Ok(()),
        Err(ReadError::Rotten(Rotten { file, why: Why::Bad(bad @ Bad::Newer { .. }), .. })) => {
            Err(OpenError::Newer { file, bad })
        }
        Err(ReadError::Rotten(header)) => {
            rotten.push(header);
            Ok(())
        }
        Err(source) => Err(OpenError::Read { number: file.header.number, source }),
    }
}

async fn index_of_part<D: WaitedDisk>(
    disk: &D,
    file: &TableFile,
    part: &PartMeta,
) -> Result<Vec<BlockEntry>, ReadError> {
    let (index, footer) = file.index(disk, part.bytes, BLOCK_ENTRY_BYTES).await?;
    let blocks: Vec<BlockEntry> = BlockEntry::decode_all(&index).collect();
    let in_order = |pair: &[BlockEntry]| {
        let end = u64::from(pair[0].at) + u64::from(pair[0].bytes);
        pair[0].first < pair[1].first && end <= u64::from(pair[1].at)
    };
    let fits = |block: &BlockEntry| {
        block.at as usize >= PAGE_BYTES
            && (1..GAP).contains(&block.rows)
            && (block::HEADER_BYTES..=BLOCK_BYTES_MAX).contains(&(block.bytes as usize))
            && u64::from(block.at) + u64::from(block.bytes) <= footer.index_at
    };
    let rows: u64 = blocks.iter().map(|block| u64::from(block.rows)).sum();
    let is_its =
        rows == part.rows && footer.rows == rows && blocks.first().map(|block| block.first) == Some(part.first);
    match is_its && blocks.iter().all(fits) && blocks.windows(2).all(in_order) {
        true => Ok(blocks),
        false => Err(file.rotten(footer.index_at, part.bytes - footer.index_at, 0, Why::Other).into()),
    }
}

/// Where the blocks of a part are, from themselves, until all rows are found or the file ends. Between two blocks there may be
/// keys that were not found: a gap. None where the two follow each other, whatever stands between them.
async fn blocks_again<D: WaitedDisk>(
    disk: &D,
    file: &TableFile,
    part: &PartMeta,
    rotten: &mut Vec<Rotten>,
) -> Result<Vec<BlockEntry>, ReadError> {
    let (mut blocks, mut found, mut at) = (Vec::new(), 0, PAGE_BYTES as u64);
    let (mut next_key, mut gap_at) = (part.first, at);
    let gap = |from: u64, to: u64, first| BlockEntry { first, at: from as u32, bytes: (to - from) as u32, rows: GAP };
    let end = match length(disk, file, part.bytes).await {
        Ok(length) => length.min(part.bytes),
        Err(ReadError::Rotten(_)) => 0,
        Err(err) => return Err(err),
    };
    while found < part.rows && at < end {
        let block = block_at(disk, file, at, end).await?;
        let Some(block) = block.filter(|block| next_key <= block.first() && block.last() <= part.last) else {
            at += SECTOR_BYTES as u64;
            continue;
        };
        if gap_at < at && next_key < block.first() {
            blocks.push(gap(gap_at, at, next_key));
        }
        let (first, bytes, rows) = (block.first(), block.bytes() as u32, block.row_count());
        blocks.push(BlockEntry { first, at: at as u32, bytes, rows });
        found += u64::from(rows);
        next_key = block.last().after();
        at = (at + u64::from(bytes)).next_multiple_of(SECTOR_BYTES as u64);
        gap_at = at;
    }
    if found < part.rows && next_key <= part.last {
        blocks.push(gap(gap_at.min(part.bytes - 1), part.bytes, next_key));
    }
    // How many rows each gap has nobody knows; the first is told all of them.
    let mut lost = part.rows.saturating_sub(found).min(u64::from(GAP - 1)) as u32;
    for gap in blocks.iter_mut().filter(|block| block.is_gap()) {
        gap.rows |= std::mem::take(&mut lost);
        rotten.push(file.rotten(gap.at.into(), gap.bytes.into(), gap.row_count(), Why::Missing));
    }
    blocks.shrink_to_fit();
    Ok(blocks)
}

/// A good block at this place.
async fn block_at<D: WaitedDisk>(disk: &D, file: &TableFile, at: u64, end: u64) -> Result<Option<Block>, ReadError> {
    let or_none = |read: Result<_, ReadError>| match read {
        Ok(read) => Ok(Some(read)),
        Err(ReadError::Rotten(_)) => Ok(None),
        Err(err) => Err(err),
    };
    let Some(head) = or_none(file.read(disk, at, block::HEADER_BYTES).await)? else { return Ok(None) };
    let Some(length) = block::length(&head).filter(|length| at + *length as u64 <= end) else { return Ok(None) };
    let Some(bytes) = or_none(file.read(disk, at, length).await)? else { return Ok(None) };
    Ok(Block::decode(&bytes, file.key, at).ok())
}

/// The directory is there whole, as far as its length tells.
pub(super) async fn check_length<D: WaitedDisk>(disk: &D, file: &TableFile, bytes: u64) -> Result<(), ReadError> {
    match length(disk, file, bytes).await? == bytes {
        true => Ok(()),
        false => Err(file.rotten(0, bytes, 0, Why::Missing).into()),
    }
}

/// How long a file is that was written with so many bytes.
async fn length<D: WaitedDisk>(disk: &D, file: &TableFile, bytes: u64) -> Result<u64, ReadError> {
    let found = disk.look_at(&file.path).await.map_err(|source| match Why::of_read(&source) {
        Some(why) => ReadError::Rotten(file.rotten(0, bytes, 0, why)),
        None => ReadError::Io { file: file.path.clone(), at: 0, bytes, source },
    })?;
    Ok(found.bytes)
}

async fn index_of_directory<D: WaitedDisk>(disk: &D, file: &TableFile, length: u64) -> Result<Vec<u64>, ReadError> {
    let (index, footer) = file.index(disk, length, PAGE_ENTRY_BYTES).await?;
    let firsts: Vec<u64> = index.chunks_exact(PAGE_ENTRY_BYTES).map(|entry| u64_at(entry, 0)).collect();
    let pages_end = (1 + firsts.len() as u64) * PAGE_BYTES as u64;
    match firsts.is_sorted() && footer.index_at == pages_end {
        true => Ok(firsts),
        false => Err(file.rotten(footer.index_at, length - footer.index_at, 0, Why::Other).into()),
    }
}

/// First numbers of the pages, from themselves. A rotten page begins where the one before ended, at the latest.
async fn pages_again<D: WaitedDisk>(
    disk: &D,
    file: &TableFile,
    meta: &Meta,
    rotten: &mut Vec<Rotten>,
) -> Result<Pages, ReadError> {
    // So many pages, their index and a footer are as long as the file: a page and its place in the index each.
    let tail = (PAGE_BYTES + FOOTER_BYTES) as u64;
    let pages = meta.directory_bytes.saturating_sub(tail) / (PAGE_BYTES + PAGE_ENTRY_BYTES) as u64;
    let (mut firsts, mut last) = (Vec::new(), 0);
    for index in 0..pages {
        let at = (1 + index) * PAGE_BYTES as u64;
        match read_page(disk, file, at).await {
            Ok(entries) => {
                firsts.push(entries[0].seq.max(last));
                last = entries[entries.len() - 1].seq.max(last);
            }
            Err(ReadError::Rotten(page)) => {
                rotten.push(page);
                firsts.push(last);
            }
            Err(err) => return Err(err),
        }
    }
    Ok(Pages::Known(firsts))
}

pub(super) async fn read_page<D: WaitedDisk>(
    disk: &D,
    file: &TableFile,
    at: u64,
) -> Result<Vec<page::Entry>, ReadError> {
    let bytes = file.read(disk, at, PAGE_BYTES).await?;
    page::decode(&bytes, file.key, at).map_err(|bad| file.rotten(at, PAGE_BYTES as u64, 0, Why::Bad(bad)).into())
}

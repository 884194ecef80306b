//! Every byte of a table that is believed, read and checked; as fast as the caller asks.

use disk::WaitedDisk;
use journal::format::PAGE_BYTES;

use super::file::TableFile;
use super::format::tail::{BLOCK_ENTRY_BYTES, PAGE_ENTRY_BYTES};
use super::open::{check_length, read_page};
use super::read::{BlockRef, Pages, Table};
use super::rotten::{ReadError, Rotten};

/// How far a scrub of one table is.
#[derive(Debug)]
pub struct Scrub {
    next: Step,
}

/// What is checked at once.
#[derive(Clone, Copy, Debug)]
enum Step {
    Header(u32),
    Index(u32),
    Block(BlockRef),
    DirectoryHeader,
    DirectoryIndex,
    Page(usize),
    Done,
}

/// One step of a scrub.
#[derive(Debug)]
pub struct Scrubbed {
    /// Read for it.
    pub bytes: u64,
    pub rotten: Option<Rotten>,
}

impl Scrub {
    /// At the begin of any table.
    pub fn new() -> Scrub {
        Scrub { next: Step::Header(0) }
    }

    /// Checks a block, a page, or what frames them, and tells what was found. `None`: all was checked. After an error of the
    /// moment it goes on with the next.
    pub async fn step<D: WaitedDisk>(&mut self, disk: &D, table: &Table) -> Result<Option<Scrubbed>, ReadError> {
        let step = self.next;
        self.next = following(step, table);
        if matches!(step, Step::Done) {
            return Ok(None);
        }
        let mut checked = check(step, disk, table).await;
        if matches!(checked, Err(ReadError::Rotten(_))) {
            // Once more, from the medium: it may have been memory.
            checked = check(step, disk, table).await;
        }
        match checked {
            Ok(bytes) => Ok(Some(Scrubbed { bytes, rotten: None })),
            Err(ReadError::Rotten(rotten)) => Ok(Some(Scrubbed { bytes: rotten.bytes, rotten: Some(rotten) })),
            Err(err) => Err(err),
        }
    }
}

/// Bytes that were read and are right.
async fn check<D: WaitedDisk>(step: Step, disk: &D, table: &Table) -> Result<u64, ReadError> {
    let part = |part: u32| &table.parts[part as usize];
    let directory = &table.directory;
    match step {
        Step::Header(number) => part(number).file.check_header(disk).await.map(|()| PAGE_BYTES as u64),
        Step::Index(number) => {
            let part = part(number);
            let index = part.file.index(disk, part.meta.bytes, BLOCK_ENTRY_BYTES).await;
            index.map(|(index, _)| index.len() as u64)
        }
        Step::Block(block) => {
            let (at, bytes) = (u64::from(table.entry(block).at), table.block_bytes(block));
            part(block.part).file.forget(disk, at, bytes).await;
            table.read_block(disk, block).await.map(|_| bytes as u64)
        }
        Step::DirectoryHeader => {
            let checked = check_directory(disk, &directory.file, table.meta.directory_bytes).await;
            checked.map(|()| PAGE_BYTES as u64)
        }
        Step::DirectoryIndex => {
            let index = directory.file.index(disk, table.meta.directory_bytes, PAGE_ENTRY_BYTES).await;
            index.map(|(index, _)| index.len() as u64)
        }
        Step::Page(page) => {
            let at = (1 + page as u64) * PAGE_BYTES as u64;
            directory.file.forget(disk, at, PAGE_BYTES).await;
            read_page(disk, &directory.file, at).await.map(|_| PAGE_BYTES as u64)
        }
        Step::Done => Ok(0),
    }
}

impl Default for Scrub {
    fn default() -> Scrub {
        Scrub::new()
    }
}

async fn check_directory<D: WaitedDisk>(disk: &D, file: &TableFile, bytes: u64) -> Result<(), ReadError> {
    check_length(disk, file, bytes).await?;
    file.check_header(disk).await
}

fn following(step: Step, table: &Table) -> Step {
    let pages = match &table.directory.pages {
        Pages::Known(firsts) => firsts.len(),
        Pages::Unknown(_) => 0,
    };
    let page = |page: usize| if page < pages { Step::Page(page) } else { Step::Done };
    match step {
        Step::Header(part) => Step::Index(part),
        Step::Index(part) => Step::Block(BlockRef { part, block: 0 }),
        Step::Block(block) => match table.next(block) {
            Some(next) if next.part == block.part => Step::Block(next),
            Some(next) => Step::Header(next.part),
            None => Step::DirectoryHeader,
        },
        // Of a directory that was not there at the start, only that it is not.
        Step::DirectoryHeader => {
            if pages > 0 {
                Step::DirectoryIndex
            } else {
                Step::Done
            }
        }
        Step::DirectoryIndex => page(0),
        Step::Page(before) => page(before + 1),
        Step::Done => Step::Done,
    }
}

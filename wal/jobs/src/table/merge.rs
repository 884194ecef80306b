//! Many tables made one, without what is over.
//!
//! Memory: one block of each input, and what sorting the directory takes. It reads each block once and waits for the disk
//! between any two, so that what else runs on the thread goes on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::AtomicBool;

use disk::WaitedDisk;

use super::format::block::{Block, Position, RawRow, RowRef};
use super::limits::{Limits, MERGE_INPUTS_MAX};
use super::meta::Meta;
use super::read::{BlockRef, Table};
use super::rotten::{ReadError, Rotten};
use super::write::{Target, WriteError, Writer};
use crate::Key;

/// What a merge brought.
#[derive(Debug)]
pub struct Merged {
    /// Nothing: no job was alive, and no file was made.
    pub meta: Option<Meta>,
    /// Jobs that were over or before the begin.
    pub dropped: u64,
    /// Blocks that could not be read; their jobs are not in the new table.
    pub lost: Vec<Rotten>,
}

/// Why the inputs stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Of the moment, so not taken for rot; again later.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Makes a table of all jobs of `inputs` from the key `from` on that are alive, by number and due. A job that is in more than
/// one input by the same key is in it once.
///
/// # Panics
/// When there are more than [`MERGE_INPUTS_MAX`].
pub async fn merge<D: WaitedDisk>(
    disk: &D,
    target: Target<'_>,
    inputs: &[&Table],
    from: Key,
    is_alive: impl Fn(u64, i64) -> bool,
    limits: Limits,
    stop: &AtomicBool,
) -> Result<Merged, MergeError> {
    assert!(inputs.len() <= MERGE_INPUTS_MAX, "{} tables at once", inputs.len());
    let mut writer = Writer::new(disk, target, limits, stop);
    let mut merged = Merged { meta: None, dropped: 0, lost: Vec::new() };
    match pass(disk, &mut writer, inputs, from, is_alive, &mut merged).await {
        Ok(()) => {
            merged.meta = writer.finish().await?;
            Ok(merged)
        }
        Err(err) => {
            writer.discard().await;
            Err(err)
        }
    }
}

async fn pass<D: WaitedDisk>(
    disk: &D,
    writer: &mut Writer<'_, D>,
    inputs: &[&Table],
    from: Key,
    is_alive: impl Fn(u64, i64) -> bool,
    merged: &mut Merged,
) -> Result<(), MergeError> {
    let mut cursors: Vec<Cursor<'_>> = inputs.iter().map(|table| Cursor::new(table, from)).collect();
    let mut next = BinaryHeap::with_capacity(cursors.len());
    for (index, cursor) in cursors.iter_mut().enumerate() {
        next.extend(cursor.advance(disk, &mut merged.lost).await?.map(|key| Reverse((key, index))));
    }
    let mut last = None;
    while let Some(Reverse((key, index))) = next.pop() {
        let cursor = &mut cursors[index];
        match key >= from && last != Some(key) && is_alive(key.seq, key.due_ms) {
            true => {
                writer.push(&cursor.row()).await?;
                last = Some(key);
            }
            false => merged.dropped += 1,
        }
        next.extend(cursor.advance(disk, &mut merged.lost).await?.map(|key| Reverse((key, index))));
    }
    Ok(())
}

/// Where one input is.
struct Cursor<'t> {
    table: &'t Table,
    /// The block to read next.
    ahead: Option<BlockRef>,
    block: Option<(Block, Position)>,
    row: Option<RawRow>,
}

impl<'t> Cursor<'t> {
    fn new(table: &'t Table, from: Key) -> Cursor<'t> {
        Cursor { table, ahead: table.block_at_or_after(from), block: None, row: None }
    }

    /// The row it is at.
    fn row(&self) -> RowRef<'_> {
        let (Some((block, _)), Some(row)) = (&self.block, &self.row) else { panic!("its key is in the heap") };
        block.row(row)
    }

    /// To the next row, past what is rotten; its key.
    async fn advance<D: WaitedDisk>(&mut self, disk: &D, lost: &mut Vec<Rotten>) -> Result<Option<Key>, ReadError> {
        loop {
            self.row = self.block.as_mut().and_then(|(block, position)| position.next(block));
            if let Some(row) = &self.row {
                return Ok(Some(row.key));
            }
            let Some(ahead) = self.ahead else { return Ok(None) };
            self.ahead = self.table.next(ahead);
            self.block = match self.table.read_block(disk, ahead).await {
                Ok(block) => {
                    let begin = block.begin();
                    Some((block, begin))
                }
                Err(ReadError::Rotten(rotten)) => {
                    lost.push(rotten);
                    None
                }
                Err(err) => return Err(err),
            };
        }
    }
}

//! Checkpoints, and letting segments go.
//!
//! The rule: a segment goes when its user has said [`free`](Core::free) and the last two checkpoints, both durable, were
//! written after that with an lsn beyond its last record. Two, so that a rotten checkpoint costs nothing: what the one before
//! it needs is all there.

use std::io;

use crate::core::{Core, Needs, Table, is_full, names};
use crate::format::checkpoint::{Checkpoint, Extent};
use crate::limits::{CHECKPOINT_BLOB_BYTES_MAX, CHECKPOINT_SEGMENTS_MAX, CHECKPOINTS_KEPT};
use crate::refused::CheckpointError;
use crate::shelf::Gone;

impl Core {
    /// The user needs nothing of this segment any more, and what made that so is durable. The newest segment does not go,
    /// and one that gets a record after this is not free.
    pub fn free(&self, segment: u64) {
        let mut table = self.table();
        if let Some(live) = table.live.get_mut(&segment) {
            live.is_free = true;
        }
        if let Some(moved) = table.moved.as_mut().filter(|moved| moved.from == segment) {
            moved.from_is_free = true;
        }
    }

    /// Writes down what the user knows at `lsn`; replay begins there from now on.
    pub fn checkpoint(&self, lsn: u64, blob: Vec<u8>) -> Result<(), CheckpointError> {
        let _one = self.checkpointing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let checkpoint = plan(&self.table(), lsn, blob)?;
        let number = checkpoint.number;
        let (needs, bytes) = (Needs::of(&checkpoint), checkpoint.encode());
        let written = self.write_whole(names::CHECKPOINT_TEMPORARY, &names::checkpoint(number), bytes);
        let old = {
            let mut table = self.table();
            // Also of one that failed: its name may be there.
            table.last_checkpoint = number;
            if let Err(source) = written {
                self.metrics.checkpoint_failures.add(1);
                let what = if is_full(&source) { "find room for" } else { "write" };
                return Err(CheckpointError::Io { what, number, source });
            }
            table.checkpoints.push_back(needs);
            let gone = table.take_let_go();
            self.shelf.throw(gone.into_iter().map(|live| Gone {
                name: names::segment(live.extent.number),
                bytes: live.header.length,
                recycle: !live.is_poisoned,
            }));
            let surplus = table.checkpoints.len().saturating_sub(CHECKPOINTS_KEPT);
            table.checkpoints.drain(..surplus).collect::<Vec<_>>()
        };
        self.metrics.checkpoints.add(1);
        for needs in old {
            match self.disk.remove(&self.path(&names::checkpoint(needs.number))) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => {
                    return Err(CheckpointError::Io { what: "remove", number: needs.number, source: err });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn plan(table: &Table, lsn: u64, blob: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
    let journal = table.id.ok_or(CheckpointError::Empty)?;
    if table.is_unfinished {
        return Err(CheckpointError::Unfinished);
    }
    if lsn > table.durable_lsn {
        return Err(CheckpointError::NotDurable { lsn, durable: table.durable_lsn });
    }
    if let Some(last) = table.checkpoints.back().map(|last| last.lsn)
        && lsn < last
    {
        return Err(CheckpointError::Backwards { lsn, last });
    }
    let newest = table.live.keys().next_back().copied();
    let is_needed =
        |extent: &Extent| !table.is_free(extent.number) || extent.next_lsn > lsn || Some(extent.number) == newest;
    let segments: Vec<Extent> = table.live.values().map(|live| live.extent).filter(is_needed).collect();
    if blob.len() as u64 > CHECKPOINT_BLOB_BYTES_MAX || segments.len() as u64 > u64::from(CHECKPOINT_SEGMENTS_MAX) {
        return Err(CheckpointError::TooLarge);
    }
    Ok(Checkpoint { journal, number: table.last_checkpoint + 1, lsn, segments, blob })
}

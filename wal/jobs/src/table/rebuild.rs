//! The directory of a table made again from its parts: it was lost, or a page of it is rotten.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use disk::WaitedDisk;

use super::format::page::Entry;
use super::format::{DIRECTORY, Header};
use super::limits::Limits;
use super::merge::MergeError;
use super::meta::{self, Meta};
use super::read::Table;
use super::rotten::{ReadError, Rotten};
use super::sorter::Sorter;
use super::write::WriteError;
use crate::Key;

impl Table {
    /// Reads all parts and writes the directory anew. Open the table with the meta that comes back, and write that down:
    /// until then the next start finds a directory of another length, and is told to do this again. Jobs in blocks that are
    /// rotten are not in it.
    pub async fn rebuild_directory<D: WaitedDisk>(
        &self,
        disk: &D,
        limits: Limits,
        stop: &AtomicBool,
    ) -> Result<(Meta, Vec<Rotten>), MergeError> {
        let header = Header { store: self.store, number: self.meta.number, part: DIRECTORY };
        let mut sorter = Sorter::new(&self.dir, header, limits.sort_entries);
        let rebuilt = self.sort_and_replace(disk, &mut sorter, stop).await;
        if rebuilt.is_err() {
            for path in sorter.made {
                let _ = disk.remove(&path).await;
            }
        }
        rebuilt
    }

    async fn sort_and_replace<D: WaitedDisk>(
        &self,
        disk: &D,
        sorter: &mut Sorter,
        stop: &AtomicBool,
    ) -> Result<(Meta, Vec<Rotten>), MergeError> {
        let number = self.meta.number;
        let path = self.dir.join(meta::directory_name(number));
        let temporary = self.dir.join(meta::temporary(&meta::directory_name(number)));
        let io = |what, path: &PathBuf, source| WriteError::Io { what, path: path.clone(), source };
        let mut lost = Vec::new();
        let mut next = self.block_at_or_after(Key::MIN);
        while let Some(block) = next {
            next = self.next(block);
            if stop.load(Ordering::Relaxed) {
                return Err(WriteError::Stopped { number }.into());
            }
            let block = match self.read_block(disk, block).await {
                Ok(block) => block,
                Err(ReadError::Rotten(rotten)) => {
                    lost.push(rotten);
                    continue;
                }
                Err(err) => return Err(err.into()),
            };
            for row in block.rows() {
                let entry = Entry { seq: row.key.seq, due_ms: row.key.due_ms, queue: row.queue };
                sorter.push(disk, entry).await.map_err(|err| io("sort the directory", &path, err))?;
            }
        }
        let sorted = sorter.finish(disk, &temporary, || !stop.load(Ordering::Relaxed)).await;
        let directory_bytes = sorted.map_err(|err| io("write", &path, err))?.ok_or(WriteError::Stopped { number })?;
        for run in sorter.take_runs() {
            let _ = disk.remove(&run).await;
        }
        disk.rename(&temporary, &path).await.map_err(|err| io("give its name to", &path, err))?;
        disk.persist_dir(&self.dir).await.map_err(|err| io("make durable the names in", &self.dir, err))?;
        Ok((Meta { directory_bytes, ..self.meta.clone() }, lost))
    }
}

//! A directory of a journal, looked at and not touched: for tools, also while a process has it.
//!
//! The judgement is that of a recovery, by the same code, of what the files said when they were read. A journal that is in use
//! goes on meanwhile: a segment may be gone when it is to be read (an error that says `NotFound`: look again), and what looks
//! lost may be what was written between two reads. Loss is what two looks have found.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::Disk;

use crate::core::{Core, names};
use crate::reader::Reader;
use crate::recovery::inventory::Inventory;
use crate::recovery::{self, Lost, Recovered};
use crate::refused::OpenError;

/// See the module.
pub struct Looked {
    /// What tells this journal from every other; none: neither the file `id` nor a segment says so.
    pub id: Option<[u8; 16]>,
    /// Name of the node; none: the file `id` is lost or rotten.
    pub node: Option<String>,
    /// What a recovery would say.
    pub recovered: Recovered,
    /// Segments that the newest checkpoint needs and that are not there, or have no good header. A recovery does not look at what
    /// lies before that checkpoint, and so does not miss them.
    pub missing: Vec<Lost>,
    /// By number.
    pub segments: Vec<SegmentFile>,
    /// Good ones and bad ones, by number.
    pub checkpoints: Vec<CheckpointFile>,
    /// Names and bytes.
    pub spares: Vec<(String, u64)>,
    pub quarantine: Vec<(String, u64)>,
    /// Files that were being made; a recovery removes them.
    pub temporary: Vec<String>,
    core: Arc<Core>,
}

/// A file named like a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    pub number: u64,
    /// Of the file.
    pub bytes: u64,
    pub state: SegmentState,
    /// Lsn of its first record, and when it was made (epoch ms), as its header says.
    pub header: Option<(u64, i64)>,
    /// The lsn after its last record, and where that ends, of one that is live.
    pub end: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    Live,
    /// Void, or let go by checkpoints: it is recycled soon.
    Unneeded,
    /// Neither of its headers is good.
    Rotten,
}

/// A file named like a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFile {
    pub number: u64,
    /// Its lsn, bytes of its user's blob, and how many segments it needs; none: it is rotten.
    pub content: Option<(u64, u64, usize)>,
}

/// Looks at the directory of a journal. `None`: there is nothing of a journal in it.
pub fn look(dir: &Path, disk: Arc<dyn Disk>) -> Result<Option<Looked>, OpenError> {
    let core = Arc::new(Core::looking(disk, dir.to_owned()));
    let Some((found, recovered, rotten)) = recovery::look(&core)? else { return Ok(None) };
    let checkpoints = checkpoints(&found);
    if found.id.is_none() && found.segments.is_empty() && checkpoints.is_empty() {
        return Ok(None);
    }
    let segments = segments(&found, &rotten, &core);
    let missing = missing(&found, &core);
    let quarantine = quarantine(&core, &core.path(names::QUARANTINE))?;
    let Inventory { id, node, spares, temporary, .. } = found;
    Ok(Some(Looked { id, node, recovered, missing, segments, checkpoints, spares, quarantine, temporary, core }))
}

impl Looked {
    /// Reads what is live.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.core))
    }
}

fn segments(found: &Inventory, rotten: &[u64], core: &Core) -> Vec<SegmentFile> {
    let table = core.table();
    let segment = |(number, bytes): (&u64, &u64)| {
        let live = table.live.get(number);
        let state = match live {
            Some(_) => SegmentState::Live,
            None if rotten.contains(number) => SegmentState::Rotten,
            None => SegmentState::Unneeded,
        };
        let header = found.headers.get(number).map(|header| (header.first_lsn, header.created_ms));
        let end = live.map(|live| (live.extent.next_lsn, live.extent.end));
        SegmentFile { number: *number, bytes: *bytes, state, header, end }
    };
    found.segments.iter().map(segment).collect()
}

fn missing(found: &Inventory, core: &Core) -> Vec<Lost> {
    let Some(newest) = found.checkpoints.last() else { return Vec::new() };
    let table = core.table();
    let needed = newest.segments.iter().filter(|extent| extent.first_lsn < extent.next_lsn);
    let is_missing = |number: &u64| !table.live.contains_key(number);
    let missing = needed.filter(|extent| is_missing(&extent.number)).map(|extent| Lost {
        from_lsn: extent.first_lsn,
        to_lsn: extent.next_lsn,
        segment: extent.number,
        at: 0,
        bytes: found.segments.get(&extent.number).copied().unwrap_or(0),
    });
    missing.collect()
}

fn checkpoints(found: &Inventory) -> Vec<CheckpointFile> {
    let good = found.checkpoints.iter().map(|checkpoint| CheckpointFile {
        number: checkpoint.number,
        content: Some((checkpoint.lsn, checkpoint.blob.len() as u64, checkpoint.segments.len())),
    });
    let bad = found.bad_checkpoints.iter().map(|number| CheckpointFile { number: *number, content: None });
    let mut all: Vec<CheckpointFile> = good.chain(bad).collect();
    all.sort_by_key(|checkpoint| checkpoint.number);
    all
}

fn quarantine(core: &Core, dir: &Path) -> Result<Vec<(String, u64)>, OpenError> {
    let io = |path: PathBuf| move |source| OpenError::Io { what: "look at", path, source };
    let entries = match core.disk.list(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io(dir.to_owned()))?,
    };
    let entry = |entry: disk::Entry| {
        let path = dir.join(&entry.name);
        Ok((entry.name, core.disk.look_at(&path).map_err(io(path.clone()))?.bytes))
    };
    entries.into_iter().map(entry).collect()
}

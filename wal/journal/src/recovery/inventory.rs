//! What is in the directory, read and not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::core::{Core, names};
use crate::format::checkpoint::Checkpoint;
use crate::format::id::Identity;
use crate::format::segment::{End, SegmentHeader};
use crate::format::{Bad, JournalId, PAGE_BYTES};
use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::refused::OpenError;

/// See the module.
#[derive(Default)]
pub struct Inventory {
    pub id: Option<JournalId>,
    /// Name of the node, as the file `id` has it.
    pub node: Option<String>,
    pub id_is_bad: bool,
    /// Every file named like a segment, and its length.
    pub segments: BTreeMap<u64, u64>,
    /// Those whose header is good.
    pub headers: BTreeMap<u64, SegmentHeader>,
    pub spares: Vec<(String, u64)>,
    pub last_spare: u64,
    /// Good ones, the newest last.
    pub checkpoints: Vec<Checkpoint>,
    pub bad_checkpoints: Vec<u64>,
    /// There is one, or there was one that is in quarantine now: segments may be missing because they were let go.
    pub had_checkpoints: bool,
    pub last_checkpoint: u64,
    /// Files that were being made.
    pub temporary: Vec<String>,
}

/// `None`: there is no such directory, or nothing of a journal in it.
pub fn take(core: &Core) -> Result<Option<Inventory>, OpenError> {
    let dir = &core.config.dir;
    let entries = match core.disk.list(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|source| OpenError::Io { what: "list", path: dir.clone(), source })?,
    };
    let mut found = Inventory::default();
    let mut identity = None;
    let mut checkpoints = BTreeMap::new();
    for name in entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name) {
        let path = core.path(&name);
        let io = |source| OpenError::Io { what: "read", path: path.clone(), source };
        let newer = |bad| OpenError::Newer { path: path.clone(), bad };
        if let Some(number) = names::number(&name, "segment-", ".wal") {
            found.segments.insert(number, core.disk.look_at(&path).map_err(io)?.bytes);
            match core.read_header(&path, number).map_err(io)? {
                Ok(header) => drop(found.headers.insert(number, header)),
                Err(bad @ Bad::Newer { .. }) => return Err(newer(bad)),
                Err(_) => {}
            }
        } else if let Some(number) = names::number(&name, "spare-", ".wal") {
            let bytes = core.disk.look_at(&path).map_err(io)?.bytes;
            found.last_spare = found.last_spare.max(number);
            let fits = bytes.is_power_of_two() && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes);
            if fits { found.spares.push((name, bytes)) } else { found.temporary.push(name) }
        } else if let Some(number) = names::number(&name, "checkpoint-", "") {
            match Checkpoint::decode(&core.read_whole(&path, u64::MAX >> 1).map_err(io)?) {
                Err(bad @ Bad::Newer { .. }) => return Err(newer(bad)),
                checkpoint => drop(checkpoints.insert(number, checkpoint.ok())),
            }
        } else if name == names::ID {
            match Identity::decode(&core.read_whole(&path, PAGE_BYTES as u64).map_err(io)?) {
                Ok(decoded) => identity = Some(decoded),
                Err(bad @ Bad::Newer { .. }) => return Err(newer(bad)),
                Err(_) => {}
            }
        } else if [names::ID_TEMPORARY, names::CHECKPOINT_TEMPORARY, names::SPARE_TEMPORARY].contains(&&*name) {
            found.temporary.push(name);
        }
    }
    if let Some(Identity { name, .. }) = &identity
        && *name != core.config.node
        && !core.is_looking
    {
        let (found, expected) = (name.clone(), core.config.node.clone());
        return Err(OpenError::OfAnother { dir: dir.clone(), found, expected });
    }
    found.id_is_bad = identity.is_none();
    found.node = identity.as_ref().map(|identity| identity.name.clone());
    let of_segment = || found.headers.values().next().map(|header| header.journal);
    found.id = identity.map(|identity| identity.id).or_else(of_segment);
    found.headers.retain(|_, header| Some(header.journal) == found.id);
    let set_aside = core.disk.list(&core.path(names::QUARANTINE)).unwrap_or_default();
    let is_checkpoint = |name: &str| names::number(name, "checkpoint-", "").is_some();
    found.had_checkpoints = !checkpoints.is_empty() || set_aside.iter().any(|entry| is_checkpoint(&entry.name));
    found.last_checkpoint = checkpoints.keys().next_back().copied().unwrap_or(0);
    for (number, checkpoint) in checkpoints {
        match checkpoint.filter(|checkpoint| checkpoint.number == number && Some(checkpoint.journal) == found.id) {
            Some(checkpoint) => found.checkpoints.push(checkpoint),
            None => found.bad_checkpoints.push(number),
        }
    }
    Ok(Some(found))
}

impl Inventory {
    /// Above every number that was ever used, as far as anything tells.
    pub fn highest_segment(&self) -> u64 {
        let of_checkpoint = |checkpoint: &Checkpoint| checkpoint.segments.iter().map(|extent| extent.number).max();
        let listed = self.checkpoints.iter().filter_map(of_checkpoint).max();
        listed.max(self.segments.keys().next_back().copied()).unwrap_or(0)
    }

    /// Where segments end as their successors say, with the lsn the successor begins at; and which segments are void.
    pub fn seals(&self) -> (BTreeMap<u64, (End, u64)>, BTreeSet<u64>) {
        let (mut seals, mut void) = (BTreeMap::new(), BTreeSet::new());
        for (number, header) in self.headers.iter().rev() {
            if void.contains(number) {
                continue;
            }
            let previous = header.previous;
            void.extend(self.segments.range(previous.segment + 1..*number).map(|(number, _)| *number));
            seals.insert(previous.segment, (previous, header.first_lsn));
        }
        (seals, void)
    }
}

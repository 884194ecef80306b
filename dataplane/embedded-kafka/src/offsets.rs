//! Committed offsets of all groups, durable before the commit is answered.
//!
//! ```text
//! offsets.log: a journal (see journal.rs) of these payloads, the later one wins
//!   1 commit   group | (topic | partition i32 | offset i64 | leader epoch i32 | commit time ms i64 | metadata)*
//!   2 deleted  group
//!   3 topic    name: its offsets went with it
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use foldhash::HashMap;

use crate::hooks::Hooks;
use crate::journal::{FieldReader, FieldWriter, Journal, JournalError, record_bytes};
use crate::limits::OFFSETS_MAX;
use crate::syncer::{SyncPoint, Syncer};

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next record to read.
    pub offset: i64,
    pub leader_epoch: i32,
    pub commit_ms: i64,
    pub metadata: String,
}

type OfGroup = BTreeMap<String, BTreeMap<i32, Committed>>;

/// A change that would exceed the limit on offsets.
#[derive(Debug, thiserror::Error)]
pub enum OffsetsError {
    #[error("{limit} committed offsets are kept already")]
    Full { limit: usize },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// All committed offsets and their journal.
pub struct Offsets {
    groups: HashMap<String, OfGroup>,
    count: usize,
    journal: Journal,
}

impl Offsets {
    /// Offsets that are forgotten with the process: null mode.
    pub fn memory() -> Offsets {
        Offsets { groups: HashMap::default(), count: 0, journal: Journal::memory() }
    }

    /// Reads the journal, compacts it when something in it is dead.
    pub fn open(path: PathBuf, hooks: &Hooks) -> Result<Offsets, JournalError> {
        let mut offsets = Offsets::memory();
        let journal = Journal::open(path, |payload| offsets.replay(payload))?;
        offsets.journal = journal;
        let living = offsets.living_records();
        if offsets.journal.is_longer_than(living.iter().map(|record| record_bytes(record)).sum()) {
            offsets.journal.compact(&living, hooks)?;
        }
        Ok(offsets)
    }

    /// Groups that have committed something.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Whether this group has committed something.
    pub fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// One committed offset.
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    /// Everything a group has committed, by topic and partition.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (&str, i32, &Committed)> {
        self.groups.get(group).into_iter().flatten().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, committed)| (topic.as_str(), *partition, committed))
        })
    }

    /// Commits all of these or none. Durable after the next `request_sync`.
    pub fn commit(&mut self, group: &str, commits: Vec<(String, i32, Committed)>) -> Result<(), OffsetsError> {
        if commits.is_empty() {
            return Ok(());
        }
        if self.count + commits.len() > OFFSETS_MAX {
            return Err(OffsetsError::Full { limit: OFFSETS_MAX });
        }
        let mut record = FieldWriter::default();
        record.u8(1).str(group);
        for (topic, partition, committed) in &commits {
            put_committed(&mut record, topic, *partition, committed);
        }
        self.journal.append(&record.0)?;
        for (topic, partition, committed) in commits {
            self.insert(group, topic, partition, committed);
        }
        Ok(())
    }

    /// Forgets a group's offsets. False: it had none.
    pub fn delete_group(&mut self, group: &str) -> Result<bool, JournalError> {
        if !self.groups.contains_key(group) {
            return Ok(false);
        }
        self.journal.append(&FieldWriter::default().u8(2).str(group).0)?;
        self.remove_group(group);
        Ok(true)
    }

    /// Forgets what all groups committed for a deleted topic.
    pub fn delete_topic(&mut self, topic: &str) -> Result<(), JournalError> {
        if self.groups.values().any(|topics| topics.contains_key(topic)) {
            self.journal.append(&FieldWriter::default().u8(3).str(topic).0)?;
            self.remove_topic(topic);
        }
        Ok(())
    }

    /// Asks for everything changed so far to become durable.
    pub fn request_sync(&self, syncer: Option<&Syncer>) -> Option<SyncPoint> {
        self.journal.request_sync(syncer)
    }

    /// Compacts the journal when it has grown far beyond what lives.
    pub fn compact_if_grown(&mut self, hooks: &Hooks) -> Result<(), JournalError> {
        if self.journal.wants_compaction() {
            let living = self.living_records();
            self.journal.compact(&living, hooks)?;
        }
        Ok(())
    }

    fn insert(&mut self, group: &str, topic: String, partition: i32, committed: Committed) {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), OfGroup::new());
        }
        let of_group = self.groups.get_mut(group).expect("inserted above");
        if of_group.entry(topic).or_default().insert(partition, committed).is_none() {
            self.count += 1;
        }
    }

    fn remove_group(&mut self, group: &str) {
        if let Some(topics) = self.groups.remove(group) {
            self.count -= topics.values().map(BTreeMap::len).sum::<usize>();
        }
    }

    fn remove_topic(&mut self, topic: &str) {
        let count = &mut self.count;
        self.groups.retain(|_, topics| {
            *count -= topics.remove(topic).map_or(0, |partitions| partitions.len());
            !topics.is_empty()
        });
    }

    fn living_records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::with_capacity(self.groups.len());
        for (group, topics) in &self.groups {
            // One record per topic, so that a record stays far below its limit.
            for (topic, partitions) in topics {
                let mut record = FieldWriter::default();
                record.u8(1).str(group);
                for (partition, committed) in partitions {
                    put_committed(&mut record, topic, *partition, committed);
                    if record.0.len() > 1024 * 1024 {
                        records.push(std::mem::take(&mut record.0));
                        record.u8(1).str(group);
                    }
                }
                records.push(record.0);
            }
        }
        records
    }

    fn replay(&mut self, payload: &[u8]) -> Result<(), String> {
        let mut fields = FieldReader(payload);
        match fields.u8()? {
            1 => {
                let group = fields.str()?.to_owned();
                while !fields.is_empty() {
                    let topic = fields.str()?.to_owned();
                    let partition = fields.i32()?;
                    let committed = Committed {
                        offset: fields.i64()?,
                        leader_epoch: fields.i32()?,
                        commit_ms: fields.i64()?,
                        metadata: fields.str()?.to_owned(),
                    };
                    self.insert(&group, topic, partition, committed);
                }
            }
            2 => self.remove_group(fields.str()?),
            3 => self.remove_topic(fields.str()?),
            other => return Err(format!("unknown record type {other}")),
        }
        Ok(())
    }
}

fn put_committed(out: &mut FieldWriter, topic: &str, partition: i32, committed: &Committed) {
    out.str(topic).i32(partition).i64(committed.offset).i32(committed.leader_epoch);
    out.i64(committed.commit_ms).str(&committed.metadata);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64) -> Committed {
        Committed { offset, leader_epoch: 0, commit_ms: 9, metadata: format!("m{offset}") }
    }

    fn all(offsets: &Offsets) -> Vec<String> {
        let mut lines: Vec<String> = offsets
            .groups()
            .flat_map(|group| {
                offsets.of_group(group).map(move |(t, p, c)| format!("{group} {t} {p} {} {}", c.offset, c.metadata))
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn commits_deletions_and_compaction_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("offsets.log");
        let hooks = Hooks::new();
        let mut offsets = Offsets::open(path.clone(), &hooks).unwrap();
        for round in 0..50 {
            offsets
                .commit("a", vec![("t".to_owned(), 0, committed(round)), ("u".to_owned(), 1, committed(7))])
                .unwrap();
        }
        offsets.commit("b", vec![("t".to_owned(), 3, committed(1))]).unwrap();
        offsets.commit("gone", vec![("t".to_owned(), 3, committed(1))]).unwrap();
        assert!(offsets.delete_group("gone").unwrap());
        assert!(!offsets.delete_group("gone").unwrap());
        offsets.delete_topic("u").unwrap();
        let expected = ["a t 0 49 m49".to_owned(), "b t 3 1 m1".to_owned()];
        assert_eq!(all(&offsets), expected);
        drop(offsets);
        let grown = std::fs::metadata(&path).unwrap().len();
        assert_eq!(all(&Offsets::open(path.clone(), &hooks).unwrap()), expected);
        assert!(std::fs::metadata(&path).unwrap().len() < grown / 10, "compacted on start");
        let offsets = Offsets::open(path, &hooks).unwrap();
        assert_eq!(all(&offsets), expected);
        assert_eq!(offsets.count, 2);
    }
}

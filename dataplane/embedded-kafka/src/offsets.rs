//! Committed offsets of all groups, durable before the commit is answered.
//!
//! ```text
//! offsets.log: a journal (see journal.rs) of these payloads, the later one wins
//!   1 commit   group | (topic | partition i32 | offset i64 | leader epoch i32 | commit time ms i64 | metadata)*
//!   2 deleted  group
//!   3 topic    name: its offsets went with it
//!   4 gone     group | (topic | partition i32)*: single offsets deleted
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use foldhash::HashMap;

use crate::hooks::Hooks;
use crate::journal::{FieldReader, FieldWriter, Journal, JournalError, record_bytes};
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
    /// When a group was last found to have members; of groups that have offsets.
    seen_ms: HashMap<String, i64>,
    /// When expiry was first looked at: what happened before is not known.
    opened_ms: Option<i64>,
    journal: Journal,
}

impl Offsets {
    /// Offsets that are forgotten with the process: null mode.
    pub fn memory() -> Offsets {
        Offsets {
            groups: HashMap::default(),
            count: 0,
            seen_ms: HashMap::default(),
            opened_ms: None,
            journal: Journal::memory(),
        }
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

    /// Commits all of these or none. Durable after the next `request_sync`. A partition without an offset gets one only
    /// while there are fewer than `room` of all groups.
    pub fn commit(
        &mut self,
        group: &str,
        commits: Vec<(String, i32, Committed)>,
        room: usize,
    ) -> Result<(), OffsetsError> {
        if commits.is_empty() {
            return Ok(());
        }
        let fresh = commits.iter().filter(|(topic, partition, _)| self.get(group, topic, *partition).is_none()).count();
        if fresh > 0 && self.count + fresh > room {
            return Err(OffsetsError::Full { limit: room });
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

    /// Forgets single offsets of a group.
    pub fn delete_partitions(&mut self, group: &str, partitions: &[(String, i32)]) -> Result<(), JournalError> {
        let mut record = FieldWriter::default();
        record.u8(4).str(group);
        let known = partitions.iter().filter(|(topic, partition)| self.get(group, topic, *partition).is_some());
        let known: Vec<&(String, i32)> = known.collect();
        if known.is_empty() {
            return Ok(());
        }
        for (topic, partition) in &known {
            record.str(topic).i32(*partition);
        }
        self.journal.append(&record.0)?;
        for (topic, partition) in partitions {
            self.remove_partition(group, topic, *partition);
        }
        Ok(())
    }

    /// Forgets groups that were not used for so long: no member, no commit, and this broker was there to see it. Called
    /// now and then; returns how many went.
    pub fn expire(
        &mut self,
        retention_ms: i64,
        now_ms: i64,
        has_members: impl Fn(&str) -> bool,
    ) -> Result<usize, JournalError> {
        let opened_ms = *self.opened_ms.get_or_insert(now_ms);
        let mut unused = Vec::new();
        for (group, topics) in &self.groups {
            if has_members(group) {
                self.seen_ms.insert(group.clone(), now_ms);
                continue;
            }
            let committed_ms = topics.values().flat_map(BTreeMap::values).map(|committed| committed.commit_ms).max();
            let seen_ms = self.seen_ms.get(group).copied();
            let used_ms = committed_ms.max(seen_ms).unwrap_or(opened_ms).max(opened_ms);
            if now_ms.saturating_sub(used_ms) >= retention_ms {
                unused.push(group.clone());
            }
        }
        for group in &unused {
            self.delete_group(group)?;
        }
        Ok(unused.len())
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

    fn remove_partition(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.groups.get_mut(group) else { return };
        let Some(partitions) = topics.get_mut(topic) else { return };
        self.count -= usize::from(partitions.remove(&partition).is_some());
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.remove_group(group);
        }
    }

    fn remove_group(&mut self, group: &str) {
        self.seen_ms.remove(group);
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
            4 => {
                let group = fields.str()?;
                while !fields.is_empty() {
                    let topic = fields.str()?;
                    self.remove_partition(group, topic, fields.i32()?);
                }
            }
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

    const ROOM: usize = 1_000;

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
                .commit("a", vec![("t".to_owned(), 0, committed(round)), ("u".to_owned(), 1, committed(7))], ROOM)
                .unwrap();
        }
        offsets.commit("b", vec![("t".to_owned(), 3, committed(1))], ROOM).unwrap();
        offsets.commit("gone", vec![("t".to_owned(), 3, committed(1))], ROOM).unwrap();
        assert!(offsets.delete_group("gone").unwrap());
        assert!(!offsets.delete_group("gone").unwrap());
        offsets.delete_topic("u").unwrap();
        offsets.commit("b", vec![("t".to_owned(), 4, committed(1)), ("v".to_owned(), 0, committed(2))], ROOM).unwrap();
        let gone = [("t".to_owned(), 4), ("v".to_owned(), 0), ("never".to_owned(), 0)];
        offsets.delete_partitions("b", &gone).unwrap();
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

    #[test]
    fn a_full_table_refuses_new_offsets_and_takes_those_that_move() {
        // Once, whoever filled the table stopped every other group from committing where it was.
        let mut offsets = Offsets::memory();
        let at = |partition, offset| vec![("t".to_owned(), partition, committed(offset))];
        offsets.commit("mine", at(0, 1), 2).unwrap();
        offsets.commit("filler", at(0, 1), 2).unwrap();
        assert!(matches!(offsets.commit("filler", at(1, 1), 2), Err(OffsetsError::Full { limit: 2 })));
        assert!(offsets.commit("mine", at(0, 2), 2).is_ok());
        assert!(offsets.commit("with members", at(0, 2), 4).is_ok());
        assert_eq!(offsets.get("mine", "t", 0).unwrap().offset, 2);
    }

    #[test]
    fn offsets_of_a_group_expire_when_nobody_used_it_for_the_retention() {
        let mut offsets = Offsets::memory();
        let at = |commit_ms| vec![("t".to_owned(), 0, Committed { commit_ms, ..committed(1) })];
        for (group, commit_ms) in [("old", 0), ("recent", 150), ("alive", 0)] {
            offsets.commit(group, at(commit_ms), ROOM).unwrap();
        }
        let mut left = |now_ms: i64, alive: &str| {
            offsets.expire(100, now_ms, |group| group == alive).unwrap();
            let mut left: Vec<String> = offsets.groups().map(str::to_owned).collect();
            left.sort();
            left.join(" ")
        };
        // What happened before the broker looked for the first time is not held against anybody.
        for (now_ms, alive, expected) in [
            (100, "alive", "alive old recent"),
            (199, "alive", "alive old recent"),
            (200, "alive", "alive recent"),
            (250, "", "alive"),
            (299, "", "alive"),
            (300, "", ""),
        ] {
            assert_eq!(left(now_ms, alive), expected, "at {now_ms}");
        }
    }
}

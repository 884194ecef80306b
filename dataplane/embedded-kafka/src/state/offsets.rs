//! Committed offsets of all groups, durable before the commit is answered.
//!
//! They belong to a topic's id, not to its name: a topic that was deleted takes them along, without a word in this file
//! that could become durable before or after the catalogue's.
//!
//! ```text
//! offsets.log: a journal (see journal.rs) of these payloads, the later one wins
//!   1 commit   of older versions: as 4, without ids; it belongs to the topic that has the name
//!   2 deleted  group
//!   3 topic    of older versions: name; its offsets went with it
//!   4 commit   group | (topic | topic id 16 bytes | partition i32 | offset i64 | leader epoch i32 | commit time ms i64
//!              | metadata)*
//!   5 gone     group | (topic | partition i32)*: single offsets deleted
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use disk::Disk;
use foldhash::HashMap;

use crate::state::catalogue::{Catalogue, TopicId};
use crate::storage::journal::{FieldReader, FieldWriter, Journal, JournalError, record_bytes};
use crate::storage::syncer::{SyncPoint, Syncer};

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next record to read.
    pub offset: i64,
    pub leader_epoch: i32,
    pub commit_ms: i64,
    pub metadata: String,
}

/// What a group committed for one topic.
struct OfTopic {
    id: TopicId,
    partitions: BTreeMap<i32, Committed>,
}

type OfGroup = BTreeMap<String, OfTopic>;

/// Of a topic that is not in the catalogue: in null mode, and in records of older versions until they are read.
const NO_ID: TopicId = [0; 16];

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

    /// Reads the journal, forgets what belongs to no topic any more, compacts it when something in it is dead.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf, catalogue: &Catalogue) -> Result<Offsets, JournalError> {
        let mut offsets = Offsets::memory();
        let journal = Journal::open(disk, path, |payload| offsets.replay(payload, catalogue))?;
        offsets.journal = journal;
        let living = offsets.living_records();
        if offsets.journal.is_longer_than(living.iter().map(|record| record_bytes(record)).sum()) {
            offsets.journal.compact_if_possible(&living);
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
        self.groups.get(group)?.get(topic)?.partitions.get(&partition)
    }

    /// Everything a group has committed, by topic and partition.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (&str, i32, &Committed)> {
        self.groups.get(group).into_iter().flatten().flat_map(|(topic, of_topic)| {
            of_topic.partitions.iter().map(move |(partition, committed)| (topic.as_str(), *partition, committed))
        })
    }

    /// Commits all of these or none. Durable after the next `request_sync`. A partition without an offset gets one only
    /// while there are fewer than `room` of all groups.
    pub fn commit(
        &mut self,
        group: &str,
        commits: Vec<(String, i32, Committed)>,
        room: usize,
        catalogue: &Catalogue,
    ) -> Result<(), OffsetsError> {
        if commits.is_empty() {
            return Ok(());
        }
        let fresh = commits.iter().filter(|(topic, partition, _)| self.get(group, topic, *partition).is_none()).count();
        if fresh > 0 && self.count + fresh > room {
            return Err(OffsetsError::Full { limit: room });
        }
        let id_of = |topic: &str| catalogue.topic(topic).map_or(NO_ID, |known| known.id);
        let mut record = FieldWriter::default();
        record.u8(4).str(group);
        for (topic, partition, committed) in &commits {
            put_committed(&mut record, topic, &id_of(topic), *partition, committed);
        }
        self.journal.append(&record.0)?;
        for (topic, partition, committed) in commits {
            let id = id_of(&topic);
            self.insert(group, topic, id, partition, committed);
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
        record.u8(5).str(group);
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
            let committed_ms = topics
                .values()
                .flat_map(|of_topic| of_topic.partitions.values())
                .map(|committed| committed.commit_ms)
                .max();
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

    /// Forgets what all groups committed for a deleted topic. The catalogue's word makes it durable.
    pub fn delete_topic(&mut self, topic: &str) {
        self.remove_topic(topic);
    }

    /// Asks for everything changed so far to become durable.
    pub fn request_sync(&self, syncer: Option<&Syncer>) -> Option<SyncPoint> {
        self.journal.request_sync(syncer)
    }

    /// Compacts the journal when it has grown far beyond what lives.
    pub fn compact_if_grown(&mut self) -> Result<(), JournalError> {
        if self.journal.wants_compaction() {
            let living = self.living_records();
            self.journal.compact(&living)?;
        }
        Ok(())
    }

    fn insert(&mut self, group: &str, topic: String, id: TopicId, partition: i32, committed: Committed) {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), OfGroup::new());
        }
        let of_group = self.groups.get_mut(group).expect("inserted above");
        let of_topic = of_group.entry(topic).or_insert_with(|| OfTopic { id, partitions: BTreeMap::new() });
        assert_eq!(of_topic.id, id, "offsets of a deleted topic went with it");
        if of_topic.partitions.insert(partition, committed).is_none() {
            self.count += 1;
        }
    }

    fn remove_partition(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.groups.get_mut(group) else { return };
        let Some(of_topic) = topics.get_mut(topic) else { return };
        self.count -= usize::from(of_topic.partitions.remove(&partition).is_some());
        if of_topic.partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.remove_group(group);
        }
    }

    fn remove_group(&mut self, group: &str) {
        self.seen_ms.remove(group);
        if let Some(topics) = self.groups.remove(group) {
            self.count -= topics.values().map(|of_topic| of_topic.partitions.len()).sum::<usize>();
        }
    }

    fn remove_topic(&mut self, topic: &str) {
        let count = &mut self.count;
        self.groups.retain(|_, topics| {
            *count -= topics.remove(topic).map_or(0, |of_topic| of_topic.partitions.len());
            !topics.is_empty()
        });
    }

    fn living_records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::with_capacity(self.groups.len());
        for (group, topics) in &self.groups {
            // One record per topic, so that a record stays far below its limit.
            for (topic, of_topic) in topics {
                let mut record = FieldWriter::default();
                record.u8(4).str(group);
                for (partition, committed) in &of_topic.partitions {
                    put_committed(&mut record, topic, &of_topic.id, *partition, committed);
                    if record.0.len() > 1024 * 1024 {
                        records.push(std::mem::take(&mut record.0));
                        record.u8(4).str(group);
                    }
                }
                records.push(record.0);
            }
        }
        records
    }

    /// Only what belongs to a topic that is there: one of its name may have come and gone, or come and not stayed.
    fn replay(&mut self, payload: &[u8], catalogue: &Catalogue) -> Result<(), String> {
        let mut fields = FieldReader(payload);
        match fields.u8()? {
            kind @ (1 | 4) => {
                let group = fields.str()?.to_owned();
                while !fields.is_empty() {
                    let topic = fields.str()?.to_owned();
                    let id = if kind == 4 { fields.array()? } else { NO_ID };
                    let partition = fields.i32()?;
                    let committed = Committed {
                        offset: fields.i64()?,
                        leader_epoch: fields.i32()?,
                        commit_ms: fields.i64()?,
                        metadata: fields.str()?.to_owned(),
                    };
                    let living = catalogue.topic(&topic).map(|known| known.id);
                    if let Some(id) = living.filter(|living| id == NO_ID || id == *living) {
                        self.insert(&group, topic, id, partition, committed);
                    }
                }
            }
            2 => self.remove_group(fields.str()?),
            3 => self.remove_topic(fields.str()?),
            5 => {
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

fn put_committed(out: &mut FieldWriter, topic: &str, id: &TopicId, partition: i32, committed: &Committed) {
    out.str(topic).raw(id).i32(partition).i64(committed.offset).i32(committed.leader_epoch);
    out.i64(committed.commit_ms).str(&committed.metadata);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::catalogue::NewTopic;
    use disk::{Open, SimulatedDisk};

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

    fn create(catalogue: &mut Catalogue, name: &str, id: u8) {
        let wanted = NewTopic { name: name.to_owned(), partitions: 4, replication_factor: 1, ..NewTopic::default() };
        let topic = catalogue.plan(&wanted, [id; 16]).unwrap();
        catalogue.create(topic).unwrap();
    }

    #[test]
    fn commits_deletions_and_compaction_survive_reopening() {
        let disk = Arc::new(SimulatedDisk::new(1));
        let path = PathBuf::from("/offsets.log");
        let mut catalogue = Catalogue::memory(4);
        create(&mut catalogue, "t", 1);
        create(&mut catalogue, "u", 2);
        let open = |catalogue: &Catalogue| Offsets::open(disk.clone(), path.clone(), catalogue).unwrap();
        let mut offsets = open(&catalogue);
        for round in 0..50 {
            let commits = vec![("t".to_owned(), 0, committed(round)), ("u".to_owned(), 1, committed(7))];
            offsets.commit("a", commits, ROOM, &catalogue).unwrap();
        }
        offsets.commit("b", vec![("t".to_owned(), 3, committed(1))], ROOM, &catalogue).unwrap();
        offsets.commit("gone", vec![("t".to_owned(), 3, committed(1))], ROOM, &catalogue).unwrap();
        assert!(offsets.delete_group("gone").unwrap());
        assert!(!offsets.delete_group("gone").unwrap());
        catalogue.delete("u").unwrap();
        offsets.delete_topic("u");
        create(&mut catalogue, "v", 3);
        let more = vec![("t".to_owned(), 2, committed(1)), ("v".to_owned(), 0, committed(2))];
        offsets.commit("b", more, ROOM, &catalogue).unwrap();
        let gone = [("t".to_owned(), 2), ("v".to_owned(), 0), ("never".to_owned(), 0)];
        offsets.delete_partitions("b", &gone).unwrap();
        let expected = ["a t 0 49 m49".to_owned(), "b t 3 1 m1".to_owned()];
        assert_eq!(all(&offsets), expected);
        drop(offsets);
        let grown = disk.look_at(&path).unwrap().bytes;
        assert_eq!(all(&open(&catalogue)), expected);
        assert!(disk.look_at(&path).unwrap().bytes < grown / 10, "compacted on start");
        let offsets = open(&catalogue);
        assert_eq!(all(&offsets), expected);
        assert_eq!(offsets.count, 2);
    }

    #[test]
    fn a_full_table_refuses_new_offsets_and_takes_those_that_move() {
        // Once, whoever filled the table stopped every other group from committing where it was.
        let (mut offsets, none) = (Offsets::memory(), Catalogue::memory(1));
        let at = |partition, offset| vec![("t".to_owned(), partition, committed(offset))];
        offsets.commit("mine", at(0, 1), 2, &none).unwrap();
        offsets.commit("filler", at(0, 1), 2, &none).unwrap();
        assert!(matches!(offsets.commit("filler", at(1, 1), 2, &none), Err(OffsetsError::Full { limit: 2 })));
        assert!(offsets.commit("mine", at(0, 2), 2, &none).is_ok());
        assert!(offsets.commit("with members", at(0, 2), 4, &none).is_ok());
        assert_eq!(offsets.get("mine", "t", 0).unwrap().offset, 2);
    }

    #[test]
    fn offsets_of_a_group_expire_when_nobody_used_it_for_the_retention() {
        let (mut offsets, none) = (Offsets::memory(), Catalogue::memory(1));
        let at = |commit_ms| vec![("t".to_owned(), 0, Committed { commit_ms, ..committed(1) })];
        for (group, commit_ms) in [("old", 0), ("recent", 150), ("alive", 0)] {
            offsets.commit(group, at(commit_ms), ROOM, &none).unwrap();
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

    #[test]
    fn offsets_go_with_their_topic_and_come_back_with_it_and_never_to_another_of_its_name() {
        let disk = Arc::new(SimulatedDisk::new(1));
        let path = PathBuf::from("/offsets.log");
        let (mut first, mut second) = (Catalogue::memory(4), Catalogue::memory(4));
        create(&mut first, "t", 1);
        create(&mut second, "t", 2);
        let mut offsets = Offsets::open(disk.clone(), path.clone(), &first).unwrap();
        offsets
            .commit("g", vec![("t".to_owned(), 0, committed(5)), ("t".to_owned(), 1, committed(6))], ROOM, &first)
            .unwrap();
        offsets.delete_topic("t");
        assert_eq!(all(&offsets), Vec::<String>::new());
        // The deletion did not become durable, and the catalogue still has the topic.
        let mut offsets = Offsets::open(disk.clone(), path.clone(), &first).unwrap();
        assert_eq!(all(&offsets), ["g t 0 5 m5", "g t 1 6 m6"]);
        offsets.delete_topic("t");
        offsets.commit("g", vec![("t".to_owned(), 0, committed(1))], ROOM, &second).unwrap();
        // Neither did the second topic, but what was committed for it did.
        let written = disk.look_at(&path).unwrap().bytes;
        let file = disk.open(&path, Open::Existing).unwrap();
        let content = disk.read(&file, 0, written as usize).unwrap();
        assert_eq!(all(&Offsets::open(disk.clone(), path.clone(), &first).unwrap()), ["g t 0 5 m5", "g t 1 6 m6"]);
        let file = disk.open(&path, Open::Empty).unwrap();
        disk.write_all(&file, content, Default::default(), 0).unwrap();
        let offsets = Offsets::open(disk.clone(), path.clone(), &second).unwrap();
        assert_eq!((all(&offsets), offsets.count), (vec!["g t 0 1 m1".to_owned()], 1));
        assert_eq!(all(&Offsets::open(disk, path, &Catalogue::memory(4)).unwrap()), Vec::<String>::new());
    }
}

//! The durable catalogue: which topics exist, with which id, partitions and options; and the few other facts about
//! the broker that must survive it.
//!
//! ```text
//! topics.log: a journal (see journal.rs) of these payloads, the later one wins
//!   1 topic        id 16 bytes | name | partitions i32 | option count i32 | (name, value)*
//!   2 deleted      id; kept until nothing of the topic is in logs/ any more
//!   3 producer ids next i64: ids below it may have been handed out
//!   4 log start    id | partition i32 | offset i64: records before it were deleted on request
//!   5 cluster id   string
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use disk::Disk;
use kafka_wire::error_code::ErrorCode;

use crate::limits::{NODE_ID, PARTITIONS_MAX, PRODUCER_ID_BLOCK, TOPIC_NAME_BYTES_MAX};
use crate::refusal::Refusal;
use crate::state::configs::{self, Overrides};
use crate::storage::journal::{FieldReader, FieldWriter, Journal, JournalError, record_bytes};
use crate::storage::syncer::{SyncPoint, SyncState, Syncer};

/// Identity of a topic; another topic of the same name has another one (KIP-516).
pub type TopicId = [u8; 16];

/// One topic as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMeta {
    pub id: TopicId,
    pub name: String,
    pub partitions: i32,
    pub overrides: Overrides,
    /// Partitions whose first records were deleted on request.
    pub start_offsets: BTreeMap<i32, i64>,
}

impl From<JournalError> for Refusal {
    fn from(err: JournalError) -> Refusal {
        tracing::error!(%err, "the catalogue cannot be written");
        Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, err.to_string())
    }
}

/// What a client wants a new topic to be.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// −1: the broker's default.
    pub partitions: i32,
    /// −1: the broker's default, 1.
    pub replication_factor: i16,
    /// (partition, brokers), instead of the two numbers above.
    pub assignments: Vec<(i32, Vec<i32>)>,
    pub overrides: Overrides,
}

/// Catalogue and its journal.
pub struct Catalogue {
    topics: BTreeMap<String, TopicMeta>,
    /// Deleted topics of which files may be left, in that order.
    deleted: Vec<TopicId>,
    partition_count: usize,
    cluster_id: Option<String>,
    producer_id_next: i64,
    producer_id_reserved: i64,
    /// When the reservation of the block that ids come from is durable; None: it is.
    reservation: Option<SyncPoint>,
    default_partitions: i32,
    journal: Journal,
}

impl Catalogue {
    /// A catalogue that forgets: null mode.
    pub fn memory(default_partitions: i32) -> Catalogue {
        Catalogue {
            topics: BTreeMap::new(),
            deleted: Vec::new(),
            partition_count: 0,
            cluster_id: None,
            producer_id_next: 0,
            producer_id_reserved: 0,
            reservation: None,
            default_partitions,
            journal: Journal::memory(),
        }
    }

    /// Reads the journal, compacts it when something in it is dead.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf, default_partitions: i32) -> Result<Catalogue, JournalError> {
        let mut catalogue = Catalogue::memory(default_partitions);
        let journal = Journal::open(disk, path, |payload| catalogue.replay(payload))?;
        catalogue.journal = journal;
        catalogue.producer_id_next = catalogue.producer_id_reserved;
        let living = catalogue.living_records();
        if catalogue.journal.is_longer_than(living.iter().map(|record| record_bytes(record)).sum()) {
            catalogue.journal.compact_if_possible(&living);
        }
        Ok(catalogue)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &TopicMeta> {
        self.topics.values()
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&TopicMeta> {
        self.topics.get(name)
    }

    /// Checks everything about a new topic without making it.
    pub fn plan(&self, wanted: &NewTopic, id: TopicId) -> Result<TopicMeta, Refusal> {
        let NewTopic { name, overrides, .. } = wanted;
        check_name(name)?;
        if self.topics.contains_key(name) {
            return Err(Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, format!("topic {name:?} already exists")));
        }
        let partitions = self.plan_partitions(wanted)?;
        for (option, value) in overrides {
            configs::validate(option, value).map_err(|why| Refusal::new(ErrorCode::INVALID_CONFIG, why))?;
        }
        self.check_room(partitions)?;
        Ok(TopicMeta {
            id,
            name: name.clone(),
            partitions,
            overrides: overrides.clone(),
            start_offsets: BTreeMap::new(),
        })
    }

    fn plan_partitions(&self, wanted: &NewTopic) -> Result<i32, Refusal> {
        let NewTopic { partitions, replication_factor, assignments, .. } = wanted;
        if !assignments.is_empty() {
            if *partitions != -1 || *replication_factor != -1 {
                let message = "both a manual assignment and a number of partitions or replicas were given";
                return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
            }
            check_assignment(0, assignments)?;
            return i32::try_from(assignments.len())
                .map_err(|_| Refusal::new(ErrorCode::INVALID_PARTITIONS, "too many partitions"));
        }
        match *replication_factor {
            -1 | 1 => {}
            0 | i16::MIN..-1 => {
                let message = "replication factor must be larger than 0, or -1 to use the default value";
                return Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
            }
            more => {
                let message = format!("unable to replicate the partition {more} time(s): only 1 broker is registered");
                return Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
            }
        }
        match *partitions {
            -1 => Ok(self.default_partitions),
            0 | i32::MIN..-1 => {
                let message = "number of partitions must be larger than 0, or -1 to use the default value";
                Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, message))
            }
            some => Ok(some),
        }
    }

    /// Makes a planned topic. Durable after the next `request_sync`.
    pub fn create(&mut self, topic: TopicMeta) -> Result<(), Refusal> {
        self.journal.append(&topic_record(&topic))?;
        self.partition_count += topic.partitions as usize;
        self.topics.insert(topic.name.clone(), topic);
        Ok(())
    }

    /// Deletes a topic.
    pub fn delete(&mut self, name: &str) -> Result<TopicMeta, Refusal> {
        let Some(topic) = self.topics.get(name) else { return Err(unknown_topic(name)) };
        self.journal.append(&FieldWriter::default().u8(2).raw(&topic.id).0)?;
        self.deleted.push(topic.id);
        self.partition_count -= topic.partitions as usize;
        Ok(self.topics.remove(name).expect("looked up above"))
    }

    /// Checks a growth to `count` partitions; `assignments` are the brokers of each new one, if the client says so.
    pub fn plan_growth(&self, name: &str, count: i32, assignments: Option<&[Vec<i32>]>) -> Result<(), Refusal> {
        let topic = self.topics.get(name).ok_or_else(|| unknown_topic(name))?;
        let refuse = |message: String| Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, message));
        if count == topic.partitions {
            return refuse(format!("topic already has {count} partition(s)"));
        }
        if count < topic.partitions {
            return refuse(format!("the topic has {} partition(s), which is more than {count}", topic.partitions));
        }
        let grown = count - topic.partitions;
        if let Some(assignments) = assignments {
            if assignments.len() != grown as usize {
                let message = format!("{grown} new partition(s) and {} assignment(s)", assignments.len());
                return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
            }
            let numbered: Vec<_> = (topic.partitions..).zip(assignments.iter().cloned()).collect();
            check_assignment(topic.partitions, &numbered)?;
        }
        self.check_room(grown)
    }

    /// Replaces what the catalogue says about an existing topic: more partitions, other options, later starts.
    pub fn update(&mut self, name: &str, change: impl FnOnce(&mut TopicMeta)) -> Result<&TopicMeta, Refusal> {
        let Some(topic) = self.topics.get_mut(name) else { return Err(unknown_topic(name)) };
        let mut changed = topic.clone();
        change(&mut changed);
        self.journal.append(&topic_record(&changed))?;
        for (partition, offset) in &changed.start_offsets {
            if topic.start_offsets.get(partition) != Some(offset) {
                self.journal.append(&start_record(&changed.id, *partition, *offset))?;
            }
        }
        self.partition_count = self.partition_count - topic.partitions as usize + changed.partitions as usize;
        *topic = changed;
        Ok(topic)
    }

    /// A partition begins later from now on; its files may go when this is durable.
    pub fn set_start(&mut self, name: &str, partition: i32, offset: i64) -> Result<(), Refusal> {
        let Some(topic) = self.topics.get_mut(name) else { return Err(unknown_topic(name)) };
        if topic.start_offsets.get(&partition) != Some(&offset) {
            self.journal.append(&start_record(&topic.id, partition, offset))?;
            topic.start_offsets.insert(partition, offset);
        }
        Ok(())
    }

    /// Deleted topics of which files may be left.
    pub fn deleted(&self) -> Vec<TopicId> {
        self.deleted.clone()
    }

    /// Nothing is left of a deleted topic: the next compaction forgets it.
    pub fn forget_deleted(&mut self, id: &TopicId) {
        self.deleted.retain(|deleted| deleted != id);
    }

    /// A producer id nobody had before. True: the reservation of its block is not durable, wait for a sync before handing
    /// it out.
    pub fn next_producer_id(&mut self) -> Result<(i64, bool), Refusal> {
        if self.producer_id_next >= self.producer_id_reserved {
            let reserved = self.producer_id_reserved + PRODUCER_ID_BLOCK;
            self.journal.append(&FieldWriter::default().u8(3).i64(reserved).0)?;
            self.producer_id_reserved = reserved;
            self.reservation = self.journal.point();
        }
        if self.reservation.as_ref().is_some_and(|point| point.state() == SyncState::Durable) {
            self.reservation = None;
        }
        self.producer_id_next += 1;
        Ok((self.producer_id_next - 1, self.reservation.is_some()))
    }

    /// The configured id, else the one kept, else `fresh`, which is kept from now on.
    pub fn settle_cluster_id(&mut self, configured: &str, fresh: String) -> Result<String, JournalError> {
        let settled = match (&self.cluster_id, configured) {
            (Some(kept), "") => kept.clone(),
            (None, "") => fresh,
            (_, configured) => configured.to_owned(),
        };
        if self.cluster_id.as_deref() != Some(&settled) {
            self.journal.append(&FieldWriter::default().u8(5).str(&settled).0)?;
            self.cluster_id = Some(settled.clone());
        }
        Ok(settled)
    }

    /// Asks for everything changed so far to become durable.
    pub fn request_sync(&self, syncer: Option<&Syncer>) -> Option<SyncPoint> {
        self.journal.request_sync(syncer)
    }

    /// The point at which everything changed so far is durable, without asking for it.
    pub fn point(&self) -> Option<SyncPoint> {
        self.journal.point()
    }

    /// Compacts the journal when it has grown far beyond what lives.
    pub fn compact_if_grown(&mut self) -> Result<(), JournalError> {
        if self.journal.wants_compaction() {
            let living = self.living_records();
            self.journal.compact(&living)?;
        }
        Ok(())
    }

    fn check_room(&self, more: i32) -> Result<(), Refusal> {
        let after = self.partition_count + usize::try_from(more).unwrap_or(0);
        if after > PARTITIONS_MAX {
            let message = format!("{after} partitions on this broker would exceed {PARTITIONS_MAX}");
            return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
        }
        Ok(())
    }

    fn living_records(&self) -> Vec<Vec<u8>> {
        let mut records = vec![FieldWriter::default().u8(3).i64(self.producer_id_reserved).0.clone()];
        if let Some(cluster_id) = &self.cluster_id {
            records.push(FieldWriter::default().u8(5).str(cluster_id).0.clone());
        }
        records.extend(self.deleted.iter().map(|id| FieldWriter::default().u8(2).raw(id).0.clone()));
        for topic in self.topics.values() {
            records.push(topic_record(topic));
            for (partition, offset) in &topic.start_offsets {
                records.push(start_record(&topic.id, *partition, *offset));
            }
        }
        records
    }

    fn replay(&mut self, payload: &[u8]) -> Result<(), String> {
        let mut fields = FieldReader(payload);
        match fields.u8()? {
            1 => {
                let id = fields.array()?;
                let name = fields.str()?.to_owned();
                let partitions = fields.i32()?;
                if partitions < 1 || partitions as usize > PARTITIONS_MAX {
                    return Err(format!("topic {name:?} with {partitions} partitions"));
                }
                let mut overrides = Overrides::new();
                for _ in 0..fields.i32()? {
                    let option = fields.str()?.to_owned();
                    overrides.insert(option, fields.str()?.to_owned());
                }
                let start_offsets = match self.topics.remove(&name) {
                    Some(old) => {
                        self.partition_count -= old.partitions as usize;
                        if old.id == id { old.start_offsets } else { BTreeMap::new() }
                    }
                    None => BTreeMap::new(),
                };
                self.partition_count += partitions as usize;
                self.topics.insert(name.clone(), TopicMeta { id, name, partitions, overrides, start_offsets });
            }
            2 => {
                let id: TopicId = fields.array()?;
                self.deleted.push(id);
                let name = self.topics.values().find(|topic| topic.id == id).map(|topic| topic.name.clone());
                if let Some(topic) = name.and_then(|name| self.topics.remove(&name)) {
                    self.partition_count -= topic.partitions as usize;
                }
            }
            3 => self.producer_id_reserved = self.producer_id_reserved.max(fields.i64()?),
            4 => {
                let id: TopicId = fields.array()?;
                let partition = fields.i32()?;
                let offset = fields.i64()?;
                if let Some(topic) = self.topics.values_mut().find(|topic| topic.id == id) {
                    topic.start_offsets.insert(partition, offset);
                }
            }
            5 => self.cluster_id = Some(fields.str()?.to_owned()),
            other => return Err(format!("unknown record type {other}")),
        }
        Ok(())
    }
}

/// Random, never the zero id.
pub fn fresh_topic_id() -> TopicId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&runtime::clock::seed().to_be_bytes());
    id[8..].copy_from_slice(&runtime::clock::seed().to_be_bytes());
    id[15] |= 1;
    id
}

/// What Kafka says of a name that does not exist.
pub fn unknown_topic(name: &str) -> Refusal {
    Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("topic {name:?} does not exist"))
}

/// Kafka's rule: 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        let shown: String = name.chars().take(TOPIC_NAME_BYTES_MAX).collect();
        Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, format!("topic name {shown:?} is illegal: {why}")))
    };
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return refuse("it is longer than 249 bytes");
    }
    if matches!(name, "." | "..") {
        return refuse("it cannot be \".\" or \"..\"");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return refuse("it contains a character other than ASCII letters, digits, '.', '_' and '-'");
    }
    Ok(())
}

fn check_assignment(first: i32, assignments: &[(i32, Vec<i32>)]) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    let mut indexes: Vec<i32> = assignments.iter().map(|(index, _)| *index).collect();
    indexes.sort_unstable();
    if !indexes.iter().copied().eq((first..).take(indexes.len())) {
        return refuse("partitions of a manual assignment must be consecutive and without repetition".to_owned());
    }
    for (index, brokers) in assignments {
        if brokers.as_slice() != [NODE_ID] {
            return refuse(format!("partition {index} is assigned to {brokers:?}, the only broker is {NODE_ID}"));
        }
    }
    Ok(())
}

fn topic_record(topic: &TopicMeta) -> Vec<u8> {
    let mut out = FieldWriter::default();
    out.u8(1).raw(&topic.id).str(&topic.name).i32(topic.partitions);
    out.i32(i32::try_from(topic.overrides.len()).expect("one per known option name"));
    for (option, value) in &topic.overrides {
        out.str(option).str(value);
    }
    out.0
}

fn start_record(id: &TopicId, partition: i32, offset: i64) -> Vec<u8> {
    let mut out = FieldWriter::default();
    out.u8(4).raw(id).i32(partition).i64(offset);
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
        NewTopic { name: name.to_owned(), partitions, replication_factor, ..NewTopic::default() }
    }

    fn code(result: Result<TopicMeta, Refusal>) -> ErrorCode {
        result.map_or_else(|refusal| refusal.code, |_| ErrorCode::NONE)
    }

    #[test]
    fn a_new_topic_is_refused_as_kafka_refuses_it() {
        let mut catalogue = Catalogue::memory(4);
        let taken = catalogue.plan(&wanted("taken", 1, 1), [1; 16]).unwrap();
        catalogue.create(taken).unwrap();
        let assigned = |assignments: Vec<(i32, Vec<i32>)>| NewTopic { assignments, ..wanted("t", -1, -1) };
        let option = |name: &str, value: &str| NewTopic {
            overrides: Overrides::from([(name.to_owned(), value.to_owned())]),
            ..wanted("t", 1, 1)
        };
        let long = "x".repeat(250);
        for (row, (topic, expected)) in [
            (wanted("t", 4, 1), ErrorCode::NONE),
            (wanted("t", -1, -1), ErrorCode::NONE),
            (wanted("taken", 4, 1), ErrorCode::TOPIC_ALREADY_EXISTS),
            (wanted("t", 4, 3), ErrorCode::INVALID_REPLICATION_FACTOR),
            (wanted("t", 4, 0), ErrorCode::INVALID_REPLICATION_FACTOR),
            (wanted("t", 0, 1), ErrorCode::INVALID_PARTITIONS),
            (wanted("t", -7, 1), ErrorCode::INVALID_PARTITIONS),
            (wanted("t", i32::MAX, 1), ErrorCode::POLICY_VIOLATION),
            (wanted("", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (wanted("..", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (wanted("a/b", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (wanted(&long, 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (assigned(vec![(0, vec![1]), (1, vec![1])]), ErrorCode::NONE),
            (assigned(vec![(0, vec![1]), (2, vec![1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (assigned(vec![(0, vec![1, 2])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (NewTopic { partitions: 2, ..assigned(vec![(0, vec![1])]) }, ErrorCode::INVALID_REQUEST),
            (option("retention.ms", "5"), ErrorCode::NONE),
            (option("retention.ms", "x"), ErrorCode::INVALID_CONFIG),
            (option("no.such", "5"), ErrorCode::INVALID_CONFIG),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(code(catalogue.plan(&topic, [2; 16])), expected, "row {row}: {topic:?}");
        }
    }

    #[test]
    fn everything_is_there_after_reopening_and_producer_ids_never_repeat() {
        let disk = Arc::new(disk::SimulatedDisk::new(1));
        let mut seen = Vec::new();
        let mut expected: Vec<TopicMeta> = Vec::new();
        for round in 0..4_u8 {
            let mut catalogue = Catalogue::open(disk.clone(), PathBuf::from("/topics.log"), 4).unwrap();
            assert_eq!(catalogue.topics().cloned().collect::<Vec<_>>(), expected);
            assert_eq!(catalogue.settle_cluster_id("", format!("fresh{round}")).unwrap(), "fresh0");
            let name = format!("t{round}");
            let topic = catalogue.plan(&wanted(&name, 2, 1), [round; 16]).unwrap();
            catalogue.create(topic).unwrap();
            catalogue
                .update(&name, |topic| {
                    topic.partitions = 3;
                    topic.overrides.insert("retention.ms".to_owned(), "7".to_owned());
                    topic.start_offsets.insert(1, 40);
                })
                .unwrap();
            if round == 2 {
                catalogue.delete("t0").unwrap();
            }
            for _ in 0..1500 {
                seen.push(catalogue.next_producer_id().unwrap().0);
            }
            expected = catalogue.topics().cloned().collect();
        }
        let ids = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), ids);
    }

    #[test]
    fn a_producer_id_waits_for_its_block_as_long_as_the_reservation_is_not_durable_and_after_it_failed() {
        for fails in [false, true] {
            let disk = Arc::new(disk::SimulatedDisk::new(1));
            let mut catalogue = Catalogue::open(disk.clone(), PathBuf::from("/topics.log"), 4).unwrap();
            let syncer = Syncer::new(disk.clone());
            if fails {
                disk.fail_next(|operation| matches!(operation, disk::Operation::Persist { .. }), 5);
            }
            // The second comes while the first waits for the disk.
            assert_eq!(catalogue.next_producer_id().unwrap(), (0, true));
            assert_eq!(catalogue.next_producer_id().unwrap(), (1, true));
            let point = catalogue.request_sync(Some(&syncer)).unwrap();
            while disk.step() {}
            syncer.poll();
            assert_eq!(point.state(), if fails { SyncState::Failed } else { SyncState::Durable });
            assert_eq!(
                catalogue.next_producer_id().unwrap(),
                (2, fails),
                "handed out at once only from a durable block"
            );
        }
    }
}

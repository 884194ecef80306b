//! A topic's life: made, grown, given other options, written to, shortened, deleted.
//!
//! The catalogue hears of it first; open partitions follow. Whoever answers a client about it waits for
//! [`State::persist_catalogue`].

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;

use crate::clock::Now;
use crate::refusal::Refusal;
use crate::state::catalogue::{NewTopic, TopicId, TopicMeta};
use crate::state::configs::{Overrides, TopicOptions};
use crate::state::data_dir::DataDir;
use crate::state::partition::{Partition, Stored};
use crate::state::{OnDisk, State, whole};
use crate::storage::log::LogError;
use crate::storage::syncer::Syncer;

/// A topic with its open partitions.
pub struct Topic {
    pub options: TopicOptions,
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// Opens what the catalogue says there is.
    pub fn open(dir: &DataDir, meta: &TopicMeta, now: Now) -> Result<Topic, LogError> {
        let mut partitions = Vec::with_capacity(meta.partitions as usize);
        for index in 0..meta.partitions as usize {
            let start_offset = meta.start_offsets.get(&(index as i32)).copied().unwrap_or(0);
            partitions.push(Partition::open(dir.disk(), dir.partition(&meta.id, index), start_offset, None, now)?);
        }
        Ok(Topic { options: TopicOptions::parse(&meta.overrides), partitions })
    }
}

/// A topic that somebody appends to.
pub struct Appender<'a> {
    name: &'a str,
    topic: &'a mut Topic,
    syncer: &'a Syncer,
    dirty: &'a mut Vec<(String, usize)>,
}

impl Appender<'_> {
    pub fn options(&self) -> &TopicOptions {
        &self.topic.options
    }

    /// Whether it has this partition.
    pub fn has(&self, index: usize) -> bool {
        index < self.topic.partitions.len()
    }

    /// Appends one batch to a partition it has, which is looked after until all of it is durable.
    pub fn append(&mut self, index: usize, records: &Bytes, now: Now) -> Result<Stored, Refusal> {
        let Topic { options, partitions } = &mut *self.topic;
        let stored = partitions[index].append(records, options, self.syncer, now)?;
        if stored.newly_dirty {
            self.dirty.push((self.name.to_owned(), index));
        }
        Ok(stored)
    }
}

impl State {
    /// A partition that exists.
    pub fn partition(&mut self, topic: &str, index: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(index).ok()?)
    }

    /// A topic that exists, for appending.
    pub fn append_to<'a>(&'a mut self, name: &'a str) -> Option<Appender<'a>> {
        let OnDisk { syncer, .. } = self.on_disk.as_ref()?;
        Some(Appender { name, topic: self.topics.get_mut(name)?, syncer, dirty: &mut self.dirty })
    }

    /// Checks everything about a new topic without making it.
    pub fn plan_topic(&self, wanted: &NewTopic, id: TopicId) -> Result<TopicMeta, Refusal> {
        let meta = self.catalogue.plan(wanted, id)?;
        match self.names.collides(&meta.name) {
            Some(other) => {
                let message = format!("topic {:?} collides with existing topic {other:?}", meta.name);
                Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message))
            }
            None => Ok(meta),
        }
    }

    /// Makes a topic and opens its partitions.
    pub fn create_topic(&mut self, wanted: &NewTopic, id: TopicId, now: Now) -> Result<TopicMeta, Refusal> {
        let meta = self.plan_topic(wanted, id)?;
        self.catalogue.create(meta.clone())?;
        self.names.insert(&meta);
        self.open_partitions(&meta.name, now)?;
        Ok(meta)
    }

    /// Gives a topic more partitions, as `Catalogue::plan_growth` allowed.
    pub fn grow_topic(&mut self, name: &str, partitions: i32, now: Now) -> Result<(), Refusal> {
        self.catalogue.update(name, |meta| meta.partitions = partitions)?;
        self.open_partitions(name, now)
    }

    /// Gives a topic these options, which were validated.
    pub fn change_options(&mut self, name: &str, overrides: Overrides) -> Result<(), Refusal> {
        let options = TopicOptions::parse(&overrides);
        self.catalogue.update(name, |meta| meta.overrides = overrides)?;
        if let Some(topic) = self.topics.get_mut(name) {
            topic.options = options;
        }
        Ok(())
    }

    /// A partition begins at `start` from now on. Its files go when the catalogue says so durably.
    pub fn forget_before(&mut self, name: &str, index: i32, start: i64) -> Result<(), Refusal> {
        self.catalogue.set_start(name, index, start)?;
        let point = self.persist_catalogue();
        if let Some(partition) = self.partition(name, index) {
            partition.forget_before(start, point);
        }
        Ok(())
    }

    /// Forgets a topic and what was committed for it. Its files go when that is durable, whoever waits for its records is
    /// told: see `take_disturbed`.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), Refusal> {
        let meta = self.catalogue.delete(name)?;
        self.names.remove(&meta);
        self.offsets.delete_topic(name);
        let Some(topic) = self.topics.remove(name) else { return Ok(()) };
        let point = self.catalogue.point();
        for mut partition in topic.partitions {
            self.disturbed.append(&mut partition.fetches);
            self.deleted.push((point.clone(), partition));
        }
        Ok(())
    }

    /// Opens the partitions the catalogue says a topic has and that are not open yet. What is written to them is durable
    /// when the catalogue's word is.
    fn open_partitions(&mut self, name: &str, now: Now) -> Result<(), Refusal> {
        let (Some(meta), Some(OnDisk { dir, .. })) = (self.catalogue.topic(name), &self.on_disk) else { return Ok(()) };
        let options = TopicOptions::parse(&meta.overrides);
        let exists = self.catalogue.point();
        let topic = self.topics.entry(name.to_owned()).or_insert_with(|| Topic { options, partitions: Vec::new() });
        topic.options = options;
        for index in topic.partitions.len()..meta.partitions as usize {
            let path = dir.partition(&meta.id, index);
            let partition = Partition::open(dir.disk(), path, 0, exists.clone(), now)
                .map_err(|err| Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, whole(&err).to_string()))?;
            topic.partitions.push(partition);
        }
        Ok(())
    }
}

//! Which topic a topic id means. An id never comes to mean another topic, so what was learned holds for good.
//!
//! Learned from the Metadata answers that pass, and asked for when a client names one that it has from another proxy. Clients
//! may make ids up: those that nobody knows have a room of their own, so that they do not push out the others.
//!
//! And which topics there are in Kafka, for a while: before version 4 a client that asks for the metadata of one that is not
//! there has it made, and cannot say that it does not want that.

use std::rc::Rc;

use foldhash::{HashMap, HashSet};

use crate::limits::{TOPIC_IDS_MAX, UNKNOWN_TOPIC_IDS_MAX};
use crate::tenant::found::{NO_ID, TopicId};

/// One per shard.
#[derive(Debug, Default)]
pub struct TopicIds {
    names: HashMap<TopicId, Rc<str>>,
    unknown: HashSet<TopicId>,
    /// Whether a topic was there when a broker was last asked.
    there: HashMap<Rc<str>, bool>,
}

/// What brokers have to be asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    Id(TopicId),
    Name(Box<str>),
}

impl TopicIds {
    /// Whether it was asked about before, even if nobody knew it.
    pub fn knows(&self, id: &TopicId) -> bool {
        self.names.contains_key(id) || self.unknown.contains(id)
    }

    /// Its name in Kafka.
    pub fn name(&self, id: &TopicId) -> Option<&str> {
        self.names.get(id).map(|name| &**name)
    }

    pub fn learn(&mut self, id: TopicId, name: &str) {
        if id == NO_ID || self.name(&id) == Some(name) {
            return;
        }
        if self.names.len() >= TOPIC_IDS_MAX {
            self.names.clear();
        }
        self.unknown.remove(&id);
        self.names.insert(id, name.into());
    }

    /// The brokers were asked and do not know it. Forgotten by [`TopicIds::forget_unknown`]: it may be new.
    pub fn learn_unknown(&mut self, id: TopicId) {
        if id == NO_ID || self.knows(&id) {
            return;
        }
        if self.unknown.len() >= UNKNOWN_TOPIC_IDS_MAX {
            self.unknown.clear();
        }
        self.unknown.insert(id);
    }

    /// They are asked about again.
    pub fn forget_unknown(&mut self) {
        self.unknown.clear();
        self.there.clear();
    }

    /// Whether the topic is in Kafka; None: a broker has to be asked.
    pub fn is_there(&self, name: &str) -> Option<bool> {
        self.there.get(name).copied()
    }

    pub fn learn_there(&mut self, name: &str, is_there: bool) {
        if self.there.len() >= TOPIC_IDS_MAX {
            self.there.clear();
        }
        self.there.insert(name.into(), is_there);
    }

    /// Whether nothing has to be asked about this.
    pub fn has(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Id(id) => self.knows(id),
            Wanted::Name(name) => self.is_there(name).is_some(),
        }
    }

    /// Nobody could say.
    pub fn give_up(&mut self, wanted: &Wanted) {
        match wanted {
            Wanted::Id(id) => self.learn_unknown(*id),
            Wanted::Name(name) if self.is_there(name).is_none() => self.learn_there(name, false),
            Wanted::Name(_) => {}
        }
    }
}

//! Which topic a topic id means. An id never comes to mean another topic, so what was learned holds for good.
//!
//! Learned from the Metadata answers that pass, and asked for when a client names one that it has from another proxy.

use std::rc::Rc;

use foldhash::HashMap;

use crate::limits::TOPIC_IDS_MAX;
use crate::tenant::found::{NO_ID, TopicId};

/// One per shard.
#[derive(Debug, Default)]
pub struct TopicIds {
    names: HashMap<TopicId, Option<Rc<str>>>,
}

impl TopicIds {
    /// Whether it was asked about before, even if nobody knew it.
    pub fn knows(&self, id: &TopicId) -> bool {
        self.names.contains_key(id)
    }

    /// Its name in Kafka.
    pub fn name(&self, id: &TopicId) -> Option<&str> {
        self.names.get(id)?.as_deref()
    }

    pub fn learn(&mut self, id: TopicId, name: &str) {
        if id != NO_ID && self.name(&id) != Some(name) {
            self.make_room();
            self.names.insert(id, Some(name.into()));
        }
    }

    /// The brokers were asked and do not know it. Forgotten by [`TopicIds::forget_unknown`]: it may be new.
    pub fn learn_unknown(&mut self, id: TopicId) {
        if id != NO_ID && !self.knows(&id) {
            self.make_room();
            self.names.insert(id, None);
        }
    }

    /// They are asked about again.
    pub fn forget_unknown(&mut self) {
        self.names.retain(|_, name| name.is_some());
    }

    fn make_room(&mut self) {
        if self.names.len() >= TOPIC_IDS_MAX {
            self.names.clear();
        }
    }
}

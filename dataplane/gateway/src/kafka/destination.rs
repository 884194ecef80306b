//! Where a publish goes on this shard: cluster, topic of its Kafka client, limits; found once and remembered.
//!
//! A topic of an app is remembered by its index in the snapshot until the next snapshot. A raw topic is a name the
//! client chose: the Kafka client never forgets a topic, so how many names an app may bring up is bounded here.

use crate::codes;
use crate::kafka::Clusters;
use crate::kafka::cluster::Cluster;
use crate::limits::{RAW_TOPICS_MAX, RAW_TOPICS_PER_APP_MAX};
use crate::refusal::Refusal;
use foldhash::HashMap;
use kafka_client::{Partitioner, TopicIdx, TopicOptions};
use kafka_wire::compression::Compression;
use model::ids::PhysicalTopic;
use model::{Permit, RawPermit, Topic};
use std::cell::RefCell;
use std::rc::Rc;

/// Set in the labels of raw topics, so that they are not an app's topic by accident.
const RAW_LABEL: u32 = 1 << 31;

/// Where a topic's records go on this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index in [`Clusters`].
    pub cluster: usize,
    pub topic: TopicIdx,
}

/// What a publish needs to know of its topic.
#[derive(Debug, Clone, Copy)]
pub struct Destination {
    pub route: Route,
    /// [`model::App::index`] of the caller, for the budget.
    pub tenant: u32,
    /// Names the topic in the shard's metrics.
    pub label: u32,
    pub message_bytes_max: usize,
}

/// Routes found so far. One per shard.
#[derive(Default)]
pub struct Routes {
    /// By [`Topic::index`], for the generation in force.
    topics: RefCell<HashMap<u32, Route>>,
    /// Raw topics by cluster and name, for the life of the shard.
    raw: RefCell<HashMap<(usize, PhysicalTopic), TopicIdx>>,
    /// How many of them an app brought up, by [`model::App::index`].
    raw_of_app: RefCell<HashMap<u32, u32>>,
}

impl Routes {
    /// A new snapshot: indexes and options may mean something else now.
    pub fn forget_topics(&self) {
        self.topics.borrow_mut().clear();
    }
}

impl Destination {
    /// The cluster, as the budget counts it.
    pub fn budget_cluster(&self) -> u32 {
        self.route.cluster as u32
    }
}

impl Clusters {
    /// Where an app's own topic is.
    pub fn topic_destination(&self, permit: &Permit<'_>) -> Result<Destination, Refusal> {
        let topic = permit.topic();
        let known = self.routes.topics.borrow().get(&topic.index).copied();
        let route = match known {
            Some(route) => route,
            None => self.find_route(topic)?,
        };
        Ok(Destination {
            route,
            tenant: permit.app().index,
            label: topic.index,
            message_bytes_max: (topic.options.message_bytes_max as usize).min(self.message_bytes_max),
        })
    }

    fn find_route(&self, topic: &Topic) -> Result<Route, Refusal> {
        let cluster = self.of_topic(topic)?;
        let mut client = cluster.client.borrow_mut();
        let index = client.topic(&topic.physical);
        client.set_topic_options(index, topic_options(&topic.options));
        let route = Route { cluster: cluster.index, topic: index };
        self.routes.topics.borrow_mut().insert(topic.index, route);
        Ok(route)
    }

    /// Where a raw topic is. Its options are those of an app's topic of the same name, if there is one, else plain.
    pub fn raw_destination(&self, permit: &RawPermit<'_>) -> Result<Destination, Refusal> {
        let cluster = self.named(permit.cluster().as_str())?;
        let key = (cluster.index, permit.topic().clone());
        let known = self.routes.raw.borrow().get(&key).copied();
        let topic = match known {
            Some(topic) => topic,
            None => self.bring_up_raw(permit, cluster, key)?,
        };
        Ok(Destination {
            route: Route { cluster: cluster.index, topic },
            tenant: permit.app().index,
            label: RAW_LABEL | (cluster.index as u32) << 17 | topic.0,
            message_bytes_max: self.message_bytes_max,
        })
    }

    fn bring_up_raw(
        &self,
        permit: &RawPermit<'_>,
        cluster: &Cluster,
        key: (usize, PhysicalTopic),
    ) -> Result<TopicIdx, Refusal> {
        let mut raw = self.routes.raw.borrow_mut();
        let mut of_app = self.routes.raw_of_app.borrow_mut();
        let of_app = of_app.entry(permit.app().index).or_default();
        if raw.len() >= RAW_TOPICS_MAX || *of_app >= RAW_TOPICS_PER_APP_MAX {
            let message = format!("nothing was stored: this app uses {of_app} raw topics here; no more are taken");
            return Err(Refusal::new(codes::TOO_MANY_RAW_TOPICS, message));
        }
        *of_app += 1;
        let topic = cluster.client.borrow_mut().topic(permit.topic().as_str());
        raw.insert(key, topic);
        Ok(topic)
    }

    /// The driver of the topic's cluster.
    pub fn of_topic(&self, topic: &Topic) -> Result<&Rc<Cluster>, Refusal> {
        self.named(topic.cluster.as_str())
    }

    fn named(&self, name: &str) -> Result<&Rc<Cluster>, Refusal> {
        self.by_name.get(name).map(|index| &self.list[*index]).ok_or_else(|| {
            let message = format!("nothing was stored: this gateway has no cluster {name} in its configuration");
            Refusal::new(codes::CLUSTER_NOT_CONFIGURED, message)
        })
    }
}
fn topic_options(options: &model::TopicOptions) -> TopicOptions {
    TopicOptions {
        partitioner: match options.partitioner {
            model::Partitioner::Murmur2 => Partitioner::Murmur2,
            model::Partitioner::Fnv1a => Partitioner::Fnv1a,
        },
        compression: match options.compression {
            model::Compression::None => Compression::None,
            model::Compression::Gzip => Compression::Gzip,
            model::Compression::Snappy => Compression::Snappy,
            model::Compression::Lz4 => Compression::Lz4,
            model::Compression::Zstd => Compression::Zstd,
        },
    }
}

//! Where a publish goes on this shard: cluster, topic of its Kafka client, limits; found once and remembered.
//!
//! A topic of an app is remembered by its index in the snapshot until the next snapshot. A raw topic is a name the
//! client chose: the Kafka client never forgets a topic, so how many names an app may bring up is bounded here.

use crate::codes;
use crate::kafka::Clusters;
use crate::kafka::cluster::Cluster;
use crate::limits::{RAW_SWEEP_PAUSE, RAW_TOPICS_MAX, RAW_TOPICS_PER_APP_MAX};
use crate::refusal::Refusal;
use foldhash::HashMap;
use kafka_client::{Partitioner, TopicIdx, TopicOptions};
use kafka_wire::compression::Compression;
use model::ids::PhysicalTopic;
use model::{Permit, RawPermit, Topic};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

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
    /// Its app or its topic has limits.
    pub is_metered: bool,
    /// App and topic allow hinted handoff.
    pub hands_off: bool,
}

/// Routes found so far. One per shard.
#[derive(Default)]
pub struct Routes {
    /// By [`Topic::index`], for the generation in force.
    topics: RefCell<HashMap<u32, Route>>,
    /// Raw topics by cluster and name, until nobody has used them for long and their places are needed.
    raw: RefCell<HashMap<(usize, PhysicalTopic), RawTopic>>,
    /// How many of them an app brought up, by [`model::App::index`].
    raw_of_app: RefCell<HashMap<u32, u32>>,
    /// Raw topics brought up so far.
    raw_count: Cell<u32>,
    /// When those that sleep were looked for last.
    raw_swept_at: Cell<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct RawTopic {
    topic: TopicIdx,
    label: u32,
    /// The app that brought it up.
    app: u32,
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
            Some(route) if self.is_current(route) => route,
            _ => self.find_route(topic)?,
        };
        Ok(Destination {
            route,
            tenant: permit.app().index,
            label: topic.index,
            message_bytes_max: (topic.options.message_bytes_max as usize).min(self.message_bytes_max),
            is_metered: permit.app().limits.has_rates() || topic.limits.has_rates(),
            hands_off: permit.handoff(),
        })
    }

    /// Whether a route that was kept still leads to its topic: the Kafka client forgets names that nobody uses.
    pub fn is_current(&self, route: Route) -> bool {
        self.list[route.cluster].client.borrow().is_current(route.topic)
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
    pub fn raw_destination(&self, permit: &RawPermit<'_>, now: Instant) -> Result<Destination, Refusal> {
        let cluster = self.named(permit.cluster().as_str())?;
        let key = (cluster.index, permit.topic().clone());
        let known = self.routes.raw.borrow().get(&key).copied();
        let raw = match known {
            Some(raw) if cluster.client.borrow().is_current(raw.topic) => raw,
            Some(raw) => self.find_raw(permit, cluster, key, raw),
            None => self.bring_up_raw(permit, cluster, key, now)?,
        };
        Ok(Destination {
            route: Route { cluster: cluster.index, topic: raw.topic },
            tenant: permit.app().index,
            label: raw.label,
            message_bytes_max: self.message_bytes_max,
            is_metered: permit.app().limits.has_rates(),
            hands_off: permit.handoff(),
        })
    }

    fn bring_up_raw(
        &self,
        permit: &RawPermit<'_>,
        cluster: &Cluster,
        key: (usize, PhysicalTopic),
        now: Instant,
    ) -> Result<RawTopic, Refusal> {
        let app = permit.app().index;
        let count = self.routes.raw_of_app.borrow().get(&app).copied().unwrap_or(0);
        if self.routes.raw.borrow().len() >= RAW_TOPICS_MAX || count >= RAW_TOPICS_PER_APP_MAX {
            self.forget_raw_asleep(now);
        }
        let mut raw = self.routes.raw.borrow_mut();
        let mut of_app = self.routes.raw_of_app.borrow_mut();
        let of_app = of_app.entry(app).or_default();
        if raw.len() >= RAW_TOPICS_MAX || *of_app >= RAW_TOPICS_PER_APP_MAX {
            let message = format!("nothing was stored: this app uses {of_app} raw topics here; no more are taken");
            return Err(Refusal::new(codes::TOO_MANY_RAW_TOPICS, message));
        }
        *of_app += 1;
        let number = self.routes.raw_count.get().wrapping_add(1);
        self.routes.raw_count.set(number);
        let topic = cluster.client.borrow_mut().topic(permit.topic().as_str());
        let found = RawTopic { topic, label: RAW_LABEL | number, app };
        raw.insert(key, found);
        Ok(found)
    }

    /// The Kafka client has forgotten the name of a raw topic that we have not.
    fn find_raw(
        &self,
        permit: &RawPermit<'_>,
        cluster: &Cluster,
        key: (usize, PhysicalTopic),
        before: RawTopic,
    ) -> RawTopic {
        let topic = cluster.client.borrow_mut().topic(permit.topic().as_str());
        let found = RawTopic { topic, ..before };
        self.routes.raw.borrow_mut().insert(key, found);
        found
    }

    /// Raw topics that nobody uses any more count for nobody any more.
    fn forget_raw_asleep(&self, now: Instant) {
        if self.routes.raw_swept_at.get().is_some_and(|at| now < at + RAW_SWEEP_PAUSE) {
            return; // it takes a look at each of them, and clients choose their names
        }
        self.routes.raw_swept_at.set(Some(now));
        let mut of_app = self.routes.raw_of_app.borrow_mut();
        self.routes.raw.borrow_mut().retain(|(cluster, _), raw| {
            let is_asleep = self.list[*cluster].client.borrow().is_asleep(raw.topic);
            if is_asleep && let Some(count) = of_app.get_mut(&raw.app) {
                *count -= 1;
            }
            !is_asleep
        });
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

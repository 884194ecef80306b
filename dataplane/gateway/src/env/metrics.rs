//! What a gateway counts. Declared once per process ([`GatewayMetrics`]); each shard is the only writer of its own
//! part ([`ShardMetrics`]), so recording on the request path costs a few nanoseconds and no lock.
//!
//! Labels never carry a client's address, id, raw path or group. Topics are capped: beyond the cap they are `other`.

use foldhash::{HashMap, HashMapExt};
use model::quota::Measure;
use model::{Generation, Side};
use runtime::budget::Scope;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{
    Counter, CounterKind, Gauge, GaugeKind, Histogram, HistogramKind, Registry, ShardFamily, Unit, label_set,
};

/// Topics that get a latency histogram of their own.
const TOPICS_MAX: usize = 100;
/// Apps that get one of their own for delayed jobs.
const APPS_MAX: usize = 100;
/// Endpoints with statuses: a handful of each.
const ENDPOINTS_MAX: usize = 16;

label_set! {
    /// One way a request ended.
    pub struct RequestLabels { endpoint: &'static str, status: u16 }
}

label_set! {
    pub struct EndpointLabels { endpoint: &'static str }
}

label_set! {
    /// A topic by its name in Kafka.
    pub struct TopicLabels { topic: Arc<str> }
}

label_set! {
    pub struct ReasonLabels { reason: &'static str }
}

label_set! {
    pub struct ClusterLabels { cluster: Arc<str> }
}

label_set! {
    pub struct ShardLabels { shard: u16 }
}

label_set! {
    pub struct OutcomeLabels { outcome: &'static str }
}

label_set! {
    pub struct SideLabels { listener: &'static str }
}

label_set! {
    pub struct HandoffLabels { what: &'static str }
}

label_set! {
    pub struct AppLabels { app: Arc<str> }
}

label_set! {
    /// Something of an app.
    pub struct OfAppLabels { app: Arc<str>, what: &'static str }
}

type Family<K, L> = telemetry::Family<K, L>;

/// The declared metrics; one per process.
pub struct GatewayMetrics {
    registry: Registry,
    requests: Family<CounterKind, RequestLabels>,
    latency: Family<HistogramKind, EndpointLabels>,
    topic_latency: Family<HistogramKind, TopicLabels>,
    repeated: Family<CounterKind, ()>,
    published_bytes: Family<CounterKind, ()>,
    batch_records: Family<CounterKind, OutcomeLabels>,
    delivered_bytes: Family<CounterKind, ()>,
    handed_off: Family<CounterKind, ()>,
    handed_off_bytes: Family<CounterKind, ()>,
    handoff_delivered: Family<CounterKind, ()>,
    handoff_maybe_doubled: Family<CounterKind, ()>,
    handoff: Family<GaugeKind, HandoffLabels>,
    jobs_fired: Family<CounterKind, ()>,
    jobs_lateness: Family<HistogramKind, ()>,
    jobs_app_lateness: Family<HistogramKind, AppLabels>,
    jobs: Family<GaugeKind, HandoffLabels>,
    connections_opened: Family<CounterKind, SideLabels>,
    connections_ended: Family<CounterKind, ReasonLabels>,
    connections: Family<GaugeKind, ()>,
    publishes_waiting: Family<GaugeKind, ()>,
    subscriptions: Family<GaugeKind, ()>,
    budget_used: Family<GaugeKind, ()>,
    cluster_up: Family<GaugeKind, ClusterLabels>,
    not_idempotent: Family<GaugeKind, ()>,
    refused: Family<CounterKind, ReasonLabels>,
    longest_turn: Family<GaugeKind, ShardLabels>,
    access_log_dropped: Family<GaugeKind, ()>,
}

impl Default for GatewayMetrics {
    fn default() -> GatewayMetrics {
        let registry = Registry::new().with_process_metrics();
        GatewayMetrics {
            requests: registry.counters("gateway_requests_total", "Requests by endpoint and status."),
            latency: registry.histograms(
                "gateway_request_seconds",
                "From the first byte of a request to its finished answer.",
                Unit::Seconds,
                ENDPOINTS_MAX,
            ),
            topic_latency: registry.histograms(
                "gateway_publish_topic_seconds",
                "Latency of publishes by Kafka topic; beyond a cap the topic is `other`.",
                Unit::Seconds,
                TOPICS_MAX,
            ),
            repeated: registry.counter(
                "gateway_repeated_heads_total",
                "Publishes served by what was decided about an earlier request of their connection with the same head.",
            ),
            published_bytes: registry.counter("gateway_published_bytes_total", "Bytes of messages answered 201."),
            batch_records: registry.counters("gateway_batch_records_total", "Records of batches by outcome."),
            delivered_bytes: registry.counter("gateway_delivered_bytes_total", "Bytes of bodies handed to polls."),
            handed_off: registry.counter("gateway_handoff_accepted_total", "Messages answered 202: durable in the journal here."),
            handed_off_bytes: registry.counter("gateway_handoff_accepted_bytes_total", "Bytes of messages answered 202."),
            handoff_delivered: registry
                .counter("gateway_handoff_delivered_total", "Messages that waited in the journal and that Kafka has taken."),
            handoff_maybe_doubled: registry.counter(
                "gateway_handoff_maybe_doubled_total",
                "Messages of the journal that were sent without an answer and given up: they are sent again.",
            ),
            handoff: registry.gauges(
                "gateway_handoff",
                "Hinted handoff of this process: messages and bytes that wait, parked ones, partitions that are not direct, \
                 age of the oldest in ms; of its journal: segments, disk bytes, bytes not durable yet, quarantined records, \
                 whether it is read-only.",
            ),
            jobs_fired: registry.counter("gateway_jobs_fired_total", "Delayed jobs that Kafka has taken."),
            jobs_lateness: registry.histogram(
                "gateway_jobs_lateness_seconds",
                "From when a delayed job was due until Kafka had it.",
                Unit::Seconds,
            ),
            jobs_app_lateness: registry.histograms(
                "gateway_jobs_app_lateness_seconds",
                "From when a delayed job was due until Kafka had it, by app; beyond a cap the app is `other`.",
                Unit::Seconds,
                APPS_MAX,
            ),
            jobs: registry.gauges(
                "gateway_jobs",
                "Delayed jobs of this process: those that wait, in memory, due and not at Kafka, at Kafka, parked, lost to rot; tables, \
                 their bytes, places of them that are rotten, bytes that were looked at for rot; of its log: segments, disk bytes, \
                 whether it is read-only.",
            ),
            connections_opened: registry.counters("gateway_connections_total", "Client connections accepted."),
            connections_ended: registry
                .counters("gateway_connections_ended_total", "Client connections that ended unusually, by reason."),
            connections: registry.gauge("gateway_connections", "Open client connections."),
            publishes_waiting: registry.gauge("gateway_publishes_waiting", "Publishes that wait for Kafka."),
            subscriptions: registry.gauge("gateway_subscriptions", "Groups this gateway is a member of."),
            budget_used: registry.gauge("gateway_memory_reserved_bytes", "Bytes reserved for requests."),
            cluster_up: registry.gauges("gateway_cluster_up", "1 when a cluster answered its last probe, else 0."),
            not_idempotent: registry.gauge(
                "gateway_clusters_without_idempotence",
                "Clusters whose brokers refuse us a producer id, summed over shards: what they leave unanswered is 504.",
            ),
            refused: registry.counters("gateway_refused_total", "Work refused because a limit was reached."),
            longest_turn: registry.gauges(
                "gateway_longest_turn_microseconds",
                "Longest time of late that a shard was busy without looking at anybody else.",
            ),
            access_log_dropped: registry
                .gauge("gateway_access_log_dropped", "Access log lines not written because the disk was too slow."),
            registry,
        }
    }
}

impl GatewayMetrics {
    /// For declaring more metrics beside these.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        self.registry.render()
    }

    /// The calling shard's part.
    pub fn shard(&self) -> ShardMetrics {
        let mut requests = self.requests.shard();
        let mut latency = self.latency.shard();
        let mut connections_opened = self.connections_opened.shard();
        let mut batch_records = self.batch_records.shard();
        ShardMetrics {
            stored: requests.get(&RequestLabels { endpoint: "publish", status: 201 }),
            publish_latency: latency.get(&EndpointLabels { endpoint: "publish" }),
            requests: RefCell::new(requests),
            latency: RefCell::new(latency),
            topic_latency: RefCell::new(self.topic_latency.shard()),
            topics: RefCell::new(HashMap::new()),
            repeated: self.repeated.local(),
            published_bytes: self.published_bytes.local(),
            batch_stored: batch_records.get(&OutcomeLabels { outcome: "stored" }),
            batch_failed: batch_records.get(&OutcomeLabels { outcome: "failed" }),
            delivered_bytes: self.delivered_bytes.local(),
            handed_off: self.handed_off.local(),
            handed_off_bytes: self.handed_off_bytes.local(),
            batch_handed_off: batch_records.get(&OutcomeLabels { outcome: "handed_off" }),
            batch_delayed: batch_records.get(&OutcomeLabels { outcome: "delayed" }),
            handoff_delivered: self.handoff_delivered.local(),
            handoff_maybe_doubled: self.handoff_maybe_doubled.local(),
            handoff: RefCell::new(self.handoff.shard()),
            jobs_fired: self.jobs_fired.local(),
            jobs_lateness: self.jobs_lateness.local(),
            jobs_app_lateness: RefCell::new(self.jobs_app_lateness.shard()),
            jobs: RefCell::new(self.jobs.shard()),
            publish_connections: connections_opened.get(&SideLabels { listener: "publish" }),
            subscribe_connections: connections_opened.get(&SideLabels { listener: "subscribe" }),
            connections_ended: RefCell::new(self.connections_ended.shard()),
            connections: self.connections.local(),
            publishes_waiting: self.publishes_waiting.local(),
            subscriptions: self.subscriptions.local(),
            budget_used: self.budget_used.local(),
            cluster_up: RefCell::new(self.cluster_up.shard()),
            not_idempotent: self.not_idempotent.local(),
            refused: RefCell::new(self.refused.shard()),
            longest_turn: RefCell::new(self.longest_turn.shard()),
            access_log_dropped: self.access_log_dropped.local(),
            topic_generation: Cell::default(),
        }
    }
}

/// One per shard; stays on its thread.
pub struct ShardMetrics {
    /// The hot ones, looked up once.
    stored: Counter,
    publish_latency: Histogram,
    requests: RefCell<ShardFamily<CounterKind, RequestLabels>>,
    latency: RefCell<ShardFamily<HistogramKind, EndpointLabels>>,
    topic_latency: RefCell<ShardFamily<HistogramKind, TopicLabels>>,
    /// By [`model::Topic::index`].
    topics: RefCell<HashMap<u32, Histogram>>,
    repeated: Counter,
    published_bytes: Counter,
    batch_stored: Counter,
    batch_failed: Counter,
    delivered_bytes: Counter,
    handed_off: Counter,
    handed_off_bytes: Counter,
    batch_handed_off: Counter,
    batch_delayed: Counter,
    handoff_delivered: Counter,
    handoff_maybe_doubled: Counter,
    handoff: RefCell<ShardFamily<GaugeKind, HandoffLabels>>,
    jobs_fired: Counter,
    jobs_lateness: Histogram,
    jobs_app_lateness: RefCell<ShardFamily<HistogramKind, AppLabels>>,
    jobs: RefCell<ShardFamily<GaugeKind, HandoffLabels>>,
    publish_connections: Counter,
    subscribe_connections: Counter,
    connections_ended: RefCell<ShardFamily<CounterKind, ReasonLabels>>,
    connections: Gauge,
    publishes_waiting: Gauge,
    subscriptions: Gauge,
    budget_used: Gauge,
    cluster_up: RefCell<ShardFamily<GaugeKind, ClusterLabels>>,
    not_idempotent: Gauge,
    refused: RefCell<ShardFamily<CounterKind, ReasonLabels>>,
    longest_turn: RefCell<ShardFamily<GaugeKind, ShardLabels>>,
    access_log_dropped: Gauge,
    topic_generation: Cell<Generation>,
}

impl ShardMetrics {
    /// A publish whose head is that of an earlier one.
    pub fn repeated(&self) {
        self.repeated.inc();
    }

    /// A publish reached Kafka; the request itself is counted by [`ShardMetrics::finished`].
    pub fn published(&self, topic: u32, name: &str, bytes: usize, elapsed: Duration) {
        self.published_bytes.add(bytes as u64);
        if let Some(histogram) = self.topics.borrow().get(&topic) {
            histogram.record_duration(elapsed);
            return;
        }
        let histogram = self.topic_latency.borrow_mut().get(&TopicLabels { topic: name.into() });
        histogram.record_duration(elapsed);
        self.topics.borrow_mut().insert(topic, histogram);
    }

    /// A run of a batch's records reached Kafka; `bytes` is their share of what was received.
    pub fn batch_stored(&self, records: u64, bytes: usize) {
        self.batch_stored.add(records);
        self.published_bytes.add(bytes as u64);
    }

    /// Records of a batch that got an error receipt.
    pub fn batch_failed(&self, records: u64) {
        self.batch_failed.add(records);
    }

    /// Messages became durable in the journal.
    pub fn handed_off(&self, messages: u64, bytes: usize) {
        self.handed_off.add(messages);
        self.handed_off_bytes.add(bytes as u64);
    }

    /// Those of them that were records of a batch.
    pub fn batch_handed_off(&self, records: u64) {
        self.batch_handed_off.add(records);
    }

    /// Records of a batch became delayed jobs, and durable.
    pub fn batch_delayed(&self, records: u64) {
        self.batch_delayed.add(records);
    }

    pub fn handoff_delivered(&self, messages: u64) {
        self.handoff_delivered.add(messages);
    }

    pub fn handoff_maybe_doubled(&self, messages: u64) {
        self.handoff_maybe_doubled.add(messages);
    }

    /// State of hinted handoff, by one shard of the process.
    pub fn handoff(&self, what: &'static str, value: u64) {
        self.handoff.borrow_mut().get(&HandoffLabels { what }).set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A delayed job reached Kafka, so long after it was due.
    pub fn jobs_fired(&self, app: &Arc<str>, late_ms: impl Iterator<Item = i64>) {
        let of_app = self.jobs_app_lateness.borrow_mut().get(&AppLabels { app: Arc::clone(app) });
        for late_ms in late_ms {
            self.jobs_fired.inc();
            let late = Duration::from_millis(u64::try_from(late_ms).unwrap_or(0));
            self.jobs_lateness.record_duration(late);
            of_app.record_duration(late);
        }
    }

    /// Jobs that a dead process fired; nobody knows when.
    pub fn jobs_found(&self, jobs: u64) {
        self.jobs_fired.add(jobs);
    }

    /// State of delayed jobs, by one shard of the process.
    pub fn jobs(&self, what: &'static str, value: u64) {
        self.jobs.borrow_mut().get(&HandoffLabels { what }).set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    pub fn delivered(&self, bytes: usize) {
        self.delivered_bytes.add(bytes as u64);
    }

    pub fn finished(&self, endpoint: &'static str, status: u16, elapsed: Duration) {
        if endpoint == "publish" {
            self.publish_latency.record_duration(elapsed);
            if status == 201 {
                return self.stored.inc();
            }
        } else {
            self.latency.borrow_mut().get(&EndpointLabels { endpoint }).record_duration(elapsed);
        }
        self.requests.borrow_mut().get(&RequestLabels { endpoint, status }).inc();
    }

    pub fn connection_opened(&self, side: Side) {
        match side {
            Side::Publish => self.publish_connections.inc(),
            Side::Subscribe => self.subscribe_connections.inc(),
        }
    }

    pub fn connection_ended(&self, reason: &'static str) {
        self.connections_ended.borrow_mut().get(&ReasonLabels { reason }).inc();
    }

    fn refuse(&self, reason: &'static str) {
        self.refused.borrow_mut().get(&ReasonLabels { reason }).inc();
    }

    pub fn accept_failed(&self) {
        self.refuse("accept_failed");
    }

    pub fn budget_refused(&self, scope: Scope) {
        self.refuse(match scope {
            Scope::Shard => "memory_shard",
            Scope::Tenant => "memory_tenant",
            Scope::Cluster => "memory_cluster",
        });
    }

    /// A request or a connection beyond what was set for its app or topic.
    pub fn quota_refused(&self, measure: Measure) {
        self.refuse(match measure {
            Measure::PublishMessages => "quota_publish_messages",
            Measure::PublishBytes => "quota_publish_bytes",
            Measure::SubscribeMessages => "quota_subscribe_messages",
            Measure::SubscribeBytes => "quota_subscribe_bytes",
            Measure::Connections => "quota_connections",
        });
    }

    /// A connection that one too many clients of an address or an app opened.
    pub fn connections_full(&self, whose: &'static str) {
        self.refuse(whose);
    }

    pub fn groups_full(&self, of_app: bool) {
        self.refuse(if of_app { "groups_of_app" } else { "groups" });
    }

    pub fn mailbox_full(&self) {
        self.refuse("mailbox_full");
    }

    /// What a probe found, by the shard that probes.
    pub fn cluster_up(&self, cluster: &str, up: bool) {
        self.cluster_up.borrow_mut().get(&ClusterLabels { cluster: cluster.into() }).set(i64::from(up));
    }

    /// A few times a second.
    pub fn set_gauges(&self, gauges: &Gauges) {
        self.connections.set(gauges.connections as i64);
        self.publishes_waiting.set(gauges.publishes_waiting as i64);
        self.subscriptions.set(gauges.subscriptions as i64);
        self.budget_used.set(gauges.budget_used_bytes as i64);
        self.not_idempotent.set(gauges.clusters_without_idempotence as i64);
        let longest_us = gauges.longest_turn.as_micros() as i64;
        self.longest_turn.borrow_mut().get(&ShardLabels { shard: gauges.shard }).set(longest_us);
        self.access_log_dropped.set(gauges.access_log_dropped as i64);
        // Topics come and go with snapshots; forgetting handles now and then keeps the map at what is in use.
        if self.topic_generation.replace(gauges.generation) != gauges.generation {
            self.topics.borrow_mut().clear();
        }
    }
}

/// What a shard has at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Gauges {
    pub shard: u16,
    pub connections: usize,
    pub publishes_waiting: usize,
    pub subscriptions: usize,
    pub budget_used_bytes: usize,
    pub clusters_without_idempotence: usize,
    pub longest_turn: Duration,
    pub access_log_dropped: u64,
    /// Of the snapshot in force.
    pub generation: Generation,
}

//! What a proxy counts. Declared once per process; each shard is the only writer of its part.
//!
//! Labels never carry a client's address, id or a topic. Software names are clients' own words and capped.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use telemetry::{
    Counter, CounterKind, Family, Gauge, GaugeKind, Histogram, HistogramKind, Registry, ShardFamily, Unit, label_set,
};

use crate::apis::{APIS, Api};
use crate::limits::{APP_SERIES_MAX, SOFTWARE_SERIES_MAX};

label_set! {
    pub struct ApiLabels { api: &'static str }
}

label_set! {
    pub struct BrokerLabels { broker: Arc<str> }
}

label_set! {
    /// As seen from the proxy: `in` from, `out` to.
    pub struct BytesLabels { peer: &'static str, direction: &'static str }
}

label_set! {
    pub struct DirectionLabels { direction: &'static str }
}

label_set! {
    pub struct ReasonLabels { reason: &'static str }
}

label_set! {
    /// As clients say in ApiVersions (KIP-511).
    pub struct SoftwareLabels { software: Arc<str> }
}

label_set! {
    pub struct AppLabels { app: Arc<str> }
}

label_set! {
    /// As the client sees it: `in` is what it publishes, `out` what it is given.
    pub struct AppDirectionLabels { app: Arc<str>, direction: &'static str }
}

label_set! {
    pub struct OutcomeLabels { outcome: &'static str }
}

/// What is counted of tenants.
struct TenantFamilies {
    requests: Family<CounterKind, AppLabels>,
    refused: Family<CounterKind, AppLabels>,
    throttled: Family<CounterKind, AppLabels>,
    bytes: Family<CounterKind, AppDirectionLabels>,
    messages: Family<CounterKind, AppDirectionLabels>,
    logins: Family<CounterKind, OutcomeLabels>,
    revoked: Family<CounterKind, ()>,
    audit_dropped: Family<CounterKind, ()>,
}

impl TenantFamilies {
    fn new(registry: &Registry) -> TenantFamilies {
        TenantFamilies {
            requests: registry.counters_capped("kproxy_app_requests_total", "Requests of each app.", APP_SERIES_MAX),
            refused: registry.counters_capped(
                "kproxy_app_refused_total",
                "Topics and whole requests that an app was refused.",
                APP_SERIES_MAX,
            ),
            throttled: registry.counters_capped(
                "kproxy_app_throttled_total",
                "Requests and answers of an app that waited, or told to wait, for its limits.",
                APP_SERIES_MAX,
            ),
            bytes: registry.counters_capped(
                "kproxy_app_bytes_total",
                "Bytes of Produce requests (in) and of Fetch answers (out) of each app.",
                2 * APP_SERIES_MAX,
            ),
            messages: registry.counters_capped(
                "kproxy_app_messages_total",
                "Records that each app wrote (in) and was given (out), as the heads of their batches say.",
                2 * APP_SERIES_MAX,
            ),
            logins: registry.counters("kproxy_logins_total", "Logins by what became of them."),
            revoked: registry.counter("kproxy_sessions_revoked_total", "Sessions ended by a change of the tenants."),
            audit_dropped: registry.counter(
                "kproxy_audit_dropped_total",
                "Events that are not in the audit log because shards told more of them than were taken.",
            ),
        }
    }

    fn shard(&self) -> TenantMetrics {
        TenantMetrics {
            requests: RefCell::new(self.requests.shard()),
            refused: RefCell::new(self.refused.shard()),
            throttled: RefCell::new(self.throttled.shard()),
            bytes: RefCell::new(self.bytes.shard()),
            messages: RefCell::new(self.messages.shard()),
            logins: RefCell::new(self.logins.shard()),
            revoked: self.revoked.local(),
            audit_dropped: self.audit_dropped.local(),
        }
    }
}

/// One per shard.
pub struct TenantMetrics {
    requests: RefCell<ShardFamily<CounterKind, AppLabels>>,
    refused: RefCell<ShardFamily<CounterKind, AppLabels>>,
    throttled: RefCell<ShardFamily<CounterKind, AppLabels>>,
    bytes: RefCell<ShardFamily<CounterKind, AppDirectionLabels>>,
    messages: RefCell<ShardFamily<CounterKind, AppDirectionLabels>>,
    logins: RefCell<ShardFamily<CounterKind, OutcomeLabels>>,
    revoked: Counter,
    audit_dropped: Counter,
}

/// What is counted of one app on one shard.
pub struct AppMetrics {
    pub app: Arc<str>,
    pub requests: Counter,
    pub refused: Counter,
    pub throttled: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub messages_in: Counter,
    pub messages_out: Counter,
}

impl TenantMetrics {
    pub fn login(&self, outcome: &'static str) {
        self.logins.borrow_mut().get(&OutcomeLabels { outcome }).inc();
    }

    pub fn session_revoked(&self) {
        self.revoked.inc();
    }

    pub fn audit_dropped(&self) {
        self.audit_dropped.inc();
    }

    pub fn app(&self, app: &str) -> Rc<AppMetrics> {
        let app: Arc<str> = app.into();
        let labels = AppLabels { app: Arc::clone(&app) };
        let way = |direction| AppDirectionLabels { app: Arc::clone(&app), direction };
        let (mut bytes, mut messages) = (self.bytes.borrow_mut(), self.messages.borrow_mut());
        Rc::new(AppMetrics {
            requests: self.requests.borrow_mut().get(&labels),
            refused: self.refused.borrow_mut().get(&labels),
            throttled: self.throttled.borrow_mut().get(&labels),
            bytes_in: bytes.get(&way("in")),
            bytes_out: bytes.get(&way("out")),
            messages_in: messages.get(&way("in")),
            messages_out: messages.get(&way("out")),
            app,
        })
    }
}

/// The declared metrics; one per process.
pub struct ProxyMetrics {
    registry: Registry,
    requests: Family<CounterKind, ApiLabels>,
    request_bytes: Family<CounterKind, ApiLabels>,
    answer_bytes: Family<CounterKind, ApiLabels>,
    latency: Family<HistogramKind, ApiLabels>,
    bytes: Family<CounterKind, BytesLabels>,
    broker_bytes: Family<CounterKind, BrokerLabels>,
    broker_connections: Family<GaugeKind, BrokerLabels>,
    added: Family<HistogramKind, DirectionLabels>,
    opened: Family<CounterKind, SoftwareLabels>,
    connections: Family<GaugeKind, ()>,
    ended: Family<CounterKind, ReasonLabels>,
    hidden: Family<CounterKind, ()>,
    tenants: TenantFamilies,
}

impl Default for ProxyMetrics {
    fn default() -> ProxyMetrics {
        let registry = Registry::new().with_process_metrics();
        ProxyMetrics {
            tenants: TenantFamilies::new(&registry),
            requests: registry.counters("kproxy_requests_total", "Requests passed on, by Kafka API."),
            request_bytes: registry.counters("kproxy_request_bytes_total", "Bytes of requests, by Kafka API."),
            answer_bytes: registry
                .counters("kproxy_answer_bytes_total", "Bytes of answers as brokers sent them, by Kafka API."),
            latency: registry.histograms(
                "kproxy_request_seconds",
                "From a request's head to its answer's, by Kafka API: the broker's time, long polls included.",
                Unit::Seconds,
                APIS.len(),
            ),
            bytes: registry.counters("kproxy_bytes_total", "Bytes from and to clients and brokers."),
            broker_bytes: registry.counters("kproxy_broker_bytes_total", "Bytes from and to each broker."),
            broker_connections: registry.gauges("kproxy_broker_connections", "Open connections to each broker."),
            added: registry.histograms(
                "kproxy_added_seconds",
                "From bytes read on one side to the same bytes written on the other: what the proxy adds.",
                Unit::Seconds,
                2,
            ),
            opened: registry.counters_capped(
                "kproxy_client_connections_total",
                "Connections by what clients call themselves.",
                SOFTWARE_SERIES_MAX,
            ),
            connections: registry.gauge("kproxy_connections", "Open client connections."),
            ended: registry.counters("kproxy_connections_ended_total", "Connections that ended, by reason."),
            hidden: registry
                .counter("kproxy_answers_hidden_total", "Fetch answers in which addresses of new leaders were hidden."),
            registry,
        }
    }
}

impl ProxyMetrics {
    /// Prometheus text.
    pub fn render(&self) -> String {
        self.registry.render()
    }

    /// One thread's part.
    pub fn shard(&self) -> ShardMetrics {
        let bytes = |peer, direction| self.bytes.shard().get(&BytesLabels { peer, direction });
        let added = |direction| self.added.shard().get(&DirectionLabels { direction });
        ShardMetrics {
            by_api: RefCell::new(vec![None; APIS.len()]),
            families: RefCell::new(ApiFamilies {
                requests: self.requests.shard(),
                request_bytes: self.request_bytes.shard(),
                answer_bytes: self.answer_bytes.shard(),
                latency: self.latency.shard(),
            }),
            client_in: bytes("client", "in"),
            client_out: bytes("client", "out"),
            broker_in: bytes("broker", "in"),
            broker_out: bytes("broker", "out"),
            broker_bytes: RefCell::new(self.broker_bytes.shard()),
            broker_connections: RefCell::new(self.broker_connections.shard()),
            added_to_requests: added("request"),
            added_to_answers: added("answer"),
            opened: RefCell::new(self.opened.shard()),
            connections: self.connections.local(),
            ended: RefCell::new(self.ended.shard()),
            hidden: self.hidden.local(),
            tenants: self.tenants.shard(),
        }
    }
}

#[derive(Clone)]
struct ApiHandles {
    requests: Counter,
    request_bytes: Counter,
    answer_bytes: Counter,
    latency: Histogram,
}

struct ApiFamilies {
    requests: ShardFamily<CounterKind, ApiLabels>,
    request_bytes: ShardFamily<CounterKind, ApiLabels>,
    answer_bytes: ShardFamily<CounterKind, ApiLabels>,
    latency: ShardFamily<HistogramKind, ApiLabels>,
}

/// One per shard.
pub struct ShardMetrics {
    by_api: RefCell<Vec<Option<ApiHandles>>>,
    families: RefCell<ApiFamilies>,
    pub client_in: Counter,
    pub client_out: Counter,
    pub broker_in: Counter,
    pub broker_out: Counter,
    broker_bytes: RefCell<ShardFamily<CounterKind, BrokerLabels>>,
    broker_connections: RefCell<ShardFamily<GaugeKind, BrokerLabels>>,
    pub added_to_requests: Histogram,
    pub added_to_answers: Histogram,
    opened: RefCell<ShardFamily<CounterKind, SoftwareLabels>>,
    pub connections: Gauge,
    ended: RefCell<ShardFamily<CounterKind, ReasonLabels>>,
    pub hidden: Counter,
    pub tenants: TenantMetrics,
}

/// What is counted of one broker.
pub struct BrokerMetrics {
    pub bytes: Counter,
    pub connections: Gauge,
}

impl ShardMetrics {
    pub fn request(&self, api: &'static Api, bytes: usize) {
        self.with_api(api, |handles| {
            handles.requests.inc();
            handles.request_bytes.add(bytes as u64);
        });
    }

    pub fn answer(&self, api: &'static Api, bytes: usize, after: Duration) {
        self.with_api(api, |handles| {
            handles.answer_bytes.add(bytes as u64);
            handles.latency.record_duration(after);
        });
    }

    pub fn software(&self, software: Arc<str>) {
        self.opened.borrow_mut().get(&SoftwareLabels { software }).inc();
    }

    pub fn ended(&self, reason: &'static str) {
        self.ended.borrow_mut().get(&ReasonLabels { reason }).inc();
    }

    pub fn broker(&self, broker: Arc<str>) -> BrokerMetrics {
        let labels = BrokerLabels { broker };
        let bytes = self.broker_bytes.borrow_mut().get(&labels);
        BrokerMetrics { bytes, connections: self.broker_connections.borrow_mut().get(&labels) }
    }

    fn with_api(&self, api: &'static Api, note: impl FnOnce(&ApiHandles)) {
        let mut by_api = self.by_api.borrow_mut();
        let handles = by_api[api.key.key() as usize].get_or_insert_with(|| {
            let labels = ApiLabels { api: api.key.name() };
            let mut families = self.families.borrow_mut();
            ApiHandles {
                requests: families.requests.get(&labels),
                request_bytes: families.request_bytes.get(&labels),
                answer_bytes: families.answer_bytes.get(&labels),
                latency: families.latency.get(&labels),
            }
        });
        note(handles);
    }
}

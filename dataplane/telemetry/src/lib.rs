//! Counting and timing on the shards, reading anywhere: counters, gauges and latency histograms, as Prometheus text.
//!
//! A metric is declared once, in a [`Registry`]; each shard takes its own part of it and is the only writer of that
//! part, so recording is a plain load, add and store on memory no other core writes (1 to 2 ns), without a lock and
//! without a locked instruction. A scrape adds the parts up while the shards go on.
//!
//! ```
//! use telemetry::{Registry, Unit, label_set};
//!
//! label_set! {
//!     /// How a publish ended.
//!     pub struct PublishLabels { outcome: &'static str }
//! }
//!
//! let registry = Registry::new();                                         // one per process
//! let publishes = registry.counters::<PublishLabels>("publish_requests_total", "Publish requests by outcome.");
//! let latency = registry.histogram("publish_seconds", "From request head to answer.", Unit::Seconds);
//!
//! let mut mine = publishes.shard();                                       // one per shard, stays on its thread
//! let mine_stored = mine.get(&PublishLabels { outcome: "stored" });       // look up once, keep on the hot path
//! let mine_latency = latency.local();
//! mine_stored.inc();
//! mine_latency.record_us(180);
//!
//! assert!(registry.render().contains("publish_requests_total{outcome=\"stored\"} 1\n"));
//! ```
//!
//! Labels are structs, not strings: a label set's names are fixed where it is declared, and values that come from
//! outside (topics, apps) are of an owned type and count against the family's cap; beyond it they become `other`,
//! which is itself counted in `telemetry_label_sets_refused_total`.

mod counter;
mod family;
mod gauge;
mod histogram;
mod labels;
pub mod limits;
mod process;
mod registry;
mod text;

pub use counter::{Counter, CounterKind, SharedCounter};
pub use family::{Family, ShardFamily};
pub use gauge::{Gauge, GaugeKind};
pub use histogram::{Histogram, HistogramKind, Quantiles, Unit};
pub use labels::{LabelValue, Labels, OTHER};
pub use registry::Registry;

/// What Prometheus wants as `Content-Type` of [`Registry::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

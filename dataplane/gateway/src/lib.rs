//! kateway's data plane: what one shard does with HTTP requests and a Kafka cluster.
//!
//! Reading order, the way a publish goes: [`shard`] (what a shard owns, accept), [`conn`] (one connection), `input`
//! (bytes to requests), [`router`], [`endpoints`] (admit, then `publish` or `subscribe`), [`cluster`] (the Kafka
//! client's driver), [`slots`] and [`reply`] (answers, in order). [`subscriptions`] is the other half of a poll: which
//! shard owns a group and how polls and answers travel to it. `prober` asks the clusters whether they answer.
//!
//! Invariants:
//! - A connection, its buffers and its waiting answers belong to one shard for life.
//! - The request path never waits for the control plane: it reads the shard's own `Arc<Snapshot>`.
//! - Memory is reserved before a body is read; a spent budget is a 503, never an allocation.
//! - Only [`reply`] knows HTTP statuses of outcomes.

pub mod access_log;
pub mod batch;
pub mod cluster;
pub mod config;
pub mod conn;
mod content_encoding;
mod destination;
mod duration;
pub mod endpoints;
mod gateway;
mod input;
pub mod limits;
pub mod metrics;
mod prober;
mod repeated;
pub mod reply;
pub mod router;
pub mod shard;
pub mod shared;
pub mod slots;
mod standing;
mod streaming;
pub mod subscribe;
pub mod subscriptions;
mod timestamp;
mod waiters;

pub use config::{ClusterSpec, GatewayConfig};
pub use gateway::{Gateway, GatewayParts, Listeners};
pub use shared::{Readiness, Shared};

//! kateway's data plane: what one shard does with HTTP requests and a Kafka cluster.
//!
//! Rooms, and what each may know of the others (a test proves it): arrows point downward only.
//!
//! ```text
//! shard        one core's start-up list: accept, drive, mail, control, sweep, drain
//!   serve      protocols: bytes to requests, answers to bytes
//!     endpoints    the one list, one file each; what all of them work with (Services)
//!       publish  subscribe      waiting requests of each kind
//!         kafka  access         clusters and destinations; who may what
//!           exchange            one request on its way to its answer; answers as values
//!             env               configuration, time, memory, metrics, log
//! ground: config, limits, codes, refusal, timestamp, tags
//! ```
//!
//! Invariants:
//! - A connection, its buffers and its waiting answers belong to one shard for life.
//! - The request path never waits for the control plane: it reads the shard's own `Arc<Snapshot>`.
//! - Memory is reserved before a body is read; a spent budget is a 503, never an allocation.
//! - Only `kafka/outcome.rs` knows HTTP statuses of outcomes.

mod access;
mod codes;
pub mod config;
mod device;
mod due;
pub mod endpoints;
pub mod env;
pub mod exchange;
mod gateway;
pub mod jobs;
mod kafka;
pub mod limits;
pub mod publish;
pub mod refusal;
mod serve;
mod shard;
pub mod subscribe;
mod tags;
mod timestamp;

pub use crate::jobs::desk::{Desk as Jobs, JobsPlace};
pub use config::{ClusterSpec, GatewayConfig, HandoffConfig, HandoffDevice, JobsConfig};
pub use env::board::{Board, Readiness};
pub use env::peers::{Peer, Peers};
pub use gateway::{Gateway, GatewayParts, Listeners};
pub use publish::handoff::open::HandoffPlace;
pub use publish::handoff::store::Store as Handoff;

/// What the control plane says and asks of delayed jobs.
pub mod delayed {
    pub use crate::jobs::Act;
    pub use crate::jobs::ask::{AskError, Found};
    pub use ::jobs::JobId;
    pub use ::jobs::book::{Parked, Stage};
    pub use ::jobs::id::node_number;
    pub use ::jobs::log::{Name, Reason};
    pub use ::jobs::store::{Deed, Job as DueJob, NewJob, Outcome, QueueSeen};
}

/// What the control plane says and asks of handed-off messages.
pub mod handoff {
    pub use crate::publish::handoff::adopt::Adopted;
    pub use crate::publish::handoff::domains::State;
    pub use crate::publish::handoff::parked::{Change, ParkedRow};
    pub use crate::publish::handoff::status::{DomainStatus, Status};
    pub use journal::queue::StreamId;
    pub use journal::receipt_id::ReceiptId;
}

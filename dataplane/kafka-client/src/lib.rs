//! The Kafka client as state machines: bytes in, bytes out, no socket and no clock.
//!
//! The gateway drives a [`Client`] from io_uring, the control plane from tokio, the tests from a seed; all run this
//! code. `now` is a parameter, randomness comes from the seed given to [`Client::new`].
//!
//! ```text
//!   produce() ─> accumulator ─┐                        ┌─> poll_outcome()
//!   request() ─> requests ────┤ flush(): who may send  ├─> poll_reply()
//!   topic()   ─> metadata ────┘ what to whom, now      │
//!                                │                     │
//!        poll_connect / take_transmit / poll_close   on_connected / on_bytes / on_closed
//!                                └────── driver (sockets) ──────┘
//! ```
//!
//! Read `client` for the plan, `producer` for what an error says about storage, `accumulator` and `batch` for the
//! path of a record, `fetches` for how many groups share few connections, `connection` for the wire.

mod accumulator;
mod backoff;
mod batch;
mod brokers;
mod client;
pub mod config;
mod connection;
mod connections;
mod coordinator;
mod fetches;
mod fit;
pub mod group;
pub mod limits;
pub mod partitioner;
mod producer;
mod queue;
mod requests;
mod rng;
pub mod sasl;
mod search;
mod types;
mod unsent;

pub use client::Client;
pub use config::{ClientConfig, Mechanism, Sasl, Security};
pub use partitioner::Partitioner;
pub use search::{Found, Search, SearchError, Since};
pub use types::{
    Acks, Asker, ConnId, Connect, Health, How, Lane, OnAway, Outcome, ProduceError, Request, RequestError,
    RequestToken, Response, Stored, Target, TopicIdx, TopicOptions, TopicState,
};
pub use unsent::Unsent;

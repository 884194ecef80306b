//! The Kafka-protocol proxy as a library: what kproxy does on each of its cores.
//!
//! ```text
//!  client ──▶ requests.rs ──▶ broker      recognised by their heads, passed on unread, remembered in `in_flight`
//!  client ◀── answers.rs  ◀── broker      unread, or with addresses replaced (rewrite/) or hidden (kafka_wire::passing)
//!                  │ learned                              ▲ view: where this client finds node n
//!                  ▼                                      │
//!              topology.rs: where node n really listens ──┴─ apis.rs: the one list of what happens to each API
//! ```
//!
//! One client connection is one broker connection, so correlation ids, order, sessions, transactions and any SASL
//! exchange pass as they are, and what a broker grants or refuses it grants or refuses the client. The proxy has no
//! credentials. Everything here is without sockets and clocks but for `shard/`.
//!
//! Reading order: `apis.rs`, `requests.rs`, `answers.rs`, `rewrite/metadata.rs`, `topology.rs`; then `shard/`.

pub mod answers;
pub mod apis;
mod edit;
pub mod in_flight;
pub mod limits;
pub mod requests;
pub mod rewrite;
pub mod shapes;
pub mod tenant;
pub mod topology;

pub mod config;
mod listeners;
mod metrics;
mod proxy;
mod proxy_protocol;
mod shard;

pub use config::{Listen, ProxyConfig, TenantConfig};
pub use proxy::Proxy;

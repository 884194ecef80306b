//! Kafka bytes and values, both sides of the wire, without a socket, a clock or an allocation that a peer chooses.
//!
//! Two codecs live here. What every message passes through (frames, headers, record batches, Produce, Fetch,
//! ApiVersions) is our own: it slices the received frame instead of copying and writes into one buffer. Everything
//! else ("cold") goes through the crate `kafka-protocol`, whose decoder reserves memory from counts it has not
//! checked; so [`shape`] walks the bytes first and refuses what does not add up.
//!
//! Invariants:
//! - Nothing here panics on bytes from outside: every read is bounded by what was received, every count by
//!   [`limits`], and a refusal is a [`WireError`] that says what, where, found and allowed.
//! - A decoder allocates at most in proportion to the bytes it was given.
//! - Received payloads (records, keys, values, names) are slices of the frame they came in.
//!
//! Reading order: [`frame`], [`header`], [`messages`], [`record_batch`]; then [`shape`] and [`cold`].

pub mod api_key;
mod chain;
pub mod cold;
pub mod compression;
pub mod error_code;
pub mod frame;
pub mod handoff_entry;
pub mod header;
pub mod job_entry;
pub mod limits;
pub mod messages;
pub mod passing;
pub mod peek;
pub mod pieces;
mod primitive;
pub mod record_batch;
pub mod shape;
pub mod shapes;
mod wire_error;

pub use api_key::ApiKey;
pub use error_code::ErrorCode;
pub use wire_error::WireError;

//! Every limit of a gateway shard, in one place, with its reason.

use std::time::Duration;

/// Largest `limits.message_bytes` an operator may set. Kafka brokers default to 1 MiB batches; topics for larger
/// messages exist, but a gateway that buffers more than this per request is a file server.
pub const MESSAGE_BYTES_CEILING: usize = 10_000_000;
/// Smallest memory budget a gateway starts with: a few messages of the largest size.
pub const MEMORY_BYTES_FLOOR: u64 = 16 << 20;
/// Requests of one connection that may wait for their answer at once (HTTP pipelining). Beyond it the gateway stops
/// reading, which the client sees as TCP back-pressure.
pub const PIPELINE_DEPTH_MAX: usize = 256;
/// Head and small bodies are parsed out of pooled buffers of this size.
pub const READ_BUFFER_BYTES: usize = 16 << 10;
/// Values from this size on are linked into the produce request, not copied (DESIGN.md section 3: copying 1 KiB costs
/// less than reference-counting it).
pub const VALUE_SHARED_BYTES_MIN: usize = 16 << 10;
/// `key` in the query, as in 2017.
pub const KEY_BYTES_MAX: usize = 256;
/// `X-Tag` on publish, as in 2017.
pub const TAG_BYTES_MAX: usize = 1024;
/// Record headers one publish may carry (tags and `X-Header-*` together).
pub const RECORD_HEADERS_MAX: usize = 64;
/// Connections per shard and listener; further ones are closed at once and counted.
pub const CONNECTIONS_MAX: usize = 100_000;
/// A client that does not take its answer for this long is cut off.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// How often the sweeper looks for connections past their deadline.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// After an error that ends the connection, how many bytes are still read and thrown away, so that the client sees
/// the answer instead of a reset.
pub const LINGER_BYTES_MAX: usize = 256 << 10;
/// And for how long.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(1);
/// Share of the memory budget one tenant may hold (1/n).
pub const TENANT_SHARE: u64 = 4;
/// Share of the memory budget requests for one cluster may hold (1/n).
pub const CLUSTER_SHARE: u64 = 2;
/// What a queued publish costs beyond its bytes, for the budget: waiter, slot, run.
pub const PUBLISH_OVERHEAD_BYTES: usize = 512;
/// Messages between shards that may queue up; a full mailbox answers 503.
pub const MAILBOX_DEPTH: usize = 4096;

const _: () = assert!(VALUE_SHARED_BYTES_MIN < MESSAGE_BYTES_CEILING);
const _: () = assert!(READ_BUFFER_BYTES <= VALUE_SHARED_BYTES_MIN);

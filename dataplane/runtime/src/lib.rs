//! What a shard stands on: one pinned thread, one ring, one run queue.
//!
//! The only crate that names monoio, io_uring or eventfd. Everything above it (gateway, proxy, embedded broker)
//! sees owned buffers, local tasks, timers and mailboxes, so that another runtime could be put underneath by
//! rewriting this crate alone. No HTTP, no Kafka.
//!
//! Reading order: [`spawn_shard`] (which ring, and what happens when a shard ends or panics), [`net`] (listeners
//! and streams), [`mailbox`] (values between shards), then the small ones.
//!
//! Rules the rest of the data plane relies on, each proven by a test in `tests/` on all three drivers:
//! - **Yield with [`time::yield_now`], never by waking yourself.** monoio 0.2.4 looks at timers and at wakes from
//!   other threads only when its run queue is empty; a task that wakes itself keeps it full for ever.
//! - **Race and drop only [`net::Stream::readable`].** A dropped read may already have taken bytes from the socket.
//! - **An idle connection holds no buffer**: await `readable`, then take one from the [`pool`].
//! - **A task's panic ends its shard**: our own broken invariant. `join` on the shard's thread returns it, and the
//!   [`crew`] tells it at once.

pub mod budget;
pub mod clock;
mod context;
pub mod crew;
pub mod descriptors;
pub mod limits;
pub mod line_log;
pub mod mailbox;
pub mod memory;
pub mod net;
pub mod notify;
pub mod pool;
pub mod priority;
mod race;
pub mod raw_ring;
pub mod server;
mod shard;
mod task;
pub mod time;

pub use race::{Either, race};
pub use shard::{DRIVER_VARIABLE, Driver, ShardOptions, spawn_shard};
pub use task::{TaskHandle, spawn};

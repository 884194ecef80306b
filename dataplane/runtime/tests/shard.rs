//! The rules of `runtime`, each proven on io_uring with flags, plain io_uring and epoll.
//!
//! A driver that this kernel or container forbids is skipped with a line saying so.

mod common;

#[path = "shard/life.rs"]
mod life;
#[path = "shard/mailboxes.rs"]
mod mailboxes;
#[path = "shard/sockets.rs"]
mod sockets;
#[path = "shard/timers.rs"]
mod timers;
#[path = "shard/tls.rs"]
mod tls;

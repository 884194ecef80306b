//! Sockets of a shard: listeners that share a port, streams in plain text or TLS, connecting by name.

mod chain;
mod connect;
mod listener;
mod pump;
mod resolve;
mod socket;
mod stream;
pub mod tls;

pub use connect::connect;
pub use listener::{ListenSpec, Listener, bind, bind_reuseport};
pub use pump::pump;
pub use stream::{Closer, ReadBuf, ReadHalf, Stream, WriteHalf};

//! Delayed jobs of one node: kept until they are due, on the journal's log.

mod bodies;
pub mod book;
pub mod clock;
pub mod id;
#[cfg(test)]
mod keep_rows;
pub mod key;
pub mod limits;
pub mod log;
pub mod memory;
pub mod queue;
mod shared_map;
pub mod states;
pub mod store;
pub mod table;
pub mod wheel;

pub use id::JobId;
pub use key::Key;

//! Delayed jobs of one node: kept until they are due, on the journal's log.

pub mod key;
pub mod limits;
pub mod table;

pub use key::Key;

//! Tables: jobs that were added a while ago, sorted by when they are due, in files that never change.
//!
//! ```text
//!   memory ──write──▶ table ┐
//!            …              ├──merge──▶ table    due order:  block_at_or_after, next, read_block
//!   memory ──write──▶ table ┘                    one job:    find (by number), read_job (by key)
//! ```
//!
//! A table is some part files, each with a later stretch of time, and one directory file (bytes: `wal/FORMAT.md`). Tables of
//! about one size are merged, so a job far in the future is written log16(N) times, one that is due soon once.
//!
//! Invariants:
//! - A file has its name when it is durable, a table is told of when its names are. So every [`Meta`] that was given out is
//!   whole after a power cut, and files that no meta knows are leftovers ([`unknown`]).
//! - Every byte that is believed is checked, against a checksum that begins with store, table, part and place. Rot is an error
//!   of the block it is in; no row is ever wrong, and no read is led past one that was lost.
//! - A table is written by one task; it is read by any number.

mod file;
pub mod format;
pub mod limits;
mod merge;
mod meta;
mod open;
mod output;
mod read;
mod rebuild;
mod rotten;
mod scrub;
mod sorter;
mod write;

#[cfg(test)]
mod tests;

pub use format::StoreId;
pub use format::block::{Block, Row, RowRef};
pub use limits::Limits;
pub use merge::{MergeError, Merged, merge};
pub use meta::{Meta, PartMeta, unknown};
pub use open::OpenError;
pub use read::{BlockRef, Table};
pub use rotten::{ReadError, Rotten, Why};
pub use scrub::{Scrub, Scrubbed};
pub use write::{Target, WriteError, Writer, write};

//! What is on the disk, and who knows when it is there for good: partition logs, journals, group commit.

pub mod journal;
pub mod log;
pub mod producers;
pub mod syncer;

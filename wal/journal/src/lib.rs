//! A durable log for one node: groups of records in, their lsns back when they are on the disk.
//!
//! ```text
//!   any thread                 thread "journal"                       files (wal/FORMAT.md)
//!   append(group, ticket) ──►  everything appended since the last ──► segment-…3.wal  write, persist
//!        ▲                     commit: blocks of ~1 MiB                segment-…4.wal  ready: spare-…
//!        │                       │ durable
//!   Waiter: completions ◄────────┤ 2. ticket and first lsn, one doorbell per commit
//!                                └─► 1. observer: every record, in lsn order, and where it lies
//!
//!   Reader: read(location), scan(from_lsn)        Background: reads, scans, scrub, checkpoints, spares
//! ```
//!
//! # How it is used
//!
//! ```ignore
//! let (idle, recovered) = Journal::recover(config, disk, random())?;   // always starts: rot is reported, not fatal
//! // recovered.checkpoint (your blob), .from_lsn, .next_lsn, .lost, .torn
//! idle.reader().scan(recovered.from_lsn, &mut |entry| …)?;             // Entry { lsn, stream, kind, flags, location, body }
//! let journal = idle.start(|| drop(raise_priority()), observer)?;      // observer: FnMut(Committed { lsn, location, record })
//!
//! let waiter = Waiter::new(|| ring the shard);                         // one per consumer
//! let record = Record::of_parts(stream, kind, sequence, head, large_body);       // .reserved(): may use the reserve of a full disk
//! journal.append(Group::new([record])?, ticket, &waiter)?;             // Err(Refused::Waiting | Closed): nothing was stored
//! waiter.take(&mut completions);                                       // Completion { ticket, result: Ok(first_lsn) | Err(Refused) }
//!
//! journal.reader().read(&location)?;                                   // Bytes, checked; on this thread
//! journal.read(locations, ticket, &read_waiter)?;                      // elsewhere: ReadCompletion { ticket, bodies }
//! journal.scrub(bytes_per_second);                                     // every closed segment, once
//! journal.free(segment);                                               // nothing of it is needed
//! journal.checkpoint(lsn, blob)?;                                      // blocking: for a thread that may wait
//! journal.close();                                                     // commits what was appended
//! ```
//!
//! # What it promises
//!
//! - `Ok(lsn)`: the group is durable, whole, at `lsn`, `lsn + 1`, … Lsns are dense, and never used twice for something told.
//! - `Err`: see [`Refused`]. `Waiting`, `Closed`, `TooLarge`, `ReadOnly`: nothing was stored. `DiskFull`, `Unknown`: a
//!   restart may find the group, whole, after everything that was told; or not.
//! - What a start finds is durable when [`Journal::recover`] returns, unless [`Journal::is_read_only`].
//! - A segment goes when it was [freed](Journal::free), and two checkpoints with an lsn behind it were written after that.
//!   A checkpoint says what its user knew at its lsn, so `free` what is settled by records below the lsn of the checkpoint.
//! - Rot is found by checksum, told ([`Lost`]), copied to `quarantine/`, and everything else goes on.
//!
//! Nothing is on the disk before the first record. [`look`] reads a directory and changes nothing, also while it is in use.
//!
//! Reads and scrubs run on glommio, on a ring and a thread of their own (`ring.rs`); on a plain thread where io_uring is
//! refused, and on a simulated disk ([`Journal::background`] says which). Spares are made by another plain thread.

mod background;
mod checkpointing;
pub mod config;
mod core;
pub mod format;
mod fresh;
mod journal;
pub mod limits;
mod look;
pub mod metrics;
pub mod queue;
mod reader;
mod record;
mod recovery;
mod refused;
mod ring;
mod run;
mod shelf;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
mod waiter;
pub mod walk;
mod writer;

pub use background::{ReadCompletion, ReadWaiter};
pub use config::{Background, Config, Now, Random};
pub use format::block::RESERVED;
pub use journal::{Idle, Journal, Priority, raise_priority, random};
pub use look::{CheckpointFile, Looked, SegmentFile, SegmentState, look};
pub use metrics::Metrics;
pub use reader::Reader;
pub use record::{Committed, Entry, Group, Location, Place, Record};
pub use recovery::{Lost, Recovered};
pub use refused::{CheckpointError, OpenError, ReadError, Refused};
pub use waiter::{Completion, Waiter};

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
//!   Reader: read_run(place), scan(from_lsn)       Background: reads, scrub
//! ```
//!
//! # How it is used
//!
//! ```
//! # use std::sync::{Arc, mpsc};
//! # use bytes::Bytes;
//! # use disk::{Disk, Files};
//! # use journal::{Config, Group, Journal, ReadWaiter, Record, Waiter, random};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let disk: Arc<dyn Disk> = Arc::new(Files::start(|_| Ok(()), || {}, || {})?);
//! # let config = Config::new(dir.path().join("journal"), "node-1");
//! let (idle, recovered) = Journal::recover(config, disk, random())?; // always starts: rot is reported, not fatal
//! println!("{} lost, torn: {:?}", recovered.lost.len(), recovered.torn);
//! idle.reader().scan(recovered.from_lsn, &mut |entry| println!("{} of stream {}", entry.lsn, entry.stream))?;
//! let (committed, places) = mpsc::channel();
//! let raise = || drop(journal::raise_priority());
//! let journal = idle.start(raise, move |record| committed.send(record.place).unwrap())?;
//!
//! let (ring, rang) = mpsc::channel();
//! let waiter = Waiter::new(move || ring.send(()).unwrap()); // one per consumer; its doorbell wakes that
//! let record = Record::of_parts(1, 7, 0, Bytes::from("head"), Bytes::from("large body, not copied"));
//! journal.append(Group::new([record])?, 17, &waiter)?; // Err: nothing was stored
//! rang.recv()?;
//! let mut completions = Vec::new();
//! waiter.take(&mut completions);
//! assert_eq!((completions[0].ticket, completions[0].result), (17, Ok(recovered.next_lsn)));
//!
//! let (ring, rang) = mpsc::channel();
//! let reads = ReadWaiter::new(move || ring.send(()).unwrap());
//! journal.read(places.recv()?, 1, 18, &reads)?; // on another thread
//! rang.recv()?;
//! let mut read = Vec::new();
//! reads.take(&mut read);
//! assert_eq!(read.remove(0).entries?.remove(0)?.body, "headlarge body, not copied");
//!
//! journal.scrub(1 << 20); // every closed segment, once, at a MiB a second
//! journal.checkpoint(recovered.next_lsn + 1, b"what its user knows".to_vec())?; // waits for the disk
//! journal.close(); // commits what was appended
//! # Ok(())
//! # }
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
pub mod receipt_id;
mod record;
mod recovery;
mod refused;
mod ring;
mod run;
mod shelf;
#[cfg(test)]
mod simulation;
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

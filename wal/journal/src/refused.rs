//! Why something was not done, for whoever asked and for the person who is paged.

use std::io;
use std::path::PathBuf;

use crate::format::Bad;

/// Why a group was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    #[error("the records are larger than what can be appended together; the sender's, a retry cannot help")]
    TooLarge,
    #[error("too much waits for the disk; try again")]
    Waiting,
    #[error("the disk has no room for it; try again when there is")]
    DiskFull,
    #[error("the journal is read-only since its disk failed; nothing was stored")]
    ReadOnly,
    #[error("the disk failed while it was written; a restart may find it or not")]
    Unknown,
    #[error("the journal is closing; nothing was stored")]
    Closed,
}

/// Why a journal cannot be opened. A disk that is full or rotten is no reason; see `Recovered`.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path:?} was written by a newer version of this program: {bad}; nothing was touched")]
    Newer { path: PathBuf, bad: Bad },
    #[error("{dir:?} holds the journal of node {found:?}, not of {expected:?}; nothing was touched")]
    OfAnother { dir: PathBuf, found: String, expected: String },
    #[error("the name of the node has {bytes} bytes, more than {max}")]
    Name { bytes: usize, max: usize },
    #[error("cannot {what} {path:?}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start the thread of the journal")]
    Thread { source: io::Error },
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("segment {segment} is gone, or was never there")]
    Gone { segment: u64 },
    #[error("the record of {bytes} bytes at {offset} of segment {segment} does not match its checksum: it is rotten")]
    Rotten { segment: u64, offset: u32, bytes: u32 },
    #[error("cannot read segment {segment}")]
    Io { segment: u64, source: io::Error },
}

/// Why there is no new checkpoint; the one before counts.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("lsn {lsn} is beyond what is durable, {durable}")]
    NotDurable { lsn: u64, durable: u64 },
    #[error("lsn {lsn} is before that of the last checkpoint, {last}")]
    Backwards { lsn: u64, last: u64 },
    #[error("the journal is read-only since its start: the end of the log may not be durable")]
    Unfinished,
    #[error("it is larger than a checkpoint may be")]
    TooLarge,
    #[error("there is no record yet, so nothing to know")]
    Empty,
    #[error("cannot {what} checkpoint {number}")]
    Io { what: &'static str, number: u64, source: io::Error },
}

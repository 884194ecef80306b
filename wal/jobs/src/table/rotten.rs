//! What is wrong with a place in a file of a table, and what a read can answer instead of rows.

use std::io;
use std::path::PathBuf;

use journal::format::Bad;

/// A place in a file that is not what was written there. Everything else of the table can be read. Merging the table alone
/// writes what is left of it anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file:?} is rotten: {bytes} bytes at {at}, {rows} jobs: {why}")]
pub struct Rotten {
    pub file: PathBuf,
    pub at: u64,
    pub bytes: u64,
    /// Jobs that are lost with it; none when it can be done without, as an index.
    pub rows: u64,
    pub why: Why,
}

/// How it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error(transparent)]
    Bad(#[from] Bad),
    #[error("the file ends before it, or is not there")]
    Missing,
    #[error("the device cannot read it")]
    Unreadable,
    #[error("it is whole, but not what its index or its table says")]
    Other,
}

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// For good.
    #[error(transparent)]
    Rotten(#[from] Rotten),
    /// Nothing is known of the bytes; again later.
    #[error("cannot read {bytes} bytes at {at} of {file:?}")]
    Io {
        file: PathBuf,
        at: u64,
        bytes: u64,
        #[source]
        source: io::Error,
    },
}

/// Linux's number of it; the same for every architecture.
const EIO: i32 = 5;

impl Why {
    /// What an error of a read says of the medium. Nothing: it is of the moment (no descriptor, no memory).
    pub(super) fn of_read(err: &io::Error) -> Option<Why> {
        match (err.kind(), err.raw_os_error()) {
            (io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof, _) => Some(Why::Missing),
            (_, Some(EIO)) => Some(Why::Unreadable),
            _ => None,
        }
    }
}

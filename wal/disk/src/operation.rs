//! What can be asked of a disk, with everything it needs in it, and what comes back.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use crate::file::File;

/// What [`Operation::Zero`] writes at once: a page. The page cache keeps what came in one write in one large folio, and a
/// change of one byte of a mapped folio later writes all of it: 1 MiB for a commit of 1 KiB.
pub const ZERO_WRITE_BYTES: usize = 4096;

/// How a file is opened; for reading and writing, but where it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must be there.
    Existing,
    /// It must be there, and is only read, on a read-only file system too. Nothing is read ahead, so that whoever writes it as
    /// a mapped segment meanwhile does not pay for it.
    Reading,
    /// It is made, or emptied.
    Empty,
    /// It must be there, was zeroed ([`Operation::Zero`]) and persisted, and its length never changes again: a write
    /// past its end and whatever would change the length are refused. How it is written is its disk's device. Read it
    /// opened like this too: read-ahead, which is off for a mapped one, makes its later commits write 21 times as much.
    Segment,
}

/// One thing to do. Buffers are owned, so that it can be done elsewhere and later.
#[derive(Clone, Debug)]
pub enum Operation {
    Open {
        path: PathBuf,
        how: Open,
    },
    Read {
        file: File,
        at: u64,
        bytes: usize,
    },
    /// What is read of these bytes next comes from the medium, as far as can be: the page cache lets go what it has of them and
    /// is durable. For who looks for rot.
    Forget {
        file: File,
        at: u64,
        bytes: usize,
    },
    /// May write fewer bytes than given, as the system does.
    Write {
        file: File,
        at: u64,
        head: Bytes,
        body: Bytes,
    },
    /// Writes zeros into an empty file up to this length, so that a full disk is an error here and not of a write later.
    /// In writes of [`ZERO_WRITE_BYTES`]; does not persist. After an error some of it may be there: remove the file.
    Zero {
        file: File,
        bytes: u64,
    },
    Preallocate {
        file: File,
        bytes: u64,
    },
    Truncate {
        file: File,
        bytes: u64,
    },
    /// Makes durable what was written before it *begins*, from byte `from` on, and the file's length. Until it begins,
    /// [`File::persist_is_waiting`], and one for the same file would do nothing more.
    Persist {
        file: File,
        from: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeDir {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
    PersistDir {
        path: PathBuf,
    },
    List {
        path: PathBuf,
    },
    LookAt {
        path: PathBuf,
    },
    /// Room on the file system that holds what has this name.
    Space {
        path: PathBuf,
    },
}

/// What an operation brought.
#[derive(Debug)]
pub enum Outcome {
    Done,
    File(File),
    Bytes(Bytes),
    Written(usize),
    /// Everything up to this many of the file's writes ([`File::writes`]) is durable.
    Persisted {
        writes: u64,
    },
    Entries(Vec<Entry>),
    Meta(Meta),
    Space(Space),
}

/// The end of a submitted operation.
#[derive(Debug)]
pub struct Completion {
    pub ticket: u64,
    pub result: io::Result<Outcome>,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub bytes: u64,
    /// Epoch ms of the last write.
    pub modified_ms: i64,
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What we may still fill; what is reserved for root is not in it.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The outcome of an operation is of its kind, or the disk has a bug.
macro_rules! of_kind {
    ($($name:ident, $variant:ident, $type:ty;)*) => {$(
        pub(crate) fn $name(self) -> $type {
            match self {
                Outcome::$variant(value) => value,
                other => panic!("{other:?} is no outcome of this operation"),
            }
        }
    )*};
}

impl Outcome {
    of_kind! {
        into_file, File, File;
        into_bytes, Bytes, Bytes;
        into_written, Written, usize;
        into_entries, Entries, Vec<Entry>;
        into_meta, Meta, Meta;
        into_space, Space, Space;
    }
}

//! A node's id that stays the same over restarts, and the directory that comes with it.
//!
//! ```text
//! D/nodes/.lock                    held while a process chooses
//! D/nodes/5f0c9a3e71d2b684/        named by the node's id, for files that belong to one process
//! D/nodes/5f0c9a3e71d2b684/journal/  messages that were handed off to this node (wal/FORMAT.md)
//! D/nodes/5f0c9a3e71d2b684/lock    flock held by the process for as long as it lives
//! ```
//! Processes that share a data directory D each take the first free one by name, so a process that restarts finds its
//! own again, and several get different ones. Where none is free a new one is made, of a random id, because the ids of two
//! machines meet in one registry. The kernel lets go of the lock with the process, also by kill -9.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::limits::{NODE_DIRS_MAX, NODE_ID_BYTES_MAX};

/// In a gateway's directory, the journal of messages that were handed off.
pub const JOURNAL: &str = "journal";
/// Where the delayed jobs of a node are, beside it.
pub const JOBS: &str = "jobs";

const ID_DIGITS: usize = 16;
const _: () = assert!(ID_DIGITS <= NODE_ID_BYTES_MAX);

/// 16 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(String);

impl NodeId {
    fn parse(name: &str) -> Option<NodeId> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (name.len() == ID_DIGITS && name.bytes().all(is_digit)).then(|| NodeId(name.to_owned()))
    }

    fn random() -> Result<NodeId, NodeDirError> {
        let mut bytes = [0; ID_DIGITS / 2];
        getrandom::fill(&mut bytes).map_err(|err| NodeDirError::Random { why: err.to_string() })?;
        Ok(NodeId(format!("{:016x}", u64::from_be_bytes(bytes))))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An id and a directory that nobody else has while this lives.
#[derive(Debug)]
pub struct NodeDir {
    pub id: NodeId,
    pub path: PathBuf,
    _lock: File,
}

/// Why a process has no id. Its data directory is of no use, or too many processes share it.
#[derive(Debug, thiserror::Error)]
pub enum NodeDirError {
    #[error("{path:?} has {NODE_DIRS_MAX} node directories, all in use")]
    TooMany { path: PathBuf },
    #[error("{path:?} has no directory of a node {id:?}")]
    NoSuchNode { path: PathBuf, id: String },
    #[error("no randomness from the operating system for a node id: {why}")]
    Random { why: String },
    #[error("cannot use node directory {path:?}")]
    Io {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
}

/// Takes the first free node directory under `data_dir`, or a new one. Blocks for a moment.
pub fn claim(data_dir: &Path) -> Result<NodeDir, NodeDirError> {
    let nodes = data_dir.join("nodes");
    DirBuilder::new().recursive(true).mode(0o700).create(&nodes).map_err(io_error(&nodes))?;
    // Whoever starts at the same time waits, so that one takes the first and the other the second.
    let choosing = open_lock(&nodes.join(".lock"))?;
    choosing.lock().map_err(io_error(&nodes))?;
    let known = list(&nodes)?;
    let known_count = known.len();
    for id in known {
        if let Some(free) = take(&nodes, id)? {
            return Ok(free);
        }
    }
    if known_count >= NODE_DIRS_MAX {
        return Err(NodeDirError::TooMany { path: nodes });
    }
    let id = NodeId::random()?;
    let path = nodes.join(id.as_str());
    DirBuilder::new().mode(0o700).create(&path).map_err(io_error(&path))?;
    Ok(take(&nodes, id)?.expect("who chooses does so alone"))
}

/// Takes the directory of a node that is dead, for whoever goes on with what it left; its id stays its own. While this lives
/// no process starts as that node. `Ok(None)`: it lives. Blocks for a moment.
pub fn claim_dead(data_dir: &Path, id: &str) -> Result<Option<NodeDir>, NodeDirError> {
    let nodes = data_dir.join("nodes");
    let missing = || NodeDirError::NoSuchNode { path: nodes.clone(), id: id.chars().take(NODE_ID_BYTES_MAX).collect() };
    // A name of another shape would be a path to anywhere.
    let id = NodeId::parse(id).ok_or_else(missing)?;
    if !nodes.join(id.as_str()).is_dir() {
        return Err(missing());
    }
    let choosing = open_lock(&nodes.join(".lock"))?;
    choosing.lock().map_err(io_error(&nodes))?;
    take(&nodes, id)
}

/// By name. Others' files are left alone.
fn list(nodes: &Path) -> Result<Vec<NodeId>, NodeDirError> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(nodes).map_err(io_error(nodes))? {
        let entry = entry.map_err(io_error(nodes))?;
        ids.extend(entry.file_name().to_str().and_then(NodeId::parse));
    }
    ids.sort();
    Ok(ids)
}

fn take(nodes: &Path, id: NodeId) -> Result<Option<NodeDir>, NodeDirError> {
    let path = nodes.join(id.as_str());
    let lock = open_lock(&path.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(NodeDir { id, path, _lock: lock })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(err)) => Err(io_error(&path)(err)),
    }
}

fn open_lock(path: &Path) -> Result<File, NodeDirError> {
    let open = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    open.map_err(io_error(path))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> NodeDirError + '_ {
    move |err| NodeDirError::Io { path: path.to_owned(), err }
}

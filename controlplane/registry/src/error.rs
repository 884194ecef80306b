//! Why the registry cannot answer. None of these stops a data plane, which serves from its last snapshot.

use std::path::PathBuf;

use crate::NodeKind;
use crate::limits::NODE_ID_BYTES_MAX;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{kind} {id} is registered already by process {pid}")]
    Taken { kind: NodeKind, id: String, pid: u32 },
    #[error("{id:?} is no node id, expected up to {NODE_ID_BYTES_MAX} letters, digits, dots, _ and -")]
    BadId { id: String },
    #[error("{election:?} names no election, expected up to {NODE_ID_BYTES_MAX} letters, digits, dots, _ and -")]
    BadElection { election: String },
    #[error("node {id} announces {found} bytes, at most {limit} are allowed")]
    TooLarge { id: String, found: usize, limit: usize },
    #[error("of node {id} {found} bytes are wished, at most {limit} are allowed")]
    WishTooLarge { id: String, found: usize, limit: usize },
    #[error("there is no {kind} {id}, or another one by now")]
    NoSuchNode { kind: NodeKind, id: String },
    #[error("somebody else wished something of {kind} {id}: its revision is {revision} by now")]
    Overtaken { kind: NodeKind, id: String, revision: u64 },
    #[error("{found} nodes are registered already, at most {limit} are supported")]
    TooMany { found: usize, limit: usize },
    #[error("the registry cannot be reached: {why}")]
    Away { why: String },
    /// Beginning at 1 again would hand out epochs that were used before, so nobody can lead until somebody looked.
    #[error("the last epoch of election {election} cannot be read from {path:?} ({why})")]
    EpochUnknown { election: String, path: PathBuf, why: String },
    #[error("cannot use registry file {path:?}")]
    Io {
        path: PathBuf,
        #[source]
        err: std::io::Error,
    },
}

impl RegistryError {
    /// Whether the same call may succeed later without anybody changing something. A name that is taken is free when its
    /// holder, maybe our own earlier process, is found dead.
    pub fn can_retry(&self) -> bool {
        match self {
            Self::Taken { .. } | Self::TooMany { .. } | Self::Away { .. } | Self::Io { .. } => true,
            Self::BadId { .. }
            | Self::BadElection { .. }
            | Self::TooLarge { .. }
            | Self::WishTooLarge { .. }
            | Self::NoSuchNode { .. }
            | Self::Overtaken { .. }
            | Self::EpochUnknown { .. } => false,
        }
    }
}

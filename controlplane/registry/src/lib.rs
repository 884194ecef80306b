//! Which nodes are up, and where they listen.
//!
//! [`Registry`] is what gateways, proxies and balancers ask. [`LocalRegistry`] answers it for the processes of one
//! machine from a directory; the ZooKeeper ensemble of a zone will answer the same questions for many machines.
//!
//! Being registered means being alive: a registration ends with the process that made it, however it ends.

pub mod limits;
mod local;
mod node;

use std::path::PathBuf;
use std::sync::Arc;

pub use local::LocalRegistry;
pub use node::{NodeInfo, NodeKind};

/// Registration and discovery. Calls block for a moment (file or network): not for a shard.
pub trait Registry: Send + Sync {
    /// Announces this node until `unregister`, or until this registry is dropped, or the process ends. Registering
    /// the same node again replaces what was announced.
    fn register(&self, node: &NodeInfo) -> Result<(), RegistryError>;

    /// Takes the announcement back. Not registered: nothing happens.
    fn unregister(&self, kind: NodeKind, id: &str) -> Result<(), RegistryError>;

    /// Nodes that are up now, of one kind or of all, by kind and id.
    fn nodes(&self, kind: Option<NodeKind>) -> Result<Vec<NodeInfo>, RegistryError>;

    /// Calls back with all nodes of the kind, now and whenever that list changes, until the watch is dropped. Changes
    /// may be seen late or together, never out of order.
    fn watch(&self, kind: Option<NodeKind>, on_change: Callback) -> Result<Watch, RegistryError>;
}

/// What a watch calls. Runs on the registry's thread.
pub type Callback = Arc<dyn Fn(Vec<NodeInfo>) + Send + Sync>;

/// Ends the watch when dropped.
pub struct Watch {
    _stop: std::sync::mpsc::Sender<()>,
}

/// Why the registry cannot answer. None of these stops a data plane, which serves from its last snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{kind} {id} is registered already by process {pid}")]
    Taken { kind: NodeKind, id: String, pid: u32 },
    #[error("{id:?} is no node id, expected up to {} letters, digits, dots, _ and -", limits::NODE_ID_BYTES_MAX)]
    BadId { id: String },
    #[error("node {id} announces {found} bytes, at most {limit} are allowed")]
    TooLarge { id: String, found: usize, limit: usize },
    #[error("{found} nodes are registered already, at most {limit} are supported")]
    TooMany { found: usize, limit: usize },
    #[error("cannot use registry file {path:?}")]
    Io {
        path: PathBuf,
        #[source]
        err: std::io::Error,
    },
}

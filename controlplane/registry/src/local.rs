//! The registry of one machine: a directory with a file per node, each locked by its process.
//!
//! ```text
//! DIR/.lock                    held for the microseconds of a change or a listing's clean-up
//! DIR/kateway.gw-1.json        NodeInfo; flock held by the node for as long as it lives
//! ```
//! The kernel lets go of a flock when the process ends, also by kill -9, so a file nobody holds belongs to a dead node
//! and is removed by whoever notices. A pid in a file would not do: pids are used again, and differ between
//! containers.
//!
//! Invariant: a node file becomes visible (by rename) only after it was locked and written, so a visible file that
//! can be locked is stale and one that can be read is whole.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::limits::{NODE_BYTES_MAX, NODES_MAX, WATCH_PERIOD};
use crate::node::check_id;
use crate::{Callback, NodeInfo, NodeKind, Registry, RegistryError, Watch};

/// The registry in a directory. Dropping it takes back what was registered through it.
pub struct LocalRegistry {
    dir: Arc<Directory>,
    /// Files of our own nodes. An open file is the lock.
    held: Mutex<HashMap<(NodeKind, String), File>>,
}

struct Directory {
    path: PathBuf,
}

impl LocalRegistry {
    /// Uses the directory, made if it is missing (private to this user: it says where to connect).
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error(dir))?;
        Ok(Self { dir: Arc::new(Directory { path: dir.to_owned() }), held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(NodeKind, String), File>> {
        self.held.lock().expect("nobody panics while holding the map of held files")
    }
}

impl Registry for LocalRegistry {
    fn register(&self, node: &NodeInfo) -> Result<(), RegistryError> {
        check_id(&node.id)?;
        let text = serde_json::to_vec_pretty(node).expect("a node has string keys only");
        if text.len() > NODE_BYTES_MAX {
            return Err(RegistryError::TooLarge { id: node.id.clone(), found: text.len(), limit: NODE_BYTES_MAX });
        }
        let mut held = self.held();
        let _guard = self.dir.lock()?;
        let key = (node.kind, node.id.clone());
        if !held.contains_key(&key) {
            let living = self.dir.sweep()?;
            if let Some(other) = living.iter().find(|n| n.kind == node.kind && n.id == node.id) {
                return Err(RegistryError::Taken { kind: node.kind, id: node.id.clone(), pid: other.pid });
            }
            if living.len() >= NODES_MAX {
                return Err(RegistryError::TooMany { found: living.len(), limit: NODES_MAX });
            }
        }
        let file = self.dir.publish(node, &text)?;
        // The file it replaces, if any, is let go of here.
        held.insert(key, file);
        Ok(())
    }

    fn unregister(&self, kind: NodeKind, id: &str) -> Result<(), RegistryError> {
        let mut held = self.held();
        let Some(file) = held.remove(&(kind, id.to_owned())) else { return Ok(()) };
        let _guard = self.dir.lock()?;
        let path = self.dir.node_path(kind, id);
        let removed = fs::remove_file(&path);
        drop(file);
        match removed {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(io_error(&path)(err)),
            _ => Ok(()),
        }
    }

    fn nodes(&self, kind: Option<NodeKind>) -> Result<Vec<NodeInfo>, RegistryError> {
        self.dir.nodes(kind)
    }

    fn watch(&self, kind: Option<NodeKind>, on_change: Callback) -> Result<Watch, RegistryError> {
        let mut last = self.dir.nodes(kind)?;
        let dir = Arc::clone(&self.dir);
        let (stop, stopped) = channel();
        let run = move || {
            on_change(last.clone());
            while stopped.recv_timeout(WATCH_PERIOD) == Err(RecvTimeoutError::Timeout) {
                match dir.nodes(kind) {
                    Ok(now) if now != last => {
                        last = now;
                        on_change(last.clone());
                    }
                    Ok(_) => {}
                    // The next look may succeed; what is known stays known.
                    Err(err) => tracing::debug!(%err, "registry directory cannot be listed"),
                }
            }
        };
        let spawned = std::thread::Builder::new().name("registry-watch".to_owned()).spawn(run);
        spawned.map_err(io_error(&self.dir.path))?;
        Ok(Watch { _stop: stop })
    }
}

impl Drop for LocalRegistry {
    fn drop(&mut self) {
        let nodes: Vec<(NodeKind, String)> = self.held().keys().cloned().collect();
        for (kind, id) in nodes {
            if let Err(err) = self.unregister(kind, &id) {
                tracing::warn!(%kind, id, %err, "node could not be unregistered");
            }
        }
    }
}

impl Directory {
    fn node_path(&self, kind: NodeKind, id: &str) -> PathBuf {
        self.path.join(format!("{kind}.{id}.json"))
    }

    /// Held while files appear and disappear.
    fn lock(&self) -> Result<File, RegistryError> {
        let path = self.path.join(".lock");
        let open = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let file = open.map_err(io_error(&path))?;
        file.lock().map_err(io_error(&path))?;
        Ok(file)
    }

    /// Writes the node's file aside, locks it and moves it into place. Only under the directory's lock.
    fn publish(&self, node: &NodeInfo, text: &[u8]) -> Result<File, RegistryError> {
        let path = self.node_path(node.kind, &node.id);
        let aside = self.path.join(format!(".{}.{}.new", node.kind, node.id));
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let mut file = open.map_err(io_error(&aside))?;
        file.lock().map_err(io_error(&aside))?;
        file.write_all(text).map_err(io_error(&aside))?;
        fs::rename(&aside, &path).map_err(io_error(&path))?;
        Ok(file)
    }

    fn nodes(&self, kind: Option<NodeKind>) -> Result<Vec<NodeInfo>, RegistryError> {
        let mut nodes = match self.list()? {
            // Somebody left without saying so: look again under the lock and clean up.
            (_, true) => {
                let _guard = self.lock()?;
                self.sweep()?
            }
            (nodes, false) => nodes,
        };
        nodes.retain(|node| kind.is_none_or(|kind| node.kind == kind));
        nodes.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        Ok(nodes)
    }

    /// Removes the files of the dead; the living. Only under the directory's lock, or it could remove a file that
    /// just took a dead one's place.
    fn sweep(&self) -> Result<Vec<NodeInfo>, RegistryError> {
        let mut living = Vec::new();
        for path in self.node_files()? {
            match read_node(&path)? {
                Found::Living(node) => living.push(*node),
                Found::Gone => {}
                Found::Dead => match fs::remove_file(&path) {
                    Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(io_error(&path)(err)),
                    _ => tracing::info!(path = %path.display(), "registration of a dead node removed"),
                },
            }
        }
        Ok(living)
    }

    /// The living, and whether any dead ones were seen.
    fn list(&self) -> Result<(Vec<NodeInfo>, bool), RegistryError> {
        let (mut living, mut saw_dead) = (Vec::new(), false);
        for path in self.node_files()? {
            match read_node(&path)? {
                Found::Living(node) => living.push(*node),
                Found::Gone => {}
                Found::Dead => saw_dead = true,
            }
        }
        Ok((living, saw_dead))
    }

    fn node_files(&self) -> Result<Vec<PathBuf>, RegistryError> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io_error(&self.path))? {
            let path = entry.map_err(io_error(&self.path))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.starts_with('.') && name.ends_with(".json") {
                paths.push(path);
            }
            if paths.len() > NODES_MAX {
                return Err(RegistryError::TooMany { found: paths.len(), limit: NODES_MAX });
            }
        }
        Ok(paths)
    }
}

enum Found {
    Living(Box<NodeInfo>),
    /// Nobody holds the file, or it is none of ours.
    Dead,
    /// Removed while we looked.
    Gone,
}

fn read_node(path: &Path) -> Result<Found, RegistryError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Gone),
        Err(err) => return Err(io_error(path)(err)),
    };
    match file.try_lock_shared() {
        // Let go of at once: `file` is dropped on return.
        Ok(()) => return Ok(Found::Dead),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(err)) => return Err(io_error(path)(err)),
    }
    let mut text = Vec::new();
    (&mut file).take(NODE_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(io_error(path))?;
    match serde_json::from_slice(&text) {
        Ok(node) => Ok(Found::Living(Box::new(node))),
        Err(err) => {
            // Held by somebody, so not ours to remove: a newer version, or not a node at all.
            tracing::warn!(path = %path.display(), %err, "registration cannot be understood");
            Ok(Found::Gone)
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> RegistryError + '_ {
    move |err| RegistryError::Io { path: path.to_owned(), err }
}

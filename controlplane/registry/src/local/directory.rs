//! The files of a local registry: made, found, told to be dead. Everything here blocks.
//!
//! A node file becomes visible (by rename) only after it was locked and written, so a visible file that can be locked is
//! stale and one that can be read is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::wishes::Wishes;
use crate::limits::{NODE_BYTES_MAX, NODES_MAX};
use crate::{NodeInfo, NodeKind, RegistryError};

pub(super) struct Directory {
    pub(super) path: PathBuf,
}

impl Directory {
    /// Made if it is missing, private to this user: it says where to connect.
    pub(super) fn create(&self) -> Result<(), RegistryError> {
        create_private(&self.path)
    }

    pub(super) fn wishes(&self) -> Wishes {
        Wishes { dir: self.path.join("wishes") }
    }

    fn node_path(&self, kind: NodeKind, id: &str) -> PathBuf {
        self.path.join(format!("{kind}.{id}.json"))
    }

    /// Held by one, while files appear and disappear.
    pub(super) fn lock(&self) -> Result<File, RegistryError> {
        lock_in(&self.path, File::lock)
    }

    /// Writes the node's file aside, locks it and moves it into place. Only under the directory's lock.
    pub(super) fn publish(&self, node: &NodeInfo, text: &[u8]) -> Result<File, RegistryError> {
        let path = self.node_path(node.kind, &node.id);
        let aside = self.path.join(format!(".{}.{}.new", node.kind, node.id));
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let mut file = open.map_err(io_error(&aside))?;
        file.lock().map_err(io_error(&aside))?;
        file.write_all(text).map_err(io_error(&aside))?;
        fs::rename(&aside, &path).map_err(io_error(&path))?;
        Ok(file)
    }

    /// Only under the directory's lock, of a file that we hold.
    pub(super) fn remove(&self, kind: NodeKind, id: &str, held: &File) -> Result<(), RegistryError> {
        let path = self.node_path(kind, id);
        // Somebody removed ours, and another node came: not ours to remove.
        if !self.is_visible(kind, id, held)? {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(err) if err.kind() != ErrorKind::NotFound => Err(io_error(&path)(err)),
            _ => self.wishes().remove(kind, id),
        }
    }

    /// The node of that name, if it is up. Only under the directory's lock, as [`Directory::list`].
    pub(super) fn node(&self, kind: NodeKind, id: &str) -> Result<Option<NodeInfo>, RegistryError> {
        match read_node(&self.node_path(kind, id))? {
            Found::Living(node) => Ok(Some(*node)),
            Found::Dead | Found::Gone => Ok(None),
        }
    }

    /// Whether the file we hold is still the one that others see.
    pub(super) fn is_visible(&self, kind: NodeKind, id: &str, held: &File) -> Result<bool, RegistryError> {
        let path = self.node_path(kind, id);
        identity(held).and_then(|identity| is_at(identity, &path)).map_err(io_error(&path))
    }

    /// The living, by kind and id.
    pub(super) fn nodes(&self, kind: Option<NodeKind>) -> Result<Vec<NodeInfo>, RegistryError> {
        let mut nodes = match self.list()? {
            (nodes, false) => nodes,
            // Somebody left without saying so: look again, alone, and clean up.
            (_, true) => {
                let _guard = self.lock()?;
                self.sweep()?
            }
        };
        nodes.retain(|node| kind.is_none_or(|kind| node.kind == kind));
        nodes.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        Ok(nodes)
    }

    /// Removes the files of the dead, and what was wished of them; the living. Only under the directory's lock, or it could remove a file that
    /// just took a dead one's place.
    pub(super) fn sweep(&self) -> Result<Vec<NodeInfo>, RegistryError> {
        let mut living = Vec::new();
        for path in self.node_files()? {
            match read_node(&path)? {
                Found::Living(node) => living.push(*node),
                Found::Gone => {}
                Found::Dead => match fs::remove_file(&path) {
                    Err(err) if err.kind() != ErrorKind::NotFound => return Err(io_error(&path)(err)),
                    _ => tracing::info!(path = %path.display(), "registration of a dead node removed"),
                },
            }
        }
        self.wishes().sweep(&living)?;
        Ok(living)
    }

    /// The living, and whether any dead ones were seen. Under the lock, shared with others who list: while a file takes
    /// the place of another, some file systems show neither, and a node that announces something would seem to have left.
    fn list(&self) -> Result<(Vec<NodeInfo>, bool), RegistryError> {
        let _guard = lock_in(&self.path, File::lock_shared)?;
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
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Found::Gone),
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

/// Device and inode: which file it is, whatever its name. Not used again while the file is open.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(file: &File) -> io::Result<Identity> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Whether this file is what the path names.
pub(super) fn is_at(identity: Identity, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(identity == (found.dev(), found.ino())),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// Waits for the lock of a directory, which is made if it is missing.
pub(super) fn lock_in(dir: &Path, lock: fn(&File) -> io::Result<()>) -> Result<File, RegistryError> {
    let path = dir.join(".lock");
    let open = || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
    let file = match open() {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            create_private(dir)?;
            open()
        }
        opened => opened,
    };
    let file = file.map_err(io_error(&path))?;
    lock(&file).map_err(io_error(&path))?;
    Ok(file)
}

pub(super) fn create_private(dir: &Path) -> Result<(), RegistryError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error(dir))
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RegistryError + '_ {
    move |err| RegistryError::Io { path: path.to_owned(), err }
}

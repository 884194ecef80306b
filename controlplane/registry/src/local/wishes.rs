//! What is wished of the nodes of a local registry: a file per node, beside theirs. Everything here blocks.
//!
//! ```text
//! DIR/wishes/kateway.gw-1.json     NodeWish; there while its node is
//! ```
//! Written aside and moved into place under the directory's lock; read without it, because a file that is there is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::directory::{create_private, io_error};
use crate::limits::WISH_BYTES_MAX;
use crate::{NodeInfo, NodeKind, NodeWish, RegistryError};

pub(super) struct Wishes {
    pub(super) dir: PathBuf,
}

impl Wishes {
    fn path(&self, kind: NodeKind, id: &str) -> PathBuf {
        self.dir.join(format!("{kind}.{id}.json"))
    }

    pub(super) fn read(&self, kind: NodeKind, id: &str) -> Result<Option<NodeWish>, RegistryError> {
        let path = self.path(kind, id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(io_error(&path)(err)),
        };
        let mut text = Vec::new();
        file.take(WISH_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(io_error(&path))?;
        let read = serde_json::from_slice(&text);
        if let Err(err) = &read {
            tracing::warn!(path = %path.display(), %err, "what is wished of a node cannot be understood");
        }
        Ok(read.ok())
    }

    /// Only under the directory's lock.
    pub(super) fn write(&self, kind: NodeKind, id: &str, text: &[u8]) -> Result<(), RegistryError> {
        create_private(&self.dir)?;
        let (path, aside) = (self.path(kind, id), self.dir.join(format!(".{kind}.{id}.new")));
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
        open.and_then(|mut file| file.write_all(text)).map_err(io_error(&aside))?;
        fs::rename(&aside, &path).map_err(io_error(&path))
    }

    /// Only under the directory's lock.
    pub(super) fn remove(&self, kind: NodeKind, id: &str) -> Result<(), RegistryError> {
        let path = self.path(kind, id);
        match fs::remove_file(&path) {
            Err(err) if err.kind() != ErrorKind::NotFound => Err(io_error(&path)(err)),
            _ => Ok(()),
        }
    }

    /// Removes those of nodes that are not among the living. Only under the directory's lock.
    pub(super) fn sweep(&self, living: &[NodeInfo]) -> Result<(), RegistryError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
            Err(err) => return Err(io_error(&self.dir)(err)),
        };
        let kept: Vec<PathBuf> = living.iter().map(|node| self.path(node.kind, &node.id)).collect();
        for entry in entries {
            let path = entry.map_err(io_error(&self.dir))?.path();
            if !kept.contains(&path) {
                match fs::remove_file(&path) {
                    Err(err) if err.kind() != ErrorKind::NotFound => return Err(io_error(&path)(err)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

//! The data directory: who owns what in `logs/`, and what happens to what nobody owns.
//!
//! Only a topic's durable deletion lets its files go. Files of a topic the catalogue has never heard of are left alone and
//! named in the log: a damaged catalogue must not cost the records, too.

use std::collections::HashMap as StdHashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::Disk;
use tracing::{info, warn};

use crate::state::catalogue::{Catalogue, TopicId};
use crate::storage::log::remove_dir;

/// Where everything lies.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    root: PathBuf,
}

impl DataDir {
    /// Makes what is missing. Names in it are durable after [`DataDir::persist`].
    pub fn open(disk: Arc<dyn Disk>, root: &Path) -> io::Result<DataDir> {
        let dir = DataDir { disk, root: root.to_owned() };
        for path in [dir.root.clone(), dir.logs()] {
            match dir.disk.make_dir(&path) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
                _ => {}
            }
        }
        Ok(dir)
    }

    /// The disk it is on.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// The catalogue's journal.
    pub fn topics(&self) -> PathBuf {
        self.root.join("topics.log")
    }

    /// The journal of committed offsets.
    pub fn offsets(&self) -> PathBuf {
        self.root.join("offsets.log")
    }

    fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// `logs/<topic id>-<partition>`: ids, not names, so that a topic made again under its old name starts empty even when
    /// the old files could not be deleted.
    pub fn partition(&self, id: &TopicId, index: usize) -> PathBuf {
        self.logs().join(format!("{}-{index}", hex(id)))
    }

    /// Makes names durable that an earlier process may have left in memory only; those in `logs/` are the sweep's.
    pub fn persist(&self) -> io::Result<()> {
        let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.disk.persist_dir(&self.root)?;
        match self.disk.persist_dir(parent.unwrap_or(Path::new("."))) {
            // Whoever may not even list it did not put us there.
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            persisted => persisted,
        }
    }

    /// Finishes deletions that a kill interrupted, makes what is in `logs/` durable, names what belongs to nobody.
    pub fn sweep(&self, catalogue: &mut Catalogue) -> io::Result<()> {
        let deleted = catalogue.deleted();
        let entries = self.disk.list(&self.logs())?;
        for id in &deleted {
            for entry in entries.iter().filter(|entry| parse(&entry.name).is_some_and(|(of, _)| of == hex(id))) {
                let path = self.logs().join(&entry.name);
                info!(dir = %path.display(), "removing what a deleted topic left behind");
                remove_dir(&*self.disk, &path);
            }
        }
        self.disk.persist_dir(&self.logs())?;
        let owned: StdHashMap<String, i32> =
            catalogue.topics().map(|topic| (hex(&topic.id), topic.partitions)).collect();
        let left = self.disk.list(&self.logs())?;
        for (id, index) in left.iter().filter_map(|entry| parse(&entry.name)) {
            let is_deleted = deleted.iter().any(|gone| hex(gone) == id);
            if !is_deleted && owned.get(id).is_none_or(|partitions| index >= *partitions) {
                let dir = self.logs().join(format!("{id}-{index}"));
                warn!(dir = %dir.display(), "belongs to no topic of the catalogue; it is left alone, move it away if it is of no use");
            }
        }
        for id in deleted.iter().filter(|id| !left.iter().any(|entry| entry.name.starts_with(&hex(id)))) {
            catalogue.forget_deleted(id);
        }
        Ok(())
    }
}

fn hex(id: &TopicId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Topic id and partition of a directory's name, if it is one of ours.
fn parse(name: &str) -> Option<(&str, i32)> {
    let (id, index) = name.rsplit_once('-')?;
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| index.parse().ok()).flatten().map(|index| (id, index))
}

//! Where a journal is, and whether somebody has it open.
//!
//! ```text
//! D/nodes/.lock                      held while a process chooses a node
//! D/nodes/5f0c9a3e71d2b684/lock      flock, held by the process that is this node
//! D/nodes/5f0c9a3e71d2b684/journal/  the journal
//! ```
//! A journal that was copied to somewhere else has no such lock; then its directory itself is locked, against another walctl.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use registry::node_dir::{self, JOURNAL, NodeDir};

use crate::cli::Where;
use crate::exit::Fault;

/// See the module.
#[derive(Debug)]
pub struct Place {
    pub journal: PathBuf,
    /// Data directory and node, when it lies where a gateway has it.
    pub of_node: Option<(PathBuf, String)>,
}

/// Nobody else has the journal while this lives.
pub struct Lock {
    _node: Option<NodeDir>,
    _dir: Option<File>,
}

impl Place {
    /// The journal that is meant.
    pub fn find(wanted: &Where) -> Result<Place> {
        let Where { dir, node } = wanted;
        let none = || Fault::NotFound(format!("there is no journal in {}", dir.display()));
        let dir = dir.canonicalize().map_err(|err| match err.kind() {
            io::ErrorKind::NotFound => anyhow::Error::new(none()),
            _ => anyhow::Error::new(err).context(format!("cannot look at {}", dir.display())),
        })?;
        let nodes = dir.join("nodes");
        if !nodes.is_dir() {
            let inner = dir.join(JOURNAL);
            return Ok(Place::at(if inner.is_dir() { inner } else { dir }));
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&nodes).with_context(|| format!("cannot list {}", nodes.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().join(JOURNAL).is_dir() && node.as_ref().is_none_or(|node| *node == name) {
                found.push((name, entry.path().join(JOURNAL)));
            }
        }
        found.sort();
        match &found[..] {
            [] if node.is_some() => {
                Err(Fault::NotFound(format!("{} has no journal of that node", nodes.display())).into())
            }
            [] => Err(none().into()),
            [(_, journal)] => Ok(Place::at(journal.clone())),
            several => {
                let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
                let said =
                    format!("{} has several journals; name one with --node: {}", nodes.display(), names.join(", "));
                Err(Fault::Usage(said).into())
            }
        }
    }

    fn at(journal: PathBuf) -> Place {
        let of_node = || {
            let node = journal.parent().filter(|_| journal.file_name().is_some_and(|name| name == JOURNAL))?;
            let nodes = node.parent().filter(|nodes| nodes.file_name().is_some_and(|name| name == "nodes"))?;
            Some((nodes.parent()?.to_owned(), node.file_name()?.to_str()?.to_owned()))
        };
        let of_node = of_node();
        Place { journal, of_node }
    }

    /// Whether a process has it open; `None`: nobody can tell. Changes nothing: whoever chooses a node meanwhile waits.
    pub fn is_live(&self) -> Result<Option<bool>> {
        let Some((data_dir, node)) = &self.of_node else { return Ok(None) };
        let nodes = data_dir.join("nodes");
        let Some(lock) = open_there(&nodes.join(node).join("lock"))? else { return Ok(Some(false)) };
        let choosing = open_there(&nodes.join(".lock"))?;
        if let Some(choosing) = &choosing {
            choosing.lock().with_context(|| format!("cannot lock {}", nodes.display()))?;
        }
        match lock.try_lock() {
            Ok(()) => Ok(Some(false)),
            Err(TryLockError::WouldBlock) => Ok(Some(true)),
            Err(TryLockError::Error(err)) => Err(err).context("cannot ask who has the journal"),
        }
    }

    /// Takes it, or says that a process has it.
    pub fn lock(&self) -> Result<Lock> {
        let busy = || {
            let path = self.journal.display();
            Fault::Precondition(format!(
                "a process has {path} open: stop it first, or have it done there (kateway admin handoff)"
            ))
        };
        if let Some((data_dir, node)) = &self.of_node {
            let claimed = node_dir::claim_dead(data_dir, node)?.ok_or_else(busy)?;
            return Ok(Lock { _node: Some(claimed), _dir: None });
        }
        let dir = File::open(&self.journal).with_context(|| format!("cannot open {}", self.journal.display()))?;
        match dir.try_lock() {
            Ok(()) => Ok(Lock { _node: None, _dir: Some(dir) }),
            Err(TryLockError::WouldBlock) => Err(busy().into()),
            Err(TryLockError::Error(err)) => Err(err).context("cannot lock the journal"),
        }
    }
}

fn open_there(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err).with_context(|| format!("cannot open {}", path.display())),
    }
}

//! Names: which directory has which, and which of them a power cut would leave.
//!
//! A name is made, removed or moved at once for whoever looks, and durably when its directory is persisted. Until then
//! each change survives or not by itself: the later of two may be there without the earlier.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use super::chance::{Chance, Survival};
use super::content::Content;

pub type NodeId = usize;

pub(super) type Names = BTreeMap<String, NodeId>;

/// A change of a directory that is not durable.
pub(super) struct Change {
    removed: Option<String>,
    made: Option<(String, NodeId)>,
}

#[derive(Default)]
pub(super) struct Directory {
    live: Names,
    pub(super) durable: Names,
    pub(super) changes: Vec<Change>,
}

pub(super) enum Node {
    Directory(Directory),
    File { content: Content, modified_ms: i64 },
}

/// Every directory and file there ever was; those without a name are kept for who still holds them.
pub struct Tree {
    pub(super) nodes: Vec<Node>,
}

pub(super) const ROOT: NodeId = 0;

impl Tree {
    pub fn new() -> Tree {
        Tree { nodes: vec![Node::Directory(Directory::default())] }
    }

    pub fn file(&mut self, path: &Path) -> io::Result<NodeId> {
        let found = self.find(path)?;
        match self.nodes[found] {
            Node::File { .. } => Ok(found),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub fn content(&mut self, file: NodeId) -> &mut Content {
        match &mut self.nodes[file] {
            Node::File { content, .. } => content,
            Node::Directory(_) => panic!("node {file} was opened as a file"),
        }
    }

    pub fn modified_ms(&mut self, file: NodeId) -> &mut i64 {
        match &mut self.nodes[file] {
            Node::File { modified_ms, .. } => modified_ms,
            Node::Directory(_) => panic!("node {file} was opened as a file"),
        }
    }

    /// The file of that name, made when it is not there.
    pub fn file_or_new(&mut self, path: &Path, now_ms: i64) -> io::Result<NodeId> {
        match self.file(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                self.add(path, Node::File { content: Content::default(), modified_ms: now_ms })
            }
            found => found,
        }
    }

    pub fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        match self.find(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self.add(path, Node::Directory(Directory::default())).map(|_| ()),
        }
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let (source, old) = self.parent(from)?;
        let (target, new) = self.parent(to)?;
        if source == target {
            self.change(source, Change { removed: Some(old), made: Some((new, node)) });
        } else {
            self.change(target, Change { removed: None, made: Some((new, node)) });
            self.change(source, Change { removed: Some(old), made: None });
        }
        Ok(())
    }

    pub fn remove(&mut self, path: &Path, is_dir: bool) -> io::Result<()> {
        let found = self.find(path)?;
        match &self.nodes[found] {
            Node::File { .. } if is_dir => return Err(io::ErrorKind::NotADirectory.into()),
            Node::Directory(_) if !is_dir => return Err(io::ErrorKind::IsADirectory.into()),
            Node::Directory(directory) if !directory.live.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        let (parent, name) = self.parent(path)?;
        self.change(parent, Change { removed: Some(name), made: None });
        Ok(())
    }

    pub fn persist_dir(&mut self, path: &Path) -> io::Result<()> {
        let found = self.find(path)?;
        let directory = self.directory(found)?;
        directory.changes.clear();
        directory.durable = directory.live.clone();
        Ok(())
    }

    /// Names in a directory, with whether they are directories.
    pub fn list(&mut self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        let found = self.find(path)?;
        let names = self.directory(found)?.live.clone();
        let is_dir = |node: NodeId| matches!(self.nodes[node], Node::Directory(_));
        Ok(names.into_iter().map(|(name, node)| (name, is_dir(node))).collect())
    }

    /// The lengths of all files that have a name, together.
    pub fn bytes_named(&self) -> u64 {
        let (mut bytes, mut seen, mut next) = (0, vec![false; self.nodes.len()], vec![ROOT]);
        while let Some(node) = next.pop() {
            if std::mem::replace(&mut seen[node], true) {
                continue;
            }
            match &self.nodes[node] {
                Node::File { content, .. } => bytes += content.bytes() as u64,
                Node::Directory(directory) => next.extend(directory.live.values()),
            }
        }
        bytes
    }

    /// What is there when the power is back.
    pub fn cut(&mut self, chance: &mut Chance) {
        for node in &mut self.nodes {
            match node {
                Node::File { content, .. } => content.cut(chance),
                Node::Directory(directory) => directory.cut(chance),
            }
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (parent, name) = self.parent(path)?;
        self.nodes.push(node);
        let made = self.nodes.len() - 1;
        self.change(parent, Change { removed: None, made: Some((name, made)) });
        Ok(made)
    }

    fn change(&mut self, directory: NodeId, change: Change) {
        let directory = self.directory(directory).expect("found as a parent");
        change.apply(&mut directory.live);
        directory.changes.push(change);
    }

    fn directory(&mut self, node: NodeId) -> io::Result<&mut Directory> {
        match &mut self.nodes[node] {
            Node::Directory(directory) => Ok(directory),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn parent(&mut self, path: &Path) -> io::Result<(NodeId, String)> {
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.directory(parent)?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((parent, name.to_owned()))
    }

    pub fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Directory(directory) = &self.nodes[at] else { return Err(io::ErrorKind::NotADirectory.into()) };
            let found = name.to_str().and_then(|name| directory.live.get(name));
            at = *found.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }
}

impl Directory {
    /// As a cut leaves it.
    pub fn settled(names: Names) -> Directory {
        Directory { live: names.clone(), durable: names, changes: Vec::new() }
    }

    fn cut(&mut self, chance: &mut Chance) {
        let survival = Survival::draw(chance);
        for change in std::mem::take(&mut self.changes) {
            if survival.choose(2, chance) == 1 {
                change.apply(&mut self.durable);
            }
        }
        self.live = self.durable.clone();
    }
}

impl Change {
    pub(super) fn apply(&self, names: &mut Names) {
        if let Some(name) = &self.removed {
            names.remove(name);
        }
        if let Some((name, node)) = &self.made {
            names.insert(name.clone(), *node);
        }
    }
}

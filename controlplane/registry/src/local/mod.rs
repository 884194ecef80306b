//! The registry of one machine: a directory with a file per node, each locked by its process.
//!
//! ```text
//! DIR/.lock                    held for the microseconds of a change, shared by who lists
//! DIR/kateway.gw-1.json        NodeInfo; flock held by the node for as long as it lives
//! DIR/wishes/…                 see `wishes.rs`
//! DIR/elections/…              see `election.rs`
//! ```
//! The kernel lets go of a flock when the process ends, also by kill -9, so a file nobody holds belongs to a dead node
//! and is removed by whoever notices. A pid in a file would not do: pids are used again, and differ between
//! containers.
//!
//! A session is the life of one `LocalRegistry`. It is lost early when somebody removes a file that we hold (a cleaner of
//! temporary directories, an operator): nobody sees that node any more, so everything of the session is let go of, and
//! the next one begins at once.
//!
//! File work is done on tokio's blocking threads. One task per registry, the caretaker, looks at the directory for all
//! who watch it, and at our own files.

mod directory;
mod election;
mod wishes;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::limits::{NODES_MAX, WATCH_PERIOD};
use crate::node::{check_election, check_id, encode};
use crate::wish::{check_next, encode_wish};
use crate::{Answer, ConnectionState, Leader, Leadership, NodeInfo, NodeKind, NodeWish, Registry, RegistryError};
use directory::Directory;
use election::Elections;

/// The registry in a directory. Dropping it takes back what was registered through it, and ends what it leads.
pub struct LocalRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    dir: Directory,
    /// Our own nodes.
    held: Mutex<HashMap<(NodeKind, String), Held>>,
    watches: Mutex<Vec<NodeWatch>>,
    wish_watches: Mutex<Vec<WishWatch>>,
    connection: watch::Sender<ConnectionState>,
    caretaker: Mutex<Option<AbortHandle>>,
}

struct Held {
    /// An open file is the lock.
    file: File,
    /// As it is written there.
    text: Vec<u8>,
}

struct WishWatch {
    node: NodeInfo,
    wish: watch::Sender<Option<NodeWish>>,
}

struct NodeWatch {
    kind: Option<NodeKind>,
    nodes: watch::Sender<Vec<NodeInfo>>,
}

impl LocalRegistry {
    /// Uses the directory, made if it is missing.
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        let dir = Directory { path: dir.to_owned() };
        dir.create()?;
        let (connection, _) = watch::channel(ConnectionState::Connected { session: 1 });
        let (held, watches, wish_watches) = (Mutex::default(), Mutex::default(), Mutex::default());
        let caretaker = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { dir, held, watches, wish_watches, connection, caretaker }) })
    }

    /// Does file work where it may block.
    fn blocking<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, RegistryError> + Send + 'static,
    ) -> Answer<'a, T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(in_background(move || work(&shared)))
    }

    fn elections(&self) -> Elections {
        Elections { dir: self.shared.dir.path.join("elections") }
    }

    fn call_caretaker(&self) {
        let mut caretaker = lock(&self.shared.caretaker);
        // It ends with the runtime it was started in.
        if caretaker.as_ref().is_none_or(AbortHandle::is_finished) {
            *caretaker = Some(tokio::spawn(take_care(Arc::downgrade(&self.shared))).abort_handle());
        }
    }
}

impl Registry for LocalRegistry {
    fn register<'a>(&'a self, node: &'a NodeInfo) -> Answer<'a, ()> {
        self.call_caretaker();
        let node = node.clone();
        self.blocking(move |shared| shared.register(&node))
    }

    fn unregister<'a>(&'a self, kind: NodeKind, id: &'a str) -> Answer<'a, ()> {
        let id = id.to_owned();
        self.blocking(move |shared| shared.unregister(kind, id))
    }

    fn nodes(&self, kind: Option<NodeKind>) -> Answer<'_, Vec<NodeInfo>> {
        self.blocking(move |shared| shared.dir.nodes(kind))
    }

    fn watch(&self, kind: Option<NodeKind>) -> Answer<'_, watch::Receiver<Vec<NodeInfo>>> {
        self.call_caretaker();
        self.blocking(move |shared| shared.watch(kind))
    }

    fn set_wish<'a>(&'a self, kind: NodeKind, id: &'a str, wish: &'a NodeWish) -> Answer<'a, ()> {
        let (id, wish) = (id.to_owned(), wish.clone());
        self.blocking(move |shared| shared.set_wish(kind, &id, &wish))
    }

    fn wish<'a>(&'a self, kind: NodeKind, id: &'a str) -> Answer<'a, Option<NodeWish>> {
        let id = id.to_owned();
        self.blocking(move |shared| shared.wish(kind, &id))
    }

    fn watch_wish<'a>(&'a self, node: &'a NodeInfo) -> Answer<'a, watch::Receiver<Option<NodeWish>>> {
        self.call_caretaker();
        let node = node.clone();
        self.blocking(move |shared| shared.watch_wish(node))
    }

    fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.shared.connection.subscribe()
    }

    fn campaign<'a>(&'a self, election: &'a str, candidate: &'a str) -> Answer<'a, Leadership> {
        Box::pin(async move {
            check_election(election)?;
            check_id(candidate)?;
            self.elections().campaign(election, candidate, self.connection()).await
        })
    }

    fn leader<'a>(&'a self, election: &'a str) -> Answer<'a, Option<Leader>> {
        let (elections, name) = (self.elections(), election.to_owned());
        self.blocking(move |_| {
            check_election(&name)?;
            elections.leader(&name)
        })
    }
}

impl Drop for LocalRegistry {
    fn drop(&mut self) {
        let nodes: Vec<(NodeKind, String)> = lock(&self.shared.held).keys().cloned().collect();
        for (kind, id) in nodes {
            if let Err(err) = self.shared.unregister(kind, id.clone()) {
                tracing::warn!(%kind, id, %err, "node could not be unregistered");
            }
        }
    }
}

impl Shared {
    fn register(&self, node: &NodeInfo) -> Result<(), RegistryError> {
        let text = encode(node)?;
        let mut held = lock(&self.held);
        let key = (node.kind, node.id.clone());
        if let Some(ours) = held.get(&key)
            && ours.text == text
            && self.dir.is_visible(node.kind, &node.id, &ours.file)?
        {
            return Ok(());
        }
        let _guard = self.dir.lock()?;
        let is_ours = match held.get(&key) {
            // Somebody may have removed our file, and another node may have come.
            Some(ours) => self.dir.is_visible(node.kind, &node.id, &ours.file)?,
            None => false,
        };
        if !is_ours {
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
        held.insert(key, Held { file, text });
        Ok(())
    }

    fn unregister(&self, kind: NodeKind, id: String) -> Result<(), RegistryError> {
        let mut held = lock(&self.held);
        let key = (kind, id);
        let Some(ours) = held.remove(&key) else { return Ok(()) };
        let _guard = self.dir.lock()?;
        self.dir.remove(kind, &key.1, &ours.file)
    }

    fn watch(&self, kind: Option<NodeKind>) -> Result<watch::Receiver<Vec<NodeInfo>>, RegistryError> {
        // Looked at under the lock, so that the caretaker does not tell something older afterwards.
        let mut watches = lock(&self.watches);
        let (nodes, seen) = watch::channel(self.dir.nodes(kind)?);
        watches.push(NodeWatch { kind, nodes });
        Ok(seen)
    }

    fn set_wish(&self, kind: NodeKind, id: &str, wish: &NodeWish) -> Result<(), RegistryError> {
        check_id(id)?;
        let text = encode_wish(id, wish)?;
        let _guard = self.dir.lock()?;
        let node = self.dir.node(kind, id)?;
        let node = node.ok_or_else(|| RegistryError::NoSuchNode { kind, id: id.to_owned() })?;
        if check_next(&node, self.dir.wishes().read(kind, id)?.as_ref(), wish)? {
            self.dir.wishes().write(kind, id, &text)?;
        }
        Ok(())
    }

    fn wish(&self, kind: NodeKind, id: &str) -> Result<Option<NodeWish>, RegistryError> {
        check_id(id)?;
        let _guard = self.dir.lock()?;
        let Some(node) = self.dir.node(kind, id)? else { return Ok(None) };
        Ok(self.dir.wishes().read(kind, id)?.filter(|wish| wish.is_for(&node)))
    }

    fn watch_wish(&self, node: NodeInfo) -> Result<watch::Receiver<Option<NodeWish>>, RegistryError> {
        check_id(&node.id)?;
        // Looked at under the lock, as in `watch`.
        let mut watches = lock(&self.wish_watches);
        let (wish, seen) = watch::channel(self.wish_of(&node)?);
        watches.push(WishWatch { node, wish });
        Ok(seen)
    }

    fn wish_of(&self, node: &NodeInfo) -> Result<Option<NodeWish>, RegistryError> {
        Ok(self.dir.wishes().read(node.kind, &node.id)?.filter(|wish| wish.is_for(node)))
    }

    fn tell_wishes(&self) -> Result<(), RegistryError> {
        let mut watches = lock(&self.wish_watches);
        watches.retain(|watch| !watch.wish.is_closed());
        for watch in &*watches {
            let now = self.wish_of(&watch.node)?;
            watch.wish.send_if_modified(|known| {
                let is_news = *known != now;
                *known = now;
                is_news
            });
        }
        Ok(())
    }

    /// What the caretaker does each time.
    fn look_after(&self) -> Result<(), RegistryError> {
        self.check_session()?;
        self.tell_wishes()?;
        let mut watches = lock(&self.watches);
        watches.retain(|watch| !watch.nodes.is_closed());
        if watches.is_empty() {
            return Ok(());
        }
        let all = self.dir.nodes(None)?;
        for watch in &*watches {
            let of_kind = |node: &&NodeInfo| watch.kind.is_none_or(|kind| node.kind == kind);
            watch.nodes.send_if_modified(|known| {
                let is_news = !all.iter().filter(of_kind).eq(known.iter());
                if is_news {
                    *known = all.iter().filter(of_kind).cloned().collect();
                }
                is_news
            });
        }
        Ok(())
    }

    fn check_session(&self) -> Result<(), RegistryError> {
        let mut held = lock(&self.held);
        let mut is_lost = false;
        for ((kind, id), ours) in &*held {
            if !self.dir.is_visible(*kind, id, &ours.file)? {
                tracing::warn!(%kind, id, "registration was removed by somebody");
                is_lost = true;
            }
        }
        if !is_lost {
            return Ok(());
        }
        // Those of our files that are still there are dead ones from now on.
        held.clear();
        self.connection.send_modify(|state| match state {
            ConnectionState::Connected { session } => *session += 1,
            other => unreachable!("a local registry is always connected, not {other:?}"),
        });
        Ok(())
    }
}

async fn take_care(shared: Weak<Shared>) {
    let mut is_failing = false;
    loop {
        tokio::time::sleep(WATCH_PERIOD).await;
        let Some(shared) = shared.upgrade() else { return };
        let looked = in_background(move || shared.look_after()).await;
        // What is known stays known. The next look may succeed.
        if let Err(err) = &looked
            && !is_failing
        {
            tracing::warn!(%err, "registry directory cannot be looked at, trying on");
        }
        is_failing = looked.is_err();
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work).await.expect("file work does not panic")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding a lock of the registry")
}

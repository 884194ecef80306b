//! A registry in memory for tests: the same promises, and faults on demand.
//!
//! [`MemoryEnsemble`] is what all processes talk to; a [`MemoryRegistry`] is the session of one of them, as with
//! ZooKeeper. [`Faults`] breaks that session: it can be suspended, lost, slowed down, and a call can fail before its
//! effect or after it. Time is tokio's, so a test may pause it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::limits::NODES_MAX;
use crate::node::{check_election, check_id, encode};
use crate::wish::{check_next, encode_wish};
use crate::{
    Answer, ConnectionState, Keeper, Leader, Leadership, NodeInfo, NodeKind, NodeWish, Registry, RegistryError,
};

/// A session that is suspended for so long is lost.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// What survives sessions. Clones are the same ensemble.
#[derive(Clone)]
pub struct MemoryEnsemble {
    state: Arc<Mutex<State>>,
    /// Counts changes, to wake who waits for one.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    last_session: u64,
    nodes: BTreeMap<(NodeKind, String), Owned<NodeInfo>>,
    /// Of nodes that are registered, and no others.
    wishes: BTreeMap<(NodeKind, String), NodeWish>,
    elections: BTreeMap<String, Election>,
}

struct Owned<T> {
    session: u64,
    value: T,
}

#[derive(Default)]
struct Election {
    last_epoch: u64,
    leader: Option<Owned<Leader>>,
}

impl Default for MemoryEnsemble {
    fn default() -> Self {
        Self { state: Arc::default(), changes: watch::Sender::new(0) }
    }
}

impl MemoryEnsemble {
    /// A session of its own.
    pub fn open(&self) -> MemoryRegistry {
        let session = self.change(State::next_session);
        let connection = watch::Sender::new(ConnectionState::Connected { session });
        let injected = Mutex::new(Injected::default());
        let session = Session { ensemble: self.clone(), connection, injected };
        MemoryRegistry { session: Arc::new(session), alive: watch::Sender::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the state")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changes.send_modify(|count| *count += 1);
        changed
    }
}

impl State {
    fn next_session(&mut self) -> u64 {
        self.last_session += 1;
        self.last_session
    }

    fn end_session(&mut self, session: u64) {
        self.nodes.retain(|_, node| node.session != session);
        self.wishes.retain(|key, _| self.nodes.contains_key(key));
        for election in self.elections.values_mut() {
            election.leader.take_if(|leader| leader.session == session);
        }
    }

    fn nodes(&self, kind: Option<NodeKind>) -> Vec<NodeInfo> {
        let all = self.nodes.values().map(|node| &node.value);
        all.filter(|node| kind.is_none_or(|kind| node.kind == kind)).cloned().collect()
    }

    fn register(&mut self, session: u64, node: &NodeInfo) -> Result<(), RegistryError> {
        let key = (node.kind, node.id.clone());
        match self.nodes.get(&key) {
            Some(other) if other.session != session => {
                return Err(RegistryError::Taken { kind: node.kind, id: node.id.clone(), pid: other.value.pid });
            }
            None if self.nodes.len() >= NODES_MAX => {
                return Err(RegistryError::TooMany { found: self.nodes.len(), limit: NODES_MAX });
            }
            _ => {}
        }
        self.nodes.insert(key, Owned { session, value: node.clone() });
        Ok(())
    }

    fn set_wish(&mut self, kind: NodeKind, id: &str, wish: &NodeWish) -> Result<(), RegistryError> {
        let key = (kind, id.to_owned());
        let node = self.nodes.get(&key).ok_or_else(|| RegistryError::NoSuchNode { kind, id: id.to_owned() })?;
        if check_next(&node.value, self.wishes.get(&key), wish)? {
            self.wishes.insert(key, wish.clone());
        }
        Ok(())
    }

    fn wish(&self, key: &(NodeKind, String)) -> Option<NodeWish> {
        let node = self.nodes.get(key)?;
        self.wishes.get(key).filter(|wish| wish.is_for(&node.value)).cloned()
    }

    fn wish_of(&self, node: &NodeInfo) -> Option<NodeWish> {
        self.wishes.get(&(node.kind, node.id.clone())).filter(|wish| wish.is_for(node)).cloned()
    }

    fn try_lead(&mut self, session: u64, election: &str, candidate: &str) -> Option<Leader> {
        let election = self.elections.entry(election.to_owned()).or_default();
        if election.leader.is_some() {
            return None;
        }
        election.last_epoch += 1;
        let leader = Leader { candidate: candidate.to_owned(), epoch: election.last_epoch };
        election.leader = Some(Owned { session, value: leader.clone() });
        Some(leader)
    }

    fn resign(&mut self, election: &str, epoch: u64) {
        if let Some(election) = self.elections.get_mut(election) {
            election.leader.take_if(|leader| leader.value.epoch == epoch);
        }
    }
}

/// One process's registry. Dropping it ends its session.
pub struct MemoryRegistry {
    session: Arc<Session>,
    /// Closed with the registry: watches end.
    alive: watch::Sender<()>,
}

struct Session {
    ensemble: MemoryEnsemble,
    connection: watch::Sender<ConnectionState>,
    injected: Mutex<Injected>,
}

#[derive(Default)]
struct Injected {
    /// While suspended: the session that still lives.
    suspended: Option<u64>,
    suspension_count: u64,
    fail_next: Option<Fail>,
    delay: Duration,
    call_count: u64,
}

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fail {
    /// The request never arrived.
    Before,
    /// It was done, and the answer was lost.
    After,
}

/// A handle that breaks a session. Clones break the same one.
#[derive(Clone)]
pub struct Faults {
    session: Arc<Session>,
}

impl MemoryRegistry {
    pub fn faults(&self) -> Faults {
        Faults { session: Arc::clone(&self.session) }
    }
}

impl Faults {
    /// Cuts the connection. The session is lost after [`SESSION_TIMEOUT`] unless it is resumed.
    pub fn suspend(&self) {
        let Some(session) = self.session.connected() else { return };
        let count = {
            let mut injected = self.session.injected();
            injected.suspended = Some(session);
            injected.suspension_count += 1;
            injected.suspension_count
        };
        self.session.connection.send_replace(ConnectionState::Suspended);
        let faults = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SESSION_TIMEOUT).await;
            let is_still_suspended = {
                let injected = faults.session.injected();
                injected.suspended.is_some() && injected.suspension_count == count
            };
            if is_still_suspended {
                faults.lose_session();
            }
        });
    }

    /// Connects again: in the same session if it was suspended, in a new one if it was lost.
    pub fn reconnect(&self) {
        if self.session.connected().is_some() {
            return;
        }
        let suspended = self.session.injected().suspended.take();
        let session = suspended.unwrap_or_else(|| self.session.ensemble.change(State::next_session));
        self.session.connection.send_replace(ConnectionState::Connected { session });
        // Watches catch up.
        self.session.ensemble.change(|_| ());
    }

    /// Ends the session; there is no other until `reconnect`.
    pub fn lose_session(&self) {
        let suspended = self.session.injected().suspended.take();
        let Some(session) = self.session.connected().or(suspended) else { return };
        self.session.connection.send_replace(ConnectionState::SessionLost);
        self.session.ensemble.change(|state| state.end_session(session));
    }

    pub fn fail_next_call(&self, fail: Fail) {
        self.session.injected().fail_next = Some(fail);
    }

    /// Calls take so long from now on: half of it until they have their effect, half for the answer.
    pub fn delay_calls(&self, delay: Duration) {
        self.session.injected().delay = delay;
    }

    /// Calls that were begun.
    pub fn call_count(&self) -> u64 {
        self.session.injected().call_count
    }
}

impl Session {
    fn injected(&self) -> MutexGuard<'_, Injected> {
        self.injected.lock().expect("nobody panics while holding the faults")
    }

    fn connected(&self) -> Option<u64> {
        match *self.connection.borrow() {
            ConnectionState::Connected { session } => Some(session),
            ConnectionState::Suspended | ConnectionState::SessionLost => None,
        }
    }

    /// Does what a call does, with the faults that were asked for.
    async fn call<T>(
        &self,
        effect: impl FnOnce(&MemoryEnsemble, u64) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let (fail, delay) = {
            let mut injected = self.injected();
            injected.call_count += 1;
            (injected.fail_next.take(), injected.delay)
        };
        pass(delay / 2).await;
        let Some(session) = self.connected() else { return Err(away("not connected")) };
        if fail == Some(Fail::Before) {
            return Err(away("the request was lost"));
        }
        let done = effect(&self.ensemble, session)?;
        pass(delay / 2).await;
        if fail == Some(Fail::After) { Err(away("the answer was lost")) } else { Ok(done) }
    }

    async fn campaign(&self, election: &str, candidate: &str) -> Result<Leadership, RegistryError> {
        check_election(election)?;
        check_id(candidate)?;
        let (mut changes, mut connection) = (self.ensemble.changes.subscribe(), self.connection.subscribe());
        let session = self.call(|_, session| Ok(session)).await?;
        loop {
            // Before the look, so that what changes during it is not missed.
            changes.mark_unchanged();
            if *connection.borrow_and_update() != (ConnectionState::Connected { session }) {
                return Err(away("the session or the connection was lost during a campaign"));
            }
            let won = self.ensemble.lock().try_lead(session, election, candidate);
            if let Some(leader) = won {
                let (leadership, keeper) = Leadership::new(election, leader);
                let ensemble = self.ensemble.clone();
                tokio::spawn(keep(keeper, ensemble, election.to_owned(), leadership.epoch(), session, connection));
                return Ok(leadership);
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = connection.changed() => {}
            }
        }
    }
}

impl MemoryRegistry {
    /// Tells one watch what it sees, whenever that changes.
    fn tell<T: PartialEq + Send + Sync + 'static>(
        &self,
        watch: watch::Sender<T>,
        changes: watch::Receiver<u64>,
        look: impl Fn(&State) -> T + Send + Sync + 'static,
    ) {
        let (ensemble, connection) = (self.session.ensemble.clone(), self.session.connection.subscribe());
        tokio::spawn(tell(look, watch, ensemble, changes, connection, self.alive.subscribe()));
    }
}

impl Registry for MemoryRegistry {
    fn register<'a>(&'a self, node: &'a NodeInfo) -> Answer<'a, ()> {
        Box::pin(async move {
            encode(node)?;
            let effect = |ensemble: &MemoryEnsemble, session| ensemble.change(|state| state.register(session, node));
            self.session.call(effect).await
        })
    }

    fn unregister<'a>(&'a self, kind: NodeKind, id: &'a str) -> Answer<'a, ()> {
        let key = (kind, id.to_owned());
        Box::pin(self.session.call(move |ensemble, session| {
            ensemble.change(|state| {
                if state.nodes.get(&key).is_some_and(|node| node.session == session) {
                    state.nodes.remove(&key);
                    state.wishes.remove(&key);
                }
            });
            Ok(())
        }))
    }

    fn nodes(&self, kind: Option<NodeKind>) -> Answer<'_, Vec<NodeInfo>> {
        Box::pin(self.session.call(move |ensemble, _| Ok(ensemble.lock().nodes(kind))))
    }

    fn watch(&self, kind: Option<NodeKind>) -> Answer<'_, watch::Receiver<Vec<NodeInfo>>> {
        Box::pin(async move {
            let changes = self.session.ensemble.changes.subscribe();
            let first = self.session.call(|ensemble, _| Ok(ensemble.lock().nodes(kind))).await?;
            let (nodes, seen) = watch::channel(first);
            self.tell(nodes, changes, move |state| state.nodes(kind));
            Ok(seen)
        })
    }

    fn set_wish<'a>(&'a self, kind: NodeKind, id: &'a str, wish: &'a NodeWish) -> Answer<'a, ()> {
        Box::pin(async move {
            check_id(id)?;
            encode_wish(id, wish)?;
            let effect = |ensemble: &MemoryEnsemble, _| ensemble.change(|state| state.set_wish(kind, id, wish));
            self.session.call(effect).await
        })
    }

    fn wish<'a>(&'a self, kind: NodeKind, id: &'a str) -> Answer<'a, Option<NodeWish>> {
        Box::pin(async move {
            check_id(id)?;
            let key = (kind, id.to_owned());
            self.session.call(|ensemble, _| Ok(ensemble.lock().wish(&key))).await
        })
    }

    fn watch_wish<'a>(&'a self, node: &'a NodeInfo) -> Answer<'a, watch::Receiver<Option<NodeWish>>> {
        Box::pin(async move {
            check_id(&node.id)?;
            let changes = self.session.ensemble.changes.subscribe();
            let first = self.session.call(|ensemble, _| Ok(ensemble.lock().wish_of(node))).await?;
            let (wish, seen) = watch::channel(first);
            let node = node.clone();
            self.tell(wish, changes, move |state| state.wish_of(&node));
            Ok(seen)
        })
    }

    fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.session.connection.subscribe()
    }

    fn campaign<'a>(&'a self, election: &'a str, candidate: &'a str) -> Answer<'a, Leadership> {
        Box::pin(self.session.campaign(election, candidate))
    }

    fn leader<'a>(&'a self, election: &'a str) -> Answer<'a, Option<Leader>> {
        Box::pin(async move {
            check_election(election)?;
            let leader = |state: &State| Some(state.elections.get(election)?.leader.as_ref()?.value.clone());
            self.session.call(|ensemble, _| Ok(leader(&ensemble.lock()))).await
        })
    }
}

impl Drop for MemoryRegistry {
    fn drop(&mut self) {
        self.faults().lose_session();
    }
}

fn away(why: &str) -> RegistryError {
    RegistryError::Away { why: why.to_owned() }
}

/// Without a delay a call is over at once: nobody else runs in between.
async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// One per watch.
async fn tell<T: PartialEq>(
    look: impl Fn(&State) -> T,
    watch: watch::Sender<T>,
    ensemble: MemoryEnsemble,
    mut changes: watch::Receiver<u64>,
    connection: watch::Receiver<ConnectionState>,
    mut alive: watch::Receiver<()>,
) {
    loop {
        tokio::select! {
            _ = changes.changed() => {}
            _ = alive.changed() => return,
            () = watch.closed() => return,
        }
        if !matches!(*connection.borrow(), ConnectionState::Connected { .. }) {
            continue;
        }
        let now = look(&ensemble.lock());
        watch.send_if_modified(|known| {
            let is_news = *known != now;
            *known = now;
            is_news
        });
    }
}

/// One per leader: until it resigns, or its session ends.
async fn keep(
    mut keeper: Keeper,
    ensemble: MemoryEnsemble,
    election: String,
    epoch: u64,
    session: u64,
    mut connection: watch::Receiver<ConnectionState>,
) {
    let is_over = |state: &ConnectionState| match *state {
        ConnectionState::Connected { session: current } => current != session,
        ConnectionState::Suspended => false,
        ConnectionState::SessionLost => true,
    };
    tokio::select! {
        () = keeper.resigned() => ensemble.change(|state| state.resign(&election, epoch)),
        // Its place is free already: such is life with sessions. An error: the registry is gone.
        _ = connection.wait_for(is_over) => {}
    }
}

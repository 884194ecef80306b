//! Which nodes are up, where they listen, what is wished of them, and who leads.
//!
//! [`Registry`] is what gateways, proxies, balancers and guards ask. [`LocalRegistry`] answers for the processes of one
//! machine from a directory; the ZooKeeper ensemble of a zone will answer the same questions for many machines;
//! [`memory`] answers in tests, with faults on demand. All of them pass the tests in `tests/contract.rs`.
//!
//! Being registered means being alive: what a process announces and leads ends with its session, and the session ends
//! with the process, however that ends. A session can end earlier, too, while the process lives on ([`ConnectionState`]);
//! [`Registration`] keeps a node registered over that, and [`Leadership::lost`] tells a leader.
//!
//! ```text
//! Registration ──register, again after a lost session──► Registry ◄──nodes, watch── manager, balancer
//!       ▲ what it obeys          watch_wish ◄── NodeWish ──┤ ◄──set_wish── manager
//!   node_dir: the id it registers under                     └──campaign──► Leadership { epoch }
//! ```

mod election;
mod error;
pub mod limits;
mod local;
pub mod memory;
mod node;
pub mod node_dir;
mod registration;
mod wish;

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

pub use election::{Keeper, Leader, Leadership};
pub use error::RegistryError;
pub use local::LocalRegistry;
pub use node::{AppliedGeneration, NodeInfo, NodeKind, NodeState, RefusedWish};
pub use registration::Registration;
pub use wish::NodeWish;

/// What a call of [`Registry`] returns: boxed, so that the trait can be an object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// Registration, discovery and election.
///
/// Every call but [`Registry::campaign`] ends by itself, with an error if need be; one that is dropped before may still
/// take effect, and so may one whose answer was lost on the way ([`RegistryError::Away`]). That is why registering and
/// unregistering can be repeated. Calls are made in a tokio runtime.
pub trait Registry: Send + Sync {
    /// Announces this node until `unregister` or the end of the session. Registering the same node again replaces what
    /// was announced. Cheap enough for several times a second.
    fn register<'a>(&'a self, node: &'a NodeInfo) -> Answer<'a, ()>;

    /// Takes the announcement back. Not registered: nothing happens.
    fn unregister<'a>(&'a self, kind: NodeKind, id: &'a str) -> Answer<'a, ()>;

    /// Nodes that are up now, of one kind or of all, by kind and id.
    fn nodes(&self, kind: Option<NodeKind>) -> Answer<'_, Vec<NodeInfo>>;

    /// All nodes of the kind, now and whenever that list changes. Changes may be seen late or together, never out of
    /// order. While the registry is away the last known list stands, which never means that those nodes are gone. Ends
    /// with the registry.
    fn watch(&self, kind: Option<NodeKind>) -> Answer<'_, watch::Receiver<Vec<NodeInfo>>>;

    /// Wishes something of a node that is up: of the incarnation that the wish names, and with a greater revision than
    /// what is wished now. Can be repeated. Gone with the node's registration.
    fn set_wish<'a>(&'a self, kind: NodeKind, id: &'a str, wish: &'a NodeWish) -> Answer<'a, ()>;

    /// What is wished of a node that is up.
    fn wish<'a>(&'a self, kind: NodeKind, id: &'a str) -> Answer<'a, Option<NodeWish>>;

    /// What is wished of this incarnation of a node, as [`Registry::watch`] tells of nodes. `None`, also after there was
    /// something: nothing new.
    fn watch_wish<'a>(&'a self, node: &'a NodeInfo) -> Answer<'a, watch::Receiver<Option<NodeWish>>>;

    /// The state of the session, now and whenever it changes.
    fn connection(&self) -> watch::Receiver<ConnectionState>;

    /// Waits, however long, until this candidate leads the election. Dropping the future ends the candidacy. A session
    /// or connection that is lost meanwhile ends it with an error, and the caller campaigns again.
    fn campaign<'a>(&'a self, election: &'a str, candidate: &'a str) -> Answer<'a, Leadership>;

    /// Who leads now.
    fn leader<'a>(&'a self, election: &'a str) -> Answer<'a, Option<Leader>>;
}

/// How the registry stands to us, in the three states that Curator taught everybody.
///
/// Whoever was looking elsewhere may miss states in between, so `Connected` says in which session: another number than
/// before means that the one before was lost, with everything that was registered and led in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Calls are answered. Later sessions have larger numbers.
    Connected { session: u64 },
    /// The connection is lost, the session perhaps not: what is registered stays for the time being, calls fail, and
    /// what is known may be old. A leader pauses what cannot be undone. `Connected` or `SessionLost` follows.
    Suspended,
    /// What was registered and led in the session is gone, and others may have taken it. `Connected` with another
    /// session follows when the registry can be reached; then register again.
    SessionLost,
}

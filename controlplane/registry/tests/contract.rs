//! What every registry promises. Each test runs against the directory of one machine and against the double in memory.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{gateway, node, soon};
use registry::limits::{ANNOUNCE_PERIOD_MIN, NODE_BYTES_MAX, NODE_ID_BYTES_MAX, NODES_MAX, WISH_BYTES_MAX};
use registry::memory::{Faults, MemoryEnsemble};
use registry::{
    AppliedGeneration, ConnectionState, LocalRegistry, NodeInfo, NodeKind, NodeWish, Registration, Registry,
    RegistryError,
};

type Shared = Arc<dyn Registry>;

/// A store, and processes that share it.
trait Store {
    fn new() -> Self;

    /// The registry of one more process.
    fn open(&mut self) -> Shared;

    /// What is left of a process that was killed while registered.
    async fn killed_while_registered(&mut self, node: &NodeInfo);

    /// So many more nodes, registered by other processes until the store is dropped.
    async fn fill(&mut self, count: usize);

    /// Takes the sessions of all processes from them.
    fn lose_sessions(&mut self);
}

struct Local {
    dir: tempfile::TempDir,
    /// Held by other processes.
    files: Vec<File>,
}

impl Store for Local {
    fn new() -> Self {
        Local { dir: tempfile::tempdir().unwrap(), files: Vec::new() }
    }

    fn open(&mut self) -> Shared {
        Arc::new(LocalRegistry::open(self.dir.path()).unwrap())
    }

    /// A whole file that nobody holds.
    async fn killed_while_registered(&mut self, node: &NodeInfo) {
        let text = serde_json::to_vec(node).unwrap();
        std::fs::write(self.dir.path().join(format!("{}.{}.json", node.kind, node.id)), text).unwrap();
    }

    /// Registering looks at all the others each time, which is too slow for many.
    async fn fill(&mut self, count: usize) {
        for index in 0..count {
            let node = gateway(&format!("other-{index}"));
            self.killed_while_registered(&node).await;
            let file = File::open(self.dir.path().join(format!("kateway.{}.json", node.id))).unwrap();
            file.lock().unwrap();
            self.files.push(file);
        }
    }

    /// A cleaner of temporary directories comes by.
    fn lose_sessions(&mut self) {
        let remove_all = |dir: &Path, ending: &str| {
            for entry in std::fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == ending) {
                    std::fs::remove_file(path).unwrap();
                }
            }
        };
        remove_all(self.dir.path(), "json");
        remove_all(&self.dir.path().join("elections"), "lock");
    }
}

#[derive(Default)]
struct Memory {
    ensemble: MemoryEnsemble,
    faults: Vec<Faults>,
    others: Vec<Shared>,
}

impl Store for Memory {
    fn new() -> Self {
        Self::default()
    }

    fn open(&mut self) -> Shared {
        let registry = self.ensemble.open();
        self.faults.push(registry.faults());
        Arc::new(registry)
    }

    async fn killed_while_registered(&mut self, node: &NodeInfo) {
        let registry = self.ensemble.open();
        registry.register(node).await.unwrap();
        registry.faults().lose_session();
    }

    async fn fill(&mut self, count: usize) {
        let other = self.ensemble.open();
        for index in 0..count {
            other.register(&gateway(&format!("other-{index}"))).await.unwrap();
        }
        self.others.push(Arc::new(other));
    }

    fn lose_sessions(&mut self) {
        for faults in &self.faults {
            faults.lose_session();
            faults.reconnect();
        }
    }
}

macro_rules! contract {
    ($($name:ident)*) => {
        mod local {
            use super::{Local, Store};
            $(#[tokio::test] async fn $name() { super::$name(Local::new()).await })*
        }
        mod memory {
            use super::{Memory, Store};
            $(#[tokio::test] async fn $name() { super::$name(Memory::new()).await })*
        }
    };
}

contract! {
    every_process_sees_every_living_node
    an_id_belongs_to_one_living_process
    registering_again_replaces_what_is_announced
    unregistering_can_be_repeated_and_touches_no_other_process
    a_killed_process_is_noticed_and_its_id_is_free
    names_that_could_leave_their_place_are_refused
    an_announcement_too_large_is_refused
    one_node_too_many_is_refused
    a_watch_sees_the_list_now_and_who_joins_changes_and_leaves
    a_watch_ends_with_its_registry
    a_lost_session_is_told_and_takes_the_registration
    a_registration_is_made_again_after_each_lost_session
    a_registration_waits_for_an_id_that_is_still_taken
    a_registration_announces_the_generation_in_force
    an_ended_registration_is_gone_and_stays_gone
    a_dropped_registration_is_taken_back
    a_wish_reaches_its_node_and_whoever_asks
    a_wish_is_for_one_incarnation_that_is_up
    a_wish_goes_with_the_registration
    of_two_who_wish_at_the_same_time_one_is_refused_and_a_repeated_wish_is_none
    a_wish_that_is_too_large_or_of_a_bad_name_is_refused
    a_watch_of_a_wish_ends_with_its_registry
    one_candidate_leads_and_the_next_follows_when_it_resigns
    a_dropped_leadership_and_a_dropped_registry_free_the_place
    elections_do_not_know_of_each_other
    a_candidate_that_gives_up_waiting_does_not_lead_later
    the_epoch_grows_with_every_leader_also_over_reopening
    a_lost_session_ends_the_leadership_and_the_next_epoch_is_greater
    of_many_candidates_at_once_one_leads_and_epochs_fence_the_earlier_ones
}

async fn ids(registry: &Shared, kind: Option<NodeKind>) -> Vec<String> {
    registry.nodes(kind).await.unwrap().into_iter().map(|node| node.id).collect()
}

/// Waits until the registry shows these nodes.
async fn until_nodes(registry: &Shared, condition: impl Fn(&[NodeInfo]) -> bool) {
    let mut nodes = registry.watch(None).await.unwrap();
    soon(nodes.wait_for(|nodes| condition(nodes))).await.unwrap();
}

fn session(registry: &Shared) -> u64 {
    match *registry.connection().borrow() {
        ConnectionState::Connected { session } => session,
        other => panic!("connected, not {other:?}"),
    }
}

fn applied(number: u64) -> AppliedGeneration {
    AppliedGeneration { history: "h".to_owned(), number }
}

async fn every_process_sees_every_living_node(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    one.register(&gateway("gw-2")).await.unwrap();
    two.register(&gateway("gw-1")).await.unwrap();
    two.register(&node(NodeKind::Kproxy, "gw-1")).await.unwrap();
    for registry in [&one, &two] {
        assert_eq!(ids(registry, Some(NodeKind::Kateway)).await, ["gw-1", "gw-2"]);
        assert_eq!(ids(registry, None).await, ["gw-1", "gw-2", "gw-1"]);
    }
    assert_eq!(one.nodes(Some(NodeKind::Kproxy)).await.unwrap(), [node(NodeKind::Kproxy, "gw-1")]);
    drop(two);
    assert_eq!(ids(&one, None).await, ["gw-2"]);
}

async fn an_id_belongs_to_one_living_process(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    one.register(&gateway("gw-1")).await.unwrap();
    let err = two.register(&gateway("gw-1")).await.unwrap_err();
    assert!(matches!(err, RegistryError::Taken { pid, .. } if pid == std::process::id()), "{err}");
    assert!(err.can_retry());
    two.register(&node(NodeKind::Kproxy, "gw-1")).await.unwrap();
    drop(one);
    two.register(&gateway("gw-1")).await.unwrap();
    assert_eq!(ids(&two, None).await, ["gw-1", "gw-1"]);
}

async fn registering_again_replaces_what_is_announced(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    one.register(&gateway("gw-1")).await.unwrap();
    one.register(&gateway("gw-1")).await.unwrap();
    let mut moved = gateway("gw-1");
    moved.addresses = BTreeMap::from([("sub".to_owned(), "http://127.0.0.1:9192".to_owned())]);
    one.register(&moved).await.unwrap();
    assert_eq!(two.nodes(None).await.unwrap(), [moved]);
}

async fn unregistering_can_be_repeated_and_touches_no_other_process(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    one.register(&gateway("gw-1")).await.unwrap();
    two.unregister(NodeKind::Kateway, "gw-1").await.unwrap();
    two.unregister(NodeKind::Kateway, "never-was").await.unwrap();
    assert_eq!(ids(&two, None).await, ["gw-1"]);
    for _ in 0..3 {
        one.unregister(NodeKind::Kateway, "gw-1").await.unwrap();
        assert_eq!(ids(&two, None).await, Vec::<String>::new());
    }
}

async fn a_killed_process_is_noticed_and_its_id_is_free(mut store: impl Store) {
    let registry = store.open();
    registry.register(&gateway("living")).await.unwrap();
    store.killed_while_registered(&gateway("killed")).await;
    assert_eq!(ids(&registry, None).await, ["living"]);
    store.killed_while_registered(&gateway("killed")).await;
    registry.register(&gateway("killed")).await.unwrap();
    assert_eq!(ids(&registry, None).await, ["killed", "living"]);
}

async fn names_that_could_leave_their_place_are_refused(mut store: impl Store) {
    let registry = store.open();
    let too_long = "x".repeat(NODE_ID_BYTES_MAX + 1);
    for name in ["", "../gw", "a/b", ".hidden", "a b", "ü", &too_long] {
        let result = registry.register(&gateway(name)).await;
        assert!(matches!(result, Err(RegistryError::BadId { .. })), "{name:?}");
        let result = registry.campaign(name, "gw-1").await;
        assert!(matches!(result, Err(RegistryError::BadElection { .. })), "{name:?}");
        let result = registry.leader(name).await;
        assert!(matches!(result, Err(RegistryError::BadElection { .. })), "{name:?}");
        let result = registry.campaign("jobs", name).await;
        assert!(matches!(result, Err(RegistryError::BadId { .. })), "{name:?}");
    }
    for name in ["host-1.example_2", &too_long[1..]] {
        registry.register(&gateway(name)).await.unwrap();
        registry.campaign(name, name).await.unwrap();
    }
}

async fn an_announcement_too_large_is_refused(mut store: impl Store) {
    let registry = store.open();
    let mut large = gateway("gw-1");
    large.zone = "z".repeat(NODE_BYTES_MAX);
    let err = registry.register(&large).await.unwrap_err();
    assert!(matches!(err, RegistryError::TooLarge { limit: NODE_BYTES_MAX, .. }), "{err}");
    assert!(!err.can_retry());
    assert_eq!(ids(&registry, None).await, Vec::<String>::new());
}

async fn one_node_too_many_is_refused(mut store: impl Store) {
    let registry = store.open();
    registry.register(&gateway("gw-1")).await.unwrap();
    store.fill(NODES_MAX - 2).await;
    registry.register(&gateway("the-last")).await.unwrap();
    let err = registry.register(&gateway("one-more")).await.unwrap_err();
    assert!(matches!(err, RegistryError::TooMany { limit: NODES_MAX, .. }), "{err}");
    assert!(err.can_retry());
    assert_eq!(registry.nodes(None).await.unwrap().len(), NODES_MAX);
    // Those that are registered can still change, and make place.
    registry.register(&NodeInfo { applied: Some(applied(1)), ..gateway("gw-1") }).await.unwrap();
    registry.unregister(NodeKind::Kateway, "gw-1").await.unwrap();
    registry.register(&gateway("one-more")).await.unwrap();
}

async fn a_watch_sees_the_list_now_and_who_joins_changes_and_leaves(mut store: impl Store) {
    let (watching, other) = (store.open(), store.open());
    other.register(&gateway("gw-1")).await.unwrap();
    let mut nodes = watching.watch(Some(NodeKind::Kateway)).await.unwrap();
    assert_eq!(*nodes.borrow(), [gateway("gw-1")]);

    other.register(&node(NodeKind::Kproxy, "of-another-kind")).await.unwrap();
    other.register(&gateway("gw-2")).await.unwrap();
    soon(nodes.wait_for(|nodes| *nodes == [gateway("gw-1"), gateway("gw-2")])).await.unwrap();

    let changed = NodeInfo { applied: Some(applied(7)), ..gateway("gw-2") };
    other.register(&changed).await.unwrap();
    soon(nodes.wait_for(|nodes| *nodes == [gateway("gw-1"), changed.clone()])).await.unwrap();

    other.unregister(NodeKind::Kateway, "gw-1").await.unwrap();
    soon(nodes.wait_for(|nodes| *nodes == [changed.clone()])).await.unwrap();
    drop(other);
    soon(nodes.wait_for(|nodes| nodes.is_empty())).await.unwrap();
}

async fn a_watch_ends_with_its_registry(mut store: impl Store) {
    let registry = store.open();
    let mut nodes = registry.watch(None).await.unwrap();
    drop(registry);
    assert!(soon(nodes.changed()).await.is_err());
}

async fn a_lost_session_is_told_and_takes_the_registration(mut store: impl Store) {
    let (registry, other) = (store.open(), store.open());
    let mut connection = registry.connection();
    let first = session(&registry);
    registry.register(&gateway("gw-1")).await.unwrap();
    store.lose_sessions();
    let next = |state: &ConnectionState| matches!(*state, ConnectionState::Connected { session } if session > first);
    soon(connection.wait_for(next)).await.unwrap();
    assert_eq!(ids(&other, None).await, Vec::<String>::new());
    // Not its own any more, so anybody's.
    other.register(&gateway("gw-1")).await.unwrap();
    assert!(matches!(registry.register(&gateway("gw-1")).await, Err(RegistryError::Taken { .. })));
}

async fn a_registration_is_made_again_after_each_lost_session(mut store: impl Store) {
    let (registry, other) = (store.open(), store.open());
    let registration = Registration::keep(Arc::clone(&registry), gateway("gw-1"));
    soon(registration.registered()).await;
    assert!(registration.is_registered());
    assert_eq!(other.nodes(None).await.unwrap(), [gateway("gw-1")]);
    for _ in 0..3 {
        let before = session(&registry);
        store.lose_sessions();
        let lost = |state: &ConnectionState| *state != ConnectionState::Connected { session: before };
        soon(registry.connection().wait_for(lost)).await.unwrap();
        until_nodes(&other, |nodes| nodes == [gateway("gw-1")]).await;
    }
}

async fn a_registration_waits_for_an_id_that_is_still_taken(mut store: impl Store) {
    let (registry, other) = (store.open(), store.open());
    other.register(&NodeInfo { pid: 1, ..gateway("gw-1") }).await.unwrap();
    let registration = Registration::keep(Arc::clone(&registry), gateway("gw-1"));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!registration.is_registered());
    drop(other);
    soon(registration.registered()).await;
    assert_eq!(registry.nodes(None).await.unwrap(), [gateway("gw-1")]);
}

async fn a_registration_announces_the_generation_in_force(mut store: impl Store) {
    let (registry, other) = (store.open(), store.open());
    let registration = Registration::keep(registry, gateway("gw-1"));
    soon(registration.registered()).await;
    let mut seen = other.watch(None).await.unwrap();
    for number in 1..=500 {
        registration.update_applied(applied(number));
        tokio::task::yield_now().await;
    }
    let mut last = 0;
    while last < 500 {
        let now = seen.borrow_and_update()[0].applied.as_ref().map_or(0, |applied| applied.number);
        assert!(now >= last, "{now} after {last}");
        last = now;
        if last < 500 {
            soon(seen.changed()).await.unwrap();
        }
    }
    // A change that changes nothing, and one that comes after a while.
    registration.update_applied(applied(500));
    tokio::time::sleep(2 * ANNOUNCE_PERIOD_MIN).await;
    registration.update(|node| node.zone = "elsewhere".to_owned());
    soon(seen.wait_for(|nodes| nodes[0].zone == "elsewhere")).await.unwrap();
}

async fn an_ended_registration_is_gone_and_stays_gone(mut store: impl Store) {
    let (registry, other) = (store.open(), store.open());
    let registration = Registration::keep(Arc::clone(&registry), gateway("gw-1"));
    soon(registration.registered()).await;
    registration.update_applied(applied(1));
    for _ in 0..2 {
        soon(registration.end()).await;
        assert_eq!(ids(&other, None).await, Vec::<String>::new());
        assert!(!registration.is_registered());
    }
    registration.update_applied(applied(2));
    store.lose_sessions();
    tokio::time::sleep(2 * ANNOUNCE_PERIOD_MIN).await;
    assert_eq!(ids(&other, None).await, Vec::<String>::new());

    // Ended before it was registered at all: the call under way is waited for, then taken back.
    let registration = Registration::keep(registry, gateway("gw-2"));
    soon(registration.end()).await;
    assert_eq!(ids(&other, None).await, Vec::<String>::new());
}

async fn a_dropped_registration_is_taken_back(mut store: impl Store) {
    let (registry, other) = (store.open(), store.open());
    let registration = Registration::keep(Arc::clone(&registry), gateway("gw-1"));
    soon(registration.registered()).await;
    drop(registration);
    until_nodes(&other, <[NodeInfo]>::is_empty).await;
}

fn wish(revision: u64, options: &[(&str, &str)]) -> NodeWish {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NodeWish { revision, started_at_ms: gateway("").started_at_ms, drain: false, options }
}

async fn a_wish_reaches_its_node_and_whoever_asks(mut store: impl Store) {
    let (of_node, of_manager) = (store.open(), store.open());
    // A node may look before it is registered.
    let mut wished = of_node.watch_wish(&gateway("gw-1")).await.unwrap();
    assert_eq!(*wished.borrow(), None);
    of_node.register(&gateway("gw-1")).await.unwrap();
    of_node.register(&gateway("gw-2")).await.unwrap();
    let mut other = of_node.watch_wish(&gateway("gw-2")).await.unwrap();
    assert_eq!(of_manager.wish(NodeKind::Kateway, "gw-1").await.unwrap(), None);

    for revision in [1, 2, 7] {
        let drained = NodeWish { drain: revision == 2, ..wish(revision, &[("log.level", "debug")]) };
        of_manager.set_wish(NodeKind::Kateway, "gw-1", &drained).await.unwrap();
        soon(wished.wait_for(|wished| *wished == Some(drained.clone()))).await.unwrap();
        for registry in [&of_node, &of_manager] {
            assert_eq!(registry.wish(NodeKind::Kateway, "gw-1").await.unwrap(), Some(drained.clone()));
        }
        assert_eq!(*of_node.watch_wish(&gateway("gw-1")).await.unwrap().borrow(), Some(drained));
    }
    assert!(!other.has_changed().unwrap() && other.borrow_and_update().is_none(), "of one node only");
    // And nobody takes it for a node.
    assert_eq!(ids(&of_manager, None).await, ["gw-1", "gw-2"]);
}

async fn a_wish_is_for_one_incarnation_that_is_up(mut store: impl Store) {
    let (of_node, of_manager) = (store.open(), store.open());
    let set = async |wish: NodeWish| of_manager.set_wish(NodeKind::Kateway, "gw-1", &wish).await;
    assert!(matches!(set(wish(1, &[])).await, Err(RegistryError::NoSuchNode { .. })), "nobody is up");
    of_node.register(&gateway("gw-1")).await.unwrap();
    set(wish(1, &[])).await.unwrap();

    let reborn = NodeInfo { started_at_ms: gateway("gw-1").started_at_ms + 1, ..gateway("gw-1") };
    of_node.register(&reborn).await.unwrap();
    assert_eq!(of_manager.wish(NodeKind::Kateway, "gw-1").await.unwrap(), None);
    assert_eq!(*of_node.watch_wish(&reborn).await.unwrap().borrow(), None);
    assert!(matches!(set(wish(2, &[])).await, Err(RegistryError::NoSuchNode { .. })), "of the one before");
    // Its revisions begin anew.
    set(NodeWish { started_at_ms: reborn.started_at_ms, ..wish(1, &[]) }).await.unwrap();
}

async fn a_wish_goes_with_the_registration(mut store: impl Store) {
    let (of_node, of_manager) = (store.open(), store.open());
    let set = async |revision| of_manager.set_wish(NodeKind::Kateway, "gw-1", &wish(revision, &[])).await.unwrap();
    let wished = async || of_manager.wish(NodeKind::Kateway, "gw-1").await.unwrap().map(|wish| wish.revision);
    of_node.register(&gateway("gw-1")).await.unwrap();
    set(1).await;
    // Announcing something does not end it.
    of_node.register(&NodeInfo { applied: Some(applied(1)), ..gateway("gw-1") }).await.unwrap();
    assert_eq!(wished().await, Some(1));
    of_node.unregister(NodeKind::Kateway, "gw-1").await.unwrap();
    of_node.register(&gateway("gw-1")).await.unwrap();
    assert_eq!(wished().await, None);
    set(1).await;
    drop(of_node);
    let of_node = store.open();
    of_node.register(&gateway("gw-1")).await.unwrap();
    assert_eq!(wished().await, None);
}

async fn of_two_who_wish_at_the_same_time_one_is_refused_and_a_repeated_wish_is_none(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    one.register(&gateway("gw-1")).await.unwrap();
    let (debug, trace) = (wish(3, &[("log.level", "debug")]), wish(3, &[("log.level", "trace")]));
    let set = async |registry: &Shared, wish: NodeWish| registry.set_wish(NodeKind::Kateway, "gw-1", &wish).await;
    let (first, second) = tokio::join!(set(&one, debug), set(&two, trace));
    let refused = match (first, second) {
        (Ok(()), Err(err)) | (Err(err), Ok(())) => err,
        both => panic!("one of them, not {both:?}"),
    };
    assert!(matches!(refused, RegistryError::Overtaken { revision: 3, .. }), "{refused}");
    let stands = one.wish(NodeKind::Kateway, "gw-1").await.unwrap().unwrap();
    set(&two, stands).await.unwrap();
    for earlier in 0..3 {
        assert!(matches!(set(&one, wish(earlier, &[])).await, Err(RegistryError::Overtaken { .. })), "{earlier}");
    }
    set(&one, wish(4, &[])).await.unwrap();
}

async fn a_wish_that_is_too_large_or_of_a_bad_name_is_refused(mut store: impl Store) {
    let registry = store.open();
    registry.register(&gateway("gw-1")).await.unwrap();
    let large = wish(1, &[("log.level", &"x".repeat(WISH_BYTES_MAX))]);
    let refused = registry.set_wish(NodeKind::Kateway, "gw-1", &large).await;
    assert!(matches!(refused, Err(RegistryError::WishTooLarge { limit: WISH_BYTES_MAX, .. })), "{refused:?}");
    for name in ["../gw", "", ".gw-1"] {
        let refused = registry.set_wish(NodeKind::Kateway, name, &wish(1, &[])).await;
        assert!(matches!(refused, Err(RegistryError::BadId { .. })), "{name:?}");
        assert!(matches!(registry.wish(NodeKind::Kateway, name).await, Err(RegistryError::BadId { .. })), "{name:?}");
        let refused = registry.watch_wish(&gateway(name)).await;
        assert!(matches!(refused, Err(RegistryError::BadId { .. })), "{name:?}");
    }
}

async fn a_watch_of_a_wish_ends_with_its_registry(mut store: impl Store) {
    let registry = store.open();
    let mut wished = registry.watch_wish(&gateway("gw-1")).await.unwrap();
    drop(registry);
    assert!(soon(wished.changed()).await.is_err());
}

async fn one_candidate_leads_and_the_next_follows_when_it_resigns(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    assert_eq!(two.leader("jobs").await.unwrap(), None);
    let first = one.campaign("jobs", "gw-1").await.unwrap();
    assert_eq!((first.election(), first.candidate(), first.epoch()), ("jobs", "gw-1", 1));
    for registry in [&one, &two] {
        let leader = registry.leader("jobs").await.unwrap().unwrap();
        assert_eq!((leader.candidate.as_str(), leader.epoch), ("gw-1", 1));
        // Also a second candidate of the same process waits.
        let waiting = tokio::time::timeout(Duration::from_millis(150), registry.campaign("jobs", "gw-2"));
        assert!(waiting.await.is_err(), "there is one leader");
    }
    assert!(!first.is_lost());

    let next = tokio::spawn({
        let two = Arc::clone(&two);
        async move { two.campaign("jobs", "gw-2").await.unwrap() }
    });
    first.resign().await;
    let second = soon(next).await.unwrap();
    // Not always 2: a candidate that gave up a moment ago may have won, and lost, in between.
    assert!(second.epoch() > 1);
    assert_eq!(one.leader("jobs").await.unwrap().unwrap().candidate, "gw-2");
    second.resign().await;
    assert_eq!(one.leader("jobs").await.unwrap(), None, "free when resign returns");
}

async fn a_dropped_leadership_and_a_dropped_registry_free_the_place(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    drop(one.campaign("jobs", "gw-1").await.unwrap());
    let second = soon(one.campaign("jobs", "gw-1")).await.unwrap();
    drop(one);
    soon(second.lost()).await;
    assert!(second.is_lost());
    let third = soon(two.campaign("jobs", "gw-2")).await.unwrap();
    assert_eq!(third.epoch(), 3);
    // Far too late, and without effect.
    drop(second);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(two.leader("jobs").await.unwrap().unwrap().epoch, 3);
    assert!(!third.is_lost());
}

async fn elections_do_not_know_of_each_other(mut store: impl Store) {
    let registry = store.open();
    let jobs = registry.campaign("jobs", "gw-1").await.unwrap();
    let guard = soon(registry.campaign("guard", "gw-2")).await.unwrap();
    assert_eq!((jobs.epoch(), guard.epoch()), (1, 1));
    assert_eq!(registry.leader("jobs").await.unwrap().unwrap().candidate, "gw-1");
    // And no election looks like a node.
    assert_eq!(ids(&registry, None).await, Vec::<String>::new());
}

async fn a_candidate_that_gives_up_waiting_does_not_lead_later(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    let first = one.campaign("jobs", "gw-1").await.unwrap();
    for wait_ms in [0, 1, 5, 20, 60] {
        let waiting = tokio::time::timeout(Duration::from_millis(wait_ms), two.campaign("jobs", "gw-2"));
        assert!(waiting.await.is_err());
    }
    first.resign().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(one.leader("jobs").await.unwrap(), None);
}

async fn the_epoch_grows_with_every_leader_also_over_reopening(mut store: impl Store) {
    let mut registries = [store.open(), store.open()];
    let mut last = 0;
    for round in 0..100 {
        let registry = &mut registries[round % 2];
        if round % 10 == 9 {
            *registry = store.open();
        }
        let leadership = soon(registry.campaign("jobs", "gw-1")).await.unwrap();
        assert!(leadership.epoch() > last, "{} after {last}", leadership.epoch());
        last = leadership.epoch();
        if round % 3 == 0 { drop(leadership) } else { leadership.resign().await }
    }
    drop(registries);
    assert!(soon(store.open().campaign("jobs", "gw-1")).await.unwrap().epoch() > last);
}

async fn a_lost_session_ends_the_leadership_and_the_next_epoch_is_greater(mut store: impl Store) {
    let (one, two) = (store.open(), store.open());
    let first = one.campaign("jobs", "gw-1").await.unwrap();
    store.lose_sessions();
    soon(first.lost()).await;
    assert!(first.is_lost());
    let second = soon(two.campaign("jobs", "gw-2")).await.unwrap();
    assert!(second.epoch() > first.epoch());
    // What the first does now changes nothing for the second.
    first.resign().await;
    assert_eq!(one.leader("jobs").await.unwrap().unwrap().epoch, second.epoch());
    assert!(!second.is_lost());
}

async fn of_many_candidates_at_once_one_leads_and_epochs_fence_the_earlier_ones(mut store: impl Store) {
    const CANDIDATES: usize = 8;
    const TERMS: usize = 4;
    let leading = Arc::new(AtomicUsize::new(0));
    /// What a leader writes to, guarded by the epoch: the log of writes that it took.
    type Fenced = Arc<std::sync::Mutex<Vec<u64>>>;
    fn write(store: &Fenced, epoch: u64) -> bool {
        let mut log = store.lock().unwrap();
        let is_current = log.last().is_none_or(|last| epoch >= *last);
        if is_current {
            log.push(epoch);
        }
        is_current
    }
    let fenced = Fenced::default();
    let mut candidates = tokio::task::JoinSet::new();
    for index in 0..CANDIDATES {
        let (registry, leading, fenced) = (store.open(), Arc::clone(&leading), Arc::clone(&fenced));
        candidates.spawn(async move {
            let mut former = Vec::new();
            for _ in 0..TERMS {
                let leadership = registry.campaign("jobs", &format!("gw-{index}")).await.unwrap();
                assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "one leads");
                assert!(write(&fenced, leadership.epoch()), "the leader can write");
                assert!(!former.iter().any(|epoch| write(&fenced, *epoch)), "former leaders cannot");
                tokio::task::yield_now().await;
                assert!(write(&fenced, leadership.epoch()), "nobody came in between");
                leading.fetch_sub(1, Ordering::SeqCst);
                former.push(leadership.epoch());
                leadership.resign().await;
            }
        });
    }
    soon(candidates.join_all()).await;
    let log = fenced.lock().unwrap();
    let expected: Vec<u64> = (1..=(CANDIDATES * TERMS) as u64).flat_map(|epoch| [epoch, epoch]).collect();
    assert_eq!(*log, expected);
}

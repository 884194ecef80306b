//! The local registry, with other processes played by other handles (each has locks of its own) and by a real child.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry::{LocalRegistry, NodeInfo, NodeKind, Registry, RegistryError};

fn node(kind: NodeKind, id: &str) -> NodeInfo {
    NodeInfo {
        kind,
        id: id.to_owned(),
        zone: "local".to_owned(),
        version: "0.1.0".to_owned(),
        host: "localhost".to_owned(),
        pid: std::process::id(),
        started_at_ms: 1_511_366_400_000,
        addresses: BTreeMap::from([("pub".to_owned(), "http://127.0.0.1:9191".to_owned())]),
    }
}

fn ids(registry: &LocalRegistry, kind: Option<NodeKind>) -> Vec<String> {
    registry.nodes(kind).unwrap().into_iter().map(|n| n.id).collect()
}

fn file_count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some()).count()
}

#[test]
fn every_process_sees_every_living_node() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (LocalRegistry::open(dir.path()).unwrap(), LocalRegistry::open(dir.path()).unwrap());
    one.register(&node(NodeKind::Kateway, "gw-1")).unwrap();
    two.register(&node(NodeKind::Kateway, "gw-2")).unwrap();
    two.register(&node(NodeKind::Kproxy, "gw-1")).unwrap();
    for registry in [&one, &two] {
        assert_eq!(ids(registry, Some(NodeKind::Kateway)), ["gw-1", "gw-2"]);
        assert_eq!(ids(registry, None), ["gw-1", "gw-2", "gw-1"]);
    }
    assert_eq!(two.nodes(Some(NodeKind::Kproxy)).unwrap(), [node(NodeKind::Kproxy, "gw-1")]);

    two.unregister(NodeKind::Kateway, "gw-2").unwrap();
    two.unregister(NodeKind::Kateway, "never-was").unwrap();
    assert_eq!(ids(&one, Some(NodeKind::Kateway)), ["gw-1"]);
    drop(two);
    assert_eq!(ids(&one, None), ["gw-1"]);
}

#[test]
fn a_name_belongs_to_one_living_process() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (LocalRegistry::open(dir.path()).unwrap(), LocalRegistry::open(dir.path()).unwrap());
    one.register(&node(NodeKind::Kateway, "gw-1")).unwrap();
    let err = two.register(&node(NodeKind::Kateway, "gw-1")).unwrap_err();
    assert!(matches!(err, RegistryError::Taken { pid, .. } if pid == std::process::id()), "{err}");

    // The owner may announce something else.
    let mut moved = node(NodeKind::Kateway, "gw-1");
    moved.addresses.insert("sub".to_owned(), "http://127.0.0.1:9192".to_owned());
    one.register(&moved).unwrap();
    assert_eq!(two.nodes(None).unwrap(), [moved]);

    drop(one);
    two.register(&node(NodeKind::Kateway, "gw-1")).unwrap();
    assert_eq!(ids(&two, None), ["gw-1"]);
}

#[test]
fn the_registration_of_a_killed_process_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    registry.register(&node(NodeKind::Kateway, "living")).unwrap();
    // What kill -9 leaves: a whole file that nobody holds.
    let text = serde_json::to_vec(&node(NodeKind::Kateway, "killed")).unwrap();
    std::fs::write(dir.path().join("kateway.killed.json"), text).unwrap();
    assert_eq!(file_count(dir.path()), 2);
    assert_eq!(ids(&registry, None), ["living"]);
    assert_eq!(file_count(dir.path()), 1, "the dead one's file is removed");
}

#[test]
fn ids_that_could_leave_the_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    for id in ["", "../gw", "a/b", ".hidden", "a b", &"x".repeat(65)] {
        let result = registry.register(&node(NodeKind::Kateway, id));
        assert!(matches!(result, Err(RegistryError::BadId { .. })), "{id:?}");
    }
    registry.register(&node(NodeKind::Kateway, "host-1.example_2")).unwrap();
}

#[test]
fn an_announcement_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    let mut large = node(NodeKind::Kateway, "gw-1");
    large.zone = "z".repeat(20_000);
    assert!(matches!(registry.register(&large), Err(RegistryError::TooLarge { .. })));
}

#[test]
fn a_watch_reports_the_list_now_and_after_each_change_until_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (watching, other) = (LocalRegistry::open(dir.path()).unwrap(), LocalRegistry::open(dir.path()).unwrap());
    let (sender, seen) = channel();
    let sender = Mutex::new(Some(sender));
    let watch = watching
        .watch(
            Some(NodeKind::Kateway),
            Arc::new(move |nodes| {
                let ids: Vec<String> = nodes.into_iter().map(|n| n.id).collect();
                let _ = sender.lock().unwrap().as_ref().unwrap().send(ids);
            }),
        )
        .unwrap();
    let next = || seen.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(next(), Vec::<String>::new());
    other.register(&node(NodeKind::Kateway, "gw-1")).unwrap();
    assert_eq!(next(), ["gw-1"]);
    drop(other);
    assert_eq!(next(), Vec::<String>::new());
    drop(watch);
    // The thread ends and lets go of the callback, and with it of the sender.
    assert!(seen.recv_timeout(Duration::from_secs(10)).is_err());
}

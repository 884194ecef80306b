//! What only the local registry has: files, and processes that are killed.
//!
//! A test that needs other processes starts this binary again with a role in its environment; the test
//! `role_of_a_child` plays it and says on stdout how far it is.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::{gateway, soon};
use registry::node_dir::{self, NodeDir, NodeId};
use registry::{LocalRegistry, NodeKind, Registry, RegistryError};

const ROLE: &str = "REGISTRY_TEST_ROLE";
const DIR: &str = "REGISTRY_TEST_DIR";

/// Another process; killed when dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(role: &str, dir: &Path) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "role_of_a_child", "--nocapture"]).env(ROLE, role).env(DIR, dir);
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { child, lines }
    }

    /// What it says next.
    fn says(&mut self) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(20)).expect("the child says something soon");
            // The test harness prints, too, and not always whole lines.
            if let Some((_, said)) = line.split_once("child: ") {
                return said.to_owned();
            }
        }
    }

    /// By SIGKILL, and waits until it is gone.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends when the parent does, however that ends.
#[tokio::test]
async fn role_of_a_child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = std::path::PathBuf::from(std::env::var(DIR).unwrap());
    let until_parent_ends = || std::io::stdin().read_line(&mut String::new()).unwrap();
    match role.as_str() {
        "node directory" => {
            let node = node_dir::claim(&dir).unwrap();
            println!("child: {}", node.id);
            until_parent_ends();
        }
        "node" => {
            let registry = LocalRegistry::open(&dir).unwrap();
            registry.register(&gateway("child")).await.unwrap();
            println!("child: registered");
            until_parent_ends();
        }
        "leader" => {
            let registry = LocalRegistry::open(&dir).unwrap();
            let leadership = registry.campaign("jobs", "child").await.unwrap();
            println!("child: {}", leadership.epoch());
            until_parent_ends();
        }
        other => panic!("no role {other}"),
    }
}

fn file_count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some()).count()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_node_is_one_file_and_that_of_a_killed_process_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    registry.register(&gateway("living")).await.unwrap();
    let mut other = Process::start("node", dir.path());
    assert_eq!(other.says(), "registered");
    assert_eq!(registry.nodes(None).await.unwrap().len(), 2);
    assert!(matches!(registry.register(&gateway("child")).await, Err(RegistryError::Taken { .. })));
    assert!(dir.path().join("kateway.child.json").exists());

    other.kill();
    assert_eq!(file_count(dir.path()), 2);
    assert_eq!(registry.nodes(None).await.unwrap(), [gateway("living")]);
    assert_eq!(file_count(dir.path()), 1, "the dead one's file is removed");
    registry.register(&gateway("child")).await.unwrap();
}

#[tokio::test]
async fn registrations_of_older_versions_are_understood_and_an_unset_generation_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    registry.register(&gateway("gw-1")).await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("kateway.gw-1.json")).unwrap();
    // What version 0.1.0 wrote.
    assert!(!text.contains("applied"), "{text}");
    assert_eq!(serde_json::from_str::<registry::NodeInfo>(&text).unwrap(), gateway("gw-1"));
}

#[tokio::test]
async fn a_registry_works_on_when_its_directory_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry");
    let registry = LocalRegistry::open(&path).unwrap();
    registry.register(&gateway("gw-1")).await.unwrap();
    let mut connection = registry.connection();
    std::fs::remove_dir_all(&path).unwrap();
    assert_eq!(registry.nodes(None).await.unwrap(), []);
    soon(connection.changed()).await.unwrap();
    registry.register(&gateway("gw-1")).await.unwrap();
    assert_eq!(registry.nodes(None).await.unwrap(), [gateway("gw-1")]);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("kateway.gw-1.json")), 0o600);
    registry.campaign("jobs", "gw-1").await.unwrap();
    assert_eq!(mode(&path.join("elections")), 0o700);
}

#[tokio::test]
async fn a_session_of_which_one_file_was_removed_is_lost_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    for id in ["gw-1", "gw-2"] {
        registry.register(&gateway(id)).await.unwrap();
    }
    let mut connection = registry.connection();
    std::fs::remove_file(dir.path().join("kateway.gw-1.json")).unwrap();
    soon(connection.changed()).await.unwrap();
    assert_eq!(registry.nodes(None).await.unwrap(), []);
}

/// A cleaner took our file, and another process the name: its file is not ours to remove.
#[tokio::test]
async fn a_name_lost_to_another_process_is_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (LocalRegistry::open(dir.path()).unwrap(), LocalRegistry::open(dir.path()).unwrap());
    one.register(&gateway("gw-1")).await.unwrap();
    std::fs::remove_file(dir.path().join("kateway.gw-1.json")).unwrap();
    two.register(&gateway("gw-1")).await.unwrap();
    let changed = registry::NodeInfo { zone: "elsewhere".to_owned(), ..gateway("gw-1") };
    for again in [gateway("gw-1"), changed] {
        assert!(matches!(one.register(&again).await, Err(RegistryError::Taken { .. })));
    }
    one.unregister(NodeKind::Kateway, "gw-1").await.unwrap();
    drop(one);
    assert_eq!(two.nodes(None).await.unwrap(), [gateway("gw-1")]);
}

#[tokio::test]
async fn the_killed_leader_is_followed_under_a_greater_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    for round in 0..3 {
        let mut leader = Process::start("leader", dir.path());
        assert_eq!(leader.says(), (2 * round + 1).to_string());
        assert_eq!(registry.leader("jobs").await.unwrap().unwrap().epoch, 2 * round + 1);
        leader.kill();
        assert_eq!(registry.leader("jobs").await.unwrap(), None);
        let next = soon(registry.campaign("jobs", "parent")).await.unwrap();
        assert_eq!(next.epoch(), 2 * round + 2);
        next.resign().await;
    }
}

#[tokio::test]
async fn nobody_leads_where_the_last_epoch_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    registry.campaign("jobs", "gw-1").await.unwrap().resign().await;
    let record = dir.path().join("elections/jobs.json");
    let last = serde_json::to_string(&registry::Leader { candidate: "gw-1".to_owned(), epoch: u64::MAX }).unwrap();
    for damaged in ["", "{\"epoch\":", "{}", "{\"epoch\":-1,\"candidate\":\"a\"}", &last] {
        std::fs::write(&record, damaged).unwrap();
        let err = registry.campaign("jobs", "gw-1").await.unwrap_err();
        assert!(matches!(err, RegistryError::EpochUnknown { .. }), "{damaged}: {err}");
        assert_eq!(std::fs::read_to_string(&record).unwrap(), damaged, "left for whoever looks");
    }
    std::fs::write(&record, "{\"epoch\":41,\"candidate\":\"a\"}").unwrap();
    assert_eq!(soon(registry.campaign("jobs", "gw-1")).await.unwrap().epoch(), 42);
}

#[test]
fn a_process_that_restarts_gets_its_node_directory_again() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut process = Process::start("node directory", dir.path());
        let id = process.says();
        (process, id)
    };
    let (mut first, first_id) = start();
    let (mut second, second_id) = start();
    assert_ne!(second_id, first_id);
    for _ in 0..2 {
        // Each is killed, and started again while the other runs.
        second.kill();
        let (again, id) = start();
        assert_eq!(id, second_id);
        second = again;
        first.kill();
        let (again, id) = start();
        assert_eq!(id, first_id);
        first = again;
    }
    assert_eq!(first_id.len(), 16);
    let path = dir.path().join("nodes").join(first_id);
    assert_eq!((mode(&path), mode(&path.join("lock"))), (0o700, 0o600));
}

/// A process that another test starts has our locks, too, from its fork to its exec.
fn wait_until_free(data_dir: &Path) {
    for entry in std::fs::read_dir(data_dir.join("nodes")).unwrap() {
        let lock = entry.unwrap().path().join("lock");
        if lock.exists() {
            std::fs::File::open(lock).unwrap().lock().unwrap();
        }
    }
}

#[test]
fn processes_that_start_at_once_get_different_node_directories_and_no_more_than_they_need() {
    const PROCESSES: usize = 8;
    // The first ids that a directory gives are the interesting ones, so many directories.
    for _ in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let at_once = || {
            let start = Barrier::new(PROCESSES);
            let claim = || {
                start.wait();
                node_dir::claim(dir.path()).unwrap()
            };
            let dirs: Vec<NodeDir> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(claim)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            dirs.iter().map(|dir| dir.id.clone()).collect::<BTreeSet<NodeId>>()
        };
        let ids = at_once();
        assert_eq!(ids.len(), PROCESSES);
        wait_until_free(dir.path());
        assert_eq!(at_once(), ids, "the same ones after a restart");
    }
}

#[test]
fn the_first_free_node_directory_by_name_is_taken_and_other_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["00000000000000b2", "00000000000000a1", "00000000000000A0", "0001", "0000000000000000.old"] {
        std::fs::create_dir_all(dir.path().join("nodes").join(name)).unwrap();
    }
    let claim = || node_dir::claim(dir.path()).unwrap();
    let (one, two, three) = (claim(), claim(), claim());
    assert_eq!((one.id.as_str(), two.id.as_str()), ("00000000000000a1", "00000000000000b2"));
    assert_eq!(one.path, dir.path().join("nodes/00000000000000a1"));
    assert_eq!(three.id.as_str().len(), 16, "a new one: {}", three.id);
    assert!(three.id != one.id && three.id != two.id);
    drop(one);
    assert_eq!(claim().id.as_str(), "00000000000000a1");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let err = node_dir::claim(&file).unwrap_err();
    assert!(err.to_string().contains("file/nodes"), "{err}");
}

#[tokio::test]
async fn a_change_of_what_is_announced_is_cheap() {
    let dir = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(dir.path()).unwrap();
    let mut node = gateway("gw-1");
    let started = std::time::Instant::now();
    for number in 0..200 {
        node.started_at_ms = number;
        registry.register(&node).await.unwrap();
    }
    // Some 50 µs each; a sync of a file would be milliseconds.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn the_directory_of_a_dead_node_is_taken_by_whoever_names_it_and_that_of_a_living_one_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (node_dir::claim(dir.path()).unwrap(), node_dir::claim(dir.path()).unwrap());
    let (id, path) = (theirs.id.clone(), theirs.path.clone());
    assert!(node_dir::claim_dead(dir.path(), id.as_str()).unwrap().is_none(), "it lives");
    drop(theirs);
    let taken = node_dir::claim_dead(dir.path(), id.as_str()).unwrap().unwrap();
    assert_eq!((&taken.id, &taken.path), (&id, &path));
    assert!(node_dir::claim_dead(dir.path(), id.as_str()).unwrap().is_none(), "somebody is at it");
    let third = node_dir::claim(dir.path()).unwrap();
    assert!(third.id != id && third.id != ours.id, "nobody starts as the node that is being gone through");
    drop(taken);
    assert!(node_dir::claim_dead(dir.path(), id.as_str()).unwrap().is_some());
    for (name, why) in [("0000000000000000", "never was"), ("../nodes", "a path"), ("", "empty")] {
        let err = node_dir::claim_dead(dir.path(), name).unwrap_err();
        assert!(matches!(err, node_dir::NodeDirError::NoSuchNode { .. }), "{why}: {err}");
    }
}

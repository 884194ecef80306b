//! No process outlives the test run that started it, however the run ends and however deep the process is.
//!
//! The run that is killed is this program again: with [`DIR`] set, the test named on its command line is the victim
//! instead of the judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use testkit::process::{Process, scratch_dir, tethered};
use testkit::wait;

/// Tells the program that it is the one to be killed, and where it writes who it started.
const DIR: &str = "TETHER_TEST_DIR";
/// Generous for a busy machine; it takes a tenth of a second.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Three generations, of which one leaves its session, one its group, and one its parent.
const FAMILY: &str = r#"
echo $$ > child
sh -c 'echo $$ > grandchild; sleep 600 & echo $! > great-grandchild; wait' &
setsid sh -c 'echo $$ > in-its-own-session; exec sleep 600' &
(sh -c 'echo $$ > orphan; exec sleep 600' &)
wait
"#;
const MEMBERS: [&str; 5] = ["child", "grandchild", "great-grandchild", "in-its-own-session", "orphan"];

fn start_family(dir: &Path) -> Process {
    let mut command = tethered("sh");
    command.args(["-c", FAMILY]).current_dir(dir);
    Process::start("family", command, &dir.join("log"), false).unwrap()
}

fn wait_for_family(dir: &Path) -> Vec<(&'static str, Pid)> {
    let read = |name| fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok().and_then(Pid::from_raw);
    wait::until("the family", Duration::from_secs(30), || {
        let all: Vec<_> = MEMBERS.into_iter().filter_map(|name| Some((name, read(name)?))).collect();
        anyhow::ensure!(all.len() == MEMBERS.len(), "{all:?}");
        Ok(all)
    })
    .unwrap()
}

/// Gone, or dead and waiting for somebody to ask how it ended.
fn is_alive(id: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero())).unwrap_or_default();
    let is_zombie = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    test_kill_process(id).is_ok() && !is_zombie
}

#[track_caller]
fn assert_all_gone(family: &[(&'static str, Pid)]) {
    wait::until("everybody to be gone", GONE_WITHIN, || {
        let left: Vec<_> = family.iter().filter(|(_, id)| is_alive(*id)).collect();
        anyhow::ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    })
    .unwrap();
}

/// It was: a run killed with SIGKILL took its children along, but what those had started went on.
#[test]
fn nobody_outlives_a_run_that_is_killed() {
    if let Some(dir) = std::env::var_os(DIR) {
        let _family = start_family(&PathBuf::from(dir));
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let dir = scratch_dir("tether").unwrap();
    // Not tethered: this test must not be helped by its own guard.
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "nobody_outlives_a_run_that_is_killed"]).env(DIR, dir.path());
    let mut victim = victim.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let family = wait_for_family(dir.path());
    assert!(family.iter().all(|(_, id)| is_alive(*id)), "{family:?}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert_all_gone(&family);
}

#[test]
fn nobody_outlives_the_handle_of_the_child() {
    let dir = scratch_dir("tether").unwrap();
    let process = start_family(dir.path());
    let family = wait_for_family(dir.path());
    drop(process);
    assert_all_gone(&family);
}

/// A child that ends by itself leaves nobody behind either.
#[test]
fn nobody_outlives_the_child() {
    let dir = scratch_dir("tether").unwrap();
    let mut process = start_family(dir.path());
    let family = wait_for_family(dir.path());
    let (_, child) = family[0];
    kill_process(child, Signal::KILL).unwrap();
    process.wait(GONE_WITHIN).unwrap();
    assert_all_gone(&family);
}

/// Two children of one run do not know each other: the end of one is not the end of the other.
#[test]
fn one_child_dies_without_its_sibling() {
    let (first, second) = (scratch_dir("tether").unwrap(), scratch_dir("tether").unwrap());
    let doomed = start_family(first.path());
    let mut sibling = start_family(second.path());
    let (doomed_family, family) = (wait_for_family(first.path()), wait_for_family(second.path()));
    drop(doomed);
    assert_all_gone(&doomed_family);
    assert!(sibling.is_running());
    assert!(family.iter().all(|(_, id)| is_alive(*id)), "{family:?}");
}

//! Whole families of processes that end with us: a child, what it started, and what that started.
//!
//! The kernel's parent-death signal reaches a child only, and a process group is left by whoever wants to. What
//! every descendant keeps is its environment. So each child is started with a variable whose name is this process,
//! the moment it began and a number, and inherits those of everybody above it:
//!
//! ```text
//! xtask 100 ─► e2e 200            GAFKA_TETHER_100_77_1
//!                └► mvn 300       GAFKA_TETHER_100_77_1 GAFKA_TETHER_200_99_1
//!                     └► java 400 GAFKA_TETHER_100_77_1 GAFKA_TETHER_200_99_1
//! ```
//!
//! Killing a child is killing all who have its variable. And one *guard* per process, a shell that reads from a pipe
//! of which only we hold the other end, sees us go, however we go, and kills all who have one of ours.
//!
//! Not reached: who clears the environment, or runs as another user.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const PREFIX: &str = "GAFKA_TETHER_";
/// Somebody who starts processes faster than we kill them is let go after this many rounds.
const ROUNDS_MAX: usize = 50;
const ROUND_PAUSE: Duration = Duration::from_millis(10);

/// Ends with its stdin, that is with us, and kills what carries `$1`. `grep -z` reads an environment by variables.
/// A process that has just been killed may still be listed, hence the pauses; a second empty look ends it.
const GUARD: &str = r#"
trap '' INT TERM HUP QUIT
while read -r _; do :; done
empty=0
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    found=$(grep -lsz "^$1" /proc/[0-9]*/environ)
    if [ -z "$found" ]; then
        empty=$((empty + 1))
        [ $empty -lt 2 ] || exit 0
    fi
    for file in $found; do
        id=${file#/proc/}
        kill -9 "${id%/environ}"
    done
    sleep 0.05
done
"#;

/// Ours, and nobody else's: ids come back, but not at the same clock tick.
static OURS: LazyLock<String> = LazyLock::new(|| {
    let id = std::process::id();
    // Field 22 of stat, counted after the program's name, which may contain anything but ends with the last `)`.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let began = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).unwrap_or("0");
    format!("{PREFIX}{id}_{began}_")
});

static GUARD_OF_US: LazyLock<io::Result<Child>> = LazyLock::new(|| {
    Command::new("sh")
        .args(["-c", GUARD, "gafka-guard", &OURS])
        // Out of our process group: what ends the group must not end the guard.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
});

/// The mark of one child and of all that come from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tether(String);

impl Tether {
    /// Marks `command`; the guard is there before the child is.
    pub fn mark(command: &mut Command) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if let Err(err) = &*GUARD_OF_US {
            return Err(io::Error::new(err.kind(), format!("cannot start a shell to guard processes: {err}")));
        }
        let name = format!("{}{}", *OURS, NEXT.fetch_add(1, Ordering::Relaxed));
        command.env(&name, "1");
        Ok(Self(name))
    }

    /// SIGKILL for everybody who carries the mark, until a look finds nobody.
    pub fn kill_all(&self) {
        for _ in 0..ROUNDS_MAX {
            let found = self.members();
            if found.is_empty() {
                return;
            }
            for id in found {
                let _ = kill_process(id, Signal::KILL);
            }
            std::thread::sleep(ROUND_PAUSE);
        }
    }

    /// Living processes with this mark. One that is a zombie has no environment any more.
    pub fn members(&self) -> Vec<Pid> {
        let assignment = format!("{}=", self.0);
        let carries = |environment: &[u8]| {
            environment.split(|&byte| byte == 0).any(|variable| variable.starts_with(assignment.as_bytes()))
        };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
            .filter(|id| {
                // Not ours to read: not ours to kill.
                fs::read(format!("/proc/{}/environ", id.as_raw_nonzero())).is_ok_and(|bytes| carries(&bytes))
            })
            .collect()
    }
}

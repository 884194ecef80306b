//! CPU time of a process as the scheduler counts it, by thread name.
//!
//! The first number of `/proc/PID/task/TID/schedstat` is the nanoseconds a thread has run, softirq work done on its
//! behalf included. Loopback delivery is charged to the sender: a server pays for bringing its answer into the
//! client's socket, and the client for bringing the request.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Running time of each thread, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    threads: BTreeMap<u32, (String, u64)>,
}

/// CPU time spent between two samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spent {
    pub total_ns: u64,
    /// By thread name, threads of the same name together.
    pub by_name: BTreeMap<String, u64>,
}

impl Sample {
    /// Reads all threads of `pid`; one that ends meanwhile is left out.
    pub fn take(pid: u32) -> io::Result<Sample> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let Some(ran_ns) = stat.split_ascii_whitespace().next().and_then(|ns| ns.parse().ok()) else { continue };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            threads.insert(tid, (name.trim().to_owned(), ran_ns));
        }
        Ok(Sample { threads })
    }

    /// Seconds that all threads together have run.
    pub fn seconds(&self) -> f64 {
        self.threads.values().map(|(_, ns)| *ns as f64 / 1e9).sum()
    }

    /// What was spent since `earlier`. A thread that began in between counts whole, one that ended not at all.
    pub fn since(&self, earlier: &Sample) -> Spent {
        let mut spent = Spent::default();
        for (tid, (name, ran_ns)) in &self.threads {
            let before = earlier.threads.get(tid).map_or(0, |(_, ns)| *ns);
            let ns = ran_ns.saturating_sub(before);
            spent.total_ns += ns;
            if ns > 0 {
                *spent.by_name.entry(name.clone()).or_default() += ns;
            }
        }
        spent
    }
}

/// Seconds that this process and everything it started have used, ended children included as far as they were waited
/// for; 10 ms fine.
pub fn our_seconds() -> f64 {
    let mut parents = BTreeMap::new();
    let mut used = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((parent, hundredths)) = parse_process_stat(&stat) {
            parents.insert(pid, parent);
            used.insert(pid, hundredths);
        }
    }
    let this = std::process::id();
    let ours = |pid: u32| {
        let mut at = pid;
        // A chain of parents is never longer than the list.
        for _ in 0..=parents.len() {
            match at {
                _ if at == this => return true,
                0 | 1 => return false,
                _ => at = parents.get(&at).copied().unwrap_or(0),
            }
        }
        false
    };
    used.iter().filter(|(pid, _)| ours(**pid)).map(|(_, hundredths)| *hundredths).sum::<u64>() as f64 / 100.0
}

/// proc_pid_stat(5): parent, and user, system, and waited-for children's time in hundredths of a second.
fn parse_process_stat(stat: &str) -> Option<(u32, u64)> {
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let times: Vec<u64> = fields.skip(9).take(4).map_while(|field| field.parse().ok()).collect();
    (times.len() == 4).then(|| (parent, times.iter().sum()))
}

/// Seconds that all CPUs of the machine together were busy since it started; 10 ms fine.
pub fn machine_busy_seconds() -> Option<f64> {
    parse_busy_seconds(&fs::read_to_string("/proc/stat").ok()?, "cpu ")
}

/// Seconds that one CPU of the machine was busy since it started, whoever used it; 10 ms fine.
pub fn busy_seconds(cpu: usize) -> Option<f64> {
    parse_busy_seconds(&fs::read_to_string("/proc/stat").ok()?, &format!("cpu{cpu} "))
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, in hundredths of a second.
fn parse_busy_seconds(stat: &str, name: &str) -> Option<f64> {
    let fields: Vec<u64> = stat
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_ascii_whitespace()
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let idle = fields.get(3)? + fields.get(4)?;
    Some((fields.iter().sum::<u64>() - idle) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn idle_and_waiting_for_disks_is_not_busy() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 100 0 50 1000 200 0 40 10 0 0\ncpu11 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_busy_seconds(stat, "cpu1 "), Some(2.0));
        assert_eq!(parse_busy_seconds(stat, "cpu2 "), None);
        assert_eq!(parse_busy_seconds(stat, "cpu "), Some(0.54));
        assert!(busy_seconds(0).is_some() && machine_busy_seconds() >= busy_seconds(0));
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "77 (a) b) S 12 77 77 0 -1 4194560 1 2 3 4 10 20 3 4 20 0 1 0 5 6";
        assert_eq!(parse_process_stat(stat), Some((12, 37)));
        assert_eq!(parse_process_stat("77 (x) S 12 77"), None);
        assert_eq!(parse_process_stat(""), None);
    }

    #[test]
    fn what_a_child_used_is_ours() {
        let before = our_seconds();
        let mut child = std::process::Command::new("sh");
        child.args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"]);
        assert!(child.status().expect("a shell").success());
        assert!(our_seconds() > before, "{before}");
    }

    #[test]
    fn a_busy_thread_shows_under_its_name() {
        let before = Sample::take(std::process::id()).expect("this process");
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let busy = std::thread::Builder::new()
            .name("busybody".to_owned())
            .spawn(move || {
                let started = Instant::now();
                while started.elapsed() < Duration::from_millis(60) {
                    std::hint::spin_loop();
                }
                let _ = wait.recv();
            })
            .expect("thread");
        std::thread::sleep(Duration::from_millis(80));
        let spent = Sample::take(std::process::id()).expect("this process").since(&before);
        drop(done);
        busy.join().expect("thread");
        // Other work on this machine may have kept it from running, but not all the time.
        assert!(spent.by_name.get("busybody").is_some_and(|&ns| ns > 1_000_000), "{spent:?}");
        assert!(spent.total_ns >= spent.by_name["busybody"]);
        assert!(Sample::take(u32::MAX).is_err());
    }
}

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

/// Seconds that one CPU of the machine was busy since it started, whoever used it; 10 ms fine.
pub fn busy_seconds(cpu: usize) -> Option<f64> {
    parse_busy_seconds(&fs::read_to_string("/proc/stat").ok()?, cpu)
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, in hundredths of a second.
fn parse_busy_seconds(stat: &str, cpu: usize) -> Option<f64> {
    let name = format!("cpu{cpu} ");
    let fields: Vec<u64> = stat
        .lines()
        .find_map(|line| line.strip_prefix(&name))?
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
        assert_eq!(parse_busy_seconds(stat, 1), Some(2.0));
        assert_eq!(parse_busy_seconds(stat, 2), None);
        assert!(busy_seconds(0).is_some());
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

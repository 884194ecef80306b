//! What the commands are told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{Rounds, appends_waiting, duration, message_bytes, topics};
use crate::limits::{JOB_BYTES_MAX, JOBS_BURST_MAX, JOBS_DUE_RATE_MAX, JOBS_PENDING_MAX};
use crate::servers::Load;

#[derive(Debug, Args)]
#[command(mut_arg("duration", |arg| arg.default_value("1500ms")), mut_arg("warmup", |arg| arg.default_value("300ms")))]
pub struct JobsBench {
    #[command(flatten)]
    pub rounds: Rounds,
    /// Where directories are made and removed: on the disk that is meant. The system's for temporary files by default.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Only the store in this process: no gateway, and no job servers of others.
    #[arg(long, conflicts_with = "kateway")]
    pub engine_only: bool,
    /// Only rows whose name contains this; the probe always.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub only: String,
    /// Adds or deletes that wait all the time; over HTTP so many connections.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = appends_waiting)]
    pub waiting: usize,
    /// Threads that add and delete in this process.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = topics)]
    pub clients: usize,
    /// Connections to job servers of others, of which each has its share of what waits under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = topics)]
    pub peer_connections: usize,
    /// Jobs that are added together, in this process and with one request.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    pub batch: u16,
    /// Bytes per job.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = job_bytes)]
    pub size: usize,
    /// Jobs that are due each second, steadily.
    #[arg(long, value_name = "R", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=JOBS_DUE_RATE_MAX))]
    pub due_rate: u64,
    /// So long.
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = duration)]
    pub due_for: Duration,
    /// Jobs that are due within one second.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=JOBS_BURST_MAX))]
    pub burst: u64,
    /// Instead of all this: fill a store with so many jobs, kill its process, and start again.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1000000",
          value_parser = clap::value_parser!(u64).range(1..=JOBS_PENDING_MAX))]
    pub recovery: Option<u64>,
    /// Bytes of each of those.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = job_bytes)]
    pub pending_size: usize,
}

/// A process of its own for `--recovery`.
#[derive(Debug, Args)]
pub struct KeepJobs {
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Jobs to add before it is ready.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub fill: u64,
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = job_bytes)]
    pub size: usize,
}

fn job_bytes(text: &str) -> Result<usize, String> {
    message_bytes(text).ok().filter(|bytes| *bytes <= JOB_BYTES_MAX).ok_or(format!("a number up to {JOB_BYTES_MAX}"))
}

impl JobsBench {
    pub fn dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// What waits, by thread or connection: at least one each.
    pub fn shares(&self, of: usize) -> Vec<usize> {
        let of = of.min(self.waiting);
        (0..of).map(|index| self.waiting / of + usize::from(index < self.waiting % of)).collect()
    }

    pub fn load(&self) -> Load {
        Load {
            connections: self.waiting,
            duration: self.rounds.duration,
            warmup: self.rounds.warmup,
            client_cpu: Some(self.rounds.client_cpu),
            machine: true,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    pub fn bench(flags: &str) -> JobsBench {
        let args = format!("kbench jobs {flags}");
        let Command::Jobs(bench) = Cli::parse_from(args.split_whitespace()).command else { panic!("jobs") };
        bench
    }

    #[test]
    fn recovery_has_a_million_jobs_unless_told_and_is_not_the_default() {
        for (flags, expected) in [
            ("", None),
            ("--recovery", Some(1_000_000)),
            ("--recovery 100000000", Some(100_000_000)),
            ("--recovery --pending-size 10", Some(1_000_000)),
        ] {
            assert_eq!(bench(flags).recovery, expected, "{flags}");
        }
    }

    #[test]
    fn what_waits_is_shared_and_nobody_has_nothing() {
        for (flags, of, expected) in
            [("", 2, vec![256, 256]), ("--waiting 6", 4, vec![2, 2, 1, 1]), ("--waiting 1", 16, vec![1])]
        {
            assert_eq!(bench(flags).shares(of), expected, "{flags}");
        }
        assert_eq!(bench("").load().connections, 512);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for bad in [
            "--waiting 0",
            "--batch 1",
            "--batch 1001",
            "--size 65537",
            "--burst 0",
            "--due-rate 0",
            "--recovery 0",
            "--recovery 100000001",
            "--engine-only --kateway x",
        ] {
            let args = format!("kbench jobs {bad}");
            assert!(Cli::try_parse_from(args.split(' ')).is_err(), "{bad}");
        }
        let defaults = bench("").rounds;
        assert_eq!((defaults.duration.as_millis(), defaults.warmup.as_millis()), (1_500, 300));
    }
}

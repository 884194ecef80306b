//! What the command is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{connections, duration, message_bytes, rounds};
use crate::limits::FOREIGN_CORES_MAX;
use crate::servers::Load;

#[derive(Debug, Args)]
pub struct HandoffBench {
    /// The gateway; beside this program by default.
    #[arg(long, value_name = "FILE")]
    pub kateway: Option<PathBuf>,
    /// Where directories for the gateways' data are made and removed: on the disk that is meant. The system's for temporary
    /// files by default.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    #[arg(long, default_value_t = 5, value_parser = rounds)]
    pub rounds: usize,
    /// Measured time of each.
    #[arg(long, value_name = "TIME", default_value = "1500ms", value_parser = duration)]
    pub duration: Duration,
    /// Time before it that does not count.
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = duration)]
    pub warmup: Duration,
    /// Connections for single messages.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = connections)]
    pub connections: usize,
    /// Connections for batches.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = connections)]
    pub batch_connections: usize,
    /// Messages per batch.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..))]
    pub batch: u16,
    /// Bytes per message, single or in a batch.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = message_bytes)]
    pub size: usize,
    /// CPU of the gateways, with all of their threads.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub server_cpu: usize,
    /// CPU of the client and of the null broker.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    pub client_cpu: usize,
    /// CPUs' worth of time that others may use before a round is measured again, and marked if that does not help.
    #[arg(long, value_name = "CORES", default_value_t = FOREIGN_CORES_MAX)]
    pub foreign_max: f64,
    /// Begin no further round when it would not end within this.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub within: Option<Duration>,
    /// Order of the rounds.
    #[arg(long)]
    pub seed: Option<u64>,
}

impl HandoffBench {
    /// A load of so many connections.
    pub fn load(&self, connections: usize) -> Load {
        Load {
            connections,
            duration: self.duration,
            warmup: self.warmup,
            client_cpu: Some(self.client_cpu),
            machine: true,
        }
    }
}

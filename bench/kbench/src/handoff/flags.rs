//! What the command is told.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Rounds, connections, keys, message_bytes};
use crate::servers::Load;

/// Rounds are short: there are many measurements in each, and a backlog is delivered after two of them.
#[derive(Debug, Args)]
#[command(mut_arg("duration", |arg| arg.default_value("1500ms")), mut_arg("warmup", |arg| arg.default_value("300ms")))]
pub struct HandoffBench {
    #[command(flatten)]
    pub rounds: Rounds,
    /// Where directories for the gateways' data are made and removed: on the disk that is meant. The system's for temporary
    /// files by default.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
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
    /// Different keys of the messages, which decide their partitions; 0: they have none.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = keys)]
    pub keys: usize,
}

impl HandoffBench {
    /// A load of so many connections.
    pub fn load(&self, connections: usize) -> Load {
        Load {
            connections,
            duration: self.rounds.duration,
            warmup: self.rounds.warmup,
            client_cpu: Some(self.rounds.client_cpu),
            machine: true,
        }
    }
}

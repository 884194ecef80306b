//! Adds over HTTP: a gateway with its jobs on the disk that is meant.

use std::path::Path;

use anyhow::{Result, ensure};

use super::engine::Rate;
use super::flags::JobsBench;
use crate::gateway::Gateway;
use crate::load::Mode;
use crate::outcome::Figures;
use crate::process::TempDir;
use crate::publish::Kind;
use crate::receipts::Receipts;
use crate::records::Framing;
use crate::servers::NullBroker;

const APP: &str = "bench";
const TOPIC: &str = "jobs";
const PARTITIONS: usize = 4;

pub struct Stage {
    // Before the broker, so that it ends first.
    gateway: Gateway,
    _broker: NullBroker,
}

impl Stage {
    pub fn set_up(kateway: &Path, dir: &Path, bench: &JobsBench) -> Result<Stage> {
        let broker = NullBroker::start(bench.rounds.client_cpu)?;
        let data_dir = TempDir::inside(dir)?;
        let tables = "[jobs]\nenabled = true\nfree_bytes_min = \"1GiB\"\n";
        let mut gateway = Gateway::serve(kateway, &broker.kafka, bench.rounds.server_cpu, data_dir, tables)?;
        let app = gateway.new_app(APP)?;
        gateway.new_topic(&app, TOPIC, PARTITIONS, None)?;
        let sender = gateway.sender(&app, TOPIC);
        gateway.server.publish_to(sender);
        Ok(Stage { gateway, _broker: broker })
    }

    /// Adds, so many with one request.
    pub fn adds(&self, bench: &JobsBench, together: u16) -> Result<(Rate, f64)> {
        let kind = match together {
            1 => Kind::single(bench.size),
            // Each with its receipt: whoever adds jobs wants their ids.
            _ => Kind { receipts: Receipts::Binary, ..Kind::batch(together.into(), bench.size, Framing::Binary) },
        };
        let kind = kind.delayed();
        let figures = self.gateway.server.load(kind, Mode::Closed, &bench.load())?;
        ensure!(figures.failed == 0, "{} adds were not taken", figures.failed);
        Ok((Rate::over_http(&figures), figures.foreign_cores.unwrap_or(0.0)))
    }
}

impl Rate {
    fn over_http(figures: &Figures) -> Rate {
        let cpu = figures.cpu.as_ref();
        let jobs_of_request = figures.messages as f64 / figures.requests.max(1) as f64;
        let of_job = |(name, us): (&String, &f64)| (name.clone(), us / jobs_of_request.max(1.0));
        Rate {
            per_second: figures.messages_per_second,
            p50_us: figures.p50_us as f64,
            p99_us: figures.p99_us as f64,
            max_us: figures.max_us as f64,
            log: None,
            cpu_us: cpu.map_or(0.0, |cpu| cpu.us_per_message),
            cpu_us_by_thread: cpu
                .map(|cpu| cpu.us_per_request_by_thread.iter().map(of_job).collect())
                .unwrap_or_default(),
        }
    }
}

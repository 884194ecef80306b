//! What is compared: the floors, the gateway, and the null broker behind it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::cli::{Output, Run};
use crate::gateway::Gateway;
use crate::load::{self, Mode};
use crate::offsets;
use crate::outcome::Figures;
use crate::process::{Process, tethered, this_program};
use crate::publish::{Kind, Sender, work};
use crate::receipts::Taken;

/// A server that takes publishes.
pub struct Server {
    pub name: String,
    pub sender: Sender,
    process: Process,
    cpu: Option<usize>,
    /// Broker and physical topic that what it acknowledges must reach.
    behind: Option<(String, String)>,
}

impl Server {
    /// A floor: answers like a gateway and does nothing.
    pub fn floor(kind: &str, name: &str, cpu: usize) -> Result<Server> {
        let mut command = tethered(Some(cpu), &this_program()?)?;
        command.args(["floor", kind, "--json", "--listen", "127.0.0.1:0"]);
        let (process, ready) = Process::start(command, name, None)?;
        let text = |text: &str| text.to_owned();
        let sender = Sender {
            target: format!("http://{}", ready.text("listen")?),
            appid: text("app"),
            pubkey: text("key-as-long-as-a-real-one-0123456789abcdef"),
            topic: text("demo"),
            ver: text("v1"),
            ack: text("all"),
        };
        Ok(Server { name: text(name), sender, process, cpu: Some(cpu), behind: None })
    }

    /// `kateway quickstart` in front of a broker, on one CPU or on any.
    pub fn kateway(kateway: &Path, kafka: &str, shards: usize, cpu: Option<usize>) -> Result<Server> {
        Ok(Gateway::start(kateway, kafka, shards, cpu)?.server)
    }

    /// A gateway that runs already, in front of a broker.
    pub fn gateway(process: Process, kafka: &str, cpu: Option<usize>, sender: Sender) -> Server {
        let behind = Some((kafka.to_owned(), sender.physical_topic()));
        Server { name: "kateway".to_owned(), sender, process, cpu, behind }
    }

    /// Loads go to another topic from now on.
    pub fn publish_to(&mut self, sender: Sender) {
        if let Some((_, topic)) = &mut self.behind {
            *topic = sender.physical_topic();
        }
        self.sender = sender;
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The topic in Kafka.
    pub fn physical_topic(&self) -> Option<&str> {
        self.behind.as_ref().map(|(_, topic)| topic.as_str())
    }

    /// One measurement. An answer that is not as it must be, or a message that did not arrive, is an error. What is handed off
    /// may arrive much later: whoever asks for that counts it.
    pub fn load(&self, kind: Kind, mode: Mode, load: &Load) -> Result<Figures> {
        let run = Run {
            connections: load.connections,
            duration: load.duration,
            warmup: load.warmup,
            requests: None,
            client_cpu: load.client_cpu.into_iter().collect(),
            pid: Some(self.process.pid()),
            server_cpu: self.cpu,
            machine: load.machine,
            output: Output::Json,
        };
        let behind = self.behind.as_ref().filter(|_| kind.taken == Taken::Stored);
        let before = arrived(behind)?;
        let figures = load::run(&work(&self.sender, kind, mode)?, &run)?;
        ensure!(
            figures.all_good(),
            "{} did not answer well: statuses {:?}, {} messages not stored, errors {:?}",
            self.name,
            figures.statuses,
            figures.failed,
            figures.errors
        );
        let arrived = arrived(behind)? - before;
        if behind.is_some() && arrived < figures.messages {
            bail!("{} acknowledged {} messages and {arrived} arrived", self.name, figures.messages);
        }
        Ok(figures)
    }
}

fn arrived(behind: Option<&(String, String)>) -> Result<u64> {
    behind.map_or(Ok(0), |(kafka, topic)| offsets::end_of(kafka, topic))
}

/// How a server is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub duration: Duration,
    pub warmup: Duration,
    pub client_cpu: Option<usize>,
    /// Whether all that runs for the measurement was started by this process.
    pub machine: bool,
}

/// The gateway's program: as named, else beside this one.
pub fn kateway_path(named: Option<&PathBuf>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.clone(),
        None => this_program()?.with_file_name("kateway"),
    };
    ensure!(path.exists(), "no gateway at {}; name it with --kateway", path.display());
    Ok(path)
}

/// `kbench null-broker` in a process of its own, which can go away and come back.
pub struct NullBroker {
    pub kafka: String,
    cpu: usize,
    process: Option<Process>,
}

impl NullBroker {
    pub fn start(cpu: usize) -> Result<NullBroker> {
        // Below the ephemeral ports, of which anybody's connection could take this one while the broker is away.
        let port = testkit::ports::free(1)?[0];
        let mut broker = NullBroker { kafka: format!("127.0.0.1:{port}"), cpu, process: None };
        broker.come_back()?;
        Ok(broker)
    }

    /// Its connections are closed, and nobody listens at its address.
    pub fn go_away(&mut self) {
        self.process = None;
    }

    /// At the same address. It remembers nothing: what arrives from now on is counted from 0.
    pub fn come_back(&mut self) -> Result<()> {
        self.go_away();
        let mut command = tethered(Some(self.cpu), &this_program()?)?;
        command.args(["null-broker", "--json", "--listen", &self.kafka]);
        let (process, _) = Process::start(command, "the null broker", None)?;
        self.process = Some(process);
        Ok(())
    }
}

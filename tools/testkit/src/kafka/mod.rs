//! Real Apache Kafka clusters: KRaft processes on free loopback ports, in a directory that goes away with them.
//!
//! Every node is broker and controller. Each has three listeners: CLIENT (what the options ask for: plain, SASL,
//! TLS), INTERNAL (plain; between brokers, for readiness and for test tools that are not what is being tested) and
//! CONTROLLER. A node keeps its ports for life, so that it comes back where clients expect it.

mod config;
pub mod disk;
mod probe;
mod tls;
mod zookeeper;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

pub use self::config::{CLUSTER_ID, SASL_MECHANISMS, SASL_PASSWORD, SASL_USER};
use self::disk::Disk;
pub use self::probe::{Broker, Partition};
pub use self::zookeeper::Zookeeper;
use crate::limits::{KAFKA_HANDOVER_WITHIN, KAFKA_READY_WITHIN, KAFKA_STOP_WITHIN, SESSION_OVER_WITHIN};
use crate::process::{Process, run, scratch_dir, tethered};
use crate::progress::step;
use crate::{components, ports, wait};

/// Which Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 4.4, KRaft.
    #[default]
    Newest,
    /// 3.9, the last that runs with ZooKeeper; no SASL.
    WithZookeeper,
    /// 2.7, whose brokers know no topic ids (those came with 2.8, KIP-516), with ZooKeeper; no SASL.
    WithoutTopicIds,
}

impl Version {
    fn component(self) -> &'static str {
        match self {
            Self::Newest => "kafka",
            Self::WithZookeeper => zookeeper::COMPONENT,
            Self::WithoutTopicIds => "kafka2",
        }
    }

    /// SCRAM users are made in KRaft's storage only, so these have no SASL here.
    pub fn has_zookeeper(self) -> bool {
        match self {
            Self::Newest => false,
            Self::WithZookeeper | Self::WithoutTopicIds => true,
        }
    }
}

/// What kind of cluster.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    pub version: Version,
    /// 1 or 3 are what tests need; any odd number up to 5 works.
    pub nodes: usize,
    /// SASL on the client listener: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 for [`SASL_USER`].
    pub sasl: bool,
    /// TLS on the client listener, with a certificate made for this cluster ([`Cluster::ca_pem`]).
    pub tls: bool,
    /// Java heap of one node, in MiB.
    pub heap_mb: u32,
    /// The JVM's own compilers and collector, as a production broker runs, for measurements. Otherwise what starts
    /// with the least CPU, which is all that tests feel.
    pub server_jvm: bool,
    /// Further lines of `server.properties`; the last of a name counts.
    pub properties: &'static [&'static str],
    /// Topics appear when a client asks for them, as Kafka does by default. Off, so that a test that forgot to make
    /// its topic fails.
    pub auto_create: bool,
    /// A node whose data lies on a disk of its own, as far as the machine permits ([`Cluster::fill_disk`]).
    pub own_disk: Option<usize>,
    /// Where clients are told that the node is, if not at its own port: that of a wire that a test can cut. One node only.
    pub advertised_port: Option<u16>,
    /// First of the ports to use, for a person who wants to know them beforehand; free ones otherwise.
    pub client_port: Option<u16>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            version: Version::Newest,
            nodes: 1,
            sasl: false,
            tls: false,
            heap_mb: 256,
            server_jvm: false,
            properties: &[],
            auto_create: false,
            own_disk: None,
            advertised_port: None,
            client_port: None,
        }
    }
}

impl KafkaOptions {
    pub fn nodes(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }
}

/// A running cluster. Drop kills every node and removes the directory.
#[derive(Debug)]
pub struct Cluster {
    // Declared before `disk` and `dir`: fields drop in order, and the processes must be gone before their files.
    nodes: Vec<Node>,
    disk: Option<Disk>,
    zookeeper: Option<Zookeeper>,
    options: KafkaOptions,
    ca_pem: Option<PathBuf>,
    jars: PathBuf,
    dir: TempDir,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: usize,
    pub(crate) ports: NodePorts,
    dir: PathBuf,
    process: Option<Process>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NodePorts {
    pub(crate) client: u16,
    pub(crate) internal: u16,
    pub(crate) controller: u16,
}

impl Cluster {
    /// Starts the cluster and waits until every broker is visible.
    pub fn start(options: KafkaOptions) -> Result<Self> {
        assert!(options.nodes % 2 == 1 && options.nodes <= 5, "a quorum of {} nodes makes no sense", options.nodes);
        assert!(!(options.sasl && options.version.has_zookeeper()), "SCRAM users are made in KRaft's storage only");
        let jars = components::ensure(options.version.component())?.join("files");
        let what = format!("starting Kafka with {} node(s)", options.nodes);
        step(&what, || Self::start_with(options, jars)).context(what)
    }

    fn start_with(options: KafkaOptions, jars: PathBuf) -> Result<Self> {
        let dir = scratch_dir("kafka")?;
        let mut free = ports::free(options.nodes * 3)?.into_iter();
        let mut nodes = Vec::with_capacity(options.nodes);
        for id in 1..=options.nodes {
            let mut next = || free.next().context("as many ports as asked for");
            let mut ports = NodePorts { client: next()?, internal: next()?, controller: next()? };
            if let Some(first) = options.client_port {
                ports.client = first + u16::try_from(id - 1)?;
            }
            let node_dir = dir.path().join(format!("node-{id}"));
            fs::create_dir(&node_dir)?;
            nodes.push(Node { id, ports, dir: node_dir, process: None });
        }
        let ca_pem = if options.tls { Some(tls::make_keystore(dir.path())?) } else { None };
        let zookeeper = if options.version.has_zookeeper() { Some(Zookeeper::start()?) } else { None };
        let disk = options.own_disk.map(|node| {
            let data = nodes[node - 1].data();
            fs::create_dir(&data).map(|()| Disk::make(&data))
        });
        let disk = disk.transpose()?;
        let mut cluster = Self { nodes, disk, zookeeper, options, ca_pem, jars, dir };
        cluster.write_configs()?;
        if cluster.zookeeper.is_none() {
            cluster.format()?;
        }
        for index in 0..cluster.nodes.len() {
            cluster.launch(index)?;
        }
        cluster.wait_until_all_visible()?;
        Ok(cluster)
    }

    fn write_configs(&self) -> Result<()> {
        fs::write(self.dir.path().join("log4j2.properties"), config::LOG4J)?;
        fs::write(self.dir.path().join("log4j.properties"), config::LOG4J_1)?;
        let keystore = self.ca_pem.as_ref().map(|_| tls::keystore_path(self.dir.path()));
        for node in &self.nodes {
            let file = config::NodeFile {
                id: node.id,
                options: &self.options,
                all: &self.all_ports(),
                data: &node.data(),
                keystore: keystore.as_deref(),
                zookeeper: self.zookeeper.as_ref().map(Zookeeper::port),
            };
            fs::write(node.config(), file.to_text())?;
        }
        Ok(())
    }

    fn all_ports(&self) -> Vec<NodePorts> {
        self.nodes.iter().map(|node| node.ports).collect()
    }

    /// Formats the first node's storage and copies it: one Java start instead of one per node.
    ///
    /// The copy differs in the two lines that must differ. Both are of the format that `StorageTool` documents as
    /// meta.properties version 1: the node's id and its directory's id (KIP-858).
    fn format(&self) -> Result<()> {
        let mut command = self.java(64);
        command.args(["kafka.tools.StorageTool", "format", "-t", config::CLUSTER_ID, "-c"]);
        command.arg(self.nodes[0].config());
        if self.options.sasl {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                command.arg("--add-scram");
                command.arg(format!("{mechanism}=[name={SASL_USER},iterations=4096,password={SASL_PASSWORD}]"));
            }
        }
        run(command, KAFKA_READY_WITHIN)?;
        let first = self.nodes[0].data();
        let meta = fs::read_to_string(first.join("meta.properties")).context("StorageTool wrote no meta.properties")?;
        for node in &self.nodes[1..] {
            copy_tree(&first, &node.data())?;
            fs::write(node.data().join("meta.properties"), config::meta_for(&meta, node.id)?)?;
        }
        Ok(())
    }

    fn java(&self, heap_mb: u32) -> std::process::Command {
        let mut command = tethered("java");
        command
            .arg(format!("-Xms{heap_mb}m"))
            .arg(format!("-Xmx{heap_mb}m"))
            .args(self.compiler_and_collector())
            .arg(format!("-Dlog4j2.configurationFile={}", self.dir.path().join("log4j2.properties").display()))
            .arg(format!("-Dlog4j.configuration=file:{}", self.dir.path().join("log4j.properties").display()))
            .arg("-cp")
            .arg(self.jars.join("*"));
        command
    }

    fn compiler_and_collector(&self) -> &'static [&'static str] {
        if self.options.server_jvm {
            // As `kafka-run-class.sh` has it.
            &["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]
        } else {
            // The serial collector and the first compiler only: least CPU at start.
            &["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        }
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let mut command = self.java(self.options.heap_mb);
        let node = &mut self.nodes[index];
        command.arg("kafka.Kafka").arg(node.config());
        let name = format!("kafka node {}", node.id);
        node.process = Some(Process::start(&name, command, &node.dir.join("server.log"), false)?);
        Ok(())
    }

    /// Waits until every running node knows every running node, and a controller.
    pub fn wait_until_all_visible(&mut self) -> Result<()> {
        let wanted: Vec<i32> =
            self.nodes.iter().filter(|node| node.process.is_some()).map(|node| node.id as i32).collect();
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let address = node.internal();
            let Some(process) = &mut node.process else { continue };
            wait::until(&format!("{} to see all brokers", process.name()), KAFKA_READY_WITHIN, || {
                if !process.is_running() {
                    // Not retried away: the wait would only hide the reason.
                    return Ok(Err(anyhow::anyhow!("{} ended\n{}", process.name(), process.log_tail())));
                }
                let mut seen: Vec<i32> = probe::brokers(&address)?.iter().map(|broker| broker.id).collect();
                seen.sort_unstable();
                if seen != wanted {
                    bail!("sees brokers {seen:?}, wanted {wanted:?}");
                }
                Ok(Ok(()))
            })
            .with_context(|| process.log_tail())??;
        }
        Ok(())
    }

    /// `host:port,…` of the client listener.
    pub fn bootstrap(&self) -> String {
        self.addresses(|ports| ports.client)
    }

    /// `host:port,…` of the plain listener, for tools that are not what is tested.
    pub fn internal(&self) -> String {
        self.addresses(|ports| ports.internal)
    }

    fn addresses(&self, port: impl Fn(NodePorts) -> u16) -> String {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", port(node.ports))).collect::<Vec<_>>().join(",")
    }

    /// Where the client listener of a node is.
    pub fn address(&self, node: usize) -> Result<String> {
        let found = self.nodes.get(node.wrapping_sub(1)).with_context(|| format!("there is no node {node}"))?;
        Ok(format!("127.0.0.1:{}", found.ports.client))
    }

    /// Every port that some node listens on.
    pub fn ports(&self) -> Vec<u16> {
        self.all_ports().into_iter().flat_map(|of| [of.client, of.internal, of.controller]).collect()
    }

    /// The certificate to trust, when started with TLS.
    pub fn ca_pem(&self) -> Option<&Path> {
        self.ca_pem.as_deref()
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// SIGKILL, as a dead machine; its disk stays.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        let mut process = self.node(node)?.process.take().with_context(|| format!("node {node} is not running"))?;
        process.kill9();
        Ok(())
    }

    /// SIGSTOP: the node neither answers nor closes its connections.
    pub fn pause(&mut self, node: usize) -> Result<()> {
        self.running(node)?.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self, node: usize) -> Result<()> {
        self.running(node)?.signal(Signal::CONT)
    }

    /// Starts a killed node on its old ports and data. Does not wait; see [`Self::wait_until_all_visible`].
    pub fn restart(&mut self, node: usize) -> Result<()> {
        if self.node(node)?.process.is_some() {
            bail!("node {node} is running");
        }
        if let Some(zookeeper) = &self.zookeeper {
            // A broker whose name is still taken by its former self ends at once.
            let registration = format!("/kafka/brokers/ids/{node}");
            wait::until("ZooKeeper to forget the killed broker", SESSION_OVER_WITHIN, || {
                if zookeeper.has_ephemeral(&registration)? { bail!("{registration} is there") } else { Ok(()) }
            })?;
        }
        self.launch(node - 1)
    }

    /// Starts every node that was killed or handed over.
    pub fn restart_dead(&mut self) -> Result<()> {
        let dead: Vec<usize> = self.nodes.iter().filter(|node| node.process.is_none()).map(|node| node.id).collect();
        dead.into_iter().try_for_each(|node| self.restart(node))
    }

    /// SIGTERM, as an operator restarts a broker: it hands over its partitions and ends by itself.
    pub fn hand_over(&mut self, node: usize) -> Result<()> {
        let (status, _) = self.running(node)?.sigterm_and_wait(KAFKA_HANDOVER_WITHIN)?;
        // 143 is how a JVM ends after a SIGTERM that it handled.
        if !status.success() && status.code() != Some(143) {
            bail!("node {node}: {status}\n{}", self.running(node)?.log_tail());
        }
        self.node(node)?.process = None;
        Ok(())
    }

    /// Fills the disk of the node that has one of its own ([`KafkaOptions::own_disk`]).
    pub fn fill_disk(&mut self) -> Result<()> {
        let (node, disk) = self.options.own_disk.zip(self.disk.as_ref()).context("no node has a disk of its own")?;
        disk.fill(self.nodes[node - 1].process.as_mut().context("the node is not running")?)
    }

    /// Makes room on it again.
    pub fn free_disk(&mut self) -> Result<()> {
        self.disk.as_ref().context("no node has a disk of its own")?.free()
    }

    /// Waits until a node ended by itself, and lets it be restarted.
    pub fn wait_until_dead(&mut self, node: usize, within: Duration) -> Result<()> {
        self.running(node)?.wait(within)?;
        self.node(node)?.process = None;
        Ok(())
    }

    /// Partitions of a topic as the first running node knows them; asked on the plain listener.
    pub fn partitions(&self, topic: &str) -> Result<Vec<Partition>> {
        let node = self.nodes.iter().find(|node| node.process.is_some()).context("no node is running")?;
        probe::partitions(&node.internal(), topic)
    }

    /// The node that leads a partition.
    pub fn leader(&self, topic: &str, partition: usize) -> Result<usize> {
        let partitions = self.partitions(topic)?;
        let leader = partitions.get(partition).with_context(|| format!("{topic} has no partition {partition}"))?.leader;
        usize::try_from(leader).with_context(|| format!("nobody leads {topic}/{partition}"))
    }

    /// Waits until every node is there and says that all replicas of the topic are in sync and led.
    pub fn wait_until_in_sync(&mut self, topic: &str) -> Result<()> {
        self.wait_until_all_visible()?;
        for node in &self.nodes {
            wait::until(&format!("{topic} to be in sync"), KAFKA_READY_WITHIN, || {
                let partitions = probe::partitions(&node.internal(), topic)?;
                let is_whole =
                    |partition: &Partition| partition.leader > 0 && partition.in_sync.len() == partition.replicas.len();
                match partitions.iter().find(|partition| !is_whole(partition)) {
                    Some(partition) => bail!("node {} says {partition:?}", node.id),
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    }

    /// SIGTERM to every node, then drop. For a person at work; tests just drop.
    pub fn stop(mut self) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                let _ = process.signal(Signal::TERM);
            }
        }
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                let _ = process.wait(if self.options.nodes == 1 { KAFKA_STOP_WITHIN } else { Duration::from_secs(3) });
            }
        }
    }

    /// The name and log tail of a node that ended by itself, if one did.
    pub fn dead_node(&mut self) -> Option<String> {
        let processes = self.nodes.iter_mut().filter_map(|node| node.process.as_mut());
        for process in processes {
            if !process.is_running() {
                return Some(format!("{} ended\n{}", process.name(), process.log_tail()));
            }
        }
        None
    }

    fn running(&mut self, node: usize) -> Result<&mut Process> {
        self.node(node)?.process.as_mut().with_context(|| format!("node {node} is not running"))
    }

    fn node(&mut self, node: usize) -> Result<&mut Node> {
        let count = self.nodes.len();
        self.nodes.get_mut(node.wrapping_sub(1)).with_context(|| format!("nodes are 1..={count}, not {node}"))
    }
}

impl Node {
    fn config(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    /// Where its plain listener is.
    fn internal(&self) -> String {
        format!("127.0.0.1:{}", self.ports.internal)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

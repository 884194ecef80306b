//! Commands and flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::handoff::flags::HandoffBench;
use crate::jobs::flags::{JobsBench, KeepJobs};
use crate::limits::{
    APPENDS_WAITING_MAX, CONNECTIONS_MAX, DURATION_MAX, FOREIGN_CORES_MAX, GROUPS_MAX, GROUPS_PER_APP_MAX, KEYS_MAX,
    MESSAGE_BYTES_MAX, RATE_MAX, RECORD_BYTES_MAX, ROUNDS_MAX, SAMPLES_MAX, TOPIC_MB_MAX, TOPICS_MAX, WAIT_MAX,
};
use crate::measure::Foreign;
use crate::receipts::Receipts;
use crate::records::Framing;

/// Exit codes as for all of gafka's programs.
pub const FAILED: u8 = 1;
/// There are figures, but others disturbed them.
pub const DISTURBED: u8 = 10;
pub const UNREACHABLE: u8 = 5;

const EXAMPLES: &str = "\
Examples:
  kbench compare                                             gateway against the raw floor, as Markdown
  kbench latency                                             the same at half load, open loop
  kbench polls                                               CPU and latency beside 2,000 groups and 10,000 polls
  kbench prefetch                                            memory of 400 groups that read one message each
  kbench proxy                                               kproxy against a forwarder of bytes
  kbench versus-java                                         gateway and Kafka's own load tool on a real broker
  kbench journal --compare                                   durable appends of a journal beside an fsync probe
  kbench handoff --data-dir /var/lib/gafka                   what is kept while Kafka is away, and delivered
  kbench jobs --data-dir /var/lib/gafka                      delayed jobs: adds, deletes, lateness, others' job servers
  kbench jobs --recovery 10000000                            a start with ten million jobs after a kill
  kbench micro                                               the benches of all crates as one table
  kbench publish --target http://127.0.0.1:9191 --appid A --pubkey K --topic demo --ver v1 --closed
  kbench publish … --rate 5000 --duration 30s --pid 4711     open loop; CPU time of process 4711
  kbench subscribe --target http://127.0.0.1:9192 --appid A --subkey K --topic demo --ver v1 --group g
  kbench floor http --listen 127.0.0.1:8080 --cpu 0
  kbench null-broker --listen 127.0.0.1:9092 --json";

/// Load for gafka, and what it is measured against.
#[derive(Debug, Parser)]
#[command(name = "kbench", version, before_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a raw io_uring loop: what TCP alone costs on this machine.
    Floor(Floor),
    /// Serve Kafka without keeping anything.
    NullBroker(NullBroker),
    /// Publish messages and report rate, latency and CPU time.
    Publish(Publish),
    /// Drain messages as fast as they come and report the same.
    Subscribe(Subscribe),
    /// Measure the gateway's CPU against the floor in interleaved rounds and print a Markdown table.
    Compare(Compare),
    /// Measure latency at half of the gateway's load in an open loop, and what of it the harness adds.
    Latency(Latency),
    /// Measure what groups and polls that wait cost a publish, how soon they are served, and closing them all at once.
    Polls(Polls),
    /// Measure the gateway's memory while groups each read one message of a large topic, and after they have left.
    Prefetch(Prefetch),
    /// Measure kproxy's CPU, throughput and latency against a forwarder of bytes and no proxy at all.
    Proxy(Proxy),
    /// Measure what many tenants cost a gateway: a start, a change, and what its shards notice.
    Tenants(Tenants),
    /// Load a real Kafka through the gateway and with Kafka's own load tool, in turns, and print the ratio.
    VersusJava(VersusJava),
    /// Measure durable appends of a journal beside what fdatasync of the same disk allows.
    Journal(JournalBench),
    /// Measure what hinted handoff takes while Kafka is away, delivers when it is back, and costs while it is there.
    Handoff(HandoffBench),
    /// Measure delayed jobs: durable adds and deletes, how late they come out, and starts after a kill.
    Jobs(JobsBench),
    /// Run the benches of a checkout (the current directory) with cargo and print one table.
    Micro(Micro),
    /// Fill a store of delayed jobs, or open one, and stay.
    #[command(hide = true)]
    KeepJobs(KeepJobs),
    /// Keep polls waiting, each on a connection of its own.
    #[command(hide = true)]
    WaitPolls(WaitPolls),
    /// Send Produce requests to a broker on schedule.
    #[command(hide = true)]
    ProduceLoad(ProduceLoad),
    /// Run a program on one CPU, for as long as this one lives.
    #[command(hide = true)]
    Pin(Pin),
}

#[derive(Debug, Args)]
pub struct Floor {
    #[command(subcommand)]
    pub kind: FloorKind,
}

#[derive(Debug, Subcommand)]
pub enum FloorKind {
    /// Answer every request with 201 and do nothing.
    Http {
        #[command(flatten)]
        serve: Serve,
    },
    /// Answer the same from a shard of the gateway's runtime: tasks, timers and pooled buffers, but no gateway.
    Shard {
        #[command(flatten)]
        serve: Serve,
    },
    /// Forward bytes to another address and back.
    Forward {
        #[command(flatten)]
        serve: Serve,
        /// Where to.
        #[arg(long, value_name = "ADDR", value_parser = console::address)]
        to: SocketAddr,
    },
}

#[derive(Debug, Args)]
pub struct NullBroker {
    #[command(flatten)]
    pub serve: Serve,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Port 0: any free one.
    #[arg(long, value_name = "ADDR", value_parser = console::address, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// CPU to run on.
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<usize>,
    /// One JSON line when ready.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Publish {
    #[command(flatten)]
    pub target: Target,
    #[arg(long, env = "KBENCH_PUBKEY", default_value = "")]
    pub pubkey: String,
    /// `all`, `local` or `none`.
    #[arg(long, default_value = "all")]
    pub ack: String,
    /// Bytes per message.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = message_bytes)]
    pub size: usize,
    /// Messages per request; above 1 they go to `/batch`.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch: usize,
    /// How a batch is written.
    #[arg(long, value_enum, default_value_t = Framing::Binary)]
    pub framing: Framing,
    /// How a batch is answered. Every answer is read: what it does not say was stored does not count.
    #[arg(long, value_enum, default_value_t = Receipts::Summary)]
    pub receipts: Receipts,
    /// An `X-Request-Id` of its own for each request: otherwise all heads on a connection are the same, which a gateway
    /// may make use of.
    #[arg(long)]
    pub request_ids: bool,
    /// Open loop: requests begin on schedule, this many a second, whether answers come or not; latency counts from
    /// the time a request was due.
    #[arg(long, value_name = "R", conflicts_with = "closed", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub rate: Option<u64>,
    /// Closed loop (default): each connection sends when its last answer has come.
    #[arg(long)]
    pub closed: bool,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Debug, Args)]
pub struct Subscribe {
    #[command(flatten)]
    pub target: Target,
    #[arg(long, env = "KBENCH_SUBKEY", default_value = "")]
    pub subkey: String,
    /// Owner of the topic; the app itself by default.
    #[arg(long)]
    pub owner: Option<String>,
    #[arg(long)]
    pub group: String,
    /// Most messages per answer; above 1 as binary records.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub batch: usize,
    /// Longest wait of one poll, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub wait_ms: u64,
    #[command(flatten)]
    pub run: Run,
}

/// Whom to load, as whom.
#[derive(Debug, Args)]
pub struct Target {
    /// `http://host:port`.
    #[arg(long, value_name = "URL")]
    pub target: String,
    #[arg(long, env = "KBENCH_APPID", default_value = "")]
    pub appid: String,
    #[arg(long, default_value = "demo")]
    pub topic: String,
    #[arg(long, default_value = "v1")]
    pub ver: String,
}

/// How long, how wide, and what to watch.
#[derive(Debug, Args, Clone)]
pub struct Run {
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = connections)]
    pub connections: usize,
    /// Measured time.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Time before it that does not count.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    /// End after this many requests.
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// CPUs of the client, one thread each.
    #[arg(long, value_name = "CPU,…", value_delimiter = ',')]
    pub client_cpu: Vec<usize>,
    /// Process whose CPU time to measure.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// CPU it is pinned to: what others used of that is reported too.
    #[arg(long, value_name = "CPU")]
    pub server_cpu: Option<usize>,
    /// Everything under measurement was started by this process, so all else on the machine is foreign.
    #[arg(skip)]
    pub machine: bool,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

impl Run {
    /// One client thread for each; one that is not pinned by default.
    pub fn client_cpus(&self) -> Vec<Option<usize>> {
        if self.client_cpu.is_empty() { vec![None] } else { self.client_cpu.iter().copied().map(Some).collect() }
    }

    /// Connections of one of so many threads.
    pub fn connections_of(&self, index: usize, threads: usize) -> usize {
        self.connections / threads + usize::from(index < self.connections % threads)
    }

    pub fn foreign(&self) -> Foreign {
        match self.server_cpu {
            _ if self.machine => Foreign::OnMachine,
            Some(cpu) => Foreign::OnCpu(cpu),
            None => Foreign::NotMeasured,
        }
    }
}

/// What all measurements in rounds have.
#[derive(Debug, Args)]
pub struct Rounds {
    /// The gateway; beside this program by default.
    #[arg(long, value_name = "FILE")]
    pub kateway: Option<PathBuf>,
    /// Rounds; in each, everything is measured once, in shuffled order.
    #[arg(long, default_value_t = 5, value_parser = rounds)]
    pub rounds: usize,
    /// Measured time of each.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub duration: Duration,
    /// Time before it that does not count.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    /// CPU of the measured server.
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

#[derive(Debug, Args)]
pub struct Compare {
    #[command(flatten)]
    pub rounds: Rounds,
    /// Measure the floor alone, without a gateway.
    #[arg(long, conflicts_with = "kateway")]
    pub floor_only: bool,
    /// Connections for single messages.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = connections)]
    pub connections: usize,
    /// Bytes per single message.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = message_bytes)]
    pub size: usize,
    /// Connections for batches.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = connections)]
    pub batch_connections: usize,
    /// Messages per batch; 1 leaves batches out.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub batch: usize,
    /// Bytes per message of a batch.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = message_bytes)]
    pub batch_size: usize,
    /// Batches also with a receipt for each record.
    #[arg(long)]
    pub receipts: bool,
}

#[derive(Debug, Args)]
pub struct Latency {
    #[command(flatten)]
    pub rounds: Rounds,
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = connections)]
    pub connections: usize,
    /// Bytes per message.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = message_bytes)]
    pub size: usize,
    /// Requests a second, instead of half of what the gateway does in a closed loop.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub rate: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Polls {
    #[command(flatten)]
    pub rounds: Rounds,
    /// Groups, a gateway for each number: the first is 0, which the others are compared with, the last the largest.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [0, 100, 2_000], value_parser = groups)]
    pub groups: Vec<usize>,
    /// Polls that wait, at the largest number of groups; fewer groups have fewer.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = connections)]
    pub polls: usize,
    /// Topics that each thousand of the groups read.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = topics)]
    pub topics: usize,
    /// Partitions of each.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = topics)]
    pub partitions: usize,
    /// Longest wait of a poll; others wait half of it and more. A group that nobody polls is left after twice that.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = wait)]
    pub wait: Duration,
    /// Connections of the publishers, beside one alone.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = connections)]
    pub connections: usize,
    /// Bytes per published message.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = message_bytes)]
    pub size: usize,
    /// Messages whose way to a waiting poll is timed, in each round.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = samples)]
    pub samples: usize,
    /// Publishes a second while polls are closed.
    #[arg(long, value_name = "R", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub rate: u64,
    /// Measured time of each loop of publishes while polls are closed.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub close_within: Duration,
}

impl Polls {
    /// Polls of a gateway with so many groups, at least one each.
    pub fn polls_of(&self, groups: usize) -> usize {
        let most = self.groups.iter().copied().max().unwrap_or(0).max(1);
        if groups == 0 { 0 } else { (self.polls * groups / most).max(groups) }
    }
}

#[derive(Debug, Args)]
pub struct Tenants {
    /// The gateway; beside this program by default.
    #[arg(long, value_name = "FILE")]
    pub kateway: Option<PathBuf>,
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = tenants_count)]
    pub apps: usize,
    /// Topic versions, the same number for each app.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = tenants_count)]
    pub topics: usize,
    /// Grants, the same number to each app.
    #[arg(long, value_name = "N", default_value_t = 990_000, value_parser = tenants_count)]
    pub grants: usize,
    /// Changes through the manager, one after the other.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = samples)]
    pub changes: usize,
}

#[derive(Debug, Args)]
pub struct Prefetch {
    /// The gateway; beside this program by default.
    #[arg(long, value_name = "FILE")]
    pub kateway: Option<PathBuf>,
    /// Groups, all of one app.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = groups_of_app)]
    pub groups: usize,
    /// Megabytes in the topic.
    #[arg(long, value_name = "MB", default_value_t = 200, value_parser = topic_mb)]
    pub topic_mb: usize,
    /// Bytes per message.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = message_bytes)]
    pub size: usize,
    /// Partitions of the topic.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = topics)]
    pub partitions: usize,
    /// Longest wait of a poll; groups are left after twice that, or ten seconds.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = wait)]
    pub wait: Duration,
    /// Runs, each with a gateway of its own.
    #[arg(long, default_value_t = 1, value_parser = rounds)]
    pub rounds: usize,
}

#[derive(Debug, Args)]
pub struct Proxy {
    /// The proxy; beside this program by default.
    #[arg(long, value_name = "FILE")]
    pub kproxy: Option<PathBuf>,
    /// Connections, each with one request at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = connections)]
    pub connections: usize,
    /// Measure memory of so many idle connections instead, and nothing else.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub idle: usize,
    /// Measure a kproxy for tenants, too: clients log in, and names are replaced.
    #[arg(long)]
    pub tenant: bool,
    /// Bytes of records in a request, and in an answer.
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', default_values_t = [1024, 65_536, 1 << 20])]
    pub sizes: Vec<usize>,
    /// Rounds, each in another order.
    #[arg(long, default_value_t = 5, value_parser = rounds)]
    pub rounds: usize,
    /// Length of one measurement.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub duration: Duration,
    /// CPUs' worth of time that others may use before a measurement is repeated.
    #[arg(long, value_name = "CORES", default_value_t = 0.2)]
    pub foreign_max: f64,
    /// Order of the measurements.
    #[arg(long)]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub struct WaitPolls {
    /// Where to, and the requests.
    #[arg(long, value_name = "FILE")]
    pub plan: PathBuf,
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<usize>,
}

#[derive(Debug, Args)]
pub struct VersusJava {
    /// The gateway; beside this program by default.
    #[arg(long, value_name = "FILE")]
    pub kateway: Option<PathBuf>,
    /// A single-node Kafka; by default the test kit's, with a production JVM, started for this and removed.
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// Java heap of that broker and of the tool, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub heap_mb: u32,
    #[arg(long, default_value_t = 3, value_parser = rounds)]
    pub rounds: usize,
    /// Measured time of each run.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub duration: Duration,
    /// Time before it that does not count.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Shards of the gateway.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub shards: usize,
    /// Connections for batches.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = connections)]
    pub batch_connections: usize,
    /// Messages per batch.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub batch: usize,
    /// Connections for single messages.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = connections)]
    pub connections: usize,
    /// Bytes per message.
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', default_values_t = [100, 1024], value_parser = message_bytes)]
    pub sizes: Vec<usize>,
    /// CPUs' worth of time that others may use before a run is measured again, and marked if that does not help.
    #[arg(long, value_name = "CORES", default_value_t = FOREIGN_CORES_MAX)]
    pub foreign_max: f64,
    /// Begin no further round when it would not end within this.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub within: Option<Duration>,
    /// Order of the runs.
    #[arg(long)]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub struct JournalBench {
    /// How segments are written.
    #[arg(long, value_enum, default_value_t = JournalDevice::Mapped)]
    pub device: JournalDevice,
    /// Mapped and direct, side by side.
    #[arg(long, conflicts_with = "device")]
    pub compare: bool,
    /// Appends that wait all the time.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = appends_waiting)]
    pub waiting: usize,
    /// Threads that append.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = topics)]
    pub clients: usize,
    /// Bytes of a record.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = record_bytes)]
    pub bytes: usize,
    /// Measured time of each round.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub duration: Duration,
    /// Time before it that does not count: segments are made.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    pub warmup: Duration,
    #[arg(long, default_value_t = 5, value_parser = rounds)]
    pub rounds: usize,
    /// Where directories are made and removed: on the disk that is meant. The system's for temporary files by default.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
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

/// How segments of a journal are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JournalDevice {
    Mapped,
    Direct,
    Plain,
}

#[derive(Debug, Args)]
pub struct Micro {
    /// As criterion has it: fewer samples, a tenth of the time.
    #[arg(long)]
    pub quick: bool,
    /// Only the benches of the table whose name contains this.
    pub filter: Option<String>,
}

#[derive(Debug, Args)]
pub struct ProduceLoad {
    /// The broker.
    #[arg(long, value_name = "ADDR", value_parser = console::address)]
    pub to: SocketAddr,
    /// Produce requests a second.
    #[arg(long)]
    pub rate: f64,
    /// Records in each.
    #[arg(long)]
    pub records: usize,
    /// Bytes per record.
    #[arg(long)]
    pub size: usize,
    #[arg(long)]
    pub cpu: usize,
}

#[derive(Debug, Args)]
pub struct Pin {
    /// Any CPU when left out.
    #[arg(long)]
    pub cpu: Option<usize>,
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// `500ms`, `10s`, `2m`, or seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is no time, write 500ms, 10s or 2m"))?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        _ => return Err(format!("{unit:?} is no unit of time, use ms, s or m")),
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("at most {} s", DURATION_MAX.as_secs())),
    }
}

pub fn connections(text: &str) -> Result<usize, String> {
    within(text, 1, CONNECTIONS_MAX)
}

pub fn message_bytes(text: &str) -> Result<usize, String> {
    within(text, 0, MESSAGE_BYTES_MAX)
}

pub fn appends_waiting(text: &str) -> Result<usize, String> {
    within(text, 1, APPENDS_WAITING_MAX)
}

fn record_bytes(text: &str) -> Result<usize, String> {
    within(text, 0, RECORD_BYTES_MAX)
}

pub fn rounds(text: &str) -> Result<usize, String> {
    within(text, 1, ROUNDS_MAX)
}

fn groups(text: &str) -> Result<usize, String> {
    within(text, 0, GROUPS_MAX)
}

fn tenants_count(text: &str) -> Result<usize, String> {
    within(text, 2, 1_000_000)
}

fn groups_of_app(text: &str) -> Result<usize, String> {
    within(text, 1, GROUPS_PER_APP_MAX)
}

pub fn topics(text: &str) -> Result<usize, String> {
    within(text, 1, TOPICS_MAX)
}

fn topic_mb(text: &str) -> Result<usize, String> {
    within(text, 1, TOPIC_MB_MAX)
}

fn samples(text: &str) -> Result<usize, String> {
    within(text, 1, SAMPLES_MAX)
}

fn wait(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(wait) if (Duration::from_secs(1)..=WAIT_MAX).contains(&wait) => Ok(wait),
        _ => Err(format!("a time from 1s to {}s", WAIT_MAX.as_secs())),
    }
}

pub fn keys(text: &str) -> Result<usize, String> {
    within(text, 0, KEYS_MAX)
}

fn within(text: &str, min: usize, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("a number from {min} to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units_and_a_limit() {
        for (text, expected) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("2m", Some(Duration::from_secs(120))),
            ("7", Some(Duration::from_secs(7))),
            ("2h", None),
            ("s", None),
            ("-1s", None),
            ("61m", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn fewer_groups_have_fewer_polls_and_each_has_one() {
        let args = "kbench polls --groups 0,100,2000 --polls 10000 --wait 90s";
        let Command::Polls(polls) = Cli::parse_from(args.split(' ')).command else { panic!("polls") };
        assert_eq!(polls.wait, Duration::from_secs(90));
        for (groups, expected) in [(0, 0), (1, 5), (100, 500), (2_000, 10_000)] {
            assert_eq!(polls.polls_of(groups), expected, "{groups}");
        }
        let few = Polls { polls: 10, ..polls };
        assert_eq!((few.polls_of(100), few.polls_of(2_000)), (100, 2_000));
        for bad in ["--wait 121s", "--wait 10ms", "--groups 0,10001", "--polls 0", "--samples 0"] {
            assert!(Cli::try_parse_from(format!("kbench polls {bad}").split(' ')).is_err(), "{bad}");
        }
        assert!(Cli::try_parse_from("kbench prefetch --groups 1001".split(' ')).is_err());
    }

    #[test]
    fn open_and_closed_loop_exclude_each_other() {
        let args = ["kbench", "publish", "--target", "http://x:1", "--rate", "5", "--closed"];
        assert!(Cli::try_parse_from(args).is_err());
        assert!(Cli::try_parse_from(&args[..6]).is_ok());
    }
}

//! `kbench proxy`: what kproxy costs beside a loop that only forwards bytes, and beside no proxy at all.
//!
//! Behind all three stands the same broker of canned answers, and before them the same clients, both on the other CPU, so
//! that the proxy's CPU is all its own. Produce requests are of version 12, whose answers kproxy reads, and Fetch answers
//! of version 17, through which it walks: the versions modern clients speak, which cost a proxy most.
//!
//! With `--tenant` kproxy serves tenants: clients log in, call the topic by their own name, and the broker has it by
//! Kafka's; Fetch names it by an id that the proxy has asked the broker about.
//!
//! With `--idle N` it is memory that is measured: of N connections that have asked once and are quiet.
//!
//! The proxy's own count of bytes must be the client's, so that no benchmark goes past it.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use kafka_wire::messages::api_versions::{ApiRange, ApiVersionsResponse, encode_response_frame};
use model::doc::{AppDoc, SnapshotDoc, TopicDoc};
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::limits::{SCRAM_ITERATIONS_DEFAULT, SCRAM_SALT_BYTES};
use model::quota::Limits;
use model::scram::ScramParams;
use model::{Addresses, PlainSecret, SecretPair, StoredSecret, TopicOptions, snapshot_file};
use testkit::http::{Connection, Request};

use crate::cli::Proxy;
use crate::cpu::Sample;
use crate::limits::{OTHER_DESCRIPTORS, SETTLE};
use crate::machine::machine;
use crate::measure::ForeignMeter;
use crate::outcome::{histogram, us};
use crate::prefetch::resident_kib;
use crate::process::{Process, TempDir, tethered, this_program};
use crate::rounds::{Counted, DISTURBED_NOTE, Order, Round, Rounds, Spread, quietly};
use crate::sockets::need_descriptors;
use crate::{pin, produce_load};

/// The proxy's CPU, and that of everything else.
const PROXY_CPU: usize = 0;
const OTHER_CPU: usize = 1;
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 17;
const FETCH_KEY: i16 = 1;
const METADATA_KEY: i16 = 3;
const METADATA_BY_ID_VERSION: i16 = 12;
const HANDSHAKE_KEY: i16 = 17;
const VERSIONS_KEY: i16 = 18;
const AUTHENTICATE_KEY: i16 = 36;
const TOPIC: &str = "proxy";
/// Before a measurement.
const WARMUP: Duration = Duration::from_millis(500);
/// A proxy says what it has moved within this.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);
/// Or the measurement has failed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// The app of `--tenant`, and what Kafka calls its topic.
const APP: &str = "bench";
const VERSION: &str = "v1";
const PHYSICAL: &str = "bench.proxy.v1";
const SECRET: &str = "bench-secret";
const OTHER_SECRET: &str = "bench-other-secret";
const TOPIC_ID: [u8; 16] = [7; 16];

/// How a topic is called, and what a client says first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Anybody,
    Tenant,
}

impl Speaker {
    fn topic(self) -> String {
        match self {
            Speaker::Anybody => PHYSICAL.to_owned(),
            Speaker::Tenant => format!("{TOPIC}.{VERSION}"),
        }
    }
}

/// A request, and the answer to it.
struct Exchange {
    request: Bytes,
    answer_bytes: usize,
}

impl Exchange {
    fn produce(size: usize, speaker: Speaker) -> Exchange {
        let topic = speaker.topic();
        let frame = produce_load::frame(&topic, 0, 1, size);
        let mut request = BytesMut::from(&frame[..]);
        // The body is the same from version 9 on.
        request[6..8].copy_from_slice(&PRODUCE_VERSION.to_be_bytes());
        Exchange { request: request.freeze(), answer_bytes: produce_answer(&topic).len() }
    }

    /// The longest wait says how much the canned broker is to answer.
    fn fetch(size: usize) -> Exchange {
        let mut request = BytesMut::new();
        request.put_i32(0);
        request.put_i16(FETCH_KEY);
        request.put_i16(FETCH_VERSION);
        request.put_i32(1);
        request.put_i16(6);
        request.put_slice(b"kbench");
        request.put_u8(0);
        request.put_u32(size as u32);
        request.put_i32(1);
        request.put_i32(100 << 20);
        request.put_i8(0);
        // No session: every request names its topic.
        request.put_i32(0);
        request.put_i32(-1);
        request.put_u8(2);
        request.put_slice(&TOPIC_ID);
        request.put_u8(2);
        request.put_i32(0);
        request.put_i32(-1);
        request.put_i64(0);
        request.put_i32(-1);
        request.put_i64(-1);
        request.put_i32(100 << 20);
        // Ends of partition and topic, nothing forgotten, no rack, the end.
        request.put_slice(&[0, 0, 1, 1, 0]);
        Exchange { request: finish(request), answer_bytes: fetch_answer(size).len() }
    }

    /// Bytes of it, both ways.
    fn bytes(&self) -> usize {
        self.request.len() + self.answer_bytes
    }
}

/// The same work by whoever asks for it.
struct Work {
    name: String,
    of_anybody: Exchange,
    of_tenant: Exchange,
}

impl Work {
    fn produce(size: usize) -> Work {
        let of = |speaker| Exchange::produce(size, speaker);
        Work {
            name: format!("produce {}", show(size)),
            of_anybody: of(Speaker::Anybody),
            of_tenant: of(Speaker::Tenant),
        }
    }

    fn fetch(size: usize) -> Work {
        Work {
            name: format!("fetch {}", show(size)),
            of_anybody: Exchange::fetch(size),
            of_tenant: Exchange::fetch(size),
        }
    }

    fn is_fetch(&self) -> bool {
        self.of_anybody.request[5] == FETCH_KEY as u8
    }

    fn of(&self, speaker: Speaker) -> &Exchange {
        match speaker {
            Speaker::Anybody => &self.of_anybody,
            Speaker::Tenant => &self.of_tenant,
        }
    }
}

fn show(size: usize) -> String {
    if size >= 1 << 20 { format!("{} MiB", size >> 20) } else { format!("{} KiB", size >> 10) }
}

/// One partition stored, no hints, no more than is needed of a topic by name.
fn produce_answer(topic: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(1);
    out.put_u8(0);
    out.put_u8(2);
    out.put_u8(topic.len() as u8 + 1);
    out.put_slice(topic.as_bytes());
    out.put_u8(2);
    out.put_i32(0);
    out.put_i16(0);
    out.put_i64(5);
    out.put_i64(-1);
    out.put_i64(0);
    out.put_slice(&[1, 0, 0, 0]);
    out.put_i32(0);
    out.put_u8(0);
    finish(out)
}

/// One partition with `size` bytes of records, no hints.
fn fetch_answer(size: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(size + 128);
    out.put_i32(0);
    out.put_i32(1);
    out.put_u8(0);
    out.put_i32(0);
    out.put_i16(0);
    out.put_i32(0);
    out.put_u8(2);
    out.put_slice(&TOPIC_ID);
    out.put_u8(2);
    out.put_i32(0);
    out.put_i16(0);
    out.put_i64(100);
    out.put_i64(100);
    out.put_i64(0);
    out.put_u8(0);
    out.put_i32(-1);
    let size = size.max(produce_load::batch(0).len());
    let mut length = size as u32 + 1;
    while length >= 0x80 {
        out.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    let batch = produce_load::batch(size);
    out.put_slice(&batch);
    out.put_bytes(0, size.saturating_sub(batch.len()));
    out.put_slice(&[0, 0, 0]);
    finish(out)
}

fn finish(mut out: BytesMut) -> Bytes {
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// Answers from a can, a thread per connection.
fn canned_broker() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("canned".to_owned()).spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || serve_canned(socket));
        }
    })?;
    Ok(address)
}

fn serve_canned(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut frame, produced) = (vec![0; 4], produce_answer(PHYSICAL));
    let mut fetched = (0, Bytes::new());
    loop {
        frame.resize(4, 0);
        socket.read_exact(&mut frame[..4])?;
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        frame.resize(length, 0);
        socket.read_exact(&mut frame)?;
        match i16::from_be_bytes([frame[0], frame[1]]) {
            0 => socket.write_all(&produced)?,
            FETCH_KEY => {
                let size = u32::from_be_bytes([frame[17], frame[18], frame[19], frame[20]]) as usize;
                if fetched.0 != size {
                    fetched = (size, fetch_answer(size));
                }
                socket.write_all(&fetched.1)?;
            }
            VERSIONS_KEY => {
                let version = i16::from_be_bytes([frame[2], frame[3]]);
                let apis = apis::OFFERED.iter().map(|(key, max)| ApiRange { key: *key, min: 0, max: *max }).collect();
                let response = ApiVersionsResponse { apis, ..ApiVersionsResponse::default() };
                socket.write_all(&encode_response_frame(version.min(4), correlation_id(&frame), &response))?;
            }
            METADATA_KEY if i16::from_be_bytes([frame[2], frame[3]]) == METADATA_BY_ID_VERSION => {
                socket.write_all(&metadata_answer(correlation_id(&frame)))?;
            }
            // A proxy that asks who else is here: nobody.
            _ => return Ok(()),
        }
    }
}

fn correlation_id(frame: &[u8]) -> i32 {
    i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]])
}

/// No brokers, one topic with its id, no partitions: what a proxy wants to know of it.
fn metadata_answer(correlation_id: i32) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(correlation_id);
    out.put_u8(0);
    out.put_i32(0);
    // No brokers, no cluster id, no controller.
    out.put_slice(&[1, 0]);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_i16(0);
    out.put_u8(PHYSICAL.len() as u8 + 1);
    out.put_slice(PHYSICAL.as_bytes());
    out.put_slice(&TOPIC_ID);
    out.put_u8(0);
    out.put_u8(1);
    out.put_i32(i32::MIN);
    out.put_slice(&[0, 0]);
    finish(out)
}

/// What a broker of today offers of what the proxy has rules for.
mod apis {
    pub const OFFERED: &[(i16, i16)] = &[(0, 13), (1, 18), (3, 13), (17, 1), (18, 4), (36, 2)];
}

/// Between clients and the broker.
struct Between {
    name: &'static str,
    address: SocketAddr,
    process: Option<Process>,
    /// Where it tells its count of bytes.
    ops: Option<String>,
    speaker: Speaker,
    /// Of a proxy for tenants: the tenants.
    _data_dir: Option<TempDir>,
}

impl Between {
    fn nothing(broker: SocketAddr) -> Between {
        Between {
            name: "direct",
            address: broker,
            process: None,
            ops: None,
            speaker: Speaker::Anybody,
            _data_dir: None,
        }
    }

    fn forward(broker: SocketAddr) -> Result<Between> {
        let mut command = tethered(Some(PROXY_CPU), &this_program()?)?;
        command.args(["floor", "forward", "--json", "--listen", "127.0.0.1:0", "--to", &broker.to_string()]);
        let (process, ready) = Process::start(command, "the forwarder", None)?;
        let address = ready.text("listen")?.parse()?;
        let speaker = Speaker::Anybody;
        Ok(Between { name: "forward", address, process: Some(process), ops: None, speaker, _data_dir: None })
    }

    fn kproxy(kproxy: &Path, broker: SocketAddr, speaker: Speaker) -> Result<Between> {
        let data_dir = (speaker == Speaker::Tenant).then(tenants).transpose()?;
        let mut command = tethered(Some(PROXY_CPU), kproxy)?;
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--bootstrap", &broker.to_string()]);
        command.args(["--shards-count", "1", "--shards-pin", "false", "--log-level", "error", "--range-width", "1"]);
        if let Some(dir) = &data_dir {
            command.arg("--tenants-data-dir").arg(&dir.path).args(["--tenants-stale-after", "1h"]);
        }
        let (process, ready) = Process::start(command, "kproxy", None)?;
        let ops = ready.text("ops")?;
        Ok(Between {
            name: if speaker == Speaker::Tenant { "kproxy, tenant" } else { "kproxy" },
            address: ready.text("bootstrap")?.parse()?,
            process: Some(process),
            ops: Some(ops),
            speaker,
            _data_dir: data_dir,
        })
    }

    /// Bytes from and to clients, as the proxy counts them; None where nobody counts.
    fn counted(&self) -> Result<Option<u64>> {
        let Some(ops) = &self.ops else { return Ok(None) };
        let text = Connection::open(ops)?.call(&Request::get("/metrics"))?;
        let text = String::from_utf8_lossy(&text.body).into_owned();
        let lines = text.lines().filter(|line| line.starts_with("kproxy_bytes_total{peer=\"client\""));
        let numbers = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok(Some(numbers.sum()))
    }
}

impl Between {
    /// The last bytes may be counted a moment after they were received.
    fn must_have_counted(&self, before: u64, sent: u64) -> Result<()> {
        let until = Instant::now() + COUNTED_WITHIN;
        loop {
            let counted = self.counted()?.unwrap_or(before) - before;
            if counted == sent {
                return Ok(());
            }
            ensure!(Instant::now() < until, "clients moved {sent} bytes, {} counted {counted}", self.name);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A data directory as a gateway leaves it, with one app and its topic.
fn tenants() -> Result<TempDir> {
    let scram = ScramParams { salt: vec![1; SCRAM_SALT_BYTES], iterations: SCRAM_ITERATIONS_DEFAULT };
    let secret = PlainSecret::from_text(SECRET).context("a secret")?;
    let (publish, subscribe) =
        (pair(&secret, &scram), pair(&PlainSecret::from_text(OTHER_SECRET).context("a secret")?, &scram));
    let (id, cluster) = (AppId::new(APP)?, ClusterName::new("main")?);
    let app = AppDoc {
        id: id.clone(),
        index: 1,
        cluster: cluster.clone(),
        enabled: true,
        scram,
        publish,
        subscribe,
        limits: Limits::default(),
        addresses: Addresses::default(),
        handoff: true,
    };
    let topic = TopicDoc {
        owner: id,
        name: TopicName::new(TOPIC)?,
        ver: TopicVersion::new(VERSION)?,
        index: 1,
        cluster,
        enabled: true,
        options: TopicOptions::default(),
        limits: Limits::default(),
        partitions: None,
        replicas: None,
        retention_ms: None,
        retention_bytes: None,
    };
    let doc = SnapshotDoc { generation: 1, apps: vec![app], topics: vec![topic], ..SnapshotDoc::default() };
    let dir = TempDir::new()?;
    std::fs::write(dir.path.join("snapshot.json"), snapshot_file::encode(&doc))?;
    Ok(dir)
}

fn pair(secret: &PlainSecret, scram: &ScramParams) -> SecretPair {
    SecretPair { current: StoredSecret::derive(secret, scram), previous: None }
}

/// Logs a tenant's connection in by PLAIN; how many bytes that took, both ways.
fn log_in(socket: &mut TcpStream, side: &str) -> Result<usize> {
    let mut moved = 0;
    let mut ask = |key: i16, version: i16, body: &[u8]| -> Result<()> {
        let mut request = BytesMut::new();
        request.put_i32(0);
        request.put_i16(key);
        request.put_i16(version);
        request.put_i32(1);
        request.put_i16(-1);
        request.put_slice(body);
        let request = finish(request);
        socket.write_all(&request)?;
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut answer)?;
        ensure!(answer[4..6] == [0, 0], "the proxy refuses the login: {}", String::from_utf8_lossy(&answer));
        moved += request.len() + 4 + answer.len();
        Ok(())
    };
    ask(HANDSHAKE_KEY, 1, b"\0\x05PLAIN")?;
    let message = format!("\0{APP}\0{side}");
    let mut body = BytesMut::new();
    body.put_i32(message.len() as i32);
    body.put_slice(message.as_bytes());
    ask(AUTHENTICATE_KEY, 0, &body)?;
    Ok(moved)
}

/// One measurement.
#[derive(Clone)]
struct Figures {
    requests: u64,
    seconds: f64,
    /// Of the proxy; 0 where there is none.
    cpu_seconds: f64,
    latency: Histogram<u64>,
}

impl Figures {
    fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.requests as f64
    }
}

/// How fast clients ask.
#[derive(Clone, Copy)]
enum Pace {
    /// The next request when the answer is there.
    Closed,
    /// So many a second, all connections together; latency counts from when a request was due.
    Open(f64),
}

pub fn run(proxy: Proxy) -> Result<ExitCode> {
    let kproxy = match &proxy.kproxy {
        Some(path) => path.clone(),
        None => this_program()?.with_file_name("kproxy"),
    };
    ensure!(kproxy.exists(), "no kproxy at {}; name it with --kproxy", kproxy.display());
    pin::this_thread(Some(OTHER_CPU))?;
    let broker = canned_broker()?;
    if proxy.idle > 0 {
        return idle(&proxy, &kproxy, broker);
    }
    let mut betweens =
        vec![Between::nothing(broker), Between::forward(broker)?, Between::kproxy(&kproxy, broker, Speaker::Anybody)?];
    if proxy.tenant {
        betweens.push(Between::kproxy(&kproxy, broker, Speaker::Tenant)?);
    }
    let sizes = &proxy.sizes;
    let works: Vec<Work> =
        sizes.iter().map(|size| Work::produce(*size)).chain(sizes.iter().map(|size| Work::fetch(*size))).collect();
    let cases: Vec<(usize, usize)> =
        (0..works.len()).flat_map(|work| (0..betweens.len()).map(move |b| (work, b))).collect();
    let mut closed: Vec<Vec<Round<Figures>>> = vec![Vec::new(); cases.len()];
    let mut open: Vec<Vec<Round<Figures>>> = vec![Vec::new(); cases.len()];
    let mut order = Order::new(proxy.seed);
    for name in Rounds::new(proxy.rounds, None) {
        for case in order.shuffled(cases.len()) {
            let (work, between) = (&works[cases[case].0], &betweens[cases[case].1]);
            let round = quietly(proxy.foreign_max, || measure(&proxy, between, work, Pace::Closed))?;
            eprintln!("{name}: {}, {}: {:.0} requests/s", work.name, between.name, round.value.rate());
            closed[case].push(round);
        }
        for case in order.shuffled(cases.len()) {
            let (work, between) = (&works[cases[case].0], &betweens[cases[case].1]);
            // Half of what kproxy can, for all alike.
            let slowest = betweens.len() - 1;
            let of_kproxy = closed[cases[case].0 * betweens.len() + slowest].last().expect("measured above");
            let pace = Pace::Open(of_kproxy.value.rate() / 2.0);
            open[case].push(quietly(proxy.foreign_max, || measure(&proxy, between, work, pace))?);
        }
    }
    console::print!("{}", markdown(&proxy, &works, &betweens, &closed, &open));
    Ok(ExitCode::SUCCESS)
}

/// Memory of each idle connection: from the slope between half of them and all, each having asked once.
fn idle(proxy: &Proxy, kproxy: &Path, broker: SocketAddr) -> Result<ExitCode> {
    need_descriptors(2 * proxy.idle + OTHER_DESCRIPTORS, &format!("{} connections", proxy.idle))?;
    let speaker = if proxy.tenant { Speaker::Tenant } else { Speaker::Anybody };
    let between = Between::kproxy(kproxy, broker, speaker)?;
    let pid = between.process.as_ref().map(Process::pid).context("kproxy has a process")?;
    let work = Work::produce(1024);
    let mut clients = Vec::with_capacity(proxy.idle);
    let mut resident = vec![resident_kib(pid)?];
    for half in [proxy.idle / 2, proxy.idle - proxy.idle / 2] {
        for _ in 0..half {
            let mut client = TcpStream::connect(between.address)?;
            let exchange = work.of(speaker);
            if speaker == Speaker::Tenant {
                log_in(&mut client, SECRET)?;
            }
            client.write_all(&exchange.request)?;
            client.read_exact(&mut vec![0; exchange.answer_bytes])?;
            clients.push(client);
        }
        // The proxy gives buffers back twice a second.
        thread::sleep(SETTLE);
        resident.push(resident_kib(pid)?);
    }
    let [before, half, all] = resident[..] else { unreachable!("three were read") };
    let slope = (all as f64 - half as f64) * 1024.0 / (proxy.idle - proxy.idle / 2) as f64;
    console::println!(
        "{}\n\n{} idle connections: {:.1} MiB before, {:.1} with half of them, {:.1} with all: {slope:.0} bytes each (aim 8,192)",
        machine(),
        clients.len(),
        before as f64 / 1024.0,
        half as f64 / 1024.0,
        all as f64 / 1024.0,
    );
    Ok(ExitCode::SUCCESS)
}

fn measure(proxy: &Proxy, between: &Between, work: &Work, pace: Pace) -> Result<(Figures, f64)> {
    let (ready, stop) = (Arc::new(Barrier::new(proxy.connections + 1)), Arc::new(AtomicBool::new(false)));
    let counting = Arc::new(AtomicBool::new(false));
    let counted_before = between.counted()?;
    let interval = match pace {
        Pace::Closed => None,
        Pace::Open(rate) => Some(Duration::from_secs_f64(proxy.connections as f64 / rate)),
    };
    let exchange = work.of(between.speaker);
    let login = (between.speaker == Speaker::Tenant).then_some(if work.is_fetch() { OTHER_SECRET } else { SECRET });
    let clients: Vec<_> = (0..proxy.connections)
        .map(|number| {
            let client = Client {
                address: between.address,
                login,
                request: exchange.request.clone(),
                answer_bytes: exchange.answer_bytes,
                interval,
                // Spread over the interval, so that they do not all ask at once.
                first_after: interval.unwrap_or_default().mul_f64(number as f64 / proxy.connections as f64),
                ready: Arc::clone(&ready),
                stop: Arc::clone(&stop),
                counting: Arc::clone(&counting),
            };
            thread::spawn(move || client.run())
        })
        .collect();
    ready.wait();
    thread::sleep(WARMUP);
    let cpu = |between: &Between| between.process.as_ref().map(|process| Sample::take(process.pid())).transpose();
    let (cpu_before, foreign, begun) = (cpu(between)?, ForeignMeter::start(), Instant::now());
    counting.store(true, Ordering::Relaxed);
    thread::sleep(proxy.duration);
    counting.store(false, Ordering::Relaxed);
    let (seconds, cpu_after, foreign) = (begun.elapsed().as_secs_f64(), cpu(between)?, foreign.cores());
    stop.store(true, Ordering::Relaxed);
    let (mut requests, mut exchanges, mut moved, mut latency) = (0, 0, 0, histogram());
    for client in clients {
        let done = client.join().map_err(|_| anyhow!("a client panicked"))?.context("a client failed")?;
        requests += done.counted;
        exchanges += done.exchanges;
        moved += done.login_bytes;
        latency.add(&done.latency).map_err(|err| anyhow!("{err}"))?;
    }
    if let Some(before) = counted_before {
        let sent = exchanges * exchange.bytes() as u64 + moved;
        between.must_have_counted(before, sent)?;
    }
    let cpu_seconds =
        cpu_after.zip(cpu_before).map_or(0.0, |(after, before)| after.since(&before).total_ns as f64 / 1e9);
    Ok((Figures { requests, seconds, cpu_seconds, latency }, foreign))
}

struct Done {
    /// In the window.
    counted: u64,
    /// In all.
    exchanges: u64,
    login_bytes: u64,
    latency: Histogram<u64>,
}

/// One connection with one request at a time, on a thread of its own.
struct Client {
    address: SocketAddr,
    /// Of a tenant: the secret it shows.
    login: Option<&'static str>,
    request: Bytes,
    answer_bytes: usize,
    /// From one request's due time to the next; None: as soon as the answer is there.
    interval: Option<Duration>,
    first_after: Duration,
    ready: Arc<Barrier>,
    stop: Arc<AtomicBool>,
    counting: Arc<AtomicBool>,
}

impl Client {
    fn connect(&self) -> Result<(TcpStream, u64)> {
        let mut socket = TcpStream::connect(self.address)?;
        let login_bytes = match self.login {
            Some(secret) => log_in(&mut socket, secret)?,
            None => 0,
        };
        Ok((socket, login_bytes as u64))
    }

    fn run(self) -> Result<Done> {
        let connected = self.connect();
        self.ready.wait();
        let (mut socket, login_bytes) = connected?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let mut answer = vec![0; self.answer_bytes];
        let mut done = Done { counted: 0, exchanges: 0, login_bytes, latency: histogram() };
        let mut due = Instant::now() + self.first_after;
        while !self.stop.load(Ordering::Relaxed) {
            let asked = match self.interval {
                None => Instant::now(),
                Some(interval) => {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += interval;
                    due - interval
                }
            };
            socket.write_all(&self.request)?;
            socket.read_exact(&mut answer)?;
            done.exchanges += 1;
            if self.counting.load(Ordering::Relaxed) {
                done.counted += 1;
                done.latency.saturating_record(us(asked.elapsed()));
            }
        }
        Ok(done)
    }
}

fn markdown(
    proxy: &Proxy,
    works: &[Work],
    betweens: &[Between],
    closed: &[Vec<Round<Figures>>],
    open: &[Vec<Round<Figures>>],
) -> String {
    let mut out = format!("{}\n\n", machine());
    let _ = writeln!(
        out,
        "{} connections, {} rounds of {} s; proxy on CPU {PROXY_CPU}, clients and canned broker on CPU {OTHER_CPU}. CPU of \
         the proxy per exchange, median (range); ms per MB counts request and answer once.\n",
        proxy.connections,
        proxy.rounds,
        proxy.duration.as_secs_f64()
    );
    out.push_str(
        "| work | proxy | exchanges/s | MB/s | CPU µs | CPU ms per MB | to forward | half load: p50 µs | p99 µs | rounds |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut disturbed = false;
    for (work_at, work) in works.iter().enumerate() {
        let spread = |between: usize, figure: fn(&Figures) -> f64| {
            let rounds = &closed[work_at * betweens.len() + between];
            let counted = Counted::of(rounds.iter().map(|round| round.quiet));
            Spread::of(counted.indexes.iter().map(|at| figure(&rounds[*at].value)))
        };
        let floor = spread(1, Figures::cpu_us).median;
        for (between_at, between) in betweens.iter().enumerate() {
            let rounds = &closed[work_at * betweens.len() + between_at];
            let counted = Counted::of(rounds.iter().map(|round| round.quiet));
            disturbed |= counted.disturbed;
            let rate = spread(between_at, Figures::rate).median;
            let cpu = spread(between_at, Figures::cpu_us);
            let quantile = |q: f64| {
                let rounds = &open[work_at * betweens.len() + between_at];
                Spread::of(rounds.iter().map(|round| round.value.latency.value_at_quantile(q) as f64)).show(0)
            };
            let has_cpu = between.process.is_some();
            let or_dash = |text: String| if has_cpu { text } else { "–".to_owned() };
            let _ = writeln!(
                out,
                "| {} | {} | {rate:.0} | {:.0} | {} | {} | {} | {} | {} | {} |",
                work.name,
                between.name,
                rate * work.of(between.speaker).bytes() as f64 / 1e6,
                or_dash(cpu.show(1)),
                or_dash(format!("{:.3}", cpu.median / 1e3 / (work.of(between.speaker).bytes() as f64 / 1e6))),
                or_dash(format!("{:.2}", cpu.median / floor)),
                quantile(0.5),
                quantile(0.99),
                counted.show(),
            );
        }
    }
    if disturbed {
        out.push_str(DISTURBED_NOTE);
    }
    out
}

//! `kbench compare`: the gateway's CPU per publish as a ratio to what TCP alone costs, measured in the same minutes.
//!
//! All servers run at the same time, pinned to one CPU; only one of them is loaded at a time, from another CPU, where
//! the null broker runs as well. A round loads each once in shuffled order, so that drift of the machine (frequency,
//! neighbours) hits all alike; the ratio is taken within each round, and medians are given with the range.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cli::{Compare, Output, Run};
use crate::limits::{ATTEMPTS_MAX, FOREIGN_CORES_MAX, READY_TIMEOUT};
use crate::load::{self, Mode};
use crate::outcome::Figures;
use crate::publish::{Request, work};

pub fn run(compare: Compare) -> Result<ExitCode> {
    let this = std::env::current_exe().context("where is this program")?;
    // Declared first, so that it ends last.
    let mut _behind = None;
    let mut servers = vec![
        Server::floor(&this, "http", "raw io_uring floor", &compare)?,
        Server::floor(&this, "shard", "runtime shard, no gateway", &compare)?,
    ];
    if !compare.floor_only {
        let kateway = match &compare.kateway {
            Some(path) => path.clone(),
            None => this.with_file_name("kateway"),
        };
        ensure!(kateway.exists(), "no gateway at {}; name it with --kateway", kateway.display());
        let broker = NullBroker::start(&this, compare.client_cpu)?;
        servers.push(Server::kateway(&this, &kateway, &broker.kafka, &compare)?);
        _behind = Some(broker);
    }
    let mut order = Order(compare.seed.unwrap_or_else(runtime::clock::seed));
    eprintln!("seed {}", order.0);
    for round in 0..compare.rounds {
        for index in order.shuffled(servers.len()) {
            let figures = servers[index].load_quietly(&compare, Mode::Closed)?;
            eprintln!(
                "round {}/{}: {}: {:.0} requests/s, {:.2} µs CPU each, foreign {:.2}",
                round + 1,
                compare.rounds,
                servers[index].name,
                figures.requests_per_second,
                cpu_us(&figures),
                foreign_cores(&figures)
            );
            servers[index].rounds.push(figures);
        }
    }
    if compare.half_load {
        for server in &mut servers {
            let rate = Spread::of(server.rounds.iter().map(|figures| figures.requests_per_second)).median / 2.0;
            let figures = server.load_quietly(&compare, Mode::Open((rate as u64).max(1)))?;
            server.open = Some(figures);
        }
    }
    std::io::stdout().write_all(markdown(&compare, &servers).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A server under comparison, and what was measured.
struct Server {
    name: String,
    target: String,
    appid: String,
    pubkey: String,
    topic: String,
    ver: String,
    process: Option<Process>,
    rounds: Vec<Figures>,
    open: Option<Figures>,
}

impl Server {
    fn floor(this: &Path, kind: &str, name: &str, compare: &Compare) -> Result<Server> {
        let mut command = pinned(this, compare.server_cpu, this);
        command.args(["floor", kind, "--json", "--listen", "127.0.0.1:0"]);
        let (process, ready) = Process::start(command, name)?;
        Ok(Server {
            name: name.to_owned(),
            target: format!("http://{}", text(&ready, "listen")?),
            appid: "app".to_owned(),
            pubkey: "key-as-long-as-a-real-one-0123456789abcdef".to_owned(),
            topic: "demo".to_owned(),
            ver: "v1".to_owned(),
            process: Some(process),
            rounds: Vec::new(),
            open: None,
        })
    }

    fn kateway(this: &Path, kateway: &Path, kafka: &str, compare: &Compare) -> Result<Server> {
        let data_dir = TempDir::new()?;
        let mut command = pinned(this, compare.server_cpu, kateway);
        command.args(["quickstart", "--json", "--shards", "1", "--bootstrap", kafka]);
        for listener in ["--pub", "--sub", "--man", "--kafka"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(&data_dir.path);
        let (mut process, ready) = Process::start(command, "the gateway")?;
        process.data_dir = Some(data_dir);
        Ok(Server {
            name: "kateway, null broker".to_owned(),
            target: text(&ready, "pub")?,
            appid: text(&ready, "appid")?,
            pubkey: text(&ready, "pubkey")?,
            topic: text(&ready, "topic")?,
            ver: text(&ready, "ver")?,
            process: Some(process),
            rounds: Vec::new(),
            open: None,
        })
    }

    /// Measures again when others used the server's CPU meanwhile; the quietest attempt counts.
    fn load_quietly(&self, compare: &Compare, mode: Mode) -> Result<Figures> {
        let mut best = self.load(compare, mode)?;
        for _ in 1..ATTEMPTS_MAX {
            if foreign_cores(&best) <= FOREIGN_CORES_MAX {
                break;
            }
            let again = self.load(compare, mode)?;
            if foreign_cores(&again) < foreign_cores(&best) {
                best = again;
            }
        }
        Ok(best)
    }

    fn load(&self, compare: &Compare, mode: Mode) -> Result<Figures> {
        let request = Request {
            appid: &self.appid,
            pubkey: &self.pubkey,
            topic: &self.topic,
            ver: &self.ver,
            ack: "all",
            size: compare.size,
            batch: 1,
        };
        let run = Run {
            connections: compare.connections,
            duration: compare.duration,
            warmup: compare.warmup,
            requests: None,
            client_cpu: vec![compare.client_cpu],
            pid: self.process.as_ref().map(|process| process.child.id()),
            server_cpu: Some(compare.server_cpu),
            output: Output::Json,
        };
        let figures = load::run(&work(&self.target, &request, mode)?, &run)?;
        ensure!(
            figures.all_good(),
            "{} did not answer well: statuses {:?}, errors {:?}",
            self.name,
            figures.statuses,
            figures.errors
        );
        Ok(figures)
    }
}

fn text(ready: &Value, name: &str) -> Result<String> {
    let value = ready.get(name).and_then(Value::as_str);
    Ok(value.with_context(|| format!("ready line without {name}: {ready}"))?.to_owned())
}

struct NullBroker {
    kafka: String,
    _process: Process,
}

impl NullBroker {
    fn start(this: &Path, cpu: usize) -> Result<NullBroker> {
        let mut command = pinned(this, cpu, this);
        command.args(["null-broker", "--json", "--listen", "127.0.0.1:0"]);
        let (process, ready) = Process::start(command, "the null broker")?;
        Ok(NullBroker { kafka: text(&ready, "kafka")?, _process: process })
    }
}

/// `program` on one CPU; it is killed when this program ends, however that happens.
fn pinned(this: &Path, cpu: usize, program: &Path) -> Command {
    let mut command = Command::new(this);
    command.args(["pin", "--cpu", &cpu.to_string(), "--"]).arg(program);
    command
}

/// A child that ends with this program.
struct Process {
    child: Child,
    data_dir: Option<TempDir>,
}

impl Process {
    /// Starts it and waits for its ready line.
    fn start(mut command: Command, what: &str) -> Result<(Process, Value)> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let mut process = Process { child, data_dir: None };
        let out = process.child.stdout.take().context("its output")?;
        let (found, ready) = mpsc::channel();
        std::thread::spawn(move || read_ready(out, &found));
        match ready.recv_timeout(READY_TIMEOUT) {
            Ok(line) => Ok((process, line)),
            Err(_) => bail!("{what} did not become ready within {} s", READY_TIMEOUT.as_secs()),
        }
    }
}

/// Finds the ready line and then keeps reading, so that the child never blocks on a full pipe.
fn read_ready(out: ChildStdout, found: &mpsc::Sender<Value>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        if let Ok(value) = serde_json::from_str::<Value>(&line)
            && value.get("ready") == Some(&Value::Bool(true))
        {
            let _ = found.send(value);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.data_dir.take();
    }
}

struct TempDir {
    path: PathBuf,
}

impl TempDir {
    fn new() -> Result<TempDir> {
        let path = std::env::temp_dir().join(format!("kbench-{}-{:x}", std::process::id(), runtime::clock::seed()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(TempDir { path })
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Shuffles rounds (splitmix64, Fisher and Yates).
struct Order(u64);

impl Order {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let other = (self.next() % (last as u64 + 1)) as usize;
            order.swap(last, other);
        }
        order
    }
}

/// Median and range of a few numbers.
#[derive(Debug, PartialEq, Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let Some((&min, &max)) = values.first().zip(values.last()) else {
            return Spread { median: 0.0, min: 0.0, max: 0.0 };
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Spread { median, min, max }
    }

    fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max)
    }
}

fn cpu_us(figures: &Figures) -> f64 {
    figures.cpu.as_ref().map_or(0.0, |cpu| cpu.us_per_request)
}

fn foreign_cores(figures: &Figures) -> f64 {
    figures.cpu.as_ref().and_then(|cpu| cpu.foreign_cores).unwrap_or(0.0)
}

fn markdown(compare: &Compare, servers: &[Server]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "### CPU per {} B publish, {} connections, acks=all\n", compare.size, compare.connections);
    let _ = writeln!(
        out,
        "{}. {} rounds of {:?} each, shuffled; medians (min–max). Server on CPU {}, client{} on CPU {}.\n",
        machine(),
        compare.rounds,
        compare.duration,
        compare.server_cpu,
        if compare.floor_only { "" } else { " and null broker" },
        compare.client_cpu
    );
    out.push_str(
        "| server | CPU µs/request | ratio to the floor | requests/s | p50 µs | p99 µs | foreign cores |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let floor = &servers[0].rounds;
    for server in servers {
        let of = |figure: &dyn Fn(&Figures) -> f64| Spread::of(server.rounds.iter().map(figure));
        let ratio = Spread::of(server.rounds.iter().zip(floor).map(|(mine, floor)| cpu_us(mine) / cpu_us(floor)));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            server.name,
            of(&cpu_us).show(2),
            ratio.show(2),
            of(&|figures| figures.requests_per_second).show(0),
            of(&|figures| figures.p50_us as f64).show(0),
            of(&|figures| figures.p99_us as f64).show(0),
            of(&foreign_cores).show(2)
        );
    }
    for server in &servers[1..] {
        let mut names: Vec<&String> = server
            .rounds
            .iter()
            .filter_map(|figures| figures.cpu.as_ref())
            .flat_map(|cpu| cpu.us_per_request_by_thread.keys())
            .collect();
        names.sort();
        names.dedup();
        let parts: Vec<String> = names
            .iter()
            .map(|name| {
                let us = Spread::of(
                    server
                        .rounds
                        .iter()
                        .filter_map(|figures| figures.cpu.as_ref())
                        .map(|cpu| cpu.us_per_request_by_thread.get(*name).copied().unwrap_or(0.0)),
                );
                format!("`{name}` {:.2}", us.median)
            })
            .collect();
        let _ = writeln!(out, "\n{}, CPU µs/request by thread: {}.", server.name, parts.join(", "));
    }
    if servers.iter().any(|server| server.open.is_some()) {
        out.push_str("\nOpen loop at half that rate, latency from the time a request was due:\n\n");
        out.push_str(
            "| server | requests/s | p50 µs | p99 µs | p99.9 µs | max µs | client late, p99 µs |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for server in servers {
            let Some(figures) = &server.open else { continue };
            let _ = writeln!(
                out,
                "| {} | {:.0} | {} | {} | {} | {} | {} |",
                server.name,
                figures.requests_per_second,
                figures.p50_us,
                figures.p99_us,
                figures.p999_us,
                figures.max_us,
                figures.client_late_p99_us.unwrap_or(0)
            );
        }
    }
    out
}

/// Date, kernel, cores, build.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let build = if cfg!(debug_assertions) { "kbench development build" } else { "kbench release build" };
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    format!("{date}, Linux {}, {cores} × {model}, {build}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Spent;
    use crate::outcome::Outcome;
    use std::time::Duration;

    fn figures(cpu_us: u64) -> Figures {
        let mut outcome = Outcome::new();
        outcome.answered(201, 1, 1024, Duration::from_micros(250));
        let spent = Spent { total_ns: cpu_us * 1_000, by_name: [("shard-0".to_owned(), cpu_us * 1_000)].into() };
        Figures::of(&outcome, Duration::from_secs(1), Some(&spent))
    }

    fn server(name: &str, cpu_us: &[u64]) -> Server {
        Server {
            name: name.to_owned(),
            target: String::new(),
            appid: String::new(),
            pubkey: String::new(),
            topic: String::new(),
            ver: String::new(),
            process: None,
            rounds: cpu_us.iter().copied().map(figures).collect(),
            open: None,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        use clap::Parser;
        let crate::cli::Command::Compare(compare) = crate::cli::Cli::parse_from(["kbench", "compare"]).command else {
            panic!("compare");
        };
        // The machine was twice as slow in the second round, for both.
        let text = markdown(&compare, &[server("floor", &[8, 16, 8]), server("gateway", &[12, 24, 10])]);
        assert!(text.contains("| floor | 8.00 (8.00–16.00) | 1.00 (1.00–1.00) |"), "{text}");
        assert!(text.contains("| gateway | 12.00 (10.00–24.00) | 1.50 (1.25–1.50) |"), "{text}");
        assert!(text.contains("gateway, CPU µs/request by thread: `shard-0` 12.00."), "{text}");
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_the_seed_repeats_it() {
        let (mut one, mut two) = (Order(7), Order(7));
        let mut firsts = [0; 3];
        for _ in 0..50 {
            let order = one.shuffled(3);
            assert_eq!(order, two.shuffled(3));
            firsts[order[0]] += 1;
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
        }
        assert!(firsts.iter().all(|&count| count > 5), "{firsts:?}");
    }

    #[test]
    fn spreads_of_few_numbers() {
        for (values, expected) in [
            (vec![], (0.0, 0.0, 0.0)),
            (vec![3.0], (3.0, 3.0, 3.0)),
            (vec![4.0, 1.0], (2.5, 1.0, 4.0)),
            (vec![9.0, 1.0, 2.0], (2.0, 1.0, 9.0)),
        ] {
            let spread = Spread::of(values.into_iter());
            assert_eq!((spread.median, spread.min, spread.max), expected);
        }
    }
}

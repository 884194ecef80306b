//! `kbench jobs`: delayed jobs, durable, beside what the disk allows and beside job servers of others.
//!
//! In each round, in shuffled order, each with a directory of its own on the disk that is meant:
//!
//! | what | where |
//! |---|---|
//! | the disk's `fdatasync` (`probe.rs`) | |
//! | adds, one by one and many together; deletes | a store in this process (`engine.rs`) |
//! | adds over HTTP, one by one and many with a request | a gateway (`http.rs`) |
//! | adds | beanstalkd and Redis, where they are installed (`peers.rs`) |
//! | how late jobs come out, steadily and in a burst | a store in this process (`late.rs`) |
//!
//! Ratios are taken within a round. `--recovery` does something else: it fills a store, kills its process, and looks at the
//! next starts (`recovery.rs`). `kept.rs` is the store, `report.rs` has the tables.

mod engine;
pub mod flags;
mod http;
mod kept;
mod late;
mod peers;
pub mod recovery;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use self::engine::Rate;
use self::flags::JobsBench;
use self::late::Late;
use self::peers::Peer;
use crate::cli::DISTURBED;
use crate::limits::JOBS_DELETED_MAX;
use crate::probe;
use crate::process::TempDir;
use crate::rounds::{Counted, Order, Round, Rounds, quietly};
use crate::servers::kateway_path;

/// One measurement of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Probe,
    Adds,
    AddsTogether,
    Deletes,
    OverHttp,
    OverHttpTogether,
    Peer(Peer),
    Steady,
    Burst,
}

/// What it found.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Rate(Rate),
    Late(Late),
}

/// One row.
struct Case {
    what: What,
    rounds: Vec<Round<Found>>,
}

/// Where things are measured.
struct Stage {
    dir: PathBuf,
    http: Option<http::Stage>,
    peers: Vec<(Peer, PathBuf)>,
}

pub fn run(bench: JobsBench) -> Result<ExitCode> {
    if let Some(jobs) = bench.recovery {
        return recovery::run(&bench, jobs);
    }
    let stage = Stage::set_up(&bench)?;
    let is_wanted = |what: &What| *what == What::Probe || what.name(&bench).contains(&bench.only);
    let cases = stage.cases().into_iter().filter(is_wanted);
    let mut cases: Vec<Case> = cases.map(|what| Case { what, rounds: Vec::new() }).collect();
    let mut order = Order::new(bench.rounds.seed);
    for round in Rounds::new(bench.rounds.rounds, bench.rounds.within) {
        for index in order.shuffled(cases.len()) {
            let case = &mut cases[index];
            let measured = quietly(bench.rounds.foreign_max, || stage.measure(case.what, &bench))?;
            let found = measured.value.progress();
            eprintln!("{round}: {}: {found}, foreign {:.2}", case.what.name(&bench), measured.foreign_cores);
            case.rounds.push(measured);
        }
    }
    let text = report::markdown(&bench, &report::place(&stage.dir), &cases);
    console::print!("{text}");
    let disturbed = cases.iter().any(|case| case.counted().disturbed);
    Ok(if disturbed { ExitCode::from(DISTURBED) } else { ExitCode::SUCCESS })
}

impl Stage {
    fn set_up(bench: &JobsBench) -> Result<Stage> {
        let dir = bench.dir();
        if bench.engine_only {
            return Ok(Stage { dir, http: None, peers: Vec::new() });
        }
        let kateway = kateway_path(bench.rounds.kateway.as_ref())?;
        let http = Some(http::Stage::set_up(&kateway, &dir, bench)?);
        let mut peers = Vec::new();
        for peer in Peer::ALL {
            match peer.path() {
                Some(program) => peers.push((peer, program)),
                None => eprintln!("{}", peer.missing()),
            }
        }
        Ok(Stage { dir, http, peers })
    }

    fn cases(&self) -> Vec<What> {
        let mut cases = vec![What::Probe, What::Adds, What::AddsTogether, What::Deletes];
        cases.extend(self.http.iter().flat_map(|_| [What::OverHttp, What::OverHttpTogether]));
        cases.extend(self.peers.iter().map(|(peer, _)| What::Peer(*peer)));
        cases.extend([What::Steady, What::Burst]);
        cases
    }

    fn http(&self) -> &http::Stage {
        self.http.as_ref().expect("it is a case when there is one")
    }

    /// And how many CPUs' worth of time others used meanwhile.
    fn measure(&self, what: What, bench: &JobsBench) -> Result<(Found, f64)> {
        let place = TempDir::inside(&self.dir)?;
        let dir = &place.path;
        let of_rate = |(rate, foreign_cores)| (Found::Rate(rate), foreign_cores);
        let of_late = |(late, foreign_cores)| (Found::Late(late), foreign_cores);
        match what {
            What::Probe => probed(dir, bench).map(of_rate),
            What::Adds => engine::adds(dir, bench, 1).map(of_rate),
            What::AddsTogether => engine::adds(dir, bench, bench.batch).map(of_rate),
            What::Deletes => engine::deletes(dir, bench, JOBS_DELETED_MAX).map(of_rate),
            What::OverHttp => self.http().adds(bench, 1).map(of_rate),
            What::OverHttpTogether => self.http().adds(bench, bench.batch).map(of_rate),
            What::Peer(peer) => {
                let found = self.peers.iter().find(|(known, _)| *known == peer);
                let (_, program) = found.expect("it is a case when it was found");
                peers::adds(peer, program, dir, bench).map(of_rate)
            }
            What::Steady => late::steady(dir, bench).map(of_late),
            What::Burst => late::burst(dir, bench).map(of_late),
        }
    }
}

fn probed(dir: &Path, bench: &JobsBench) -> Result<(Rate, f64)> {
    let probed = probe::measure(dir, bench.rounds.warmup, bench.rounds.duration)?;
    let at = |quantile| probed.latency.value_at_quantile(quantile) as f64;
    let rate = Rate {
        per_second: probed.syncs_per_second,
        p50_us: at(0.5),
        p99_us: at(0.99),
        max_us: probed.latency.max() as f64,
        ..Rate::default()
    };
    Ok((rate, probed.foreign_cores))
}

impl What {
    fn name(self, bench: &JobsBench) -> String {
        match self {
            What::Probe => probe::NAME.to_owned(),
            What::Adds => "store: adds, one by one".to_owned(),
            What::AddsTogether => format!("store: adds, {} together", bench.batch),
            What::Deletes => "store: deletes".to_owned(),
            What::OverHttp => "gateway: `POST /v1/jobs`, one by one".to_owned(),
            What::OverHttpTogether => format!("gateway: `POST /v1/jobs/…/batch`, {} a request", bench.batch),
            What::Peer(peer) => format!("{}: adds", peer.name()),
            What::Steady => format!("{} due each second for {:?}", bench.due_rate, bench.due_for),
            What::Burst => format!("{} due within one second", bench.burst),
        }
    }
}

impl Found {
    /// While it goes on.
    fn progress(&self) -> String {
        match self {
            Found::Rate(rate) => format!("{:.0}/s, {:.2} µs CPU each", rate.per_second, rate.cpu_us),
            Found::Late(late) => {
                let others = late.of_others.map(|others| format!(", others p99 {:.1} ms", others.p99_ms));
                format!(
                    "p50 {:.1} ms, p99 {:.1} ms, all after {:.2} s{}",
                    late.of_jobs.p50_ms,
                    late.of_jobs.p99_ms,
                    late.seconds,
                    others.unwrap_or_default()
                )
            }
        }
    }
}

impl Case {
    fn counted(&self) -> Counted {
        Counted::of(self.rounds.iter().map(|round| round.quiet))
    }
}

//! `kbench handoff`: what hinted handoff takes and delivers, and what it costs while nobody needs it.
//!
//! Three gateways stand before one null broker, with their data on the disk that is meant: one with `[handoff]` on, two with it
//! off. In each round, in shuffled order:
//!
//! | what | where | beside |
//! |---|---|---|
//! | the disk's `fdatasync` (`probe.rs`) | | |
//! | singles and batches to Kafka: 201 | each gateway | on beside off, and the other off beside off |
//! | the broker goes away; singles, then again with batches: 202 | on | the same to Kafka |
//! | the broker comes back: what waits is delivered | on | batches to Kafka |
//! | `async=1`, delivered meanwhile: 202 | on | singles to Kafka |
//!
//! Ratios are taken within a round. The second gateway that is off says by how much equal gateways differ here: what on and off
//! differ by means something only beside that. The broker goes by being killed and comes as a new process at the same port, so
//! what arrives is counted from 0, and costs no more than the null broker's 201.
//!
//! An answer of any other kind than the case wants ends the run: 201 while Kafka is away, 202 while it is there, 503 because a
//! budget is used up. What was answered 202 has to reach the broker, all of it.
//!
//! `stage.rs` has gateways, broker and the single measurements; `report.rs` the tables.

pub mod flags;
mod report;
mod stage;

use std::process::ExitCode;

use anyhow::Result;

use self::flags::HandoffBench;
use self::report::markdown;
use self::stage::{Done, Stage};
use crate::cli::DISTURBED;
use crate::machine::file_system;
use crate::rounds::{Counted, Order, Round, Rounds, quietly};
use crate::servers::kateway_path;

/// One gateway of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    On,
    Off,
    OffAgain,
}

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Singles,
    Batches,
}

/// One measurement of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Probe,
    Direct(Who, Sent),
    /// Handed off while Kafka is away, and delivered when it is back.
    Away(Sent),
    /// `async=1`.
    Async,
}

const CASES: [What; 10] = [
    What::Probe,
    What::Direct(Who::On, Sent::Singles),
    What::Direct(Who::Off, Sent::Singles),
    What::Direct(Who::OffAgain, Sent::Singles),
    What::Direct(Who::On, Sent::Batches),
    What::Direct(Who::Off, Sent::Batches),
    What::Direct(Who::OffAgain, Sent::Batches),
    What::Away(Sent::Singles),
    What::Away(Sent::Batches),
    What::Async,
];

/// What was found of one of [`CASES`].
struct Case {
    what: What,
    rounds: Vec<Round<Done>>,
}

pub fn run(bench: HandoffBench) -> Result<ExitCode> {
    let kateway = kateway_path(bench.rounds.kateway.as_ref())?;
    let dir = bench.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut stage = Stage::set_up(&kateway, &dir, &bench)?;
    let mut cases = CASES.map(|what| Case { what, rounds: Vec::new() });
    let mut order = Order::new(bench.rounds.seed);
    for round in Rounds::new(bench.rounds.rounds, bench.rounds.within) {
        for index in order.shuffled(cases.len()) {
            let case = &mut cases[index];
            let measured = quietly(bench.rounds.foreign_max, || stage.measure(case.what, &dir))?;
            eprintln!("{round}: {}, foreign {:.2}", measured.value.progress(case.what), measured.foreign_cores);
            case.rounds.push(measured);
        }
    }
    let place = format!("{}, {}", dir.display(), file_system(&dir));
    console::print!("{}", markdown(&bench, &place, &cases));
    let disturbed = cases.iter().any(|case| case.counted(case).disturbed);
    Ok(if disturbed { ExitCode::from(DISTURBED) } else { ExitCode::SUCCESS })
}

impl What {
    fn name(self) -> String {
        match self {
            What::Probe => crate::probe::NAME.to_owned(),
            What::Direct(who, sent) => format!("{}, to Kafka, {}", sent.name(), who.name()),
            What::Away(sent) => format!("{}, Kafka away: 202", sent.name()),
            What::Async => "singles, `async=1`: 202, delivered meanwhile".to_owned(),
        }
    }

    /// What its rate is compared with.
    fn beside(self) -> What {
        match self {
            What::Probe => What::Probe,
            What::Direct(_, sent) | What::Away(sent) => What::Direct(Who::On, sent),
            What::Async => What::Direct(Who::On, Sent::Singles),
        }
    }
}

impl Who {
    const ALL: [Who; 3] = [Who::On, Who::Off, Who::OffAgain];

    fn name(self) -> &'static str {
        match self {
            Who::On => "handoff on",
            Who::Off => "handoff off",
            Who::OffAgain => "handoff off, another gateway",
        }
    }
}

impl Sent {
    fn name(self) -> &'static str {
        match self {
            Sent::Singles => "singles",
            Sent::Batches => "batches",
        }
    }
}

impl Case {
    /// Rounds in which neither this one nor the other was disturbed.
    fn counted(&self, other: &Case) -> Counted {
        Counted::of(self.rounds.iter().zip(&other.rounds).map(|(mine, others)| mine.quiet && others.quiet))
    }
}

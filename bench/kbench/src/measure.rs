//! A measured window: when it begins and ends, and what the kernel counted meanwhile.
//!
//! Two things are read at both ends: the running time of the measured process, and how busy the CPUs were. What is
//! busy and not ours is *foreign*: other people's work, and time the host took away. A round with much of it says
//! more about them than about us.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::Run;
use crate::cpu::{Sample, busy_seconds, machine_busy_seconds, our_seconds};
use crate::outcome::{Figures, Outcome};

/// When counting begins and ends, the same for all threads.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub begin: Instant,
    pub end: Instant,
}

/// Whose use of which CPUs counts as foreign.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Foreign {
    #[default]
    NotMeasured,
    /// Everything on this CPU but the measured process.
    OnCpu(usize),
    /// Everything on the machine but this process and those it started.
    OnMachine,
}

/// Counters at one moment.
struct Reading {
    process: Option<Sample>,
    busy_seconds: Option<f64>,
    ours_seconds: f64,
}

impl Reading {
    fn take(run: &Run) -> Result<Reading> {
        let process = run.pid.map(Sample::take).transpose().context("cannot read the measured process")?;
        let (busy_seconds, ours_seconds) = match run.foreign() {
            Foreign::NotMeasured => (None, 0.0),
            Foreign::OnCpu(cpu) => (busy_seconds(cpu), process.as_ref().map_or(0.0, Sample::seconds)),
            Foreign::OnMachine => (machine_busy_seconds(), our_seconds()),
        };
        Ok(Reading { process, busy_seconds, ours_seconds })
    }
}

/// Cores' worth of time that others used between two moments.
pub struct ForeignMeter {
    at: Instant,
    busy_seconds: f64,
    ours_seconds: f64,
}

impl ForeignMeter {
    /// Begins to count on the whole machine.
    pub fn start() -> ForeignMeter {
        ForeignMeter {
            at: Instant::now(),
            busy_seconds: machine_busy_seconds().unwrap_or(0.0),
            ours_seconds: our_seconds(),
        }
    }

    pub fn cores(&self) -> f64 {
        let now = ForeignMeter::start();
        let foreign = (now.busy_seconds - self.busy_seconds) - (now.ours_seconds - self.ours_seconds);
        (foreign / self.at.elapsed().as_secs_f64().max(0.001)).max(0.0)
    }
}

/// Reads the counters at both ends of the window while the clients work, and adds up what they found.
pub fn supervise(run: &Run, window: Window, clients: Vec<JoinHandle<Outcome>>) -> Result<Figures> {
    let finished = || clients.iter().all(JoinHandle::is_finished);
    let reading = |at: Instant| {
        // A run with a request limit may be over before its time.
        while Instant::now() < at && !finished() {
            std::thread::sleep(at.saturating_duration_since(Instant::now()).min(Duration::from_millis(10)));
        }
        Reading::take(run)
    };
    let readings = reading(window.begin).and_then(|first| Ok((first, reading(window.end)?)));
    let measured = run.duration.min(window.begin.elapsed()).max(Duration::from_millis(1));
    let mut outcome = Outcome::new();
    for client in clients {
        match client.join() {
            Ok(part) => outcome.add(&part),
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }
    let (first, last) = readings?;
    let spent = first.process.zip(last.process).map(|(first, last)| last.since(&first));
    let mut figures = Figures::of(&outcome, measured, spent.as_ref());
    figures.foreign_cores = first.busy_seconds.zip(last.busy_seconds).map(|(before, after)| {
        let foreign = (after - before) - (last.ours_seconds - first.ours_seconds);
        (foreign / measured.as_secs_f64()).max(0.0)
    });
    Ok(figures)
}

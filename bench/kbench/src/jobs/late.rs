//! How late jobs come out: the time they are given out, after the record that says so is durable, less the time they were due.
//! What Kafka would take is not in it.
//!
//! | what | jobs |
//! |---|---|
//! | steady | so many a second, evenly, for some seconds |
//! | burst | a million of one account within one second, and beside it a few of another account |
//!
//! They are added beforehand. One that came out early ends the run: none ever may.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::jobs::store::Job;
use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;

use super::flags::JobsBench;
use super::kept::{ACCOUNT, Kept, name, until};
use crate::cpu::{Sample, Spent};
use crate::limits::{
    JOBS_BESIDE_FOR, JOBS_BESIDE_RATE, JOBS_FILL_RATE_MIN, JOBS_FIRED_TIMEOUT, JOBS_LEAD, JOBS_LEAD_DOUBLED_MAX,
};
use crate::measure::ForeignMeter;
use crate::outcome::histogram;

/// Whose jobs are due beside a burst.
const OTHER: &str = "other";

/// How late, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quantiles {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Late {
    pub jobs: u64,
    pub of_jobs: Quantiles,
    /// Of the other account, beside a burst.
    pub of_others: Option<Quantiles>,
    /// From when the first was due until the last came out.
    pub seconds: f64,
    pub cpu_us: f64,
    pub cpu_us_by_thread: BTreeMap<String, f64>,
}

/// What came out.
struct Seen {
    /// Microseconds, of the jobs and of the others.
    late: [Histogram<u64>; 2],
    early: u64,
    /// The last of the jobs; the others may go on for longer.
    last_at: Instant,
}

impl Seen {
    fn new() -> Seen {
        Seen { late: [histogram(), histogram()], early: 0, last_at: Instant::now() }
    }

    fn came_out(&mut self, is_other: bool, due_ms: i64, now_us: i64) {
        let late_us = now_us - due_ms * 1_000;
        self.early += u64::from(late_us < 0);
        self.late[usize::from(is_other)].saturating_record(late_us.max(0) as u64);
    }

    fn jobs(&self) -> u64 {
        self.late[0].len() + self.late[1].len()
    }
}

/// What is due when.
#[derive(Debug, Clone, Copy)]
struct Plan {
    jobs: u64,
    within: Duration,
    others: u64,
}

impl Plan {
    /// When the one with this index is due, after the first.
    fn due_ms(index: u64, of: u64, within: Duration) -> i64 {
        (u128::from(index) * within.as_millis() / u128::from(of.max(1))) as i64
    }

    /// From the begin of adding until the first is due; twice as long after each attempt that was too slow.
    fn lead(&self, attempt: u32) -> Duration {
        let filling = Duration::from_millis((self.jobs + self.others) * 1_000 / JOBS_FILL_RATE_MIN);
        (JOBS_LEAD + filling) * 2_u32.pow(attempt)
    }
}

pub fn steady(dir: &Path, bench: &JobsBench) -> Result<(Late, f64)> {
    let jobs = (bench.due_rate as f64 * bench.due_for.as_secs_f64()) as u64;
    ensure!(jobs > 0, "nothing is due within {:?}", bench.due_for);
    measure(dir, bench.size, Plan { jobs, within: bench.due_for, others: 0 })
}

pub fn burst(dir: &Path, bench: &JobsBench) -> Result<(Late, f64)> {
    let others = JOBS_BESIDE_RATE * JOBS_BESIDE_FOR.as_secs();
    measure(dir, bench.size, Plan { jobs: bench.burst, within: Duration::from_secs(1), others })
}

fn measure(dir: &Path, size: usize, plan: Plan) -> Result<(Late, f64)> {
    for attempt in 0..=JOBS_LEAD_DOUBLED_MAX {
        let place = dir.join(format!("attempt-{attempt}"));
        std::fs::create_dir(&place)?;
        match attempted(&place, size, plan, plan.lead(attempt))? {
            Some(found) => return Ok(found),
            None => eprintln!("jobs were due before all of them were added: again, with more time"),
        }
    }
    bail!("{} jobs could not be added within {:?}", plan.jobs, plan.lead(JOBS_LEAD_DOUBLED_MAX))
}

/// `None`: adding them took longer than that.
fn attempted(dir: &Path, size: usize, plan: Plan, lead: Duration) -> Result<Option<(Late, f64)>> {
    let seen = Arc::new(Mutex::new(Seen::new()));
    let look = {
        let seen = Arc::clone(&seen);
        move |jobs: &[Job]| {
            let now_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for job in jobs {
                let is_other = &*job.name.account == OTHER;
                seen.came_out(is_other, job.key.due_ms, now_us);
                if !is_other {
                    seen.last_at = Instant::now();
                }
            }
        }
    };
    let locked = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = Kept::open(dir, look)?;
    let (begin_ms, begin) = (kept.store().now_ms() + lead.as_millis() as i64, Instant::now() + lead);
    let due = |of: u64, within: Duration| move |index| begin_ms + Plan::due_ms(index, of, within);
    kept.fill(&name(ACCOUNT, "late"), plan.jobs, size, due(plan.jobs, plan.within), |_, _| {})?;
    kept.fill(&name(OTHER, "late"), plan.others, size, due(plan.others, JOBS_BESIDE_FOR), |_, _| {})?;
    let Some(left) = begin.checked_duration_since(Instant::now()) else { return Ok(None) };
    std::thread::sleep(left);
    let (sample, meter) = (Sample::take(std::process::id())?, ForeignMeter::start());
    let all = plan.jobs + plan.others;
    let came = until(plan.within + JOBS_BESIDE_FOR + JOBS_FIRED_TIMEOUT, || locked().jobs() >= all);
    let (spent, foreign_cores) = (Sample::take(std::process::id())?.since(&sample), meter.cores());
    let seen = locked();
    ensure!(came, "{} of {all} jobs came out within {JOBS_FIRED_TIMEOUT:?}", seen.jobs());
    ensure!(seen.early == 0, "{} of {all} jobs came out before they were due", seen.early);
    ensure!(seen.jobs() == all, "{} jobs came out of {all} that were added", seen.jobs());
    let seconds = seen.last_at.saturating_duration_since(begin).as_secs_f64();
    Ok(Some((Late::of(&seen.late, plan.jobs, seconds, &spent), foreign_cores)))
}

impl Quantiles {
    fn of(late: &Histogram<u64>) -> Quantiles {
        let at = |quantile| late.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles { p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: late.max() as f64 / 1e3 }
    }
}

impl Late {
    fn of(late: &[Histogram<u64>; 2], jobs: u64, seconds: f64, spent: &Spent) -> Late {
        let us_of = |ns: u64| ns as f64 / 1e3 / jobs.max(1) as f64;
        Late {
            jobs,
            of_jobs: Quantiles::of(&late[0]),
            of_others: (!late[1].is_empty()).then(|| Quantiles::of(&late[1])),
            seconds,
            cpu_us: us_of(spent.total_ns),
            cpu_us_by_thread: spent.by_name.iter().map(|(name, ns)| (name.clone(), us_of(*ns))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::flags::tests::bench;
    use crate::process::TempDir;

    #[test]
    fn what_is_due_steadily_is_due_evenly_and_a_slow_attempt_gets_twice_the_time() {
        let second = Duration::from_secs(1);
        for (index, of, expected) in
            [(0, 1_000_000, 0), (999, 1_000_000, 0), (1_000, 1_000_000, 1), (3, 4, 750), (0, 0, 0)]
        {
            assert_eq!(Plan::due_ms(index, of, second), expected, "{index} of {of}");
        }
        let plan = Plan { jobs: 10 * JOBS_FILL_RATE_MIN, within: second, others: 0 };
        assert_eq!(plan.lead(0), JOBS_LEAD + Duration::from_secs(10));
        assert_eq!(plan.lead(2), plan.lead(0) * 4);
    }

    #[test]
    fn early_is_never_taken_for_on_time() {
        let mut seen = Seen::new();
        for (due_ms, now_us) in [(10, 10_000), (10, 12_500), (10, 9_999)] {
            seen.came_out(false, due_ms, now_us);
        }
        seen.came_out(true, 10, 10_001);
        assert_eq!((seen.early, seen.jobs(), seen.late[1].len()), (1, 4, 1));
        assert_eq!((seen.late[0].min(), seen.late[0].max() / 10), (0, 250));
    }

    #[test]
    fn steady_jobs_all_come_out_and_the_last_one_not_before_its_time() {
        let dir = TempDir::new().expect("a directory");
        let bench = bench("--due-rate 1000 --due-for 300ms --size 20");
        let (late, _) = steady(&dir.path, &bench).expect("steady jobs");
        assert_eq!((late.jobs, late.of_others), (300, None));
        assert!(late.seconds >= 0.299 && late.of_jobs.max_ms >= late.of_jobs.p50_ms, "{late:?}");
    }
}

//! Adds jobs over many connections, and judges what came of them.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use testkit::http::Connection;
use testkit::progress::say;
use testkit::wait;

use super::request;
use crate::handoff::stage::Stage;

/// Jobs to be added.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub jobs: usize,
    pub connections: usize,
    /// The first is due so long after the first is added, the last so much later.
    pub first: Duration,
    pub spread: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self { jobs: 1_000, connections: 16, first: Duration::from_secs(1), spread: Duration::from_secs(1) }
    }
}

impl Plan {
    /// When one is due: in no order, the third that is added may be due first.
    pub fn due_ms(&self, at: usize, begin_ms: i64) -> i64 {
        let share = (at * 7_919 % self.jobs) as f64 / self.jobs as f64;
        begin_ms + (self.spread.as_millis() as f64 * share) as i64
    }
}

/// What has to become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Fires,
    /// Deleted, and the answer was 200.
    Deleted,
    /// Its add had no answer.
    Unknown,
}

/// A job that was answered 201, unless its fate is unknown; then it has no id, and when it is due is not known either.
#[derive(Clone, Debug)]
pub struct Added {
    pub id: String,
    pub value: String,
    pub key: String,
    pub due_ms: i64,
    pub fate: Fate,
}

/// How long after the last is due everything is there.
const FIRED_WITHIN: Duration = Duration::from_secs(60);
/// Violations that are shown.
const SHOWN_MAX: usize = 10;

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Adds them all, each connection one after the other; `round` tells one load's values from another's.
pub fn add_all(stage: &Stage<'_>, round: usize, plan: &Plan) -> Result<Vec<Added>> {
    let begin_ms = now_ms() + plan.first.as_millis() as i64;
    let base = &stage.gateways[0].publish;
    let add = |connection: usize| -> Result<Vec<Added>> {
        let mut wire = Connection::open(base)?;
        let mut added = Vec::new();
        for at in (connection..plan.jobs).step_by(plan.connections) {
            let delay_ms = (plan.due_ms(at, begin_ms) - now_ms()).max(0);
            let (value, key) = (format!("job {round} {at}"), format!("k{}", at % 64));
            let asked = request(stage, "POST", &format!("?delay={delay_ms}ms&key={key}")).body(value.clone());
            let answer = wire.call(&asked)?.expect(201)?.json()?;
            let id = answer["id"].as_str().with_context(|| format!("no id in {answer}"))?.to_owned();
            // What it was promised for is what the gateway says.
            let due: String = answer["due"].as_str().unwrap_or_default().to_owned();
            added.push(Added { id, value, key, due_ms: epoch_ms(&due)?, fate: Fate::Fires });
        }
        Ok(added)
    };
    let threads: Result<Vec<Vec<Added>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.connections).map(|connection| scope.spawn(move || add(connection))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("who adds jobs panicked"))?).collect()
    });
    Ok(threads?.concat())
}

/// RFC 3339 in UTC, as the gateway writes it.
pub fn epoch_ms(text: &str) -> Result<i64> {
    let time: jiff::Timestamp = text.parse().with_context(|| format!("{text:?} is no time"))?;
    Ok(time.as_millisecond())
}

/// Waits until everything that must be is in the topic, and looks at all of it.
pub fn judge(what: &str, stage: &Stage<'_>, added: &[Added]) -> Result<()> {
    let wanted = added.iter().filter(|job| job.fate == Fate::Fires).count();
    let last_ms = added.iter().map(|job| job.due_ms).max().unwrap_or(0);
    let until_due = Duration::from_millis(u64::try_from(last_ms - now_ms()).unwrap_or(0));
    let records = wait::until("all jobs to be in the topic", until_due + FIRED_WITHIN, || {
        let mut records = stage.records()?;
        records.retain(|record| record.text().starts_with("job "));
        let there: std::collections::HashSet<String> = records.iter().map(|record| record.text()).collect();
        ensure!(there.len() >= wanted, "{} of {wanted} are there", there.len());
        Ok(records)
    })
    .with_context(|| stage.logs())?;
    let jobs: HashMap<&str, &Added> = added.iter().map(|job| (job.value.as_str(), job)).collect();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut violations = Vec::new();
    let mut lateness: Vec<i64> = Vec::new();
    let mut last_of_key: HashMap<String, i64> = HashMap::new();
    let mut doubled = 0;
    for record in &records {
        let value = record.text();
        let Some(job) = jobs.get(value.as_str()) else { bail!("{value:?} was never answered 201") };
        let count = seen.entry(value.clone()).or_default();
        *count += 1;
        if *count > 1 {
            doubled += 1;
            continue;
        }
        let header = |name: &str| {
            let value = record.headers.iter().find(|(is, _)| is == name).and_then(|(_, value)| value.clone());
            value.map(|value| String::from_utf8_lossy(&value).into_owned()).unwrap_or_default()
        };
        let told = Added { id: header("gafka-job-id"), due_ms: header("gafka-due-ms").parse()?, ..(*job).clone() };
        let job = if job.fate == Fate::Unknown { &told } else { *job };
        // The record's own time is when it was given to Kafka.
        let late_ms = record.timestamp_ms - job.due_ms;
        lateness.push(late_ms);
        if late_ms < 0 {
            violations.push(format!("{value}: {} ms early", -late_ms));
        }
        if job.fate == Fate::Deleted {
            violations.push(format!("{value}: deleted, answered 200, and fired"));
        }
        if (&told.id, told.due_ms) != (&job.id, job.due_ms) {
            violations.push(format!("{value}: its headers say {:?}, it is {job:?}", record.headers));
        }
        let key = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        if key != job.key {
            violations.push(format!("{value}: its key is {key}, not {}", job.key));
        }
        let last = last_of_key.entry(job.key.clone()).or_insert(i64::MIN);
        if late_ms < 1_000 && job.due_ms < *last {
            violations.push(format!("{value}: behind one of its key that was due later"));
        }
        *last = job.due_ms.max(*last);
    }
    for job in added.iter().filter(|job| job.fate == Fate::Fires && !seen.contains_key(&job.value)) {
        violations.push(format!("{}: lost; answered 201, is not there", job.value));
    }
    lateness.sort_unstable();
    let percentile = |per_cent: usize| lateness.get(lateness.len() * per_cent / 100).copied().unwrap_or(0);
    say(&format!(
        "  {what}: {} added, {} fired, {doubled} twice, {} violations; late p50 {} ms, p99 {} ms, max {} ms",
        added.len(),
        seen.len(),
        violations.len(),
        percentile(50),
        percentile(99),
        lateness.last().unwrap_or(&0)
    ));
    let shown = violations.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("\n");
    ensure!(violations.is_empty(), "{} violations:\n{shown}\n{}", violations.len(), stage.logs());
    ensure!(doubled == 0, "{doubled} are there twice\n{}", stage.logs());
    Ok(())
}

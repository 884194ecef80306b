//! Jobs that are added many at a time, in each framing and with each kind of receipt.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::http::{Connection, Request};

use super::load::{Added, Fate, Plan, epoch_ms, now_ms};
use super::request;
use crate::handoff::stage::Stage;

const NDJSON: &str = "application/x-ndjson";
const RECORDS: &str = "application/vnd.gafka.records";
const BINARY_RECEIPTS: &str = "application/vnd.gafka.receipts";
const RECEIPT_BYTES: usize = 14;
/// Between the chunks of a stream, so that it is killed in its middle.
const STREAM_PAUSE: Duration = Duration::from_millis(2);

/// How jobs are written, and how their receipts are read.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// NDJSON, with `delay` and `due` in turn.
    Lines,
    /// The binary framing with receipts as lines.
    Records,
    /// The binary framing with binary receipts.
    RecordsAndReceipts,
}

pub const FORMS: [Form; 3] = [Form::Lines, Form::Records, Form::RecordsAndReceipts];

/// A job before it has an id.
struct Meant {
    value: String,
    key: String,
    due_ms: i64,
}

/// Adds what is planned, so many with each request, one request after the other.
pub fn add_batches(stage: &Stage<'_>, round: usize, plan: &Plan, of_each: usize, form: Form) -> Result<Vec<Added>> {
    let begin_ms = now_ms() + plan.first.as_millis() as i64;
    let mut wire = Connection::open(&stage.gateways[0].publish)?;
    let mut added = Vec::new();
    let meant: Vec<Meant> = (0..plan.jobs).map(|at| Meant::of(round, at, plan, begin_ms)).collect();
    for jobs in meant.chunks(of_each) {
        let mut body = Vec::new();
        jobs.iter().enumerate().for_each(|(at, job)| job.write(form, at, &mut body));
        let accept = if matches!(form, Form::RecordsAndReceipts) { BINARY_RECEIPTS } else { NDJSON };
        let asked = batch(stage, "").header("Content-Type", form.content_type()).header("Accept", accept).body(body);
        let answer = wire.call(&asked)?.expect(200)?;
        ensure!(answer.header("X-Failed") == Some("0"), "{form:?}: {}", answer.text());
        match form {
            Form::RecordsAndReceipts => {
                ensure!(answer.body.len() == jobs.len() * RECEIPT_BYTES, "{} bytes", answer.body.len());
                for (receipt, job) in answer.body.chunks(RECEIPT_BYTES).zip(jobs) {
                    ensure!(receipt[..6] == [0, 201, 255, 255, 255, 255], "{receipt:?}");
                    let id = i64::from_be_bytes(receipt[6..].try_into()?);
                    added.push(job.added(id.to_string(), job.due_ms));
                }
            }
            Form::Lines | Form::Records => {
                let text = answer.text();
                ensure!(text.lines().count() == jobs.len(), "{} lines of {}", text.lines().count(), jobs.len());
                for (line, job) in text.lines().zip(jobs) {
                    added.push(job.told(line)?);
                }
            }
        }
    }
    Ok(added)
}

/// Streams jobs and has the gateway killed in the middle, once so many receipts have come. What had its receipt is kept, of
/// all others nobody knows.
pub fn add_until_killed(stage: &mut Stage<'_>, round: usize, plan: &Plan, receipts_min: usize) -> Result<Vec<Added>> {
    let begin_ms = now_ms() + plan.first.as_millis() as i64;
    let meant: Vec<Meant> = (0..plan.jobs).map(|at| Meant::of(round, at, plan, begin_ms)).collect();
    let head = batch(stage, "?stream=1").header("Content-Type", NDJSON).chunked(1);
    let address = stage.gateways[0].publish.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).with_context(|| address.clone())?;
    stream.write_all(&head.head_bytes())?;
    let mut sending = stream.try_clone()?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut seen = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let meant = &meant;
        scope.spawn(move || {
            for jobs in meant.chunks(100) {
                let mut lines = Vec::new();
                jobs.iter().enumerate().for_each(|(at, job)| job.write(Form::Lines, at, &mut lines));
                let chunk = [format!("{:x}\r\n", lines.len()).as_bytes(), &lines, b"\r\n"].concat();
                // Until nobody is there any more.
                if sending.write_all(&chunk).is_err() {
                    return;
                }
                std::thread::sleep(STREAM_PAUSE);
            }
        });
        let mut piece = [0; 4096];
        while receipts(&seen).len() < receipts_min {
            let count = stream.read(&mut piece)?;
            ensure!(count > 0, "the gateway closed: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..count]);
        }
        stage.gateway().kill9();
        // What it had sent before counts, too.
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            seen.extend_from_slice(&piece[..count]);
        }
        Ok(())
    })?;
    let told = receipts(&seen);
    ensure!(told.len() < meant.len(), "all {} were answered before the kill", meant.len());
    let known = told.iter().zip(&meant).map(|(line, job)| job.told(line)).collect::<Result<Vec<Added>>>()?;
    let unknown = meant[told.len()..].iter().map(|job| Added { fate: Fate::Unknown, ..job.added(String::new(), 0) });
    Ok(known.into_iter().chain(unknown).collect())
}

/// Whole receipts in what came over the wire; chunks end with lines.
fn receipts(seen: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(seen);
    let whole = text.split_inclusive('\n').filter(|line| line.starts_with("{\"status\":201,") && line.ends_with("}\n"));
    whole.map(str::to_owned).collect()
}

fn batch(stage: &Stage<'_>, query: &str) -> Request {
    request(stage, "POST", &format!("/batch{query}"))
}

impl Form {
    fn content_type(self) -> &'static str {
        match self {
            Form::Lines => NDJSON,
            Form::Records | Form::RecordsAndReceipts => RECORDS,
        }
    }
}

impl Meant {
    fn of(round: usize, at: usize, plan: &Plan, begin_ms: i64) -> Meant {
        let due_ms = plan.due_ms(at, begin_ms);
        Meant { value: format!("job {round} {at}"), key: format!("k{}", at % 64), due_ms }
    }

    fn write(&self, form: Form, at: usize, body: &mut Vec<u8>) {
        let Meant { value, key, due_ms } = self;
        match form {
            Form::Lines => {
                let delay_ms = (due_ms - now_ms()).max(0);
                let when = match at % 3 {
                    0 => format!("\"delay\":\"{delay_ms}ms\""),
                    1 => format!("\"due\":{}", (due_ms + 999) / 1_000),
                    _ => format!("\"due\":\"{}\"", shown(*due_ms)),
                };
                body.extend_from_slice(format!("{{\"value\":\"{value}\",\"key\":\"{key}\",{when}}}\n").as_bytes());
            }
            Form::Records | Form::RecordsAndReceipts => {
                // A due time and a key.
                let mut record = vec![16 | 8];
                record.extend(due_ms.to_be_bytes());
                record.extend((key.len() as u32).to_be_bytes());
                record.extend_from_slice(key.as_bytes());
                record.extend(0_u16.to_be_bytes());
                record.extend_from_slice(value.as_bytes());
                body.extend((record.len() as u32).to_be_bytes());
                body.extend(record);
            }
        }
    }

    fn added(&self, id: String, due_ms: i64) -> Added {
        Added { id, value: self.value.clone(), key: self.key.clone(), due_ms, fate: Fate::Fires }
    }

    /// What a receipt says of it: when it is due is what the gateway says.
    fn told(&self, line: &str) -> Result<Added> {
        let receipt: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(receipt["status"] == 201, "{line}");
        let text = |name: &str| receipt[name].as_str().with_context(|| format!("no {name} in {line}"));
        Ok(self.added(text("id")?.to_owned(), epoch_ms(text("due")?)?))
    }
}

fn shown(due_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(due_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

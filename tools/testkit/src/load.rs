//! Bounded publishers that write down every answer.
//!
//! Closed loop on purpose: order per connection can only be judged when a request leaves after the last answer. For
//! rates and latencies use `kbench`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::gateway::Tenant;
use crate::http::{Connection, Response};
use crate::ledger::{Entry, Ledger, Outcome};
use crate::limits::RECONNECT_WITHIN;
use crate::wait;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    pub connections: u32,
    /// Keys each connection cycles through; 0 publishes without key.
    pub keys_per_connection: u64,
    pub value_bytes: usize,
    /// Pause after each answer, so that faults and not the machine's size decide the outcome.
    pub pause: Duration,
    /// Requests per connection at most; the load ends by itself.
    pub requests_max: u64,
    /// How long each request asks the gateway to try.
    pub timeout: &'static str,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            connections: 8,
            keys_per_connection: 4,
            value_bytes: 200,
            pause: Duration::from_millis(2),
            requests_max: 50_000,
            timeout: "15s",
        }
    }
}

/// Publishers at work.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    stored: Arc<AtomicU64>,
    publishers: Vec<JoinHandle<Result<Vec<Entry>>>>,
}

impl Load {
    /// Starts publishing to the topic of `tenant` behind `base`. A publisher whose gateway is gone ends quietly after
    /// [`RECONNECT_WITHIN`]; the request that was cut off is in the ledger as unknown.
    pub fn start(&self, base: &str, tenant: &Tenant) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let stored = Arc::new(AtomicU64::new(0));
        let publishers = (0..self.connections)
            .map(|connection| {
                let publisher = Publisher {
                    load: self.clone(),
                    base: base.to_owned(),
                    tenant: tenant.clone(),
                    connection,
                    stop: Arc::clone(&stop),
                    stored: Arc::clone(&stored),
                };
                std::thread::spawn(move || publisher.run())
            })
            .collect();
        Running { stop, stored, publishers }
    }
}

impl Running {
    /// How many were answered 201 so far.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Waits until `more` than now were stored: proof that the gateway serves at this point of a test.
    pub fn wait_for_more(&self, more: u64, within: Duration) -> Result<()> {
        let wanted = self.stored() + more;
        wait::until(&format!("{more} more stored messages"), within, || {
            let stored = self.stored();
            if stored < wanted { bail!("{stored} of {wanted}") } else { Ok(()) }
        })
    }

    /// Lets every publisher finish its request and collects the ledger.
    pub fn stop(self) -> Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::default();
        for publisher in self.publishers {
            ledger.entries.extend(publisher.join().map_err(|_| anyhow!("a publisher panicked"))??);
        }
        Ok(ledger)
    }
}

struct Publisher {
    load: Load,
    base: String,
    tenant: Tenant,
    connection: u32,
    stop: Arc<AtomicBool>,
    stored: Arc<AtomicU64>,
}

impl Publisher {
    fn run(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let Some(mut wire) = self.connect() else { bail!("no connection to {} at all", self.base) };
        for sequence in 0..self.load.requests_max {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let key = (self.load.keys_per_connection > 0)
                .then(|| format!("c{}k{}", self.connection, sequence % self.load.keys_per_connection));
            let value = self.value(sequence);
            let mut query = format!("?timeout={}", self.load.timeout);
            if let Some(key) = &key {
                query.push_str(&format!("&key={key}"));
            }
            let answer = wire.call(&self.tenant.publish(&query).body(value.clone()));
            let broken = answer.is_err();
            let outcome = outcome_of(answer)?;
            self.stored.fetch_add(u64::from(matches!(outcome, Outcome::Stored { .. })), Ordering::Relaxed);
            let pause = match outcome {
                Outcome::Stored { .. } => self.load.pause,
                _ => Duration::from_millis(50),
            };
            let key = key.map(String::into_bytes);
            entries.push(Entry { connection: self.connection, sequence, key, value, outcome });
            if broken {
                let Some(again) = self.connect() else { break };
                wire = again;
            }
            std::thread::sleep(pause);
        }
        Ok(entries)
    }

    fn value(&self, sequence: u64) -> Vec<u8> {
        let mut value = format!("connection {} request {sequence} ", self.connection).into_bytes();
        value.resize(value.len().max(self.load.value_bytes), b'.');
        value
    }

    fn connect(&self) -> Option<Connection> {
        let deadline = Instant::now() + RECONNECT_WITHIN;
        while !self.stop.load(Ordering::Relaxed) && Instant::now() < deadline {
            if let Ok(wire) = Connection::open(&self.base) {
                return Some(wire);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

/// The contract: 201 stored, 504 unknown, everything else nothing stored; no answer is unknown as well.
fn outcome_of(answer: Result<Response>) -> Result<Outcome> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(err) => return Ok(Outcome::Unknown { why: format!("{err:#}") }),
    };
    match answer.status {
        201 => {
            let body = answer.json()?;
            let number = |name: &str| body[name].as_i64().with_context(|| format!("no {name} in a 201: {body}"));
            let partition = i32::try_from(number("partition")?)?;
            Ok(Outcome::Stored { partition, offset: number("offset")? })
        }
        504 => Ok(Outcome::Unknown { why: answer.text() }),
        status => Ok(Outcome::Refused { status }),
    }
}

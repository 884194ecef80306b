//! Bounded publishers that write down every answer.
//!
//! Closed loop on purpose: order per connection can only be judged when a request leaves after the last answer. For
//! rates and latencies use `kbench`.
//!
//! Reading order: here (what to send, what came of it), [`style`] (how a message or a batch is asked for, and what
//! its answer means), `publisher` (one connection that goes on through faults, from gateway to gateway).

mod publisher;
pub mod style;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use self::publisher::Publisher;
use self::style::{Framing, Style};
use crate::gateway::Tenant;
use crate::ledger::{Entry, Ledger};
use crate::limits::PUBLISHER_STACK_BYTES;
use crate::wait;

/// What to send, on how many connections of each kind.
#[derive(Clone, Debug)]
pub struct Load {
    /// Connections that publish one message a request, with keys.
    pub keyed: u32,
    /// The same without key.
    pub keyless: u32,
    /// Connections that publish batches as NDJSON, with NDJSON receipts.
    pub ndjson: u32,
    /// Connections that publish batches as `application/vnd.gafka.records`, with binary receipts.
    pub binary: u32,
    /// Connections that publish batches with `stream=1`, as NDJSON.
    pub streams: u32,
    /// Keys each connection cycles through.
    pub keys_per_connection: u64,
    pub records_per_batch: usize,
    /// Of one message; longer when its unique beginning is.
    pub value_bytes: usize,
    /// Pause after each answer, so that faults and not the machine's size decide the outcome.
    pub pause: Duration,
    /// Requests per connection at most; the load ends by itself.
    pub requests_max: u64,
    /// How long each request asks the gateway to try.
    pub timeout: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            keyed: 8,
            keyless: 0,
            ndjson: 0,
            binary: 0,
            streams: 0,
            keys_per_connection: 4,
            records_per_batch: 10,
            value_bytes: 200,
            pause: Duration::from_millis(2),
            requests_max: 50_000,
            timeout: Duration::from_secs(15),
        }
    }
}

/// Publishers at work.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    publishers: Vec<JoinHandle<Result<Written>>>,
}

/// Records so far, by outcome.
#[derive(Debug, Default)]
struct Counts {
    stored: AtomicU64,
    handed_off: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
}

/// What all publishers wrote down.
#[derive(Debug, Default)]
pub struct Written {
    pub ledger: Ledger,
    pub answers: Answers,
}

/// How the gateway behaved, beside what it stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Answers by status; a batch counts once.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests whose connection broke, or that were given up, before the answer was complete.
    pub broken: u64,
    /// Answers 429 and 503 that did not say when to try again.
    pub without_retry_after: u64,
    /// From the first byte sent to the last byte of an answer, or to giving it up.
    pub slowest: Duration,
    /// When a message was answered 202 for the first time.
    pub first_handed_off: Option<Instant>,
    /// What some of those said that neither stored nor handed off a message; for whoever reads why.
    pub refusals: BTreeSet<String>,
}

/// Refusals that are kept, and how much of each.
const REFUSALS_MAX: usize = 5;
const REFUSAL_CHARS_MAX: usize = 300;

impl fmt::Display for Answers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answers { statuses, broken, without_retry_after, slowest, .. } = self;
        let slowest_s = slowest.as_secs_f64();
        write!(
            out,
            "by status {statuses:?}, {broken} broken off, {without_retry_after} without Retry-After, slowest {slowest_s:.1} s"
        )
    }
}

impl Answers {
    /// Keeps what an answer says, from there on where it says that something was refused.
    fn note_refusal(&mut self, status: u16, text: &str) {
        let at = match status {
            200..300 => text.find("\"status\":503"),
            504 => None,
            _ => Some(0),
        };
        if let Some(at) = at.filter(|_| self.refusals.len() < REFUSALS_MAX) {
            self.refusals.insert(text[at..].chars().take(REFUSAL_CHARS_MAX).collect());
        }
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.broken += other.broken;
        self.without_retry_after += other.without_retry_after;
        self.slowest = self.slowest.max(other.slowest);
        let firsts = [self.first_handed_off, other.first_handed_off];
        self.first_handed_off = firsts.into_iter().flatten().min();
        self.refusals.extend(other.refusals.into_iter().take(REFUSALS_MAX));
    }
}

impl Load {
    /// Number of connections.
    pub fn connections(&self) -> u32 {
        self.keyed + self.keyless + self.ndjson + self.binary + self.streams
    }

    /// Starts publishing to the topic of `tenant` through the gateways at `bases`: connection n begins at the n-th,
    /// and goes to the next one when its own is gone. A publisher that finds no gateway for
    /// [`RECONNECT_WITHIN`](crate::limits::RECONNECT_WITHIN) ends quietly; a request that was cut off is in the
    /// ledger as unknown.
    pub fn start(&self, bases: &[&str], tenant: &Tenant) -> Running {
        assert!(!bases.is_empty(), "somewhere to publish to");
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let publishers = (0..self.connections())
            .map(|connection| {
                let publisher = Publisher {
                    load: self.clone(),
                    style: self.style_of(connection),
                    bases: bases.iter().map(|base| (*base).to_owned()).collect(),
                    tenant: tenant.clone(),
                    connection,
                    stop: Arc::clone(&stop),
                    counts: Arc::clone(&counts),
                };
                let thread = std::thread::Builder::new().stack_size(PUBLISHER_STACK_BYTES);
                thread.spawn(move || publisher.run()).expect("a machine that can start brokers can start a thread")
            })
            .collect();
        Running { stop, counts, publishers }
    }

    fn style_of(&self, connection: u32) -> Style {
        let kinds = [
            (self.keyed, Style::Single { keyed: true }),
            (self.keyless, Style::Single { keyed: false }),
            (self.ndjson, Style::Batch(Framing::Ndjson)),
            (self.binary, Style::Batch(Framing::Binary)),
            (self.streams, Style::Stream),
        ];
        let mut first = 0;
        for (count, style) in kinds {
            first += count;
            if connection < first {
                return style;
            }
        }
        unreachable!("connection {connection} of {first}")
    }
}

impl Running {
    /// Records answered 201 so far.
    pub fn stored(&self) -> u64 {
        self.counts.stored.load(Ordering::Relaxed)
    }

    /// Records answered 202 so far.
    pub fn handed_off(&self) -> u64 {
        self.counts.handed_off.load(Ordering::Relaxed)
    }

    /// Records refused so far: answered with neither 201, 202 nor 504.
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Records of which nobody knows so far.
    pub fn unknown(&self) -> u64 {
        self.counts.unknown.load(Ordering::Relaxed)
    }

    /// Waits until `more` than now were stored: proof that the gateway serves at this point of a test.
    pub fn wait_for_more(&self, more: u64, within: Duration) -> Result<()> {
        let before = (self.stored(), self.refused(), self.unknown());
        wait::until(&format!("{more} more stored messages"), within, || {
            let since = self.stored() - before.0;
            if since < more {
                let (refused, unknown) = (self.refused() - before.1, self.unknown() - before.2);
                bail!("{since} stored, {refused} refused, {unknown} unknown")
            }
            Ok(())
        })
    }

    /// Waits until `more` than now were handed off.
    pub fn wait_for_more_handed_off(&self, more: u64, within: Duration) -> Result<()> {
        let (before, stored) = (self.handed_off(), self.stored());
        wait::until(&format!("{more} more messages handed off"), within, || {
            let since = self.handed_off() - before;
            if since < more {
                bail!("{since} handed off, {} stored", self.stored() - stored)
            }
            Ok(())
        })
    }

    /// Lets every publisher finish its request and collects what they wrote down.
    pub fn stop(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for publisher in self.publishers {
            let one = publisher.join().map_err(|_| anyhow!("a publisher panicked"))?.context("a publisher")?;
            all.ledger.entries.extend(one.ledger.entries);
            all.answers.add(one.answers);
        }
        Ok(all)
    }
}

impl Counts {
    fn add(&self, entry: &Entry) {
        use crate::ledger::Outcome;
        let count = match entry.outcome {
            Outcome::Stored { .. } => &self.stored,
            Outcome::HandedOff { .. } => &self.handed_off,
            Outcome::Refused { .. } => &self.refused,
            Outcome::Unknown { .. } => &self.unknown,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_dealt_to_the_kinds_in_order() {
        let load = Load { keyed: 1, keyless: 2, ndjson: 0, binary: 1, streams: 1, ..Load::default() };
        let dealt: Vec<Style> = (0..load.connections()).map(|connection| load.style_of(connection)).collect();
        let keyless = Style::Single { keyed: false };
        assert_eq!(
            dealt,
            [Style::Single { keyed: true }, keyless, keyless, Style::Batch(Framing::Binary), Style::Stream]
        );
    }
}

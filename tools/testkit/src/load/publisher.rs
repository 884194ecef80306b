//! One connection that publishes, request after answer, and goes on through whatever happens to the gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::style::{Draft, Style};
use super::{Answers, Counts, Load, Written};
use crate::gateway::Tenant;
use crate::http::{Connection, Response};
use crate::ledger::{Entry, Outcome};
use crate::limits::{ANSWER_SLACK_MAX, RECONNECT_WITHIN, REFUSED_PAUSE};

pub(super) struct Publisher {
    pub load: Load,
    pub style: Style,
    pub bases: Vec<String>,
    pub tenant: Tenant,
    pub connection: u32,
    pub stop: Arc<AtomicBool>,
    pub counts: Arc<Counts>,
}

impl Publisher {
    pub fn run(&self) -> Result<Written> {
        let mut written = Written::default();
        // Not all at once: a pause is shared out among the connections.
        std::thread::sleep(self.load.pause * self.connection / self.load.connections());
        let mut base = self.connection as usize;
        let Some(mut wire) = self.connect(&mut base) else { bail!("no connection to {:?} at all", self.bases) };
        let mut sequence = 0;
        for _ in 0..self.load.requests_max {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let drafts = self.style.draft(&self.load, self.connection, sequence);
            let request = self.style.request(&self.tenant, &drafts, self.load.timeout);
            let started = Instant::now();
            let answer = wire.call(&request);
            let took = started.elapsed();
            let is_over = note(&answer, took, &mut written.answers);
            let outcomes = self.style.outcomes(answer, drafts.len()).context("an answer against the contract")?;
            let all_accepted = outcomes.iter().all(Outcome::is_accepted);
            if outcomes.iter().any(|outcome| matches!(outcome, Outcome::HandedOff { .. })) {
                written.answers.first_handed_off.get_or_insert_with(Instant::now);
            }
            for (Draft { key, value }, outcome) in drafts.into_iter().zip(outcomes) {
                let entry = Entry { connection: self.connection, sequence, key, value, outcome };
                self.counts.add(&entry);
                written.ledger.entries.push(entry);
                sequence += 1;
            }
            if is_over {
                let Some(again) = self.connect(&mut base) else { break };
                wire = again;
            }
            std::thread::sleep(if all_accepted { self.load.pause } else { self.load.pause.max(REFUSED_PAUSE) });
        }
        Ok(written)
    }

    /// Connects where it was, else to the next gateway, and so on.
    fn connect(&self, base: &mut usize) -> Option<Connection> {
        let deadline = Instant::now() + RECONNECT_WITHIN;
        while !self.stop.load(Ordering::Relaxed) && Instant::now() < deadline {
            for _ in 0..self.bases.len() {
                let address = &self.bases[*base % self.bases.len()];
                if let Ok(wire) = Connection::open_within(address, self.load.timeout + ANSWER_SLACK_MAX) {
                    return Some(wire);
                }
                *base += 1;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

/// Counts an answer; true when the connection cannot be used after it.
fn note(answer: &Result<Response>, took: Duration, answers: &mut Answers) -> bool {
    answers.slowest = answers.slowest.max(took);
    let Ok(answer) = answer else {
        answers.broken += 1;
        return true;
    };
    *answers.statuses.entry(answer.status).or_default() += 1;
    answers.note_refusal(answer.status, &answer.text());
    let says_when = answer.header("retry-after").is_some();
    answers.without_retry_after += u64::from(matches!(answer.status, 429 | 503) && !says_when);
    answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

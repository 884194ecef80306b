//! What a run found, added up over threads.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cpu::Spent;
use crate::limits::{ERROR_KINDS_MAX, LATENCY_US_MAX};
use crate::receipts::Stored;

/// Counted inside the measured window only.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub requests: u64,
    /// Stored, or received.
    pub messages: u64,
    /// Messages of batches whose receipt says that they were not stored.
    pub failed: u64,
    pub bytes: u64,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: BTreeMap<String, u64>,
    /// Due in an open loop but never sent, or sent and never answered.
    pub unanswered: u64,
    /// Microseconds.
    pub latency: Histogram<u64>,
    /// Open loop: microseconds from the time a request was due to the time the client saw that. When this is large,
    /// the client had too little CPU, and latency says as much about it as about the server.
    pub client_late: Histogram<u64>,
    /// Open loop: microseconds from the time a request was sent. What `latency` has beyond it was spent in the client,
    /// or waiting for an idle connection.
    pub from_sent: Histogram<u64>,
}

impl Outcome {
    pub fn new() -> Outcome {
        Outcome {
            requests: 0,
            messages: 0,
            failed: 0,
            bytes: 0,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            unanswered: 0,
            latency: histogram(),
            client_late: histogram(),
            from_sent: histogram(),
        }
    }

    pub fn answered(&mut self, status: u16, stored: Stored, bytes: usize, latency: Duration) {
        self.requests += 1;
        self.messages += stored.stored;
        self.failed += stored.failed;
        self.bytes += bytes as u64;
        *self.statuses.entry(status).or_default() += 1;
        self.latency.saturating_record(us(latency));
    }

    pub fn client_late(&mut self, late: Duration) {
        self.client_late.saturating_record(us(late));
    }

    pub fn since_sent(&mut self, since: Duration) {
        self.from_sent.saturating_record(us(since));
    }

    pub fn failed(&mut self, why: &str) {
        let known = self.errors.contains_key(why) || self.errors.len() < ERROR_KINDS_MAX;
        let why = if known { why } else { "other errors" };
        *self.errors.entry(why.to_owned()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Outcome) {
        self.requests += other.requests;
        self.messages += other.messages;
        self.failed += other.failed;
        self.bytes += other.bytes;
        self.unanswered += other.unanswered;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (why, count) in &other.errors {
            *self.errors.entry(why.clone()).or_default() += count;
        }
        self.latency.add(&other.latency).expect("same bounds");
        self.client_late.add(&other.client_late).expect("same bounds");
        self.from_sent.add(&other.from_sent).expect("same bounds");
    }
}

/// For latencies.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("valid bounds")
}

pub fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The numbers of a run, for reports and comparisons.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub seconds: f64,
    pub requests: u64,
    pub requests_per_second: f64,
    pub messages: u64,
    /// Messages of batches that were not stored.
    pub failed: u64,
    pub messages_per_second: f64,
    pub mebibytes_per_second: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: BTreeMap<String, u64>,
    pub unanswered: u64,
    /// Open loop only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenFigures>,
    /// CPUs' worth of time that others used meanwhile; above 0.2 the numbers are of little use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_cores: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuFigures>,
}

/// What of an open loop's latency is the client's own.
#[derive(Debug, Clone, Serialize)]
pub struct OpenFigures {
    /// From due to noticed.
    pub client_late_p50_us: u64,
    pub client_late_p99_us: u64,
    pub client_late_p999_us: u64,
    pub client_late_max_us: u64,
    /// From sent to answered: hides what waited.
    pub from_sent_p50_us: u64,
    pub from_sent_p99_us: u64,
    pub from_sent_p999_us: u64,
}

/// CPU time of the measured process over the window.
#[derive(Debug, Clone, Serialize)]
pub struct CpuFigures {
    /// 1.0 is one CPU fully used.
    pub cores: f64,
    pub us_per_request: f64,
    pub us_per_message: f64,
    /// By thread name.
    pub us_per_request_by_thread: BTreeMap<String, f64>,
}

impl Figures {
    /// CPU time of the measured process per request in µs, 0 when no process was measured.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_ref().map_or(0.0, |cpu| cpu.us_per_request)
    }

    pub fn of(outcome: &Outcome, window: Duration, spent: Option<&Spent>) -> Figures {
        let seconds = window.as_secs_f64();
        let per = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let us = |ns: u64, count: u64| if count > 0 { ns as f64 / 1e3 / count as f64 } else { 0.0 };
        Figures {
            seconds,
            requests: outcome.requests,
            requests_per_second: per(outcome.requests),
            messages: outcome.messages,
            failed: outcome.failed,
            messages_per_second: per(outcome.messages),
            mebibytes_per_second: per(outcome.bytes) / f64::from(1 << 20),
            p50_us: outcome.latency.value_at_quantile(0.5),
            p99_us: outcome.latency.value_at_quantile(0.99),
            p999_us: outcome.latency.value_at_quantile(0.999),
            max_us: outcome.latency.max(),
            statuses: outcome.statuses.clone(),
            errors: outcome.errors.clone(),
            unanswered: outcome.unanswered,
            open: (!outcome.client_late.is_empty()).then(|| OpenFigures {
                client_late_p50_us: outcome.client_late.value_at_quantile(0.5),
                client_late_p99_us: outcome.client_late.value_at_quantile(0.99),
                client_late_p999_us: outcome.client_late.value_at_quantile(0.999),
                client_late_max_us: outcome.client_late.max(),
                from_sent_p50_us: outcome.from_sent.value_at_quantile(0.5),
                from_sent_p99_us: outcome.from_sent.value_at_quantile(0.99),
                from_sent_p999_us: outcome.from_sent.value_at_quantile(0.999),
            }),
            foreign_cores: None,
            cpu: spent.map(|spent| CpuFigures {
                cores: spent.total_ns as f64 / 1e9 / seconds,
                us_per_request: us(spent.total_ns, outcome.requests),
                us_per_message: us(spent.total_ns, outcome.messages),
                us_per_request_by_thread: spent
                    .by_name
                    .iter()
                    .map(|(name, ns)| (name.clone(), us(*ns, outcome.requests)))
                    .collect(),
            }),
        }
    }

    pub fn all_good(&self) -> bool {
        let clean = self.errors.is_empty() && self.failed == 0;
        self.requests > 0 && clean && self.statuses.keys().all(|status| (200..300).contains(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_errors_are_told_apart_up_to_a_limit() {
        let (mut one, mut two) = (Outcome::new(), Outcome::new());
        one.answered(201, Stored { stored: 10, failed: 0 }, 100, Duration::from_micros(100));
        two.answered(201, Stored { stored: 10, failed: 1 }, 100, Duration::from_micros(300));
        two.answered(503, Stored::default(), 50, Duration::from_secs(10_000));
        for kind in 0..50 {
            two.failed(&format!("error {kind}"));
        }
        one.add(&two);
        let spent = Spent { total_ns: 30_000, by_name: [("shard-0".to_owned(), 30_000)].into() };
        let figures = Figures::of(&one, Duration::from_secs(2), Some(&spent));
        assert_eq!((figures.requests, figures.messages, figures.failed), (3, 20, 1));
        assert_eq!(figures.messages_per_second, 10.0);
        assert_eq!(figures.statuses, BTreeMap::from([(201, 2), (503, 1)]));
        assert_eq!(figures.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(figures.errors["other errors"], 30);
        assert_eq!(figures.p50_us, 300);
        assert!(figures.max_us >= LATENCY_US_MAX, "beyond the limit counts as the limit");
        let cpu = figures.cpu.as_ref().expect("measured");
        assert_eq!((cpu.us_per_request, cpu.us_per_message), (10.0, 1.5));
        assert!(!figures.all_good());
    }
}

//! How a process stands to its tenants, for `/readyz` and `/metrics`.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::{Agent, Part, Status};

/// Why whoever serves these tenants should get no traffic: nobody could tell it of revocations for longer than
/// `stale_after`.
pub fn stale(agent: &Agent, stale_after: Duration) -> Option<String> {
    let stale = agent.staleness(Instant::now());
    (stale > stale_after).then(|| {
        format!(
            "whether a secret or a grant was revoked is not known for {} s, the limit is {} s (tenants.stale_after)",
            stale.as_secs(),
            stale_after.as_secs()
        )
    })
}

/// Prometheus text.
pub fn metrics(agent: &Agent) -> String {
    let Status { generation, part, unwritten, consumers, audit, .. } = agent.status();
    let snapshot = agent.snapshot();
    let gauges = [
        (
            "tenants_staleness_seconds",
            "Since it was last known that no newer generation of the tenants exists.",
            agent.staleness(Instant::now()).as_secs_f64(),
        ),
        ("tenants_generation", "Number of the generation in force, in its history.", generation.number as f64),
        ("tenants_apps", "Apps in force.", snapshot.app_count() as f64),
        ("tenants_topics", "Topic versions in force.", snapshot.topic_count() as f64),
        ("tenants_grants", "Grants in force.", snapshot.grant_count() as f64),
        (
            "tenants_snapshot_owner",
            "1: this process writes the snapshot of its data directory.",
            f64::from(u8::from(part == Part::Owner)),
        ),
        (
            "tenants_snapshot_unwritten_seconds",
            "Since when the snapshot on disk is older than what is in force; 0: it is not.",
            unwritten.map_or(0.0, |(_, since)| since.elapsed().as_secs_f64()),
        ),
        ("tenants_snapshot_consumers", "Processes that use this one's result.", consumers.len() as f64),
        ("tenants_audit_waiting", "Events of Kafka clients that are not in the audit log yet.", audit.waiting as f64),
    ];
    let mut text = String::new();
    for (name, help, value) in gauges {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    }
    let (name, help) = ("tenants_audit_dropped_total", "Events of Kafka clients that will not be in the audit log.");
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}\n", audit.dropped);
    text
}

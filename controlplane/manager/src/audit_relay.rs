//! The audit log in a Kafka topic, for who keeps it longer than the database does, or wants to hear of changes at once.
//!
//! ```text
//! AuthDb::audit_after(position) ──► a page of rows ──► Kafka, all at once ──► acknowledged, in order ──► position
//! ```
//! Every row arrives, the oldest first, at least once: the position moves over what Kafka has acknowledged without a gap,
//! and is kept in a file. What is sent again has the same `history` and `num`. After a failure the page is waited for to
//! its end before it is sent again, so a row is behind those before it at least once. In another history, or without its
//! file, the position is the beginning.
//!
//! No change waits for it. The topic is the operator's to make; while it is not there, or Kafka is away, rows wait in the
//! database (`authdb::limits::AUDIT_ROWS_MAX` of them).

mod position;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use authdb::{AuditFilter, AuditRow, AuthDb, AuthDbError};
use kafka_admin::{KafkaAdmin, NewRecord, ProduceError};
use model::ids::{ClusterName, HistoryId, PhysicalTopic};
use model::principals::Visible;
use serde_json::json;

use crate::limits::{RELAY_COMPLAINS_EVERY, RELAY_EVERY, RELAY_PAUSE_MAX, RELAY_ROWS_MAX, RELAY_WITHIN};
use position::Position;

/// What the relay works with.
pub struct AuditRelay {
    pub db: Arc<dyn AuthDb>,
    pub cluster: ClusterName,
    /// Of that cluster.
    pub kafka: KafkaAdmin,
    pub topic: PhysicalTopic,
    /// Where the position is kept.
    pub position_path: PathBuf,
    /// Of the processes of one database, the one that relays.
    pub is_ours: Box<dyn Fn() -> bool + Send + Sync>,
    pub progress: Arc<RelayProgress>,
}

/// How far the relay has come.
#[derive(Debug, Default)]
pub struct RelayProgress {
    lag: AtomicU64,
    rows: AtomicU64,
    errors: AtomicU64,
}

impl RelayProgress {
    /// Prometheus text.
    pub fn metrics(&self) -> String {
        let rows = [
            (
                "audit_relay_lag",
                "gauge",
                "Rows of the audit log that are not in its topic yet; 0 where another process relays them.",
                &self.lag,
            ),
            ("audit_relay_rows_total", "counter", "Rows of the audit log that Kafka has acknowledged.", &self.rows),
            (
                "audit_relay_errors_total",
                "counter",
                "Times that rows could not be relayed and are tried again.",
                &self.errors,
            ),
        ];
        let shown = rows.map(|(name, kind, help, value)| {
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}\n", value.load(Relaxed))
        });
        shown.concat()
    }
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("audit log cannot be read: {0}")]
    Database(#[from] AuthDbError),
    #[error("the topic does not exist in the cluster; it is not made by us: make it, with the retention you need")]
    NoTopic,
    #[error("Kafka has not acknowledged row {num}: {err}")]
    Kafka { num: u64, err: ProduceError },
    #[error("position cannot be written, a restart would repeat rows: {0}")]
    Position(std::io::Error),
}

impl AuditRelay {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut position = None;
        let mut trouble = Trouble::default();
        loop {
            if !(self.is_ours)() {
                position = None;
                self.progress.lag.store(0, Relaxed);
                tokio::time::sleep(RELAY_EVERY).await;
                continue;
            }
            match self.relay_page(&mut position).await {
                Ok(goes_on) => {
                    trouble.is_over(&self);
                    if !goes_on {
                        tokio::time::sleep(RELAY_EVERY).await;
                    }
                }
                Err(err) => tokio::time::sleep(trouble.tell(&self, &err)).await,
            }
        }
    }

    /// True: there may be more at once.
    async fn relay_page(&self, known: &mut Option<Position>) -> Result<bool, RelayError> {
        let history = self.db.generation().await?.history;
        let position = match known {
            Some(position) if position.history == history => position,
            _ => known.insert(self.kept_position(history).await),
        };
        let rows = self.db.audit_after(position.num, RELAY_ROWS_MAX).await?;
        let newest = self.db.audit(&AuditFilter::default(), &Visible::All, 1).await?.first().map_or(0, |row| row.num);
        if self.db.generation().await?.history != history {
            return Ok(true); // restored just now: these rows may be of either
        }
        if newest < position.num {
            tracing::warn!(
                position = position.num,
                newest,
                "audit log is older than what was relayed, relaying all of it"
            );
            position.num = 0;
            return Ok(true);
        }
        if let Some(first) = rows.first()
            && position.num > 0
            && first.num > position.num + 1
        {
            let (after, before) = (position.num, first.num);
            tracing::error!(after, before, "rows of the audit log were removed before they could be relayed");
        }
        self.progress.lag.store(newest - position.num, Relaxed);
        let before = position.num;
        let sent = self.send(&rows, position, newest).await;
        if position.num > before {
            let (path, position) = (self.position_path.clone(), position.clone());
            let written = tokio::task::spawn_blocking(move || position.write(&path)).await.expect("it does not panic");
            sent.and(written.map_err(RelayError::Position))?;
        } else {
            sent?;
        }
        Ok(rows.len() == RELAY_ROWS_MAX)
    }

    /// All rows at once; the position follows what is acknowledged without a gap.
    async fn send(&self, rows: &[AuditRow], position: &mut Position, newest: u64) -> Result<(), RelayError> {
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in rows {
            let record = record(position.history, row);
            outcomes.push((row.num, self.kafka.produce(self.topic.as_str(), record, RELAY_WITHIN).await));
        }
        let mut sent = Ok(());
        for (num, outcome) in outcomes {
            match outcome.await {
                Ok(_) if sent.is_ok() => {
                    position.num = num;
                    self.progress.rows.fetch_add(1, Relaxed);
                    self.progress.lag.store(newest - num, Relaxed);
                }
                // Of those behind a failure none counts, and none is left on its way.
                Err(ProduceError::TopicUnknown) => sent = sent.and(Err(RelayError::NoTopic)),
                Err(err) => sent = sent.and(Err(RelayError::Kafka { num, err })),
                Ok(_) => {}
            }
        }
        sent
    }

    fn place(&self) -> String {
        format!("{}/{}", self.cluster, self.topic)
    }

    async fn kept_position(&self, history: HistoryId) -> Position {
        let (path, beginning) = (self.position_path.clone(), Position { topic: self.place(), history, num: 0 });
        let read = tokio::task::spawn_blocking(move || Position::read(&path)).await.expect("it does not panic");
        let topic = &beginning.topic;
        match read {
            Ok(Some(kept)) if kept.topic == *topic && kept.history == history => {
                tracing::info!(topic, after = kept.num, "audit log is relayed on from where it was");
                return kept;
            }
            Ok(Some(kept)) => {
                let (of_topic, of_history) = (kept.topic, kept.history);
                tracing::info!(topic, %history, of_topic, %of_history, "position is of another log, relaying all of it");
            }
            Ok(None) => tracing::info!(topic, "audit log is relayed from its beginning"),
            Err(err) => tracing::warn!(topic, %err, "position cannot be read, relaying all of the audit log"),
        }
        beginning
    }
}

fn record(history: HistoryId, row: &AuditRow) -> NewRecord {
    let value = json!({
        "history": history,
        "num": row.num,
        "at": row.at_ms,
        "actor": row.actor,
        "request_id": row.request_id,
        "operation": row.operation,
        "outcome": row.outcome.as_str(),
        "app": row.app,
        "subject": row.subject,
        "before": row.before,
        "after": row.after,
        "cascades": row.cascades,
        "generation": row.generation.map(|generation| generation.to_string()),
    });
    // An empty key keeps what is about no app in order, too.
    NewRecord { key: Some(row.app.clone().into_bytes()), value: value.to_string().into_bytes(), headers: Vec::new() }
}

/// What keeps the relay from going on: told once, and again now and then.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    told_at: Option<Instant>,
    pause: Duration,
}

impl Trouble {
    /// How long to wait before the next try.
    fn tell(&mut self, relay: &AuditRelay, err: &RelayError) -> Duration {
        let now = Instant::now();
        self.since.get_or_insert(now);
        relay.progress.errors.fetch_add(1, Relaxed);
        if self.told_at.is_none_or(|at| now.duration_since(at) >= RELAY_COMPLAINS_EVERY) {
            self.told_at = Some(now);
            let (topic, lag) = (relay.place(), relay.progress.lag.load(Relaxed));
            tracing::warn!(topic, lag, %err, "audit log cannot be relayed, trying on");
        }
        self.pause = (2 * self.pause).clamp(RELAY_EVERY, RELAY_PAUSE_MAX);
        self.pause
    }

    fn is_over(&mut self, relay: &AuditRelay) {
        if let Some(since) = std::mem::take(self).since {
            let (topic, seconds) = (relay.place(), since.elapsed().as_secs());
            tracing::info!(topic, seconds, "audit log is relayed again");
        }
    }
}

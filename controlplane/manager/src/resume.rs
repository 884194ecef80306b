//! Goes on with what a process that died, or a Kafka that was away, left half done.
//!
//! A topic version that is `deleting` is deleted in Kafka and then forgotten. One that is `creating` for longer than a
//! request takes is made if Kafka had said that its name was free, and forgotten otherwise: Kafka was never told to make
//! it. Every step can be done again, by another process at the same time, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use authdb::{TopicRow, TopicState};
use kafka_admin::AdminError;
use model::naming::physical_topic;

use crate::endpoints::create_topic::kafka_topic;
use crate::limits::{RESUME_EVERY, RESUME_PAUSE_MAX};
use crate::{ManagerState, Shared};

/// Runs until it is dropped.
pub(crate) async fn run(state: Shared) {
    let mut pauses: BTreeMap<u32, Pause> = BTreeMap::new();
    loop {
        tokio::time::sleep(RESUME_EVERY).await;
        let rows = match state.db.unfinished_topics().await {
            Ok(rows) => rows,
            // Whoever changes something is told; there is nothing to go on with.
            Err(err) => {
                tracing::debug!(%err, "unfinished topics cannot be asked for");
                continue;
            }
        };
        pauses.retain(|index, _| rows.iter().any(|row| row.doc.index == *index));
        for row in rows {
            let pause = pauses.entry(row.doc.index).or_default();
            if pause.is_over() {
                let topic = physical_topic(&row.doc.owner, &row.doc.name, &row.doc.ver);
                match one(&state, &row).await {
                    Ok(true) => tracing::info!(topic, was = row.state.as_str(), "unfinished topic is finished"),
                    Ok(false) => {}
                    Err(why) => {
                        tracing::warn!(topic, is = row.state.as_str(), why, "topic cannot be finished yet, trying on");
                        pause.grow();
                    }
                }
            }
        }
    }
}

/// Rounds to sit out; doubled by every failure.
#[derive(Default)]
struct Pause {
    rounds: u32,
    left: u32,
}

impl Pause {
    fn is_over(&mut self) -> bool {
        let is_over = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_over
    }

    fn grow(&mut self) {
        let rounds_max = (RESUME_PAUSE_MAX.as_millis() / RESUME_EVERY.as_millis()) as u32;
        self.rounds = (2 * self.rounds).clamp(1, rounds_max);
        self.left = self.rounds;
    }
}

/// One row to its end. `false`: not yet, somebody may be at it.
async fn one(state: &Arc<ManagerState>, row: &TopicRow) -> Result<bool, String> {
    let admin = state.cluster(&row.doc.cluster).map_err(|err| err.message)?;
    let physical = physical_topic(&row.doc.owner, &row.doc.name, &row.doc.ver);
    let in_db = |err: authdb::AuthDbError| err.to_string();
    match row.state {
        TopicState::Deleting => {
            match admin.delete_topic(&physical).await {
                Ok(()) | Err(AdminError::NoSuchTopic { .. }) => {}
                Err(err) => return Err(err.to_string()),
            }
            state.db.delete_topic(&row.doc.owner, &row.doc.name, &row.doc.ver, true).await.map_err(in_db)?;
        }
        TopicState::Creating if age(row) < state.resume_after => return Ok(false),
        TopicState::Creating if row.was_free => {
            let topic = kafka_topic(&row.doc, row.doc.replicas.unwrap_or(1));
            match admin.create_topic(&topic).await {
                Ok(()) | Err(AdminError::AlreadyExists { .. }) => {}
                Err(err) => return Err(err.to_string()),
            }
            state.db.activate_topic(&row.doc, row.doc.partitions, row.doc.replicas).await.map_err(in_db)?;
        }
        TopicState::Creating => state.db.abandon_topic(&row.doc).await.map_err(in_db)?,
        TopicState::Active | TopicState::Disabled => return Ok(false),
    }
    state.bring_into_force().await;
    Ok(true)
}

fn age(row: &TopicRow) -> Duration {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    Duration::from_millis(now_ms.saturating_sub(row.created_at_ms).max(0) as u64)
}

//! The manager's questions about handed-off messages, answered by the gateway's journal.
//!
//! What touches the disk runs on tokio's blocking threads; the gateway's store is asked under its own lock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use disk::Device;
use gateway::Handoff as Store;
use gateway::handoff::{Change, DomainStatus, ParkedRow, ReceiptId, State, StreamId};
use journal::queue::{Name, Receipt as Found};
use manager::handoff::{
    Adopted, Answer, Domain, DomainState, Handoff, HandoffError, HandoffStatus, Parked, ParkedFilter, Receipt,
    ReceiptState,
};
use manager::parked::{Done, Page, Parking, Selection};
use model::ids::{AppId, ClusterName, PhysicalTopic};
use registry::node_dir;

/// See the module.
pub struct Desk {
    store: Arc<Store>,
    data_dir: PathBuf,
    dir: PathBuf,
    enabled: bool,
}

/// The first bytes of a key that are shown.
const KEY_BYTES_SHOWN: usize = 64;

impl Desk {
    /// `dir`: the journal's.
    pub fn new(store: Arc<Store>, data_dir: PathBuf, dir: PathBuf, enabled: bool) -> Desk {
        Desk { store, data_dir, dir, enabled }
    }

    fn free_bytes(&self) -> u64 {
        disk::space_of(&self.dir).map_or(0, |space| space.free_bytes)
    }

    fn rows(&self, filter: &ParkedFilter, after: Option<(StreamId, u64)>, rows_max: usize) -> Vec<ParkedRow> {
        // What is not an id of ours is nobody's: such a stream is not shown.
        let wanted = |name: &Name, reason: &journal::queue::Reason| {
            let Some((cluster, topic, app)) = parts(name) else { return false };
            filter.apps.includes(app.as_str())
                && filter.cluster.as_ref().is_none_or(|wanted| *wanted == cluster)
                && filter.topic.as_ref().is_none_or(|wanted| *wanted == topic)
                && filter.reason.as_ref().is_none_or(|wanted| **wanted == *reason.code)
        };
        self.store.parked(&wanted, after, rows_max)
    }

    /// What a selection names here, at most so many, and whether there is more.
    fn select(
        &self,
        selected: &Selection<ParkedFilter>,
        records_max: usize,
    ) -> Result<(Vec<(StreamId, u64)>, bool), HandoffError> {
        match selected {
            Selection::Ids { apps, ids } => {
                let mut found = Vec::new();
                for text in ids {
                    let id = ReceiptId::parse(text).ok_or_else(|| HandoffError::BadReceipt { id: text.clone() })?;
                    if apps.includes(&id.app) && self.store.issuer().is_genuine(&id) {
                        found.push((id.stream, id.sequence));
                    }
                }
                let more = found.len() > records_max;
                found.truncate(records_max);
                Ok((found, more))
            }
            Selection::Matching(filter) => {
                let mut rows = self.rows(filter, None, records_max + 1);
                let more = rows.len() > records_max;
                rows.truncate(records_max);
                Ok((rows.iter().map(|row| (row.stream, row.sequence)).collect(), more))
            }
        }
    }

    async fn change(
        &self,
        change: Change,
        selected: &Selection<ParkedFilter>,
        records_max: usize,
    ) -> Result<Done, HandoffError> {
        let (which, more) = self.select(selected, records_max)?;
        let store = Arc::clone(&self.store);
        let changed = blocking(move || store.change_durably(change, &which)).await?;
        let count = changed.map_err(|refused| HandoffError::Journal { why: refused.to_string() })?;
        Ok(Done { count, more })
    }

    fn shown(&self, row: &ParkedRow) -> Option<Parked> {
        let (cluster, topic, app) = parts(&row.name)?;
        let key_start = self.store.key_of(row).map(|mut key| {
            key.truncate(KEY_BYTES_SHOWN);
            key
        });
        Some(Parked {
            receipt: self.store.issuer().issue(app.as_str(), row.stream, row.sequence),
            app,
            cluster,
            topic,
            partition: row.name.lane,
            accepted_at_ms: row.accepted_ms,
            parked_at_ms: row.parked_ms,
            bytes: row.bytes,
            reason: row.reason.code.to_string(),
            why: row.reason.sentence.to_string(),
            key_start,
        })
    }
}

impl Parking for Desk {
    type Filter = ParkedFilter;
    type Row = Parked;
    type Error = HandoffError;

    fn parked<'a>(
        &'a self,
        filter: &'a ParkedFilter,
        after: Option<&'a str>,
        rows_max: usize,
    ) -> Answer<'a, Page<Parked>> {
        Box::pin(async move {
            let after = after.map(|text| cursor(text).ok_or(HandoffError::BadCursor)).transpose()?;
            let rows = self.rows(filter, after, rows_max + 1);
            let page = Page::cut(rows, rows_max, |last| format!("{}-{}", last.stream.0, last.sequence));
            // A few reads of pages that are most likely in the cache; a page is short.
            Ok(page.map(|row| self.shown(&row)))
        })
    }

    fn replay<'a>(&'a self, selected: &'a Selection<ParkedFilter>, count_max: usize) -> Answer<'a, Done> {
        Box::pin(self.change(Change::Replay, selected, count_max))
    }

    fn discard<'a>(&'a self, selected: &'a Selection<ParkedFilter>, count_max: usize) -> Answer<'a, Done> {
        Box::pin(self.change(Change::Drop, selected, count_max))
    }
}

impl Handoff for Desk {
    fn status(&self) -> Answer<'_, HandoffStatus> {
        Box::pin(async move {
            let status = self.store.status(Instant::now());
            let device = match self.store.device() {
                Device::Mapped => "mmap",
                Device::Direct => "direct",
                Device::Plain => "plain",
            };
            Ok(HandoffStatus {
                node: self.store.issuer().node().to_owned(),
                enabled: self.enabled,
                device: device.to_owned(),
                disk_bytes: self.store.disk_bytes(),
                budget_bytes: self.store.budget().bytes_max,
                free_bytes: self.free_bytes(),
                records: status.records,
                bytes: status.bytes,
                parked_records: status.parked,
                oldest_at_ms: status.oldest_ms,
                domains: status.domains.iter().filter_map(domain).collect(),
            })
        })
    }

    fn adopt<'a>(&'a self, from: &'a str) -> Answer<'a, Adopted> {
        Box::pin(async move {
            let (store, data_dir, from) = (Arc::clone(&self.store), self.data_dir.clone(), from.to_owned());
            blocking(move || {
                let claimed = node_dir::claim_dead(&data_dir, &from).map_err(|err| match err {
                    node_dir::NodeDirError::NoSuchNode { .. } => HandoffError::NoSuchNode { node: from.clone() },
                    err => HandoffError::Journal { why: err.to_string() },
                })?;
                let claimed = claimed.ok_or_else(|| HandoffError::NodeLives { node: from.clone() })?;
                let adopted = store.adopt(&claimed.path.join(node_dir::JOURNAL), &from);
                let adopted = adopted.map_err(|err| HandoffError::Journal { why: err.to_string() })?;
                tracing::info!(
                    from,
                    records = adopted.records,
                    bytes = adopted.bytes,
                    "a dead node's messages were adopted"
                );
                Ok(Adopted { records: adopted.records, bytes: adopted.bytes })
            })
            .await?
        })
    }

    fn receipt<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Receipt>> {
        Box::pin(async move {
            let id = ReceiptId::parse(id).ok_or_else(|| HandoffError::BadReceipt { id: id.to_owned() })?;
            let state = match self.store.receipt(&id) {
                Some(Found::Pending) => ReceiptState::Pending,
                Some(Found::Delivered { partition, offset }) => ReceiptState::Delivered { partition, offset },
                Some(Found::Parked { reason }) => ReceiptState::Parked { reason: reason.code.to_string() },
                Some(Found::Dropped | Found::Adopted | Found::Unknown) | None => return Ok(None),
            };
            let app = AppId::new(&id.app).map_err(|_| HandoffError::BadReceipt { id: id.app.clone() })?;
            Ok(Some(Receipt { app, state }))
        })
    }
}

/// Does something that waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, HandoffError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| HandoffError::Ending)
}

/// Cluster, topic and app of a stream's name.
fn parts(name: &Name) -> Option<(ClusterName, PhysicalTopic, AppId)> {
    let (cluster, topic) = name.subject.split_once('/')?;
    Some((ClusterName::new(cluster).ok()?, PhysicalTopic::new(topic).ok()?, AppId::new(&name.account).ok()?))
}

fn domain(status: &DomainStatus) -> Option<Domain> {
    let (cluster, topic, app) = parts(&status.name)?;
    Some(Domain {
        cluster,
        topic,
        partition: status.name.lane,
        app,
        state: match status.state {
            State::Buffering => DomainState::Buffering,
            State::Draining => DomainState::Draining,
            State::Gate { .. } => DomainState::Gate,
        },
        since_ms: status.since_ms,
        records: status.records,
        bytes: status.bytes,
        why: status.why.to_string(),
        drain_bytes_per_s: status.drain_bytes_per_s,
        left_s: status.left_s(),
    })
}

/// Where a page ended.
fn cursor(text: &str) -> Option<(StreamId, u64)> {
    let (stream, sequence) = text.split_once('-')?;
    Some((StreamId(stream.parse().ok()?), sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_two_numbers() {
        assert_eq!(cursor("3-17"), Some((StreamId(3), 17)));
        for bad in ["", "3", "3-", "-1", "x-1", "3-1-2", "4294967296-0"] {
            assert_eq!(cursor(bad), None, "{bad}");
        }
    }
}

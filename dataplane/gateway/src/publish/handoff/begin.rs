//! Before the first message of a stream is sent: what an earlier process sent and did not note is looked for, and where sending
//! begins is noted.
//!
//! ```text
//!   new ──▶ looking: where do the partitions end, and what of ours is behind where sending began ──▶ noting ──▶ sending
//! ```
//!
//! Each message goes to Kafka with its id in a header, [`MSG_ID_HEADER`]. The journal knows from which offsets on messages of a
//! stream may stand that have no end there: noted durably before the first one is sent, raised by every answer. So after a kill
//! only what was under way is read again, and a message that is found is delivered, with its offset, and not sent again.
//!
//! It may be sent twice where nobody can look: no right to read the topic, a partition without a leader when sending began, a
//! journal that does not take the note.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use journal::queue::{Name, StreamId};
use journal::receipt_id::ReceiptId;
use kafka_client::{Found, Search, Since, TopicIdx};
use kafka_wire::handoff_entry::MSG_ID_HEADER;

use super::domains::BY_KEY;
use super::store::Store;
use crate::kafka::cluster::Cluster;
use crate::kafka::searches::SearchKey;

/// A journal that does not take the note in this time is not waited for: a disk that fails must not hold what Kafka would take.
const NOTING_PATIENCE: Duration = Duration::from_secs(5);

/// How far one stream is.
#[derive(Default)]
pub struct Begin {
    stage: Stage,
    /// Messages that Kafka has: partition and offset.
    found: HashMap<u64, (i32, i64)>,
}

#[derive(Default, Clone, Copy)]
enum Stage {
    #[default]
    New,
    Looking {
        search: SearchKey,
        /// An earlier process sent something.
        is_in_doubt: bool,
    },
    Noting {
        until: Instant,
    },
    Sending,
}

impl Begin {
    /// Whether messages of the stream may be sent; one step towards it.
    pub fn may_send(
        &mut self,
        cluster: &Cluster,
        topic: TopicIdx,
        store: &Store,
        (stream, name): (StreamId, &Name),
        now: Instant,
    ) -> bool {
        match self.stage {
            Stage::Sending => return true,
            Stage::New => {
                let sent = store.sent(stream);
                let is_in_doubt = !sent.is_empty();
                let since = if is_in_doubt { Since::Offsets(sent) } else { Since::Nothing };
                let partition = (name.lane != BY_KEY).then_some(name.lane);
                let physical = name.subject.split_once('/').map_or(&*name.subject, |(_, physical)| physical);
                let search = cluster.search(Search::new(topic, physical, partition, since, MSG_ID_HEADER));
                self.stage = Stage::Looking { search, is_in_doubt };
            }
            Stage::Looking { search, is_in_doubt } => {
                let look = cluster.look_at(search);
                look.found.iter().for_each(|found| self.note_found(store, stream, found));
                match look.ended {
                    None => {
                        if let Some(why) = look.last_error {
                            store.stalled(name, &why.into());
                        }
                    }
                    Some(Ok(ends)) => {
                        if is_in_doubt {
                            let (subject, found) = (&*name.subject, self.found.len());
                            tracing::info!(
                                subject,
                                found,
                                "messages were under way when the last process ended: Kafka has these, and gets the others now"
                            );
                        }
                        store.begin_sending(stream, ends);
                        self.stage = Stage::Noting { until: now + NOTING_PATIENCE };
                    }
                    Some(Err(err)) => {
                        if is_in_doubt {
                            let subject = &*name.subject;
                            tracing::warn!(
                                subject,
                                %err,
                                "nobody can tell which messages Kafka has that were under way when the last process ended: they \
                                 are sent, perhaps again"
                            );
                        }
                        self.stage = Stage::Sending;
                    }
                }
            }
            Stage::Noting { until } => {
                if store.is_sending_noted(stream) || now >= until {
                    self.stage = Stage::Sending;
                }
            }
        }
        matches!(self.stage, Stage::Sending)
    }

    /// Whether Kafka may have messages of which it is not known here.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.stage, Stage::Looking { is_in_doubt: true, .. })
    }

    fn note_found(&mut self, store: &Store, stream: StreamId, found: &Found) {
        let text = found.header(MSG_ID_HEADER).and_then(|id| std::str::from_utf8(id).ok());
        let is_ours = |id: &ReceiptId| id.stream == stream && store.issuer().is_genuine(id);
        if let Some(id) = text.and_then(ReceiptId::parse).filter(is_ours) {
            self.found.entry(id.sequence).or_insert((found.partition, found.offset));
        }
    }

    /// Where Kafka has this message, if it was found there. Asked once.
    pub fn take_found(&mut self, number: u64) -> Option<(i32, i64)> {
        if self.found.is_empty() {
            return None;
        }
        self.found.remove(&number)
    }

    /// Nothing of the stream is under way, and nothing will be before it begins anew.
    pub fn end(&mut self, cluster: Option<&Cluster>, store: &Store, stream: StreamId) {
        match (std::mem::take(&mut self.stage), cluster) {
            (Stage::Looking { search, .. }, Some(cluster)) => cluster.cancel_search(search),
            (Stage::Noting { .. } | Stage::Sending, _) => store.begin_sending(stream, BTreeMap::new()),
            (Stage::New | Stage::Looking { .. }, _) => {}
        }
    }

    /// When it is to be looked at without any event.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Noting { until } => Some(until),
            Stage::New | Stage::Looking { .. } | Stage::Sending => None,
        }
    }
}

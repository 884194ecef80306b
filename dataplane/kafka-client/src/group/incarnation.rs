//! Which making of the topic the group's positions belong to.
//!
//! A topic that is deleted and made again keeps its name and loses its records: offset 20 of the old one means nothing in
//! the new one, though the new one may have an offset 20. What tells them apart is the topic id (KIP-516, Kafka 2.8). It
//! goes into every fetch where brokers take it (version 13, Kafka 3.1), and into the text a commit carries, so that an
//! offset of the old topic is recognised by whoever reads it later, in this process or another.
//!
//! Without ids two things are seen: a leader epoch that goes back, and a topic that the cluster denied for so long that
//! it was believed to be gone. What cannot be seen there: a topic deleted and made again at once, under the same leader
//! epoch, and written beyond our position before the next fetch. Where the new log is still shorter, the position lies
//! outside of it and the group starts over where its reset says.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use kafka_wire::messages::fetch::TopicId;

use super::cluster::Cluster;
use super::limits::OLD_OFFSETS_DOUBTED;
use crate::{TopicIdx, TopicState};

const LABEL: &str = "gafka topic ";

#[derive(Debug, Default)]
pub(super) struct Incarnation {
    id: Option<TopicId>,
    /// The highest leader epochs seen.
    epochs: BTreeMap<i32, i32>,
    /// The cluster said so, and was believed.
    gone: bool,
    known: bool,
    /// Committed offsets that do not say which topic they are of are not believed before.
    doubted_until: Option<Instant>,
}

/// What a committed offset is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    Ours,
    /// Of another topic, as its label says or must be feared.
    Old,
    /// Of another topic than we know of, which may be the newer one.
    Other,
}

impl Incarnation {
    /// True when the topic is not the one it was.
    pub(super) fn is_anew(&mut self, topic: TopicIdx, cluster: &impl Cluster, now: Instant) -> bool {
        match cluster.topic_state(topic) {
            TopicState::Known => {}
            TopicState::Missing => {
                self.gone = true;
                return false;
            }
            TopicState::Pending | TopicState::Denied => return false,
        }
        self.known = true;
        let was_gone = std::mem::take(&mut self.gone);
        let id = cluster.topic_id(topic);
        let other_id = id.is_some() && self.id.is_some() && id != self.id;
        self.id = id.or(self.id);
        let mut went_back = false;
        for partition in 0..cluster.partition_count(topic).unwrap_or(0) {
            let Some(epoch) = cluster.leader_epoch(topic, partition) else { continue };
            let highest = self.epochs.entry(partition).or_insert(epoch);
            went_back |= epoch < *highest;
            *highest = epoch.max(*highest);
        }
        let anew = if id.is_some() { other_id } else { was_gone || went_back };
        if anew {
            self.epochs.clear();
            self.doubted_until = Some(now + OLD_OFFSETS_DOUBTED);
        }
        anew
    }

    /// The cluster told of the topic, now or before.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    pub(super) fn id(&self) -> Option<TopicId> {
        self.id
    }

    /// What goes with a committed offset.
    pub(super) fn label(&self) -> String {
        let mut label = String::new();
        if let Some(id) = self.id {
            label.push_str(LABEL);
            id.iter().for_each(|byte| write!(label, "{byte:02x}").expect("a String takes everything"));
        }
        label
    }

    pub(super) fn worth(&self, label: &str, now: Instant) -> Worth {
        let says_nothing = !label.starts_with(LABEL);
        match self.id {
            _ if says_nothing && self.doubted_until.is_some_and(|until| now < until) => Worth::Old,
            _ if says_nothing || label == self.label() => Worth::Ours,
            // A cluster that went back to a version without ids: its topics are the same.
            None if self.known => Worth::Ours,
            _ => Worth::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::group::testing::{Script, TOPIC};

    #[test]
    fn an_offset_that_says_nothing_is_doubted_for_a_minute_after_the_topic_was_made_again() {
        let mut cluster = Script::default();
        cluster.topics.insert(TOPIC.into(), 1);
        let topic = cluster.topic(TOPIC);
        let now = Instant::now();
        let mut incarnation = Incarnation::default();
        for (id, anew) in [(b'a', false), (b'a', false), (b'b', true)] {
            cluster.topic_id = Some([id; 16]);
            assert_eq!(incarnation.is_anew(topic, &cluster, now), anew);
        }
        for (after_ms, worth) in [(0, Worth::Old), (59_999, Worth::Old), (60_000, Worth::Ours)] {
            assert_eq!(incarnation.worth("", now + Duration::from_millis(after_ms)), worth, "{after_ms}");
        }
    }
}

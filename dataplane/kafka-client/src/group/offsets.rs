//! Positions of a group in its topic: fetched once after an assignment, committed while records are handed out.
//!
//! Per partition one number counts: the offset of the next record that was not delivered, below which everything was.
//! Only that watermark is committed, so a commit never covers a record somebody may still have to see.
//!
//! A commit says which topic it is of ([`super::incarnation`]). An offset that turns out to be of a topic of that name
//! that was deleted is no position in this one: the group begins at the beginning of the new topic.
//!
//! Invariants:
//! - At most one commit and one fetch of offsets are on their way.
//! - A watermark never moves back within one assignment.
//! - `committed` is what the coordinator confirmed in a commit, or told us; a late reply of an older generation changes
//!   nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_wire::cold::types::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::cold::types::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_wire::cold::types::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse};
use kafka_wire::cold::{RequestKind, ResponseKind, StrBytes};
use kafka_wire::error_code::ErrorCode;

use super::cluster::Cluster;
use super::coordinator::{Verdict, verdict};
use super::incarnation::{Incarnation, Worth};
use super::limits::{COORDINATOR_TIMEOUT, OTHER_TOPIC_WAIT};
use super::{GroupConfig, text};
use crate::backoff::Backoff;
use crate::rng::Rng;
use crate::{Lane, Request, RequestError, RequestToken, Response, Target};

/// What the member's owner must act on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Nothing,
    /// Where the group stands in these partitions; `None` where it never committed.
    Positions(Vec<(i32, Option<i64>)>),
    /// A commit was confirmed, so the coordinator still knows us.
    Confirmed,
    /// The coordinator refused the commit for a reason of the membership.
    Refused(ErrorCode),
}

#[derive(Debug, Default)]
struct Mark {
    /// Next offset not delivered; `None` until the position is known.
    delivered: Option<i64>,
    committed: Option<i64>,
}

/// As the coordinator tells it.
#[derive(Debug)]
struct Committed {
    offset: i64,
    /// The text committed with it.
    label: String,
}

#[derive(Debug)]
struct Commit {
    token: RequestToken,
    sent: Vec<(i32, i64)>,
}

#[derive(Debug)]
enum Lookup {
    /// Nothing to ask.
    Done,
    Due {
        at: Instant,
    },
    Sent {
        token: RequestToken,
    },
}

#[derive(Debug)]
pub(super) struct Offsets {
    group: String,
    topic: String,
    instance_id: Option<String>,
    interval: Duration,
    marks: BTreeMap<i32, Mark>,
    /// Partitions whose committed offset is still to be asked for.
    unknown: Vec<i32>,
    lookup: Lookup,
    /// Since when the coordinator tells offsets of another topic than we know.
    other_since: Option<Instant>,
    commit: Option<Commit>,
    /// When the next commit may leave, once something is dirty.
    commit_at: Option<Instant>,
    backoff: Backoff,
    rng: Rng,
}

impl Offsets {
    pub(super) fn new(config: &GroupConfig, seed: u64) -> Offsets {
        Offsets {
            group: config.group.clone(),
            topic: config.topic.clone(),
            instance_id: config.instance_id.clone(),
            interval: config.commit_interval,
            marks: BTreeMap::new(),
            unknown: Vec::new(),
            lookup: Lookup::Done,
            other_since: None,
            commit: None,
            commit_at: None,
            backoff: Backoff::default(),
            rng: Rng::new(seed),
        }
    }

    /// The new share: marks of partitions that stay are kept, the others are asked for, and returned.
    pub(super) fn assign(&mut self, partitions: &[i32], cluster: &mut impl Cluster, now: Instant) -> &[i32] {
        self.forget_requests(cluster); // of the generation before
        self.marks.retain(|partition, mark| partitions.contains(partition) && mark.delivered.is_some());
        self.unknown = partitions.iter().copied().filter(|partition| !self.marks.contains_key(partition)).collect();
        for partition in &self.unknown {
            self.marks.insert(*partition, Mark::default());
        }
        self.lookup = if self.unknown.is_empty() { Lookup::Done } else { Lookup::Due { at: now } };
        self.commit_at = self.dirty().then_some(now);
        &self.unknown
    }

    /// The topic is another one, with so many partitions: what was delivered and committed was of the old one.
    pub(super) fn begin_anew(&mut self, partition_count: i32, cluster: &mut impl Cluster, now: Instant) {
        self.forget_requests(cluster);
        self.unknown.clear();
        self.other_since = None;
        for (partition, mark) in &mut self.marks {
            let exists = *partition < partition_count;
            *mark = Mark { delivered: exists.then_some(0), committed: None };
        }
        self.commit_at = Some(now);
    }

    /// Nothing is ours any more.
    pub(super) fn clear(&mut self, cluster: &mut impl Cluster) {
        self.marks.clear();
        self.unknown.clear();
        self.other_since = None;
        self.commit_at = None;
        self.forget_requests(cluster);
    }

    fn forget_requests(&mut self, cluster: &mut impl Cluster) {
        if let Lookup::Sent { token } = self.lookup {
            cluster.cancel(token);
        }
        self.lookup = Lookup::Done;
        if let Some(commit) = self.commit.take() {
            cluster.cancel(commit.token);
        }
    }

    /// A reset found where the partition begins. It is committed too, so that a group that began with the newest record
    /// and left before one came finds everything written since.
    pub(super) fn started(&mut self, partition: i32, offset: i64, now: Instant) {
        if let Some(mark) = self.marks.get_mut(&partition) {
            mark.delivered = Some(offset);
            self.commit_at = Some(now);
        }
    }

    /// Everything below `next_offset` was delivered.
    pub(super) fn delivered(&mut self, partition: i32, next_offset: i64, now: Instant) {
        let Some(mark) = self.marks.get_mut(&partition) else { return };
        if mark.delivered.is_some_and(|delivered| delivered < next_offset) {
            mark.delivered = Some(next_offset);
            self.commit_at.get_or_insert(now + self.interval);
        }
    }

    /// The next commit leaves with the next tick.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.commit_at = Some(now);
    }

    /// Nothing to commit and nothing on its way.
    pub(super) fn settled(&self) -> bool {
        self.commit.is_none() && !self.dirty()
    }

    fn dirty(&self) -> bool {
        self.marks.values().any(|mark| mark.delivered.is_some() && mark.delivered != mark.committed)
    }

    /// Sends what is due, as `member` of `generation`.
    pub(super) fn tick(
        &mut self,
        member_id: &str,
        generation: i32,
        incarnation: &Incarnation,
        cluster: &mut impl Cluster,
        now: Instant,
    ) {
        if matches!(self.lookup, Lookup::Due { at } if at <= now) {
            self.look_up(cluster, now);
        }
        if self.commit.is_none() && self.commit_at.is_some_and(|at| at <= now) {
            self.commit_at = None;
            if self.dirty() {
                self.send_commit(member_id, generation, incarnation, cluster, now);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let lookup = match self.lookup {
            Lookup::Due { at } => Some(at),
            _ => None,
        };
        let commit = self.commit_at.filter(|_| self.commit.is_none());
        [lookup, commit].into_iter().flatten().min()
    }

    pub(super) fn owns(&self, token: RequestToken) -> bool {
        matches!(self.lookup, Lookup::Sent { token: sent } if sent == token)
            || self.commit.as_ref().is_some_and(|commit| commit.token == token)
    }

    /// `None` when the token is not ours.
    pub(super) fn on_reply(
        &mut self,
        token: RequestToken,
        result: &mut Option<Result<Response, RequestError>>,
        incarnation: &Incarnation,
        cluster: &mut impl Cluster,
        now: Instant,
    ) -> Option<Event> {
        if matches!(self.lookup, Lookup::Sent { token: sent } if sent == token) {
            let reply = result.take()?;
            return Some(self.looked_up(reply, incarnation, cluster, now));
        }
        if let Some(commit) = self.commit.take_if(|commit| commit.token == token) {
            let reply = result.take()?;
            return Some(self.committed(commit.sent, reply, now));
        }
        None
    }

    fn look_up(&mut self, cluster: &mut impl Cluster, now: Instant) {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(text(&self.topic).into())
            .with_partition_indexes(self.unknown.clone());
        // KIP-447: a transactional producer's commit that is still open must not be overlooked.
        let fetch = OffsetFetchRequest::default()
            .with_group_id(text(&self.group).into())
            .with_topics(Some(vec![topic]))
            .with_require_stable(true);
        let request = Request::Cold(RequestKind::OffsetFetch(fetch));
        let token = cluster.request(Target::Coordinator(&self.group), Lane::Control, request, COORDINATOR_TIMEOUT, now);
        self.lookup = Lookup::Sent { token };
    }

    fn looked_up(
        &mut self,
        reply: Result<Response, RequestError>,
        incarnation: &Incarnation,
        cluster: &mut impl Cluster,
        now: Instant,
    ) -> Event {
        let found = match reply {
            Ok(Response::Cold(ResponseKind::OffsetFetch(response))) => read_positions(response, &self.topic),
            Ok(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(_) => Err(ErrorCode::NOT_COORDINATOR),
        };
        let found = match found {
            Ok(found) => found,
            Err(code) => {
                tracing::info!(group = self.group, code = code.name(), "committed offsets not known yet");
                if verdict(code) == Verdict::Moved {
                    cluster.invalidate_coordinator(&self.group);
                }
                self.lookup = Lookup::Due { at: self.backoff.failed(now, &mut self.rng) };
                return Event::Nothing;
            }
        };
        let worth = |committed: &Committed| incarnation.worth(&committed.label, now);
        if found.values().any(|committed| committed.offset >= 0 && worth(committed) == Worth::Other) {
            // Before the topic is known, nothing can be said of it.
            let since = incarnation.is_known().then(|| *self.other_since.get_or_insert(now));
            if since.is_none_or(|since| now < since + OTHER_TOPIC_WAIT) {
                cluster.refresh_metadata(now);
                self.lookup = Lookup::Due { at: self.backoff.failed(now, &mut self.rng) };
                return Event::Nothing;
            }
        }
        self.other_since = None;
        self.backoff.succeeded();
        self.lookup = Lookup::Done;
        let mut positions = Vec::new();
        for partition in std::mem::take(&mut self.unknown) {
            let committed = found.get(&partition).filter(|committed| committed.offset >= 0);
            let is_ours = committed.is_none_or(|committed| worth(committed) == Worth::Ours);
            let offset = committed.map(|committed| if is_ours { committed.offset } else { 0 });
            if !is_ours {
                tracing::warn!(
                    group = self.group,
                    topic = self.topic,
                    partition,
                    ?committed,
                    "committed offset is of a deleted topic of that name, reading the new one from its beginning"
                );
                self.commit_at = Some(now);
            }
            if let Some(mark) = self.marks.get_mut(&partition) {
                mark.delivered = offset;
                mark.committed = offset.filter(|_| is_ours);
            }
            positions.push((partition, offset));
        }
        Event::Positions(positions)
    }

    fn send_commit(
        &mut self,
        member_id: &str,
        generation: i32,
        incarnation: &Incarnation,
        cluster: &mut impl Cluster,
        now: Instant,
    ) {
        let label = incarnation.label();
        let sent: Vec<(i32, i64)> = self
            .marks
            .iter()
            .filter(|(_, mark)| mark.delivered != mark.committed)
            .filter_map(|(partition, mark)| Some((*partition, mark.delivered?)))
            .collect();
        let partitions = sent
            .iter()
            .map(|(partition, offset)| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(*partition)
                    .with_committed_offset(*offset)
                    .with_committed_leader_epoch(-1)
                    .with_committed_metadata(Some(text(&label)))
            })
            .collect();
        let topic = OffsetCommitRequestTopic::default().with_name(text(&self.topic).into()).with_partitions(partitions);
        let commit = OffsetCommitRequest::default()
            .with_group_id(text(&self.group).into())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(member_id))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_topics(vec![topic]);
        let request = Request::Cold(RequestKind::OffsetCommit(commit));
        let token = cluster.request(Target::Coordinator(&self.group), Lane::Control, request, COORDINATOR_TIMEOUT, now);
        self.commit = Some(Commit { token, sent });
    }

    /// The group has committed in some partition of the topic, now or at any time before.
    pub fn has_committed(&self) -> bool {
        self.marks.values().any(|mark| mark.committed.is_some())
    }

    fn committed(&mut self, sent: Vec<(i32, i64)>, reply: Result<Response, RequestError>, now: Instant) -> Event {
        let codes = match reply {
            Ok(Response::Cold(ResponseKind::OffsetCommit(response))) => read_codes(response, &self.topic),
            _ => BTreeMap::new(),
        };
        let mut worst = ErrorCode::NONE;
        for (partition, offset) in sent {
            // A partition the coordinator says nothing about counts as not reached.
            let code = codes.get(&partition).copied().unwrap_or(ErrorCode::NOT_COORDINATOR);
            if code != ErrorCode::NONE {
                worst = code;
            } else if let Some(mark) = self.marks.get_mut(&partition) {
                mark.committed = Some(offset);
            }
        }
        if worst == ErrorCode::NONE {
            self.backoff.succeeded();
            debug_assert!(!self.dirty() || self.commit_at.is_some(), "what was delivered meanwhile has its time");
            return Event::Confirmed;
        }
        tracing::info!(group = self.group, topic = self.topic, code = worst.name(), "commit not taken");
        let retry_at = match verdict(worst) {
            Verdict::Fatal => now + super::limits::BACKOFF_BROKEN,
            _ => self.backoff.failed(now, &mut self.rng),
        };
        self.commit_at = Some(self.commit_at.map_or(retry_at, |at| at.max(retry_at)));
        Event::Refused(worst)
    }
}

/// Offsets by partition in either shape of the response; an error of the whole or of any partition fails all.
fn read_positions(response: OffsetFetchResponse, topic: &str) -> Result<BTreeMap<i32, Committed>, ErrorCode> {
    let mut found = BTreeMap::new();
    let mut take = |partition: i32, offset: i64, label: &Option<StrBytes>, code: i16| match ErrorCode(code) {
        ErrorCode::NONE => {
            let label = label.as_ref().map(|label| label.to_string()).unwrap_or_default();
            found.insert(partition, Committed { offset, label });
            Ok(())
        }
        // The topic is gone or not yet known there: no committed offset.
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Ok(()),
        code => Err(code),
    };
    check(response.error_code)?;
    for found_topic in response.topics.iter().filter(|found| found.name.as_str() == topic) {
        for partition in &found_topic.partitions {
            take(partition.partition_index, partition.committed_offset, &partition.metadata, partition.error_code)?;
        }
    }
    for group in &response.groups {
        check(group.error_code)?;
        for found_topic in group.topics.iter().filter(|found| found.name.as_str() == topic) {
            for partition in &found_topic.partitions {
                take(partition.partition_index, partition.committed_offset, &partition.metadata, partition.error_code)?;
            }
        }
    }
    Ok(found)
}

fn check(code: i16) -> Result<(), ErrorCode> {
    if code == 0 { Ok(()) } else { Err(ErrorCode(code)) }
}

fn read_codes(response: OffsetCommitResponse, topic: &str) -> BTreeMap<i32, ErrorCode> {
    response
        .topics
        .iter()
        .filter(|committed| committed.name.as_str() == topic)
        .flat_map(|committed| &committed.partitions)
        .map(|partition| (partition.partition_index, ErrorCode(partition.error_code)))
        .collect()
}

//! Messages that are read whole: a request as its broker is to get it, an answer as its client is to get it.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_wire::record_batch::count::RecordCount;
use kafka_wire::shape::{Field, Visit, Visitor};
use kafka_wire::shapes::new_leader::NODE_ENDPOINTS;
use kafka_wire::{ApiKey, ErrorCode, WireError, header};
use model::Topic;
use model::tenant::{NoTopic, Tenant};

use crate::apis::Answer as Handling;
use crate::edit::Edits;
use crate::in_flight::{Asked, Outstanding};
use crate::limits::RENAMED_FETCH_BYTES_MAX;
use crate::rewrite::{self, int32, text};
use crate::tenant::found::{Found, find, find_and};
use crate::tenant::ids::{TopicIds, Wanted};
use crate::tenant::messages::{consumer_group, consumer_protocol, coordinator, metadata};
use crate::tenant::rename::{self, Refused, Renamed, Reply, Who, refusal};
use crate::tenant::rules::{Need, Rule, Way};
use crate::tenant::session::Session;
use crate::topology::{Learned, View};

/// Session epoch of a Fetch that belongs to no session, and ends the one that it names (KIP-227).
const NO_SESSION: i32 = -1;

/// A request by its head.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub rule: &'static Rule,
    pub version: i16,
    pub correlation_id: i32,
    /// Length included.
    pub frame_bytes: usize,
    /// Of a Produce; others are always answered.
    pub is_answered: bool,
}

/// What becomes of a request.
pub enum Asking {
    /// It goes to the broker, changed.
    Forward {
        edits: Edits,
        body_at: usize,
        asked: Asked,
        topics: Vec<Used>,
        /// What is audited: groups and positions that are deleted.
        about: Option<String>,
    },
    /// The proxy answers it.
    Answer(BytesMut),
    /// Topics have to be asked about first.
    Unknown(Vec<Wanted>),
    /// It may not be, and its client wants no answer: Kafka closes the connection.
    Unanswerable,
}

/// A topic that a Produce writes to, or a Fetch reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// As the client calls it.
    pub name: Arc<str>,
    pub has_limits: bool,
    /// Of a Produce.
    pub messages: u64,
    pub bytes: u64,
}

/// A visitor of fields only.
struct Each<F>(F);

impl<F: FnMut(Visit)> Visitor for Each<F> {
    fn field(&mut self, visit: Visit) {
        (self.0)(visit);
    }
}

/// Looks at a whole request. `frame` has its length in front.
pub fn ask(
    head: &Head,
    frame: &Bytes,
    session: &mut Session,
    ids: &TopicIds,
    say: &mut dyn FnMut(&NoTopic),
) -> Result<Asking, WireError> {
    let mut body = frame.slice(4..);
    header::decode_request_header(&mut body)?;
    let body_at = frame.len() - body.len();
    let (rule, version) = (head.rule, head.version);
    let flexible = version >= rule.request.shape.flexible_from;
    let facts = Facts::read(rule, version, &body, flexible)?;
    let found = &facts.found;
    let unknown = rename::unknown_ids(&body, found, ids)?;
    if !unknown.is_empty() {
        return Ok(Asking::Unknown(unknown.into_iter().map(Wanted::Id).collect()));
    }
    let makes_topics = rule.key == ApiKey::Metadata && version < metadata::NO_CREATION_FROM;
    if makes_topics {
        let unknown = metadata::not_known_to_be_there(&body, found, flexible, &session.tenant(), ids);
        if !unknown.is_empty() {
            return Ok(Asking::Unknown(unknown));
        }
    }
    let refusal_code = facts.refusal(rule, session);
    let mut topics = Vec::new();
    let mut renamed = {
        let tenant = &session.tenant();
        let mut allowed = |topic: &Topic, whole: &Range<usize>| topics.push(facts.used(tenant, topic, whole));
        let (access, blanket) = (rule.access, refusal_code);
        let who = &mut Who { tenant, ids, access, blanket, say, allowed: &mut allowed, only_there: makes_topics };
        rename::request(flexible, &body, found, who)?
    };
    if let Some(error) = refusal_code {
        return Ok(not_for_this_session(head, &facts, error, &renamed.refused));
    }
    if rule.way == Way::Fetch {
        session.remember_fetched(topics.iter().map(|topic| (Arc::clone(&topic.name), topic.has_limits)).collect());
    }
    if let Some(error) = facts.rename(rule, session, say, &mut renamed) {
        return Ok(Asking::Answer(refusal(rule, version, head.correlation_id, error, &[], &[])));
    }
    if !head.is_answered && !renamed.refused.is_empty() {
        return Ok(Asking::Unanswerable);
    }
    if rule.key == ApiKey::JoinGroup {
        session.is_consumer = facts.is_consumer(session);
    }
    let is_consumer = facts.is_consumer(session);
    let asked = Asked { refused: renamed.refused, is_consumer, ..Asked::default() };
    let about = matches!(rule.key, ApiKey::DeleteGroups | ApiKey::OffsetDelete).then(|| {
        let named = found.owned.iter().filter_map(|range| text(&body, range, flexible));
        named.collect::<Vec<_>>().join(", ")
    });
    Ok(Asking::Forward { edits: renamed.edits, body_at, asked, topics, about })
}

/// The answer of the proxy to a request for which its client should have shown the app's other secret.
fn not_for_this_session(head: &Head, facts: &Facts<'_>, error: ErrorCode, refused: &[Refused]) -> Asking {
    if !head.is_answered {
        return Asking::Unanswerable;
    }
    let owned = facts.found.owned.iter();
    let owners: Vec<&str> = owned.filter_map(|range| text(facts.body, range, facts.flexible)).collect();
    Asking::Answer(refusal(head.rule, head.version, head.correlation_id, error, refused, &owners))
}

/// What was read of a request beside what its rule names.
struct Facts<'a> {
    version: i16,
    body: &'a [u8],
    flexible: bool,
    found: Found,
    /// Fields that a file of `messages/` speaks of.
    special: Vec<Visit>,
    records: Vec<Range<usize>>,
    /// Whether it says that members of its group are consumers; None: it does not say.
    says_consumer: Option<bool>,
    key_type: i8,
}

impl<'a> Facts<'a> {
    fn read(rule: &'static Rule, version: i16, body: &'a [u8], flexible: bool) -> Result<Facts<'a>, WireError> {
        let (mut special, mut records) = (Vec::new(), Vec::new());
        let (mut says_consumer, mut key_type) = (None, 0);
        let mut each = Each(|visit: Visit| match (rule.key, visit.field.name) {
            (ApiKey::Produce, "records") => records.push(visit.range),
            (ApiKey::JoinGroup | ApiKey::SyncGroup, "protocol_type") => {
                says_consumer = text(body, &visit.range, flexible).map(|said| said == consumer_protocol::CONSUMER);
            }
            (ApiKey::FindCoordinator, "key_type") => key_type = body[visit.range.start] as i8,
            (ApiKey::JoinGroup, "metadata")
            | (ApiKey::SyncGroup, "assignment")
            | (ApiKey::Fetch, "max_bytes" | "session_epoch")
            | (ApiKey::ConsumerGroupHeartbeat, "subscribed_topic_names" | "subscribed_topic_regex") => {
                special.push(visit)
            }
            _ => {}
        });
        let found = match rule.key {
            ApiKey::Produce
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::FindCoordinator
            | ApiKey::Fetch
            | ApiKey::ConsumerGroupHeartbeat => find_and(&rule.request, version, body, &mut each)?,
            _ => find(&rule.request, version, body)?,
        };
        Ok(Facts { version, body, flexible, found, special, records, says_consumer, key_type })
    }

    /// Whether members of the group it is about are consumers. A SyncGroup says so from version 5.
    fn is_consumer(&self, session: &Session) -> bool {
        self.says_consumer.unwrap_or(session.is_consumer)
    }

    /// The code with which all of it is refused, if it is.
    fn refusal(&self, rule: &Rule, session: &Session) -> Option<ErrorCode> {
        if !session.has(rule.need) {
            return Some(match (rule.key, self.found.owned.first()) {
                (ApiKey::InitProducerId, Some(range)) if !rename::is_null(self.body, range, self.flexible) => {
                    ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                }
                _ => rule.refusal,
            });
        }
        let need = if session.has(Need::Publish) { Need::Publish } else { Need::Subscribe };
        if rule.key == ApiKey::FindCoordinator { coordinator::refused(self.key_type, need) } else { None }
    }

    /// What the rule does not say. An error is answered instead of passing the request on.
    fn rename(
        &self,
        rule: &Rule,
        session: &Session,
        say: &mut dyn FnMut(&NoTopic),
        renamed: &mut Renamed,
    ) -> Option<ErrorCode> {
        let Facts { version, body, flexible, .. } = *self;
        let tenant = &session.tenant();
        if rule.key == ApiKey::Metadata {
            metadata::name_all(version, body, &self.found, tenant, renamed);
        }
        let is_cut = !renamed.refused.is_empty();
        let edits = &mut renamed.edits;
        let to_kafka = consumer_protocol::Way::ToKafka;
        for visit in &self.special {
            let range = &visit.range;
            match rule.key {
                ApiKey::JoinGroup if self.is_consumer(session) => {
                    consumer_protocol::subscription(body, range, flexible, tenant, to_kafka, edits);
                }
                ApiKey::SyncGroup if self.is_consumer(session) => {
                    consumer_protocol::assignment(body, range, flexible, tenant, to_kafka, edits);
                }
                // The broker does not have in its session what the client believes it has (KIP-227): there must be none, so that
                // what is refused today is asked for again.
                ApiKey::Fetch if visit.field.name == "session_epoch" && is_cut => {
                    edits.int32(range.clone(), NO_SESSION)
                }
                // Answers about several topics are read whole when they have names, or topics have limits of their own.
                ApiKey::Fetch
                    if visit.field.name == "max_bytes"
                        && (version < kafka_wire::peek::FETCH_TOPIC_ID_FROM || session.limited().next().is_some()) =>
                {
                    edits.int32(range.clone(), int32(body, range).min(RENAMED_FETCH_BYTES_MAX));
                }
                ApiKey::ConsumerGroupHeartbeat => {
                    let refused = consumer_group::heartbeat_field(visit, body, tenant, say, edits);
                    if refused.is_some() {
                        return refused;
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// A topic, and what a Produce writes to it.
    fn used(&self, tenant: &Tenant<'_>, topic: &Topic, whole: &Range<usize>) -> Used {
        let from = self.records.partition_point(|range| range.start < whole.start);
        let records = self.records[from..].iter().take_while(|range| range.start < whole.end);
        Used {
            name: tenant.shown(&topic.physical).unwrap_or_default().into(),
            has_limits: topic.limits.has_rates(),
            messages: records.map(|range| count(self.body, range, self.flexible)).sum(),
            bytes: whole.len() as u64,
        }
    }
}

fn count(body: &[u8], range: &Range<usize>, flexible: bool) -> u64 {
    let mut count = RecordCount::default();
    count.pass(kafka_wire::pieces::bytes(&body[range.clone()], flexible).unwrap_or_default());
    count.count()
}

/// An answer that is whole.
pub struct Answer<'a> {
    pub rule: &'static Rule,
    pub outstanding: &'a Outstanding,
    /// With its length in front.
    pub frame: &'a Bytes,
    pub session: &'a Session,
    pub throttle_ms: i32,
    pub view: &'a View,
}

impl Answer<'_> {
    /// What is to be changed before its client gets it, and where its body begins.
    pub fn edits(&self, ids: &mut TopicIds, learned: &mut Vec<Learned>) -> Result<(Edits, usize), WireError> {
        let Answer { rule, outstanding, frame, session, throttle_ms, view } = *self;
        let version = outstanding.version;
        let mut body = frame.slice(4..);
        header::decode_response_header(&mut body, rule.key, version)?;
        let body_at = frame.len() - body.len();
        let message = &rule.response;
        let flexible = version >= message.shape.flexible_from;
        let tenant = &session.tenant();
        let asked = outstanding.asked.as_deref();
        let is_consumer = asked.is_some_and(|asked| asked.is_consumer);
        let mut special = Edits::default();
        let found = {
            let mut look = Look { rule, body: &body, flexible, tenant, is_consumer, edits: &mut special };
            find_and(message, version, &body, &mut look)?
        };
        if rule.key == ApiKey::Metadata {
            metadata::learn(version, &body, &found, ids);
        }
        let refused = asked.map_or(&[][..], |asked| &asked.refused);
        let ids = &*ids;
        // What was asked for by name was allowed by name; what comes unasked has to be.
        let is_filtered = matches!(rule.key, ApiKey::Metadata | ApiKey::OffsetFetch);
        let reply = Reply { tenant, ids, refused, throttle_ms, is_filtered };
        let mut edits = rename::answer(message, version, &body, &found, &reply);
        edits.merge(special);
        if let Handling::Rewritten(rewriter) = outstanding.api.answer(version) {
            edits.merge(rewrite::edits(rewriter, version, &body, view, learned)?);
        }
        Ok((edits, body_at))
    }
}

/// The tagged field of a Fetch answer with addresses of new leaders, without any: its tag, its size, its count.
const NO_ENDPOINTS: &[u8] = &[0, 1, 1];

/// What an answer has beside what its rule names.
struct Look<'a, 's> {
    rule: &'static Rule,
    body: &'a [u8],
    flexible: bool,
    tenant: &'a Tenant<'s>,
    is_consumer: bool,
    edits: &'a mut Edits,
}

impl Visitor for Look<'_, '_> {
    fn field(&mut self, visit: Visit) {
        let Look { body, flexible, tenant, .. } = *self;
        let (edits, range) = (&mut *self.edits, &visit.range);
        let to_client = consumer_protocol::Way::ToClient;
        match (self.rule.key, visit.field.name) {
            (ApiKey::Metadata | ApiKey::DescribeCluster, _) => {
                metadata::cluster_id(&visit, flexible, tenant, edits);
            }
            (ApiKey::JoinGroup, "metadata") if self.is_consumer => {
                consumer_protocol::subscription(body, range, flexible, tenant, to_client, edits);
            }
            (ApiKey::SyncGroup, "assignment") if self.is_consumer => {
                consumer_protocol::assignment(body, range, flexible, tenant, to_client, edits);
            }
            (ApiKey::DescribeGroups, "protocol_type") => {
                self.is_consumer = text(body, range, flexible) == Some(consumer_protocol::CONSUMER);
            }
            (ApiKey::DescribeGroups, "member_metadata") if self.is_consumer => {
                consumer_protocol::subscription(body, range, flexible, tenant, to_client, edits);
            }
            (ApiKey::DescribeGroups, "member_assignment") if self.is_consumer => {
                consumer_protocol::assignment(body, range, flexible, tenant, to_client, edits);
            }
            (ApiKey::DescribeGroups, "client_host") => {
                edits.string(range.clone(), flexible, consumer_group::HIDDEN_HOST);
            }
            (ApiKey::ConsumerGroupDescribe, _) => consumer_group::describe_field(&visit, body, tenant, edits),
            _ => {}
        }
    }

    fn tagged_end(&mut self, field: &'static Field, range: Range<usize>) {
        // Of a Produce they are rewritten.
        if self.rule.way == Way::Fetch && field.name == NODE_ENDPOINTS {
            self.edits.bytes(range, BytesMut::from(NO_ENDPOINTS));
        }
    }
}

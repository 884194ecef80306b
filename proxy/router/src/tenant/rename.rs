//! Names of tenants to names of Kafka in requests, and back in answers. What a tenant may not touch is cut out of the request
//! and told of in the answer, where a broker would have told of it.
//!
//! ```text
//!   request   topics [ orders.v1, other.x.v1 ]   ──▶   [ app1.orders.v1 ]            refused: other.x.v1
//!   answer    topics [ app1.orders.v1 ok ]       ──▶   [ other.x.v1 29, orders.v1 ok ]
//! ```
//! So one request is one request and one answer one answer, and a broker never hears of what was refused.

use std::collections::HashMap;
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use kafka_wire::pieces::{put_count, put_string};
use kafka_wire::shape::{Field, Kind};
use kafka_wire::{ApiKey, ErrorCode, WireError, header};
use model::limits::NAME_BYTES_MAX;
use model::tenant::{Access, NoTopic, Tenant};

use crate::edit::Edits;
use crate::limits::ASKED_TOPIC_IDS_MAX;
use crate::rewrite::{int32, text};
use crate::tenant::fill::{ERROR_CODE, Fill, PARTITION_ERROR_CODE, elements_of};
use crate::tenant::found::{Found, NO_ID, Topic, TopicArray, TopicId};
use crate::tenant::ids::TopicIds;
use crate::tenant::messages::metadata;
use crate::tenant::rules::{Message, Rule, Way};

/// Longest name of a group or transactional id that still fits with an app's id before it.
pub const OWNED_BYTES_MAX: usize = kafka_wire::limits::STRING_BYTES_MAX - NAME_BYTES_MAX - 1;

pub use crate::in_flight::{Called, InGroup, Refused};

/// Groups in the order in which a message names them.
#[derive(Default)]
struct Groups(HashMap<Box<str>, u32>);

impl Groups {
    fn next(&mut self, name: &str) -> InGroup {
        let count = self.0.entry(name.into()).or_default();
        *count += 1;
        InGroup { name: name.into(), nth: *count - 1 }
    }
}

/// Who asks, and what is known of ids.
pub struct Who<'a, 's> {
    pub tenant: &'a Tenant<'s>,
    pub ids: &'a TopicIds,
    /// What is wanted of the topics.
    pub access: Access,
    /// All of them are refused, with this.
    pub blanket: Option<ErrorCode>,
    /// Told of each topic that is refused.
    pub say: &'a mut dyn FnMut(&NoTopic),
    /// Told of each topic that is not, and where its element stands.
    pub allowed: &'a mut dyn FnMut(&'s model::Topic, &Range<usize>),
    /// Topics that are not in Kafka are not passed on: the request would have them made.
    pub only_there: bool,
}

/// A renamed request.
#[derive(Debug, Default)]
pub struct Renamed {
    pub edits: Edits,
    pub refused: Vec<Refused>,
}

/// Ids that a request names and nobody knows yet.
pub fn unknown_ids(body: &[u8], found: &Found, ids: &TopicIds) -> Result<Vec<TopicId>, WireError> {
    let topics = found.arrays.iter().flat_map(|array| &array.found);
    let named = topics.filter_map(|topic| id(body, topic));
    let mut unknown: Vec<TopicId> = named.filter(|id| *id != NO_ID && !ids.knows(id)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    match unknown.len() > ASKED_TOPIC_IDS_MAX {
        true => Err(WireError::Invalid { what: "count of unknown topic ids", offset: 0, found: unknown.len() as i64 }),
        false => Ok(unknown),
    }
}

/// Renames a request.
pub fn request(flexible: bool, body: &[u8], found: &Found, who: &mut Who<'_, '_>) -> Result<Renamed, WireError> {
    let mut renamed = Renamed::default();
    for range in &found.owned {
        own(flexible, body, range, who.tenant, &mut renamed.edits)?;
    }
    for range in &found.off {
        renamed.edits.bytes(range.clone(), BytesMut::from(&[0][..]));
    }
    for range in &found.nobody {
        renamed.edits.int32(range.clone(), -1);
    }
    let mut groups = Groups::default();
    for array in &found.arrays {
        let group = array.group.as_ref().and_then(|range| text(body, range, flexible));
        let group = group.map(|name| groups.next(&who.tenant.owned(name)));
        topics(flexible, body, array, group, who, &mut renamed)?;
    }
    Ok(renamed)
}

/// Puts the app before a group or a transactional id.
pub fn own(
    flexible: bool,
    body: &[u8],
    range: &Range<usize>,
    tenant: &Tenant<'_>,
    edits: &mut Edits,
) -> Result<(), WireError> {
    if is_null(body, range, flexible) {
        return Ok(());
    }
    let name = owned(flexible, body, range)?;
    edits.string(range.clone(), flexible, &tenant.owned(name));
    Ok(())
}

/// The name a client has for a group or a transactional id.
pub fn owned<'b>(flexible: bool, body: &'b [u8], range: &Range<usize>) -> Result<&'b str, WireError> {
    let invalid = || WireError::Invalid { what: "name", offset: range.start, found: range.len() as i64 };
    text(body, range, flexible).filter(|name| name.len() <= OWNED_BYTES_MAX).ok_or_else(invalid)
}

/// Whether a text is null.
pub fn is_null(body: &[u8], range: &Range<usize>, flexible: bool) -> bool {
    match flexible {
        true => body.get(range.start) == Some(&0),
        false => body.get(range.start).is_some_and(|byte| byte & 0x80 != 0),
    }
}

fn topics(
    flexible: bool,
    body: &[u8],
    array: &TopicArray,
    group: Option<InGroup>,
    who: &mut Who<'_, '_>,
    renamed: &mut Renamed,
) -> Result<(), WireError> {
    let mut kept = 0;
    for topic in &array.found {
        check_name(flexible, body, topic)?;
        let error = match who.blanket {
            Some(error) => error,
            None => match rename(flexible, body, topic, who, &mut renamed.edits) {
                Ok(()) => {
                    kept += 1;
                    continue;
                }
                Err(error) => error,
            },
        };
        renamed.edits.cut(topic.whole.clone());
        if array.topics.is_answered {
            let (called, partitions) = (called(flexible, body, topic), topic.partitions.clone());
            renamed.refused.push(Refused { group: group.clone(), called, partitions, error });
        }
    }
    if kept != array.found.len() {
        renamed.edits.count(array.count_at.clone(), flexible, kept);
    }
    Ok(())
}

/// A name is text or null; it could not be told of in an answer otherwise.
fn check_name(flexible: bool, body: &[u8], topic: &Topic) -> Result<(), WireError> {
    let is_none = topic.name.is_empty() || is_null(body, &topic.name, flexible);
    match is_none || text(body, &topic.name, flexible).is_some() {
        true => Ok(()),
        false => {
            Err(WireError::Invalid { what: "topic name", offset: topic.name.start, found: topic.name.len() as i64 })
        }
    }
}

/// The id of a topic that is named by one.
pub fn id(body: &[u8], topic: &Topic) -> Option<TopicId> {
    body.get(topic.id.clone()).and_then(|bytes| bytes.try_into().ok())
}

fn called(flexible: bool, body: &[u8], topic: &Topic) -> Called {
    let by_id = id(body, topic).filter(|id| *id != NO_ID);
    match by_id {
        Some(id) => Called::Id(id),
        None => Called::Name(text(body, &topic.name, flexible).unwrap_or_default().as_bytes().into()),
    }
}

/// Names one topic as Kafka does, or says which error its client gets.
fn rename(
    flexible: bool,
    body: &[u8],
    topic: &Topic,
    who: &mut Who<'_, '_>,
    edits: &mut Edits,
) -> Result<(), ErrorCode> {
    if let Called::Id(id) = called(flexible, body, topic) {
        // Ids of others and of nobody look alike.
        let meant = who.ids.name(&id).and_then(|physical| who.tenant.meant(physical, who.access));
        let meant = meant.ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        (who.allowed)(meant, &topic.whole);
        // A broker looks at the id, so a name beside it is one that nobody looked at.
        if !topic.name.is_empty() && !is_null(body, &topic.name, flexible) {
            edits.null_string(topic.name.clone(), flexible);
        }
        return Ok(());
    }
    let name = text(body, &topic.name, flexible).unwrap_or_default();
    match who.tenant.topic(name, who.access) {
        Ok(found) if who.only_there && who.ids.is_there(&found.physical) == Some(false) => {
            Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
        Ok(found) => {
            (who.allowed)(found, &topic.whole);
            edits.string(topic.name.clone(), flexible, &found.physical);
            Ok(())
        }
        Err(refusal) => {
            (who.say)(&refusal);
            Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
        }
    }
}

/// What an answer has to be made of beside the broker's bytes.
pub struct Reply<'a, 's> {
    pub tenant: &'a Tenant<'s>,
    pub ids: &'a TopicIds,
    pub refused: &'a [Refused],
    /// Milliseconds the client is to wait for its limits' sake.
    pub throttle_ms: i32,
    /// Whether a topic that may not be seen is left out, even under a name of its own.
    pub is_filtered: bool,
}

impl Reply<'_, '_> {
    /// A topic without a name: the client used its id itself, unless it asked for all there are.
    fn is_of_others(&self, body: &[u8], topic: &Topic) -> bool {
        let physical = id(body, topic).and_then(|id| self.ids.name(&id));
        self.is_filtered && physical.is_some_and(|physical| self.tenant.shown_if(physical, Access::Describe).is_none())
    }
}

/// Renames an answer.
pub fn answer(message: &'static Message, version: i16, body: &[u8], found: &Found, reply: &Reply<'_, '_>) -> Edits {
    let flexible = version >= message.shape.flexible_from;
    let mut edits = Edits::default();
    for range in &found.owned {
        if let Some(shown) = text(body, range, flexible).and_then(|name| reply.tenant.shown_owned(name)) {
            edits.string(range.clone(), flexible, shown);
        }
    }
    others(flexible, body, message, found, reply.tenant, &mut edits);
    let mut told: HashMap<Option<&InGroup>, Vec<&Refused>> = HashMap::new();
    for refused in reply.refused {
        told.entry(refused.group.as_ref()).or_default().push(refused);
    }
    let mut groups = Groups::default();
    for array in &found.arrays {
        let group = array.group.as_ref().filter(|_| !told.is_empty());
        let group = group.and_then(|range| text(body, range, flexible)).map(|name| groups.next(name));
        let told = told.get(&group.as_ref()).map_or(&[][..], Vec::as_slice);
        answer_topics(message, version, body, array, told, reply, &mut edits);
    }
    for range in &found.sentences {
        sentence(flexible, body, range, reply.tenant, &mut edits);
    }
    throttle(body, found.throttle.as_ref(), reply.throttle_ms, &mut edits);
    edits
}

/// A longer wait than the broker's own is told.
pub fn throttle(body: &[u8], range: Option<&Range<usize>>, throttle_ms: i32, edits: &mut Edits) {
    if let Some(range) = range
        && int32(body, range) < throttle_ms
    {
        edits.int32(range.clone(), throttle_ms);
    }
}

/// Cuts groups of other tenants out of a list. Texts that are no element of a list are about what this tenant asked for.
fn others(
    flexible: bool,
    body: &[u8],
    message: &'static Message,
    found: &Found,
    tenant: &Tenant<'_>,
    edits: &mut Edits,
) {
    let is_other =
        |range: &Range<usize>| text(body, range, flexible).and_then(|name| tenant.shown_owned(name)).is_none();
    let mut cut = 0;
    for owner in found.owners.iter().filter(|owner| is_other(&owner.name)) {
        edits.cut(owner.whole.clone());
        cut += 1;
    }
    if let (true, Some(count_at)) = (cut > 0, found.owners_count_at.clone()) {
        debug_assert!(!message.owned.is_empty());
        edits.count(count_at, flexible, found.owners.len() - cut);
    }
}

/// A broker's sentence may name what it knows by Kafka's name.
fn sentence(flexible: bool, body: &[u8], range: &Range<usize>, tenant: &Tenant<'_>, edits: &mut Edits) {
    let prefix = format!("{}.", tenant.app.id);
    if let Some(said) = text(body, range, flexible).filter(|said| said.contains(&prefix)) {
        edits.string(range.clone(), flexible, &said.replace(&prefix, ""));
    }
}

fn answer_topics(
    message: &'static Message,
    version: i16,
    body: &[u8],
    array: &TopicArray,
    told: &[&Refused],
    reply: &Reply<'_, '_>,
    edits: &mut Edits,
) {
    let flexible = version >= message.shape.flexible_from;
    let mut kept = 0;
    for topic in &array.found {
        let is_named = !topic.name.is_empty() && !is_null(body, &topic.name, flexible);
        let name = text(body, &topic.name, flexible).unwrap_or_default();
        let shown = match reply.is_filtered {
            true => reply.tenant.shown_if(name, Access::Describe),
            false => reply.tenant.shown(name),
        };
        match shown {
            _ if !is_named && !reply.is_of_others(body, topic) => kept += 1,
            _ if !is_named => edits.cut(topic.whole.clone()),
            Some(shown) => {
                kept += 1;
                if *shown != *name {
                    edits.string(topic.name.clone(), flexible, &shown);
                }
            }
            None => edits.cut(topic.whole.clone()),
        }
    }
    if kept == array.found.len() && told.is_empty() {
        return;
    }
    let mut start = BytesMut::new();
    put_count(&mut start, flexible, kept + told.len());
    told.iter().for_each(|refused| put_refused(message, version, array.topics.array, refused, &mut start));
    edits.bytes(array.count_at.clone(), start);
}

/// The element of an answer's array that tells of a topic which was refused.
pub fn put_refused(message: &'static Message, version: i16, array: &str, refused: &Refused, out: &mut BytesMut) {
    let fields = elements_of(message.shape.fields, array, version).expect("an array of the rule");
    let topics = message.topics.iter().find(|topics| topics.array == array).expect("an array of the rule");
    let flexible = version >= message.shape.flexible_from;
    let partitions_in = partitions_of(fields, topics.partition);
    let mut given = |field: &'static Field, out: &mut BytesMut| match (field.name, &refused.called) {
        (ERROR_CODE, _) => {
            out.put_i16(refused.error.0);
            true
        }
        ("topic_id", Called::Id(id)) => {
            out.put_slice(id);
            true
        }
        (name, Called::Id(_)) if name == topics.name && version < metadata::NO_NAME_FROM => {
            put_string(out, flexible, b"");
            true
        }
        (name, Called::Name(text)) if name == topics.name => {
            put_string(out, flexible, text);
            true
        }
        (name, _) if partitions_in.is_some_and(|(array, _)| name == array) => {
            let (_, inner) = partitions_in.expect("looked at above");
            put_count(out, flexible, refused.partitions.len());
            for partition in &refused.partitions {
                let mut given = |field: &'static Field, out: &mut BytesMut| match field.name {
                    ERROR_CODE | PARTITION_ERROR_CODE => {
                        out.put_i16(refused.error.0);
                        true
                    }
                    name if name == topics.partition => {
                        out.put_i32(*partition);
                        true
                    }
                    _ => false,
                };
                Fill { version, flexible, given: &mut given }.structure(inner, out);
            }
            true
        }
        _ => false,
    };
    Fill { version, flexible, given: &mut given }.structure(fields, out);
}

/// The array in a topic's element whose elements have a partition's number.
fn partitions_of(fields: &'static [Field], partition: &str) -> Option<(&'static str, &'static [Field])> {
    fields.iter().find_map(|field| match field.kind {
        Kind::Array(Kind::Struct(inner)) if inner.iter().any(|field| field.name == partition) => {
            Some((field.name, *inner))
        }
        _ => None,
    })
}

/// The session a Fetch answer belongs to, and what stands there for none (KIP-227).
const FETCH_SESSION: &str = "session_id";
const NO_SESSION: i32 = 0;

/// A whole answer that the proxy gives in a broker's place: `error`, and the topics that were refused.
pub fn refusal(
    rule: &'static Rule,
    version: i16,
    correlation_id: i32,
    error: ErrorCode,
    refused: &[Refused],
    owners: &[&str],
) -> BytesMut {
    let message = &rule.response;
    let flexible = version >= message.shape.flexible_from;
    let array = message.topics.first().map(|topics| topics.array);
    let body = Fill::message(message.shape, version, &mut |field, out| match field.name {
        _ if put_owners(message, version, error, owners, field, out) => true,
        // Of a Fetch that failed as a whole clients tell nobody; they try again for ever.
        ERROR_CODE if rule.way == Way::Fetch && !refused.is_empty() => {
            out.put_i16(ErrorCode::NONE.0);
            true
        }
        ERROR_CODE => {
            out.put_i16(error.0);
            true
        }
        FETCH_SESSION => {
            out.put_i32(NO_SESSION);
            true
        }
        name if Some(name) == array => {
            put_count(out, flexible, refused.len());
            refused.iter().for_each(|refused| put_refused(message, version, name, refused, out));
            true
        }
        _ => false,
    });
    frame(rule.key, version, correlation_id, &body)
}

/// The array that has an element for each group asked about.
fn put_owners(
    message: &'static Message,
    version: i16,
    error: ErrorCode,
    owners: &[&str],
    field: &'static Field,
    out: &mut BytesMut,
) -> bool {
    let Kind::Array(Kind::Struct(inner)) = field.kind else { return false };
    let Some(name) = message.owned.iter().find(|name| inner.iter().any(|field| field.name == **name)) else {
        return false;
    };
    let flexible = version >= message.shape.flexible_from;
    put_count(out, flexible, owners.len());
    for owner in owners {
        let mut given = |field: &'static Field, out: &mut BytesMut| match field.name {
            ERROR_CODE => {
                out.put_i16(error.0);
                true
            }
            field if field == *name => {
                put_string(out, flexible, owner.as_bytes());
                true
            }
            _ => false,
        };
        Fill { version, flexible, given: &mut given }.structure(inner, out);
    }
    true
}

/// A response frame around a body.
pub fn frame(api: ApiKey, version: i16, correlation_id: i32, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::from(&[0; 4][..]);
    header::encode_response_header(&mut out, api, version, correlation_id);
    out.put_slice(body);
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

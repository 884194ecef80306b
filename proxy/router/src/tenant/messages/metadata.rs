//! Metadata: "all topics" is all that this tenant may see, the cluster has an identity of this tenant's, and topic ids are
//! learned on the way.

use bytes::{BufMut, BytesMut};
use kafka_wire::pieces::{put_count, put_string};
use kafka_wire::shape::Visit;
use kafka_wire::shapes::metadata::{REQUEST, RESPONSE};
use kafka_wire::{ErrorCode, WireError};
use model::tenant::{Access, Tenant};

use crate::edit::Edits;
use crate::rewrite::{int16, text};
use crate::tenant::found::{Found, NO_ID, TopicId};
use crate::tenant::ids::{TopicIds, Wanted};
use crate::tenant::rename::{Renamed, id, is_null};

/// No topic named means none from here; before, all.
const NONE_FROM: i16 = 1;
const TOPIC_ID_FROM: i16 = 10;
/// A topic that is told of by its id has no name from here; before, an empty one.
pub const NO_NAME_FROM: i16 = 12;
/// No broker has, or makes, a topic with a slash in its name.
const NO_TOPIC: &str = "/";
/// A client may say from here that nothing is to be made, and is made to say it.
pub const NO_CREATION_FROM: i16 = 4;

/// Topics that a request would have made, as far as is known.
pub fn not_known_to_be_there(
    body: &[u8],
    found: &Found,
    flexible: bool,
    tenant: &Tenant<'_>,
    ids: &TopicIds,
) -> Vec<Wanted> {
    let named = found.arrays.iter().flat_map(|array| &array.found);
    let allowed = named
        .filter_map(|topic| tenant.topic(text(body, &topic.name, flexible)?, Access::Describe).ok())
        .filter(|topic| ids.is_there(&topic.physical).is_none());
    allowed.map(|topic| Wanted::Name((*topic.physical).into())).collect()
}

/// Names every topic this tenant may see, when all were asked for. Where no name means all, one that no topic has stands for
/// none: of what was asked for nothing may be left.
pub fn name_all(version: i16, body: &[u8], found: &Found, tenant: &Tenant<'_>, renamed: &mut Renamed) {
    let flexible = version >= REQUEST.flexible_from;
    let Some(array) = found.arrays.first() else { return };
    let is_all = match version >= NONE_FROM {
        true => is_null(body, &array.count_at, flexible),
        false => array.found.is_empty(),
    };
    let is_left = is_all || renamed.refused.len() < array.found.len();
    if !is_all && (is_left || version >= NONE_FROM) {
        return;
    }
    let mut names: Vec<String> = match is_all {
        true => tenant.topics().map(|topic| topic.physical.to_string()).collect(),
        false => Vec::new(),
    };
    // A snapshot has them in no order.
    names.sort_unstable();
    if names.is_empty() && version < NONE_FROM {
        names.push(tenant.owned(NO_TOPIC));
    }
    let mut array_bytes = BytesMut::new();
    put_count(&mut array_bytes, flexible, names.len());
    for name in names {
        if version >= TOPIC_ID_FROM {
            array_bytes.put_slice(&NO_ID);
        }
        put_string(&mut array_bytes, flexible, name.as_bytes());
        if flexible {
            array_bytes.put_u8(0);
        }
    }
    if !is_left {
        // Instead of cutting all of them out.
        renamed.edits = Edits::default();
    }
    renamed.edits.bytes(array.whole(), array_bytes);
}

/// A request for topics by their ids, in a version that takes them alone (12): nothing is made, no rights are told.
pub fn ask_by_id(ids: &[TopicId]) -> BytesMut {
    let mut body = BytesMut::new();
    put_count(&mut body, true, ids.len());
    for id in ids {
        body.put_slice(id);
        // No name, no tagged fields.
        body.put_slice(&[0, 0]);
    }
    body.put_slice(&[0, 0, 0]);
    body
}

/// A request for topics by name, in the first version that makes none ([`NO_CREATION_FROM`]).
pub fn ask_by_name(names: &[&str]) -> BytesMut {
    let mut body = BytesMut::new();
    put_count(&mut body, false, names.len());
    names.iter().for_each(|name| put_string(&mut body, false, name.as_bytes()));
    body.put_u8(0);
    body
}

/// Remembers of an answer to [`ask_by_name`] which topics there are.
pub fn learn_there(body: &[u8], ids: &mut TopicIds) -> Result<(), WireError> {
    let mut code = 0;
    kafka_wire::shape::walk(&RESPONSE, NO_CREATION_FROM, body, |visit| match (visit.depth, visit.field.name) {
        (1, "error_code") => code = int16(body, &visit.range),
        (1, "name") => {
            let is_there = code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
            text(body, &visit.range, false).into_iter().for_each(|name| ids.learn_there(name, is_there));
        }
        _ => {}
    })?;
    Ok(())
}

/// Remembers which topic has which id.
pub fn learn(version: i16, body: &[u8], found: &Found, ids: &mut TopicIds) {
    let flexible = version >= RESPONSE.flexible_from;
    for topic in found.arrays.iter().flat_map(|array| &array.found) {
        if let (Some(id), Some(name)) = (id(body, topic), text(body, &topic.name, flexible)) {
            ids.learn(id, name);
        }
    }
}

/// Replaces the cluster id, here and in DescribeCluster.
pub fn cluster_id(visit: &Visit, flexible: bool, tenant: &Tenant<'_>, edits: &mut Edits) {
    if visit.depth == 0 && visit.field.name == "cluster_id" {
        edits.string(visit.range.clone(), flexible, &tenant.cluster_id());
    }
}

//! Metadata: "all topics" is all that this tenant may see, the cluster has an identity of this tenant's, and topic ids are
//! learned on the way.

use bytes::{BufMut, BytesMut};
use kafka_wire::pieces::{put_count, put_string};
use kafka_wire::shape::Visit;
use kafka_wire::shapes::metadata::{REQUEST, RESPONSE};
use model::tenant::Tenant;

use crate::edit::Edits;
use crate::rewrite::text;
use crate::tenant::found::{Found, NO_ID};
use crate::tenant::ids::TopicIds;
use crate::tenant::rename::{Renamed, id, is_null};

/// No topic named means none from here; before, all.
const NONE_FROM: i16 = 1;
const TOPIC_ID_FROM: i16 = 10;
/// A topic that is told of by its id has no name from here; before, an empty one.
pub const NO_NAME_FROM: i16 = 12;
/// No broker has, or makes, a topic with a slash in its name.
const NO_TOPIC: &str = "/";

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

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
use crate::tenant::rename::{id, is_null};

/// No topic named means none from here; before, all.
const NONE_FROM: i16 = 1;
const TOPIC_ID_FROM: i16 = 10;

/// Names every topic this tenant may see, when all were asked for.
pub fn name_all(version: i16, body: &[u8], found: &Found, tenant: &Tenant<'_>, edits: &mut Edits) {
    let flexible = version >= REQUEST.flexible_from;
    let Some(array) = found.arrays.first() else { return };
    let is_all = match version >= NONE_FROM {
        true => is_null(body, &array.count_at, flexible),
        false => array.found.is_empty(),
    };
    if !is_all {
        return;
    }
    let topics: Vec<_> = tenant.topics().collect();
    let mut all = BytesMut::new();
    put_count(&mut all, flexible, topics.len());
    for topic in topics {
        if version >= TOPIC_ID_FROM {
            all.put_slice(&NO_ID);
        }
        put_string(&mut all, flexible, topic.physical.as_bytes());
        if flexible {
            all.put_u8(0);
        }
    }
    edits.bytes(array.count_at.clone(), all);
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

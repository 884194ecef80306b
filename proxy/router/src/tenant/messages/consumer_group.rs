//! Groups of KIP-848. The broker assigns by topic id, so a member's topics are named in its subscription only, and to who
//! describes the group.
//!
//! A pattern would be matched by the broker against the topics of all tenants. It is refused: clients that match patterns
//! themselves (KafkaConsumer's `subscribe(Pattern)`) send names.

use kafka_wire::ErrorCode;
use kafka_wire::shape::{Kind, Visit};
use model::tenant::{Access, NoTopic, Tenant};
use std::ops::Range;

use crate::edit::Edits;
use crate::rewrite::text;
use crate::tenant::rename::is_null;

/// Renames a field of ConsumerGroupHeartbeat, or says what its client is told instead of an answer.
pub fn heartbeat_field(
    visit: &Visit,
    body: &[u8],
    tenant: &Tenant<'_>,
    say: &mut dyn FnMut(&NoTopic),
    edits: &mut Edits,
) -> Option<ErrorCode> {
    match (visit.field.name, visit.kind) {
        ("subscribed_topic_names", Kind::String) => {
            let name = text(body, &visit.range, true).unwrap_or_default();
            match tenant.topic(name, Access::Read) {
                Ok(topic) => edits.string(visit.range.clone(), true, &topic.physical),
                Err(refusal) => {
                    say(&refusal);
                    return Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
                }
            }
            None
        }
        ("subscribed_topic_regex", _) => {
            let is_none = is_null(body, &visit.range, true) || text(body, &visit.range, true) == Some("");
            (!is_none).then_some(ErrorCode::INVALID_REGULAR_EXPRESSION)
        }
        _ => None,
    }
}

/// Renames a field of ConsumerGroupDescribe's answer.
pub fn describe_field(visit: &Visit, body: &[u8], tenant: &Tenant<'_>, edits: &mut Edits) {
    match (visit.field.name, visit.kind) {
        ("subscribed_topic_names" | "topic_name", Kind::String) => shown(body, &visit.range, tenant, edits),
        ("client_host", _) => edits.string(visit.range.clone(), true, HIDDEN_HOST),
        _ => {}
    }
}

/// Brokers know this proxy's address only.
pub const HIDDEN_HOST: &str = "/kproxy";

fn shown(body: &[u8], range: &Range<usize>, tenant: &Tenant<'_>, edits: &mut Edits) {
    let name = text(body, range, true).unwrap_or_default();
    edits.string(range.clone(), true, &tenant.shown(name).unwrap_or_default());
}

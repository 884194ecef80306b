//! What consumers of a classic group tell each other through JoinGroup and SyncGroup: topics by name.
//!
//! Kafka gets its own names there, too: members that came in by REST and by Kafka understand each other, tools that look at
//! groups see real topics, and a group may become one of KIP-848 while it lives, for which the broker reads these bytes.
//! User data of an assignor stays as it is; so does what is no consumer's, or cannot be read.

use bytes::{BufMut, BytesMut};
use kafka_wire::pieces::{self, put_count};
use kafka_wire::shape::{Field, Kind, Shape, Visit, Visitor, walk_with};
use kafka_wire::shapes::consumer_protocol::{ASSIGNMENT, SUBSCRIPTION};
use model::tenant::{Access, Tenant};
use std::ops::Range;

use crate::edit::Edits;
use crate::rewrite::{int16, text};

/// Name of the protocol, in requests and answers.
pub const CONSUMER: &str = "consumer";

/// Which way bytes go.
#[derive(Clone, Copy)]
pub enum Way {
    ToKafka,
    ToClient,
}

/// Replaces a field of such bytes, where it is one.
pub fn subscription(
    body: &[u8],
    range: &Range<usize>,
    flexible: bool,
    tenant: &Tenant<'_>,
    way: Way,
    edits: &mut Edits,
) {
    field(&SUBSCRIPTION, body, range, flexible, tenant, way, edits);
}

/// As [`subscription`], of what a member gets.
pub fn assignment(body: &[u8], range: &Range<usize>, flexible: bool, tenant: &Tenant<'_>, way: Way, edits: &mut Edits) {
    field(&ASSIGNMENT, body, range, flexible, tenant, way, edits);
}

fn field(
    shape: &'static Shape,
    body: &[u8],
    range: &Range<usize>,
    flexible: bool,
    tenant: &Tenant<'_>,
    way: Way,
    edits: &mut Edits,
) {
    let Some(said) = pieces::bytes(&body[range.clone()], flexible) else { return };
    let Some(changed) = translate(shape, said, tenant, way) else { return };
    let mut new = BytesMut::with_capacity(changed.len() + 5);
    put_count(&mut new, flexible, changed.len());
    new.put_slice(&changed);
    edits.bytes(range.clone(), new);
}

/// Names within version and message; None: not to be read as that, or nothing to change.
fn translate(shape: &'static Shape, bytes: &[u8], tenant: &Tenant<'_>, way: Way) -> Option<BytesMut> {
    let version = int16(bytes.get(..2)?, &(0..2));
    if version < 0 {
        return None;
    }
    let mut walk = Walk { arrays: Vec::new(), owned_end: 0 };
    let body = bytes.get(2..)?;
    walk_with(shape, version.min(shape.versions.1), body, &mut walk).ok()?;
    let mut edits = Edits::default();
    for array in &walk.arrays {
        let mut kept = 0;
        for (whole, name_at) in &array.elements {
            let name = text(body, name_at, false).unwrap_or_default();
            let new = match way {
                Way::ToKafka => tenant.topic(name, Access::Read).ok().map(|topic| topic.physical.to_string()),
                Way::ToClient => tenant.shown(name).map(String::from),
            };
            match new {
                Some(new) => {
                    kept += 1;
                    edits.string(name_at.clone(), false, &new);
                }
                None => edits.cut(whole.clone()),
            }
        }
        if kept != array.elements.len() {
            edits.count(array.count_at.clone(), false, kept);
        }
    }
    if edits.is_empty() {
        return None;
    }
    let changed = edits.apply_within(body);
    let mut out = BytesMut::with_capacity(changed.len() + 2);
    out.put_slice(&bytes[..2]);
    out.put_slice(&changed);
    Some(out)
}

struct Walk {
    arrays: Vec<Array>,
    /// Where the last element ended, or the first begins.
    owned_end: usize,
}

struct Array {
    name: &'static str,
    count_at: Range<usize>,
    /// All of it, and its topic.
    elements: Vec<(Range<usize>, Range<usize>)>,
}

impl Visitor for Walk {
    fn field(&mut self, visit: Visit) {
        match (visit.field.name, visit.kind, self.arrays.last_mut()) {
            ("topics" | "owned_partitions" | "assigned_partitions", Kind::Array(_), _) => {
                self.owned_end = visit.range.end;
                self.arrays.push(Array { name: visit.field.name, count_at: visit.range, elements: Vec::new() });
            }
            ("topics", Kind::String, Some(array)) => array.elements.push((visit.range.clone(), visit.range)),
            ("topic", _, Some(array)) => array.elements.push((self.owned_end..self.owned_end, visit.range)),
            _ => {}
        }
    }

    fn element_end(&mut self, field: &'static Field, at: usize) {
        if let Some(array) = self.arrays.last_mut()
            && array.name == field.name
            && let Some((whole, _)) = array.elements.last_mut()
        {
            whole.end = at;
            self.owned_end = at;
        }
    }
}

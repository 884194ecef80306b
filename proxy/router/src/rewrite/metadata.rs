//! Metadata: brokers under the proxy's addresses, those without one left out and leading nothing.

use std::ops::Range;

use kafka_wire::WireError;
use kafka_wire::shape::{Field, Visit, Visitor, walk_with};
use kafka_wire::shapes::metadata::RESPONSE;

use crate::edit::Edits;
use crate::rewrite::endpoints::Endpoints;
use crate::rewrite::{hide_leader, int32};
use crate::topology::{Learned, View};

struct Walk<'a> {
    body: &'a [u8],
    brokers: Endpoints<'a>,
    view: &'a View,
    edits: Edits,
    partition_error_at: Range<usize>,
}

impl Visitor for Walk<'_> {
    fn field(&mut self, visit: Visit) {
        self.brokers.field(&visit);
        match (visit.depth, visit.field.name) {
            (0, "controller_id") => hide_node(self.body, visit.range, self.view, &mut self.edits),
            (2, "error_code") => self.partition_error_at = visit.range,
            (2, "leader_id") => {
                hide_leader(self.body, &self.partition_error_at, visit.range, self.view, &mut self.edits);
            }
            _ => {}
        }
    }

    fn element_end(&mut self, field: &'static Field, at: usize) {
        self.brokers.element_end(field, at);
    }
}

pub fn edits(version: i16, body: &[u8], view: &View, learned: &mut Vec<Learned>) -> Result<Edits, WireError> {
    let flexible = version >= RESPONSE.flexible_from;
    let brokers = Endpoints::new(body, flexible, "brokers", "node_id");
    let mut walk = Walk { body, brokers, view, edits: Edits::default(), partition_error_at: 0..0 };
    walk_with(&RESPONSE, version, body, &mut walk)?;
    let Walk { brokers, mut edits, .. } = walk;
    brokers.rewrite(view, &mut edits, learned);
    Ok(edits)
}

/// A node without a place is nobody.
pub(super) fn hide_node(body: &[u8], node_at: Range<usize>, view: &View, edits: &mut Edits) {
    let node = int32(body, &node_at);
    if node >= 0 && !view.has_place(node) {
        edits.int32(node_at, -1);
    }
}

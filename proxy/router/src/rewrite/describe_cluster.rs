//! DescribeCluster (KIP-700): as Metadata's brokers. Controllers (KIP-919) listen where no client of this proxy can go:
//! all are left out.

use kafka_wire::WireError;
use kafka_wire::shape::{Field, Visit, Visitor, walk_with};
use kafka_wire::shapes::describe_cluster::RESPONSE;

use crate::edit::Edits;
use crate::rewrite::endpoints::Endpoints;
use crate::rewrite::metadata::hide_node;
use crate::topology::{Learned, View};

/// `endpoint_type` of controllers.
const CONTROLLERS: u8 = 2;

struct Walk<'a> {
    body: &'a [u8],
    brokers: Endpoints<'a>,
    view: &'a View,
    edits: Edits,
    is_of_controllers: bool,
}

impl Visitor for Walk<'_> {
    fn field(&mut self, visit: Visit) {
        self.brokers.field(&visit);
        match (visit.depth, visit.field.name) {
            (0, "endpoint_type") => self.is_of_controllers = self.body[visit.range.start] == CONTROLLERS,
            (0, "controller_id") => hide_node(self.body, visit.range, self.view, &mut self.edits),
            _ => {}
        }
    }

    fn element_end(&mut self, field: &'static Field, at: usize) {
        self.brokers.element_end(field, at);
    }
}

pub fn edits(version: i16, body: &[u8], view: &View, learned: &mut Vec<Learned>) -> Result<Edits, WireError> {
    let brokers = Endpoints::new(body, true, "brokers", "broker_id");
    let mut walk = Walk { body, brokers, view, edits: Edits::default(), is_of_controllers: false };
    walk_with(&RESPONSE, version, body, &mut walk)?;
    let Walk { brokers, mut edits, is_of_controllers, .. } = walk;
    if !is_of_controllers {
        brokers.rewrite(view, &mut edits, learned);
    } else if let (Some(first), Some(last)) = (brokers.found.first(), brokers.found.last()) {
        edits.cut(first.whole.start..last.whole.end);
        edits.count(brokers.count_at.clone(), true, 0);
    }
    Ok(edits)
}

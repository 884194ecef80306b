//! DescribeTopicPartitions (KIP-966): names nodes by id only, and those without a place lead nothing.

use std::ops::Range;

use kafka_wire::WireError;
use kafka_wire::shape::{Visit, Visitor, walk_with};
use kafka_wire::shapes::describe_topic_partitions::RESPONSE;

use crate::edit::Edits;
use crate::rewrite::hide_leader;
use crate::topology::View;

struct Walk<'a> {
    body: &'a [u8],
    view: &'a View,
    edits: Edits,
    error_at: Range<usize>,
}

impl Visitor for Walk<'_> {
    fn field(&mut self, visit: Visit) {
        match (visit.depth, visit.field.name) {
            (2, "error_code") => self.error_at = visit.range,
            (2, "leader_id") => hide_leader(self.body, &self.error_at, visit.range, self.view, &mut self.edits),
            _ => {}
        }
    }
}

pub fn edits(version: i16, body: &[u8], view: &View) -> Result<Edits, WireError> {
    let mut walk = Walk { body, view, edits: Edits::default(), error_at: 0..0 };
    walk_with(&RESPONSE, version, body, &mut walk)?;
    Ok(walk.edits)
}

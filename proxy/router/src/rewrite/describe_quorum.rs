//! DescribeQuorum from version 2 (KIP-853): which nodes vote stays, where controllers listen goes. No client of this
//! proxy can reach them.

use std::ops::Range;

use kafka_wire::WireError;
use kafka_wire::shape::{Field, Visit, Visitor, walk_with};

use crate::edit::Edits;
use crate::shapes::DESCRIBE_QUORUM_RESPONSE;

const LISTENERS: &str = "listeners";

/// Count and elements of each node's listeners.
#[derive(Default)]
struct Walk {
    listeners: Vec<Range<usize>>,
}

impl Visitor for Walk {
    fn field(&mut self, visit: Visit) {
        if visit.field.name == LISTENERS {
            self.listeners.push(visit.range);
        }
    }

    fn element_end(&mut self, field: &'static Field, at: usize) {
        if field.name == LISTENERS
            && let Some(listeners) = self.listeners.last_mut()
        {
            listeners.end = at;
        }
    }
}

pub fn edits(version: i16, body: &[u8]) -> Result<Edits, WireError> {
    let mut walk = Walk::default();
    walk_with(&DESCRIBE_QUORUM_RESPONSE, version, body, &mut walk)?;
    let mut edits = Edits::default();
    for listeners in walk.listeners {
        edits.count(listeners, true, 0);
    }
    Ok(edits)
}

//! FindCoordinator: one coordinator until version 3, many from 4 (KIP-699). One that has no place at this proxy is not
//! available, as far as its clients can tell.

use std::ops::Range;

use kafka_wire::shape::{Field, Visit, Visitor, walk_with};
use kafka_wire::shapes::find_coordinator::RESPONSE;
use kafka_wire::{ErrorCode, WireError};

use crate::edit::Edits;
use crate::rewrite::endpoints::{Endpoint, Endpoints};
use crate::rewrite::int32;
use crate::topology::{Learned, View};

/// From here the answer is an array.
const MANY_FROM: i16 = 4;

struct Walk<'a> {
    body: &'a [u8],
    many: Endpoints<'a>,
    one: Endpoint,
}

impl Visitor for Walk<'_> {
    fn field(&mut self, visit: Visit) {
        self.many.field(&visit);
        if visit.depth > 0 {
            return;
        }
        let place: &mut Range<usize> = match visit.field.name {
            "error_code" => &mut self.one.error_at,
            "node_id" => {
                self.one.node = int32(self.body, &visit.range);
                &mut self.one.node_at
            }
            "host" => &mut self.one.host_at,
            "port" => &mut self.one.port_at,
            _ => return,
        };
        *place = visit.range;
    }

    fn element_end(&mut self, field: &'static Field, at: usize) {
        self.many.element_end(field, at);
    }
}

pub fn edits(version: i16, body: &[u8], view: &View, learned: &mut Vec<Learned>) -> Result<Edits, WireError> {
    let flexible = version >= RESPONSE.flexible_from;
    let many = Endpoints::new(body, flexible, "coordinators", "node_id");
    let mut walk = Walk { body, many, one: Endpoint::default() };
    walk_with(&RESPONSE, version, body, &mut walk)?;
    let Walk { many, one, .. } = walk;
    let mut edits = Edits::default();
    let single = if version < MANY_FROM { std::slice::from_ref(&one) } else { &[] };
    for coordinator in single.iter().chain(&many.found) {
        learned.extend(many.real(coordinator));
        match view.address(coordinator.node) {
            _ if !many.has_host(coordinator) => {}
            Some(address) => many.put(coordinator, &address, &mut edits),
            None => not_available(coordinator, flexible, &mut edits),
        }
    }
    Ok(edits)
}

fn not_available(coordinator: &Endpoint, flexible: bool, edits: &mut Edits) {
    edits.int16(coordinator.error_at.clone(), ErrorCode::COORDINATOR_NOT_AVAILABLE.0);
    edits.int32(coordinator.node_at.clone(), -1);
    edits.string(coordinator.host_at.clone(), flexible, "");
    edits.int32(coordinator.port_at.clone(), -1);
}

//! Where new leaders listen (KIP-951), in the small answers: Produce from version 10, where it is a tagged field, and
//! ShareAcknowledge. In Fetch and ShareFetch they follow the records and are hidden instead (`kafka_wire::passing`).

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use kafka_wire::WireError;
use kafka_wire::pieces::{put_count, put_string, put_uvarint};
use kafka_wire::shape::{Field, Shape, Visit, Visitor, walk_with};
use kafka_wire::shapes::new_leader::NODE_ENDPOINTS;
use kafka_wire::shapes::produce;

use crate::edit::Edits;
use crate::rewrite::endpoints::Endpoints;
use crate::shapes::SHARE_ACKNOWLEDGE_RESPONSE;
use crate::topology::{Learned, View};

struct Walk<'a> {
    endpoints: Endpoints<'a>,
    tagged: Option<Range<usize>>,
}

impl Visitor for Walk<'_> {
    fn field(&mut self, visit: Visit) {
        self.endpoints.field(&visit);
    }

    fn element_end(&mut self, field: &'static Field, at: usize) {
        self.endpoints.element_end(field, at);
    }

    fn tagged_end(&mut self, field: &'static Field, range: Range<usize>) {
        if field.name == NODE_ENDPOINTS {
            self.tagged = Some(range);
        }
    }
}

fn walk<'a>(shape: &Shape, version: i16, body: &'a [u8]) -> Result<Walk<'a>, WireError> {
    let mut walk = Walk { endpoints: Endpoints::new(body, true, NODE_ENDPOINTS, "node_id"), tagged: None };
    walk_with(shape, version, body, &mut walk)?;
    Ok(walk)
}

pub fn produce(version: i16, body: &[u8], view: &View, learned: &mut Vec<Learned>) -> Result<Edits, WireError> {
    let Walk { endpoints, tagged } = walk(&produce::RESPONSE, version, body)?;
    let mut edits = Edits::default();
    let Some(tagged) = tagged else { return Ok(edits) };
    let mut value = BytesMut::new();
    let kept: Vec<_> = endpoints.found.iter().filter_map(|found| Some((found, view.address(found.node)?))).collect();
    put_count(&mut value, true, kept.len());
    for (found, address) in kept {
        value.put_slice(&body[found.node_at.clone()]);
        put_string(&mut value, true, address.host.as_bytes());
        value.put_i32(address.port.into());
        // Rack and tagged fields as they are.
        value.put_slice(&body[found.port_at.end..found.whole.end]);
    }
    learned.extend(endpoints.found.iter().filter_map(|found| endpoints.real(found)));
    let mut field = BytesMut::with_capacity(value.len() + 6);
    field.put_u8(0);
    put_uvarint(&mut field, value.len() as u32);
    field.put_slice(&value);
    edits.bytes(tagged, field);
    Ok(edits)
}

pub fn share_acknowledge(
    version: i16,
    body: &[u8],
    view: &View,
    learned: &mut Vec<Learned>,
) -> Result<Edits, WireError> {
    let Walk { endpoints, .. } = walk(&SHARE_ACKNOWLEDGE_RESPONSE, version, body)?;
    let mut edits = Edits::default();
    endpoints.rewrite(view, &mut edits, learned);
    Ok(edits)
}

//! ApiVersions: what a broker offers, cut down to what this proxy has looked at ([`crate::apis`]), per broker.
//!
//! A version a broker does not know is answered in version 0 with UNSUPPORTED_VERSION, whatever was asked (KIP-511).
//! Features (KIP-584) pass: nothing is cut that they promise, as long as the list of APIs is not behind its broker by
//! more than versions (then Produce stays at 13, which has transactions of version 2).

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use kafka_wire::pieces::put_count;
use kafka_wire::shape::{Field, Visit, Visitor, walk_with};
use kafka_wire::{ErrorCode, WireError};

use crate::apis;
use crate::edit::Edits;
use crate::rewrite::int16;
use crate::shapes::{API_VERSIONS_REQUEST, API_VERSIONS_RESPONSE};

#[derive(Default)]
struct Walk {
    array: Range<usize>,
    count_end: usize,
    rows: Vec<[Range<usize>; 3]>,
    row: [Range<usize>; 3],
}

impl Visitor for Walk {
    fn field(&mut self, visit: Visit) {
        match visit.field.name {
            "api_keys" => {
                self.count_end = visit.range.end;
                self.array = visit.range;
            }
            "api_key" => self.row[0] = visit.range,
            "min_version" => self.row[1] = visit.range,
            "max_version" => self.row[2] = visit.range,
            _ => {}
        }
    }

    fn element_end(&mut self, _: &'static Field, at: usize) {
        self.array.end = at;
        self.rows.push(std::mem::take(&mut self.row));
    }
}

pub fn edits(asked: i16, body: &[u8]) -> Result<Edits, WireError> {
    let is_unsupported = body.get(..2).is_some_and(|code| code == ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
    let version = if is_unsupported { 0 } else { asked };
    let flexible = version >= API_VERSIONS_RESPONSE.flexible_from;
    let mut walk = Walk::default();
    walk_with(&API_VERSIONS_RESPONSE, version, body, &mut walk)?;
    let mut kept = Vec::with_capacity(walk.rows.len());
    for [key, min, max] in &walk.rows {
        let (key, min, max) = (int16(body, key), int16(body, min), int16(body, max));
        if let Some(api) = apis::offered(key).filter(|api| min <= api.version_max) {
            kept.push([key, min, max.min(api.version_max)]);
        }
    }
    let mut array = BytesMut::with_capacity(walk.array.len());
    put_count(&mut array, flexible, kept.len());
    for row in kept {
        row.iter().for_each(|number| array.put_i16(*number));
        if flexible {
            array.put_u8(0);
        }
    }
    let mut edits = Edits::default();
    edits.bytes(walk.array, array);
    Ok(edits)
}

/// Who a client says it is, and which broker it believes to be talking to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asker {
    pub software_name: String,
    pub software_version: String,
    /// Where the identity of KIP-1242 stands in the body: cluster id and node id.
    pub identity_at: Option<(Range<usize>, Range<usize>)>,
}

/// Reads a request's body.
pub fn asker(version: i16, body: &[u8]) -> Result<Asker, WireError> {
    let mut asker = Asker::default();
    let mut cluster_at = None;
    kafka_wire::shape::walk(&API_VERSIONS_REQUEST, version, body, |visit| {
        let text = || crate::rewrite::text(body, &visit.range, true).unwrap_or_default().to_owned();
        match visit.field.name {
            "client_software_name" => asker.software_name = text(),
            "client_software_version" => asker.software_version = text(),
            "cluster_id" => cluster_at = Some(visit.range),
            "node_id" => asker.identity_at = cluster_at.take().map(|cluster| (cluster, visit.range)),
            _ => {}
        }
    })?;
    Ok(asker)
}

/// Takes the identity out of a request that goes to another broker than the one its client means.
pub fn without_identity(asker: &Asker) -> Edits {
    let mut edits = Edits::default();
    if let Some((cluster_at, node_at)) = &asker.identity_at {
        edits.bytes(cluster_at.clone(), BytesMut::from(&[0][..]));
        edits.int32(node_at.clone(), -1);
    }
    edits
}

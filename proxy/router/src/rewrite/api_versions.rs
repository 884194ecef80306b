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
    /// Behind the last field of the message that is no tagged one.
    fields_end: usize,
}

impl Visitor for Walk {
    fn field(&mut self, visit: Visit) {
        if visit.depth == 0 {
            self.fields_end = visit.range.end;
        }
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
        (self.array.end, self.fields_end) = (at, at);
        self.rows.push(std::mem::take(&mut self.row));
    }
}

/// The rows of an answer, for whoever keeps them.
#[derive(Debug)]
pub struct Rows {
    /// Key, first and last version.
    pub rows: Vec<[i16; 3]>,
    /// Where the tagged fields of the message begin; the end of older versions.
    pub end: usize,
}

impl Rows {
    /// Reads a whole answer, in the version it was asked for or in version 0 with UNSUPPORTED_VERSION.
    pub fn read(asked: i16, body: &[u8]) -> Result<Rows, WireError> {
        let mut walk = Walk::default();
        let version = version_of(asked, body);
        walk_with(&API_VERSIONS_RESPONSE, version, body, &mut walk)?;
        let rows = walk.rows.iter().map(|row| row.each_ref().map(|range| int16(body, range))).collect();
        Ok(Rows { rows, end: walk.fields_end })
    }
}

fn version_of(asked: i16, body: &[u8]) -> i16 {
    let is_unsupported = body.get(..2).is_some_and(|code| code == ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
    if is_unsupported { 0 } else { asked }
}

pub fn edits(asked: i16, body: &[u8]) -> Result<Edits, WireError> {
    let version = version_of(asked, body);
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

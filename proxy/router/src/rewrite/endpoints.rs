//! Arrays of (node id, host, port): found on a walk, then written anew or cut out.

use std::ops::Range;

use kafka_wire::shape::{Field, Kind, Visit};

use crate::edit::Edits;
use crate::rewrite::{int32, text};
use crate::topology::{Address, Learned, View};

/// One element of such an array.
#[derive(Debug, Clone, Default)]
pub struct Endpoint {
    pub node: i32,
    pub node_at: Range<usize>,
    pub host_at: Range<usize>,
    pub port_at: Range<usize>,
    pub error_at: Range<usize>,
    /// All of it.
    pub whole: Range<usize>,
}

/// The elements of one array of a message.
#[derive(Debug)]
pub struct Endpoints<'a> {
    body: &'a [u8],
    flexible: bool,
    array: &'static str,
    node_field: &'static str,
    inside: bool,
    pub count_at: Range<usize>,
    pub found: Vec<Endpoint>,
    next: Endpoint,
}

impl<'a> Endpoints<'a> {
    /// `array` is a field of the message, `node_field` the name of the node id in its elements.
    pub fn new(body: &'a [u8], flexible: bool, array: &'static str, node_field: &'static str) -> Endpoints<'a> {
        let next = Endpoint::default();
        Endpoints { body, flexible, array, node_field, inside: false, count_at: 0..0, found: Vec::new(), next }
    }

    /// To be told of every field.
    pub fn field(&mut self, visit: &Visit) {
        if visit.depth == 0 {
            self.inside = visit.field.name == self.array && matches!(visit.kind, Kind::Array(_));
            if self.inside {
                self.count_at = visit.range.clone();
                self.next.whole.start = visit.range.end;
            }
            return;
        }
        if !self.inside || visit.depth != 1 {
            return;
        }
        let range = visit.range.clone();
        match visit.field.name {
            "host" => self.next.host_at = range,
            "port" => self.next.port_at = range,
            "error_code" => self.next.error_at = range,
            name if name == self.node_field => {
                self.next.node = int32(self.body, &range);
                self.next.node_at = range;
            }
            _ => {}
        }
    }

    /// To be told of every element's end.
    pub fn element_end(&mut self, field: &'static Field, at: usize) {
        if self.inside && field.name == self.array {
            self.next.whole.end = at;
            let next = Endpoint { whole: at..at, ..Endpoint::default() };
            self.found.push(std::mem::replace(&mut self.next, next));
        }
    }

    /// Whether it says anything: a coordinator that was not found has no host.
    pub fn has_host(&self, endpoint: &Endpoint) -> bool {
        text(self.body, &endpoint.host_at, self.flexible) != Some("")
    }

    /// Where a broker really listens.
    pub fn real(&self, endpoint: &Endpoint) -> Option<Learned> {
        let host = text(self.body, &endpoint.host_at, self.flexible)?;
        let port = u16::try_from(int32(self.body, &endpoint.port_at)).ok().filter(|port| *port > 0)?;
        let is_real = endpoint.node >= 0 && !host.is_empty();
        is_real.then(|| Learned { node: endpoint.node, address: Address { host: host.to_owned(), port } })
    }

    /// Writes what clients may know in place of what was found; brokers without a place in the view are cut out.
    pub fn rewrite(&self, view: &View, edits: &mut Edits, learned: &mut Vec<Learned>) {
        let mut kept = 0;
        for endpoint in &self.found {
            learned.extend(self.real(endpoint));
            match view.address(endpoint.node) {
                Some(address) => {
                    kept += 1;
                    self.put(endpoint, &address, edits);
                }
                None => edits.cut(endpoint.whole.clone()),
            }
        }
        if kept != self.found.len() {
            edits.count(self.count_at.clone(), self.flexible, kept);
        }
    }

    /// Writes an address in place of an endpoint's.
    pub fn put(&self, endpoint: &Endpoint, address: &Address, edits: &mut Edits) {
        edits.string(endpoint.host_at.clone(), self.flexible, &address.host);
        edits.int32(endpoint.port_at.clone(), address.port.into());
    }
}

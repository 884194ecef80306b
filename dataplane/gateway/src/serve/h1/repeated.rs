//! A publish like the last one of its connection.
//!
//! A client that publishes keeps its connection and sends the same head again and again: only the query (the key) and
//! the length differ. The first of them is parsed, authenticated, authorized and routed; what came of that is kept
//! here, and holds for the next while the snapshot is the same. Anything that differs elsewhere in the head, or has a
//! meaning of its own per message (tags, record headers, a request id, a trace, a content coding), takes the long way.
//!
//! Per connection: about 500 bytes, at most [`REPEATED_HEAD_BYTES_MAX`] of head, made when a head came twice, dropped
//! with the connection. A client that never repeats itself is not tried for ever.

use crate::access::Access;
use crate::env::Env;
use crate::exchange::meta::Meta;
use crate::kafka::Clusters;
use crate::kafka::destination::Destination;
use crate::limits::REPEATED_HEAD_BYTES_MAX;
use crate::publish::headers::RecordHeaders;
use gafka_http::{Head, HeadLimits, HeadTemplate, Method, Repeat};
use model::Generation;

/// Templates that were of no use in a row before a connection is given up.
const USELESS_MAX: u8 = 8;

/// What was decided about a head.
pub struct Repeated {
    template: HeadTemplate,
    generation: Generation,
    pub destination: Destination,
    minor_version: u8,
    origin: Option<u16>,
}

impl Repeated {
    /// What it was decided by is what rules now: credentials, grants, topics and their options.
    pub fn is_in_force(&self, access: &Access) -> bool {
        self.generation == access.borrow_snapshot().generation
    }

    /// As [`Meta::of`] the head itself.
    pub fn meta(&self, env: &Env) -> Meta {
        Meta {
            id: env.next_request_id(),
            keep_alive: true,
            minor_version: self.minor_version,
            origin: self.origin,
            head_only: false,
        }
    }
}

/// What a connection remembers of its publishes. One per connection.
#[derive(Default)]
pub struct Memory {
    known: Option<Box<Repeated>>,
    /// Hash of the path of the last publish that took the long way: remembered when it comes twice.
    last: u64,
    useless: u8,
}

impl Memory {
    /// The whole request at the start of `buf`, when it is like the one remembered.
    pub fn find<'b>(&mut self, access: &Access, clusters: &Clusters, buf: &'b [u8]) -> Option<(&Repeated, Repeat<'b>)> {
        let known = self.known.as_deref()?;
        let repeat = known.template.find(buf, &HeadLimits::default())?;
        let is_whole = buf.len() - repeat.head_bytes >= repeat.body_bytes;
        if !is_whole || !known.is_in_force(access) || !clusters.is_current(known.destination.route) {
            return None;
        }
        self.useless = 0;
        Some((known, repeat))
    }

    /// A publish was accepted the long way.
    pub fn learn(&mut self, access: &Access, meta: &Meta, head: &Head<'_>, buf: &[u8], destination: Destination) {
        if self.useless >= USELESS_MAX || !is_repeatable(meta, head) {
            return;
        }
        let path = head.path.as_bytes().iter().fold(0_u64, |hash, byte| hash.rotate_left(5) ^ u64::from(*byte));
        if std::mem::replace(&mut self.last, path) != path {
            return;
        }
        self.useless += 1; // until it is found again
        self.known = HeadTemplate::of(head, buf).map(|template| {
            Box::new(Repeated {
                template,
                generation: access.borrow_snapshot().generation,
                destination,
                minor_version: meta.minor_version,
                origin: meta.origin,
            })
        });
    }
}

fn is_repeatable(meta: &Meta, head: &Head<'_>) -> bool {
    meta.keep_alive
        && head.method == Method::Post
        && head.head_bytes <= REPEATED_HEAD_BYTES_MAX
        && head.known.x_request_id.is_none()
        && head.known.content_encoding.is_none()
        && RecordHeaders::are_none(head)
}

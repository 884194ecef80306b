//! What an answer needs to know of its request once the head is gone.

use crate::env::Env;
use gafka_http::{Head, Method};
use smallvec::SmallVec;

/// Longest `X-Request-Id` of a client that is echoed; a longer one is replaced by ours.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// One per request.
#[derive(Debug, Clone)]
pub struct Meta {
    pub id: SmallVec<[u8; 24]>,
    pub keep_alive: bool,
    /// 0 or 1: HTTP/1.0 or HTTP/1.1.
    pub minor_version: u8,
    /// Index in the configured origins, when the request comes from one of them.
    pub origin: Option<u16>,
    /// A HEAD request, whose answer has no body.
    pub head_only: bool,
}

impl Meta {
    pub fn of(head: &Head<'_>, env: &Env) -> Meta {
        let id = match head.known.x_request_id {
            Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX => SmallVec::from_slice(id),
            _ => env.next_request_id(),
        };
        let origin = head.known.origin.and_then(|origin| env.allowed_origin(origin));
        Meta {
            id,
            keep_alive: head.keep_alive,
            minor_version: head.minor_version,
            origin,
            head_only: head.method == Method::Head,
        }
    }

    /// For an answer to bytes that were no request.
    pub fn none(env: &Env) -> Meta {
        Meta { id: env.next_request_id(), keep_alive: false, minor_version: 1, origin: None, head_only: false }
    }
}

//! One file per response that carries addresses: what is found in it, what clients read instead.
//!
//! A rewriter walks the body by its shape and lists edits; everything it does not name stays byte for byte, unknown tagged
//! fields included. `rewrite` then `decode` with kafka-protocol equals `decode` then substitute: `tests/rewriters.rs`.

pub mod api_versions;
mod describe_cluster;
mod describe_quorum;
mod describe_topic_partitions;
mod endpoints;
mod find_coordinator;
mod metadata;
mod node_endpoints;

use std::ops::Range;

use bytes::Bytes;
use kafka_wire::WireError;

use crate::apis::Rewriter;
use crate::edit::Edits;
use crate::topology::{Learned, View};

/// Writes a whole response frame (length in front) for a client with this view. What the brokers said of themselves is
/// added to `learned`.
pub fn rewrite(
    rewriter: Rewriter,
    version: i16,
    frame: &Bytes,
    header_bytes: usize,
    view: &View,
    learned: &mut Vec<Learned>,
) -> Result<Bytes, WireError> {
    let body_at = 4 + header_bytes;
    let body = frame.get(body_at..).unwrap_or_default();
    Ok(edits(rewriter, version, body, view, learned)?.apply(frame, body_at))
}

/// What is to be changed in a response's body.
pub fn edits(
    rewriter: Rewriter,
    version: i16,
    body: &[u8],
    view: &View,
    learned: &mut Vec<Learned>,
) -> Result<Edits, WireError> {
    Ok(match rewriter {
        Rewriter::ApiVersions => api_versions::edits(version, body)?,
        Rewriter::DescribeCluster => describe_cluster::edits(version, body, view, learned)?,
        Rewriter::DescribeQuorum => describe_quorum::edits(version, body)?,
        Rewriter::DescribeTopicPartitions => describe_topic_partitions::edits(version, body, view)?,
        Rewriter::FindCoordinator => find_coordinator::edits(version, body, view, learned)?,
        Rewriter::Metadata => metadata::edits(version, body, view, learned)?,
        Rewriter::Produce => node_endpoints::produce(version, body, view, learned)?,
        Rewriter::ShareAcknowledge => node_endpoints::share_acknowledge(version, body, view, learned)?,
    })
}

pub(crate) fn int16(body: &[u8], range: &Range<usize>) -> i16 {
    body[range.clone()].try_into().map(i16::from_be_bytes).unwrap_or(0)
}

pub(crate) fn int32(body: &[u8], range: &Range<usize>) -> i32 {
    body[range.clone()].try_into().map(i32::from_be_bytes).unwrap_or(-1)
}

/// The text behind its length; None when null or not UTF-8.
pub(crate) fn text<'a>(body: &'a [u8], range: &Range<usize>, flexible: bool) -> Option<&'a str> {
    kafka_wire::pieces::text(&body[range.clone()], flexible)
}

/// A broker that has no place at this proxy leads nothing, for clients.
fn hide_leader(body: &[u8], error_at: &Range<usize>, leader_at: Range<usize>, view: &View, edits: &mut Edits) {
    let leader = int32(body, &leader_at);
    if leader < 0 || view.has_place(leader) {
        return;
    }
    if int16(body, error_at) == 0 {
        edits.int16(error_at.clone(), kafka_wire::ErrorCode::LEADER_NOT_AVAILABLE.0);
    }
    edits.int32(leader_at, -1);
}

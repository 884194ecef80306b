//! Who leads now and where it listens (KIP-951), as the answers to Produce, Fetch and the share requests say it.

use crate::shape::Kind::*;
use crate::shape::{Field, field};

/// The leader of a partition.
pub const LEADER: &[Field] = &[field("leader_id", Int32), field("leader_epoch", Int32)];

/// Where a leader listens.
pub const NODE_ENDPOINT: &[Field] =
    &[field("node_id", Int32), field("host", String), field("port", Int32), field("rack", String).nullable()];

/// Name of the field with [`NODE_ENDPOINT`]s, in every message that has it.
pub const NODE_ENDPOINTS: &str = "node_endpoints";

//! OffsetDelete (API 47): a group forgets some of its offsets (KIP-496); never flexible.

use crate::shape::Kind::*;
use crate::shape::{Field, NEVER_FLEXIBLE, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "OffsetDeleteRequest",
    versions: (0, 0),
    flexible_from: NEVER_FLEXIBLE,
    fields: &[field("group_id", String), field("topics", Array(&Struct(OFFSET_DELETE_REQUEST_TOPIC)))],
};

const OFFSET_DELETE_REQUEST_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(OFFSET_DELETE_REQUEST_PARTITION)))];

const OFFSET_DELETE_REQUEST_PARTITION: &[Field] = &[field("partition_index", Int32)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "OffsetDeleteResponse",
    versions: (0, 0),
    flexible_from: NEVER_FLEXIBLE,
    fields: &[
        field("error_code", Int16),
        field("throttle_time_ms", Int32),
        field("topics", Array(&Struct(OFFSET_DELETE_RESPONSE_TOPIC))),
    ],
};

const OFFSET_DELETE_RESPONSE_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(OFFSET_DELETE_RESPONSE_PARTITION)))];

const OFFSET_DELETE_RESPONSE_PARTITION: &[Field] = &[field("partition_index", Int32), field("error_code", Int16)];

//! DeleteRecords (API 21): everything before an offset (KIP-107).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DeleteRecordsRequest",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[field("topics", Array(&Struct(DELETE_RECORDS_TOPIC))), field("timeout_ms", Int32)],
};

const DELETE_RECORDS_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(DELETE_RECORDS_PARTITION)))];

const DELETE_RECORDS_PARTITION: &[Field] = &[field("partition_index", Int32), field("offset", Int64)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DeleteRecordsResponse",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[field("throttle_time_ms", Int32), field("topics", Array(&Struct(DELETE_RECORDS_TOPIC_RESULT)))],
};

const DELETE_RECORDS_TOPIC_RESULT: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(DELETE_RECORDS_PARTITION_RESULT)))];

const DELETE_RECORDS_PARTITION_RESULT: &[Field] =
    &[field("partition_index", Int32), field("low_watermark", Int64), field("error_code", Int16)];

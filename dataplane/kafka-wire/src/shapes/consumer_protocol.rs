//! What consumers of a classic group say inside JoinGroup and SyncGroup, after its 16-bit version.
//!
//! These bytes are the members' own protocol: a coordinator passes them on unread. Versions differ by fields added at
//! the end only, so an unknown newer one is read as the newest known, and bytes that follow are ignored.

use crate::shape::Kind::*;
use crate::shape::{Field, NEVER_FLEXIBLE, Shape, field};

/// What a member wants and still owns (KIP-429, KIP-792, KIP-881).
pub const SUBSCRIPTION: Shape = Shape {
    name: "ConsumerProtocolSubscription",
    versions: (0, 3),
    flexible_from: NEVER_FLEXIBLE,
    fields: &[
        field("topics", Array(&String)),
        field("user_data", Bytes).nullable(),
        field("owned_partitions", Array(&Struct(OWNED_TOPIC))).since(1),
        field("generation_id", Int32).since(2),
        field("rack_id", String).since(3).nullable(),
    ],
};

const OWNED_TOPIC: &[Field] = &[field("topic", String).since(1), field("partitions", Array(&Int32)).since(1)];

/// What a member gets.
pub const ASSIGNMENT: Shape = Shape {
    name: "ConsumerProtocolAssignment",
    versions: (0, 3),
    flexible_from: NEVER_FLEXIBLE,
    fields: &[field("assigned_partitions", Array(&Struct(ASSIGNED_TOPIC))), field("user_data", Bytes).nullable()],
};

const ASSIGNED_TOPIC: &[Field] = &[field("topic", String), field("partitions", Array(&Int32))];

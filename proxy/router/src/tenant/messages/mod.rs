//! One file for each API that needs more than its rule says.

pub mod consumer_group;
pub mod consumer_protocol;
pub mod coordinator;
pub mod metadata;

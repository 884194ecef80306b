//! The Kafka client as state machines: bytes in, bytes out, `now` as a parameter, no socket and no clock.

pub mod group;

//! A second opinion: librdkafka, which is nobody's code of ours, on the other end of the wire.
//!
//! - Its mock cluster is the broker for `kafka-client`: real TCP, errors pushed per API, leaders that move, brokers
//!   that go down, slow answers. Every record is read back with librdkafka's consumer, and what the publisher was
//!   told must be true (`truth`).
//! - Its producer and consumer are clients of `embedded-kafka` (`interop`).
//!
//! librdkafka is C and takes a minute to build, so nothing but these tests depends on it.
//!
//! What the mock cannot do, so that nobody looks for it here: it checks sequence numbers of transactional producers
//! only, so an attempt that was appended but not answered is appended again by a retry (the simulation of
//! `kafka-client` and the real brokers of `testkit` prove that case); it pushes no errors into Metadata, only into a
//! topic of it; it throttles nobody; it keeps 5 MiB of a partition; a partition without a leader makes its Produce 10
//! crash the process.

mod brokers;
mod interop;
mod produce;
mod publisher;
mod trouble;
mod truth;

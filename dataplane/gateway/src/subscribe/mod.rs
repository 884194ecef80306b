//! Subscribe: polls of consumer groups, from the request value to the bytes of the answer.
//!
//! | File | Story |
//! |---|---|
//! | [`subscriptions`] | which shard owns a group, and how polls and answers travel |
//! | [`origin`] | the polls that came in on this shard |
//! | [`owner`] | the groups that live on this shard |
//! | [`mail`] | what the two say to each other |
//! | [`subscription`] | a poll queue and the Kafka group member that feeds it; joins with the first poll, leaves after the last |
//! | [`poll_queue`] | the waiting polls of one group and topic, served first come first served; what is handed out, what comes back |
//! | [`query`] | the query string, typed, with every 400 it can earn |
//! | [`memory`] | what all of it may keep in memory, and who lets go first |
//! | [`framing`] | records as an answer in each of the five forms |
//! | [`limits`] | every bound of the above |
//!
//! A subscription lives on one shard; polls that arrive on another come to it as values. Acknowledgement is at most once
//! here: a record counts as read when its response reached the network, and goes back to the front of its partition when
//! the client was gone before. `ack=1`, `ack=receipt` and the shadow queues will bring their own bookkeeping beside
//! [`poll_queue`]; until then [`query`] refuses them.

pub mod framing;
pub mod limits;
pub mod mail;
pub mod memory;
pub mod origin;
mod owner;
pub mod poll_queue;
pub mod query;
pub mod subscription;
pub mod subscriptions;

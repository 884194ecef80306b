//! Subscribe, without I/O: what `GET /v1/msgs/:appid/:topic/:ver?group=` means, from its query to the bytes it answers.
//!
//! | File | Story |
//! |---|---|
//! | [`query`] | the query string, typed, with every 400 it can earn |
//! | [`tags`] | `X-Tag`: what a filter lets through, and the tags the 2017 gateway put in front of payloads |
//! | [`desk`] | the waiting polls of one group and topic, served first come first served; what is handed out, what comes back |
//! | [`subscription`] | a desk and the Kafka group member that feeds it; joins with the first poll, leaves after the last |
//! | [`framing`] | records as an HTTP response in each of the five forms |
//! | [`limits`] | every bound of the above |
//!
//! A subscription lives on one shard; polls that arrive on another come to it as values. Acknowledgement is at most once
//! here: a record counts as read when its response reached the network, and goes back to the front of its partition when
//! the client was gone before. `ack=1`, `ack=receipt` and the shadow queues will bring their own bookkeeping beside
//! [`desk`]; until then [`query`] refuses them.

pub mod desk;
pub mod framing;
pub mod limits;
pub mod query;
pub mod subscription;
pub mod tags;

/// Why a poll gets no records and no 204: a status, a stable code, a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into() }
    }
}

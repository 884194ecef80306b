//! Many records of one request, stored and answered one by one.
//!
//! The body is never held: [`feed::Feed`] is given each run of bytes as it arrives, and hands every record that is
//! complete to its [`sink::Sink`] at once: the Kafka client, or the store of delayed jobs. [`session::Session`] is told the outcomes and becomes the answer. What bounds
//! memory is the number of records with Kafka, not the size of the body: beyond it the body is not read on, which the
//! client sees as TCP back-pressure.
//!
//! ```text
//!   bytes ──► body/streaming ──► feed ──► Client::produce(tag = this request, index) ──► … ──► outcome
//!                  ▲ not read on            │ open a receipt                                      │
//!                  └──── too many unanswered└──────────────► session: receipts ◄──────────────────┘
//!                                                              │ body over, all settled; or stream=1: at once
//!                                                              └──► the connection's slot
//! ```
//!
//! Cost of a record of 100 bytes: parse, one copy into the open record batch, a receipt of 16 bytes (none for the
//! summary). Everything else is per run: of received bytes, and of records that shared a record batch.

pub mod feed;
pub mod session;
pub mod sink;
mod to_jobs;
mod to_kafka;

pub use to_jobs::ToJobs;
pub use to_kafka::ToKafka;

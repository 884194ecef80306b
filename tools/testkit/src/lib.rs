//! Real components for tests: Apache Kafka, kcat, Python and Java clients, and what drives and checks them.
//!
//! Nothing here knows how gafka works inside. The kit talks to our binaries as a user would (command line, ready
//! line, HTTP, Kafka protocol through other people's clients), so that a mistake shared by our own client and our own
//! server still shows.
//!
//! Reading order: [`components`] (what exists and how it is fetched), [`process`] (nothing outlives the test run),
//! [`kafka`] (clusters), [`daemon`] (our binaries), then the clients and [`ledger`], which proves that nothing
//! acknowledged was lost, doubled or reordered, and [`judgement`], which does so where Kafka was away.
//!
//! Invariants:
//! - Every child and all that came from it are killed when its handle drops, and when this process dies.
//! - Every component is named by package and version; what was fetched is checked against `components.lock`.
//! - Every wait has a deadline and says what it waited for.

pub mod cache;
pub mod components;
pub mod daemon;
pub mod fetch;
pub mod foreign;
pub mod gateway;
pub mod go;
pub mod http;
pub mod java;
pub mod judgement;
pub mod kafka;
pub mod kcat;
pub mod ledger;
pub mod librdkafka_suite;
pub mod limits;
pub mod load;
pub mod lockfile;
pub mod login;
pub mod npm;
pub mod pip;
pub mod ports;
pub mod process;
pub mod progress;
pub mod proxy;
pub mod python;
pub mod record;
pub mod rules;
pub mod seal;
pub mod steady;
pub mod system;
pub mod tether;
pub mod wait;
pub mod wire;

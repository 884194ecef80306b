//! What a [`crate::Client`] needs to know about its cluster and its manners.

use std::time::Duration;

pub use crate::sasl::{Mechanism, Sasl};

use crate::limits;

/// How connections are protected.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// The driver wraps every connection in TLS.
    pub tls: bool,
    /// Authenticate after ApiVersions.
    pub sasl: Option<Sasl>,
}

/// Settings of one client; one client per (shard, cluster).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Sent in every request header; brokers log it and tie quotas to it.
    pub client_id: String,
    /// `host:port` of some brokers. Order is where we start; all are tried.
    pub bootstrap: Vec<String>,
    /// TLS and SASL.
    pub security: Security,
    /// A broker that is silent for so long after a request has lost its connection.
    pub request_timeout: Duration,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// Metadata is asked again at least this often, so that new partitions are noticed.
    pub metadata_max_age: Duration,
    /// An unused connection to a bootstrap address is closed after this, once the real brokers are known.
    pub bootstrap_idle_max: Duration,
    /// Record batches of several records stay below it, 61-byte header included. A larger record goes alone.
    pub batch_bytes_max: usize,
    /// Largest record we take, as a batch of its own. Whether the broker does is up to the topic.
    pub record_bytes_max: usize,
    /// Bytes of batches in one Produce request; a single batch always goes.
    pub request_bytes_max: usize,
    /// Bytes of records accepted and not yet answered; beyond it produce answers QueueFull.
    pub queue_bytes_max: usize,
    /// Unanswered requests per connection.
    pub in_flight_max: usize,
    /// acks=all with producer id and sequence numbers. Without: a batch that may have been appended is told as unknown and
    /// never repeated; one that a broker refused as not its leader is repeated, and stored twice if that broker appended
    /// it all the same without saying where (Apache Kafka says where).
    pub idempotence: bool,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            client_id: "gafka".into(),
            bootstrap: Vec::new(),
            security: Security::default(),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            metadata_max_age: Duration::from_secs(5 * 60),
            bootstrap_idle_max: limits::BOOTSTRAP_IDLE_MAX,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            record_bytes_max: limits::LARGE_RECORD_BYTES_MAX,
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            queue_bytes_max: limits::QUEUE_BYTES_MAX,
            in_flight_max: 5,
            idempotence: true,
        }
    }
}

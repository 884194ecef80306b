//! What a gateway is started with: checked values, no file format.

use crate::limits::BODY_GRACE_HEADS;
use kafka_client::ClientConfig;
use runtime::Driver;
use runtime::net::tls::ClientTls;
use std::time::Duration;

/// Shared by all shards.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    pub shard_count: usize,
    /// Pin shard n to core n.
    pub pin: bool,
    /// `None`: the best the kernel allows.
    pub driver: Option<Driver>,
    /// Request bodies and queued records, all shards together.
    pub memory_bytes: u64,
    /// Largest message of any topic.
    pub message_bytes_max: usize,
    /// Default and longest wait for Kafka's answer.
    pub publish_timeout: Duration,
    pub idle_timeout: Duration,
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// A client that takes nothing of its answer for so long is cut off.
    pub write_timeout: Duration,
    pub cors_origins: Vec<String>,
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        GatewayConfig {
            shard_count: 1,
            pin: false,
            driver: None,
            memory_bytes: 1 << 30,
            message_bytes_max: 1_000_000,
            publish_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            cors_origins: Vec::new(),
        }
    }
}

impl GatewayConfig {
    /// How long a body may take to begin, before its bytes are counted.
    pub fn body_grace(&self) -> Duration {
        self.head_timeout * BODY_GRACE_HEADS
    }
}

/// One Kafka cluster; each shard makes its own client from it.
#[derive(Clone)]
pub struct ClusterSpec {
    pub name: String,
    pub client: ClientConfig,
    pub tls: Option<ClientTls>,
}

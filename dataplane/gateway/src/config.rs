//! What a gateway is started with: checked values, no file format.

use crate::limits::{
    BODY_GRACE_HEADS, HANDOFF_BYTES_MAX_DEFAULT, HANDOFF_FREE_BYTES_MIN_DEFAULT, PUBLISH_TIMEOUT_DEFAULT,
    QUEUE_LEFTOVER_CONNECTIONS, RECORD_META_BYTES_MAX,
};
use kafka_client::ClientConfig;
use kafka_client::limits::BATCH_HEADER_BYTES;
use runtime::Driver;
use runtime::budget::BudgetLimits;
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
    /// Client connections of one address, all shards together; 0: any number.
    pub connections_per_address: usize,
    /// Client connections that use one app's credentials, all shards together; 0: any number.
    pub connections_per_app: usize,
    pub cors_origins: Vec<String>,
    /// What is kept here of publishes that Kafka cannot take now.
    pub handoff: HandoffConfig,
    /// Messages that are kept here until they are due.
    pub jobs: JobsConfig,
}

/// Delayed jobs, kept in this gateway's own store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsConfig {
    /// Otherwise they are 503; what a store holds already fires all the same.
    pub enabled: bool,
    /// With less than this free on the disk nothing more is taken. `None`: [`JobsConfig::free_bytes_min`] has the rule.
    pub free_bytes_min: Option<u64>,
}

impl Default for JobsConfig {
    fn default() -> JobsConfig {
        JobsConfig { enabled: true, free_bytes_min: None }
    }
}

impl JobsConfig {
    /// What is left free on a disk of this size: as configured, or 5 GiB and at most a tenth of it.
    pub fn free_bytes_min(&self, disk_bytes: u64) -> u64 {
        self.free_bytes_min.unwrap_or_else(|| HANDOFF_FREE_BYTES_MIN_DEFAULT.min(disk_bytes / 10))
    }
}

/// Publishes that Kafka cannot take now, kept in this gateway's own journal until it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoffConfig {
    /// Otherwise they are 503; what a journal holds already is delivered all the same.
    pub enabled: bool,
    pub device: HandoffDevice,
    /// What the journal may have of the disk. `None`: [`HandoffConfig::bytes_max`] has the rule.
    pub bytes_max: Option<u64>,
    /// What may wait of one topic.
    pub topic_bytes_max: u64,
    /// What may wait of one app.
    pub app_bytes_max: u64,
    /// With less than this free on the disk nothing more is taken. `None`: [`HandoffConfig::free_bytes_min`] has the rule.
    pub free_bytes_min: Option<u64>,
    /// While the oldest record of a topic waits for longer, new ones of the topic are 503. Nothing is ever dropped for its
    /// age. `None`: however old.
    pub age_max: Option<Duration>,
    /// How long a receipt of a delivered record can be asked about.
    pub receipts_keep: Duration,
    /// Most that is delivered to one broker per second beside live traffic. `None`: as much as it takes.
    pub drain_bytes_per_s: Option<u64>,
}

/// How the journal writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandoffDevice {
    /// What the file system is best at.
    #[default]
    Auto,
    Mmap,
    Direct,
}

impl Default for HandoffConfig {
    fn default() -> HandoffConfig {
        HandoffConfig {
            enabled: true,
            device: HandoffDevice::Auto,
            bytes_max: None,
            topic_bytes_max: 1 << 30,
            app_bytes_max: 10 << 30,
            free_bytes_min: None,
            age_max: None,
            receipts_keep: Duration::from_secs(24 * 60 * 60),
            drain_bytes_per_s: None,
        }
    }
}

impl HandoffConfig {
    /// What the journal may have of a disk with so much free at the start: as configured, or 10 GiB and at most half of it.
    pub fn bytes_max(&self, free_bytes: u64) -> u64 {
        self.bytes_max.unwrap_or_else(|| HANDOFF_BYTES_MAX_DEFAULT.min(free_bytes / 2))
    }

    /// What is left free on a disk of this size: as configured, or 5 GiB and at most a tenth of it.
    pub fn free_bytes_min(&self, disk_bytes: u64) -> u64 {
        self.free_bytes_min.unwrap_or_else(|| HANDOFF_FREE_BYTES_MIN_DEFAULT.min(disk_bytes / 10))
    }
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        GatewayConfig {
            shard_count: 1,
            pin: false,
            driver: None,
            memory_bytes: 1 << 30,
            message_bytes_max: 1_000_000,
            publish_timeout: PUBLISH_TIMEOUT_DEFAULT,
            idle_timeout: Duration::from_secs(300),
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            connections_per_address: 0,
            connections_per_app: 20_000,
            cors_origins: Vec::new(),
            handoff: HandoffConfig::default(),
            jobs: JobsConfig::default(),
        }
    }
}

impl GatewayConfig {
    /// How long a body may take to begin, before its bytes are counted.
    pub fn body_grace(&self) -> Duration {
        self.head_timeout * BODY_GRACE_HEADS
    }

    /// What a shard may hold for others, and one tenant or cluster of it.
    pub fn budget(&self) -> BudgetLimits {
        BudgetLimits::shared((self.memory_bytes / self.shard_count.max(1) as u64) as usize)
    }

    /// A shard's client of one cluster: `client` with the limits that follow from those of this gateway.
    ///
    /// - A message of `message_bytes_max` with its key and headers goes, as a batch of its own where it is larger than
    ///   what brokers take by default; whether the topic takes it is the broker's word.
    /// - The client's queue is one pot for all tenants of the cluster, first come first served, so it must never be
    ///   what runs out: the budget is, which knows tenants. It holds what the budget lets wait for a cluster, and what
    ///   is not charged any more: batches on the wire whose records were answered 504 meanwhile.
    pub fn client(&self, client: ClientConfig) -> ClientConfig {
        let largest = self.message_bytes_max + RECORD_META_BYTES_MAX + BATCH_HEADER_BYTES;
        let record_bytes_max = client.batch_bytes_max.max(largest);
        let on_a_connection = client.in_flight_max * client.request_bytes_max.max(record_bytes_max);
        let queue_bytes_max = self.budget().cluster_bytes_max + QUEUE_LEFTOVER_CONNECTIONS * on_a_connection;
        ClientConfig { record_bytes_max, queue_bytes_max, ..client }
    }
}

/// One Kafka cluster; each shard makes its own client from it.
#[derive(Clone)]
pub struct ClusterSpec {
    pub name: String,
    pub client: ClientConfig,
    pub tls: Option<ClientTls>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MEMORY_BYTES_FLOOR, MESSAGE_BYTES_CEILING};

    #[test]
    fn the_clients_limits_follow_from_those_of_the_gateway_whatever_they_are() {
        for shard_count in [1, 2, 64] {
            for memory_bytes in [MEMORY_BYTES_FLOOR, 1 << 30, 64 << 30] {
                for message_bytes_max in [1, 1_000_000, 1_100_000, MESSAGE_BYTES_CEILING] {
                    let config =
                        GatewayConfig { shard_count, memory_bytes, message_bytes_max, ..GatewayConfig::default() };
                    let what = format!("{shard_count} shards, {memory_bytes} bytes, messages of {message_bytes_max}");
                    let (budget, client) = (config.budget(), config.client(ClientConfig::default()));
                    assert!(client.record_bytes_max > message_bytes_max + RECORD_META_BYTES_MAX, "{what}");
                    assert!(
                        budget.tenant_bytes_max * 2 <= budget.cluster_bytes_max,
                        "{what}: two tenants fit a cluster"
                    );
                    assert!(budget.cluster_bytes_max * 2 <= budget.total_bytes_max, "{what}: two clusters fit a shard");
                    let leftover = client.queue_bytes_max - budget.cluster_bytes_max;
                    assert!(
                        leftover >= client.in_flight_max * client.request_bytes_max.max(client.record_bytes_max),
                        "{what}: one frozen broker"
                    );
                }
            }
        }
    }

    #[test]
    fn the_journal_of_a_small_disk_leaves_half_of_what_is_free_unless_somebody_says_otherwise() {
        let (usual, gib) = (HandoffConfig::default(), 1_u64 << 30);
        let told = HandoffConfig { bytes_max: Some(3), free_bytes_min: Some(4), ..HandoffConfig::default() };
        for (free, budget) in [(0, 0), (8 * gib, 4 * gib), (20 * gib, 10 * gib), (1_000 * gib, 10 * gib)] {
            assert_eq!((usual.bytes_max(free), told.bytes_max(free)), (budget, 3), "{free} free");
        }
        for (disk, floor) in [(0, 0), (10 * gib, gib), (50 * gib, 5 * gib), (1_000 * gib, 5 * gib)] {
            assert_eq!((usual.free_bytes_min(disk), told.free_bytes_min(disk)), (floor, 4), "a disk of {disk}");
        }
    }

    #[test]
    fn larger_messages_do_not_make_batches_of_small_ones_larger_than_brokers_take_by_default() {
        let config = GatewayConfig { message_bytes_max: MESSAGE_BYTES_CEILING, ..GatewayConfig::default() };
        let client = config.client(ClientConfig::default());
        assert_eq!(client.batch_bytes_max, kafka_client::limits::BATCH_BYTES_MAX);
        assert_eq!(client.request_bytes_max, kafka_client::limits::REQUEST_BYTES_MAX);
    }
}

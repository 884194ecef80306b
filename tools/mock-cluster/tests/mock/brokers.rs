//! librdkafka's mock cluster, and its consumer to read back what lies there.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use crate::truth::Logs;

pub const TOPIC: &str = "orders";
/// The error that makes the mock close the connection instead of answering.
pub const HANG_UP: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT;

const READ_WITHIN: Duration = Duration::from_secs(20);

/// Brokers 1 to n on loopback. Partition p of every topic is led by broker p % n + 1.
pub struct Brokers {
    pub mock: MockCluster<'static, DefaultProducerContext>,
    broker_count: i32,
}

impl Brokers {
    pub fn start(broker_count: i32) -> Brokers {
        Brokers { mock: MockCluster::new(broker_count).expect("a mock cluster"), broker_count }
    }

    pub fn create(&self, topic: &str, partition_count: i32) {
        self.mock.create_topic(topic, partition_count, self.broker_count.min(3)).expect("a topic");
        for partition in 0..partition_count {
            self.mock.partition_leader(topic, partition, Some(partition % self.broker_count + 1)).expect("a leader");
        }
    }

    pub fn bootstrap(&self) -> String {
        self.mock.bootstrap_servers()
    }
}

/// Everything that lies in a topic, read with librdkafka from the beginning to the end as it is now.
pub fn read_back(bootstrap: &str, topic: &str, partition_count: i32) -> Logs {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "20")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer");
    let mut from = TopicPartitionList::new();
    let mut missing = 0;
    for partition in 0..partition_count {
        let (low, high) = consumer.fetch_watermarks(topic, partition, READ_WITHIN).expect("watermarks");
        missing += high - low;
        from.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&from).expect("an assignment");
    let mut logs = Logs::new();
    let end = Instant::now() + READ_WITHIN;
    while missing > 0 {
        assert!(Instant::now() < end, "{missing} records could not be read back");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                logs.entry(message.partition()).or_default().push((message.offset(), value));
                missing -= 1;
            }
            Some(Err(error)) => panic!("reading back: {error}"),
            None => {}
        }
    }
    logs
}

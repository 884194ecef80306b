//! A broker in a temporary directory and a small blocking client that speaks raw frames to it.
#![allow(dead_code, reason = "every test file uses its part of this")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, Hooks};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::cold::types::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::cold::types::{self, GroupId, TopicName};
use kafka_wire::cold::{self, RequestKind, ResponseKind, StrBytes};
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header::decode_response_header;
use kafka_wire::messages::fetch::{self, FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use kafka_wire::messages::produce::{self, OutPartition, OutTopic, PartitionResult, ProduceResponse};
use kafka_wire::record_batch::{BatchBuilder, RecordRef, SealedBatch, batches};

pub struct TestBroker {
    pub dir: tempfile::TempDir,
    pub kafka: Option<EmbeddedKafka>,
    config: EmbeddedConfig,
}

impl TestBroker {
    pub fn start() -> TestBroker {
        TestBroker::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut EmbeddedConfig)) -> TestBroker {
        let dir = tempfile::tempdir().unwrap();
        let mut config = EmbeddedConfig { data_dir: dir.path().join("data"), ..EmbeddedConfig::default() };
        change(&mut config);
        let kafka = EmbeddedKafka::start(config.clone()).unwrap();
        TestBroker { dir, kafka: Some(kafka), config }
    }

    pub fn hooks(&self) -> Hooks {
        self.kafka.as_ref().unwrap().hooks()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.kafka.as_ref().unwrap().addr())
    }

    /// Stops and starts again on the same directory, on a new port.
    pub fn restart(&mut self) {
        self.kafka.take().unwrap().stop();
        self.kafka = Some(EmbeddedKafka::start(self.config.clone()).unwrap());
    }
}

pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, correlation_id: 0 }
    }

    pub fn next_id(&mut self) -> i32 {
        self.correlation_id += 1;
        self.correlation_id
    }

    pub fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).unwrap();
    }

    /// One response frame without its length.
    pub fn receive(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(Bytes::from(frame))
    }

    /// The body of the next response, which must be the one expected.
    pub fn receive_body(&mut self, api: ApiKey, version: i16, correlation_id: i32) -> Bytes {
        let mut frame = self.receive().unwrap();
        assert_eq!(decode_response_header(&mut frame, api, version).unwrap(), correlation_id);
        frame
    }

    pub fn try_cold(&mut self, api: ApiKey, version: i16, request: impl Into<RequestKind>) -> io::Result<ResponseKind> {
        let id = self.next_id();
        let frame = cold::encode_request_frame(&request.into(), version, id, "test").unwrap();
        self.stream.write_all(&frame)?;
        let mut frame = self.receive()?;
        assert_eq!(decode_response_header(&mut frame, api, version).unwrap(), id);
        Ok(cold::decode_response(api, version, frame).unwrap())
    }

    pub fn cold(&mut self, api: ApiKey, version: i16, request: impl Into<RequestKind>) -> ResponseKind {
        self.try_cold(api, version, request).unwrap()
    }

    pub fn create(&mut self, name: &str, partitions: i32) -> ErrorCode {
        self.create_with(name, partitions, 1, &[])
    }

    pub fn create_with(&mut self, name: &str, partitions: i32, replicas: i16, configs: &[(&str, &str)]) -> ErrorCode {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))))
            .collect();
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_configs(configs);
        let request = types::CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
        match self.cold(ApiKey::CreateTopics, 5, RequestKind::CreateTopics(request)) {
            ResponseKind::CreateTopics(response) => ErrorCode(response.topics[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    pub fn send_produce(&mut self, acks: i16, topic: &str, partition: i32, batch: &SealedBatch) -> i32 {
        let id = self.next_id();
        let partitions = [OutPartition { index: partition, batch }];
        let topics = [OutTopic { name: topic, partitions: &partitions }];
        let frame = produce::encode_request_frame(9, id, "test", acks, 5000, &topics);
        self.send(&frame.concat());
        id
    }

    pub fn receive_produce(&mut self, id: i32) -> ProduceResponse {
        let body = self.receive_body(ApiKey::Produce, 9, id);
        produce::decode_response(9, body).unwrap()
    }

    pub fn produce_batch(&mut self, acks: i16, topic: &str, partition: i32, batch: &SealedBatch) -> PartitionResult {
        let id = self.send_produce(acks, topic, partition, batch);
        self.receive_produce(id).topics.remove(0).partitions.remove(0)
    }

    /// Produces values with acks=all and returns the offset of the first.
    pub fn produce(&mut self, topic: &str, partition: i32, values: &[&str]) -> i64 {
        let result = self.produce_batch(-1, topic, partition, &batch(values));
        assert_eq!(result.error, ErrorCode::NONE, "{:?}", result.error_message);
        result.base_offset
    }

    pub fn send_fetch(&mut self, request: &FetchRequest) -> i32 {
        let id = self.next_id();
        let frame = fetch::encode_request_frame(12, id, "test", request);
        self.send(&frame);
        id
    }

    pub fn receive_fetch(&mut self, id: i32) -> FetchResponse {
        let body = self.receive_body(ApiKey::Fetch, 12, id);
        fetch::decode_response(12, body).unwrap()
    }

    pub fn fetch(&mut self, request: &FetchRequest) -> FetchResponse {
        let id = self.send_fetch(request);
        self.receive_fetch(id)
    }

    /// Values and their offsets from one fetch that does not wait.
    pub fn read(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<(i64, String)> {
        let response = self.fetch(&fetch_request(topic, partition, offset, 0));
        let fetched = &response.topics[0].partitions[0];
        assert_eq!(fetched.error, ErrorCode::NONE);
        values(fetched.records.clone())
    }

    /// Everything in a partition.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Vec<(i64, String)> {
        let mut all: Vec<(i64, String)> = Vec::new();
        let (mut next, _) = self.offset_at(topic, partition, -2);
        loop {
            let some = self.read(topic, partition, next);
            let Some((last, _)) = some.last() else { return all };
            let from = next;
            next = last + 1;
            all.extend(some.into_iter().filter(|(offset, _)| *offset >= from));
        }
    }

    pub fn offset_at(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i64, i64) {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
        let request = types::ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        match self.cold(ApiKey::ListOffsets, 7, RequestKind::ListOffsets(request)) {
            ResponseKind::ListOffsets(response) => {
                let found = &response.topics[0].partitions[0];
                assert_eq!(found.error_code, 0);
                (found.offset, found.timestamp)
            }
            other => panic!("{other:?}"),
        }
    }

    /// True when the broker closed this connection.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.read(&mut byte), Ok(0))
            || matches!(self.receive(), Err(err) if err.kind() == io::ErrorKind::ConnectionReset)
    }
}

pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

pub fn group_id(value: &str) -> GroupId {
    GroupId(text(value))
}

pub fn batch(values: &[&str]) -> SealedBatch {
    batch_at(today_ms(), values)
}

/// Records older than the retention are gone within a second, perhaps before the test reads them.
pub fn today_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    since.as_millis() as i64
}

/// A batch whose n-th record has timestamp `first_ms + n`.
pub fn batch_at(first_ms: i64, values: &[&str]) -> SealedBatch {
    let mut builder = BatchBuilder::with_capacity(1024);
    for (at, value) in values.iter().enumerate() {
        builder.append(&RecordRef {
            timestamp_ms: first_ms + at as i64,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    builder.seal(Compression::None)
}

pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partitions = vec![FetchPartition::consumer(partition, offset, 1024 * 1024)];
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 10 * 1024 * 1024,
        topics: vec![FetchTopic { name: Bytes::copy_from_slice(topic.as_bytes()), partitions }],
        ..FetchRequest::default()
    }
}

pub fn values(records: Bytes) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    for batch in batches(records) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        for record in batch.records(64 * 1024 * 1024).unwrap() {
            let record = record.unwrap();
            all.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    all
}

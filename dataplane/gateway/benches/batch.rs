//! What a record of a batch costs without a socket: parsed out of the body, handed to the Kafka client, sealed, sent,
//! answered, its receipt written. A broker that answers every Produce at once stands in for the cluster; its work is
//! in the numbers of `batch/publish`, `batch/parse` has the parsers alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway::batch::{BatchLimits, BatchParser, ReceiptFormat, Receipts};
use kafka_client::{Acks, Client, ClientConfig, ConnId, TopicIdx};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, ResponseKind, StrBytes, types};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header;
use kafka_wire::messages::api_versions::{self, ApiRange, ApiVersionsResponse};
use kafka_wire::messages::produce;

const PARTITIONS: i32 = 4;
const RECORDS: u64 = 100;
/// As one read of a shard gives them.
const RUN_BYTES: usize = 64 << 10;

/// Answers one request frame (with its length) as a broker of one node would.
fn answer(mut frame: BytesMut, reply: &mut BytesMut) {
    frame.advance(4);
    let mut frame = frame.freeze();
    let header = header::decode_request_header(&mut frame).unwrap();
    let (api, version, id) = (header.api().unwrap(), header.api_version, header.correlation_id);
    match api {
        ApiKey::Produce => {
            let request = produce::decode_request(version, frame).unwrap();
            let mut response = produce::ProduceResponse::default();
            for topic in request.topics {
                let stored = |index| produce::PartitionResult::stored(index, 7, -1, 0);
                let partitions = topic.partitions.iter().map(|partition| stored(partition.index)).collect();
                response.topics.push(produce::TopicResult { name: topic.name, partitions });
            }
            reply.extend_from_slice(&produce::encode_response_frame(version, id, &response));
        }
        ApiKey::ApiVersions => {
            let ranges = cold::apis().map(|api| (api, cold::supported(api)));
            let mut apis: Vec<ApiRange> = ranges
                .map(|(api, range)| ApiRange { key: api.key(), min: *range.start(), max: *range.end() })
                .collect();
            apis.push(ApiRange { key: 0, min: 3, max: 12 });
            let response = ApiVersionsResponse { error: ErrorCode::NONE, apis, throttle_time_ms: 0 };
            reply.extend_from_slice(&api_versions::encode_response_frame(version, id, &response));
        }
        _ => {
            let response = match cold::decode_request(api, version, frame).unwrap() {
                RequestKind::Metadata(request) => metadata(request),
                RequestKind::InitProducerId(_) => {
                    let granted = types::InitProducerIdResponse::default();
                    ResponseKind::InitProducerId(granted.with_producer_id(7.into()).with_producer_epoch(0))
                }
                other => panic!("{other:?}"),
            };
            reply.extend_from_slice(&cold::encode_response_frame(&response, api, version, id).unwrap());
        }
    }
}

fn metadata(request: types::MetadataRequest) -> ResponseKind {
    let broker = types::metadata_response::MetadataResponseBroker::default()
        .with_node_id(1.into())
        .with_host(StrBytes::from_static_str("b"))
        .with_port(9092);
    let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
        let partitions = (0..PARTITIONS).map(|partition| {
            types::metadata_response::MetadataResponsePartition::default()
                .with_partition_index(partition)
                .with_leader_id(1.into())
        });
        types::metadata_response::MetadataResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    let response = types::MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics.collect());
    ResponseKind::Metadata(response)
}

/// Until nothing moves.
fn settle(client: &mut Client, receipts: &mut Receipts, now: Instant) {
    loop {
        client.flush(now);
        let mut moved = false;
        while let Some(connect) = client.poll_connect(now) {
            client.on_connected(connect.conn, now);
            moved = true;
        }
        while let Some(conn) = client.poll_transmit_ready() {
            moved = true;
            exchange(client, conn, now);
        }
        while let Some(outcome) = client.poll_outcome() {
            let stored = outcome.result.expect("the broker takes everything");
            let (first, count) = (u64::from(outcome.record_first), u64::from(outcome.count));
            receipts.stored_run(first, count, stored.partition, stored.offset);
        }
        if !moved {
            return;
        }
    }
}

fn exchange(client: &mut Client, conn: ConnId, now: Instant) {
    let mut sent = BytesMut::new();
    client.take_transmit(conn).iter().for_each(|part| sent.extend_from_slice(part));
    let mut reply = BytesMut::new();
    while sent.len() >= 4 {
        let length = i32::from_be_bytes([sent[0], sent[1], sent[2], sent[3]]) as usize;
        answer(sent.split_to(4 + length), &mut reply);
    }
    client.on_bytes(conn, &mut reply, now);
}

fn parser(content_type: &str) -> BatchParser {
    BatchParser::for_content_type(content_type.as_bytes(), BatchLimits::new(1_000_000)).expect("a known type")
}

fn warm(now: Instant) -> (Client, TopicIdx) {
    let mut client = Client::new(ClientConfig { bootstrap: vec!["b:9092".into()], ..ClientConfig::default() }, 1, now);
    let topic = client.topic("orders.v1");
    let mut receipts = Receipts::new(ReceiptFormat::Summary);
    publish(&mut client, topic, "application/x-ndjson", b"{}", &mut receipts, now);
    settle(&mut client, &mut receipts, now);
    assert_eq!(receipts.ok(), 1);
    (client, topic)
}

/// As the endpoint does it, run by run.
fn publish(client: &mut Client, topic: TopicIdx, kind: &str, body: &[u8], receipts: &mut Receipts, now: Instant) {
    let mut parser = parser(kind);
    let deadline = now + Duration::from_secs(30);
    for mut run in body.chunks(RUN_BYTES) {
        while let Some(parsed) = parser.next(&mut run) {
            let record = parsed.expect("well formed");
            let index = receipts.open() as u32;
            let record_ref = record.as_record(1_700_000_000_000);
            client.produce(topic, record.partition, &record_ref, Acks::All, 1, index, deadline, now).expect("room");
        }
    }
    if let Some(parsed) = parser.end() {
        let record = parsed.expect("well formed");
        let index = receipts.open() as u32;
        let record_ref = record.as_record(1_700_000_000_000);
        client.produce(topic, record.partition, &record_ref, Acks::All, 1, index, deadline, now).expect("room");
    }
}

/// Bodies of 100 records of 100 bytes.
fn bodies() -> [(&'static str, &'static str, Vec<u8>); 2] {
    let value = "x".repeat(100);
    let lines = format!("{{\"value\":\"{value}\"}}\n").repeat(RECORDS as usize);
    let mut record = 103_u32.to_be_bytes().to_vec();
    record.extend([0, 0, 0]);
    record.extend(value.as_bytes());
    [
        ("ndjson", "application/x-ndjson", lines.into_bytes()),
        ("binary", "application/vnd.gafka.records", record.repeat(RECORDS as usize)),
    ]
}

fn batches(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, kind, body) in bodies() {
        group.bench_function(format!("parse/{name} 100 x 100 B"), |bencher| {
            bencher.iter(|| {
                let mut parser = parser(kind);
                let mut run = black_box(&body[..]);
                while let Some(parsed) = parser.next(&mut run) {
                    black_box(parsed.expect("well formed"));
                }
            });
        });
        for format in [ReceiptFormat::Summary, ReceiptFormat::Ndjson] {
            let (mut client, topic) = warm(now);
            let mut answer = BytesMut::new();
            group.bench_function(format!("publish/{name} 100 x 100 B, {format:?} receipts"), |bencher| {
                bencher.iter(|| {
                    let mut receipts = Receipts::new(format);
                    publish(&mut client, topic, kind, black_box(&body), &mut receipts, now);
                    settle(&mut client, &mut receipts, now);
                    answer.clear();
                    match format {
                        ReceiptFormat::Summary => receipts.write_summary(&mut answer),
                        _ => drop(receipts.write_ready(&mut answer, usize::MAX)),
                    }
                    assert!(receipts.is_settled());
                    black_box(answer.len())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, batches);
criterion_main!(benches);

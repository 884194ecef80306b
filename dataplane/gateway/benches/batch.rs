//! What a record of a batch costs without a socket: parsed out of the body (`framing`), and the whole way (`batch`):
//! handed to the Kafka client, sealed, sent, answered, its receipt written. [`broker`] stands in for the cluster and
//! answers every Produce at once; its work is in the numbers of `batch`.

#[path = "../../kafka-client/benches/broker/mod.rs"]
mod broker;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway::publish::format::{BatchLimits, BatchParser, ReceiptFormat, Receipts};
use kafka_client::{Acks, Client, How, TopicIdx};

const RECORDS: u64 = 100;
/// As one read of a shard gives them.
const RUN_BYTES: usize = 64 << 10;

/// Until every record has its receipt.
fn settle(client: &mut Client, receipts: &mut Receipts, now: Instant) {
    broker::settle(client, now, |outcome| {
        let stored = outcome.result.expect("the broker takes everything");
        let (first, count) = (u64::from(outcome.record_first), u64::from(outcome.count));
        receipts.stored_run(first, count, stored.partition, stored.offset);
    });
}

fn parser(content_type: &str) -> BatchParser {
    BatchParser::for_content_type(content_type.as_bytes(), BatchLimits::new(1_000_000)).expect("a known type")
}

fn warm(now: Instant) -> (Client, TopicIdx) {
    let mut client = broker::client(now);
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
            client
                .produce(topic, record.partition, &record_ref, How::new(Acks::All, deadline), 1, index, now)
                .expect("room");
        }
    }
    if let Some(parsed) = parser.end() {
        let record = parsed.expect("well formed");
        let index = receipts.open() as u32;
        let record_ref = record.as_record(1_700_000_000_000);
        client
            .produce(topic, record.partition, &record_ref, How::new(Acks::All, deadline), 1, index, now)
            .expect("room");
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

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, kind, body) in bodies() {
        group.bench_function(format!("{name} 100 x 100 B"), |bencher| {
            bencher.iter(|| {
                let mut parser = parser(kind);
                let mut run = black_box(&body[..]);
                while let Some(parsed) = parser.next(&mut run) {
                    black_box(parsed.expect("well formed"));
                }
            });
        });
    }
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, kind, body) in bodies() {
        for format in [ReceiptFormat::Summary, ReceiptFormat::Ndjson] {
            let (mut client, topic) = warm(now);
            let mut answer = BytesMut::new();
            group.bench_function(format!("{name} 100 x 100 B, {format:?} receipts"), |bencher| {
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

criterion_group!(benches, framing, batches);
criterion_main!(benches);

//! What a record costs from `produce` to its outcome, without a socket: append to the open batch, seal, checksum, encode
//! the request, read the answer. [`broker`] answers every Produce at once; its own work is in the numbers.

mod broker;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kafka_client::{Acks, Client, How, TopicIdx};
use kafka_wire::record_batch::RecordRef;

/// Gives the number of records stored.
fn settle(client: &mut Client, now: Instant) -> u32 {
    let mut stored = 0;
    broker::settle(client, now, |outcome| {
        assert!(outcome.result.is_ok());
        stored += outcome.count;
    });
    stored
}

fn warm(now: Instant) -> (Client, TopicIdx) {
    let mut client = broker::client(now);
    let topic = client.topic("orders.v1");
    publish(&mut client, topic, &[1; 100], 8, now);
    assert_eq!(settle(&mut client, now), 8);
    (client, topic)
}

fn publish(client: &mut Client, topic: TopicIdx, value: &[u8], count: u32, now: Instant) {
    let record = RecordRef { timestamp_ms: 1_700_000_000_000, key: None, value: Some(value), headers: &[] };
    for index in 0..count {
        client
            .produce(topic, None, &record, How::new(Acks::All, now + Duration::from_secs(30)), 1, index, now)
            .unwrap();
    }
}

fn publishes(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("accumulator");
    for (value_bytes, records_per_flush) in [(1024, 1), (1024, 16), (1024, 64), (100, 100), (100, 1_000)] {
        group.throughput(Throughput::Elements(u64::from(records_per_flush)));
        let (mut client, topic) = warm(now);
        let value = vec![b'x'; value_bytes];
        group.bench_function(format!("append, seal, answer {records_per_flush} x {value_bytes} B"), |bencher| {
            bencher.iter(|| {
                publish(&mut client, topic, black_box(&value), records_per_flush, now);
                black_box(settle(&mut client, now))
            });
        });
    }
    group.finish();
}

/// An outage's backlog: nobody answers, and each record's time is over a little later than the one's before it.
fn expiry(criterion: &mut Criterion) {
    const RECORDS: u32 = 10_000;
    let now = Instant::now();
    let mut group = criterion.benchmark_group("expiry");
    group.throughput(Throughput::Elements(u64::from(RECORDS)));
    let value = vec![b'x'; 1_000];
    let deadline = |index: u32| now + Duration::from_secs(1) + Duration::from_micros(200) * index;
    group.bench_function("10000 x 1000 B, 5 a millisecond, looked at every 2 ms", |bencher| {
        let fill = || {
            let (mut client, topic) = warm(now);
            let record = RecordRef { timestamp_ms: 1_700_000_000_000, key: None, value: Some(&value), headers: &[] };
            for index in 0..RECORDS {
                let partition = Some((index % 4) as i32);
                client.produce(topic, partition, &record, How::new(Acks::All, deadline(index)), 1, index, now).unwrap();
            }
            client
        };
        let expire = |mut client: Client| {
            let (mut at, mut told) = (now, 0);
            while told < RECORDS {
                at += Duration::from_millis(2);
                client.flush(at);
                while let Some(outcome) = client.poll_outcome() {
                    told += outcome.count;
                }
            }
            client
        };
        bencher.iter_batched(fill, expire, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, publishes, expiry);
criterion_main!(benches);

//! What waiting consumer groups cost those who publish: nothing, however many there are. A flush looks at brokers with
//! an ask that nobody names, and at the first deadline; 2,000 long polls are neither.
//!
//! Measured on two shared cores: a record's way (see `publish.rs`) takes 1.48 µs beside no group and 1.65 µs beside 100
//! or 2,000, a flush without news 45, 109 and 106 ns; what grows are the ten connections, not the groups.

mod broker;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use kafka_client::{Acks, Client, How, Lane, Request, Target, TopicIdx};
use kafka_wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use kafka_wire::record_batch::RecordRef;

fn publish(client: &mut Client, topic: TopicIdx, now: Instant) -> u32 {
    let record = RecordRef { timestamp_ms: 1_700_000_000_000, key: None, value: Some(&[1; 1_024]), headers: &[] };
    client.produce(topic, None, &record, How::new(Acks::All, now + Duration::from_secs(30)), 1, 0, now).unwrap();
    let mut stored = 0;
    broker::settle(client, now, |outcome| stored += outcome.count);
    stored
}

/// A client with so many groups, each waiting for a partition of its own.
fn waiting(group_count: i32, now: Instant) -> (Client, TopicIdx) {
    let mut client = broker::client(now);
    let topic = client.topic("orders.v1");
    assert_eq!(publish(&mut client, topic, now), 1);
    for index in 0..group_count {
        let partitions = vec![FetchPartition::consumer(index, 0, 1 << 18)];
        let topics = vec![FetchTopic { name: "events.v1".into(), id: [7; 16], partitions }];
        let request = Request::Fetch(FetchRequest { topics, ..FetchRequest::default() });
        client.request(Target::Broker(1), Lane::Fetch, request, Duration::from_secs(60), now);
    }
    assert_eq!(publish(&mut client, topic, now), 1);
    (client, topic)
}

fn flushes(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("fetches");
    for group_count in [0, 100, 2_000] {
        let (mut client, topic) = waiting(group_count, now);
        group.bench_function(format!("publish 1 x 1024 B beside {group_count} waiting groups"), |bencher| {
            bencher.iter(|| black_box(publish(&mut client, topic, now)));
        });
        group.bench_function(format!("flush without news beside {group_count} waiting groups"), |bencher| {
            bencher.iter(|| client.flush(black_box(now)));
        });
    }
    group.finish();
}

criterion_group!(benches, flushes);
criterion_main!(benches);

//! librdkafka as a client of our embedded broker: a conformance test written by people who never saw it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, Fault};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::brokers::read_back;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker with a data directory of its own.
struct Ours {
    broker: EmbeddedKafka,
    _dir: tempfile::TempDir,
}

fn ours() -> Ours {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = EmbeddedKafka::start(EmbeddedConfig {
        data_dir: dir.path().to_owned(),
        default_partitions: PARTITIONS,
        ..EmbeddedConfig::default()
    });
    Ours { broker: broker.expect("a broker"), _dir: dir }
}

/// (value, partition, offset), or why not.
type Report = Result<(String, i32, i64), String>;

/// What librdkafka says about every record it was given.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<Report>>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let report = match result {
            Ok(message) => {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                Ok((value, message.partition(), message.offset()))
            }
            Err((error, _)) => Err(error.to_string()),
        };
        self.0.lock().expect("reports").push(report);
    }
}

fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> (BaseProducer<Reports>, Reports) {
    let reports = Reports::default();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("retry.backoff.ms", "20").set("reconnect.backoff.ms", "10");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    (config.create_with_context(reports.clone()).expect("a producer"), reports)
}

fn send(producer: &BaseProducer<Reports>, record: BaseRecord<'_, str, str>) {
    let mut record = record;
    while let Err((error, back)) = producer.send(record) {
        assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
        producer.poll(Duration::from_millis(10));
        record = back;
    }
}

/// Sends `count` values and checks that each was delivered, and lies where the report says, once.
fn deliver_and_check(ours: &Ours, topic: &str, settings: &[(&str, &str)], count: usize) {
    let bootstrap = ours.broker.bootstrap();
    let (producer, reports) = producer(&bootstrap, settings);
    for n in 0..count {
        let (value, key) = (format!("v{n}"), format!("key-{}", n % 50));
        send(&producer, BaseRecord::to(topic).key(key.as_str()).payload(value.as_str()));
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    let logs = read_back(&bootstrap, topic, PARTITIONS);
    let reports = reports.0.lock().expect("reports");
    assert_eq!(reports.len(), count, "{settings:?}");
    for report in reports.iter() {
        let (value, partition, offset) = report.as_ref().expect("delivered");
        let found: Vec<i64> = logs[partition].iter().filter(|(_, v)| v == value).map(|(offset, _)| *offset).collect();
        assert_eq!(found, [*offset], "{value} with {settings:?}");
    }
    assert_eq!(logs.values().map(Vec::len).sum::<usize>(), count, "{settings:?}");
    for log in logs.values() {
        let order: Vec<usize> = log.iter().map(|(_, value)| value[1..].parse().expect("a number")).collect();
        assert!(order.is_sorted(), "{settings:?}: in the order sent");
        assert!(log.iter().enumerate().all(|(index, (offset, _))| *offset == index as i64), "offsets without gaps");
    }
}

#[test]
fn librdkafka_produces_in_each_way_it_can_and_finds_everything_again() {
    let ours = ours();
    for (index, settings) in [
        &[("enable.idempotence", "true"), ("compression.type", "lz4")][..],
        &[("enable.idempotence", "true"), ("compression.type", "none"), ("linger.ms", "0")],
        &[("acks", "all"), ("compression.type", "snappy"), ("max.in.flight", "1")],
        &[("acks", "1"), ("compression.type", "none"), ("batch.size", "2000"), ("max.in.flight", "1")],
    ]
    .into_iter()
    .enumerate()
    {
        deliver_and_check(&ours, &format!("{TOPIC}-{index}"), settings, 5_000);
    }
}

#[test]
fn an_idempotent_librdkafka_stores_once_whatever_our_broker_does_to_it() {
    let ours = ours();
    let hooks = ours.broker.hooks();
    let settings = [("enable.idempotence", "true"), ("linger.ms", "1"), ("batch.num.messages", "50")];
    hooks.inject(ApiKey::Metadata, Fault::Disconnect, 1);
    hooks.inject(ApiKey::InitProducerId, Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), 1);
    for fault in [
        Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Fault::ApplyThenDisconnect,
        Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS),
        Fault::Disconnect,
        Fault::Delay(Duration::from_millis(80)),
        Fault::ApplyThenDisconnect,
        Fault::Error(ErrorCode::REQUEST_TIMED_OUT),
    ] {
        hooks.inject(ApiKey::Produce, fault, 1);
    }
    deliver_and_check(&ours, TOPIC, &settings, 2_000);
    assert_eq!(hooks.remaining(ApiKey::Produce), 0, "every fault was met");
}

#[test]
fn keys_headers_nulls_and_times_come_back_as_they_were_sent() {
    let ours = ours();
    let (producer, _) = producer(&ours.broker.bootstrap(), &[("enable.idempotence", "true")]);
    // Of today: records older than the retention are gone before they are read.
    let today_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let headers = OwnedHeaders::new()
        .insert(Header { key: "tag", value: Some("a") })
        .insert(Header { key: "tag", value: Some("b") })
        .insert(Header::<&str> { key: "none", value: None });
    let full = BaseRecord::to(TOPIC).partition(0).key("k").payload("v").timestamp(today_ms).headers(headers);
    send(&producer, full);
    send(&producer, BaseRecord::to(TOPIC).partition(0).key("tombstone").timestamp(today_ms + 500));
    send(&producer, BaseRecord::to(TOPIC).partition(0).payload("").timestamp(today_ms + 1_000));
    producer.flush(PATIENCE).expect("delivered");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", ours.broker.bootstrap())
        .set("group.id", "reader")
        .set("fetch.wait.max.ms", "20")
        .create()
        .expect("a consumer");
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&from).expect("assigned");
    let mut seen = Vec::new();
    let end = Instant::now() + PATIENCE;
    while seen.len() < 3 && Instant::now() < end {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("a record").detach();
        let headers: Vec<(String, Option<String>)> = message
            .headers()
            .map(|headers| {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                headers.iter().map(|header| (header.key.to_owned(), header.value.map(text))).collect()
            })
            .unwrap_or_default();
        let bytes = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        seen.push((bytes(message.key()), bytes(message.payload()), message.timestamp().to_millis(), headers));
    }
    let text = |text: &str| Some(text.to_owned());
    let headers = vec![("tag".into(), text("a")), ("tag".into(), text("b")), ("none".into(), None)];
    assert_eq!(seen[0], (text("k"), text("v"), Some(today_ms), headers));
    assert_eq!(seen[1], (text("tombstone"), None, Some(today_ms + 500), vec![]));
    assert_eq!(seen[2], (None, text(""), Some(today_ms + 1_000), vec![]));
    // Looking up offsets by time.
    for (time_ms, offset) in [(0, 0), (today_ms + 1, 1), (today_ms + 1_000, 2)] {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(TOPIC, 0, Offset::Offset(time_ms)).expect("a time");
        let found = consumer.offsets_for_times(wanted, PATIENCE).expect("offsets");
        assert_eq!(found.elements()[0].offset(), Offset::Offset(offset), "at {time_ms}");
    }
    assert_eq!(consumer.fetch_watermarks(TOPIC, 0, PATIENCE).expect("watermarks"), (0, 3));
}

fn member(bootstrap: &str, strategy: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "workers")
        .set("partition.assignment.strategy", strategy)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("heartbeat.interval.ms", "200")
        .set("session.timeout.ms", "6000")
        .set("fetch.wait.max.ms", "20")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[TOPIC]).expect("subscribed");
    consumer
}

/// (partition, offset) of every record each member got, until `done`.
fn poll_until(
    members: &[&BaseConsumer],
    got: &mut [BTreeSet<(i32, i64)>],
    done: impl Fn(&[BTreeSet<(i32, i64)>]) -> bool,
) {
    let end = Instant::now() + PATIENCE;
    while !done(got) {
        assert!(Instant::now() < end, "after {PATIENCE:?}: {:?}", got.iter().map(BTreeSet::len).collect::<Vec<_>>());
        for (member, got) in members.iter().zip(got.iter_mut()) {
            match member.poll(Duration::from_millis(5)) {
                Some(Ok(message)) => {
                    assert!(got.insert((message.partition(), message.offset())), "the same record twice");
                }
                Some(Err(error)) => panic!("poll: {error}"),
                None => {}
            }
        }
    }
}

fn partitions(member: &BaseConsumer) -> BTreeSet<i32> {
    member.assignment().expect("an assignment").elements().iter().map(|element| element.partition()).collect()
}

#[test]
fn two_librdkafka_consumers_share_a_group_and_one_takes_over_from_the_other() {
    for strategy in ["range", "cooperative-sticky"] {
        let ours = ours();
        let bootstrap = ours.broker.bootstrap();
        let (producer, _) = producer(&bootstrap, &[("enable.idempotence", "true")]);
        let publish = |from: usize, count: usize| {
            for n in from..from + count {
                let value = format!("v{n}");
                send(&producer, BaseRecord::to(TOPIC).partition(n as i32 % PARTITIONS).payload(value.as_str()));
            }
            producer.flush(PATIENCE).expect("delivered");
        };
        publish(0, 4);
        let (first, second) = (member(&bootstrap, strategy), member(&bootstrap, strategy));
        let mut got = [BTreeSet::new(), BTreeSet::new()];
        // Nothing is committed yet, so what is handed over while they join comes again; it does not count.
        let end = Instant::now() + PATIENCE;
        while partitions(&first).len() != 2 || partitions(&second).len() != 2 {
            assert!(Instant::now() < end, "both get two of four partitions with {strategy}");
            for member in [&first, &second] {
                if let Some(Ok(message)) = member.poll(Duration::from_millis(5)) {
                    member.commit_message(&message, CommitMode::Async).expect("committed");
                }
            }
        }
        assert!(partitions(&first).is_disjoint(&partitions(&second)), "{strategy}");
        publish(4, 996);
        poll_until(&[&first, &second], &mut got, |got| {
            let all: BTreeMap<i32, BTreeSet<i64>> =
                got.iter().flatten().fold(BTreeMap::new(), |mut all, (p, offset)| {
                    all.entry(*p).or_insert_with(BTreeSet::new).insert(*offset);
                    all
                });
            all.len() == 4 && all.values().all(|offsets| (1..250).all(|offset| offsets.contains(&offset)))
        });
        assert!(got.iter().all(|got| got.len() >= 2 * 249), "{strategy}: both worked");
        assert!(got[0].is_disjoint(&got[1]), "{strategy}: nobody got the other's");
        for member in [&first, &second] {
            member.commit_consumer_state(CommitMode::Sync).expect("committed");
        }
        drop(second); // leaves the group
        while partitions(&first).len() != 4 {
            assert!(Instant::now() < end, "the one that is left gets all partitions with {strategy}");
            let early = first.poll(Duration::from_millis(5)).map(|message| message.map(|message| message.offset()));
            assert_eq!(early, None, "{strategy}: everything was committed");
        }
        publish(1_000, 400);
        let mut rest = [BTreeSet::new()];
        poll_until(&[&first], &mut rest, |got| got[0].len() == 400);
        assert!(rest[0].iter().all(|(_, offset)| *offset >= 250), "{strategy}: it goes on where the other committed");
    }
}

//! Leaders that move, brokers that go and come back, answers that take too long.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kafka_client::{Acks, ClientConfig, Lane, Request, Response, Target, TopicIdx};
use kafka_wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, NO_TOPIC_ID};
use kafka_wire::record_batch::batches;
use rdkafka::types::RDKafkaApiKey as Api;

use crate::brokers::{Brokers, TOPIC, read_back};
use crate::publisher::{Publisher, config};
use crate::truth::{check, word};

const LONG: Duration = Duration::from_secs(20);

/// Brokers and a publisher that has stored one record in every partition.
fn start(broker_count: i32, partition_count: i32, produce_max: i16) -> (Brokers, Publisher, TopicIdx) {
    let brokers = Brokers::start(broker_count);
    brokers.create(TOPIC, partition_count);
    brokers.mock.apiversion(Api::Produce, Some(0), Some(produce_max)).expect("a version");
    let settings = ClientConfig { request_timeout: Duration::from_secs(2), ..config(&brokers.bootstrap()) };
    let mut publisher = Publisher::new(settings);
    let topic = publisher.client.topic(TOPIC);
    for partition in 0..partition_count {
        publisher.publish(topic, partition, &format!("warm-{partition}"), Acks::All, LONG);
    }
    publisher.settle();
    assert!(publisher.outcomes.values().all(Result::is_ok), "{:?}", publisher.outcomes);
    (brokers, publisher, topic)
}

fn judge(context: &str, publisher: &Publisher, brokers: &Brokers) {
    let partition_count = publisher.sent.iter().map(|sent| sent.partition).max().expect("records") + 1;
    let log = read_back(&brokers.bootstrap(), TOPIC, partition_count);
    check(context, &publisher.sent, &publisher.outcomes, &log);
}

fn told(publisher: &Publisher, tag: u64) -> String {
    word(&publisher.outcomes[&tag])
}

#[test]
fn leaders_that_move_under_load_lose_and_repeat_nothing() {
    // With Produce 10 the broker that is not the leader says who is (KIP-951), before that Metadata has to.
    for produce_max in [10, 9] {
        let (brokers, mut publisher, topic) = start(3, 3, produce_max);
        for round in 0..60 {
            for n in 0..10 {
                publisher.publish(topic, n % 3, &format!("r{round}-{n}"), Acks::All, LONG);
                publisher.run(Duration::from_micros(300));
            }
            let partition = round % 3;
            brokers.mock.partition_leader(TOPIC, partition, Some((round / 3 + partition) % 3 + 1)).expect("a leader");
        }
        publisher.settle();
        assert!(publisher.outcomes.values().all(Result::is_ok), "all stored");
        judge("moving leaders", &publisher, &brokers);
    }
}

#[test]
fn a_partition_without_a_leader_is_waited_for_while_the_others_go_on() {
    let (brokers, mut publisher, topic) = start(2, 2, 9);
    brokers.mock.partition_leader(TOPIC, 0, None).expect("no leader");
    publisher.client.refresh_metadata(Instant::now());
    publisher.run_until("the leader is known to be gone", |it| it.client.leader(topic, 0).is_none());
    let short = publisher.publish(topic, 0, "short", Acks::All, Duration::from_millis(300));
    let long = publisher.publish(topic, 0, "long", Acks::All, LONG);
    let other = publisher.publish(topic, 1, "other", Acks::All, Duration::from_millis(300));
    publisher.run_until("two outcomes", |it| it.outcomes.len() == 4);
    assert_eq!((told(&publisher, short), told(&publisher, other)), ("unavailable".into(), "stored".into()));
    brokers.mock.partition_leader(TOPIC, 0, Some(2)).expect("a leader");
    publisher.settle();
    assert_eq!(told(&publisher, long), "stored");
    judge("no leader", &publisher, &brokers);
}

#[test]
fn a_broker_that_is_down_makes_its_partitions_unavailable_until_another_leads_or_it_is_back() {
    let (brokers, mut publisher, topic) = start(3, 3, 10);
    brokers.mock.broker_down(1).expect("down");
    publisher.run(Duration::from_millis(100)); // its connections end
    let short = publisher.publish(topic, 0, "short", Acks::All, Duration::from_millis(300));
    let other = publisher.publish(topic, 1, "other", Acks::All, Duration::from_millis(300));
    publisher.settle();
    assert_eq!((told(&publisher, short), told(&publisher, other)), ("unavailable".into(), "stored".into()));
    let moved = publisher.publish(topic, 0, "moved", Acks::All, LONG);
    publisher.run(Duration::from_millis(100));
    brokers.mock.partition_leader(TOPIC, 0, Some(3)).expect("a leader");
    publisher.settle();
    assert_eq!(told(&publisher, moved), "stored");
    brokers.mock.broker_up(1).expect("up");
    brokers.mock.partition_leader(TOPIC, 0, Some(1)).expect("a leader");
    let back = publisher.publish(topic, 0, "back", Acks::All, LONG);
    publisher.settle();
    assert_eq!(told(&publisher, back), "stored");
    judge("one broker down", &publisher, &brokers);
}

#[test]
fn all_brokers_down_is_unavailable_and_calm_and_over_when_they_are_back() {
    let (brokers, mut publisher, topic) = start(3, 3, 10);
    brokers.mock.broker_down(-1).expect("down");
    publisher.run(Duration::from_millis(100));
    assert!(!publisher.client.health(Instant::now()).reachable);
    let connects = publisher.connects;
    let lost: Vec<u64> = (0..9)
        .map(|n| publisher.publish(topic, n % 3, &format!("lost-{n}"), Acks::All, Duration::from_millis(1_500)))
        .collect();
    let kept: Vec<u64> =
        (0..9).map(|n| publisher.publish(topic, n % 3, &format!("kept-{n}"), Acks::All, LONG)).collect();
    publisher.run_until("the deadline", |it| lost.iter().all(|tag| it.outcomes.contains_key(tag)));
    assert!(lost.iter().all(|tag| told(&publisher, *tag) == "unavailable"), "{:?}", publisher.outcomes);
    let tried = publisher.connects - connects;
    assert!(tried < 120, "{tried} connects to three dead brokers in 1.5 s");
    brokers.mock.broker_up(-1).expect("up");
    publisher.settle();
    assert!(kept.iter().all(|tag| told(&publisher, *tag) == "stored"), "{:?}", publisher.outcomes);
    assert!(publisher.client.health(Instant::now()).reachable);
    judge("all brokers down", &publisher, &brokers);
}

/// A batch as it lies in the mock's log: what a real broker compares before it appends.
#[derive(Debug)]
struct Lying {
    base_offset: i64,
    producer: (i64, i16, i32),
    values: Vec<String>,
}

/// A partition as our own client fetches it.
fn fetch(publisher: &mut Publisher, topic: TopicIdx, partition: i32) -> Vec<Lying> {
    let mut lying: Vec<Lying> = Vec::new();
    let mut offset = 0;
    loop {
        let leader = publisher.client.leader(topic, partition).expect("a leader");
        let partitions = vec![FetchPartition::consumer(partition, offset, 1 << 20)];
        let topics = vec![FetchTopic { name: TOPIC.as_bytes().to_vec().into(), id: NO_TOPIC_ID, partitions }];
        let request = Request::Fetch(FetchRequest { max_wait_ms: 50, topics, ..FetchRequest::default() });
        let token = publisher.client.request(Target::Broker(leader), Lane::Fetch, request, LONG, Instant::now());
        let mut answer = None;
        publisher.run_until("a Fetch answer", |it| {
            answer = it.client.poll_reply().filter(|(replied, _)| *replied == token);
            answer.is_some()
        });
        let (_, Ok(Response::Fetch(answer))) = answer.expect("awaited") else { panic!("no Fetch answer") };
        let answered = &answer.topics[0].partitions[0];
        let mut found = false;
        for batch in batches(answered.records.clone()) {
            let batch = batch.expect("a whole batch");
            let values = batch.records(1 << 20).expect("records").map(|record| {
                String::from_utf8_lossy(&record.expect("a record").value.unwrap_or_default()).into_owned()
            });
            let values: Vec<String> = values.collect();
            let header = batch.header;
            if header.base_offset >= offset {
                offset = header.base_offset + values.len() as i64;
                found = true;
                let producer = (header.producer_id, header.producer_epoch, header.base_sequence);
                lying.push(Lying { base_offset: header.base_offset, producer, values });
            }
        }
        if !found {
            return lying;
        }
    }
}

#[test]
fn a_batch_resent_after_a_broker_went_down_is_one_a_broker_recognises() {
    let (brokers, mut publisher, topic) = start(3, 3, 10);
    for round in 0..12 {
        for n in 0..60 {
            let acks = if n % 10 == 9 { Acks::Leader } else { Acks::All };
            publisher.publish(topic, n % 3, &format!("r{round}-{n}"), acks, LONG);
            publisher.run(Duration::from_micros(200));
            if n == 30 {
                brokers.mock.broker_down(round % 3 + 1).expect("down");
            }
        }
        publisher.run(Duration::from_millis(50));
        brokers.mock.broker_up(-1).expect("up");
        publisher.settle();
    }
    // The mock appends a repeated sequence again. A broker would drop the second copy, so do we here.
    for partition in 0..3 {
        let mut seen = BTreeMap::new();
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        let mut next_sequence: BTreeMap<(i64, i16), i32> = BTreeMap::new();
        for batch in fetch(&mut publisher, topic, partition) {
            let (id, epoch, sequence) = batch.producer;
            if id >= 0 {
                if let Some(first) = seen.insert(batch.producer, batch.values.clone()) {
                    assert_eq!(first, batch.values, "one sequence, one content");
                    continue;
                }
                let expected = next_sequence.insert((id, epoch), sequence + batch.values.len() as i32).unwrap_or(0);
                assert_eq!(sequence, expected, "no gap and no overlap at offset {}", batch.base_offset);
            }
            for value in batch.values {
                *copies.entry(value).or_default() += 1;
            }
        }
        for sent in publisher.sent.iter().filter(|sent| sent.partition == partition) {
            let found = copies.get(&sent.value).copied().unwrap_or(0);
            let outcome = &publisher.outcomes[&sent.tag];
            match outcome {
                Ok(_) => assert_eq!(found, 1, "{sent:?} {outcome:?}"),
                Err(error) if error.outcome_unknown() => assert!(found <= 1, "{sent:?} {outcome:?}"),
                Err(_) => assert_eq!(found, 0, "{sent:?} {outcome:?}"),
            }
            if sent.acks == Acks::All {
                assert!(outcome.is_ok(), "with a sequence every attempt can be repeated: {sent:?} {outcome:?}");
            }
        }
    }
}

#[test]
fn an_answer_after_the_deadline_is_unknown_and_the_batch_is_not_sent_again() {
    for request_timeout in [Duration::from_millis(1_200), Duration::from_secs(5)] {
        let brokers = Brokers::start(2);
        brokers.create(TOPIC, 2);
        let mut publisher = Publisher::new(ClientConfig { request_timeout, ..config(&brokers.bootstrap()) });
        let topic = publisher.client.topic(TOPIC);
        for n in 0..2 {
            publisher.publish(topic, n, &format!("warm-{n}"), Acks::All, LONG);
        }
        publisher.settle();
        brokers.mock.broker_round_trip_time(1, Duration::from_millis(2_000)).expect("a delay");
        let slow = publisher.publish(topic, 0, "slow", Acks::All, Duration::from_millis(800));
        let other = publisher.publish(topic, 1, "other", Acks::All, LONG);
        publisher.run_until("the quick one", |it| it.outcomes.contains_key(&other));
        assert!(!publisher.outcomes.contains_key(&slow), "a slow broker delays nobody else");
        publisher.settle();
        assert_eq!((told(&publisher, slow), told(&publisher, other)), ("unknown".into(), "stored".into()));
        let next = publisher.publish(topic, 0, "next", Acks::All, LONG);
        if request_timeout < Duration::from_secs(2) {
            publisher.run(Duration::from_millis(700)); // given up: the connection, too
            brokers.mock.broker_round_trip_time(1, Duration::ZERO).expect("no delay");
        }
        publisher.settle();
        assert_eq!(told(&publisher, next), "stored");
        judge("slow answers", &publisher, &brokers);
    }
}

#[test]
fn bootstrap_addresses_where_nobody_answers_cost_a_second_each() {
    let brokers = Brokers::start(2);
    brokers.create(TOPIC, 2);
    // The kernel takes the connections, nobody reads them: what a stopped process looks like.
    let frozen: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a port")).collect();
    let mut addresses: Vec<String> =
        frozen.iter().map(|listener| listener.local_addr().expect("an address").to_string()).collect();
    addresses.push(brokers.bootstrap());
    let mut publisher = Publisher::new(config(&addresses.join(",")));
    let topic = publisher.client.topic(TOPIC);
    let begin = Instant::now();
    publisher.publish(topic, 0, "it", Acks::All, LONG);
    publisher.settle();
    assert!(publisher.outcomes[&1].is_ok(), "{:?}", publisher.outcomes);
    assert!(begin.elapsed() < Duration::from_millis(4_500), "after {:?}", begin.elapsed());
    judge("frozen bootstrap", &publisher, &brokers);
}

#[test]
fn slow_brokers_are_slow_and_nothing_else() {
    let (brokers, mut publisher, topic) = start(3, 6, 10);
    brokers.mock.broker_round_trip_time(-1, Duration::from_millis(120)).expect("a delay");
    for n in 0..300 {
        let acks = [Acks::All, Acks::Leader, Acks::None][n % 3];
        publisher.publish(topic, n as i32 % 6, &format!("v{n}"), acks, LONG);
        publisher.run(Duration::from_millis(1));
    }
    publisher.settle();
    assert!(publisher.outcomes.values().all(Result::is_ok), "{:?}", publisher.outcomes);
    brokers.mock.broker_round_trip_time(-1, Duration::ZERO).expect("no delay");
    judge("slow brokers", &publisher, &brokers);
}

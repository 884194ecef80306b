//! The broker misbehaves exactly as it is told, and otherwise not at all.

mod common;

use std::time::{Duration, Instant};

use common::{TestBroker, batch, fetch_request};
use embedded_kafka::Fault;
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;

#[test]
fn an_error_is_answered_and_nothing_is_stored() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    broker.hooks().inject(ApiKey::Produce, Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER), 2);
    for _ in 0..2 {
        let result = client.produce_batch(-1, "t", 0, &batch(&["a"]));
        assert_eq!((result.error, result.base_offset), (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1));
    }
    assert_eq!(client.produce("t", 0, &["b"]), 0);
}

#[test]
fn a_disconnect_stores_nothing_and_apply_then_disconnect_stores() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    for (fault, end) in [(Fault::Disconnect, 0), (Fault::ApplyThenDisconnect, 1)] {
        broker.hooks().inject(ApiKey::Produce, fault.clone(), 1);
        let mut doomed = broker.client();
        doomed.send_produce(-1, "t", 0, &batch(&["a"]));
        assert!(doomed.is_closed(), "{fault:?}");
        // The connection may be closed before the batch is durable.
        let deadline = Instant::now() + Duration::from_secs(10);
        while client.offset_at("t", 0, -1).0 != end {
            assert!(Instant::now() < deadline, "{fault:?}");
        }
    }
}

#[test]
fn a_delay_holds_the_answer_and_what_is_behind_it() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    broker.hooks().inject(ApiKey::Produce, Fault::Delay(Duration::from_millis(120)), 1);
    let begin = Instant::now();
    let first = client.send_produce(-1, "t", 0, &batch(&["a"]));
    let second = client.send_produce(-1, "t", 0, &batch(&["b"]));
    assert_eq!(client.receive_produce(first).topics[0].partitions[0].base_offset, 0);
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert_eq!(client.receive_produce(second).topics[0].partitions[0].base_offset, 1);
}

#[test]
fn silence_keeps_the_connection_open_and_answers_nothing() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    broker.hooks().inject(ApiKey::Produce, Fault::Silence, 1);
    let mut deaf = broker.client();
    deaf.send_produce(-1, "t", 0, &batch(&["a"]));
    deaf.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let err = deaf.receive().unwrap_err();
    assert!(matches!(err.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{err:?}");
    assert_eq!(client.offset_at("t", 0, -1), (0, -1));
}

#[test]
fn garbage_is_sent_as_it_is() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    broker.hooks().inject(ApiKey::Metadata, Fault::Garbage(b"\0\0\0\x04junk".to_vec()), 1);
    let mut other = broker.client();
    let request = kafka_wire::cold::types::MetadataRequest::default();
    let request = kafka_wire::cold::RequestKind::Metadata(request);
    let frame = kafka_wire::cold::encode_request_frame(&request, 9, 1, "test").unwrap();
    other.send(&frame);
    assert_eq!(&other.receive().unwrap()[..], b"junk");
}

#[test]
fn a_failed_fsync_is_never_acknowledged_and_poisons_only_its_partition() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 2);
    client.produce("t", 0, &["before"]);
    broker.hooks().fail_syncs(1);
    let result = client.produce_batch(-1, "t", 0, &batch(&["lost"]));
    assert_eq!(result.error, ErrorCode::KAFKA_STORAGE_ERROR);
    let result = client.produce_batch(-1, "t", 0, &batch(&["refused"]));
    assert_eq!(result.error, ErrorCode::KAFKA_STORAGE_ERROR, "until the next start");
    assert_eq!(client.read("t", 0, 0).len(), 1, "what was durable can be read");
    assert_eq!(client.produce("t", 1, &["other partition"]), 0);
    broker.restart();
    let mut client = broker.client();
    let end = client.offset_at("t", 0, -1).0;
    assert_eq!(client.produce("t", 0, &["again"]), end);
}

#[test]
fn a_failed_fsync_of_the_journals_is_an_error_to_the_client() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    broker.hooks().fail_syncs(1);
    assert_eq!(client.create("t", 2), ErrorCode::KAFKA_STORAGE_ERROR);
}

#[test]
fn a_consumer_that_goes_away_while_waiting_leaves_nothing_behind() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let wait_for = |count: usize| {
        let until = Instant::now() + Duration::from_secs(10);
        while broker.hooks().fetches_waiting() != count {
            assert!(Instant::now() < until, "{} fetches wait, not {count}", broker.hooks().fetches_waiting());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let mut going: Vec<_> = (0..50).map(|_| broker.client()).collect();
    for consumer in &mut going {
        consumer.send_fetch(&fetch_request("t", 0, 0, 60_000));
    }
    wait_for(50);
    drop(going);
    wait_for(0);
    assert_eq!(client.produce("t", 0, &["a"]), 0);
    assert_eq!(client.read_all("t", 0).len(), 1);
}

#[test]
fn requests_are_counted_per_api() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    client.produce("t", 0, &["a"]);
    client.produce("t", 0, &["a"]);
    assert_eq!(broker.hooks().requests(ApiKey::Produce), 2);
    assert_eq!(broker.hooks().requests(ApiKey::CreateTopics), 1);
    assert_eq!(broker.hooks().requests(ApiKey::Fetch), 0);
}

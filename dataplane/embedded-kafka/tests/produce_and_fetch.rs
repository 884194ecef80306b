//! Records go in and come out: offsets, waiting, idempotence, limits, errors.

mod common;

use std::time::{Duration, Instant};

use common::{Client, TestBroker, batch, batch_at, fetch_request, today_ms, values};
use kafka_wire::api_key::ApiKey;
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::{BatchBuilder, RecordRef, SealedBatch};

fn offsets(records: &[(i64, String)]) -> Vec<i64> {
    records.iter().map(|(offset, _)| *offset).collect()
}

#[test]
fn what_is_produced_can_be_fetched_also_after_a_restart() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    assert_eq!(client.create("t", 3), ErrorCode::NONE);
    assert_eq!(client.produce("t", 1, &["a", "b"]), 0);
    assert_eq!(client.produce("t", 1, &["c"]), 2);
    assert_eq!(client.produce("t", 2, &["x"]), 0);
    let expected = [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())];
    assert_eq!(client.read_all("t", 1), expected);
    broker.restart();
    let mut client = broker.client();
    assert_eq!(client.read_all("t", 1), expected);
    assert_eq!(client.read_all("t", 0), []);
    assert_eq!(client.produce("t", 1, &["d"]), 3);
    assert_eq!(client.offset_at("t", 1, -1), (4, -1));
    assert_eq!(client.offset_at("t", 1, -2), (0, -1));
}

#[test]
fn a_fetch_at_an_offset_inside_a_batch_returns_that_batch() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let many: Vec<String> = (0..400).map(|n| format!("v{n}")).collect();
    for part in many.chunks(40) {
        client.produce("t", 0, &part.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for asked in [0, 1, 39, 40, 57, 100, 325, 399] {
        let read = client.read("t", 0, asked);
        assert_eq!(read[0].0, asked / 40 * 40, "the batch that holds {asked}");
        let wanted = read.iter().find(|(offset, _)| *offset == asked).unwrap();
        assert_eq!(wanted.1, format!("v{asked}"));
        assert_eq!(read.last().unwrap().0, 399);
    }
    assert_eq!(client.read("t", 0, 400), []);
}

#[test]
fn offsets_outside_the_log_are_out_of_range() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    client.produce("t", 0, &["a"]);
    for (topic, partition, offset, expected) in [
        ("t", 0, 2, ErrorCode::OFFSET_OUT_OF_RANGE),
        ("t", 0, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
        ("t", 0, 1, ErrorCode::NONE),
        ("t", 1, 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("t", -1, 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("nope", 0, 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ] {
        let response = client.fetch(&fetch_request(topic, partition, offset, 0));
        assert_eq!(response.topics[0].partitions[0].error, expected, "{topic}-{partition} at {offset}");
        assert_eq!(response.session_id, 0);
    }
}

#[test]
fn timestamps_are_found_and_the_future_has_none() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    assert_eq!(client.offset_at("t", 0, -3), (-1, -1));
    let base = today_ms();
    for first_ms in [1_000, 2_000, 3_000] {
        client.produce_batch(-1, "t", 0, &batch_at(base + first_ms, &["a", "b", "c"]));
    }
    for (asked, found) in [
        (0, (0, base + 1_000)),
        (base, (0, base + 1_000)),
        (base + 1_000, (0, base + 1_000)),
        (base + 1_001, (1, base + 1_001)),
        (base + 1_003, (3, base + 2_000)),
        (base + 2_002, (5, base + 2_002)),
        (base + 3_002, (8, base + 3_002)),
        (base + 3_003, (-1, -1)),
        (i64::MAX, (-1, -1)),
        (-3, (8, base + 3_002)),
        (-2, (0, -1)),
        (-1, (9, -1)),
    ] {
        assert_eq!(client.offset_at("t", 0, asked), found, "asked for {asked}");
    }
}

#[test]
fn a_waiting_fetch_wakes_on_produce_within_milliseconds() {
    let broker = TestBroker::start();
    let mut producer = broker.client();
    let mut consumer = broker.client();
    producer.create("t", 2);
    let mut best = Duration::MAX;
    for round in 0..20 {
        let id = consumer.send_fetch(&fetch_request("t", 1, round, 10_000));
        // Answered behind the fetch on another connection, so the fetch is surely waiting or just about to.
        producer.offset_at("t", 1, -1);
        let begin = Instant::now();
        producer.produce("t", 1, &["x"]);
        let response = consumer.receive_fetch(id);
        best = best.min(begin.elapsed());
        assert_eq!(values(response.topics[0].partitions[0].records.clone()), [(round, "x".to_owned())]);
    }
    assert!(best < Duration::from_millis(100), "{best:?}, and max_wait was 10 s");
}

#[test]
fn a_fetch_that_finds_nothing_waits_its_time_and_min_bytes_are_waited_for() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    let mut producer = broker.client();
    client.create("t", 1);
    let begin = Instant::now();
    let response = client.fetch(&fetch_request("t", 0, 0, 150));
    assert!(begin.elapsed() >= Duration::from_millis(150));
    assert!(response.topics[0].partitions[0].records.is_empty());

    let one = batch(&["0123456789"]).bytes() as i32;
    let mut request = fetch_request("t", 0, 0, 10_000);
    request.min_bytes = one * 3;
    let id = client.send_fetch(&request);
    for _ in 0..3 {
        producer.produce("t", 0, &["0123456789"]);
    }
    let response = client.receive_fetch(id);
    assert_eq!(values(response.topics[0].partitions[0].records.clone()).len(), 3);
}

#[test]
fn limits_of_a_fetch_are_kept_but_the_first_batch_always_comes() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let value = "x".repeat(10_000);
    for _ in 0..10 {
        client.produce("t", 0, &[&value]);
    }
    let one = batch(&[&value]).bytes() as i32;
    for (partition_max, max, batches) in
        [(1, 1, 1), (0, 0, 1), (one * 3, 1 << 20, 3), (one * 3 + 1, 1 << 20, 3), (1 << 20, one * 4, 4)]
    {
        let mut request = fetch_request("t", 0, 2, 0);
        request.topics[0].partitions[0].partition_max_bytes = partition_max;
        request.max_bytes = max;
        let response = client.fetch(&request);
        let read = values(response.topics[0].partitions[0].records.clone());
        assert_eq!(offsets(&read), (2..2 + batches).collect::<Vec<i64>>(), "{partition_max} {max}");
    }
}

fn stamped(producer_id: i64, epoch: i16, sequence: i32, values: &[&str]) -> SealedBatch {
    let mut sealed = batch(values);
    sealed.stamp(producer_id, epoch, sequence);
    sealed
}

fn code_and_offset(client: &mut Client, batch: &SealedBatch) -> (ErrorCode, i64) {
    let result = client.produce_batch(-1, "t", 0, batch);
    (result.error, result.base_offset)
}

#[test]
fn an_idempotent_batch_is_stored_once_also_across_a_restart() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let none = ErrorCode::NONE;
    let order = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
    assert_eq!(code_and_offset(&mut client, &stamped(7, 0, 0, &["a", "b"])), (none, 0));
    assert_eq!(code_and_offset(&mut client, &stamped(7, 0, 2, &["c"])), (none, 2));
    assert_eq!(code_and_offset(&mut client, &stamped(7, 0, 0, &["a", "b"])), (none, 0), "repeated");
    assert_eq!(code_and_offset(&mut client, &stamped(7, 0, 9, &["z"])), (order, -1));
    broker.restart();
    let mut client = broker.client();
    assert_eq!(code_and_offset(&mut client, &stamped(7, 0, 2, &["c"])), (none, 2), "repeated after restart");
    assert_eq!(code_and_offset(&mut client, &stamped(7, 0, 9, &["z"])), (order, -1));
    assert_eq!(code_and_offset(&mut client, &stamped(7, 0, 3, &["d"])), (none, 3));
    assert_eq!(code_and_offset(&mut client, &stamped(7, 1, 0, &["e"])), (none, 4), "a new epoch");
    assert_eq!(
        code_and_offset(&mut client, &stamped(7, 0, 4, &["f"])),
        (ErrorCode::INVALID_PRODUCER_EPOCH, -1),
        "the old one is fenced"
    );
    let read: Vec<String> = client.read_all("t", 0).into_iter().map(|(_, value)| value).collect();
    assert_eq!(read, ["a", "b", "c", "d", "e"]);
}

#[test]
fn damaged_and_oversized_batches_are_refused_and_nothing_is_stored() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create_with("t", 1, 1, &[("max.message.bytes", "2000")]);
    let big = "x".repeat(3_000);
    assert_eq!(code_and_offset(&mut client, &batch(&[&big])), (ErrorCode::MESSAGE_TOO_LARGE, -1));
    // A bit flipped anywhere in the batch of a request is an error or a refused connection, never stored.
    let good = batch(&["hello", "world"]);
    let bytes = good.to_bytes();
    for at in 0..bytes.len() {
        let mut client = broker.client();
        let id = client.next_id();
        let partitions = [kafka_wire::messages::produce::OutPartition { index: 0, batch: &good }];
        let topics = [kafka_wire::messages::produce::OutTopic { name: "t", partitions: &partitions }];
        let mut frame = kafka_wire::messages::produce::encode_request_frame(9, id, "test", -1, 5000, &topics).concat();
        let begin = frame.windows(bytes.len()).position(|window| window == &bytes[..]).unwrap();
        frame[begin + at] ^= 0x10;
        client.send(&frame);
        let stored = client.receive().map(|mut frame| {
            kafka_wire::header::decode_response_header(&mut frame, ApiKey::Produce, 9).unwrap();
            kafka_wire::messages::produce::decode_response(9, frame).unwrap()
        });
        if let Ok(response) = stored {
            let result = &response.topics[0].partitions[0];
            // Base offset and leader epoch are the broker's to write.
            let ours = (0..8).contains(&at) || (12..16).contains(&at);
            assert_eq!(result.error == ErrorCode::NONE, ours, "flipped at {at}: {:?}", result.error);
        }
    }
    assert_eq!(client.read_all("t", 0).len(), 12 * 2);
}

#[test]
fn compressed_batches_pass_through_and_their_timestamps_are_found() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let base = today_ms();
    for (at, codec) in codecs.into_iter().enumerate() {
        let mut builder = BatchBuilder::with_capacity(1024);
        for n in 0..50 {
            let value = format!("{codec:?} {n}");
            let record = RecordRef {
                timestamp_ms: base + (at * 100 + n) as i64,
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
            };
            builder.append(&record);
        }
        let result = client.produce_batch(-1, "t", 0, &builder.seal(codec));
        assert_eq!(result.error, ErrorCode::NONE, "{codec:?}");
    }
    assert_eq!(client.read_all("t", 0).len(), 250);
    assert_eq!(client.offset_at("t", 0, base + 320), (170, base + 320));
}

#[test]
fn acks_1_is_stored_acks_0_has_no_answer_and_other_acks_are_invalid() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    assert_eq!(client.produce_batch(1, "t", 0, &batch(&["one"])).error, ErrorCode::NONE);
    client.send_produce(0, "t", 0, &batch(&["zero"]));
    assert_eq!(client.produce("t", 0, &["all"]), 2, "and the answer is this one's");
    assert_eq!(client.produce_batch(2, "t", 0, &batch(&["two"])).error, ErrorCode::INVALID_REQUIRED_ACKS);
    let mut doomed = broker.client();
    doomed.send_produce(0, "nope", 0, &batch(&["zero"]));
    assert!(doomed.is_closed(), "an error under acks=0 closes the connection");
}

#[test]
fn acks_all_is_answered_after_the_fsync_and_consumers_see_nothing_before_it() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    let mut consumer = broker.client();
    client.create("t", 1);
    let sync = Duration::from_millis(150);
    broker.hooks().delay_syncs(sync);
    let begin = Instant::now();
    assert_eq!(client.produce_batch(1, "t", 0, &batch(&["written"])).error, ErrorCode::NONE);
    assert!(begin.elapsed() < sync, "acks=1 does not wait for the disk");
    assert_eq!(consumer.read("t", 0, 0), [], "nobody sees what a power cut could take back");
    let begin = Instant::now();
    client.produce("t", 0, &["durable"]);
    assert!(begin.elapsed() >= sync);
    assert_eq!(consumer.read("t", 0, 0).len(), 2);
}

#[test]
fn produce_requests_are_pipelined_and_answered_in_order() {
    let broker = TestBroker::start();
    broker.hooks().delay_syncs(Duration::from_millis(20));
    let mut client = broker.client();
    client.create("t", 4);
    let begin = Instant::now();
    let ids: Vec<i32> = (0..40).map(|n| client.send_produce(-1, "t", n % 4, &batch(&["x"]))).collect();
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(client.receive_produce(id).topics[0].partitions[0].base_offset, n as i64 / 4);
    }
    assert!(begin.elapsed() < Duration::from_millis(40 * 20), "one sync was shared by many: {:?}", begin.elapsed());
}

#[test]
fn log_append_time_is_the_brokers_clock() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create_with("t", 1, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let result = client.produce_batch(-1, "t", 0, &batch_at(1_000, &["a", "b"]));
    assert!(result.log_append_time_ms > 1_700_000_000_000);
    assert_eq!(client.offset_at("t", 0, 1_000), (0, result.log_append_time_ms));
    assert_eq!(client.read_all("t", 0).len(), 2);
}

#[test]
fn retention_by_size_moves_the_start_and_min_insync_replicas_refuses() {
    let mut broker = TestBroker::with(|config| config.retention_check_every = Duration::from_millis(100));
    let mut client = broker.client();
    client.create_with("t", 1, 1, &[("segment.bytes", "4096"), ("retention.bytes", "8192")]);
    let value = "x".repeat(1000);
    for _ in 0..40 {
        client.produce("t", 0, &[&value]);
    }
    let deadline = Instant::now() + Duration::from_secs(15);
    while client.offset_at("t", 0, -2).0 == 0 {
        assert!(Instant::now() < deadline, "housekeeping never came");
        std::thread::sleep(Duration::from_millis(50));
    }
    let start = client.offset_at("t", 0, -2).0;
    broker.restart();
    let mut client = broker.client();
    assert_eq!(client.offset_at("t", 0, -2).0, start);
    assert_eq!(client.read_all("t", 0).len() as i64, 40 - start);
    client.create_with("strict", 1, 1, &[("min.insync.replicas", "2")]);
    assert_eq!(client.produce_batch(-1, "strict", 0, &batch(&["x"])).error, ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(client.produce_batch(1, "strict", 0, &batch(&["x"])).error, ErrorCode::NONE);
}

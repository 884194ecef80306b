//! What is acknowledged stays, seen from a client: after failed fsyncs, damaged files, clocks of older clients.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Client, TestBroker, batch, batch_at, today_ms, values};
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::produce::{self, OutPartition, OutTopic, PartitionResult};
use kafka_wire::record_batch::{SealedBatch, set_max_timestamp};

fn stamped(sequence: i32, value: &str) -> SealedBatch {
    let mut sealed = batch(&[value]);
    sealed.stamp(7, 0, sequence);
    sealed
}

#[test]
fn a_batch_whose_fsync_failed_is_not_acknowledged_when_it_is_sent_again() {
    // The second time it was called a duplicate of what is in the log, and so it was; durable it was not.
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let kept = stamped(0, "kept");
    assert_eq!(client.produce_batch(-1, "t", 0, &kept).error, ErrorCode::NONE);
    broker.hooks().fail_syncs(1);
    let lost = stamped(1, "lost");
    for attempt in 0..3 {
        assert_eq!(client.produce_batch(-1, "t", 0, &lost).error, ErrorCode::KAFKA_STORAGE_ERROR, "attempt {attempt}");
    }
    let again = client.produce_batch(-1, "t", 0, &kept);
    assert_eq!((again.error, again.base_offset), (ErrorCode::NONE, 0), "this one is durable");
    // What is in memory only is not read back by the next start either: it would believe it.
    broker.restart();
    let mut client = broker.client();
    assert_eq!(client.read_all("t", 0), [(0, "kept".to_owned())]);
    let again = client.produce_batch(-1, "t", 0, &lost);
    assert_eq!((again.error, again.base_offset), (ErrorCode::NONE, 1));
}

#[test]
fn a_topic_whose_creation_did_not_become_durable_acknowledges_nothing() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    broker.hooks().fail_syncs(1);
    assert_eq!(client.create("t", 1), ErrorCode::KAFKA_STORAGE_ERROR);
    assert_ne!(client.produce_batch(-1, "t", 0, &batch(&["a"])).error, ErrorCode::NONE);
}

fn start(data: &Path) -> std::io::Result<EmbeddedKafka> {
    EmbeddedKafka::start(EmbeddedConfig { data_dir: data.to_owned(), ..EmbeddedConfig::default() })
}

fn all_files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(all_files(&entry.path())),
            false => files.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap())),
        }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_bit_anywhere_in_the_catalogue_destroys_no_record() {
    // One in the first record cut everything behind it, and then every topic's files went as orphans.
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    for name in ["t", "u", "v"] {
        client.create(name, 1);
        client.produce(name, 0, &["precious"]);
    }
    broker.kafka.take().unwrap().stop();
    let data = broker.dir.path().join("data");
    let (catalogue, logs) = (data.join("topics.log"), data.join("logs"));
    let (whole, before) = (fs::read(&catalogue).unwrap(), all_files(&logs));
    let mut refused = 0;
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x01;
        fs::write(&catalogue, &damaged).unwrap();
        match start(&data) {
            Err(err) => {
                refused += 1;
                let told = err.to_string();
                assert!(told.contains("topics.log"), "{at}: {told}");
                assert!(!told.contains("is damaged") || told.contains("put a copy in its place"), "{at}: {told}");
                assert_eq!(fs::read(&catalogue).unwrap(), damaged, "{at}");
            }
            // The last record has nobody behind it who knows that it was durable: its topic is unknown, not destroyed.
            Ok(kafka) => kafka.stop(),
        }
        assert_eq!(all_files(&logs), before, "bit 0 of byte {at}");
    }
    assert!(refused > whole.len() * 3 / 5, "{refused} of {}", whole.len());
    fs::write(&catalogue, &whole).unwrap();
    let kafka = start(&data).unwrap();
    assert_eq!(Client::connect(kafka.addr()).read_all("t", 0), [(0, "precious".to_owned())]);
}

/// Produces with another largest timestamp in the header than the records have.
fn produce_with_header(client: &mut Client, sealed: &SealedBatch, max_timestamp_ms: i64) -> PartitionResult {
    let id = client.next_id();
    let partitions = [OutPartition { index: 0, batch: sealed }];
    let topics = [OutTopic { name: "t", partitions: &partitions }];
    let mut frame = produce::encode_request_frame(9, id, "test", -1, 5000, &topics).concat();
    // Behind the records there are the empty tags of partition, topic and request.
    let end = frame.len() - 3;
    set_max_timestamp(&mut frame[end - sealed.bytes()..end], max_timestamp_ms);
    client.send(&frame);
    client.receive_produce(id).topics.remove(0).partitions.remove(0)
}

#[test]
fn the_largest_timestamp_is_that_of_the_records_whatever_the_header_says() {
    let now_ms = today_ms();
    for told_ms in [-1, 0, now_ms - 1_000_000_000] {
        let broker = TestBroker::with(|config| config.retention_check_every = Duration::from_millis(100));
        let mut client = broker.client();
        client.create("t", 1);
        let result = produce_with_header(&mut client, &batch_at(now_ms, &["a", "b"]), told_ms);
        assert_eq!(result.error, ErrorCode::NONE);
        assert_eq!(client.offset_at("t", 0, now_ms - 60_000), (0, now_ms), "told {told_ms}");
        assert_eq!(client.offset_at("t", 0, -3), (1, now_ms + 1), "told {told_ms}");
        // Retention looks every second at most, and finds nothing old.
        std::thread::sleep(Duration::from_millis(2_300));
        assert_eq!(client.read_all("t", 0).len(), 2, "told {told_ms}");
    }
}

#[test]
fn records_without_a_timestamp_are_kept_and_old_ones_until_the_next_check_as_in_kafka() {
    let broker = TestBroker::with(|config| config.retention_check_every = Duration::from_millis(100));
    let patient = TestBroker::start();
    let (mut client, mut patient_client) = (broker.client(), patient.client());
    for client in [&mut client, &mut patient_client] {
        client.create("none", 1);
        client.create("old", 1);
        client.produce_batch(-1, "none", 0, &batch_at(-1, &["a"]));
        client.produce_batch(-1, "old", 0, &batch_at(1_882_133_856, &["a"]));
    }
    let deadline = Instant::now() + Duration::from_secs(15);
    while client.offset_at("old", 0, -2).0 == 0 {
        assert!(Instant::now() < deadline, "1970 is more than seven days ago");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(client.read_all("none", 0).len(), 1, "as old as its segment");
    assert_eq!(patient_client.read_all("none", 0).len(), 1);
    assert_eq!(patient_client.read_all("old", 0).len(), 1, "the next check is in five minutes");
    let records = patient_client.fetch(&common::fetch_request("old", 0, 0, 0)).topics[0].partitions[0].records.clone();
    assert_eq!(values(records), [(0, "a".to_owned())]);
}

//! A data directory that an older version wrote opens with everything in it.
//!
//! `tests/data/2026-11` was written by `fill` below, run by the code of that time, and is never written again. A version
//! that changes what lies on disk adds a directory of its own.

mod common;

use std::fs;
use std::path::Path;

use common::{Client, batch_at, group_id, topic_name};
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::cold::types::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_wire::cold::types::{DeleteTopicsRequest, OffsetCommitRequest, OffsetFetchRequest};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

/// Set: write a new directory there.
const WRITE_TO: &str = "EMBEDDED_KAFKA_WRITE_DATA";
/// Far enough ahead that no retention looks at these records: 2100.
const FIRST_MS: i64 = 4_102_444_800_000;
const ORDERS: usize = 12;

fn start(dir: &Path) -> (EmbeddedKafka, Client) {
    let kafka = EmbeddedKafka::start(EmbeddedConfig { data_dir: dir.to_owned(), ..EmbeddedConfig::default() }).unwrap();
    let client = Client::connect(kafka.addr());
    (kafka, client)
}

fn value(n: usize) -> String {
    format!("order {n} {}", "x".repeat(120))
}

/// Two topics that live (one of several segments, one of two partitions), one that was deleted, commits of two groups.
fn fill(dir: &Path) {
    let (kafka, mut client) = start(dir);
    client.create_with("orders", 1, 1, &[("segment.bytes", "1024")]);
    client.create("events", 2);
    client.create("gone", 1);
    client.produce("gone", 0, &["never seen again"]);
    delete(&mut client, "gone");
    for n in 0..ORDERS {
        let mut sealed = batch_at(FIRST_MS + n as i64, &[&value(n)]);
        sealed.stamp(77, 0, n as i32);
        assert_eq!(client.produce_batch(-1, "orders", 0, &sealed).error, ErrorCode::NONE);
    }
    for partition in 0..2 {
        client.produce_batch(-1, "events", partition, &batch_at(FIRST_MS, &["a", "b"]));
    }
    for (group, offset) in [("billing", 7), ("audit", 3)] {
        commit(&mut client, group, offset);
    }
    kafka.stop();
}

fn delete(client: &mut Client, topic: &str) {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(topic)]);
    match client.cold(ApiKey::DeleteTopics, 4, RequestKind::DeleteTopics(request)) {
        ResponseKind::DeleteTopics(response) => assert_eq!(response.responses[0].error_code, 0),
        other => panic!("{other:?}"),
    }
}

fn commit(client: &mut Client, group: &str, offset: i64) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("orders")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    match client.cold(ApiKey::OffsetCommit, 7, RequestKind::OffsetCommit(request)) {
        ResponseKind::OffsetCommit(response) => assert_eq!(response.topics[0].partitions[0].error_code, 0),
        other => panic!("{other:?}"),
    }
}

fn committed(client: &mut Client, group: &str) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("orders")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
    match client.cold(ApiKey::OffsetFetch, 6, RequestKind::OffsetFetch(request)) {
        ResponseKind::OffsetFetch(response) => response.topics[0].partitions[0].committed_offset,
        other => panic!("{other:?}"),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn a_data_directory_of_every_older_version_opens_with_all_its_records_topics_and_offsets() {
    if let Some(dir) = std::env::var_os(WRITE_TO) {
        fill(Path::new(&dir));
        return;
    }
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut seen = 0;
    for old in fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()) {
        let dir = tempfile::tempdir().unwrap();
        copy(&old, dir.path());
        // The second start reads what the first one made of it.
        for round in 0..2 {
            let at = format!("{old:?}, start {round}");
            let (kafka, mut client) = start(dir.path());
            let orders: Vec<(i64, String)> = (0..ORDERS).map(|n| (n as i64, value(n))).collect();
            assert_eq!(client.read_all("orders", 0)[..ORDERS], orders, "{at}");
            for partition in 0..2 {
                let events = client.read_all("events", partition);
                assert_eq!(events, [(0, "a".to_owned()), (1, "b".to_owned())], "{at}");
            }
            assert_eq!((committed(&mut client, "billing"), committed(&mut client, "audit")), (7, 3), "{at}");
            assert_eq!(client.offset_at("orders", 0, FIRST_MS + 9), (9, FIRST_MS + 9), "{at}");
            let mut again = batch_at(FIRST_MS + 11, &[&value(11)]);
            again.stamp(77, 0, 11);
            assert_eq!(client.produce_batch(-1, "orders", 0, &again).base_offset, 11, "{at}: stored before");
            assert_eq!(client.create("gone", 1), ErrorCode::NONE, "{at}: deleted");
            delete(&mut client, "gone");
            kafka.stop();
        }
        seen += 1;
    }
    assert!(seen > 0, "directories to open");
}

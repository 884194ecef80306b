//! The fuzz targets' seeds and past crashes (`tools/fuzz/corpus/`), replayed without a fuzzer. What each file begins
//! with, a version byte for example, is said in the target of the same name in `tools/fuzz/fuzz_targets/`.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use kafka_wire::frame::FrameReader;
use kafka_wire::header::decode_request_header;
use kafka_wire::messages::{api_versions, fetch, produce};
use kafka_wire::{ApiKey, cold, record_batch};

const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

/// Calls `read` with every file of a target's corpus; none may panic.
fn replay(target: &str, read: impl Fn(Bytes)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is in the checkout") {
        read(Bytes::from(std::fs::read(entry.expect("readable").path()).expect("readable")));
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

/// As [`replay`], with the first byte taken off as the version.
fn replay_versioned(target: &str, read: impl Fn(i16, Bytes)) {
    replay(target, |data| {
        if let Some(version) = data.first() {
            read(i16::from(*version), data.slice(1..));
        }
    });
}

fn read_batches(records: Bytes) {
    drop(record_batch::validate_batch(&records));
    for batch in record_batch::batches(records).map_while(Result::ok) {
        drop(batch.verify_crc());
        let valid = batch.validate_records(DECOMPRESSED_BYTES_MAX).is_ok();
        let Ok(records) = batch.records(DECOMPRESSED_BYTES_MAX) else { continue };
        let read = records.map_while(Result::ok).inspect(|record| record.headers.iter().for_each(drop)).count();
        if valid {
            assert_eq!(read, batch.header.record_count as usize, "validated records can all be read");
        }
    }
}

#[test]
fn frames_of_every_api_are_read_or_refused() {
    replay("kafka_frame", |data| {
        let mut buf = BytesMut::from(&data[..]);
        let mut reader = FrameReader::new(1 << 20);
        while let Ok(Some(mut frame)) = reader.next(&mut buf) {
            let Ok(header) = decode_request_header(&mut frame) else { continue };
            let version = header.api_version;
            match header.api() {
                Some(ApiKey::Produce) => drop(produce::decode_request(version, frame)),
                Some(ApiKey::Fetch) => drop(fetch::decode_request(version, frame)),
                Some(ApiKey::ApiVersions) => drop(api_versions::decode_request(version, frame)),
                Some(api) => drop(cold::decode_request(api, version, frame)),
                None => {}
            }
        }
    });
}

#[test]
fn produce_requests_and_their_batches_are_read_or_refused() {
    replay_versioned("kafka_produce_request", |version, body| {
        let Ok(request) = produce::decode_request(version, body) else { return };
        let partitions = request.topics.into_iter().flat_map(|topic| topic.partitions);
        partitions.filter_map(|partition| partition.records).for_each(read_batches);
    });
}

#[test]
fn responses_are_read_or_refused() {
    replay_versioned("kafka_produce_response", |version, body| drop(produce::decode_response(version, body)));
    replay_versioned("kafka_api_versions_response", |version, body| drop(api_versions::decode_response(version, body)));
    replay_versioned("kafka_fetch_response", |version, body| {
        let Ok(response) = fetch::decode_response(version, body) else { return };
        let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
        partitions.map(|partition| partition.records).for_each(read_batches);
    });
    let apis: Vec<_> = cold::apis().collect();
    replay_versioned("kafka_cold_response", |index, data| {
        let Some(version) = data.first() else { return };
        let api = apis[index as usize % apis.len()];
        let body = data.slice(1..);
        drop(cold::decode_response(api, cold::supported(api).start() + i16::from(*version), body.clone()));
        drop(cold::decode_subscription(body.clone()));
        drop(cold::decode_assignment(body));
    });
}

#[test]
fn record_batches_are_read_or_refused() {
    replay("record_batch", read_batches);
}

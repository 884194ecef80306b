//! A Produce request body (first byte: its version), and the batches in it as the broker checks them.
#![no_main]

use bytes::Bytes;
use kafka_wire::messages::produce;
use kafka_wire::record_batch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((version, body)) = data.split_first() else { return };
    let Ok(request) = produce::decode_request(i16::from(*version), Bytes::copy_from_slice(body)) else { return };
    for records in request.topics.into_iter().flat_map(|topic| topic.partitions).filter_map(|part| part.records) {
        drop(record_batch::validate_batch(&records));
    }
});

//! A Fetch response body (first byte: its version), down to the records and their headers.
#![no_main]

use bytes::Bytes;
use kafka_wire::messages::fetch;
use kafka_wire::record_batch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((version, body)) = data.split_first() else { return };
    let Ok(response) = fetch::decode_response(i16::from(*version), Bytes::copy_from_slice(body)) else { return };
    for partition in response.topics.into_iter().flat_map(|topic| topic.partitions) {
        for batch in record_batch::batches(partition.records).map_while(Result::ok) {
            drop(batch.verify_crc());
            for record in batch.records(1 << 20).into_iter().flatten().map_while(Result::ok) {
                record.headers.iter().for_each(drop);
            }
        }
    }
});

//! A Produce response body. First byte: its version.
#![no_main]

use bytes::Bytes;
use kafka_wire::messages::produce;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((version, body)) = data.split_first() else { return };
    drop(produce::decode_response(i16::from(*version), Bytes::copy_from_slice(body)));
});

//! An ApiVersions response body. First byte: the version that was asked for.
#![no_main]

use bytes::Bytes;
use kafka_wire::messages::api_versions;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((version, body)) = data.split_first() else { return };
    drop(api_versions::decode_response(i16::from(*version), Bytes::copy_from_slice(body)));
});

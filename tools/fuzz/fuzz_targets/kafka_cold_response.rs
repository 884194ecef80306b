//! A response body of any cold API. First byte: which API; second: its version within what we speak.
#![no_main]

use bytes::Bytes;
use kafka_wire::cold;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else { return };
    let apis: Vec<_> = cold::apis().collect();
    let api = apis[usize::from(*api) % apis.len()];
    let version = cold::supported(api).start() + i16::from(*version);
    drop(cold::decode_response(api, version, Bytes::copy_from_slice(body)));
    drop(cold::decode_subscription(Bytes::copy_from_slice(body)));
    drop(cold::decode_assignment(Bytes::copy_from_slice(body)));
});

//! What the embedded broker reads from a connection: frames, request headers, request bodies of every API.
#![no_main]

use bytes::BytesMut;
use kafka_wire::api_key::ApiKey;
use kafka_wire::frame::FrameReader;
use kafka_wire::header::decode_request_header;
use kafka_wire::{cold, messages};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut buf = BytesMut::from(data);
    let mut reader = FrameReader::new(1 << 20);
    while let Ok(Some(mut frame)) = reader.next(&mut buf) {
        let Ok(header) = decode_request_header(&mut frame) else { continue };
        let version = header.api_version;
        match header.api() {
            Some(ApiKey::Produce) => drop(messages::produce::decode_request(version, frame)),
            Some(ApiKey::Fetch) => drop(messages::fetch::decode_request(version, frame)),
            Some(ApiKey::ApiVersions) => drop(messages::api_versions::decode_request(version, frame)),
            Some(api) => drop(cold::decode_request(api, version, frame)),
            None => {}
        }
    }
});

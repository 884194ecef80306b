//! Seeds and past crashes of the fuzz targets (`tools/fuzz/corpus/`), replayed without a fuzzer.

mod common;

use std::fs;
use std::path::Path;

use bytes::{BufMut, BytesMut};
use kafka_wire::{ApiKey, header};
use proptest::prelude::*;
use router::apis::APIS;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display())) {
        check(&fs::read(entry.expect("an entry").path()).expect("a seed"));
        count += 1;
    }
    assert!(count > 0, "no seeds in {}", folder.display());
}

#[test]
fn requests_pass_alike_in_all_pieces() {
    replay("proxy_requests", common::check_requests);
}

#[test]
fn answers_pass_alike_in_all_pieces() {
    replay("proxy_answers", common::check_answers);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn answers_of_noise_behind_a_good_head_pass_alike(api in 0..95u8, version: u8, noise: Vec<u8>, zeros in 0..60usize) {
        let mut data = vec![api, version, 3, 12];
        let length = (noise.len() + zeros + 4) as u32;
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(&[0; 4]);
        data.extend(vec![0; zeros]);
        data.extend(noise);
        common::check_answers(&data);
    }

    #[test]
    fn requests_of_noise_behind_a_good_head_pass_alike(api in -1..96i16, version in 0..20i16, noise: Vec<u8>) {
        let mut data = Vec::new();
        data.put_u32(noise.len() as u32 + 8);
        data.put_i16(api);
        data.put_i16(version);
        data.put_u32(1);
        data.extend(noise);
        common::check_requests(&data);
    }
}

/// `UPDATE_SEEDS=1 cargo test -p router --test fuzz_seeds` writes the seeds: a request of each API and the answers that
/// carry addresses.
#[test]
fn seeds_are_written_when_asked_for() {
    if std::env::var_os("UPDATE_SEEDS").is_none() {
        return;
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/fuzz/corpus");
    let save = |target: &str, name: String, bytes: &[u8]| {
        fs::create_dir_all(corpus.join(target)).expect("a folder");
        fs::write(corpus.join(target).join(name + ".bin"), bytes).expect("a seed");
    };
    for api in APIS.iter().filter(|api| api.is_offered()) {
        let mut frame = BytesMut::from(&[0; 4][..]);
        header::encode_request_header(&mut frame, api.key, api.version_max, 1, "client");
        frame.put_bytes(0, 24);
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        save("proxy_requests", api.key.name().to_owned(), &frame);
    }
    let bodies: [(ApiKey, i16, &[u8]); 6] = [
        (ApiKey::Metadata, 12, b"\0\0\0\0\x02\0\0\0\x01\x06kafka\0\0#\x84\0\0\x01\0\0\0\x01\x01\0"),
        (ApiKey::FindCoordinator, 3, b"\0\0\0\0\0\0\0\0\0\0\x01\x06kafka\0\0#\x84\0"),
        (
            ApiKey::DescribeCluster,
            1,
            b"\0\0\0\0\0\0\0\x01\x02c\0\0\0\x01\x02\0\0\0\x01\x06kafka\0\0#\x84\0\0\0\0\0\0\0",
        ),
        (ApiKey::Produce, 10, b"\x01\0\0\0\0\x01\0\x11\x02\0\0\0\x01\x06kafka\0\0#\x84\0\0"),
        (ApiKey::Fetch, 16, b"\0\0\0\0\0\0\0\0\0\0\x01\x01\0\x11\x02\0\0\0\x01\x06kafka\0\0#\x84\0\0"),
        (ApiKey::ShareFetch, 1, b"\0\0\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\x01\x06kafka\0\0#\x84\0\0\0"),
    ];
    for (api, version, body) in bodies {
        let mut data = BytesMut::from(&[api.key() as u8, version as u8, 3, 12][..]);
        let mut frame = BytesMut::from(&[0; 4][..]);
        header::encode_response_header(&mut frame, api, version, 0);
        frame.extend_from_slice(body);
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        data.extend_from_slice(&frame);
        save("proxy_answers", api.name().to_owned(), &data);
    }
}

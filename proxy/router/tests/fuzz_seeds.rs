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

#[test]
fn requests_of_tenants_pass_alike_in_all_pieces() {
    replay("tenant_requests", common::tenant_checks::check_tenant_requests);
}

#[test]
fn answers_to_tenants_pass_alike_in_all_pieces() {
    replay("tenant_answers", common::tenant_checks::check_tenant_answers);
}

#[test]
fn strangers_are_answered() {
    replay("tenant_door", common::tenant_checks::check_tenant_door);
}

#[test]
fn what_consumers_say_is_translated_there_and_back() {
    replay("consumer_protocol", common::tenant_checks::check_consumer_protocol);
}

/// Messages of tenants and what comes of them when some of their bytes are others. `MUTATIONS` says how many of each are
/// tried; a failure names the seed.
#[test]
fn seeds_of_tenants_with_changed_bytes_do_no_harm() {
    type Check = fn(&[u8]);
    let checks: [(&str, Check); 4] = [
        ("tenant_requests", common::tenant_checks::check_tenant_requests),
        ("tenant_answers", common::tenant_checks::check_tenant_answers),
        ("tenant_door", common::tenant_checks::check_tenant_door),
        ("consumer_protocol", common::tenant_checks::check_consumer_protocol),
    ];
    let count: u64 = std::env::var("MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000);
    for (target, check) in checks {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/fuzz/corpus").join(target);
        let mut paths: Vec<_> =
            fs::read_dir(&folder).expect("seeds").map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a seed")).collect();
        for seed in 1..=count {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut below = |limit: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 11) as usize % limit.max(1)
            };
            let mut bytes = seeds[below(seeds.len())].clone();
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                match below(6) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, below(256) as u8),
                    2 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][below(6)],
                    3 => bytes[at] ^= 1 << below(8),
                    4 => {
                        let other = &seeds[below(seeds.len())];
                        bytes.extend_from_slice(&other[below(other.len())..]);
                    }
                    _ => drop(bytes.drain(at..(at + below(9)).min(bytes.len()))),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            let failed = std::panic::catch_unwind(|| check(&bytes)).is_err();
            assert!(!failed, "{target}, seed {seed}: {bytes:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn answers_of_noise_to_tenants_pass_alike(head: [u8; 7], noise: Vec<u8>, zeros in 0..60usize) {
        let mut data = head.to_vec();
        let length = (noise.len() + zeros + 4) as u32;
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(&[0; 4]);
        data.extend(vec![0; zeros]);
        data.extend(noise);
        common::tenant_checks::check_tenant_answers(&data);
    }

    #[test]
    fn requests_of_noise_of_tenants_pass_alike(api in -1..75i16, version in 0..20i16, noise: Vec<u8>) {
        let mut data = vec![version as u8];
        data.put_u32(noise.len() as u32 + 8);
        data.put_i16(api);
        data.put_i16(version);
        data.put_u32(1);
        data.extend(noise);
        common::tenant_checks::check_tenant_requests(&data);
    }

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
    tenant_seeds(&save);
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

/// Of every API of the rules its oldest and its newest version, with names that may be used and names that may not.
fn tenant_seeds(save: &dyn Fn(&str, String, &[u8])) {
    use common::tenant::*;
    use router::tenant::rename::Called;
    use router::tenant::rules::{RULES, Way};

    let whole: Vec<_> = RULES.iter().filter(|rule| rule.way != Way::Local).collect();
    for (at, rule) in whole.iter().enumerate() {
        for version in [rule.version_min, rule.version_max] {
            let has_names = !matches!(
                (rule.key, version),
                (ApiKey::Produce | ApiKey::Fetch, 13..)
                    | (ApiKey::OffsetCommit | ApiKey::OffsetFetch, 10..)
                    | (ApiKey::TxnOffsetCommit, 6..)
            );
            let names = ["zorro.secret.v1", "orders.v1", "friend.prices.v1"].map(called);
            let asked = if has_names { names } else { [ID_SECRET, ID_ORDERS, ID_UNKNOWN].map(Called::Id) };
            let body = Spoken { topics: &asked, ..Spoken::default() }.body(&rule.request, version);
            let side = u8::from(rule.need == router::tenant::rules::Need::Subscribe);
            let data = [&[side][..], &request(rule.key, version, 1, &body)].concat();
            save("tenant_requests", format!("{}-{version}", rule.key.name()), &data);

            let names = ["zorro.secret.v1", "app1.orders.v1", "friend.prices.v1"].map(called);
            let said = if has_names { names } else { [ID_SECRET, ID_ORDERS, ID_UNKNOWN].map(Called::Id) };
            let spoken = Spoken { topics: &said, owned: &["app1.g", "zorro.g", "app1.g"], ..Spoken::default() };
            let head = [1, at as u8, (version - rule.version_min) as u8, 3, 1, 0, 1];
            let data = [&head[..], &answer(rule.key, version, 0, &spoken.body(&rule.response, version))].concat();
            save("tenant_answers", format!("{}-{version}", rule.key.name()), &data);
        }
    }
    let plain = |text: &[u8], version: i16| {
        let mut body = BytesMut::new();
        kafka_wire::pieces::put_count(&mut body, version >= 2, text.len());
        body.extend_from_slice(text);
        if version >= 2 {
            body.put_u8(0);
        }
        request(ApiKey::SaslAuthenticate, version, 3, &body)
    };
    let shake = |name: &str| {
        let mut body = BytesMut::new();
        kafka_wire::pieces::put_string(&mut body, false, name.as_bytes());
        request(ApiKey::SaslHandshake, 1, 2, &body)
    };
    let versions = request(ApiKey::ApiVersions, 5, 1, b"\x05rust\x021\0\xff\xff\xff\xff\0");
    let proof = plain(b"\0app1\0app1-pub-secret", 1);
    save("tenant_door", "plain".to_owned(), &[&versions[..], &shake("PLAIN"), &proof].concat());
    let first = plain(b"n,,n=app1,r=rOprNGfwEbeRWgbNEkqO", 2);
    let last = plain(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqOAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        2,
    );
    save("tenant_door", "scram".to_owned(), &[&shake("SCRAM-SHA-256")[..], &first, &last].concat());
    save("tenant_door", "unknown_version".to_owned(), &request(ApiKey::ApiVersions, 9, 1, &[0; 9]));
    let said: [(&str, &[u8]); 4] = [
        ("subscription_0", b"\0\0\0\0\0\x02\0\x09orders.v1\0\x0fzorro.secret.v1\xff\xff\xff\xff"),
        (
            "subscription_1",
            b"\0\x01\0\0\0\x01\0\x10friend.prices.v1\0\0\0\x02hi\0\0\0\x01\0\x09orders.v1\0\0\0\x01\0\0\0\x07",
        ),
        ("assignment_0", b"\0\0\0\0\0\x01\0\x09orders.v1\0\0\0\x02\0\0\0\x07\0\0\0\x08\xff\xff\xff\xff"),
        ("newer", b"\0\x09\0\0\0\x01\0\x09orders.v1\xff\xff\xff\xff\0\0\0\0\0\0\0\x05\xff\xffrest"),
    ];
    for (name, bytes) in said {
        save("consumer_protocol", name.to_owned(), bytes);
    }
}

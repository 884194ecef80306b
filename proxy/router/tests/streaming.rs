//! Whatever the pieces bytes arrive in: requests and answers leave in order and unchanged, but for what the list says.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::*;
use kafka_protocol::messages::share_fetch_response as share;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::{ApiKey, header};
use router::answers::{self, AnswerError, Answers};
use router::apis::{Api, offered};
use router::in_flight::{InFlight, Outstanding};
use router::requests::{self, RequestError, Requests, Upstream};
use router::rewrite::api_versions::Asker;
use router::topology::{Naming, View};

#[derive(Default)]
struct Told {
    requests: Vec<(ApiKey, usize)>,
    askers: Vec<Asker>,
    answers: Vec<(ApiKey, usize)>,
    hidden: usize,
}

impl requests::Watch for Told {
    fn request(&mut self, api: &'static Api, bytes: usize) {
        self.requests.push((api.key, bytes));
    }

    fn asker(&mut self, asker: &Asker) {
        self.askers.push(asker.clone());
    }
}

impl answers::Watch for Told {
    fn answer(&mut self, to: &Outstanding, bytes: usize) {
        self.answers.push((to.api.key, bytes));
    }

    fn hidden(&mut self) {
        self.hidden += 1;
    }
}

fn view() -> View {
    View { host: "proxy".into(), naming: Naming::Ports { first: 9101, base: 0, width: 5 } }
}

/// Pieces of pseudo-random sizes, 1 to `most` bytes.
fn pieces(bytes: &[u8], seed: u64, most: u64) -> Vec<&[u8]> {
    let (mut rest, mut state, mut pieces) = (bytes, seed | 1, Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let size = (1 + (state >> 33) % most).min(rest.len() as u64) as usize;
        pieces.push(&rest[..size]);
        rest = &rest[size..];
    }
    pieces
}

fn send(bytes: &[u8], seed: u64, most: u64, upstream: Upstream) -> Result<(Vec<u8>, InFlight, Told), RequestError> {
    let mut requests = Requests::new(1 << 20);
    let (mut in_flight, mut told, mut out) = (InFlight::default(), Told::default(), Vec::new());
    let mut buffer = BytesMut::new();
    for piece in pieces(bytes, seed, most) {
        buffer.extend_from_slice(piece);
        requests.advance(&mut buffer, &mut in_flight, upstream, &mut out, &mut told, Instant::now())?;
    }
    assert!(buffer.is_empty() && requests.is_at_boundary(), "{} bytes are kept", buffer.len());
    Ok((out.concat(), in_flight, told))
}

fn receive(asked: &[(ApiKey, i16, i32)], bytes: &[u8], seed: u64, most: u64) -> Result<(Vec<u8>, Told), AnswerError> {
    let (mut answers, mut in_flight, mut told) = (Answers::default(), InFlight::default(), Told::default());
    for (api, version, correlation_id) in asked {
        let api = offered(api.key()).expect("offered");
        in_flight.push(Outstanding {
            api,
            version: *version,
            correlation_id: *correlation_id,
            at: Instant::now(),
            asked: None,
        });
    }
    let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
    for piece in pieces(bytes, seed, most) {
        buffer.extend_from_slice(piece);
        answers.advance(&mut buffer, &mut in_flight, &view(), &mut out, &mut Vec::new(), &mut told)?;
    }
    assert!(buffer.is_empty() && answers.is_at_boundary(), "{} bytes are kept", buffer.len());
    Ok((out.concat(), told))
}

fn request(api: ApiKey, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::from(&[0; 4][..]);
    header::encode_request_header(&mut out, api, version, correlation_id, "client");
    out.extend_from_slice(body);
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.to_vec()
}

fn answer(api: ApiKey, version: i16, correlation_id: i32, message: &impl Encodable) -> Vec<u8> {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).expect("kafka-protocol writes it");
    raw_answer(api, version, correlation_id, &body)
}

fn raw_answer(api: ApiKey, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::from(&[0; 4][..]);
    header::encode_response_header(&mut out, api, version, correlation_id);
    out.extend_from_slice(body);
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.to_vec()
}

#[test]
fn requests_pass_unchanged_and_are_remembered_in_order_however_they_arrive() {
    // acks=0: nothing will answer it.
    let produce = |acks: i16, size: usize| [&[0u8][..], &acks.to_be_bytes(), &vec![7; size]].concat();
    let parts = [
        request(ApiKey::ApiVersions, 3, 1, b"\x06kafka\x041.0\0"),
        request(ApiKey::Metadata, 12, 2, &[0; 30]),
        request(ApiKey::Produce, 9, 3, &produce(-1, 5_000)),
        request(ApiKey::Produce, 9, 4, &produce(0, 90_000)),
        request(ApiKey::Fetch, 17, 5, &[1; 200]),
    ];
    let bytes = parts.concat();
    for (seed, most) in (0..60).flat_map(|seed| [(seed, 1), (seed, 7), (seed, 5_000), (seed, 1 << 20)]) {
        let (out, mut in_flight, told) = send(&bytes, seed, most, Upstream::Any).expect("requests");
        assert!(out == bytes, "seed {seed}, pieces up to {most}");
        let mut ids = Vec::new();
        while let Some(one) = in_flight.pop() {
            ids.push(one.correlation_id);
        }
        assert_eq!(ids, [1, 2, 3, 5], "seed {seed}, pieces up to {most}");
        let sizes: Vec<usize> = told.requests.iter().map(|(_, size)| *size).collect();
        assert_eq!(sizes, parts.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(told.askers[0].software_name, "kafka");
    }
}

#[test]
fn what_no_proxy_should_pass_on_ends_the_connection_with_its_reason() {
    let mut absurd = request(ApiKey::Metadata, 12, 1, &[]);
    absurd[..4].copy_from_slice(&i32::MAX.to_be_bytes());
    let rows: &[(&str, Vec<u8>, &str)] = &[
        ("an API that only brokers speak", request(ApiKey::LeaderAndIsr, 0, 1, &[]), "not_offered"),
        ("a version newer than the list", request(ApiKey::Produce, 14, 1, &[0; 9]), "not_offered"),
        ("an unknown key", [&[0, 0, 0, 8, 0x7f, 0, 0, 0][..], &[0; 4]].concat(), "not_offered"),
        ("a frame shorter than a header", vec![0, 0, 0, 3, 1, 2, 3], "malformed_request"),
        ("a produce without acks", request(ApiKey::Produce, 9, 1, &[]), "malformed_request"),
        ("a frame too long", absurd, "frame_length"),
        ("a negative length", vec![0xff; 8], "frame_length"),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1], "tls_on_plain_port"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "http_on_kafka_port"),
        ("a huge ApiVersions", request(ApiKey::ApiVersions, 3, 1, &vec![0; 200_000]), "frame_length"),
    ];
    for (what, bytes, reason) in rows {
        for most in [1, 1 << 20] {
            let found = send(bytes, 5, most, Upstream::Meant).map(|_| ()).expect_err(what);
            assert_eq!(found.reason(), *reason, "{what}");
        }
    }
}

#[test]
fn a_version_of_api_versions_that_is_too_new_becomes_one_no_broker_knows() {
    let bytes = request(ApiKey::ApiVersions, 6, 1, b"\x02a\x02b\0\0\0\0\0\0");
    let (out, in_flight, _) = send(&bytes, 1, 3, Upstream::Meant).expect("a request");
    assert_eq!(out[6..8], i16::MAX.to_be_bytes());
    assert_eq!((&out[..6], &out[8..]), (&bytes[..6], &bytes[8..]));
    assert_eq!(in_flight.count(), 1);
}

#[test]
fn the_identity_a_client_expects_reaches_the_broker_it_means_and_no_other() {
    let body = b"\x02a\x02b\x05abcd\0\0\0\x07\0";
    let bytes = request(ApiKey::ApiVersions, 5, 1, body);
    let (out, ..) = send(&bytes, 1, 3, Upstream::Meant).expect("a request");
    assert_eq!(out, bytes, "the broker itself compares (KIP-1242)");
    let (out, ..) = send(&bytes, 1, 3, Upstream::Any).expect("a request");
    assert_eq!(out, request(ApiKey::ApiVersions, 5, 1, b"\x02a\x02b\0\xff\xff\xff\xff\0"));
}

fn fetched(records: &[usize], endpoints: usize) -> FetchResponse {
    let partitions = records.iter().map(|size| {
        let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(3)).with_leader_epoch(4);
        let aborted = AbortedTransaction::default().with_producer_id(ProducerId(5)).with_first_offset(6);
        PartitionData::default()
            .with_partition_index(2)
            .with_high_watermark(10)
            .with_current_leader(leader)
            .with_aborted_transactions(Some(vec![aborted; size % 3]))
            .with_records((*size > 0).then(|| Bytes::from(vec![0xaa; *size])))
    });
    let topic = FetchableTopicResponse::default().with_partitions(partitions.collect());
    let endpoint = |node: usize| {
        let host = StrBytes::from_string(format!("kafka-{node}.internal"));
        NodeEndpoint::default().with_node_id(BrokerId(node as i32)).with_host(host).with_port(9092)
    };
    FetchResponse::default().with_responses(vec![topic]).with_node_endpoints((0..endpoints).map(endpoint).collect())
}

#[test]
fn addresses_in_a_fetch_are_hidden_while_it_streams_and_nothing_else_changes() {
    let other = answer(ApiKey::Fetch, 11, 8, &FetchResponse::default());
    for version in 16..=17 {
        for (records, endpoints) in [(&[][..], 0), (&[0, 5][..], 0), (&[100, 70_000, 0][..], 1), (&[3][..], 300)] {
            let made = fetched(records, endpoints);
            let whole = answer(ApiKey::Fetch, version, 7, &made);
            let bytes = [&whole[..], &other].concat();
            for (seed, most) in (0..20).flat_map(|seed| [(seed, 1), (seed, 9), (seed, 3_000), (seed, 1 << 20)]) {
                let what = format!("v{version} {records:?} {endpoints} seed {seed} {most}");
                let asked = [(ApiKey::Fetch, version, 7), (ApiKey::Fetch, 11, 8)];
                let (out, told) = receive(&asked, &bytes, seed, most).unwrap_or_else(|err| panic!("{what}: {err}"));
                assert_eq!(out.len(), bytes.len(), "{what}");
                assert!(out.ends_with(&other), "{what}");
                if endpoints == 0 {
                    assert!(out == bytes, "{what}");
                }
                assert!(!String::from_utf8_lossy(&out).contains("internal"), "{what}");
                let mut body = Bytes::from(out).slice(9..whole.len());
                let mut found = FetchResponse::decode(&mut body, version).expect("still a fetch response");
                assert_eq!(found.unknown_tagged_fields.len(), usize::from(endpoints > 0), "{what}");
                found.unknown_tagged_fields.clear();
                assert_eq!(found, made.clone().with_node_endpoints(Vec::new()), "{what}");
                assert_eq!(told.hidden, usize::from(endpoints > 0), "{what}");
                assert_eq!(told.answers, [(ApiKey::Fetch, whole.len()), (ApiKey::Fetch, other.len())]);
            }
        }
    }
}

#[test]
fn addresses_in_a_share_fetch_are_hidden_while_it_streams_and_nothing_else_changes() {
    for endpoints in [0, 1, 2, 5, 9, 200] {
        for size in [0, 1, 40_000] {
            let acquired = share::AcquiredRecords::default().with_first_offset(1).with_last_offset(2);
            let partition = share::PartitionData::default()
                .with_error_message(Some(StrBytes::from_static_str("why")))
                .with_records((size > 0).then(|| Bytes::from(vec![0xaa; size])))
                .with_acquired_records(vec![acquired; 3]);
            let topic = share::ShareFetchableTopicResponse::default().with_partitions(vec![partition; 2]);
            let endpoint = |node: usize| {
                let host = StrBytes::from_string(format!("kafka-{node}.internal"));
                share::NodeEndpoint::default().with_node_id(BrokerId(node as i32)).with_host(host).with_port(9092)
            };
            let made = ShareFetchResponse::default().with_responses(vec![topic]);
            let made = made.with_node_endpoints((0..endpoints).map(endpoint).collect());
            let bytes = answer(ApiKey::ShareFetch, 1, 7, &made);
            for (seed, most) in (0..20).flat_map(|seed| [(seed, 1), (seed, 9), (seed, 3_000), (seed, 1 << 20)]) {
                let what = format!("{endpoints} endpoints, {size} bytes, seed {seed} {most}");
                let (out, _) = receive(&[(ApiKey::ShareFetch, 1, 7)], &bytes, seed, most).expect(&what);
                assert_eq!(out.len(), bytes.len(), "{what}");
                assert!(!String::from_utf8_lossy(&out).contains("internal"), "{what}");
                let mut body = Bytes::from(out).slice(9..);
                let mut found = ShareFetchResponse::decode(&mut body, 1).expect("still a share fetch response");
                assert!(body.is_empty(), "{what}");
                found.unknown_tagged_fields.clear();
                assert_eq!(found, made.clone().with_node_endpoints(Vec::new()), "{what}");
            }
        }
    }
}

#[test]
fn answers_out_of_step_or_unreadable_end_the_connection() {
    let metadata = answer(ApiKey::Metadata, 12, 7, &MetadataResponse::default());
    let asked = [(ApiKey::Metadata, 12, 7)];
    type Row<'a> = (&'a str, &'a [(ApiKey, i16, i32)], Vec<u8>, &'a str);
    let rows: &[Row<'_>] = &[
        ("nothing was asked", &[], metadata.clone(), "answers_out_of_step"),
        ("another was asked", &[(ApiKey::Metadata, 12, 8)], metadata.clone(), "answers_out_of_step"),
        ("cut short", &asked, raw_answer(ApiKey::Metadata, 12, 7, &[0, 0, 0]), "malformed_answer"),
        (
            "an absurd count",
            &asked,
            raw_answer(ApiKey::Metadata, 12, 7, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 7]),
            "malformed_answer",
        ),
        (
            "a fetch cut short",
            &[(ApiKey::Fetch, 16, 7)],
            raw_answer(ApiKey::Fetch, 16, 7, &[0; 10]),
            "malformed_answer",
        ),
        ("TLS", &asked, b"\x15\x03\x03\x00\x02\x02\x28...".to_vec(), "tls_from_broker"),
        ("negative", &asked, vec![0xff; 8], "frame_length_of_broker"),
        ("no room for a header", &asked, vec![0, 0, 0, 2, 0, 0, 0, 7], "frame_length_of_broker"),
    ];
    for (what, asked, bytes, reason) in rows {
        for most in [1, 1 << 20] {
            let found = receive(asked, bytes, 3, most).map(|_| ()).expect_err(what);
            assert_eq!(found.reason(), *reason, "{what}: {found}");
        }
    }
}

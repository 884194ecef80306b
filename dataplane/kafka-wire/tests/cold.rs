//! The cold APIs: what is refused before `kafka-protocol` sees it, and what comes through.

use bytes::Bytes;
use kafka_wire::cold::types::{GroupId, HeartbeatRequest, MetadataRequest};
use kafka_wire::cold::{self, RequestKind, ResponseKind, StrBytes, decode_request, decode_response};
use kafka_wire::header::decode_request_header;
use kafka_wire::limits::COLD_REQUEST_BYTES_MAX;
use kafka_wire::{ApiKey, WireError};

#[test]
fn a_request_goes_out_as_a_frame_and_comes_back() {
    let request = RequestKind::Heartbeat(
        HeartbeatRequest::default().with_group_id(GroupId(StrBytes::from_static_str("g"))).with_generation_id(4),
    );
    for version in cold::supported(ApiKey::Heartbeat) {
        let frame = cold::encode_request_frame(&request, version, 9, "me").expect("a plain request");
        assert_eq!(i32::from_be_bytes(frame[..4].try_into().expect("four bytes")) as usize, frame.len() - 4);
        let mut frame = frame.slice(4..);
        let header = decode_request_header(&mut frame).expect("our own header");
        assert_eq!((header.api(), header.api_version, header.correlation_id), (Some(ApiKey::Heartbeat), version, 9));
        assert_eq!(decode_request(ApiKey::Heartbeat, version, frame), Ok(request.clone()));
    }
}

#[test]
fn bytes_after_a_request_or_a_response_are_ignored() {
    // librdkafka from 2.3 to 2.16 writes three behind a Metadata request for all topics; Kafka never looks at them.
    let all_topics = b"\0\x01\0\0";
    let exact = decode_request(ApiKey::Metadata, 12, Bytes::from_static(all_topics));
    let followed = decode_request(ApiKey::Metadata, 12, [&all_topics[..], b"\x01\0\0"].concat().into());
    assert!(matches!(&exact, Ok(RequestKind::Metadata(request)) if request.topics.is_none()), "{exact:?}");
    assert_eq!(exact, followed);
    let response = decode_response(ApiKey::Heartbeat, 1, Bytes::from_static(b"\0\0\0\0\0\x1bextra"));
    assert!(matches!(response, Ok(ResponseKind::Heartbeat(response)) if response.error_code == 27));
}

#[test]
fn an_api_or_version_outside_the_list_is_named() {
    assert!(matches!(decode_request(ApiKey::Produce, 9, Bytes::new()), Err(WireError::Api { api: ApiKey::Produce })));
    let refusal = decode_request(ApiKey::CreateTopics, 1, Bytes::new()).expect_err("version 1 is dead");
    assert_eq!(refusal.to_string(), "CreateTopics version 1 is not spoken here, only 2 to 7");
    let request = RequestKind::Metadata(MetadataRequest::default());
    assert!(cold::encode_request_frame(&request, 14, 1, "").is_err());
    assert!(cold::encode_request_frame(&RequestKind::Produce(Default::default()), 9, 1, "").is_err());
    assert!(cold::supported(ApiKey::Produce).is_empty());
    assert_eq!(cold::apis().count(), 27);
}

#[test]
fn versions_that_only_the_shapes_know_are_refused() {
    for (api, version) in [
        (ApiKey::ListOffsets, 11),
        (ApiKey::OffsetCommit, 10),
        (ApiKey::OffsetFetch, 10),
        (ApiKey::DeleteGroups, 3),
        (ApiKey::InitProducerId, 6),
        (ApiKey::DescribeLogDirs, 5),
    ] {
        assert_eq!(*cold::supported(api).end(), version - 1, "{api}");
        let max = version - 1;
        for refused in
            [decode_request(api, version, Bytes::new()).err(), decode_response(api, version, Bytes::new()).err()]
        {
            assert!(matches!(refused, Some(WireError::Version { max: found, .. }) if found == max), "{refused:?}");
        }
    }
}

#[test]
fn the_body_that_aborts_a_process_which_trusts_counts_is_refused() {
    // Twelve bytes: OffsetCommit v2, group "", and a topic count of i32::MAX behind the fields before it.
    let hostile = b"\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\x7f\xff\xff\xff";
    let refusal =
        decode_request(ApiKey::OffsetCommit, 2, Bytes::from_static(hostile)).expect_err("two thousand million");
    assert!(matches!(refusal, WireError::TooLarge { what: "topics", found: 0x7fff_ffff, .. }), "{refusal}");
    let hostile = b"\xff\xff\xff\xff\x0f\0\0\0\0\0";
    assert!(decode_request(ApiKey::DeleteGroups, 2, Bytes::from_static(hostile)).is_err());
}

#[test]
fn a_request_larger_than_the_limit_is_refused_whatever_it_holds() {
    let body = Bytes::from(vec![0; COLD_REQUEST_BYTES_MAX + 1]);
    assert!(matches!(
        decode_request(ApiKey::Metadata, 9, body),
        Err(WireError::TooLarge { what: "MetadataRequest", .. })
    ));
}

#[test]
fn what_kafka_protocol_refuses_comes_as_one_line_without_a_backtrace() {
    // A group id that is no text passes the walk, which looks at lengths only.
    let refusal = decode_request(ApiKey::Heartbeat, 1, Bytes::from_static(b"\0\x01\xff\0\0\0\x01\0\0"));
    let refusal = refusal.expect_err("not UTF-8").to_string();
    assert!(refusal.starts_with("Heartbeat: ") && !refusal.contains('\n'), "{refusal}");
}

#[test]
fn text_that_a_16_bit_length_cannot_say_is_refused_in_flexible_versions_too() {
    // An answer in an older version would have no way to say it again; Kafka refuses it where it is read.
    for (size, is_read) in [(32_767_u32, true), (32_768, false)] {
        let mut body = vec![(size + 1) as u8 | 0x80, ((size + 1) >> 7) as u8 | 0x80, ((size + 1) >> 14) as u8];
        body.resize(3 + size as usize, b'x');
        body.extend_from_slice(b"\0\0\0\x01\x01\0\0");
        assert_eq!(decode_request(ApiKey::Heartbeat, 4, body.into()).is_ok(), is_read, "{size} bytes");
    }
}

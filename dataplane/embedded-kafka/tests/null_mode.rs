//! The null broker: everything is accepted, nothing is kept, groups still work.

mod common;

use common::{TestBroker, batch, fetch_request, values};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::metadata_request::MetadataRequestTopic;
use kafka_wire::cold::types::{InitProducerIdRequest, MetadataRequest};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

fn null() -> TestBroker {
    TestBroker::with(|config| config.null = true)
}

#[test]
fn every_topic_exists_with_four_partitions_and_offsets_grow() {
    let broker = null();
    let mut client = broker.client();
    let topic = MetadataRequestTopic::default().with_name(Some(common::topic_name("whatever")));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    match client.cold(ApiKey::Metadata, 9, RequestKind::Metadata(request)) {
        ResponseKind::Metadata(response) => assert_eq!(response.topics[0].partitions.len(), 4),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.produce("whatever", 2, &["a", "b"]), 0);
    assert_eq!(client.produce("whatever", 2, &["a", "b"]), 2);
    assert_eq!(client.produce("another", 0, &["a"]), 0);
    assert_eq!(client.offset_at("whatever", 2, -1), (4, -1));
    let refused = client.produce_batch(-1, "whatever", 4, &batch(&["a"]));
    assert_eq!(refused.error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    client.send_produce(0, "whatever", 0, &batch(&["a"]));
    assert_eq!(client.produce_batch(1, "whatever", 0, &batch(&["a"])).base_offset, 1);
    assert_eq!(client.create_with("made", 7, 3, &[]), ErrorCode::NONE, "accepts every create");
    assert_eq!(client.produce("made", 6, &["a"]), 0);
}

#[test]
fn fetches_are_answered_with_made_up_records_from_any_offset() {
    let broker = null();
    let mut client = broker.client();
    for offset in [0, 57, 1_000_000_000] {
        let response = client.fetch(&fetch_request("any", 1, offset, 500));
        let read = values(response.topics[0].partitions[0].records.clone());
        assert!(read.len() >= 100);
        assert!(read.iter().zip(offset..).all(|((at, _), expected)| *at == expected));
    }
}

#[test]
fn producer_ids_are_handed_out_and_nothing_is_written() {
    let broker = null();
    let mut client = broker.client();
    let mut last = -1;
    for _ in 0..3_000 {
        let request = RequestKind::InitProducerId(InitProducerIdRequest::default().with_transactional_id(None));
        match client.cold(ApiKey::InitProducerId, 4, request) {
            ResponseKind::InitProducerId(response) => {
                assert!(response.producer_id.0 > last);
                last = response.producer_id.0;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!broker.dir.path().join("data").exists());
}

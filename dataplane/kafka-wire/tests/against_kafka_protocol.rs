//! Our Produce, Fetch, ApiVersions and record batches against those of `kafka-protocol`, over every version, both
//! ways: what we write it reads, what it writes we read, and the values are the same.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{
    Compression as TheirCompression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use kafka_wire::compression::Compression;
use kafka_wire::header::{decode_request_header, decode_response_header};
use kafka_wire::messages::{api_versions, fetch, produce};
use kafka_wire::record_batch::{BatchBuilder, HeaderRef, RecordRef, SealedBatch, batches, validate_batch};
use kafka_wire::{ApiKey, ErrorCode};
use proptest::prelude::*;

/// A frame as sent, in one piece, without its length, which is checked.
fn frame(parts: Vec<Bytes>) -> Bytes {
    let whole = Bytes::from(parts.concat());
    let length = i32::from_be_bytes(whole[..4].try_into().expect("four bytes"));
    assert_eq!(length as usize, whole.len() - 4, "the length in front");
    whole.slice(4..)
}

fn request_body(parts: Vec<Bytes>, api: ApiKey, version: i16) -> Bytes {
    let mut frame = frame(parts);
    let header = decode_request_header(&mut frame).expect("our own header");
    assert_eq!((header.api(), header.api_version, header.correlation_id), (Some(api), version, 31));
    assert_eq!(header.client_id_str(), "tester");
    frame
}

fn response_body(parts: Vec<Bytes>, api: ApiKey, version: i16) -> Bytes {
    let mut frame = frame(parts);
    assert_eq!(decode_response_header(&mut frame, api, version), Ok(31));
    frame
}

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).expect("kafka-protocol encodes its own message");
    out.freeze()
}

fn decoded<T: Decodable>(mut body: Bytes, version: i16) -> T {
    let message = T::decode(&mut body, version).expect("kafka-protocol reads what we wrote");
    assert!(body.is_empty(), "{} bytes are left", body.len());
    message
}

fn text(name: &[u8]) -> StrBytes {
    StrBytes::from_utf8(Bytes::copy_from_slice(name)).expect("names are text")
}

fn name() -> impl Strategy<Value = Bytes> {
    "[a-zA-Z0-9._-]{0,200}|é\u{1F980}".prop_map(Bytes::from)
}

fn batch() -> impl Strategy<Value = SealedBatch> {
    proptest::collection::vec(0usize..6000, 1..4).prop_map(|sizes| {
        let mut builder = BatchBuilder::with_capacity(64);
        for size in sizes {
            let value = vec![size as u8; size];
            builder.append(&RecordRef { timestamp_ms: 5, key: None, value: Some(&value), headers: &[] });
        }
        let mut batch = builder.seal(Compression::None);
        batch.stamp(1, 2, 3);
        batch
    })
}

fn message() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[a-z ]{0,20}")
}

fn produce_response() -> impl Strategy<Value = produce::ProduceResponse> {
    let leader = proptest::option::of((0..i32::MAX, any::<i32>()));
    let errors = proptest::collection::vec((any::<i32>(), message()), 0..3);
    let numbers = (any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), any::<i64>());
    let partition = (numbers, errors, message(), leader).prop_map(|(numbers, record_errors, error_message, leader)| {
        let (index, error, base_offset, log_append_time_ms, log_start_offset) = numbers;
        produce::PartitionResult {
            index,
            error: ErrorCode(error),
            base_offset,
            log_append_time_ms,
            log_start_offset,
            record_errors,
            error_message,
            current_leader: leader,
        }
    });
    let topic = (name(), proptest::collection::vec(partition, 0..3))
        .prop_map(|(name, partitions)| produce::TopicResult { name, partitions });
    let endpoint = (any::<i32>(), "[a-z.]{0,30}", any::<i32>(), message())
        .prop_map(|(id, host, port, rack)| produce::NodeEndpoint { id, host, port, rack });
    (proptest::collection::vec(topic, 0..3), any::<i32>(), proptest::collection::vec(endpoint, 0..3)).prop_map(
        |(topics, throttle_time_ms, node_endpoints)| produce::ProduceResponse {
            topics,
            throttle_time_ms,
            node_endpoints,
        },
    )
}

/// What a version leaves out, at its default.
fn produce_response_at(version: i16, mut response: produce::ProduceResponse) -> produce::ProduceResponse {
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if version < 5 {
            partition.log_start_offset = -1;
        }
        if version < 8 {
            partition.record_errors.clear();
            partition.error_message = None;
        }
        if version < 10 {
            partition.current_leader = None;
        }
    }
    if version < 10 {
        response.node_endpoints.clear();
    }
    response
}

fn their_produce_response(response: &produce::ProduceResponse) -> theirs::ProduceResponse {
    use theirs::produce_response::{
        BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
    };
    let partition = |partition: &produce::PartitionResult| {
        let errors = partition.record_errors.iter().map(|(index, message)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(message.clone().map(StrBytes::from_string))
        });
        let (leader_id, leader_epoch) = partition.current_leader.unwrap_or((-1, -1));
        PartitionProduceResponse::default()
            .with_index(partition.index)
            .with_error_code(partition.error.0)
            .with_base_offset(partition.base_offset)
            .with_log_append_time_ms(partition.log_append_time_ms)
            .with_log_start_offset(partition.log_start_offset)
            .with_record_errors(errors.collect())
            .with_error_message(partition.error_message.clone().map(StrBytes::from_string))
            .with_current_leader(
                LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader_id)).with_leader_epoch(leader_epoch),
            )
    };
    let topics = response.topics.iter().map(|topic| {
        TopicProduceResponse::default()
            .with_name(TopicName(text(&topic.name)))
            .with_partition_responses(topic.partitions.iter().map(partition).collect())
    });
    let endpoints = response.node_endpoints.iter().map(|endpoint| {
        NodeEndpoint::default()
            .with_node_id(BrokerId(endpoint.id))
            .with_host(StrBytes::from_string(endpoint.host.clone()))
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.clone().map(StrBytes::from_string))
    });
    theirs::ProduceResponse::default()
        .with_responses(topics.collect())
        .with_throttle_time_ms(response.throttle_time_ms)
        .with_node_endpoints(endpoints.collect())
}

fn fetch_request() -> impl Strategy<Value = fetch::FetchRequest> {
    let partition = (any::<i32>(), any::<i32>(), any::<i64>(), any::<i32>(), any::<i64>(), any::<i32>()).prop_map(
        |(index, current_leader_epoch, fetch_offset, last_fetched_epoch, log_start_offset, partition_max_bytes)| {
            fetch::FetchPartition {
                index,
                current_leader_epoch,
                fetch_offset,
                last_fetched_epoch,
                log_start_offset,
                partition_max_bytes,
            }
        },
    );
    let topic = (name(), any::<[u8; 16]>(), proptest::collection::vec(partition, 0..3))
        .prop_map(|(name, id, partitions)| fetch::FetchTopic { name, id, partitions });
    let forgotten = (name(), any::<[u8; 16]>(), proptest::collection::vec(any::<i32>(), 0..3))
        .prop_map(|(name, id, partitions)| fetch::ForgottenTopic { name, id, partitions });
    let numbers = (any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>(), any::<i8>(), any::<i32>(), any::<i32>());
    let topics = proptest::collection::vec(topic, 0..3);
    (numbers, topics, proptest::collection::vec(forgotten, 0..3), name()).prop_map(
        |(numbers, topics, forgotten, rack_id)| {
            let (replica_id, max_wait_ms, min_bytes, max_bytes, isolation_level, session_id, session_epoch) = numbers;
            fetch::FetchRequest {
                replica_id,
                max_wait_ms,
                min_bytes,
                max_bytes,
                isolation_level,
                session_id,
                session_epoch,
                topics,
                forgotten,
                rack_id,
            }
        },
    )
}

fn fetch_request_at(version: i16, mut request: fetch::FetchRequest) -> fetch::FetchRequest {
    for partition in request.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if version < 5 {
            partition.log_start_offset = -1;
        }
        if version < 9 {
            partition.current_leader_epoch = -1;
        }
        if version < 12 {
            partition.last_fetched_epoch = -1;
        }
    }
    if version < 7 {
        (request.session_id, request.session_epoch) = (0, -1);
        request.forgotten.clear();
    }
    if version < 11 {
        request.rack_id.clear();
    }
    request.topics.iter_mut().for_each(|topic| name_or_id(version, &mut topic.name, &mut topic.id));
    request.forgotten.iter_mut().for_each(|topic| name_or_id(version, &mut topic.name, &mut topic.id));
    request
}

/// The codec's type, which this crate does not name.
fn their_id<U: TryFrom<Vec<u8>, Error: std::fmt::Debug>>(id: [u8; 16]) -> U {
    U::try_from(id.to_vec()).expect("16 bytes")
}

/// Topics have a name before version 13, and an id from then on.
fn name_or_id(version: i16, name: &mut Bytes, id: &mut [u8; 16]) {
    match version {
        ..13 => *id = [0; 16],
        _ => name.clear(),
    }
}

fn their_fetch_request(request: &fetch::FetchRequest) -> theirs::FetchRequest {
    use theirs::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            FetchPartition::default()
                .with_partition(partition.index)
                .with_current_leader_epoch(partition.current_leader_epoch)
                .with_fetch_offset(partition.fetch_offset)
                .with_last_fetched_epoch(partition.last_fetched_epoch)
                .with_log_start_offset(partition.log_start_offset)
                .with_partition_max_bytes(partition.partition_max_bytes)
        });
        FetchTopic::default()
            .with_topic(TopicName(text(&topic.name)))
            .with_topic_id(their_id(topic.id))
            .with_partitions(partitions.collect())
    });
    let forgotten = request.forgotten.iter().map(|topic| {
        ForgottenTopic::default()
            .with_topic(TopicName(text(&topic.name)))
            .with_topic_id(their_id(topic.id))
            .with_partitions(topic.partitions.clone())
    });
    theirs::FetchRequest::default()
        .with_replica_id(BrokerId(request.replica_id))
        .with_max_wait_ms(request.max_wait_ms)
        .with_min_bytes(request.min_bytes)
        .with_max_bytes(request.max_bytes)
        .with_isolation_level(request.isolation_level)
        .with_session_id(request.session_id)
        .with_session_epoch(request.session_epoch)
        .with_topics(topics.collect())
        .with_forgotten_topics_data(forgotten.collect())
        .with_rack_id(text(&request.rack_id))
}

fn fetch_response() -> impl Strategy<Value = fetch::FetchResponse> {
    let numbers = (any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), any::<i64>(), any::<i32>());
    let records = (0usize..9000).prop_map(|size| Bytes::from(vec![7; size]));
    let aborted = proptest::collection::vec((any::<i64>(), any::<i64>()), 0..3);
    let leader = proptest::option::of((0..i32::MAX, any::<i32>()));
    let partition = (numbers, records, aborted, leader).prop_map(|(numbers, records, aborted, current_leader)| {
        let (index, error, high_watermark, last_stable_offset, log_start_offset, preferred_read_replica) = numbers;
        fetch::FetchedPartition {
            index,
            error: ErrorCode(error),
            high_watermark,
            last_stable_offset,
            log_start_offset,
            aborted,
            preferred_read_replica,
            records,
            current_leader,
        }
    });
    let topic = (name(), any::<[u8; 16]>(), proptest::collection::vec(partition, 0..3))
        .prop_map(|(name, id, partitions)| fetch::FetchedTopic { name, id, partitions });
    (any::<i32>(), any::<i16>(), any::<i32>(), proptest::collection::vec(topic, 0..3)).prop_map(
        |(throttle_time_ms, error, session_id, topics)| fetch::FetchResponse {
            throttle_time_ms,
            error: ErrorCode(error),
            session_id,
            topics,
        },
    )
}

fn fetch_response_at(version: i16, mut response: fetch::FetchResponse) -> fetch::FetchResponse {
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if version < 5 {
            partition.log_start_offset = -1;
        }
        if version < 11 {
            partition.preferred_read_replica = -1;
        }
        if version < 12 {
            partition.current_leader = None;
        }
    }
    if version < 7 {
        (response.error, response.session_id) = (ErrorCode::NONE, 0);
    }
    response.topics.iter_mut().for_each(|topic| name_or_id(version, &mut topic.name, &mut topic.id));
    response
}

fn their_fetch_response(response: &fetch::FetchResponse) -> theirs::FetchResponse {
    use theirs::fetch_response::{AbortedTransaction, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData};
    let topics = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let aborted = partition.aborted.iter().map(|(producer_id, first_offset)| {
                AbortedTransaction::default().with_producer_id((*producer_id).into()).with_first_offset(*first_offset)
            });
            let (leader_id, leader_epoch) = partition.current_leader.unwrap_or((-1, -1));
            PartitionData::default()
                .with_partition_index(partition.index)
                .with_error_code(partition.error.0)
                .with_high_watermark(partition.high_watermark)
                .with_last_stable_offset(partition.last_stable_offset)
                .with_log_start_offset(partition.log_start_offset)
                .with_aborted_transactions(Some(aborted.collect()))
                .with_preferred_read_replica(BrokerId(partition.preferred_read_replica))
                .with_records(Some(partition.records.clone()))
                .with_current_leader(
                    LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader_id)).with_leader_epoch(leader_epoch),
                )
        });
        FetchableTopicResponse::default()
            .with_topic(TopicName(text(&topic.name)))
            .with_topic_id(their_id(topic.id))
            .with_partitions(partitions.collect())
    });
    theirs::FetchResponse::default()
        .with_throttle_time_ms(response.throttle_time_ms)
        .with_error_code(response.error.0)
        .with_session_id(response.session_id)
        .with_responses(topics.collect())
}

/// Every strict prefix of a body is refused, and no flipped byte is a panic.
fn refuses_cuts<T>(body: &Bytes, decode: impl Fn(Bytes) -> Result<T, kafka_wire::WireError>) {
    // Bodies with linked records are long; their ends are where the fields are.
    let sizes = (0..body.len().min(400)).chain(body.len().saturating_sub(400)..body.len());
    for size in sizes {
        assert!(decode(body.slice(..size)).is_err(), "cut at {size} of {}", body.len());
        let mut garbled = BytesMut::from(&body[..]);
        garbled[size] ^= 0xff;
        let _ = decode(garbled.freeze());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn produce_requests_agree(
        topics in proptest::collection::vec((name(), proptest::collection::vec((any::<i32>(), batch()), 0..3)), 0..3),
        acks in any::<i16>(),
        timeout_ms in any::<i32>(),
    ) {
        for version in produce::VERSIONS {
            let partitions: Vec<Vec<_>> = topics
                .iter()
                .map(|(_, parts)| parts.iter().map(|(index, batch)| produce::OutPartition { index: *index, batch }).collect())
                .collect();
            let out: Vec<_> = topics
                .iter()
                .zip(&partitions)
                .map(|((name, _), partitions)| produce::OutTopic {
                    name: std::str::from_utf8(name).expect("names are text"),
                    partitions,
                })
                .collect();
            let parts = produce::encode_request_frame(version, 31, "tester", acks, timeout_ms, &out);
            let body = request_body(parts, ApiKey::Produce, version);
            let ours = produce::decode_request(version, body.clone()).expect("our own request");
            let read: theirs::ProduceRequest = decoded(body.clone(), version);
            prop_assert_eq!(encoded(&read, version), body.clone());
            prop_assert_eq!((ours.acks, ours.timeout_ms, &ours.transactional_id), (acks, timeout_ms, &None));
            prop_assert_eq!((read.acks, read.timeout_ms), (acks, timeout_ms));
            prop_assert_eq!(ours.topics.len(), topics.len());
            for ((ours, theirs), (name, partitions)) in ours.topics.iter().zip(&read.topic_data).zip(&topics) {
                prop_assert_eq!(&ours.name, name);
                prop_assert_eq!(theirs.name.as_bytes(), &name[..]);
                for ((ours, theirs), (index, batch)) in
                    ours.partitions.iter().zip(&theirs.partition_data).zip(partitions)
                {
                    prop_assert_eq!((ours.index, theirs.index), (*index, *index));
                    prop_assert_eq!(ours.records.as_ref(), Some(&batch.to_bytes()));
                    prop_assert_eq!(theirs.records.as_ref(), Some(&batch.to_bytes()));
                    prop_assert!(validate_batch(&batch.to_bytes()).is_ok());
                }
            }
            refuses_cuts(&body, |body| produce::decode_request(version, body));
        }
    }

    #[test]
    fn produce_responses_agree(response in produce_response()) {
        for version in produce::VERSIONS {
            let response = produce_response_at(version, response.clone());
            let parts = vec![produce::encode_response_frame(version, 31, &response)];
            let body = response_body(parts, ApiKey::Produce, version);
            let theirs = their_produce_response(&response);
            prop_assert_eq!(&decoded::<theirs::ProduceResponse>(body.clone(), version), &theirs);
            prop_assert_eq!(&produce::decode_response(version, encoded(&theirs, version)), &Ok(response.clone()));
            prop_assert_eq!(&produce::decode_response(version, body.clone()), &Ok(response));
            refuses_cuts(&body, |body| produce::decode_response(version, body));
        }
    }

    #[test]
    fn fetch_requests_agree(request in fetch_request()) {
        for version in fetch::VERSIONS {
            let request = fetch_request_at(version, request.clone());
            let parts = vec![fetch::encode_request_frame(version, 31, "tester", &request)];
            let body = request_body(parts, ApiKey::Fetch, version);
            let theirs = their_fetch_request(&request);
            prop_assert_eq!(&decoded::<theirs::FetchRequest>(body.clone(), version), &theirs);
            prop_assert_eq!(&fetch::decode_request(version, encoded(&theirs, version)), &Ok(request.clone()));
            prop_assert_eq!(&fetch::decode_request(version, body.clone()), &Ok(request));
            refuses_cuts(&body, |body| fetch::decode_request(version, body));
        }
    }

    #[test]
    fn fetch_responses_agree(response in fetch_response()) {
        for version in fetch::VERSIONS {
            let response = fetch_response_at(version, response.clone());
            let parts = fetch::encode_response_frame(version, 31, &response);
            let body = response_body(parts, ApiKey::Fetch, version);
            let theirs = their_fetch_response(&response);
            prop_assert_eq!(&decoded::<theirs::FetchResponse>(body.clone(), version), &theirs);
            prop_assert_eq!(&fetch::decode_response(version, encoded(&theirs, version)), &Ok(response.clone()));
            prop_assert_eq!(&fetch::decode_response(version, body.clone()), &Ok(response));
            refuses_cuts(&body, |body| fetch::decode_response(version, body));
        }
    }

    #[test]
    fn api_versions_agree(
        software in ("[a-z-]{1,20}", "[0-9.]{1,10}"),
        apis in proptest::collection::vec((any::<i16>(), any::<i16>(), any::<i16>()), 0..10),
        error in any::<i16>().prop_filter("35 is always read as version 0", |error| *error != 35),
        throttle_time_ms in any::<i32>(),
    ) {
        use theirs::api_versions_response::ApiVersion;
        for version in api_versions::VERSIONS {
            let parts = vec![api_versions::encode_request_frame(version, 31, "tester", &software.0, &software.1)];
            let body = request_body(parts, ApiKey::ApiVersions, version);
            let read: theirs::ApiVersionsRequest = decoded(body.clone(), version);
            let ours = api_versions::decode_request(version, body.clone()).expect("our own request");
            if version >= 3 {
                prop_assert_eq!(read.client_software_name.as_bytes(), software.0.as_bytes());
                prop_assert_eq!(&ours.client_software_name, &software.0);
                prop_assert_eq!(read.client_software_version.as_bytes(), software.1.as_bytes());
                prop_assert_eq!(&ours.client_software_version, &software.1);
            }
            refuses_cuts(&body, |body| api_versions::decode_request(version, body));

            let throttle_time_ms = if version >= 1 { throttle_time_ms } else { 0 };
            let ranges = apis.iter().map(|(key, min, max)| api_versions::ApiRange { key: *key, min: *min, max: *max });
            let response =
                api_versions::ApiVersionsResponse { error: ErrorCode(error), apis: ranges.collect(), throttle_time_ms };
            let theirs = theirs::ApiVersionsResponse::default()
                .with_error_code(error)
                .with_throttle_time_ms(throttle_time_ms)
                .with_api_keys(
                    apis.iter()
                        .map(|(key, min, max)| {
                            ApiVersion::default().with_api_key(*key).with_min_version(*min).with_max_version(*max)
                        })
                        .collect(),
                );
            let parts = vec![api_versions::encode_response_frame(version, 31, &response)];
            let body = response_body(parts, ApiKey::ApiVersions, version);
            prop_assert_eq!(&decoded::<theirs::ApiVersionsResponse>(body.clone(), version), &theirs);
            prop_assert_eq!(&api_versions::decode_response(version, encoded(&theirs, version)), &Ok(response.clone()));
            prop_assert_eq!(&api_versions::decode_response(version, body.clone()), &Ok(response));
            refuses_cuts(&body, |body| api_versions::decode_response(version, body));
        }
    }

    #[test]
    fn record_batches_agree(
        records in proptest::collection::vec(
            (
                0i64..2_000_000_000_000,
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
                proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)), 0..3),
            ),
            1..30,
        ),
        codec in proptest::sample::select(&[
            (Compression::None, TheirCompression::None),
            (Compression::Snappy, TheirCompression::Snappy),
            (Compression::Lz4, TheirCompression::Lz4),
        ][..]),
    ) {
        let names = ["a", "trace-id", "zoë"];
        let mut builder = BatchBuilder::with_capacity(64);
        for (timestamp_ms, key, value, headers) in &records {
            let headers: Vec<_> = names
                .iter()
                .zip(headers)
                .map(|(name, value)| HeaderRef { name: name.as_bytes(), value: value.as_deref() })
                .collect();
            builder.append(&RecordRef {
                timestamp_ms: *timestamp_ms,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            });
        }
        let mut ours = builder.seal(codec.0);
        ours.stamp(5, 6, 0);
        let expected: Vec<_> = records
            .iter()
            .enumerate()
            .map(|(n, (timestamp, key, value, headers))| Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id: 5,
                producer_epoch: 6,
                timestamp_type: TimestampType::Creation,
                offset: n as i64,
                sequence: n as i32,
                timestamp: *timestamp,
                key: key.clone().map(Bytes::from),
                value: value.clone().map(Bytes::from),
                headers: names
                    .iter()
                    .zip(headers)
                    .map(|(name, value)| (StrBytes::from_static_str(name), value.clone().map(Bytes::from)))
                    .collect(),
            })
            .collect();

        let read = RecordBatchDecoder::decode_all(&mut ours.to_bytes()).expect("kafka-protocol reads our batch");
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(&read[0].records, &expected);

        let mut written = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: codec.1 };
        RecordBatchEncoder::encode(&mut written, &expected, &options).expect("kafka-protocol encodes its records");
        let written = written.freeze();
        prop_assert!(validate_batch(&written).is_ok());
        // Kafka counts timestamps from the first record, kafka-protocol from the smallest.
        if codec.0 == Compression::None && records.iter().all(|record| record.0 >= records[0].0) {
            prop_assert_eq!(&written, &ours.to_bytes(), "byte for byte");
        }
        let batch = batches(written).next().expect("one batch").expect("a whole batch");
        prop_assert_eq!((batch.header.producer_id, batch.header.producer_epoch, batch.header.base_sequence), (5, 6, 0));
        for (found, expected) in batch.records(1 << 20).expect("within the limit").zip(&expected) {
            let found = found.expect("a record");
            prop_assert_eq!((found.offset, found.timestamp_ms), (expected.offset, expected.timestamp));
            prop_assert_eq!((&found.key, &found.value), (&expected.key, &expected.value));
            let headers: Vec<_> = found.headers.iter().map(|(name, value)| (text(name), value)).collect();
            prop_assert_eq!(headers, expected.headers.clone().into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn an_unsupported_version_is_answered_in_version_0_and_read_whatever_was_asked() {
    let answer = api_versions::ApiVersionsResponse::unsupported();
    let body = response_body(vec![api_versions::encode_response_frame(0, 31, &answer)], ApiKey::ApiVersions, 0);
    for asked in api_versions::VERSIONS {
        let read = api_versions::decode_response(asked, body.clone()).expect("readable");
        assert_eq!(read.error, ErrorCode::UNSUPPORTED_VERSION);
        assert_eq!(read.range(ApiKey::ApiVersions), Some(0..=4));
    }
}

#[test]
fn bodies_of_batches_are_linked_into_a_produce_frame() {
    let mut builder = BatchBuilder::with_capacity(100_000);
    for _ in 0..50 {
        builder.append(&RecordRef { timestamp_ms: 1, key: None, value: Some(&[b'v'; 1024]), headers: &[] });
    }
    let large = builder.seal(Compression::None);
    let mut builder = BatchBuilder::with_capacity(100);
    builder.append(&RecordRef { timestamp_ms: 1, key: None, value: Some(b"small"), headers: &[] });
    let small = builder.seal(Compression::None);
    let partitions =
        [produce::OutPartition { index: 0, batch: &small }, produce::OutPartition { index: 1, batch: &large }];
    let topics = [produce::OutTopic { name: "t", partitions: &partitions }];
    let parts = produce::encode_request_frame(9, 31, "tester", -1, 1000, &topics);
    assert_eq!(parts.len(), 3, "what is before, the large body, what is after");
    assert_eq!(parts[1].as_ptr(), large.body()[0].as_ptr());
}

#[test]
fn hostile_counts_are_refused_before_anything_is_reserved() {
    let int_max = i32::MAX.to_be_bytes();
    let uvarint_max = [0xff, 0xff, 0xff, 0xff, 0x0f];
    // The twelve bytes that abort a process which trusts them: no transactional id, acks, timeout, topic count.
    let mut produce_v8 = vec![0xff, 0xff, 0, 1, 0, 0, 0, 1];
    produce_v8.extend_from_slice(&int_max);
    assert!(produce::decode_request(8, Bytes::from(produce_v8)).is_err());
    let mut produce_v9 = vec![0, 0, 1, 0, 0, 0, 1];
    produce_v9.extend_from_slice(&uvarint_max);
    assert!(produce::decode_request(9, Bytes::from(produce_v9)).is_err());
    let mut fetch_v4 = vec![0; 17];
    fetch_v4.extend_from_slice(&int_max);
    assert!(fetch::decode_request(4, Bytes::from(fetch_v4.clone())).is_err());
    assert!(fetch::decode_response(4, Bytes::from([&[0; 4][..], &int_max].concat())).is_err());
    assert!(produce::decode_response(3, Bytes::from(int_max.to_vec())).is_err());
    assert!(api_versions::decode_response(0, Bytes::from([&[0; 2][..], &int_max].concat())).is_err());
    assert!(api_versions::decode_response(3, Bytes::from([&[0; 2][..], &uvarint_max].concat())).is_err());
}

#[test]
fn versions_not_spoken_are_named() {
    assert!(produce::decode_request(2, Bytes::new()).unwrap_err().to_string().contains("3 to 12"));
    assert!(produce::decode_request(13, Bytes::new()).is_err());
    assert!(fetch::decode_request(3, Bytes::new()).is_err());
    assert!(fetch::decode_response(14, Bytes::new()).is_err());
    assert!(api_versions::decode_request(5, Bytes::new()).unwrap_err().to_string().contains("0 to 4"));
}

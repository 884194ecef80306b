//! A broker of one node for benches: it answers every request at once, without a socket, and keeps nothing. Its work
//! (reading the request, writing the answer) is in the numbers of whoever uses it.

use std::time::Instant;

use bytes::{Buf, BytesMut};
use kafka_client::{Client, ClientConfig, ConnId, Outcome};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, ResponseKind, StrBytes, types};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header;
use kafka_wire::messages::api_versions::{self, ApiRange, ApiVersionsResponse};
use kafka_wire::messages::produce;

const PARTITIONS: i32 = 4;

/// Answers one request frame (with its length) as a broker of one node would.
fn answer(mut frame: BytesMut, reply: &mut BytesMut) {
    frame.advance(4);
    let mut frame = frame.freeze();
    let header = header::decode_request_header(&mut frame).unwrap();
    let (api, version, id) = (header.api().unwrap(), header.api_version, header.correlation_id);
    match api {
        ApiKey::Produce => {
            let request = produce::decode_request(version, frame).unwrap();
            let mut response = produce::ProduceResponse::default();
            for topic in request.topics {
                let stored = |index| produce::PartitionResult::stored(index, 7, -1, 0);
                let partitions = topic.partitions.iter().map(|partition| stored(partition.index)).collect();
                response.topics.push(produce::TopicResult { name: topic.name, partitions });
            }
            reply.extend_from_slice(&produce::encode_response_frame(version, id, &response));
        }
        ApiKey::ApiVersions => {
            let ranges = cold::apis().map(|api| (api, cold::supported(api)));
            let mut apis: Vec<ApiRange> = ranges
                .map(|(api, range)| ApiRange { key: api.key(), min: *range.start(), max: *range.end() })
                .collect();
            apis.push(ApiRange { key: 0, min: 3, max: 12 });
            apis.push(ApiRange { key: 1, min: 4, max: 13 });
            let response = ApiVersionsResponse { error: ErrorCode::NONE, apis, throttle_time_ms: 0 };
            reply.extend_from_slice(&api_versions::encode_response_frame(version, id, &response));
        }
        ApiKey::Fetch => {} // a long poll without news
        _ => {
            let response = match cold::decode_request(api, version, frame).unwrap() {
                RequestKind::Metadata(request) => metadata(request),
                RequestKind::InitProducerId(_) => {
                    let granted = types::InitProducerIdResponse::default();
                    ResponseKind::InitProducerId(granted.with_producer_id(7.into()).with_producer_epoch(0))
                }
                other => panic!("{other:?}"),
            };
            reply.extend_from_slice(&cold::encode_response_frame(&response, api, version, id).unwrap());
        }
    }
}

fn metadata(request: types::MetadataRequest) -> ResponseKind {
    let broker = types::metadata_response::MetadataResponseBroker::default()
        .with_node_id(1.into())
        .with_host(StrBytes::from_static_str("b"))
        .with_port(9092);
    let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
        let partitions = (0..PARTITIONS).map(|partition| {
            types::metadata_response::MetadataResponsePartition::default()
                .with_partition_index(partition)
                .with_leader_id(1.into())
        });
        types::metadata_response::MetadataResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    let response = types::MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics.collect());
    ResponseKind::Metadata(response)
}

/// A client of it.
pub fn client(now: Instant) -> Client {
    Client::new(ClientConfig { bootstrap: vec!["b:9092".into()], ..ClientConfig::default() }, 1, now)
}

/// Moves bytes between client and broker until nothing moves; hands on what became of the records.
pub fn settle(client: &mut Client, now: Instant, mut each: impl FnMut(Outcome)) {
    loop {
        client.flush(now);
        let mut moved = false;
        while let Some(connect) = client.poll_connect(now) {
            client.on_connected(connect.conn, now);
            moved = true;
        }
        while let Some(conn) = client.poll_transmit_ready() {
            moved = true;
            exchange(client, conn, now);
        }
        while let Some(outcome) = client.poll_outcome() {
            each(outcome);
        }
        if !moved {
            return;
        }
    }
}

fn exchange(client: &mut Client, conn: ConnId, now: Instant) {
    let mut sent = BytesMut::new();
    client.take_transmit(conn).iter().for_each(|part| sent.extend_from_slice(part));
    let mut reply = BytesMut::new();
    while sent.len() >= 4 {
        let length = i32::from_be_bytes([sent[0], sent[1], sent[2], sent[3]]) as usize;
        answer(sent.split_to(4 + length), &mut reply);
    }
    client.on_bytes(conn, &mut reply, now);
}

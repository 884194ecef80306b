//! What the broker knows: a load that was acknowledged must have arrived, and a group must be one there, or the
//! measurement went past the broker.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::cold::types::metadata_request::MetadataRequestTopic;
use kafka_wire::cold::types::{ListGroupsRequest, ListOffsetsRequest, MetadataRequest, TopicName};
use kafka_wire::cold::{self, RequestKind, ResponseKind, StrBytes};
use kafka_wire::header;

use crate::limits::{KAFKA_ANSWER_BYTES_MAX, KAFKA_TIMEOUT};

/// Spoken by every broker from 2.1 to the newest.
const METADATA_VERSION: i16 = 4;
const LIST_OFFSETS_VERSION: i16 = 4;
/// The first that can be asked for groups of a state (Kafka 2.6).
const LIST_GROUPS_VERSION: i16 = 4;
/// Asks for the end.
const LATEST: i64 = -1;

/// End offsets of all partitions together, from a cluster of one node.
pub fn end_of(bootstrap: &str, topic: &str) -> Result<u64> {
    let cannot = || format!("cannot ask {bootstrap} for the end of {topic}");
    let mut socket = connect(bootstrap).with_context(cannot)?;
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let partitions = partitions(&mut socket, &name).with_context(cannot)?;
    let wanted = partitions
        .into_iter()
        .map(|index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(LATEST))
        .collect();
    let topics = vec![ListOffsetsTopic::default().with_name(name).with_partitions(wanted)];
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics);
    let request = RequestKind::ListOffsets(request);
    let answer = ask(&mut socket, ApiKey::ListOffsets, LIST_OFFSETS_VERSION, &request).with_context(cannot)?;
    let ResponseKind::ListOffsets(answer) = answer else { bail!("an answer to something else") };
    let mut end = 0;
    for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
        ensure!(partition.error_code == 0, "{}: Kafka error {}", cannot(), partition.error_code);
        end += u64::try_from(partition.offset).with_context(cannot)?;
    }
    Ok(end)
}

/// Groups of a cluster of one node whose names begin with `prefix` and whose members are settled.
pub fn stable_groups(bootstrap: &str, prefix: &str) -> Result<usize> {
    let cannot = || format!("cannot ask {bootstrap} for its groups");
    let mut socket = connect(bootstrap).with_context(cannot)?;
    let stable = vec![StrBytes::from_static_str("Stable")];
    let request = RequestKind::ListGroups(ListGroupsRequest::default().with_states_filter(stable));
    let answer = ask(&mut socket, ApiKey::ListGroups, LIST_GROUPS_VERSION, &request).with_context(cannot)?;
    let ResponseKind::ListGroups(answer) = answer else { bail!("an answer to something else") };
    ensure!(answer.error_code == 0, "{}: Kafka error {}", cannot(), answer.error_code);
    Ok(answer.groups.iter().filter(|group| group.group_id.starts_with(prefix)).count())
}

fn connect(bootstrap: &str) -> Result<TcpStream> {
    let addr = bootstrap.to_socket_addrs()?.next().context("no address")?;
    let socket = TcpStream::connect_timeout(&addr, KAFKA_TIMEOUT)?;
    socket.set_read_timeout(Some(KAFKA_TIMEOUT))?;
    Ok(socket)
}

fn partitions(socket: &mut TcpStream, name: &TopicName) -> Result<Vec<i32>> {
    let topics = Some(vec![MetadataRequestTopic::default().with_name(Some(name.clone()))]);
    let request = RequestKind::Metadata(MetadataRequest::default().with_topics(topics));
    let answer = ask(socket, ApiKey::Metadata, METADATA_VERSION, &request)?;
    let ResponseKind::Metadata(answer) = answer else { bail!("an answer to something else") };
    ensure!(answer.brokers.len() == 1, "{} brokers, this is for one", answer.brokers.len());
    let topic = answer.topics.first().context("no such topic")?;
    ensure!(topic.error_code == 0, "Kafka error {}", topic.error_code);
    Ok(topic.partitions.iter().map(|partition| partition.partition_index).collect())
}

fn ask(socket: &mut TcpStream, api: ApiKey, version: i16, request: &RequestKind) -> Result<ResponseKind> {
    socket.write_all(&cold::encode_request_frame(request, version, 1, "kbench")?)?;
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    ensure!(length <= KAFKA_ANSWER_BYTES_MAX, "an answer of {length} bytes");
    let mut frame = vec![0; length];
    socket.read_exact(&mut frame)?;
    let mut frame = Bytes::from(frame);
    header::decode_response_header(&mut frame, api, version)?;
    Ok(cold::decode_response(api, version, frame)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};

    #[test]
    fn a_null_broker_knows_how_much_it_was_sent() {
        let config = EmbeddedConfig {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            null: true,
            ..EmbeddedConfig::default()
        };
        let broker = EmbeddedKafka::start(config).expect("a broker");
        let bootstrap = broker.bootstrap();
        assert_eq!(end_of(&bootstrap, "t").expect("offsets"), 0);
        let mut socket = TcpStream::connect(broker.addr()).expect("connect");
        let frame = crate::produce_load::frame("t", 0, 7, 10);
        for _ in 0..3 {
            socket.write_all(&frame).expect("write");
            crate::produce_load::skip_answer(&mut socket).expect("an answer");
        }
        assert_eq!(end_of(&bootstrap, "t").expect("offsets"), 21);
        assert!(end_of("127.0.0.1:1", "t").is_err());
    }
}

//! DescribeTopicPartitions (KIP-966): topics in the order of their names, a page of partitions at a time. Asked for none:
//! all. A cursor says where the next page begins.

use std::collections::BTreeSet;

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::cold::types::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use kafka_wire::error_code::ErrorCode;

use crate::apis::NOT_HERE;
use crate::apis::outcome::Outcome;
use crate::apis::{allowed, text, wire_id};
use crate::limits::{DESCRIBED_PARTITIONS_MAX, LEADER_EPOCH, NODE_ID};
use crate::state::State;
use crate::state::catalogue::check_name;

pub fn handle(state: &State, request: DescribeTopicPartitionsRequest) -> Outcome {
    let (from_topic, from_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.0.as_str(), cursor.partition_index.max(0)),
        None => ("", 0),
    };
    let names: BTreeSet<&str> = match request.topics.is_empty() {
        true => state.catalogue.topics().map(|topic| topic.name.as_str()).collect(),
        false => request.topics.iter().map(|topic| topic.name.0.as_str()).collect(),
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut room = limit.clamp(1, DESCRIBED_PARTITIONS_MAX) as i32;
    let mut response = DescribeTopicPartitionsResponse::default().with_next_cursor(None);
    for name in names.range(from_topic..) {
        let first = if *name == from_topic { from_partition } else { 0 };
        if room == 0 {
            response.next_cursor = Some(cursor(name, first));
            break;
        }
        let Some(topic) = state.catalogue.topic(name) else {
            let code = check_name(name).map_or_else(|refusal| refusal.code, |()| NOT_HERE);
            response.topics.push(failed(name, code));
            continue;
        };
        let end = topic.partitions.min(first.saturating_add(room));
        response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(TopicName(text(name))))
                .with_topic_id(wire_id(&topic.id))
                .with_topic_authorized_operations(allowed::WITH_TOPIC)
                .with_partitions((first..end).map(partition).collect()),
        );
        room -= (end - first).max(0);
        if end < topic.partitions {
            response.next_cursor = Some(cursor(name, end));
            break;
        }
    }
    Outcome::answer(ResponseKind::DescribeTopicPartitions(response))
}

pub fn refuse(request: &DescribeTopicPartitionsRequest, code: ErrorCode) -> ResponseKind {
    let topics = request.topics.iter().map(|topic| failed(topic.name.0.as_str(), code)).collect();
    let response = DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(None);
    ResponseKind::DescribeTopicPartitions(response)
}

fn failed(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    let topic = DescribeTopicPartitionsResponseTopic::default().with_error_code(code.0);
    topic.with_name(Some(TopicName(text(name))))
}

fn cursor(topic: &str, partition: i32) -> Cursor {
    Cursor::default().with_topic_name(TopicName(text(topic))).with_partition_index(partition)
}

fn partition(index: i32) -> DescribeTopicPartitionsResponsePartition {
    let here = || vec![BrokerId(NODE_ID)];
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(BrokerId(NODE_ID))
        .with_leader_epoch(LEADER_EPOCH)
        .with_replica_nodes(here())
        .with_isr_nodes(here())
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}

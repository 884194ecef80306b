//! OffsetFetch: what a group committed; −1 for a partition without. From version 8 many groups at once (KIP-709).

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_wire::cold::types::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_wire::error_code::ErrorCode;

use crate::apis::text;
use crate::broker::{Broker, Outcome};
use crate::offsets::{Committed, Offsets};

const MANY_FROM: i16 = 8;
/// Before this version there is no place for an error but in the partitions.
const GROUP_ERROR_FROM: i16 = 2;

/// One partition's answer.
struct Found {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

impl Found {
    fn new(index: i32, committed: Option<&Committed>) -> Found {
        match committed {
            Some(Committed { offset, leader_epoch, metadata, .. }) => {
                Found { index, offset: *offset, leader_epoch: *leader_epoch, metadata: metadata.clone() }
            }
            None => Found { index, offset: -1, leader_epoch: -1, metadata: String::new() },
        }
    }
}

pub fn handle(broker: &Broker, version: i16, request: OffsetFetchRequest) -> Outcome {
    let offsets = &broker.offsets;
    let response = OffsetFetchResponse::default();
    Outcome::Answer(ResponseKind::OffsetFetch(if version < MANY_FROM {
        let asked = request.topics.map(|topics| {
            topics.into_iter().map(|topic| (topic.name.0.to_string(), topic.partition_indexes)).collect()
        });
        let topics = find(offsets, request.group_id.0.as_str(), asked);
        response.with_topics(topics.into_iter().map(|(name, found)| single(version, &name, found)).collect())
    } else {
        let groups = request.groups.into_iter().map(|group| {
            let asked = group.topics.map(|topics| {
                topics.into_iter().map(|topic| (topic.name.0.to_string(), topic.partition_indexes)).collect()
            });
            let topics = find(offsets, group.group_id.0.as_str(), asked);
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id)
                .with_topics(topics.into_iter().map(|(name, found)| many(&name, found)).collect())
        });
        response.with_groups(groups.collect())
    }))
}

pub fn refuse(version: i16, request: &OffsetFetchRequest, code: ErrorCode) -> ResponseKind {
    let response = OffsetFetchResponse::default();
    ResponseKind::OffsetFetch(if version >= MANY_FROM {
        let groups = request.groups.iter().map(|group| {
            OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_error_code(code.0)
        });
        response.with_groups(groups.collect())
    } else if version >= GROUP_ERROR_FROM {
        response.with_error_code(code.0)
    } else {
        let topics = request.topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let partition = OffsetFetchResponsePartition::default().with_partition_index(*index);
                partition.with_committed_offset(-1).with_metadata(Some(text(""))).with_error_code(code.0)
            });
            OffsetFetchResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        response.with_topics(topics.collect())
    })
}

/// Per topic, what is committed for the partitions asked for; None asks for all the group has.
fn find(offsets: &Offsets, group: &str, asked: Option<Vec<(String, Vec<i32>)>>) -> Vec<(String, Vec<Found>)> {
    let Some(asked) = asked else {
        let mut topics: Vec<(String, Vec<Found>)> = Vec::new();
        for (topic, index, committed) in offsets.of_group(group) {
            let found = Found::new(index, Some(committed));
            match topics.last_mut() {
                Some((last, all)) if last == topic => all.push(found),
                _ => topics.push((topic.to_owned(), vec![found])),
            }
        }
        return topics;
    };
    asked
        .into_iter()
        .map(|(topic, indexes)| {
            let found = indexes.into_iter().map(|index| Found::new(index, offsets.get(group, &topic, index))).collect();
            (topic, found)
        })
        .collect()
}

fn single(version: i16, name: &str, found: Vec<Found>) -> OffsetFetchResponseTopic {
    let partitions = found.into_iter().map(|found| {
        let partition = OffsetFetchResponsePartition::default()
            .with_partition_index(found.index)
            .with_committed_offset(found.offset)
            .with_metadata(Some(text(&found.metadata)));
        if version >= 5 { partition.with_committed_leader_epoch(found.leader_epoch) } else { partition }
    });
    OffsetFetchResponseTopic::default().with_name(TopicName(text(name))).with_partitions(partitions.collect())
}

fn many(name: &str, found: Vec<Found>) -> OffsetFetchResponseTopics {
    let partitions = found.into_iter().map(|found| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(found.index)
            .with_committed_offset(found.offset)
            .with_committed_leader_epoch(found.leader_epoch)
            .with_metadata(Some(text(&found.metadata)))
    });
    OffsetFetchResponseTopics::default().with_name(TopicName(text(name))).with_partitions(partitions.collect())
}

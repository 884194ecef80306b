//! OffsetFetch: what a group committed; −1 for a partition without. From version 8 many groups at once (KIP-709).

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_wire::cold::types::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::{distinct, merged};
use crate::apis::outcome::Outcome;
use crate::apis::{TOO_MUCH, text};
use crate::limits::GATHERED_BYTES_MAX;
use crate::state::State;
use crate::state::offsets::{Committed, Offsets};

const MANY_FROM: i16 = 8;
/// Before this version there is no place for an error but in the partitions.
const GROUP_ERROR_FROM: i16 = 2;

/// One partition in the answer, without its metadata.
const FOUND_BYTES: usize = 24;

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

pub fn handle(state: &State, version: i16, request: OffsetFetchRequest) -> Outcome {
    let offsets = &state.offsets;
    let response = OffsetFetchResponse::default();
    let mut room_bytes = GATHERED_BYTES_MAX;
    if version < MANY_FROM {
        let asked = request.topics.iter().flatten().map(|topic| (topic.name.clone(), topic.partition_indexes.clone()));
        let asked = request.topics.is_some().then(|| asked.collect());
        let Some(topics) = find(offsets, request.group_id.0.as_str(), asked, &mut room_bytes) else {
            return Outcome::answer(refuse(version, &request, TOO_MUCH));
        };
        let topics = topics.into_iter().map(|(name, found)| single(version, name, found)).collect();
        return Outcome::answer(ResponseKind::OffsetFetch(response.with_topics(topics)));
    }
    let groups = distinct(request.groups, |group| group.group_id.0.clone()).map(|group| {
        let asked =
            group.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
        let found = find(offsets, group.group_id.0.as_str(), asked, &mut room_bytes);
        let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
        match found {
            Some(topics) => answer.with_topics(topics.into_iter().map(|(name, found)| many(name, found)).collect()),
            None => answer.with_error_code(TOO_MUCH.0),
        }
    });
    let groups = groups.collect();
    Outcome::answer(ResponseKind::OffsetFetch(response.with_groups(groups)))
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

/// Per topic, what is committed for the partitions asked for, each once; asked for nothing: all the group has. Nothing
/// when the answer would outgrow its room.
fn find(
    offsets: &Offsets,
    group: &str,
    asked: Option<Vec<(TopicName, Vec<i32>)>>,
    room_bytes: &mut usize,
) -> Option<Vec<(TopicName, Vec<Found>)>> {
    let mut take = |found: &Found| {
        let left = room_bytes.checked_sub(FOUND_BYTES + found.metadata.len());
        left.map(|left| *room_bytes = left)
    };
    let mut topics: Vec<(TopicName, Vec<Found>)> = Vec::new();
    let Some(asked) = asked else {
        for (topic, index, committed) in offsets.of_group(group) {
            let found = Found::new(index, Some(committed));
            take(&found)?;
            match topics.last_mut() {
                Some((last, all)) if last.0.as_str() == topic => all.push(found),
                _ => topics.push((TopicName(text(topic)), vec![found])),
            }
        }
        return Some(topics);
    };
    for (topic, indexes) in merged(asked) {
        let mut all = Vec::with_capacity(indexes.len());
        for index in distinct(indexes, |index| *index) {
            let found = Found::new(index, offsets.get(group, topic.0.as_str(), index));
            take(&found)?;
            all.push(found);
        }
        topics.push((topic, all));
    }
    Some(topics)
}

fn single(version: i16, name: TopicName, found: Vec<Found>) -> OffsetFetchResponseTopic {
    let partitions = found.into_iter().map(|found| {
        let partition = OffsetFetchResponsePartition::default()
            .with_partition_index(found.index)
            .with_committed_offset(found.offset)
            .with_metadata(Some(text(&found.metadata)));
        if version >= 5 { partition.with_committed_leader_epoch(found.leader_epoch) } else { partition }
    });
    OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
}

fn many(name: TopicName, found: Vec<Found>) -> OffsetFetchResponseTopics {
    let partitions = found.into_iter().map(|found| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(found.index)
            .with_committed_offset(found.offset)
            .with_committed_leader_epoch(found.leader_epoch)
            .with_metadata(Some(text(&found.metadata)))
    });
    OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
}

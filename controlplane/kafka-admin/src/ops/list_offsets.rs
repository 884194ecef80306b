//! ListOffsets of every partition of a topic, each asked of its leader: the oldest and the newest offset.

use std::collections::BTreeMap;

use kafka_client::RequestError;
use kafka_wire::cold::types::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::cold::types::{BrokerId, ListOffsetsRequest};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::{TIMEOUT_MS, ask, describe_topic, topic_name, unusable};
use crate::driver::Target;
use crate::patience::Patience;
use crate::{AdminError, KafkaAdmin, PartitionOffsets};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Why one look at all leaders gave no whole picture.
enum Miss {
    Lost(RequestError),
    Code(ErrorCode),
    NoLeader(i32),
}

pub(crate) async fn run(admin: &KafkaAdmin, name: &str) -> Result<Vec<PartitionOffsets>, AdminError> {
    let mut patience = Patience::new(admin);
    loop {
        let topic = describe_topic::run(admin, name).await?;
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let leaderless = topic.partitions.iter().find(|p| p.leader.is_none()).map(|p| p.index);
        for partition in &topic.partitions {
            by_leader.entry(partition.leader.unwrap_or(-1)).or_default().push(partition.index);
        }
        let looked = match leaderless {
            Some(partition) => Err(Miss::NoLeader(partition)),
            None => look(admin, name, &by_leader).await?,
        };
        match looked {
            Ok(offsets) => return Ok(offsets),
            Err(Miss::Lost(err)) => patience.after_lost(err).await?,
            Err(Miss::Code(code)) => patience.after_code(code, None, name).await?,
            Err(Miss::NoLeader(p)) => patience.not_yet(|| format!("partition {p} of {name} has no leader")).await?,
        }
    }
}

async fn look(
    admin: &KafkaAdmin,
    name: &str,
    by_leader: &BTreeMap<i32, Vec<i32>>,
) -> Result<Result<Vec<PartitionOffsets>, Miss>, AdminError> {
    let mut found: BTreeMap<i32, PartitionOffsets> = BTreeMap::new();
    for (leader, partitions) in by_leader {
        // A partition may occur once in a request, so oldest and newest are two.
        for timestamp in [EARLIEST, LATEST] {
            let request = request(name, partitions, timestamp);
            let response = match ask(admin, Target::Broker(*leader), request).await {
                Ok(ResponseKind::ListOffsets(response)) => response,
                Ok(_) => return Err(unusable("ListOffsets")),
                Err(err) => return Ok(Err(Miss::Lost(err))),
            };
            for partition in response.topics.into_iter().flat_map(|topic| topic.partitions) {
                let code = ErrorCode(partition.error_code);
                if !code.is_none() {
                    return Ok(Err(Miss::Code(code)));
                }
                let index = partition.partition_index;
                let entry = found.entry(index).or_insert(PartitionOffsets { index, oldest: 0, newest: 0 });
                let slot = if timestamp == EARLIEST { &mut entry.oldest } else { &mut entry.newest };
                *slot = partition.offset;
            }
        }
    }
    if found.len() != by_leader.values().map(Vec::len).sum::<usize>() {
        return Err(unusable("ListOffsets"));
    }
    Ok(Ok(found.into_values().collect()))
}

fn request(name: &str, partitions: &[i32], timestamp: i64) -> RequestKind {
    let partitions = partitions.iter().map(|index| {
        ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp)
    });
    let topic = ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions.collect());
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    RequestKind::ListOffsets(request.with_timeout_ms(TIMEOUT_MS))
}

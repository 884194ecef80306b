//! DescribeLogDirs (KIP-113, KIP-827): one directory, what each partition takes of it, and how much room its disk has.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::cold::types::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_wire::error_code::ErrorCode;
use tracing::warn;

use crate::apis::once::{distinct, merged};
use crate::apis::outcome::Outcome;
use crate::apis::text;
use crate::state::State;

pub fn handle(state: &State, request: DescribeLogDirsRequest) -> Outcome {
    let topics = match request.topics {
        // Asked for nothing in particular, which means all.
        None => state.topics.keys().map(|name| (TopicName(text(name)), None)).collect(),
        Some(topics) => {
            let asked = merged(topics.into_iter().map(|topic| (topic.topic, topic.partitions)));
            asked.into_iter().map(|(name, partitions)| (name, Some(partitions))).collect::<Vec<_>>()
        }
    };
    let topics = topics.into_iter().filter_map(|(name, asked)| {
        let topic = state.topics.get(name.0.as_str())?;
        let all = 0..topic.partitions.len() as i32;
        let indexes: Vec<i32> = asked.map_or_else(|| all.collect(), |asked| distinct(asked, |index| *index).collect());
        let partitions = indexes.into_iter().filter_map(|index| {
            let partition = topic.partitions.get(usize::try_from(index).ok()?)?;
            let described = DescribeLogDirsPartition::default().with_partition_index(index);
            Some(described.with_partition_size(i64::try_from(partition.bytes()).unwrap_or(i64::MAX)))
        });
        Some(DescribeLogDirsTopic::default().with_name(name).with_partitions(partitions.collect()))
    });
    let topics = topics.collect();
    let (total_bytes, usable_bytes) = disk_bytes(state).unwrap_or((-1, -1));
    let dir = DescribeLogDirsResult::default()
        .with_log_dir(text(&state.config.data_dir.display().to_string()))
        .with_topics(topics)
        .with_total_bytes(total_bytes)
        .with_usable_bytes(usable_bytes);
    Outcome::answer(ResponseKind::DescribeLogDirs(DescribeLogDirsResponse::default().with_results(vec![dir])))
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    ResponseKind::DescribeLogDirs(DescribeLogDirsResponse::default().with_error_code(code.0))
}

/// Size of the disk and what is free for us; nothing in null mode, which has no disk.
fn disk_bytes(state: &State) -> Option<(i64, i64)> {
    if state.null.is_some() {
        return None;
    }
    let dir = &state.config.data_dir;
    let disk = rustix::fs::statvfs(dir).inspect_err(|err| warn!(%err, dir = %dir.display(), "no room known")).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
    Some((bytes(disk.f_blocks), bytes(disk.f_bavail)))
}

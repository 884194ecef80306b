//! Metadata about one topic: what it looks like, and whether everybody sees it yet.

use kafka_client::RequestError;
use kafka_wire::cold::types::metadata_request::MetadataRequestTopic;
use kafka_wire::cold::types::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_wire::cold::types::{MetadataRequest, MetadataResponse};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::{ask, topic_name, unusable};
use crate::driver::Target;
use crate::patience::Patience;
use crate::{AdminError, KafkaAdmin, PartitionDescription, TopicDescription};

/// A topic that was just made is not known to every broker at the same moment, so "unknown" is believed only when
/// several answers over this many pauses agree.
const UNKNOWN_TIMES: u32 = 3;

pub(crate) async fn run(admin: &KafkaAdmin, name: &str) -> Result<TopicDescription, AdminError> {
    let mut patience = Patience::new(admin);
    let mut unknown_times = 0;
    loop {
        let response = match metadata(admin, Target::Any, Some(name)).await {
            Ok(response) => response,
            Err(err) => {
                patience.after_lost(err).await?;
                continue;
            }
        };
        let topic = find(response, name).ok_or_else(|| unusable("Metadata"))?;
        match ErrorCode(topic.error_code) {
            ErrorCode::NONE => return Ok(describe(name, topic.partitions)),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION if unknown_times + 1 < UNKNOWN_TIMES => {
                unknown_times += 1;
                patience.not_yet(|| "metadata".to_owned()).await?;
            }
            code => patience.after_code(code, None, name).await?,
        }
    }
}

/// Waits until every broker shows the topic with so many partitions, each with a leader.
pub(crate) async fn until_visible(admin: &KafkaAdmin, name: &str, partitions: i32) -> Result<(), AdminError> {
    let mut patience = Patience::new(admin);
    loop {
        let brokers = match metadata(admin, Target::Any, Some(name)).await {
            Ok(response) => response.brokers.iter().map(|broker| broker.node_id.0).collect::<Vec<_>>(),
            Err(err) => {
                patience.after_lost(err).await?;
                continue;
            }
        };
        let Some(blind) = first_blind(admin, name, partitions, &brokers).await? else { return Ok(()) };
        patience.not_yet(|| format!("topic {name} is not visible at broker {blind}")).await?;
    }
}

/// The first broker that does not show the topic whole. One that cannot be reached serves nobody: it does not count.
async fn first_blind(
    admin: &KafkaAdmin,
    name: &str,
    partitions: i32,
    brokers: &[i32],
) -> Result<Option<i32>, AdminError> {
    for broker in brokers {
        let topic = match metadata(admin, Target::Broker(*broker), Some(name)).await {
            Ok(response) => find(response, name),
            Err(RequestError::Unreachable { .. } | RequestError::Disconnected { .. }) => continue,
            Err(RequestError::Timeout { .. }) => None,
            Err(err) => return Err(crate::error::lost(&err)),
        };
        let is_whole = topic.is_some_and(|topic| {
            let led = topic.partitions.iter().filter(|p| p.leader_id.0 >= 0 && p.error_code == 0).count();
            topic.error_code == 0 && led >= usize::try_from(partitions).unwrap_or(0)
        });
        if !is_whole {
            return Ok(Some(*broker));
        }
    }
    Ok(None)
}

pub(crate) async fn broker_count(admin: &KafkaAdmin) -> Result<usize, AdminError> {
    let mut patience = Patience::new(admin);
    loop {
        match metadata(admin, Target::Any, None).await {
            Ok(response) if !response.brokers.is_empty() => return Ok(response.brokers.len()),
            Ok(_) => patience.not_yet(|| "the cluster lists no broker".to_owned()).await?,
            Err(err) => patience.after_lost(err).await?,
        }
    }
}

/// About one topic, or about brokers only. Asking never makes the topic.
async fn metadata(admin: &KafkaAdmin, target: Target, topic: Option<&str>) -> Result<MetadataResponse, RequestError> {
    let topics = topic.map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
    let request = MetadataRequest::default()
        .with_topics(Some(topics.into_iter().collect()))
        .with_allow_auto_topic_creation(false);
    match ask(admin, target, RequestKind::Metadata(request)).await? {
        ResponseKind::Metadata(response) => Ok(response),
        _ => Err(RequestError::Malformed { why: "another answer than Metadata".into() }),
    }
}

fn find(response: MetadataResponse, name: &str) -> Option<MetadataResponseTopic> {
    response.topics.into_iter().find(|topic| topic.name.as_ref().is_some_and(|found| found.as_str() == name))
}

fn describe(name: &str, partitions: Vec<MetadataResponsePartition>) -> TopicDescription {
    let ids = |brokers: Vec<kafka_wire::cold::types::BrokerId>| brokers.into_iter().map(|id| id.0).collect();
    let describe = |partition: MetadataResponsePartition| PartitionDescription {
        index: partition.partition_index,
        leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
        replicas: ids(partition.replica_nodes),
        in_sync: ids(partition.isr_nodes),
    };
    let mut partitions: Vec<_> = partitions.into_iter().map(describe).collect();
    partitions.sort_by_key(|partition| partition.index);
    TopicDescription { name: name.to_owned(), partitions }
}

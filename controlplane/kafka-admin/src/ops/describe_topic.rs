//! Metadata about one topic: what it looks like, and whether everybody sees it yet.

use std::time::Duration;

use kafka_client::RequestError;
use kafka_wire::cold::types::metadata_request::MetadataRequestTopic;
use kafka_wire::cold::types::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_wire::cold::types::{MetadataRequest, MetadataResponse};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::{ask_within, topic_name, unusable};
use crate::driver::Target;
use crate::limits::{GONE_PATIENCE, PROBE_TIMEOUT, REQUEST_TIMEOUT};
use crate::patience::Patience;
use crate::{AdminError, KafkaAdmin, PartitionDescription, TopicDescription};

/// A topic that was just made is not known to every broker at the same moment, so "unknown" is believed only when
/// several answers over this many pauses agree.
const UNKNOWN_TIMES: u32 = 3;

pub(crate) async fn run(admin: &KafkaAdmin, name: &str) -> Result<TopicDescription, AdminError> {
    let mut patience = Patience::new(admin);
    let mut unknown_times = 0;
    loop {
        let response = match metadata(admin, Target::Any, Some(name), REQUEST_TIMEOUT).await {
            Ok(response) => response,
            Err(err) => {
                patience.after_lost(err).await?;
                continue;
            }
        };
        let topic = find(response, name).ok_or_else(|| unusable("Metadata"))?;
        match ErrorCode(topic.error_code) {
            ErrorCode::NONE => return Ok(describe(name, topic)),
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
    let is_whole = |topic: &MetadataResponseTopic| {
        let led = topic.partitions.iter().filter(|p| p.leader_id.0 >= 0 && p.error_code == 0).count();
        topic.error_code == 0 && led >= usize::try_from(partitions).unwrap_or(0)
    };
    until_all(admin, name, is_whole).await
}

/// Waits until no broker shows the topic. A cluster may take its time over it (a replica is down); the deletion is
/// decided, so that is no error.
pub(crate) async fn until_gone(admin: &KafkaAdmin, name: &str) -> Result<(), AdminError> {
    let is_gone = |topic: &MetadataResponseTopic| ErrorCode(topic.error_code) == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    match tokio::time::timeout(GONE_PATIENCE, until_all(admin, name, is_gone)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(err)) if !err.is_transient() => Err(err),
        Ok(Err(_)) | Err(_) => {
            tracing::info!(topic = name, "topic is marked for deletion and still shown by some broker");
            Ok(())
        }
    }
}

/// Waits until what every broker says of the topic is as wanted.
async fn until_all(
    admin: &KafkaAdmin,
    name: &str,
    is_wanted: impl Fn(&MetadataResponseTopic) -> bool + Send + Sync,
) -> Result<(), AdminError> {
    let mut patience = Patience::new(admin);
    loop {
        let brokers = match metadata(admin, Target::Any, Some(name), REQUEST_TIMEOUT).await {
            Ok(response) => response.brokers.iter().map(|broker| broker.node_id.0).collect::<Vec<_>>(),
            Err(err) => {
                patience.after_lost(err).await?;
                continue;
            }
        };
        let Some(behind) = first_behind(admin, name, &brokers, &is_wanted).await? else { return Ok(()) };
        patience.not_yet(|| format!("broker {behind} has not caught up with topic {name}")).await?;
    }
}

/// The first broker whose word is not as wanted. One that gives no answer serves nobody: it does not count. The
/// cluster lists a broker for some seconds after it died.
async fn first_behind(
    admin: &KafkaAdmin,
    name: &str,
    brokers: &[i32],
    is_wanted: impl Fn(&MetadataResponseTopic) -> bool + Send + Sync,
) -> Result<Option<i32>, AdminError> {
    for broker in brokers {
        match metadata(admin, Target::Broker(*broker), Some(name), PROBE_TIMEOUT).await {
            Ok(response) => {
                if !find(response, name).is_some_and(|topic| is_wanted(&topic)) {
                    return Ok(Some(*broker));
                }
            }
            Err(
                RequestError::Unreachable { .. } | RequestError::Disconnected { .. } | RequestError::Timeout { .. },
            ) => tracing::debug!(broker, "broker gives no answer, not waiting for it"),
            Err(err) => return Err(crate::error::lost(&err)),
        }
    }
    Ok(None)
}

pub(crate) async fn broker_count(admin: &KafkaAdmin) -> Result<usize, AdminError> {
    broker_ids(admin).await.map(|ids| ids.len())
}

/// Those that are up.
pub(crate) async fn broker_ids(admin: &KafkaAdmin) -> Result<Vec<i32>, AdminError> {
    let mut patience = Patience::new(admin);
    loop {
        match metadata(admin, Target::Any, None, REQUEST_TIMEOUT).await {
            Ok(response) if !response.brokers.is_empty() => {
                return Ok(response.brokers.iter().map(|broker| broker.node_id.0).collect());
            }
            Ok(_) => patience.not_yet(|| "the cluster lists no broker".to_owned()).await?,
            Err(err) => patience.after_lost(err).await?,
        }
    }
}

/// About one topic, or about brokers only. Asking never makes the topic.
async fn metadata(
    admin: &KafkaAdmin,
    target: Target,
    topic: Option<&str>,
    timeout: Duration,
) -> Result<MetadataResponse, RequestError> {
    let topics = topic.map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
    let request = MetadataRequest::default()
        .with_topics(Some(topics.into_iter().collect()))
        .with_allow_auto_topic_creation(false);
    match ask_within(admin, target, RequestKind::Metadata(request), timeout).await? {
        ResponseKind::Metadata(response) => Ok(response),
        _ => Err(RequestError::Malformed { why: "another answer than Metadata".into() }),
    }
}

fn find(response: MetadataResponse, name: &str) -> Option<MetadataResponseTopic> {
    response.topics.into_iter().find(|topic| topic.name.as_ref().is_some_and(|found| found.as_str() == name))
}

fn describe(name: &str, topic: MetadataResponseTopic) -> TopicDescription {
    let ids = |brokers: Vec<kafka_wire::cold::types::BrokerId>| brokers.into_iter().map(|id| id.0).collect();
    let describe = |partition: MetadataResponsePartition| PartitionDescription {
        index: partition.partition_index,
        leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
        replicas: ids(partition.replica_nodes),
        in_sync: ids(partition.isr_nodes),
    };
    let mut partitions: Vec<_> = topic.partitions.into_iter().map(describe).collect();
    partitions.sort_by_key(|partition| partition.index);
    let id = Some(topic.topic_id.into_bytes()).filter(|id| *id != [0; 16]);
    TopicDescription { name: name.to_owned(), id, partitions }
}

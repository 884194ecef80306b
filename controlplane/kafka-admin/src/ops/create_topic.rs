//! CreateTopics, then waiting until every broker shows the topic; or only asking whether it could be made.

use kafka_wire::cold::types::CreateTopicsRequest;
use kafka_wire::cold::types::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::{TIMEOUT_MS, ask, describe_topic, text, topic_name, unusable};
use crate::patience::Patience;
use crate::{AdminError, KafkaAdmin, NewTopic};

pub(crate) async fn run(admin: &KafkaAdmin, topic: &NewTopic) -> Result<(), AdminError> {
    until_answered(admin, topic, false).await?;
    describe_topic::until_visible(admin, &topic.name, topic.partitions).await
}

/// Asks whether the topic could be made now; nothing is.
pub(crate) async fn check(admin: &KafkaAdmin, topic: &NewTopic) -> Result<(), AdminError> {
    until_answered(admin, topic, true).await
}

async fn until_answered(admin: &KafkaAdmin, topic: &NewTopic, validate_only: bool) -> Result<(), AdminError> {
    let mut patience = Patience::new(admin);
    loop {
        let response = match ask(admin, patience.controller(), request(topic, validate_only)).await {
            Ok(ResponseKind::CreateTopics(response)) => response,
            Ok(_) => return Err(unusable("CreateTopics")),
            Err(err) => {
                patience.after_lost(err).await?;
                continue;
            }
        };
        let result = response.topics.into_iter().find(|t| t.name.as_str() == topic.name);
        let result = result.ok_or_else(|| unusable("CreateTopics"))?;
        match ErrorCode(result.error_code) {
            ErrorCode::NONE => return Ok(()),
            // Our own earlier attempt, whose answer never came.
            ErrorCode::TOPIC_ALREADY_EXISTS if patience.may_have_happened && !validate_only => return Ok(()),
            ErrorCode::INVALID_REPLICATION_FACTOR => {
                let brokers = describe_topic::broker_count(admin).await?;
                return Err(AdminError::InvalidReplicationFactor { asked: topic.replicas, brokers });
            }
            code => patience.after_code(code, result.error_message.as_deref(), &topic.name).await?,
        }
    }
}

fn request(topic: &NewTopic, validate_only: bool) -> RequestKind {
    let configs = topic
        .configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
    let topic = CreatableTopic::default()
        .with_name(topic_name(&topic.name))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replicas)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    RequestKind::CreateTopics(request.with_validate_only(validate_only))
}

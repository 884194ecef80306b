//! CreateTopics: durable in the catalogue before the answer; what Kafka would refuse on one node is refused.

use std::collections::BTreeMap;

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::create_topics_request::CreatableTopic;
use kafka_wire::cold::types::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::cold::types::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::once;
use crate::apis::outcome::Outcome;
use crate::apis::{Intent, message, text, wire_id};
use crate::clock::Now;
use crate::limits::{NEW_PARTITIONS_PER_REQUEST_MAX, NULL_PARTITIONS};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::catalogue::{NewTopic, TopicMeta, check_name, fresh_topic_id};
use crate::state::configs::{Overrides, effective, shown_options};
use crate::state::null::NullTopics;

/// From here the answer shows partitions, replicas and options (KIP-525), and the topic's id from 7 on.
const DETAILS_FROM: i16 = 5;
const IDS_FROM: i16 = 7;

pub fn handle(state: &mut State, version: i16, request: CreateTopicsRequest, now: Now) -> Outcome {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut new_partitions = 0;
    for (topic, doubled) in once(&request.topics, |topic| topic.name.clone()) {
        new_partitions += i64::from(topic.num_partitions.max(1)).max(topic.assignments.len() as i64);
        let made = if doubled {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "duplicate topic name in the request"))
        } else if new_partitions > NEW_PARTITIONS_PER_REQUEST_MAX {
            Err(Refusal::new(ErrorCode::POLICY_VIOLATION, "excessively large number of partitions per request"))
        } else {
            make(state, topic, Intent::of(request.validate_only), now)
        };
        results.push(match made {
            Ok(meta) => described(version, &meta),
            Err(refusal) => {
                let message = Some(text(&refusal.message));
                failed(topic.name.clone(), refusal.code).with_error_message(message)
            }
        });
    }
    let answer = ResponseKind::CreateTopics(CreateTopicsResponse::default().with_topics(results));
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::durable(state.persist_catalogue(), answer, otherwise)
}

pub fn refuse(request: &CreateTopicsRequest, code: ErrorCode) -> ResponseKind {
    let topics =
        request.topics.iter().map(|topic| failed(topic.name.clone(), code).with_error_message(message(code))).collect();
    ResponseKind::CreateTopics(CreateTopicsResponse::default().with_topics(topics))
}

fn make(state: &mut State, topic: &CreatableTopic, intent: Intent, now: Now) -> Result<TopicMeta, Refusal> {
    let wanted = wanted(topic)?;
    match (&mut state.null, intent) {
        (Some(null), _) => make_null(null, wanted),
        (None, Intent::Validate) => state.plan_topic(&wanted, [0; 16]),
        (None, Intent::Apply) => state.create_topic(&wanted, fresh_topic_id(), now),
    }
}

fn wanted(topic: &CreatableTopic) -> Result<NewTopic, Refusal> {
    let mut overrides = Overrides::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("null value not supported for topic configs: {}", config.name);
            return Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
        };
        overrides.insert(config.name.to_string(), value.to_string());
    }
    Ok(NewTopic {
        name: topic.name.0.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assigned| (assigned.partition_index, assigned.broker_ids.iter().map(|id| id.0).collect()))
            .collect(),
        overrides,
    })
}

/// The null broker accepts every create, whatever is asked of replicas; making a topic again begins it anew.
fn make_null(null: &mut NullTopics, wanted: NewTopic) -> Result<TopicMeta, Refusal> {
    check_name(&wanted.name)?;
    let NewTopic { name, overrides, .. } = wanted;
    let partitions = if wanted.partitions > 0 { wanted.partitions } else { NULL_PARTITIONS };
    null.create(&name, partitions);
    Ok(TopicMeta { id: fresh_topic_id(), name, partitions, overrides, start_offsets: BTreeMap::new() })
}

fn described(version: i16, meta: &TopicMeta) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default().with_name(TopicName(text(&meta.name))).with_error_message(None);
    if version >= DETAILS_FROM {
        let configs = shown_options().map(|option| {
            let source = if meta.overrides.contains_key(option.name) { 1 } else { 5 };
            CreatableTopicConfigs::default()
                .with_name(text(option.name))
                .with_value(Some(text(effective(&meta.overrides, option.name))))
                .with_config_source(source)
        });
        result = result.with_num_partitions(meta.partitions).with_replication_factor(1);
        result = result.with_configs(Some(configs.collect()));
    }
    if version >= IDS_FROM { result.with_topic_id(wire_id(&meta.id)) } else { result }
}

fn failed(name: TopicName, code: ErrorCode) -> CreatableTopicResult {
    CreatableTopicResult::default().with_name(name).with_error_code(code.0).with_configs(Some(Vec::new()))
}

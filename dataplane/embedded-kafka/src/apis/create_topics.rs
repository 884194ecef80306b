//! CreateTopics: durable in the catalogue before the answer; what Kafka would refuse on one node is refused.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::create_topics_request::CreatableTopic;
use kafka_wire::cold::types::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::cold::types::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_wire::error_code::ErrorCode;

use crate::apis::{message, text, wire_id};
use crate::broker::{Broker, Now, Outcome};
use crate::configs::{Overrides, TOPIC_OPTIONS, effective};
use crate::topics::{NewTopic, Refusal, TopicId, TopicMeta};

/// From here the answer shows partitions, replicas and options (KIP-525), and the topic's id from 7 on.
const DETAILS_FROM: i16 = 5;
const IDS_FROM: i16 = 7;

pub fn handle(broker: &mut Broker, version: i16, request: CreateTopicsRequest, now: Now) -> Outcome {
    let mut results = Vec::with_capacity(request.topics.len());
    for (at, topic) in request.topics.iter().enumerate() {
        let repeated = request.topics.iter().enumerate().any(|(other, t)| other != at && t.name == topic.name);
        let made = match repeated {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "duplicate topic name in the request")),
            false => make(broker, topic, request.validate_only, now),
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
    Outcome::Durable { point: broker.catalogue.request_sync(broker.syncer()), answer, otherwise }
}

pub fn refuse(request: &CreateTopicsRequest, code: ErrorCode) -> ResponseKind {
    let topics =
        request.topics.iter().map(|topic| failed(topic.name.clone(), code).with_error_message(message(code))).collect();
    ResponseKind::CreateTopics(CreateTopicsResponse::default().with_topics(topics))
}

/// Makes a topic and opens its partitions; the caller waits for the catalogue's sync.
pub fn create(broker: &mut Broker, wanted: &NewTopic, id: TopicId, now: Now) -> Result<TopicMeta, Refusal> {
    let meta = broker.catalogue.plan(wanted, id)?;
    broker.catalogue.create(meta.clone())?;
    if let Some(null) = &mut broker.null {
        null.create(&meta.name, meta.partitions);
    }
    broker
        .open_partitions(&meta.name, now)
        .map_err(|err| Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, err.to_string()))?;
    Ok(meta)
}

/// Random, never the zero id.
pub fn fresh_topic_id() -> TopicId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&runtime::clock::seed().to_be_bytes());
    id[8..].copy_from_slice(&runtime::clock::seed().to_be_bytes());
    id[15] |= 1;
    id
}

fn make(broker: &mut Broker, topic: &CreatableTopic, validate_only: bool, now: Now) -> Result<TopicMeta, Refusal> {
    let mut overrides = Overrides::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("null value not supported for topic configs: {}", config.name);
            return Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
        };
        overrides.insert(config.name.to_string(), value.to_string());
    }
    let wanted = NewTopic {
        name: topic.name.0.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assigned| (assigned.partition_index, assigned.broker_ids.iter().map(|id| id.0).collect()))
            .collect(),
        overrides,
    };
    if broker.null.is_some() {
        // Accepts every create, whatever is asked of replicas; making a topic again begins it anew.
        let name = wanted.name.clone();
        let partitions = if wanted.partitions > 0 { wanted.partitions } else { crate::limits::NULL_PARTITIONS };
        if let Some(null) = &mut broker.null {
            null.create(&name, partitions);
        }
        let start_offsets = Default::default();
        return Ok(TopicMeta { id: fresh_topic_id(), name, partitions, overrides: wanted.overrides, start_offsets });
    }
    let id = fresh_topic_id();
    match validate_only {
        true => broker.catalogue.plan(&wanted, [0; 16]),
        false => create(broker, &wanted, id, now),
    }
}

fn described(version: i16, meta: &TopicMeta) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default().with_name(TopicName(text(&meta.name))).with_error_message(None);
    if version >= DETAILS_FROM {
        let configs = TOPIC_OPTIONS.iter().map(|option| {
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

//! Metadata: the one broker, and the topics asked for; a missing one is made when both sides allow it.
//!
//! Unlike Kafka, which answers LEADER_NOT_AVAILABLE first, a topic made here is there in the same answer.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::cold::types::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_wire::error_code::ErrorCode;
use tracing::info;

use crate::apis::NOT_HERE;
use crate::apis::allowed;
use crate::apis::once::distinct;
use crate::apis::outcome::Outcome;
use crate::apis::{text, wire_id};
use crate::clock::Now;
use crate::limits::{LEADER_EPOCH, NODE_ID};
use crate::state::State;
use crate::state::catalogue::{NewTopic, TopicId, check_name, fresh_topic_id};

/// What becomes of a topic that is asked for and not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Report,
}

pub fn handle(state: &mut State, version: i16, request: MetadataRequest, now: Now) -> Outcome {
    let missing = match state.config.auto_create && (version < 4 || request.allow_auto_topic_creation) {
        true => Missing::Create,
        false => Missing::Report,
    };
    let known = state.catalogue.topic_count();
    let (of_topics, of_cluster) =
        (request.include_topic_authorized_operations, request.include_cluster_authorized_operations);
    let mut topics: Vec<MetadataResponseTopic> = match request.topics {
        // Version 0 has no null: there an empty list asks for all.
        None => all(state),
        Some(topics) if version == 0 && topics.is_empty() => all(state),
        Some(topics) => distinct(topics, |topic| (topic.name.clone(), topic.topic_id))
            .map(|wanted| match wanted.name {
                Some(name) => by_name(state, name.0.as_str(), missing, now),
                None => by_id(state, *wanted.topic_id.as_bytes()),
            })
            .collect(),
    };
    if of_topics {
        let known = topics.iter_mut().filter(|topic| topic.error_code == 0);
        known.for_each(|topic| topic.topic_authorized_operations = allowed::WITH_TOPIC);
    }
    let mut answer = response(state, topics);
    if of_cluster {
        answer.cluster_authorized_operations = allowed::WITH_CLUSTER;
    }
    let answer = ResponseKind::Metadata(answer);
    match state.catalogue.topic_count() == known {
        true => Outcome::answer(answer),
        false => {
            let otherwise = ResponseKind::Metadata(response(state, Vec::new()));
            Outcome::durable(state.persist_catalogue(), answer, otherwise)
        }
    }
}

pub fn refuse(request: &MetadataRequest, code: ErrorCode) -> ResponseKind {
    let names = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
    let topics = names.map(|name| MetadataResponseTopic::default().with_name(Some(name)).with_error_code(code.0));
    ResponseKind::Metadata(MetadataResponse::default().with_topics(topics.collect()).with_error_code(0))
}

fn response(state: &State, topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let this = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(text(&state.config.host))
        .with_port(i32::from(state.config.port));
    MetadataResponse::default()
        .with_brokers(vec![this])
        .with_cluster_id(Some(text(&state.config.cluster_id)))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics)
}

fn all(state: &State) -> Vec<MetadataResponseTopic> {
    match &state.null {
        Some(null) => null.names().map(|name| described(name, None, null.partitions(name.as_bytes()))).collect(),
        None => {
            state.catalogue.topics().map(|topic| described(&topic.name, Some(&topic.id), topic.partitions)).collect()
        }
    }
}

fn by_name(state: &mut State, name: &str, missing: Missing, now: Now) -> MetadataResponseTopic {
    if let Some(null) = &state.null {
        return described(name, None, null.partitions(name.as_bytes()));
    }
    if let Some(topic) = state.catalogue.topic(name) {
        return described(name, Some(&topic.id), topic.partitions);
    }
    let failed = |code: ErrorCode| {
        MetadataResponseTopic::default().with_name(Some(TopicName(text(name)))).with_error_code(code.0)
    };
    if let Err(refusal) = check_name(name) {
        return failed(refusal.code);
    }
    if missing == Missing::Report {
        return failed(NOT_HERE);
    }
    let wanted = NewTopic { name: name.to_owned(), partitions: -1, replication_factor: -1, ..NewTopic::default() };
    match state.create_topic(&wanted, fresh_topic_id(), now) {
        Ok(meta) => {
            info!(topic = name, partitions = meta.partitions, "topic created because a client asked for it");
            described(name, Some(&meta.id), meta.partitions)
        }
        Err(refusal) => failed(refusal.code),
    }
}

fn by_id(state: &State, id: TopicId) -> MetadataResponseTopic {
    match state.names.by_id(&id).and_then(|name| state.catalogue.topic(name)) {
        Some(topic) => described(&topic.name, Some(&topic.id), topic.partitions),
        None => {
            MetadataResponseTopic::default().with_topic_id(wire_id(&id)).with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
        }
    }
}

fn described(name: &str, id: Option<&TopicId>, partitions: i32) -> MetadataResponseTopic {
    let here = || vec![BrokerId(NODE_ID)];
    let partitions = (0..partitions)
        .map(|index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(NODE_ID))
                .with_leader_epoch(LEADER_EPOCH)
                .with_replica_nodes(here())
                .with_isr_nodes(here())
        })
        .collect();
    let topic = MetadataResponseTopic::default().with_name(Some(TopicName(text(name)))).with_partitions(partitions);
    match id {
        Some(id) => topic.with_topic_id(wire_id(id)),
        None => topic,
    }
}

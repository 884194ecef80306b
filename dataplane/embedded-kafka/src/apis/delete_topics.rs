//! DeleteTopics: gone from the catalogue before the answer, with files and committed offsets. By id from version 6.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::delete_topics_response::DeletableTopicResult;
use kafka_wire::cold::types::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::once;
use crate::apis::{text, wire_id};
use crate::broker::{Broker, Now, Outcome};
use crate::topics::{Refusal, TopicId};

const BY_ID_FROM: i16 = 6;

pub fn handle(broker: &mut Broker, version: i16, request: DeleteTopicsRequest, now: Now) -> Outcome {
    let wanted = once(wanted(version, &request), Clone::clone);
    let results = wanted.into_iter().map(|((name, id), doubled)| {
        let known = match &name {
            Some(name) => Ok(name.clone()),
            None => broker
                .names
                .by_id(&id)
                .map(str::to_owned)
                .ok_or_else(|| Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id")),
        };
        let deleted = match doubled {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "duplicate topic in the request")),
            false => known.clone().and_then(|name| delete(broker, &name, now)),
        };
        let code = match deleted {
            Ok(()) => ErrorCode::NONE,
            Err(refusal) => refusal.code,
        };
        result(version, known.ok().or(name), &id, code)
    });
    let answer = ResponseKind::DeleteTopics(DeleteTopicsResponse::default().with_responses(results.collect()));
    let otherwise = refuse(version, &request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::Durable { point: broker.catalogue.request_sync(broker.syncer()), answer, otherwise }
}

pub fn refuse(version: i16, request: &DeleteTopicsRequest, code: ErrorCode) -> ResponseKind {
    let results = wanted(version, request).into_iter().map(|(name, id)| result(version, name, &id, code));
    ResponseKind::DeleteTopics(DeleteTopicsResponse::default().with_responses(results.collect()))
}

fn delete(broker: &mut Broker, name: &str, now: Now) -> Result<(), Refusal> {
    if let Some(null) = &mut broker.null {
        null.delete(name);
        return Ok(());
    }
    let meta = broker.catalogue.delete(name)?;
    broker.names.remove(&meta);
    broker.offsets.delete_topic(name);
    broker.close_topic(name, now);
    Ok(())
}

fn wanted(version: i16, request: &DeleteTopicsRequest) -> Vec<(Option<String>, TopicId)> {
    if version < BY_ID_FROM {
        return request.topic_names.iter().map(|name| (Some(name.0.to_string()), [0; 16])).collect();
    }
    let named = |name: &TopicName| name.0.to_string();
    request.topics.iter().map(|topic| (topic.name.as_ref().map(named), *topic.topic_id.as_bytes())).collect()
}

fn result(version: i16, name: Option<String>, id: &TopicId, code: ErrorCode) -> DeletableTopicResult {
    let result = DeletableTopicResult::default().with_error_code(code.0);
    let result = result.with_name(name.as_deref().map(|name| TopicName(text(name))));
    if version < BY_ID_FROM {
        return result;
    }
    result.with_topic_id(wire_id(id))
}

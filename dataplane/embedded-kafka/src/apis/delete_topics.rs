//! DeleteTopics: gone from the catalogue before the answer, with files and committed offsets. By id from version 6.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::delete_topics_response::DeletableTopicResult;
use kafka_wire::cold::types::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::once;
use crate::apis::outcome::Outcome;
use crate::apis::{text, wire_id};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::catalogue::TopicId;

const BY_ID_FROM: i16 = 6;

pub fn handle(state: &mut State, version: i16, request: DeleteTopicsRequest) -> Outcome {
    let wanted = once(wanted(version, &request), Clone::clone);
    let results = wanted.into_iter().map(|((name, id), doubled)| {
        let known = match &name {
            Some(name) => Ok(name.clone()),
            None => named(state, &id),
        };
        let deleted = match doubled {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "duplicate topic in the request")),
            false => known.clone().and_then(|name| delete(state, &name)),
        };
        let code = deleted.map_or_else(|refusal| refusal.code, |()| ErrorCode::NONE);
        result(version, known.ok().or(name), &id, code)
    });
    let answer = ResponseKind::DeleteTopics(DeleteTopicsResponse::default().with_responses(results.collect()));
    let otherwise = refuse(version, &request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::durable(state.persist_catalogue(), answer, otherwise)
}

pub fn refuse(version: i16, request: &DeleteTopicsRequest, code: ErrorCode) -> ResponseKind {
    let results = wanted(version, request).into_iter().map(|(name, id)| result(version, name, &id, code));
    ResponseKind::DeleteTopics(DeleteTopicsResponse::default().with_responses(results.collect()))
}

fn named(state: &State, id: &TopicId) -> Result<String, Refusal> {
    let name = state.names.by_id(id).map(str::to_owned);
    name.ok_or_else(|| Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id"))
}

fn delete(state: &mut State, name: &str) -> Result<(), Refusal> {
    match &mut state.null {
        Some(null) => {
            null.delete(name);
            Ok(())
        }
        None => state.delete_topic(name),
    }
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

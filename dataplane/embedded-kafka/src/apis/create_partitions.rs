//! CreatePartitions: a topic grows; it never shrinks.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::cold::types::create_partitions_response::CreatePartitionsTopicResult;
use kafka_wire::cold::types::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::once;
use crate::apis::outcome::Outcome;
use crate::apis::{Intent, message, text};
use crate::clock::Now;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::catalogue::check_name;

pub fn handle(state: &mut State, request: CreatePartitionsRequest, now: Now) -> Outcome {
    let intent = Intent::of(request.validate_only);
    let results = once(&request.topics, |topic| topic.name.clone()).into_iter().map(|(topic, doubled)| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let grown = match doubled {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "duplicate topic name in the request")),
            false => grow(state, topic, intent, now),
        };
        match grown {
            Ok(()) => result,
            Err(refusal) => result.with_error_code(refusal.code.0).with_error_message(Some(text(&refusal.message))),
        }
    });
    let results = results.collect();
    let answer = ResponseKind::CreatePartitions(CreatePartitionsResponse::default().with_results(results));
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::durable(state.persist_catalogue(), answer, otherwise)
}

pub fn refuse(request: &CreatePartitionsRequest, code: ErrorCode) -> ResponseKind {
    let results = request.topics.iter().map(|topic| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        result.with_error_code(code.0).with_error_message(message(code))
    });
    ResponseKind::CreatePartitions(CreatePartitionsResponse::default().with_results(results.collect()))
}

fn grow(state: &mut State, topic: &CreatePartitionsTopic, intent: Intent, now: Now) -> Result<(), Refusal> {
    let name = topic.name.0.as_str();
    if let Some(null) = &mut state.null {
        check_name(name)?;
        null.create(name, topic.count);
        return Ok(());
    }
    let assignments: Option<Vec<Vec<i32>>> = topic
        .assignments
        .as_ref()
        .map(|assigned| assigned.iter().map(|one| one.broker_ids.iter().map(|id| id.0).collect()).collect());
    state.catalogue.plan_growth(name, topic.count, assignments.as_deref())?;
    match intent {
        Intent::Validate => Ok(()),
        Intent::Apply => state.grow_topic(name, topic.count, now),
    }
}

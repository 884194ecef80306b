//! CreatePartitions: a topic grows; it never shrinks.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::cold::types::create_partitions_response::CreatePartitionsTopicResult;
use kafka_wire::cold::types::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::once;
use crate::apis::{message, text};
use crate::broker::{Broker, Now, Outcome};
use crate::topics::{Refusal, check_name};

pub fn handle(broker: &mut Broker, request: CreatePartitionsRequest, now: Now) -> Outcome {
    let results = once(&request.topics, |topic| topic.name.clone()).into_iter().map(|(topic, doubled)| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let grown = match doubled {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "duplicate topic name in the request")),
            false => grow(broker, topic, request.validate_only, now),
        };
        match grown {
            Ok(()) => result,
            Err(refusal) => result.with_error_code(refusal.code.0).with_error_message(Some(text(&refusal.message))),
        }
    });
    let results = results.collect();
    let answer = ResponseKind::CreatePartitions(CreatePartitionsResponse::default().with_results(results));
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::Durable { point: broker.catalogue.request_sync(broker.syncer()), answer, otherwise }
}

pub fn refuse(request: &CreatePartitionsRequest, code: ErrorCode) -> ResponseKind {
    let results = request.topics.iter().map(|topic| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        result.with_error_code(code.0).with_error_message(message(code))
    });
    ResponseKind::CreatePartitions(CreatePartitionsResponse::default().with_results(results.collect()))
}

fn grow(broker: &mut Broker, topic: &CreatePartitionsTopic, validate_only: bool, now: Now) -> Result<(), Refusal> {
    let name = topic.name.0.as_str();
    if let Some(null) = &mut broker.null {
        check_name(name)?;
        null.create(name, topic.count);
        return Ok(());
    }
    let assignments: Option<Vec<Vec<i32>>> = topic
        .assignments
        .as_ref()
        .map(|assigned| assigned.iter().map(|one| one.broker_ids.iter().map(|id| id.0).collect()).collect());
    broker.catalogue.plan_growth(name, topic.count, assignments.as_deref())?;
    if validate_only {
        return Ok(());
    }
    broker.catalogue.update(name, |meta| meta.partitions = topic.count)?;
    broker.open_partitions(name, now).map_err(|err| Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, err.to_string()))
}

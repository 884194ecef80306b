//! IncrementalAlterConfigs (KIP-339): set, delete, append to and subtract from topic options. The broker's own are
//! read-only.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::cold::types::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::cold::types::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::describe_configs::TOPIC;
use crate::apis::once::once;
use crate::apis::{message, text};
use crate::broker::{Broker, Outcome};
use crate::configs::{Kind, Overrides, TopicOptions, definition, effective, validate};
use crate::topics::{Refusal, unknown_topic};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub fn handle(broker: &mut Broker, request: IncrementalAlterConfigsRequest) -> Outcome {
    let resources = once(&request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let results = resources.into_iter().map(|(resource, doubled)| {
        let result = about(resource);
        let altered = match doubled {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "each resource must appear at most once")),
            false => alter(broker, resource, request.validate_only),
        };
        match altered {
            Ok(()) => result.with_error_message(None),
            Err(refusal) => result.with_error_code(refusal.code.0).with_error_message(Some(text(&refusal.message))),
        }
    });
    let results = results.collect();
    let answer =
        ResponseKind::IncrementalAlterConfigs(IncrementalAlterConfigsResponse::default().with_responses(results));
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::Durable { point: broker.catalogue.request_sync(broker.syncer()), answer, otherwise }
}

pub fn refuse(request: &IncrementalAlterConfigsRequest, code: ErrorCode) -> ResponseKind {
    let results = request
        .resources
        .iter()
        .map(|resource| about(resource).with_error_code(code.0).with_error_message(message(code)));
    let response = IncrementalAlterConfigsResponse::default().with_responses(results.collect());
    ResponseKind::IncrementalAlterConfigs(response)
}

fn about(resource: &AlterConfigsResource) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

fn alter(broker: &mut Broker, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let name = resource.resource_name.as_str();
    change_overrides(broker, resource.resource_type, name, validate_only, |overrides| {
        resource.configs.iter().try_for_each(|config| apply(overrides, config))
    })
}

/// Changes the options of a topic, which are the only ones that can be.
pub(super) fn change_overrides(
    broker: &mut Broker,
    resource_type: i8,
    name: &str,
    validate_only: bool,
    change: impl FnOnce(&mut Overrides) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if resource_type != TOPIC {
        let message = format!("resources of type {resource_type} cannot be changed on this broker");
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    if broker.null.is_some() {
        return Ok(());
    }
    let mut overrides = broker.catalogue.topic(name).ok_or_else(|| unknown_topic(name))?.overrides.clone();
    change(&mut overrides)?;
    if validate_only {
        return Ok(());
    }
    let options = TopicOptions::parse(&overrides);
    broker.catalogue.update(name, |topic| topic.overrides = overrides)?;
    if let Some(topic) = broker.topics.get_mut(name) {
        topic.options = options;
    }
    Ok(())
}

fn apply(overrides: &mut Overrides, config: &AlterableConfig) -> Result<(), Refusal> {
    let name = config.name.as_str();
    let refuse = |message: String| Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
    let Some(option) = definition(name) else { return refuse(format!("unknown topic config name: {name}")) };
    if config.config_operation == DELETE {
        overrides.remove(name);
        return Ok(());
    }
    let Some(value) = config.value.as_deref() else { return refuse(format!("null value for {name}")) };
    let changed = match config.config_operation {
        SET => value.to_owned(),
        APPEND | SUBTRACT => {
            if !matches!(option.kind, Kind::List(_)) {
                return refuse(format!("{name} is not a list"));
            }
            let mut parts: Vec<&str> =
                effective(overrides, name).split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            for part in value.split(',').map(str::trim) {
                parts.retain(|old| *old != part);
                if config.config_operation == APPEND {
                    parts.push(part);
                }
            }
            parts.join(",")
        }
        other => return Err(Refusal::new(ErrorCode::INVALID_REQUEST, format!("unknown operation {other}"))),
    };
    validate(name, &changed).map_err(|why| Refusal::new(ErrorCode::INVALID_CONFIG, why))?;
    overrides.insert(name.to_owned(), changed);
    Ok(())
}

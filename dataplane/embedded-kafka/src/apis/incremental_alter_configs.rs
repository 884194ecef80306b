//! IncrementalAlterConfigs (KIP-339): set, delete, append to and subtract from topic options. The broker's own are
//! read-only.

use kafka_wire::cold::types::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::cold::types::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::cold::types::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_wire::cold::{ResponseKind, StrBytes};
use kafka_wire::error_code::ErrorCode;

use crate::apis::Intent;
use crate::apis::options::{Altered, Resource, alter_each, refuse_each};
use crate::apis::outcome::Outcome;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::configs::{Kind, Overrides, definition, effective, validate};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

impl Resource for AlterConfigsResource {
    fn kind(&self) -> i8 {
        self.resource_type
    }

    fn name(&self) -> &StrBytes {
        &self.resource_name
    }
}

pub fn handle(state: &mut State, request: IncrementalAlterConfigsRequest) -> Outcome {
    let change = |overrides: &mut Overrides, resource: &AlterConfigsResource| {
        resource.configs.iter().try_for_each(|config| apply(overrides, config))
    };
    let answer = response(alter_each(state, &request.resources, Intent::of(request.validate_only), change));
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::durable(state.persist_catalogue(), answer, otherwise)
}

pub fn refuse(request: &IncrementalAlterConfigsRequest, code: ErrorCode) -> ResponseKind {
    response(refuse_each(&request.resources, code))
}

fn response(altered: Vec<Altered>) -> ResponseKind {
    let results = altered.into_iter().map(|Altered { kind, name, code, message }| {
        let result = AlterConfigsResourceResponse::default().with_resource_type(kind).with_resource_name(name);
        result.with_error_code(code.0).with_error_message(message)
    });
    let response = IncrementalAlterConfigsResponse::default().with_responses(results.collect());
    ResponseKind::IncrementalAlterConfigs(response)
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

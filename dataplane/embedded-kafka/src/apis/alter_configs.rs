//! AlterConfigs: a topic has exactly these options from now on, others fall back to their defaults. Its successor,
//! IncrementalAlterConfigs, changes single ones.

use kafka_wire::cold::types::alter_configs_request::AlterConfigsResource;
use kafka_wire::cold::types::alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::cold::types::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_wire::cold::{ResponseKind, StrBytes};
use kafka_wire::error_code::ErrorCode;

use crate::apis::Intent;
use crate::apis::options::{Altered, Resource, alter_each, refuse_each};
use crate::apis::outcome::Outcome;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::configs::{Overrides, validate};

impl Resource for AlterConfigsResource {
    fn kind(&self) -> i8 {
        self.resource_type
    }

    fn name(&self) -> &StrBytes {
        &self.resource_name
    }
}

pub fn handle(state: &mut State, request: AlterConfigsRequest) -> Outcome {
    let answer = response(alter_each(state, &request.resources, Intent::of(request.validate_only), replace));
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::durable(state.persist_catalogue(), answer, otherwise)
}

pub fn refuse(request: &AlterConfigsRequest, code: ErrorCode) -> ResponseKind {
    response(refuse_each(&request.resources, code))
}

fn replace(overrides: &mut Overrides, resource: &AlterConfigsResource) -> Result<(), Refusal> {
    overrides.clear();
    for config in &resource.configs {
        let refuse = |why: String| Refusal::new(ErrorCode::INVALID_CONFIG, why);
        let value = config.value.as_deref().ok_or_else(|| refuse(format!("null value for {}", config.name)))?;
        validate(&config.name, value).map_err(refuse)?;
        overrides.insert(config.name.to_string(), value.to_owned());
    }
    Ok(())
}

fn response(altered: Vec<Altered>) -> ResponseKind {
    let results = altered.into_iter().map(|Altered { kind, name, code, message }| {
        let result = AlterConfigsResourceResponse::default().with_resource_type(kind).with_resource_name(name);
        result.with_error_code(code.0).with_error_message(message)
    });
    ResponseKind::AlterConfigs(AlterConfigsResponse::default().with_responses(results.collect()))
}

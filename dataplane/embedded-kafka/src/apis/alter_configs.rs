//! AlterConfigs: a topic has exactly these options from now on, others fall back to their defaults. Its successor,
//! IncrementalAlterConfigs, changes single ones.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::alter_configs_request::AlterConfigsResource;
use kafka_wire::cold::types::alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::cold::types::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::incremental_alter_configs::change_overrides;
use crate::apis::once::once;
use crate::apis::{message, text};
use crate::broker::{Broker, Outcome};
use crate::configs::{Overrides, validate};
use crate::topics::Refusal;

pub fn handle(broker: &mut Broker, request: AlterConfigsRequest) -> Outcome {
    let resources = once(&request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let results = resources.into_iter().map(|(resource, doubled)| {
        let altered = match doubled {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "each resource must appear at most once")),
            false => alter(broker, resource, request.validate_only),
        };
        match altered {
            Ok(()) => about(resource).with_error_message(None),
            Err(refusal) => {
                about(resource).with_error_code(refusal.code.0).with_error_message(Some(text(&refusal.message)))
            }
        }
    });
    let results = results.collect();
    let answer = ResponseKind::AlterConfigs(AlterConfigsResponse::default().with_responses(results));
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::Durable { point: broker.catalogue.request_sync(broker.syncer()), answer, otherwise }
}

pub fn refuse(request: &AlterConfigsRequest, code: ErrorCode) -> ResponseKind {
    let results = request
        .resources
        .iter()
        .map(|resource| about(resource).with_error_code(code.0).with_error_message(message(code)));
    ResponseKind::AlterConfigs(AlterConfigsResponse::default().with_responses(results.collect()))
}

fn about(resource: &AlterConfigsResource) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

fn alter(broker: &mut Broker, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let name = resource.resource_name.as_str();
    change_overrides(broker, resource.resource_type, name, validate_only, |overrides| {
        *overrides = Overrides::new();
        for config in &resource.configs {
            let refuse = |why: String| Refusal::new(ErrorCode::INVALID_CONFIG, why);
            let value = config.value.as_deref().ok_or_else(|| refuse(format!("null value for {}", config.name)))?;
            validate(&config.name, value).map_err(refuse)?;
            overrides.insert(config.name.to_string(), value.to_owned());
        }
        Ok(())
    })
}

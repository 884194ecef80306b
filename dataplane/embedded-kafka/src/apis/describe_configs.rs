//! DescribeConfigs: the topic options that have an effect, and where their values come from; a handful for the state.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::describe_configs_request::DescribeConfigsResource;
use kafka_wire::cold::types::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::cold::types::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::distinct;
use crate::apis::options::{BROKER, TOPIC};
use crate::apis::outcome::Outcome;
use crate::apis::{message, text};
use crate::limits::NODE_ID;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::catalogue::unknown_topic;
use crate::state::configs::{Overrides, effective, shown_options};

const SET_ON_TOPIC: i8 = 1;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;
const STRING_TYPE: i8 = 2;

pub fn handle(state: &State, request: DescribeConfigsRequest) -> Outcome {
    let resources = distinct(&request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let results = resources.map(|resource| {
        let result = about(resource);
        match configs(state, resource, &request) {
            Ok(configs) => result.with_configs(configs),
            Err(refusal) => result.with_error_code(refusal.code.0).with_error_message(Some(text(&refusal.message))),
        }
    });
    let response = DescribeConfigsResponse::default().with_results(results.collect());
    Outcome::answer(ResponseKind::DescribeConfigs(response))
}

pub fn refuse(request: &DescribeConfigsRequest, code: ErrorCode) -> ResponseKind {
    let results = request
        .resources
        .iter()
        .map(|resource| about(resource).with_error_code(code.0).with_error_message(message(code)));
    ResponseKind::DescribeConfigs(DescribeConfigsResponse::default().with_results(results.collect()))
}

fn about(resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

fn configs(
    state: &State,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = resource.resource_name.as_str();
    let wanted = |option: &str| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key.as_str() == option))
    };
    match resource.resource_type {
        TOPIC => {
            let none = Overrides::new();
            let overrides = match state.catalogue.topic(name) {
                Some(topic) => &topic.overrides,
                None if state.null.is_some() => &none,
                None => return Err(unknown_topic(name)),
            };
            Ok(topic_configs(overrides, wanted, request))
        }
        BROKER if name.is_empty() || name == NODE_ID.to_string() => Ok(broker_configs(state, wanted)),
        BROKER => {
            let message = format!("unexpected broker id, expected {NODE_ID} but received {name}");
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
        }
        other => Err(Refusal::new(ErrorCode::INVALID_REQUEST, format!("unsupported resource type {other}"))),
    }
}

fn topic_configs(
    overrides: &Overrides,
    wanted: impl Fn(&str) -> bool,
    request: &DescribeConfigsRequest,
) -> Vec<DescribeConfigsResourceResult> {
    let shown = shown_options().filter(|option| wanted(option.name)).map(|option| {
        let value = text(effective(overrides, option.name));
        let set = overrides.contains_key(option.name);
        let mut synonyms = Vec::new();
        if request.include_synonyms {
            let synonym = |value, source| {
                let synonym = DescribeConfigsSynonym::default().with_name(text(option.name));
                synonym.with_value(Some(value)).with_source(source)
            };
            if set {
                synonyms.push(synonym(value.clone(), SET_ON_TOPIC));
            }
            synonyms.push(synonym(text(option.default), DEFAULT));
        }
        DescribeConfigsResourceResult::default()
            .with_name(text(option.name))
            .with_value(Some(value))
            .with_config_source(if set { SET_ON_TOPIC } else { DEFAULT })
            .with_synonyms(synonyms)
            .with_config_type(option.kind.code())
            .with_documentation(request.include_documentation.then(|| text(option.documentation)))
    });
    shown.collect()
}

fn broker_configs(state: &State, wanted: impl Fn(&str) -> bool) -> Vec<DescribeConfigsResourceResult> {
    let listener = format!("PLAINTEXT://{}:{}", state.config.host, state.config.port);
    let values = [
        ("advertised.listeners", listener),
        ("auto.create.topics.enable", state.config.auto_create.to_string()),
        ("state.id", NODE_ID.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ("log.dirs", state.config.data_dir.display().to_string()),
        ("node.id", NODE_ID.to_string()),
        ("num.partitions", state.config.default_partitions.to_string()),
        ("offsets.retention.minutes", (state.config.offsets_retention.as_secs() / 60).to_string()),
    ];
    let shown = values.into_iter().filter(|(name, _)| wanted(name)).map(|(name, value)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(&value)))
            .with_read_only(true)
            .with_config_source(STATIC_BROKER)
            .with_config_type(STRING_TYPE)
    });
    shown.collect()
}

//! IncrementalAlterConfigs (KIP-339) of a topic: what is not named stays.

use kafka_wire::cold::types::IncrementalAlterConfigsRequest;
use kafka_wire::cold::types::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::{ask, text, unusable};
use crate::driver::Target;
use crate::patience::Patience;
use crate::{AdminError, KafkaAdmin};

const RESOURCE_TOPIC: i8 = 2;
const SET: i8 = 0;
const DELETE: i8 = 1;

pub(crate) async fn run(
    admin: &KafkaAdmin,
    name: &str,
    configs: &[(String, Option<String>)],
) -> Result<(), AdminError> {
    let mut patience = Patience::new(admin);
    loop {
        let response = match ask(admin, Target::Any, request(name, configs)).await {
            Ok(ResponseKind::IncrementalAlterConfigs(response)) => response,
            Ok(_) => return Err(unusable("IncrementalAlterConfigs")),
            Err(err) => {
                patience.after_lost(err).await?;
                continue;
            }
        };
        let result = response.responses.into_iter().find(|r| r.resource_name.as_str() == name);
        let result = result.ok_or_else(|| unusable("IncrementalAlterConfigs"))?;
        match ErrorCode(result.error_code) {
            ErrorCode::NONE => return Ok(()),
            code => patience.after_code(code, result.error_message.as_deref(), name).await?,
        }
    }
}

fn request(name: &str, configs: &[(String, Option<String>)]) -> RequestKind {
    let configs = configs.iter().map(|(name, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.as_deref().map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(RESOURCE_TOPIC)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    RequestKind::IncrementalAlterConfigs(request)
}

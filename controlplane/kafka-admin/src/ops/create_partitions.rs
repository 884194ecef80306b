//! CreatePartitions, then waiting until every broker shows the new ones.

use kafka_wire::cold::types::CreatePartitionsRequest;
use kafka_wire::cold::types::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::{TIMEOUT_MS, ask, describe_topic, topic_name, unusable};
use crate::patience::Patience;
use crate::{AdminError, KafkaAdmin};

pub(crate) async fn run(admin: &KafkaAdmin, name: &str, total: i32) -> Result<(), AdminError> {
    let mut patience = Patience::new(admin);
    loop {
        let response = match ask(admin, patience.controller(), request(name, total)).await {
            Ok(ResponseKind::CreatePartitions(response)) => response,
            Ok(_) => return Err(unusable("CreatePartitions")),
            Err(err) => {
                patience.after_lost(err).await?;
                continue;
            }
        };
        let result = response.results.into_iter().find(|t| t.name == topic_name(name));
        let result = result.ok_or_else(|| unusable("CreatePartitions"))?;
        match ErrorCode(result.error_code) {
            ErrorCode::NONE => break,
            // Our own earlier attempt may have raised it; the wait below tells.
            ErrorCode::INVALID_PARTITIONS if patience.may_have_happened => break,
            code => patience.after_code(code, result.error_message.as_deref(), name).await?,
        }
    }
    describe_topic::until_visible(admin, name, total).await
}

fn request(name: &str, total: i32) -> RequestKind {
    let topic = CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(total).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    RequestKind::CreatePartitions(request)
}

//! DeleteTopics. From version 6 (Kafka 2.8) topics are named in another field than before; we write the new form and
//! fall back to the old one when the negotiated version cannot carry it. Then waiting until no broker shows the topic.

use kafka_client::RequestError;
use kafka_wire::cold::types::DeleteTopicsRequest;
use kafka_wire::cold::types::delete_topics_request::DeleteTopicState;
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::{TIMEOUT_MS, ask, describe_topic, topic_name, unusable};
use crate::patience::Patience;
use crate::{AdminError, KafkaAdmin};

pub(crate) async fn run(admin: &KafkaAdmin, name: &str) -> Result<(), AdminError> {
    let mut patience = Patience::new(admin);
    let mut new_form = true;
    loop {
        let response = match ask(admin, patience.controller(), request(name, new_form)).await {
            Ok(ResponseKind::DeleteTopics(response)) => response,
            Ok(_) => return Err(unusable("DeleteTopics")),
            Err(RequestError::Encode { .. }) if new_form => {
                new_form = false;
                continue;
            }
            Err(err) => {
                patience.after_lost(err).await?;
                continue;
            }
        };
        let names_it = |found: &Option<_>| found.as_ref().is_none_or(|found| *found == topic_name(name));
        let result = response.responses.into_iter().find(|t| names_it(&t.name));
        let result = result.ok_or_else(|| unusable("DeleteTopics"))?;
        match ErrorCode(result.error_code) {
            ErrorCode::NONE => break,
            // Our own earlier attempt, whose answer never came.
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION if patience.may_have_happened => break,
            code => patience.after_code(code, result.error_message.as_deref(), name).await?,
        }
    }
    describe_topic::until_gone(admin, name).await
}

fn request(name: &str, new_form: bool) -> RequestKind {
    let request = DeleteTopicsRequest::default().with_timeout_ms(TIMEOUT_MS);
    RequestKind::DeleteTopics(if new_form {
        request.with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name(name)))])
    } else {
        request.with_topic_names(vec![topic_name(name)])
    })
}

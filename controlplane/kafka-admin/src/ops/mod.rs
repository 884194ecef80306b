//! One file per operation.

pub(crate) mod alter_configs;
pub(crate) mod create_partitions;
pub(crate) mod create_topic;
pub(crate) mod delete_topic;
pub(crate) mod describe_topic;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;

use std::time::Duration;

use kafka_client::{Lane, Request, RequestError, Response};
use kafka_wire::cold::types::TopicName;
use kafka_wire::cold::{RequestKind, ResponseKind, StrBytes};

use crate::driver::Target;
use crate::limits::REQUEST_TIMEOUT;
use crate::{AdminError, KafkaAdmin};

/// What brokers are told about their time for a request.
pub(crate) const TIMEOUT_MS: i32 = REQUEST_TIMEOUT.as_millis() as i32;

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// One request on the control lane, its answer's kind as sent.
pub(crate) async fn ask(
    admin: &KafkaAdmin,
    target: Target,
    request: RequestKind,
) -> Result<ResponseKind, RequestError> {
    ask_within(admin, target, request, REQUEST_TIMEOUT).await
}

pub(crate) async fn ask_within(
    admin: &KafkaAdmin,
    target: Target,
    request: RequestKind,
    timeout: Duration,
) -> Result<ResponseKind, RequestError> {
    match admin.call(target, Lane::Control, Request::Cold(request), timeout).await? {
        Response::Cold(response) => Ok(response),
        Response::Fetch(_) => Err(RequestError::Malformed { why: "a Fetch response to another request".into() }),
    }
}

/// An answer of another kind, or about another topic, than was asked for.
pub(crate) fn unusable(what: &str) -> AdminError {
    AdminError::Unusable { why: format!("{what} says nothing about what was asked") }
}

//! DescribeCluster (KIP-700): the one broker.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::cold::types::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::outcome::Outcome;
use crate::apis::{allowed, message, text};
use crate::limits::NODE_ID;
use crate::state::State;

/// Endpoint types (KIP-919): this broker is asked for brokers, not for controllers.
const BROKERS: i8 = 1;

pub fn handle(state: &State, request: DescribeClusterRequest) -> Outcome {
    if request.endpoint_type != BROKERS {
        return Outcome::answer(refuse(ErrorCode::MISMATCHED_ENDPOINT_TYPE));
    }
    let this = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE_ID))
        .with_host(text(&state.config.host))
        .with_port(i32::from(state.config.port));
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(text(&state.config.cluster_id))
        .with_controller_id(BrokerId(NODE_ID))
        .with_brokers(vec![this]);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = allowed::WITH_CLUSTER;
    }
    Outcome::answer(ResponseKind::DescribeCluster(response))
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    let response = DescribeClusterResponse::default().with_error_code(code.0).with_error_message(message(code));
    ResponseKind::DescribeCluster(response)
}

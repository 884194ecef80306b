//! FindCoordinator: this broker, for every group. There are no transactions.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::find_coordinator_response::Coordinator;
use kafka_wire::cold::types::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::outcome::Outcome;
use crate::apis::{NO_TRANSACTIONS, text};
use crate::limits::NODE_ID;
use crate::state::State;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// From this version one request asks for many keys (KIP-699).
const BATCHED_FROM: i16 = 4;

pub fn handle(state: &State, version: i16, request: FindCoordinatorRequest) -> Outcome {
    match request.key_type {
        GROUP => {}
        TRANSACTION => {
            return Outcome::answer(refused(version, &request, NO_TRANSACTIONS, "there are no transactions here"));
        }
        _ => return Outcome::answer(refuse(version, &request, ErrorCode::INVALID_REQUEST)),
    }
    let host = text(&state.config.host);
    let port = i32::from(state.config.port);
    let response = FindCoordinatorResponse::default();
    Outcome::answer(ResponseKind::FindCoordinator(if version < BATCHED_FROM {
        response.with_node_id(BrokerId(NODE_ID)).with_host(host).with_port(port).with_error_message(None)
    } else {
        let one = |key| {
            let coordinator = Coordinator::default().with_key(key).with_node_id(BrokerId(NODE_ID));
            coordinator.with_host(host.clone()).with_port(port).with_error_message(None)
        };
        response.with_coordinators(request.coordinator_keys.into_iter().map(one).collect())
    }))
}

pub fn refuse(version: i16, request: &FindCoordinatorRequest, code: ErrorCode) -> ResponseKind {
    refused(version, request, code, code.name())
}

fn refused(version: i16, request: &FindCoordinatorRequest, code: ErrorCode, why: &str) -> ResponseKind {
    let why = || Some(text(why));
    let response = FindCoordinatorResponse::default();
    ResponseKind::FindCoordinator(if version < BATCHED_FROM {
        let nobody = response.with_node_id(BrokerId(-1)).with_port(-1);
        nobody.with_error_code(code.0).with_error_message(why())
    } else {
        let one = |key: &_| {
            let nobody = Coordinator::default().with_key(Clone::clone(key)).with_node_id(BrokerId(-1)).with_port(-1);
            nobody.with_error_code(code.0).with_error_message(why())
        };
        response.with_coordinators(request.coordinator_keys.iter().map(one).collect())
    })
}

//! InitProducerId: a producer id nobody had before, epoch 0. Transactional ids are refused: there are no transactions.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use kafka_wire::error_code::ErrorCode;

use crate::apis::NO_TRANSACTIONS;
use crate::apis::outcome::Outcome;
use crate::state::State;

pub fn handle(state: &mut State, request: InitProducerIdRequest) -> Outcome {
    if request.transactional_id.is_some() {
        return Outcome::answer(refuse(NO_TRANSACTIONS));
    }
    match state.catalogue.next_producer_id() {
        Err(refusal) => Outcome::answer(refuse(refusal.code)),
        Ok((id, reserves)) => {
            let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0);
            let point = reserves.then(|| state.persist_catalogue()).flatten();
            let otherwise = refuse(ErrorCode::KAFKA_STORAGE_ERROR);
            Outcome::durable(point, ResponseKind::InitProducerId(answer), otherwise)
        }
    }
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    let nobody = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    ResponseKind::InitProducerId(nobody.with_error_code(code.0))
}

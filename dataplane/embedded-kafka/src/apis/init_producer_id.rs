//! InitProducerId: a producer id nobody had before, epoch 0. Transactional ids are refused: there are no transactions.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use kafka_wire::error_code::ErrorCode;

use crate::apis::NO_TRANSACTIONS;
use crate::broker::{Broker, Outcome};

pub fn handle(broker: &mut Broker, request: InitProducerIdRequest) -> Outcome {
    if request.transactional_id.is_some() {
        return Outcome::Answer(refuse(NO_TRANSACTIONS));
    }
    match broker.catalogue.next_producer_id() {
        Err(refusal) => Outcome::Answer(refuse(refusal.code)),
        Ok((id, reserves)) => {
            let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0);
            let point = reserves.then(|| broker.catalogue.request_sync(broker.syncer())).flatten();
            let otherwise = refuse(ErrorCode::KAFKA_STORAGE_ERROR);
            Outcome::Durable { point, answer: ResponseKind::InitProducerId(answer), otherwise }
        }
    }
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    let nobody = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    ResponseKind::InitProducerId(nobody.with_error_code(code.0))
}

//! Answers that wait for something to become durable.

use std::rc::Rc;

use kafka_wire::messages::produce::ProduceResponse;

use crate::apis::outcome::{ProducePoint, Response};
use crate::apis::produce::not_durable;
use crate::storage::syncer::{SyncPoint, SyncState};
use crate::waiting::slot::{Answer, Slot};

/// One answer.
pub enum Unsynced {
    Whole { slot: Rc<Slot>, point: SyncPoint, answer: Answer, otherwise: Answer },
    Produce { slot: Rc<Slot>, response: ProduceResponse, points: Vec<ProducePoint> },
}

/// All that wait for the disk, in the order they came.
#[derive(Default)]
pub struct AfterSync {
    waiting: Vec<Unsynced>,
}

impl AfterSync {
    /// Keeps an answer; given at once when nothing is pending, for instance because the disk refused before.
    pub fn wait(&mut self, mut unsynced: Unsynced) {
        if !unsynced.try_answer() {
            self.waiting.push(unsynced);
        }
    }

    /// Gives the answers that wait for nothing any more.
    pub fn answer_durable(&mut self) {
        self.waiting.retain_mut(|waiting| !waiting.try_answer());
    }
}

impl Unsynced {
    fn try_answer(&mut self) -> bool {
        match self {
            Unsynced::Whole { slot, point, answer, otherwise } => {
                let answer = match point.state() {
                    SyncState::Pending => return false,
                    SyncState::Durable => answer,
                    SyncState::Failed => otherwise,
                };
                slot.answer(std::mem::replace(answer, Answer::Nothing));
            }
            Unsynced::Produce { slot, response, points } => {
                points.retain(|waiting| still_pending(waiting, response));
                if !points.is_empty() {
                    return false;
                }
                slot.respond(&Response::Produce(std::mem::take(response)));
            }
        }
        true
    }
}

/// A batch the disk refused is one that was not stored.
fn still_pending(waiting: &ProducePoint, response: &mut ProduceResponse) -> bool {
    let state = waiting.point.state();
    if state == SyncState::Failed {
        not_durable(&mut response.topics[waiting.topic].partitions[waiting.partition]);
    }
    state == SyncState::Pending
}

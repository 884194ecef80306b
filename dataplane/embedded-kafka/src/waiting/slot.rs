//! The place of one request in its connection's order of answers.
//!
//! Whoever can answer holds the slot: the handler at once, or a waiting list until the disk, another client or the
//! clock says so. The connection writes the answers of its slots from the front, as far as they are ready.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, ResponseKind};
use kafka_wire::messages::{api_versions, fetch, produce};
use runtime::notify::Notify;
use tracing::error;

use crate::apis::outcome::Response;
use crate::state::partition::FetchKey;

/// What the connection does when a slot is its oldest.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Write these pieces.
    Frame(Vec<Bytes>),
    /// This request has no answer (acks=0).
    Nothing,
    /// Close the connection.
    Close,
}

/// What a fault hook wants done with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    Send,
    Close,
}

/// One request that was read and not answered yet.
pub struct Slot {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    afterwards: Cell<Afterwards>,
    answer: RefCell<Option<Answer>>,
    not_before: Cell<Option<Instant>>,
    /// Key of the fetch that waits under this slot, so that a closed connection can take it back.
    pub fetch: Cell<Option<FetchKey>>,
    ready: Notify,
}

impl Slot {
    /// `ready` is rung whenever a slot of that connection gets its answer.
    pub fn new(api: ApiKey, version: i16, correlation_id: i32, ready: Notify) -> Rc<Slot> {
        Rc::new(Slot {
            api,
            version,
            correlation_id,
            afterwards: Cell::new(Afterwards::Send),
            answer: RefCell::new(None),
            not_before: Cell::new(None),
            fetch: Cell::new(None),
            ready,
        })
    }

    /// A fault hook's wish; before the request is handled.
    pub fn set_afterwards(&self, afterwards: Afterwards) {
        self.afterwards.set(afterwards);
    }

    /// Gives the answer, once.
    pub fn answer(&self, answer: Answer) {
        let mut place = self.answer.borrow_mut();
        if place.is_some() {
            error!(api = %self.api, "a request was answered twice, the second answer is dropped");
            return;
        }
        *place = Some(match self.afterwards.get() {
            Afterwards::Close => Answer::Close,
            Afterwards::Send => answer,
        });
        drop(place);
        self.ready.notify();
    }

    /// Gives the answer as a value.
    pub fn respond(&self, response: &Response) {
        self.answer(self.encode(response));
    }

    /// The frame of an answer. One that cannot be encoded is our bug and closes the connection.
    pub fn encode(&self, response: &Response) -> Answer {
        let id = self.correlation_id;
        match response {
            Response::Produce(response) => {
                Answer::Frame(vec![produce::encode_response_frame(self.version, id, response)])
            }
            Response::Fetch(response) => Answer::Frame(fetch::encode_response_frame(self.version, id, response)),
            Response::ApiVersions(answer) => {
                let (version, response) = &**answer;
                Answer::Frame(vec![api_versions::encode_response_frame(*version, id, response)])
            }
            Response::Cold(response) => self.encode_cold(response),
        }
    }

    fn encode_cold(&self, response: &ResponseKind) -> Answer {
        match cold::encode_response_frame(response, self.api, self.version, self.correlation_id) {
            Ok(frame) => Answer::Frame(vec![frame]),
            Err(err) => {
                error!(api = %self.api, version = self.version, %err, "a response cannot be encoded");
                Answer::Close
            }
        }
    }

    /// Holds the answer back until then; the caller calls `ring` at that time.
    pub fn hold_until(&self, at: Instant) {
        self.not_before.set(Some(at));
    }

    /// Wakes the connection to look at this slot again.
    pub fn ring(&self) {
        self.ready.notify();
    }

    /// Whether the request behind this one may be read before this one is answered. Only produce waits for nothing
    /// but the disk, and its effect on the log is already there.
    pub fn lets_others_pass(&self) -> bool {
        self.api == ApiKey::Produce || self.answer.borrow().is_some()
    }

    /// Takes the answer when it is there and not held back.
    pub fn take(&self, now: Instant) -> Option<Answer> {
        if self.not_before.get().is_some_and(|at| at > now) {
            return None;
        }
        self.answer.borrow_mut().take()
    }
}

//! The way from broker to client: each answer belongs to the oldest request in flight, whose API says whether it passes
//! unread, is read whole and rewritten, or is walked while it passes.
//!
//! Invariants:
//! - Bytes leave in the order they came; an answer of an API without addresses leaves as it was.
//! - An answer whose correlation id is not the oldest request's ends the connection: the two streams are out of step.
//! - Nothing with an address leaves before it has been seen to the end, or walked past.

use bytes::{Bytes, BytesMut};
use kafka_wire::frame::{self, FrameError};
use kafka_wire::limits::FRAME_BYTES_MAX;
use kafka_wire::passing::Passing;
use kafka_wire::shapes::fetch;
use kafka_wire::shapes::new_leader::NODE_ENDPOINTS;
use kafka_wire::{WireError, header};

use crate::apis::{Answer, Elided, Rewriter};
use crate::edit::Front;
use crate::in_flight::{InFlight, Outstanding};
use crate::limits::REWRITTEN_BYTES_MAX;
use crate::rewrite::rewrite;
use crate::shapes::SHARE_FETCH_RESPONSE;
use crate::topology::{Learned, View};

/// Length and correlation id.
pub(crate) const HEAD_BYTES: usize = 8;

/// Why a broker's bytes end a connection. All are the broker's doing, or the network's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("answer {correlation_id} to nothing that was asked")]
    Unasked { correlation_id: i32 },
    #[error("answer {found} where {expected} was to come")]
    OutOfStep { expected: i32, found: i32 },
    #[error("{api} v{version} answer that cannot be read: {err}")]
    Malformed { api: &'static str, version: i16, err: WireError },
}

impl AnswerError {
    /// For the metric.
    pub fn reason(&self) -> &'static str {
        match self {
            AnswerError::Frame(FrameError::Tls) => "tls_from_broker",
            AnswerError::Frame(_) => "frame_length_of_broker",
            AnswerError::Unasked { .. } | AnswerError::OutOfStep { .. } => "answers_out_of_step",
            AnswerError::Malformed { .. } => "malformed_answer",
        }
    }
}

/// What is told on the way.
pub trait Watch {
    /// An answer begins to leave; `bytes` is its frame with the length, as the broker sent it.
    fn answer(&mut self, to: &Outstanding, bytes: usize);
    /// Addresses were hidden in an answer that streamed by.
    fn hidden(&mut self);
}

/// One per connection.
#[derive(Debug, Default)]
pub struct Answers {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Between two answers.
    #[default]
    Head,
    /// `left` bytes pass unread.
    Passing { left: usize },
    /// `left` bytes are walked.
    Walking { left: usize, passing: Box<Passing>, api: &'static str, version: i16 },
}

impl Answers {
    /// Whether the broker is between two answers.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Takes what may leave from the front of `buffer` to `out`. What remains in `buffer` is not whole yet.
    pub fn advance(
        &mut self,
        buffer: &mut BytesMut,
        in_flight: &mut InFlight,
        view: &View,
        out: &mut Vec<Bytes>,
        learned: &mut Vec<Learned>,
        watch: &mut impl Watch,
    ) -> Result<(), AnswerError> {
        let mut front = Front::new(buffer, out);
        loop {
            match &mut self.state {
                State::Passing { left } => {
                    *left -= front.pass(*left);
                    if *left > 0 {
                        return Ok(());
                    }
                    self.state = State::Head;
                }
                State::Walking { left, passing, api, version } => {
                    let rest = front.rest();
                    let here = rest.len().min(*left);
                    let malformed = |err| AnswerError::Malformed { api, version: *version, err };
                    let done = passing.advance(&mut rest[..here], *left).map_err(malformed)?;
                    *left -= front.pass(done);
                    if *left > 0 && !passing.is_done() {
                        return Ok(());
                    }
                    if passing.has_hidden() {
                        watch.hidden();
                    }
                    // What follows a message is nobody's field: it passes.
                    self.state = State::Passing { left: *left };
                }
                State::Head => {
                    let Some((frame_bytes, answer)) = head(front.rest(), in_flight)? else { return Ok(()) };
                    let asked = in_flight.front().expect("looked at by `head`");
                    match answer {
                        Answer::Passes => self.state = State::Passing { left: frame_bytes },
                        Answer::Elided(elided) => {
                            front.pass(HEAD_BYTES);
                            self.state = walk(elided, asked, frame_bytes - HEAD_BYTES);
                        }
                        Answer::Rewritten(rewriter) => {
                            let Some(frame) = held(&mut front, frame_bytes)? else { return Ok(()) };
                            front.put(written(rewriter, asked, &frame, view, learned)?);
                        }
                    }
                    let asked = in_flight.pop().expect("looked at by `head`");
                    watch.answer(&asked, frame_bytes);
                }
            }
        }
    }
}

/// Size of the frame that begins here and what is to be done with it; None while its head is not whole.
pub(crate) fn head(bytes: &[u8], in_flight: &InFlight) -> Result<Option<(usize, Answer)>, AnswerError> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    // A consumer may ask for more than a request may have; it streams through.
    let length = frame::check_length(*length, i32::MAX as usize)?;
    if length < HEAD_BYTES - 4 {
        return Err(FrameError::Negative { length: length as i32 }.into());
    }
    let Some(found) = bytes.get(4..HEAD_BYTES) else { return Ok(None) };
    let found = i32::from_be_bytes(found.try_into().expect("four bytes"));
    let Some(asked) = in_flight.front() else { return Err(AnswerError::Unasked { correlation_id: found }) };
    if asked.correlation_id != found {
        // A TLS record makes a length of 350 MB, which a Fetch answer might have.
        frame::check_length(*bytes.first_chunk().expect("looked at above"), FRAME_BYTES_MAX)?;
        return Err(AnswerError::OutOfStep { expected: asked.correlation_id, found });
    }
    Ok(Some((4 + length, asked.api.answer(asked.version))))
}

fn walk(elided: Elided, asked: &Outstanding, left: usize) -> State {
    let shape = match elided {
        Elided::Fetch => &fetch::RESPONSE,
        Elided::ShareFetch => &SHARE_FETCH_RESPONSE,
    };
    let passing = Box::new(Passing::response(shape, asked.version, Some(NODE_ENDPOINTS)));
    State::Walking { left, passing, api: asked.api.key.name(), version: asked.version }
}

fn held(front: &mut Front<'_>, frame_bytes: usize) -> Result<Option<Bytes>, AnswerError> {
    if frame_bytes > REWRITTEN_BYTES_MAX {
        let (length, limit) = (frame_bytes, REWRITTEN_BYTES_MAX);
        return Err(FrameError::TooLarge { length, limit }.into());
    }
    Ok(front.hold(frame_bytes).map(BytesMut::freeze))
}

fn written(
    rewriter: Rewriter,
    asked: &Outstanding,
    frame: &Bytes,
    view: &View,
    learned: &mut Vec<Learned>,
) -> Result<Bytes, AnswerError> {
    let mut read = || -> Result<Bytes, WireError> {
        let mut body = frame.slice(4..);
        header::decode_response_header(&mut body, asked.api.key, asked.version)?;
        let header_bytes = frame.len() - 4 - body.len();
        rewrite(rewriter, asked.version, frame, header_bytes, view, learned)
    };
    read().map_err(|err| AnswerError::Malformed { api: asked.api.key.name(), version: asked.version, err })
}

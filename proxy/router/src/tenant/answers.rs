//! The way from a broker to a tenant's client: each answer by the rule of its request.
//!
//! ```text
//!   Fetch by id, or about one topic   head replaced, records counted and addresses hidden while they stream by
//!   everything else                   read whole, edited around what it names, sent in pieces
//!   made here                         in its turn
//! ```
//! Invariants:
//! - Answers leave in the order of their requests, those made here among them.
//! - A topic or a group that is not this tenant's does not leave.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_wire::frame::FrameError;
use kafka_wire::passing::Passing;
use kafka_wire::pieces::put_count;
use kafka_wire::record_batch::count::RecordCount;
use kafka_wire::shape::{Visit, Visitor};
use kafka_wire::shapes::new_leader::NODE_ENDPOINTS;
use kafka_wire::{WireError, header, peek};
use model::tenant::Access;

use crate::answers::{AnswerError, HEAD_BYTES, Watch, head};
use crate::edit::{Edits, Front};
use crate::in_flight::{Asked, InFlight, Outstanding};
use crate::limits::REWRITTEN_BYTES_MAX;
use crate::rewrite::text;
use crate::tenant::found::{TopicId, find_and};
use crate::tenant::ids::TopicIds;
use crate::tenant::rename::{Refused, id, put_refused, throttle};
use crate::tenant::requests::check_end;
use crate::tenant::rules::{self, Rule, Way};
use crate::tenant::session::Session;
use crate::tenant::whole::{self, Used};
use crate::topology::{Learned, View};

/// First version of Fetch with addresses of new leaders in it (KIP-951).
const ENDPOINTS_FROM: i16 = 16;

/// What is told and asked on the way.
pub trait Desk: Watch {
    /// Milliseconds a client is to wait for the limits of its app.
    fn throttle_ms(&mut self, asked: &Asked, session: &Session) -> i32;
    /// Bytes that a client is about to get: they count before it is told to wait. Of several topics there is no name.
    fn gives(&mut self, session: &Session, topic: &Arc<str>, bytes: u64);
    /// Records that a client gets, of each topic. Of several without limits it is one sum, under no name.
    fn fetched(&mut self, session: &Session, topics: &[Used], bytes: u64);
    /// How many bytes may be held of a frame now; false: wait.
    fn try_hold(&mut self, bytes: usize) -> bool;
}

/// What an answer meets.
pub struct Office<'a> {
    pub session: &'a Session,
    pub ids: &'a mut TopicIds,
    pub view: &'a View,
    pub learned: &'a mut Vec<Learned>,
}

/// What a connection has to wait for before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Bytes,
    /// Memory for a large frame.
    Memory,
}

/// One per connection.
#[derive(Debug, Default)]
pub struct TenantAnswers {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Between two answers.
    #[default]
    Head,
    /// Records stream by.
    Records { left: usize, passing: Box<Passing>, version: i16, topic: Option<Arc<str>> },
    /// What follows a message is nobody's field: it passes.
    Rest { left: usize },
}

impl TenantAnswers {
    /// Whether the broker is between two answers.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Takes what may leave from the front of `buffer`, and what was answered here, to `out`.
    pub fn advance(
        &mut self,
        buffer: &mut BytesMut,
        in_flight: &mut InFlight,
        office: &mut Office<'_>,
        out: &mut Vec<Bytes>,
        desk: &mut impl Desk,
    ) -> Result<Turn, AnswerError> {
        let mut front = Front::new(buffer, out);
        loop {
            match &mut self.state {
                State::Rest { left } => {
                    *left -= front.pass(*left);
                    if *left > 0 {
                        return Ok(Turn::Bytes);
                    }
                    self.state = State::Head;
                }
                State::Records { left, passing, version, topic } => {
                    let rest = front.rest();
                    let here = rest.len().min(*left);
                    let malformed = |err| AnswerError::Malformed { api: "Fetch", version: *version, err };
                    let done = passing.advance(&mut rest[..here], *left).map_err(malformed)?;
                    *left -= front.pass(done);
                    if *left > 0 && !passing.is_done() {
                        return Ok(Turn::Bytes);
                    }
                    check_end(passing).map_err(malformed)?;
                    if passing.has_hidden() {
                        desk.hidden();
                    }
                    let name = topic.take().unwrap_or_default();
                    let used = Used { name, has_limits: false, messages: passing.record_count(), bytes: 0 };
                    desk.fetched(office.session, &[used], 0);
                    self.state = State::Rest { left: *left };
                }
                State::Head => {
                    while let Some(answer) = in_flight.take_answer() {
                        let asked = in_flight.pop().expect("its answer was there");
                        desk.answer(&asked, answer.len());
                        front.put_behind(answer);
                    }
                    let Some((frame_bytes, _)) = head(front.rest(), in_flight)? else { return Ok(Turn::Bytes) };
                    let asked = in_flight.front().expect("looked at by `head`");
                    let rule = rules::of(asked.api.key.key()).expect("only what has a rule was passed on");
                    let begun = match rule.way {
                        Way::Fetch => self.begin_records(rule, asked, frame_bytes, &mut front, office, desk)?,
                        _ => Begun::No,
                    };
                    match begun {
                        Begun::Streams => {}
                        Begun::Waits => return Ok(Turn::Bytes),
                        Begun::No => {
                            check_held(frame_bytes)?;
                            let is_here = front.rest().len() >= frame_bytes;
                            if !is_here && !desk.try_hold(frame_bytes) {
                                return Ok(Turn::Memory);
                            }
                            let Some(frame) = front.hold_large(frame_bytes) else { return Ok(Turn::Bytes) };
                            put_whole(rule, asked, &frame.freeze(), &mut front, office, desk)?;
                        }
                    }
                    let asked = in_flight.pop().expect("looked at by `head`");
                    desk.answer(&asked, frame_bytes);
                }
            }
        }
    }

    /// A Fetch answer whose end need not be waited for.
    fn begin_records(
        &mut self,
        rule: &'static Rule,
        asked: &Outstanding,
        frame_bytes: usize,
        front: &mut Front<'_>,
        office: &mut Office<'_>,
        desk: &mut impl Desk,
    ) -> Result<Begun, AnswerError> {
        let version = asked.version;
        let malformed = |err| AnswerError::Malformed { api: "Fetch", version, err };
        let here = front.rest().len().min(frame_bytes);
        let bytes = &front.rest()[4..here];
        let head = match peek::fetch_answer_head(bytes, version) {
            Ok(head) => head,
            Err(WireError::Truncated { .. }) if here < frame_bytes => return Ok(Begun::Waits),
            Err(err) => return Err(malformed(err)),
        };
        let by_id = version >= peek::FETCH_TOPIC_ID_FROM;
        // Whose limits are drawn from has to be told apart where topics have their own.
        let is_apart = head.topic_count > 1 && office.session.limited().next().is_some();
        if is_apart || (!by_id && head.topic_count > 1) {
            return Ok(Begun::No);
        }
        let message = &rule.response;
        let flexible = version >= message.shape.flexible_from;
        let refused: &[Refused] = asked.asked.as_ref().map_or(&[], |asked| &asked.refused);
        let mut edits = Edits::default();
        if !refused.is_empty() {
            let mut topics = BytesMut::new();
            put_count(&mut topics, flexible, head.topic_count + refused.len());
            let array = message.topics[0].array;
            refused.iter().for_each(|refused| put_refused(message, version, array, refused, &mut topics));
            edits.bytes(head.topics.clone(), topics);
        }
        let mut end = head.topics.end;
        let tenant = office.session.tenant();
        let topic: Option<Arc<str>> = match (&head.topic, by_id) {
            (None, _) => None,
            (Some(topic_at), true) => {
                let id: TopicId = bytes[topic_at.clone()].try_into().expect("an id has 16 bytes");
                office.ids.name(&id).and_then(|physical| tenant.shown(physical)).map(|shown| shown.as_ref().into())
            }
            (Some(topic_at), false) => {
                let physical = text(bytes, topic_at, flexible).unwrap_or_default();
                let Some(shown) = tenant.shown(physical) else { return Ok(Begun::No) };
                edits.string(topic_at.clone(), flexible, &shown);
                end = topic_at.end;
                Some(shown.as_ref().into())
            }
        };
        desk.gives(office.session, topic.as_ref().unwrap_or(&Arc::default()), frame_bytes as u64);
        let throttle_ms = asked.asked.as_ref().map_or(0, |asked| desk.throttle_ms(asked, office.session));
        throttle(bytes, Some(&head.throttle_time_ms), throttle_ms, &mut edits);
        let start = front.hold(4 + end).expect("it is there");
        let hide = (version >= ENDPOINTS_FROM).then_some(NODE_ENDPOINTS);
        let mut passing = Box::new(Passing::response(message.shape, version, hide));
        let left = frame_bytes - HEAD_BYTES;
        let done = passing.advance(&mut BytesMut::from(&start[HEAD_BYTES..]), left).map_err(malformed)?;
        if done != start.len() - HEAD_BYTES {
            let err = WireError::Invalid { what: "head of a Fetch answer", offset: done, found: start.len() as i64 };
            return Err(malformed(err));
        }
        let too_large = FrameError::TooLarge { length: frame_bytes, limit: i32::MAX as usize };
        front.put(edits.apply_to_start(&start.freeze(), frame_bytes).ok_or(too_large)?);
        self.state = State::Records { left: left - done, passing, version, topic };
        Ok(Begun::Streams)
    }
}

enum Begun {
    Streams,
    Waits,
    /// It has to be read whole.
    No,
}

/// Whether a frame of this size may be waited for as a whole at all.
fn check_held(frame_bytes: usize) -> Result<(), AnswerError> {
    match frame_bytes > REWRITTEN_BYTES_MAX {
        true => Err(FrameError::TooLarge { length: frame_bytes, limit: REWRITTEN_BYTES_MAX }.into()),
        false => Ok(()),
    }
}

fn put_whole(
    rule: &'static Rule,
    outstanding: &Outstanding,
    frame: &Bytes,
    front: &mut Front<'_>,
    office: &mut Office<'_>,
    desk: &mut impl Desk,
) -> Result<(), AnswerError> {
    let version = outstanding.version;
    let malformed = |err| AnswerError::Malformed { api: rule.key.name(), version, err };
    // Before it is told to wait.
    if rule.way == Way::Fetch {
        let topics = fetched(rule, version, frame, office.session, office.ids).map_err(malformed)?;
        desk.fetched(office.session, &topics, frame.len() as u64);
    }
    let throttle_ms = outstanding.asked.as_ref().map_or(0, |asked| desk.throttle_ms(asked, office.session));
    let whole = whole::Answer { rule, outstanding, frame, session: office.session, throttle_ms, view: office.view };
    let (edits, body_at) = whole.edits(office.ids, office.learned).map_err(malformed)?;
    edits.splice(frame, body_at, front.out());
    Ok(())
}

/// What a whole Fetch answer brings of each topic.
fn fetched(
    rule: &'static Rule,
    version: i16,
    frame: &Bytes,
    session: &Session,
    ids: &TopicIds,
) -> Result<Vec<Used>, WireError> {
    struct Records(Vec<Visit>);
    impl Visitor for Records {
        fn field(&mut self, visit: Visit) {
            if visit.field.name == "records" {
                self.0.push(visit);
            }
        }
    }
    let mut body = frame.slice(4..);
    header::decode_response_header(&mut body, rule.key, version)?;
    let flexible = version >= rule.response.shape.flexible_from;
    let mut records = Records(Vec::new());
    let found = find_and(&rule.response, version, &body, &mut records)?;
    let tenant = session.tenant();
    let topics = found.arrays.iter().flat_map(|array| &array.found);
    Ok(topics
        .map(|topic| {
            let physical = id(&body, topic).and_then(|id| ids.name(&id)).or(text(&body, &topic.name, flexible));
            let name: Arc<str> = physical.and_then(|name| tenant.shown(name)).unwrap_or_default().into();
            let mut count = RecordCount::default();
            let from = records.0.partition_point(|visit| visit.range.start < topic.whole.start);
            for visit in records.0[from..].iter().take_while(|visit| visit.range.start < topic.whole.end) {
                count.begin();
                count.pass(kafka_wire::pieces::bytes(&body[visit.range.clone()], flexible).unwrap_or_default());
            }
            let has_limits = tenant.topic(&name, Access::Read).is_ok_and(|topic| topic.limits.has_rates());
            Used { name, has_limits, messages: count.count(), bytes: topic.whole.len() as u64 }
        })
        .collect())
}

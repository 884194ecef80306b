//! The body of a batch on its way into its [`Sink`]: bytes in, records handed over.
//!
//! [`Feed::take`] is given whatever has arrived and stops in the middle of it when there is no room: too many records
//! unanswered, the memory budget spent, the client's queue or the store full, receipts not read. The bytes stay where they are and
//! the connection does not read on. Room comes with outcomes, which wake the connection, or with time, for which
//! [`Session::retry_soon`] does. A wait ends after the request's timeout; from then on records are refused with 503
//! until one gets through.

use crate::access::quota::{self, Meters};
use crate::access::standing::Standing;
use crate::codes;
use crate::env::Env;
use crate::publish::batch::session::{Receiving, Session, State};
use crate::publish::batch::sink::{Burst, Input, Sink};
use crate::publish::format::{BatchParser, RecordError};
use crate::publish::{Around, destination};
use crate::refusal::Refusal;
use model::ids::Generation;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Whether the body may be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Open,
    /// What was given is not used up. Come again when the connection is woken.
    Blocked,
}

/// The side of a batch request that takes its body.
pub struct Feed {
    session: Rc<Session>,
    parser: BatchParser,
    standing: Standing,
    meters: Meters,
    /// Of the snapshot the request was last admitted under.
    generation: Generation,
    sink: Sink,
    /// A wait for room ends after this.
    timeout: Duration,
    /// Since when nothing gets through.
    stalled_since: Option<Instant>,
    /// The parser was told that the body is over.
    ended: bool,
    /// Nothing more is stored; what still comes is thrown away.
    broken_since: Option<Instant>,
    drained_bytes: u64,
}

impl Feed {
    pub fn new(
        session: Rc<Session>,
        parser: BatchParser,
        standing: Standing,
        meters: Meters,
        generation: Generation,
        sink: Sink,
        timeout: Duration,
    ) -> Feed {
        Feed {
            session,
            parser,
            standing,
            meters,
            generation,
            sink,
            timeout,
            stalled_since: None,
            ended: false,
            broken_since: None,
            drained_bytes: 0,
        }
    }

    /// Receipts flow while records arrive.
    pub fn streams(&self) -> bool {
        self.session.receiving == Receiving::WhileSending
    }

    /// The connection may be used after this request.
    pub fn keeps_alive(&self) -> bool {
        self.session.keep_alive() && self.broken_since.is_none()
    }

    /// Since when the body is only thrown away.
    pub fn broken_since(&self) -> Option<Instant> {
        self.broken_since
    }

    pub fn drained_bytes(&self) -> u64 {
        self.drained_bytes
    }

    /// Asks again whether the caller may, if there is a new snapshot; if not, nothing after this is stored. True when
    /// nothing of the request was taken yet, so that it can be answered without its body.
    pub fn recheck(&mut self, around: Around<'_>, now: Instant) -> bool {
        let Around { env, access, clusters, .. } = around;
        let snapshot = access.borrow_snapshot();
        let generation = snapshot.generation;
        if self.broken_since.is_some() || std::mem::replace(&mut self.generation, generation) == generation {
            return false;
        }
        let granted = self.standing.check(&snapshot).map_err(Refusal::from);
        let found = granted.and_then(|grant| Ok((destination(clusters, &grant, now)?, access.meters(env, &grant))));
        let refusal = match found {
            Ok((destination, meters))
                if self.sink.follows_the_topic() || destination.route == self.session.destination.route =>
            {
                self.meters = meters;
                return false;
            }
            Ok(_) => Refusal::new(codes::TOPIC_MOVED, "the topic moved to another cluster meanwhile"),
            Err(refusal) => refusal,
        };
        let message = format!("{}; nothing of what follows was stored", refusal.message);
        self.fail(env, Refusal { message, ..refusal }, now);
        self.session.state.borrow().refused.is_some()
    }

    /// Goes on once the shard's other tasks had their turn.
    pub fn go_on_next_turn(&self) {
        self.session.wake_next_turn();
    }

    /// Takes records off the front of `input`, as many as there is room for.
    pub fn take(&mut self, around: Around<'_>, input: &mut &[u8], now: Instant) -> Flow {
        if self.broken_since.is_some() {
            self.drained_bytes += input.len() as u64;
            *input = &[];
            return Flow::Open;
        }
        self.burst(around, input, false, now)
    }

    /// The body has ended: its last record, then the answer. Call it again after [`Flow::Blocked`].
    pub fn end(&mut self, around: Around<'_>, now: Instant) -> Flow {
        if self.broken_since.is_none() && self.burst(around, &mut &[][..], true, now) == Flow::Blocked {
            return Flow::Blocked;
        }
        self.session.end(around.env, around.publishing, now);
        Flow::Open
    }

    /// The body cannot be followed any further, for a reason outside its records. Nothing after this is stored.
    pub fn fail(&mut self, env: &Env, refusal: Refusal, now: Instant) {
        if self.broken_since.replace(now).is_some() {
            return;
        }
        let state = &mut *self.session.state.borrow_mut();
        state.close = true;
        // What waits for room is settled by giving it up.
        let why = "nothing was stored: it waited for room when the batch broke off";
        self.sink.give_up(env, state, &RecordError::new(codes::OVERLOADED, why));
        if state.receipts.record_count() == 0 {
            state.refused = Some(refusal);
        } else {
            state.refuse(env, &RecordError::from(refusal));
        }
    }

    /// Nothing more will come, or be looked at: answers what there is.
    pub fn cut(&mut self, around: Around<'_>, now: Instant) {
        debug_assert!(self.broken_since.is_some(), "only a broken body ends before its end");
        self.session.end(around.env, around.publishing, now);
    }

    /// The client is gone.
    pub fn abandon(&mut self, around: Around<'_>) {
        let env = around.env;
        let gone = RecordError::new(codes::OVERLOADED, "the client is gone");
        self.sink.give_up(env, &mut self.session.state.borrow_mut(), &gone);
        self.session.abandon(env, around.publishing);
    }

    /// One burst of handing over: the record that waits, then what `input` and the end of the body give.
    fn burst(&mut self, around: Around<'_>, input: &mut &[u8], at_end: bool, now: Instant) -> Flow {
        let Around { env, clusters, .. } = around;
        let session = Rc::clone(&self.session);
        let state = &mut *session.state.borrow_mut();
        state.starved = !state.has_room() && !input.is_empty();
        if state.starved {
            return Flow::Blocked;
        }
        let given_up = self.stalled_since.is_some_and(|since| now >= since + self.timeout);
        let offered = input.len();
        if let Err(refused) = state.reservation.grow(offered) {
            if self.stalled_since.is_none() {
                env.metrics.budget_refused(refused.scope);
            }
            if !given_up {
                return self.stall(&session, state, now);
            }
            let refusal = Refusal::overloaded(&refused.to_string());
            return self.refuse_all(env, &session, state, input, refusal, now);
        }
        let mut burst = Burst {
            around,
            state,
            destination: &session.destination,
            meters: &self.meters,
            tag: session.tag(),
            now,
            now_ms: env.wall_clock_ms(),
            given_up,
            accepted: 0,
            got_through: false,
        };
        let taken = Input { parser: &mut self.parser, bytes: input, at_end, ended: &mut self.ended };
        let spent = self.sink.pass(&mut burst, taken);
        let Burst { accepted, got_through, .. } = burst;
        if accepted > 0 {
            state.handed_over(offered - input.len());
        }
        if got_through {
            self.stalled_since = None;
            self.sink.wake(clusters, &session.destination);
        }
        self.settle_burst(&session, state, now);
        if self.sink.waits() || (spent.is_some() && !given_up) {
            return self.stall(&session, state, now);
        }
        if let Some(exhausted) = spent {
            return self.refuse_all(env, &session, state, input, quota::refuse(env, &exhausted), now);
        }
        state.starved = !input.is_empty();
        if state.starved { Flow::Blocked } else { Flow::Open }
    }

    /// After records were taken: what is held, whether the body still makes sense, whether the answer begins.
    /// False when not even that is covered by the budget.
    fn settle_burst(&mut self, session: &Rc<Session>, state: &mut State, now: Instant) -> bool {
        state.set_carried(self.parser.held_bytes());
        let covered = state.recharge();
        if self.parser.is_broken() && self.broken_since.is_none() {
            self.broken_since = Some(now);
        }
        session.begin_streaming(state);
        covered
    }

    /// Waits for room that no outcome of this request may bring.
    fn stall(&mut self, session: &Rc<Session>, state: &mut State, now: Instant) -> Flow {
        self.stalled_since.get_or_insert(now);
        state.starved = true;
        session.retry_soon();
        Flow::Blocked
    }

    /// Waited long enough: every record of `input` gets the same refusal.
    fn refuse_all(
        &mut self,
        env: &Env,
        session: &Rc<Session>,
        state: &mut State,
        input: &mut &[u8],
        refusal: Refusal,
        now: Instant,
    ) -> Flow {
        let overloaded = RecordError::from(refusal);
        self.sink.give_up(env, state, &overloaded);
        while let Some(parsed) = self.parser.next(input) {
            let error = parsed.err().unwrap_or_else(|| overloaded.clone());
            state.close |= error.fatal;
            state.refuse(env, &error);
        }
        if !self.settle_burst(session, state, now) && self.broken_since.is_none() {
            // There is no memory for the receipts either, of which a body may ask a million: it ends here.
            let message = format!("{}; nothing of what follows was stored", overloaded.message).into();
            self.broken_since = Some(now);
            state.close = true;
            state.refuse(env, &RecordError { message, ..overloaded });
        }
        Flow::Open
    }
}

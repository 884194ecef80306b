//! Where the records of a batch go: into Kafka, or among the delayed jobs. What is the same for both is in
//! [`super::feed`] and [`super::session`].

use crate::access::quota::Meters;
use crate::codes;
use crate::env::Env;
use crate::kafka::Clusters;
use crate::kafka::destination::Destination;
use crate::limits::BATCH_UNANSWERED_RECORDS_MAX;
use crate::publish::Around;
use crate::publish::batch::session::State;
use crate::publish::batch::to_jobs::ToJobs;
use crate::publish::batch::to_kafka::ToKafka;
use crate::publish::format::{BatchParser, Parsed, ParsedRecord, RecordError};
use crate::timestamp;
use kafka_wire::record_batch::RecordRef;
use model::Side;
use model::quota::Exhausted;
use std::time::Instant;

/// See the module.
pub enum Sink {
    Kafka(ToKafka),
    Jobs(ToJobs),
}

/// One burst of records on their way into a sink.
pub(super) struct Burst<'a> {
    pub around: Around<'a>,
    pub state: &'a mut State,
    pub destination: &'a Destination,
    pub meters: &'a Meters,
    /// Of the session.
    pub tag: u64,
    pub now: Instant,
    pub now_ms: i64,
    /// Waited long enough for room: that there is none is the record's error now.
    pub given_up: bool,
    /// Records that have become unanswered.
    pub accepted: u64,
    /// Something went on that may have waited.
    pub got_through: bool,
}

/// The bytes of a burst.
pub(super) struct Input<'f, 'b, 'i> {
    pub parser: &'f mut BatchParser,
    pub bytes: &'b mut &'i [u8],
    /// The body ends with them.
    pub at_end: bool,
    /// The parser was told so.
    pub ended: &'f mut bool,
}

/// A sink at work in one burst.
pub(super) trait Taker {
    /// Hands over what waits, if there is room now.
    fn take_waiting(&mut self, burst: &mut Burst<'_>);
    /// Takes a record, whose receipt it opens; afterwards it may wait.
    fn take(&mut self, burst: &mut Burst<'_>, record: ParsedRecord<'_>);
    /// Hands over what was put together in this burst.
    fn flush(&mut self, burst: &mut Burst<'_>);
    /// Something waits for room; no further record is taken.
    fn waits(&self) -> bool;
}

impl Sink {
    /// Takes records off the input while there is room; what is spent of the caller's limits when that is why it stopped.
    pub(super) fn pass(&mut self, burst: &mut Burst<'_>, input: Input<'_, '_, '_>) -> Option<Exhausted> {
        match self {
            Sink::Kafka(sink) => {
                let cluster = burst.around.clusters.at(burst.destination.route.cluster);
                let mut client = cluster.client.borrow_mut();
                pass(&mut sink.at_work(&mut client, cluster, burst), burst, input)
            }
            Sink::Jobs(sink) => pass(sink, burst, input),
        }
    }

    /// Something waits for room.
    pub(super) fn waits(&self) -> bool {
        match self {
            Sink::Kafka(sink) => sink.waits(),
            Sink::Jobs(sink) => sink.waits(),
        }
    }

    /// Gives up what waits.
    pub(super) fn give_up(&mut self, env: &Env, state: &mut State, why: &RecordError) {
        match self {
            Sink::Kafka(sink) => sink.give_up(env, state, why),
            Sink::Jobs(sink) => sink.give_up(env, state, why),
        }
    }

    /// Something was handed over.
    pub(super) fn wake(&self, clusters: &Clusters, destination: &Destination) {
        match self {
            Sink::Kafka(_) => clusters.at(destination.route.cluster).wake(),
            // The store's own threads are.
            Sink::Jobs(_) => {}
        }
    }

    /// Whether its records get to where the topic is by then, when it moves.
    pub(super) fn follows_the_topic(&self) -> bool {
        matches!(self, Sink::Jobs(_))
    }
}

fn pass(taker: &mut impl Taker, burst: &mut Burst<'_>, input: Input<'_, '_, '_>) -> Option<Exhausted> {
    let Input { parser, bytes, at_end, ended } = input;
    taker.take_waiting(burst);
    let mut spent = None;
    while !taker.waits() && burst.state.unanswered < BATCH_UNANSWERED_RECORDS_MAX {
        if let Err(exhausted) = burst.meters.check(burst.around.env, Side::Publish, 0, burst.now) {
            spent = (!bytes.is_empty()).then_some(exhausted);
            break;
        }
        let Some(parsed) = parser.next(bytes) else { break };
        burst.pass(taker, parsed);
    }
    if at_end && !taker.waits() && !*ended {
        *ended = true;
        if let Some(parsed) = parser.end() {
            burst.pass(taker, parsed);
        }
    }
    taker.flush(burst);
    spent
}

impl Burst<'_> {
    fn pass(&mut self, taker: &mut impl Taker, parsed: Parsed<'_>) {
        match parsed {
            Ok(record) => taker.take(self, record),
            Err(error) => {
                self.state.close |= error.fatal;
                self.refuse(&error);
            }
        }
    }

    /// Whether a record's timestamp is in milliseconds, if it has one.
    pub fn right_timestamp(&self, record: &ParsedRecord<'_>) -> Result<(), RecordError> {
        match record.timestamp_ms.map(|given| timestamp::check(given, self.now_ms)) {
            Some(Err(err)) => Err(RecordError::new(codes::TIMESTAMP_UNIT, err.to_string())),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// A record of this weight has become unanswered.
    pub fn accept(&mut self, bytes: usize) {
        self.state.unanswered += 1;
        self.accepted += 1;
        self.meters.charge(self.around.env, Side::Publish, 1, bytes, self.now);
    }

    /// A record is refused that has no receipt yet.
    pub fn refuse(&mut self, error: &RecordError) {
        self.state.refuse(self.around.env, error);
    }

    /// Records are refused that have receipts and are not unanswered.
    pub fn fail(&mut self, first: u64, count: u64, error: &RecordError) {
        self.state.receipts.failed_run(first, count, error);
        self.around.env.metrics.batch_failed(count);
    }
}

/// Value, key and headers of a record, in bytes.
pub(super) fn weight(record: &RecordRef<'_>) -> usize {
    let headers = record.headers.iter().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len));
    record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len) + headers.sum::<usize>()
}

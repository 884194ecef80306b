//! One partition's batches for one kind of acknowledgement, and where they wait.
//!
//! A queue waits in one place at a time; only [`Queue::move_to`] changes it, and it puts the queue on the list that
//! the place's end looks at. Lists may hold entries of the past: an entry counts only while the queue's place names
//! that list.
//!
//! | Place | Events that end it |
//! |---|---|
//! | Idle | a record is appended |
//! | Ready | the flush that follows |
//! | Pending at a broker | its connection has room; metadata or a broker's hint names another leader |
//! | InFlight | the answer; the end of the connection, at the latest `request_timeout` after the send |
//! | NoLeader | metadata or a broker's hint names a leader; metadata is asked for as long as a queue waits here |
//! | NoProducer | a producer id is granted, or refused: then batches go without; one is asked for meanwhile |
//! | Delayed | its time comes |
//!
//! Whatever the place, a record's deadline takes it out (`client/expiry.rs`), and a queue left without batches comes to
//! rest at its place's end. `tests/client/places.rs` proves each row.
//!
//! Invariants:
//! - At most one batch of a queue is in flight, the first.
//! - A queue never counts sequences anew under a producer id it has used: whoever takes its identity burns it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::batch::Batch;
use crate::producer::Identity;
use crate::types::Acks;

/// One queue: a partition of a topic, for one kind of acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct QueueId {
    pub topic: u32,
    pub partition: u32,
    pub acks: u8,
}

impl QueueId {
    pub fn acks(self) -> Acks {
        ACKS[self.acks as usize]
    }
}

pub(crate) const ACKS: [Acks; 3] = [Acks::All, Acks::Leader, Acks::None];

pub(crate) fn acks_index(acks: Acks) -> u8 {
    match acks {
        Acks::All => 0,
        Acks::Leader => 1,
        Acks::None => 2,
    }
}

/// Where a queue waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// No batch.
    Idle,
    /// To be looked at in the next flush.
    Ready,
    /// At its leader, for room on the connection.
    Pending { broker: u32 },
    /// First batch sent, answer outstanding.
    InFlight,
    /// For a leader.
    NoLeader,
    /// For a producer id.
    NoProducer,
    /// For a retry's time.
    Delayed { until: Instant },
}

/// The lists of waiting queues.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// To look at in the next flush.
    pub ready: Vec<QueueId>,
    pub no_leader: Vec<QueueId>,
    pub no_producer: Vec<QueueId>,
    pub delayed: BinaryHeap<Reverse<(Instant, QueueId)>>,
    /// By broker and acks.
    pending: Vec<[VecDeque<QueueId>; ACKS.len()]>,
}

impl Places {
    /// Queues that wait at a broker for one kind of acknowledgement, longest first.
    pub fn pending(&mut self, broker: u32, acks: usize) -> &mut VecDeque<QueueId> {
        let broker = broker as usize;
        if self.pending.len() <= broker {
            self.pending.resize_with(broker + 1, Default::default);
        }
        &mut self.pending[broker][acks]
    }

    pub fn is_pending_at(&self, broker: u32, acks: usize) -> bool {
        self.pending.get(broker as usize).is_some_and(|lists| !lists[acks].is_empty())
    }

    /// Brokers that a queue ever waited at have an index below this.
    pub fn broker_count(&self) -> u32 {
        self.pending.len() as u32
    }

    pub fn all_pending_at(&self, broker: u32) -> impl Iterator<Item = QueueId> {
        self.pending.get(broker as usize).into_iter().flatten().flatten().copied()
    }
}

/// What a leader says that does not take a queue's batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// From then on it counts as being away, whenever it is not being tried.
    pub counts_from: Instant,
    /// The last answer of the kind: one that is long past says nothing about the next.
    pub last_at: Instant,
}

/// Batches of one queue, oldest first.
#[derive(Debug)]
pub(crate) struct Queue {
    pub batches: VecDeque<Batch>,
    place: Place,
    /// Position in `Accumulator::occupied`; meaningless while there is no batch.
    pub occupied_at: u32,
    /// Producer id in use (acks=all); None before the first and after one was burnt.
    identity: Option<Identity>,
    /// Producer ids older than this generation are burnt for this partition.
    generation_min: u32,
    /// Sequence of the first record of the first batch.
    pub sequence_next: i32,
    /// Failures since the last success, for the backoff.
    pub failures: u32,
    /// What last went wrong, for the outcome of records that expire.
    pub problem: Option<Arc<str>>,
    /// Its leader refuses it; None when it does not.
    pub refusal: Option<Refusal>,
    /// Capacity of the next batch's buffer: a little more than the last ones used.
    pub capacity_hint: usize,
}

impl Queue {
    pub fn new(generation_min: u32) -> Queue {
        Queue {
            batches: VecDeque::new(),
            place: Place::Idle,
            occupied_at: 0,
            identity: None,
            generation_min,
            sequence_next: 0,
            failures: 0,
            problem: None,
            refusal: None,
            capacity_hint: 0,
        }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// The one way to another place. `queue_id` is this queue's own.
    pub fn move_to(&mut self, place: Place, queue_id: QueueId, places: &mut Places) {
        self.place = place;
        match place {
            Place::Idle | Place::InFlight => {}
            Place::Ready => places.ready.push(queue_id),
            Place::Pending { broker } => places.pending(broker, queue_id.acks as usize).push_back(queue_id),
            Place::NoLeader => places.no_leader.push(queue_id),
            Place::NoProducer => places.no_producer.push(queue_id),
            Place::Delayed { until } => places.delayed.push(Reverse((until, queue_id))),
        }
    }

    /// The first batch is out.
    pub fn is_in_flight(&self) -> bool {
        self.place == Place::InFlight
    }

    /// Nothing waits here.
    pub fn is_at_rest(&self) -> bool {
        self.place == Place::Idle && self.batches.is_empty()
    }

    /// A batch is out, or leaves with the next flush, and nothing went wrong lately.
    pub fn is_on_its_way(&self) -> bool {
        self.failures == 0 && matches!(self.place, Place::Ready | Place::Pending { .. } | Place::InFlight)
    }

    /// Refused for long enough, and not tried before a later time.
    pub fn is_refused(&self, now: Instant) -> bool {
        self.refusal.is_some_and(|refusal| refusal.counts_from <= now)
            && matches!(self.place, Place::Delayed { until } if until > now)
    }

    /// What was sent may be stored, and nobody knows yet.
    pub fn is_unsettled(&self) -> bool {
        self.is_in_flight() || self.batches.front().is_some_and(|first| first.maybe_stored)
    }

    /// The producer id in use.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Producer ids of at least this generation may be taken.
    pub fn generation_min(&self) -> u32 {
        self.generation_min
    }

    /// Begins under a producer id that was never used here.
    pub fn take_identity(&mut self, identity: Identity) {
        assert!(identity.generation >= self.generation_min, "{identity:?} was burnt, {}", self.generation_min);
        self.identity = Some(identity);
        self.sequence_next = 0;
    }

    /// The next batch of this partition goes under another producer id.
    pub fn burn_identity(&mut self) {
        self.generation_min = self.generation_burnt();
        self.identity = None;
        self.sequence_next = 0;
    }

    /// What `generation_min` must become for whoever comes after this queue.
    pub fn generation_burnt(&self) -> u32 {
        self.identity.map_or(0, |identity| identity.generation + 1).max(self.generation_min)
    }
}

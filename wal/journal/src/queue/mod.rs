//! The queue on the log: records handed over until somebody takes them, each stream in its order.
//!
//! ```text
//!   accept ──▶ appended ──▶ waiting ──take──▶ taken ──settle──▶ done (delivered, dropped)
//!                 │ refused      ▲              │ give back        receipt kept for a while
//!                 ▼              └──────────────┤
//!               done                            └─park──▶ parked ──unpark──▶ waiting, or settle
//! ```
//!
//! A stream is a number for a name ([`Name`]: whose it is, what it is about, which lane of that). Its entries are numbered
//! without a gap when they are accepted, and the log has them in that order. What the queue knows of an entry is its number
//! and its place; consecutive entries of one block are one [`Extent`], so a backlog costs memory by the block, not by the
//! record.
//!
//! Pure: no disk, no thread, no clock. Whoever owns it appends the bodies it is given to the log, tells it what was
//! committed ([`Queue::apply`]), and after a crash tells it the same again from the last checkpoint on: the state is a
//! matter of numbers, so what is told twice changes nothing.
//!
//! Invariants (`tests`, against a twin):
//! - An entry that was committed is waiting, taken or parked until it is settled, whatever is lost that was not committed.
//! - Entries of a stream are taken in the order of their numbers; what is given back comes first.
//! - What was taken stays where it was taken from until it is settled, parked or given back, whatever is moved.
//! - A segment is let go ([`Queue::is_needed`]) only when every entry in it is settled, and durably so: by a checkpoint.

mod bodies;
mod budget;
mod checkpoint;
mod ranges;
mod replay;
mod stream;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};

pub use bodies::{Kind, Malformed};
pub use budget::{Budget, Over, Usage};
pub use replay::{ReplayError, Replayed, replay};
pub use stream::{Parked, Receipt};

use budget::Ledger;
use stream::Stream;

use crate::limits::{RECEIPT_RANGES_MAX, STREAMS_MAX};

/// Whose entries, about what, in which lane of it: for handoff an app, `cluster/physical topic`, a partition (−1: chosen when
/// it is delivered).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub account: Arc<str>,
    pub subject: Arc<str>,
    pub lane: i32,
}

/// A stream's number, the same for as long as anything of it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// Where a record of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u64,
    /// Offset of its block in the segment.
    pub block: u32,
    /// Which record of the block.
    pub index: u32,
}

/// Consecutive entries of a stream that are consecutive records of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub first: u64,
    pub count: u32,
    pub place: Place,
    /// Of all of them.
    pub bytes: u64,
    /// When the first was committed, epoch ms.
    pub at_ms: i64,
}

impl Extent {
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// `offset` is the first one's; −1: nobody knows which.
    Delivered { partition: i32, offset: i64 },
    /// By whoever may.
    Dropped,
    /// Another journal has it now.
    Adopted,
}

/// Why an entry is parked: a stable code, and a sentence for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: Arc<str>,
    pub sentence: Arc<str>,
}

/// A record of the log, as [`Queue::apply`] needs it.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'b> {
    pub stream: u32,
    pub kind: u8,
    pub sequence: u64,
    pub place: Place,
    pub bytes: u32,
    /// Of the block.
    pub wall_ms: i64,
    /// Empty for entries: their place is enough.
    pub body: &'b [u8],
}

/// A record to be appended for something that was done here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub stream: StreamId,
    pub kind: Kind,
    pub sequence: u64,
    pub body: Bytes,
}

/// What an accepted entry is.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    pub stream: StreamId,
    pub sequence: u64,
    /// To be appended before the entry, with it: the stream is new.
    pub definition: Option<Note>,
}

/// What is kept for receipts of delivered entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    pub receipts_ms: i64,
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    streams: BTreeMap<u32, Stream>,
    by_name: HashMap<Name, u32>,
    /// Streams of all accounts about a subject's lane.
    about: HashMap<(Arc<str>, i32), Vec<u32>>,
    stream_next: u32,
    /// Unsettled entries by segment; none with 0.
    needed: BTreeMap<u64, u64>,
    ledger: Ledger,
    receipt_ranges: usize,
    keeping: Keeping,
}

impl Queue {
    pub fn new(budget: Budget, keeping: Keeping) -> Queue {
        Queue {
            streams: BTreeMap::new(),
            by_name: HashMap::new(),
            about: HashMap::new(),
            stream_next: 0,
            needed: BTreeMap::new(),
            ledger: Ledger::new(budget),
            receipt_ranges: 0,
            keeping,
        }
    }

    // ---- handing over

    /// An entry of `bytes` is about to be appended: it has its number, and counts. In the log's order, so whoever calls this
    /// appends before anybody else does.
    pub fn accept(&mut self, name: &Name, bytes: u32, now_ms: i64) -> Result<Accepted, Over> {
        let oldest_ms = self.by_name.get(name).and_then(|id| self.streams[id].oldest_ms());
        self.ledger.check(name, u64::from(bytes), oldest_ms, now_ms)?;
        self.number(name, bytes)
    }

    fn number(&mut self, name: &Name, bytes: u32) -> Result<Accepted, Over> {
        let id = match self.by_name.get(name) {
            Some(id) => *id,
            None => self.add_stream(name)?,
        };
        self.ledger.add(name, u64::from(bytes), 1);
        let stream = self.streams.get_mut(&id).expect("named");
        let sequence = stream.accept();
        // Until it is durable it is said again with every entry: the one before may have been refused.
        let definition = (!stream.is_defined).then(|| Note {
            stream: StreamId(id),
            kind: Kind::Stream,
            sequence: 0,
            body: bodies::stream(name),
        });
        Ok(Accepted { stream: StreamId(id), sequence, definition })
    }

    /// As [`Queue::accept`] whatever the budget says: another journal took it already.
    pub fn take_in(&mut self, name: &Name, bytes: u32) -> Result<Accepted, Over> {
        self.number(name, bytes)
    }

    /// It was not appended after all.
    pub fn refused(&mut self, stream: StreamId, sequence: u64, bytes: u32) {
        let Some(known) = self.streams.get_mut(&stream.0) else { return };
        known.refused(sequence);
        self.ledger.remove(&known.name, u64::from(bytes), 1);
    }

    fn add_stream(&mut self, name: &Name) -> Result<u32, Over> {
        if self.streams.len() >= STREAMS_MAX {
            return Err(Over::Streams { limit: STREAMS_MAX });
        }
        let id = self.stream_next;
        self.stream_next += 1;
        self.define(id, name.clone());
        Ok(id)
    }

    fn define(&mut self, id: u32, name: Name) -> &mut Stream {
        self.stream_next = self.stream_next.max(id.saturating_add(1));
        self.by_name.insert(name.clone(), id);
        let about = self.about.entry((Arc::clone(&name.subject), name.lane)).or_default();
        if !about.contains(&id) {
            about.push(id);
        }
        self.streams.entry(id).or_insert_with(|| Stream::new(name))
    }

    /// A record of the log is durable. After a crash everything from the checkpoint on is told again.
    pub fn apply(&mut self, committed: &Committed<'_>) -> Result<(), Malformed> {
        let Some(kind) = Kind::of(committed.kind) else {
            return Err(Malformed { what: "record of the queue", bytes: committed.bytes as usize });
        };
        if kind == Kind::Stream {
            let name = bodies::read_stream(committed.body)?;
            self.define(committed.stream, name).is_defined = true;
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(&committed.stream) else {
            // Its name was in what is lost, or everything of it was done before the checkpoint.
            return Ok(());
        };
        let first = committed.sequence;
        match kind {
            Kind::Entry | Kind::Moved => {
                let extent = Extent {
                    first,
                    count: 1,
                    place: committed.place,
                    bytes: u64::from(committed.bytes),
                    at_ms: committed.wall_ms,
                };
                let found = stream.found(extent);
                if found.is_news {
                    self.ledger.add(&stream.name, extent.bytes, 1);
                }
                if found.came {
                    *self.needed.entry(extent.place.segment).or_default() += 1;
                }
                if let Some(gone) = found.gone {
                    unneed(&mut self.needed, &gone);
                }
            }
            Kind::Settled => {
                let (count, fate, at_ms) = bodies::read_settled(committed.body)?;
                self.settle_in(StreamId(committed.stream), first, count, fate, at_ms);
            }
            Kind::Parked => {
                let (reason, at_ms) = bodies::read_parked(committed.body)?;
                stream.park(first, reason, at_ms);
            }
            Kind::Unparked => {
                let count = bodies::read_unparked(committed.body)?;
                for sequence in first..first.saturating_add(u64::from(count)) {
                    stream.unpark(sequence);
                }
            }
            Kind::Sending => {
                stream.sending_noted(bodies::read_sending(committed.body)?);
            }
            Kind::Stream => unreachable!("done above"),
        }
        Ok(())
    }

    /// Everything that is durable was applied: what has a number and is nowhere was never durable.
    pub fn recovered(&mut self) {
        for stream in self.streams.values_mut() {
            stream.is_defined = true;
            stream.recovered();
        }
    }

    // ---- taking

    /// The next entries, in order, of at most so many bytes, but at least one; theirs until they are settled, parked or given
    /// back. Those of one answer are consecutive blocks' worth of extents.
    pub fn take(&mut self, stream: StreamId, bytes_max: u64, count_max: u32) -> Vec<Extent> {
        self.streams.get_mut(&stream.0).map_or_else(Vec::new, |stream| stream.take(bytes_max, count_max))
    }

    /// Whoever took entries will not deliver them now: all of the stream that are taken wait again.
    pub fn give_back(&mut self, stream: StreamId) {
        if let Some(stream) = self.streams.get_mut(&stream.0) {
            stream.give_back();
        }
    }

    /// `count` entries from `first` on came to an end. What must be appended, unless none of them was unsettled.
    pub fn settle(&mut self, stream: StreamId, first: u64, count: u32, fate: Fate, now_ms: i64) -> Option<Note> {
        let settled = self.settle_in(stream, first, count, fate, now_ms);
        let body = bodies::settled(count, fate, now_ms);
        (settled > 0).then_some(Note { stream, kind: Kind::Settled, sequence: first, body })
    }

    fn settle_in(&mut self, stream: StreamId, first: u64, count: u32, fate: Fate, at_ms: i64) -> u64 {
        let Some(known) = self.streams.get_mut(&stream.0) else { return 0 };
        let ranges = known.receipt_ranges();
        let settled = known.settle(first, count, fate, at_ms);
        if let Fate::Delivered { partition, offset: offset @ 0.. } = fate {
            known.landed(partition, offset + i64::from(count));
        }
        self.receipt_ranges = self.receipt_ranges + known.receipt_ranges() - ranges;
        let entries: u64 = settled.iter().map(|extent| u64::from(extent.count)).sum();
        self.ledger.remove(&known.name, settled.iter().map(|extent| extent.bytes).sum(), entries);
        settled.iter().for_each(|extent| unneed(&mut self.needed, extent));
        if self.receipt_ranges > RECEIPT_RANGES_MAX {
            self.forget_receipts(at_ms, true);
        }
        entries
    }

    /// Entries of a stream are about to be sent, for the first time since nothing of it was under way: they will stand in these
    /// partitions, from these offsets on. What must be durable before any of them is sent, so that whoever comes after a crash
    /// knows where to look for them. None: there is no such stream. With no partition: nothing is under way any more.
    pub fn sending(&mut self, stream: StreamId, begins: BTreeMap<i32, i64>) -> Option<Note> {
        let body = bodies::sending(&begins);
        let known = self.streams.get_mut(&stream.0)?;
        known.sent = begins;
        known.sendings_appending += 1;
        Some(Note { stream, kind: Kind::Sending, sequence: 0, body })
    }

    /// The log did not take what [`Queue::sending`] said.
    pub fn sending_refused(&mut self, stream: StreamId) {
        if let Some(stream) = self.streams.get_mut(&stream.0) {
            stream.sendings_appending = stream.sendings_appending.saturating_sub(1);
        }
    }

    /// Whether what [`Queue::sending`] said is durable.
    pub fn is_sending_noted(&self, stream: StreamId) -> bool {
        self.streams.get(&stream.0).is_some_and(|stream| stream.sendings_appending == 0)
    }

    /// Where entries may stand that were sent and are not settled: partitions, and from which offset on. Empty: none was sent.
    pub fn sent(&self, stream: StreamId) -> BTreeMap<i32, i64> {
        self.streams.get(&stream.0).map(|stream| stream.sent.clone()).unwrap_or_default()
    }

    /// An entry that was taken cannot be delivered. What must be appended.
    pub fn park(&mut self, stream: StreamId, sequence: u64, reason: Reason, now_ms: i64) -> Option<Note> {
        let body = bodies::parked(&reason, now_ms);
        let parked = self.streams.get_mut(&stream.0)?.park(sequence, reason, now_ms);
        parked.then_some(Note { stream, kind: Kind::Parked, sequence, body })
    }

    /// A parked entry is tried again, before everything that waits. What must be appended.
    pub fn unpark(&mut self, stream: StreamId, sequence: u64) -> Option<Note> {
        let unparked = self.streams.get_mut(&stream.0)?.unpark(sequence);
        unparked.then(|| Note { stream, kind: Kind::Unparked, sequence, body: bodies::unparked(1) })
    }

    // ---- looking

    /// Every stream that is known.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, &Name)> {
        self.streams.iter().map(|(id, stream)| (StreamId(*id), &stream.name))
    }

    /// Streams about a subject's lane, of whatever account.
    pub fn about(&self, subject: &Arc<str>, lane: i32) -> impl Iterator<Item = StreamId> {
        let all = self.about.get(&(Arc::clone(subject), lane));
        all.into_iter().flatten().map(|id| StreamId(*id))
    }

    pub fn find(&self, name: &Name) -> Option<StreamId> {
        self.by_name.get(name).map(|id| StreamId(*id))
    }

    pub fn name(&self, stream: StreamId) -> Option<&Name> {
        self.streams.get(&stream.0).map(|stream| &stream.name)
    }

    /// Entries that are neither settled nor parked, those not durable yet included.
    pub fn backlog(&self, stream: StreamId) -> Backlog {
        self.streams.get(&stream.0).map_or_else(Backlog::default, Stream::backlog)
    }

    /// What became of an entry.
    pub fn receipt(&self, stream: StreamId, sequence: u64) -> Receipt {
        self.streams.get(&stream.0).map_or(Receipt::Unknown, |stream| stream.receipt(sequence))
    }

    /// Parked entries of a stream from a number on, oldest first.
    pub fn parked(&self, stream: StreamId, from: u64) -> impl Iterator<Item = (u64, &Parked)> {
        self.streams.get(&stream.0).into_iter().flat_map(move |stream| stream.parked(from))
    }

    /// What an account, a subject or all of them hold.
    pub fn usage(&self) -> Usage {
        self.ledger.total()
    }

    /// Another budget from now on; what is held stays.
    pub fn set_budget(&mut self, budget: Budget) {
        self.ledger.set_budget(budget);
    }

    // ---- segments and checkpoints

    /// Whether an entry in this segment is not settled.
    pub fn is_needed(&self, segment: u64) -> bool {
        self.needed.contains_key(&segment)
    }

    /// Unsettled entries by segment, oldest segment first.
    pub fn needed(&self) -> impl Iterator<Item = (u64, u64)> {
        self.needed.iter().map(|(segment, entries)| (*segment, *entries))
    }

    /// Places of unsettled entries in a segment that nobody has taken, at most so many: those that can be moved to let it go.
    pub fn entries_in(&self, segment: u64, count_max: usize) -> Vec<(StreamId, Extent)> {
        let of_stream = |(id, stream): (&u32, &Stream)| -> Vec<(StreamId, Extent)> {
            stream.entries_in(segment).map(|extent| (StreamId(*id), extent)).collect()
        };
        self.streams.iter().flat_map(of_stream).take(count_max).collect()
    }

    /// Forgets receipts that were kept long enough, and streams of which nothing is left. Called now and then.
    pub fn forget(&mut self, now_ms: i64) {
        self.forget_receipts(now_ms, false);
        let (by_name, about) = (&mut self.by_name, &mut self.about);
        self.streams.retain(|id, stream| {
            let stays = !stream.is_over();
            if !stays {
                by_name.remove(&stream.name);
                let place = (Arc::clone(&stream.name.subject), stream.name.lane);
                if let Some(all) = about.get_mut(&place) {
                    all.retain(|other| other != id);
                    if all.is_empty() {
                        about.remove(&place);
                    }
                }
            }
            stays
        });
    }

    /// `is_crowded`: the older half goes, whatever its age.
    fn forget_receipts(&mut self, now_ms: i64, is_crowded: bool) {
        let mut until_ms = now_ms.saturating_sub(self.keeping.receipts_ms);
        if is_crowded {
            let mut ages: Vec<i64> = self.streams.values().flat_map(Stream::receipt_ages).collect();
            let half = ages.len() / 2;
            if half > 0 {
                until_ms = until_ms.max(*ages.select_nth_unstable(half).1);
            }
        }
        self.streams.values_mut().for_each(|stream| stream.forget_receipts(until_ms));
        self.receipt_ranges = self.streams.values().map(Stream::receipt_ranges).sum();
    }
}

/// Entries are not in their segment any more.
fn unneed(needed: &mut BTreeMap<u64, u64>, gone: &Extent) {
    let left = needed.get_mut(&gone.place.segment).expect("counted when it was found");
    *left -= u64::from(gone.count);
    if *left == 0 {
        needed.remove(&gone.place.segment);
    }
}

/// What a stream has that is to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Accepted and not durable yet.
    pub appending: u64,
    pub waiting: u64,
    pub waiting_bytes: u64,
    pub taken: u64,
    pub taken_bytes: u64,
    pub parked: u64,
    /// When the oldest of those that wait was committed, epoch ms.
    pub oldest_ms: Option<i64>,
}

impl Backlog {
    /// Nothing is left to deliver, and nothing is coming.
    pub fn is_empty(&self) -> bool {
        self.appending == 0 && self.waiting == 0 && self.taken == 0
    }
}

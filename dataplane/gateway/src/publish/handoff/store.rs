//! What all shards of a process hand messages off to: the journal, the queue on it, and which partitions go through it.
//!
//! One lock, held for a few instructions, and only while something is or was away: in good times a publish reads
//! [`Store::is_quiet`] and nothing else. Numbers are given and records appended under the lock, so that the journal has a
//! stream's messages in the order of their numbers. The committing thread takes the lock once per commit.
//!
//! A message belongs to the journal when its commit is told to the shard that appended it; until then to its request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use disk::Device;
use journal::queue::{Budget, Extent, Fate, Name, Note, Over, Queue, Reason, Receipt, StreamId};
use journal::{Group, Journal, Place, ReadWaiter, Record, Refused, Waiter};
use runtime::mailbox::Sender;

use super::domains::{Domains, Left, Way};
use journal::receipt_id::{Issuer, ReceiptId};

/// See the module.
pub struct Store {
    journal: Journal,
    inner: Arc<Mutex<Inner>>,
    /// Partitions that are not DIRECT.
    busy: AtomicUsize,
    doors: Vec<Door>,
    issuer: Issuer,
    budget: Budget,
    device: Device,
    /// New messages are taken; what is there is delivered in any case.
    takes: bool,
    read_next: AtomicU64,
}

/// Queue and domains change together.
pub(super) struct Inner {
    pub queue: Queue,
    pub domains: Domains,
    /// Of the last record that the queue was told of, the next lsn and the segment.
    pub applied_lsn: u64,
    pub applied_segment: u64,
}

/// How a shard hears from the journal.
pub struct Door {
    pub waiter: Waiter,
    pub reads: ReadWaiter,
    pub bell: Sender<()>,
}

/// Messages of one app for one partition, to be handed off together.
pub struct Handed<'h> {
    pub name: &'h Name,
    /// Why Kafka does not get them.
    pub why: &'h Arc<str>,
    /// The shard that hands them off has sends of its own to that partition that have no answer yet.
    pub is_held: bool,
}

/// Messages that were numbered and appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub stream: StreamId,
    pub first: u64,
    pub count: u32,
}

/// Why a message cannot be handed off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandOffError {
    #[error(transparent)]
    Over(#[from] Over),
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// What is known of a stream that may be delivered.
pub struct Drainable {
    pub stream: StreamId,
    pub name: Name,
}

/// What a store is made of.
pub(super) struct StoreParts {
    pub journal: Journal,
    pub inner: Arc<Mutex<Inner>>,
    pub doors: Vec<Door>,
    pub issuer: Issuer,
    pub budget: Budget,
    pub device: Device,
    pub takes: bool,
}

impl Store {
    /// Whatever waits in the journal makes its partition one that is not DIRECT.
    pub(super) fn new(parts: StoreParts, now_ms: i64) -> Store {
        let StoreParts { journal, inner, doors, issuer, budget, device, takes } = parts;
        let (busy, read_next) = (AtomicUsize::new(0), AtomicU64::new(0));
        let store = Store { journal, inner, busy, doors, issuer, budget, device, takes, read_next };
        let why: Arc<str> = "it waits since before this gateway started".into();
        {
            let inner = &mut *store.inner();
            for (stream, name) in inner.queue.streams() {
                if !inner.queue.backlog(stream).is_empty() {
                    inner.domains.buffer(&name.subject, name.lane, &why, None, now_ms);
                }
            }
            store.note_busy(inner);
        }
        store
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing waits for any partition: every publish goes to Kafka.
    pub fn is_quiet(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
    }

    pub(super) fn note_busy(&self, inner: &Inner) {
        self.busy.store(inner.domains.count(), Ordering::Release);
    }

    /// Who names messages here.
    pub fn issuer(&self) -> &Issuer {
        if let Some(key) = self.journal.id() {
            self.issuer.set_key(key);
        }
        &self.issuer
    }

    pub fn door(&self, shard: usize) -> &Door {
        &self.doors[shard]
    }

    /// The shard that delivers a stream.
    pub fn owner(&self, stream: StreamId) -> usize {
        stream.0 as usize % self.doors.len()
    }

    /// Has every shard look: those that wait at a gate, and who delivers.
    pub fn ring_all(&self) {
        // A full doorbell rings already.
        self.doors.iter().for_each(|door| drop(door.bell.try_send(())));
    }

    pub fn way(&self, subject: &str, partition: Option<i32>) -> Way {
        self.inner().domains.way(subject, partition)
    }

    // ---- handing off

    /// Numbers records and appends them as one group; the shard's waiter is told `ticket` when they are durable, or are not.
    /// Of more than the budget takes the first ones are; the error is that of the next.
    pub fn hand_off(
        &self,
        shard: usize,
        handed: &Handed<'_>,
        mut records: Vec<Record>,
        ticket: u64,
        now_ms: i64,
    ) -> (Option<Appended>, Option<HandOffError>) {
        let Handed { name, why, is_held } = *handed;
        let inner = &mut *self.inner();
        let mut appended: Option<Appended> = None;
        let mut definition = None;
        let mut over = None;
        for record in &mut records {
            match inner.queue.accept(name, record.body_bytes() as u32, now_ms) {
                Ok(accepted) => {
                    record.stream = accepted.stream.0;
                    record.sequence = accepted.sequence;
                    definition = definition.or(accepted.definition);
                    let so_far = appended.get_or_insert(Appended {
                        stream: accepted.stream,
                        first: accepted.sequence,
                        count: 0,
                    });
                    so_far.count += 1;
                }
                Err(err) => {
                    over = Some(HandOffError::Over(err));
                    break;
                }
            }
        }
        let Some(appended) = appended else { return (None, over) };
        records.truncate(appended.count as usize);
        let bytes: Vec<u32> = records.iter().map(|record| record.body_bytes() as u32).collect();
        let group = Group::new(definition.map(record_of).into_iter().chain(records));
        let refused = group.and_then(|group| self.journal.append(group, ticket, &self.doors[shard].waiter));
        if let Err(refused) = refused {
            for (at, bytes) in bytes.into_iter().enumerate() {
                inner.queue.refused(appended.stream, appended.first + at as u64, bytes);
            }
            return (None, Some(refused.into()));
        }
        inner.domains.buffer(&name.subject, name.lane, why, is_held.then_some(shard), now_ms);
        self.note_busy(inner);
        (Some(appended), over)
    }

    /// Takes in what another node accepted, whatever the budget says, and waits until it is durable. `parked`: they stay so.
    pub(super) fn take_in(
        &self,
        name: &Name,
        mut records: Vec<Record>,
        parked: Option<&Reason>,
    ) -> Result<(), HandOffError> {
        let now_ms = super::open::now_ms();
        let (group, appended, bytes) = {
            let inner = &mut *self.inner();
            let bytes: Vec<u32> = records.iter().map(|record| record.body_bytes() as u32).collect();
            let mut definition = None;
            let mut appended: Option<Appended> = None;
            for (record, bytes) in records.iter_mut().zip(&bytes) {
                let accepted = inner.queue.take_in(name, *bytes)?;
                (record.stream, record.sequence) = (accepted.stream.0, accepted.sequence);
                definition = definition.or(accepted.definition);
                let fresh = Appended { stream: accepted.stream, first: accepted.sequence, count: 0 };
                appended.get_or_insert(fresh).count += 1;
            }
            let Some(appended) = appended else { return Ok(()) };
            let group = Group::new(definition.map(record_of).into_iter().chain(records));
            if parked.is_none() {
                inner.domains.buffer(&name.subject, name.lane, &"taken over from another node".into(), None, now_ms);
                self.note_busy(inner);
            }
            (group, appended, bytes)
        };
        // What others hand off meanwhile may stand before these in the journal; numbers say the order.
        if let Err(refused) = group.and_then(|group| self.wait_for(group)) {
            self.take_back(appended, &bytes, Instant::now());
            return Err(refused.into());
        }
        if let Some(reason) = parked {
            let inner = &mut *self.inner();
            let numbers = appended.first..appended.first + u64::from(appended.count);
            let notes: Vec<Note> = numbers
                .filter_map(|number| inner.queue.park(appended.stream, number, reason.clone(), now_ms))
                .collect();
            self.note(notes);
        }
        self.ring_all();
        Ok(())
    }

    /// The journal refused what was appended: it never was there.
    pub fn take_back(&self, appended: Appended, bytes: &[u32], now: Instant) {
        let inner = &mut *self.inner();
        for (at, bytes) in bytes.iter().enumerate() {
            inner.queue.refused(appended.stream, appended.first + at as u64, *bytes);
        }
        if let Some(name) = inner.queue.name(appended.stream).cloned() {
            self.look(inner, &name, now);
        }
    }

    /// Domains that wait for answers to sends of this shard.
    pub fn held_by(&self, shard: usize) -> Vec<(Arc<str>, i32)> {
        self.inner().domains.held_by(shard)
    }

    pub fn release(&self, subject: &str, lane: i32, shard: usize) {
        self.inner().domains.release(subject, lane, shard);
        self.ring_all();
    }

    // ---- delivering

    /// Streams of this shard that have something left.
    pub fn drainable(&self, shard: usize) -> Vec<Drainable> {
        let inner = self.inner();
        let mut found = Vec::new();
        for (subject, lane, _) in inner.domains.iter() {
            for stream in inner.queue.about(subject, lane) {
                if self.owner(stream) == shard
                    && let Some(name) = inner.queue.name(stream)
                {
                    found.push(Drainable { stream, name: name.clone() });
                }
            }
        }
        found
    }

    /// The next messages of a stream, unless others are to go first.
    pub fn take(&self, stream: StreamId, name: &Name, bytes_max: u64, count_max: u32) -> Vec<Extent> {
        let inner = &mut *self.inner();
        match inner.domains.may_drain(&name.subject, name.lane) {
            true => inner.queue.take(stream, bytes_max, count_max),
            false => Vec::new(),
        }
    }

    /// What was taken waits again. `why`: Kafka does not take it at the moment.
    pub fn give_back(&self, stream: StreamId, name: &Name, why: &Arc<str>) {
        let inner = &mut *self.inner();
        inner.queue.give_back(stream);
        inner.domains.stalled(&name.subject, name.lane, why);
    }

    /// Where messages of a stream may stand in Kafka that an earlier process sent, and that have no end here.
    pub fn sent(&self, stream: StreamId) -> BTreeMap<i32, i64> {
        self.inner().queue.sent(stream)
    }

    /// Messages of a stream are about to be sent, and will stand in these partitions from these offsets on; with none: nothing
    /// is under way any more. [`Store::is_sending_noted`] says when it is durable.
    pub fn begin_sending(&self, stream: StreamId, begins: BTreeMap<i32, i64>) {
        let inner = &mut *self.inner();
        let Some(note) = inner.queue.sending(stream, begins) else { return };
        let appended = Group::new([record_of(note)]).and_then(|group| self.journal.append_unwatched(group));
        if let Err(refused) = appended {
            inner.queue.sending_refused(stream);
            tracing::warn!(%refused, "what is sent could not be noted: a kill now would have it sent again");
        }
    }

    pub fn is_sending_noted(&self, stream: StreamId) -> bool {
        self.inner().queue.is_sending_noted(stream)
    }

    /// Kafka does not take what waits for a partition.
    pub fn stalled(&self, name: &Name, why: &Arc<str>) {
        self.inner().domains.stalled(&name.subject, name.lane, why);
    }

    /// Messages that came to an end; it is noted in the journal, for which nobody waits.
    pub fn settle(
        &self,
        stream: StreamId,
        name: &Name,
        ends: &[(u64, u32, Fate)],
        bytes: u64,
        now_ms: i64,
        now: Instant,
    ) {
        let inner = &mut *self.inner();
        let notes =
            ends.iter().filter_map(|(first, count, fate)| inner.queue.settle(stream, *first, *count, *fate, now_ms));
        let notes: Vec<Note> = notes.collect();
        self.note(notes);
        if ends.iter().any(|(_, _, fate)| matches!(fate, Fate::Delivered { .. })) {
            inner.domains.delivered(&name.subject, name.lane, bytes, now);
        }
        self.look(inner, name, now);
    }

    /// Messages that cannot be delivered.
    pub fn park(&self, stream: StreamId, name: &Name, parked: &[(u64, Reason)], now_ms: i64, now: Instant) {
        let inner = &mut *self.inner();
        let notes = parked.iter().filter_map(|(at, reason)| inner.queue.park(stream, *at, reason.clone(), now_ms));
        let notes: Vec<Note> = notes.collect();
        self.note(notes);
        self.look(inner, name, now);
    }

    /// Looks whether a partition that has little or nothing left goes to the gate, or is DIRECT.
    pub fn look_at(&self, name: &Name, now: Instant) {
        self.look(&mut self.inner(), name, now);
    }

    fn look(&self, inner: &mut Inner, name: &Name, now: Instant) {
        let mut left = Left { is_empty: true, bytes: 0 };
        for stream in inner.queue.about(&name.subject, name.lane) {
            let backlog = inner.queue.backlog(stream);
            left.is_empty &= backlog.is_empty();
            left.bytes += backlog.waiting_bytes;
        }
        if inner.domains.look(&name.subject, name.lane, left, now) {
            self.note_busy(inner);
            self.ring_all();
        }
    }

    /// Appends notes without waiting. One that is refused is lost to the journal, not to this process: after a crash what it
    /// ended is delivered again.
    fn note(&self, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        let group = Group::new(notes.into_iter().map(record_of));
        if let Err(refused) = group.and_then(|group| self.journal.append_unwatched(group)) {
            tracing::warn!(%refused, "what was delivered could not be noted: a crash now would deliver it again");
        }
    }

    /// Asks for the bodies of an extent; they come with [`Store::take_reads`] of that shard, under this ticket. `None`: too much
    /// is asked for already.
    pub fn read(&self, shard: usize, extent: &Extent) -> Option<u64> {
        let ticket = self.read_next.fetch_add(1, Ordering::Relaxed);
        let place = Place { segment: extent.place.segment, block: extent.place.block, index: extent.place.index };
        self.journal.read(place, extent.count, ticket, &self.doors[shard].reads).ok().map(|()| ticket)
    }

    /// What was read for a shard: bodies, or why there is none.
    pub fn take_reads(&self, shard: usize) -> impl Iterator<Item = (u64, Vec<Result<Bytes, Arc<str>>>)> {
        let mut reads = Vec::new();
        self.doors[shard].reads.take(&mut reads);
        reads.into_iter().map(|done| {
            let bodies = match done.entries {
                Ok(entries) => {
                    let body = |entry: Result<journal::Entry, journal::ReadError>| match entry {
                        Ok(entry) => Ok(entry.body),
                        Err(err) => Err(err.to_string().into()),
                    };
                    entries.into_iter().map(body).collect()
                }
                Err(err) => vec![Err(err.to_string().into())],
            };
            (done.ticket, bodies)
        })
    }

    /// Tickets of a shard whose records are durable, or are not.
    pub fn take_commits(&self, shard: usize) -> Vec<(u64, Result<(), Refused>)> {
        let mut completions = Vec::new();
        self.doors[shard].waiter.take(&mut completions);
        completions.into_iter().map(|done| (done.ticket, done.result.map(|_| ()))).collect()
    }

    /// Whether a stream has something that is not delivered.
    pub fn has_left(&self, stream: StreamId) -> bool {
        !self.inner().queue.backlog(stream).is_empty()
    }

    // ---- asking

    /// What became of a message, if it is one of this journal's.
    pub fn receipt(&self, id: &ReceiptId) -> Option<Receipt> {
        self.issuer().is_genuine(id).then(|| self.inner().queue.receipt(id.stream, id.sequence))
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Files of the journal, spares not counted.
    pub fn disk_bytes(&self) -> u64 {
        self.journal.segments().into_iter().filter_map(|segment| self.journal.segment_bytes(segment)).sum()
    }

    pub fn takes(&self) -> bool {
        self.takes
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// At the end of the process.
    pub fn say_what_stays(&self) {
        let held = self.inner().queue.usage();
        if held.records > 0 {
            tracing::info!(
                records = held.records,
                bytes = held.bytes,
                "messages wait in the journal: the next start on this directory delivers them, or another node that is told to \
                 adopt them (kateway admin handoff adopt)"
            );
        }
    }
}

pub(super) fn record_of(note: Note) -> Record {
    Record::new(note.stream.0, note.kind as u8, note.sequence, note.body).reserved()
}

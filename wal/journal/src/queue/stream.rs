//! One stream: which of its numbers are accepted, waiting, taken, parked, done.

use std::collections::{BTreeMap, VecDeque};

use super::ranges::Done;
use super::{Backlog, Extent, Fate, Name, Place, Reason};

/// An entry that cannot be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub extent: Extent,
    pub reason: Reason,
    pub at_ms: i64,
}

/// What became of an entry, as far as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    Pending,
    /// `offset` −1: nobody knows which.
    Delivered {
        partition: i32,
        offset: i64,
    },
    Parked {
        reason: Reason,
    },
    Dropped,
    Adopted,
    /// Done so long ago that it was forgotten, or never accepted.
    Unknown,
}

/// The end of consecutive entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub count: u64,
    pub fate: Fate,
    pub at_ms: i64,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub name: Name,
    /// Its name is in the log, or in a checkpoint.
    pub is_defined: bool,
    pub next: u64,
    pub done: Done,
    /// Accepted, neither durable nor refused.
    appending: u64,
    /// In order of their numbers, as are those taken.
    waiting: VecDeque<Extent>,
    waiting_bytes: u64,
    waiting_count: u64,
    taken: VecDeque<Extent>,
    taken_count: u64,
    parked: BTreeMap<u64, Parked>,
    /// Reasons that became known before the entry: told by a checkpoint.
    reasons: BTreeMap<u64, (Reason, i64)>,
    /// By first number.
    ended: BTreeMap<u64, Ended>,
    /// Of partitions, the offset from which on entries may stand that were sent and are not settled. Empty: none was sent.
    pub sent: BTreeMap<i32, i64>,
    /// Notes of [`Queue::sending`](super::Queue::sending) that are not in the log yet.
    pub sendings_appending: u32,
}

/// What finding an entry changed.
pub(super) struct Found {
    /// It is one that does not count yet.
    pub is_news: bool,
    pub gone: Option<Extent>,
    pub came: bool,
}

impl Stream {
    pub fn new(name: Name) -> Stream {
        Stream {
            name,
            is_defined: false,
            next: 0,
            done: Done::default(),
            appending: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_count: 0,
            taken: VecDeque::new(),
            taken_count: 0,
            parked: BTreeMap::new(),
            reasons: BTreeMap::new(),
            ended: BTreeMap::new(),
            sent: BTreeMap::new(),
            sendings_appending: 0,
        }
    }

    pub fn accept(&mut self) -> u64 {
        self.appending += 1;
        self.next += 1;
        self.next - 1
    }

    pub fn refused(&mut self, sequence: u64) {
        self.appending = self.appending.saturating_sub(1);
        self.done.add(sequence, sequence + 1);
    }

    /// An entry is in the log: for the first time, or again because it was moved, or because a checkpoint knew it.
    pub fn found(&mut self, extent: Extent) -> Found {
        let sequence = extent.first;
        // Whoever took it reads it where it was, so there it stays; a start takes the later place.
        if self.done.contains(sequence) || self.is_taken(sequence) {
            return Found { is_news: false, gone: None, came: false };
        }
        if let Some((old, origin)) = self.remove_one(sequence) {
            // Its share of what it was counted with, which need not be its own size, stays: sums stay true.
            self.put_back(Extent { at_ms: old.at_ms, bytes: old.bytes, ..extent }, origin);
            return Found { is_news: false, gone: Some(old), came: true };
        }
        // Accepted by this process: it counts since then.
        let is_ours = sequence < self.next && self.appending > 0;
        self.next = self.next.max(sequence + 1);
        match self.reasons.remove(&sequence) {
            Some((reason, at_ms)) => {
                self.parked.insert(sequence, Parked { extent, reason, at_ms });
            }
            None => self.wait(extent),
        }
        if is_ours {
            self.appending -= 1;
        }
        Found { is_news: !is_ours, gone: None, came: true }
    }

    fn is_taken(&self, sequence: u64) -> bool {
        let at = self.taken.partition_point(|extent| extent.end() <= sequence);
        self.taken.get(at).is_some_and(|extent| extent.first <= sequence)
    }

    /// Puts entries among those that wait, most often behind all of them.
    fn wait(&mut self, extent: Extent) {
        self.waiting_bytes += extent.bytes;
        self.waiting_count += u64::from(extent.count);
        insert(&mut self.waiting, extent);
    }

    pub fn take(&mut self, bytes_max: u64, count_max: u32) -> Vec<Extent> {
        let (mut bytes, mut count) = (0_u64, 0_u32);
        let mut taken: Vec<Extent> = Vec::new();
        while let Some(first) = self.waiting.front() {
            let room = count_max.saturating_sub(count);
            if !taken.is_empty() && (bytes + first.bytes > bytes_max || room == 0) {
                break;
            }
            let mut extent = self.waiting.pop_front().expect("looked at above");
            // Entries of an extent are about of one size; a part of it is as good as all of it.
            let fit = match extent.bytes > bytes_max.saturating_sub(bytes) {
                true => (u64::from(extent.count) * bytes_max.saturating_sub(bytes) / extent.bytes.max(1)) as u32,
                false => extent.count,
            };
            let fit = fit.min(room).max(1);
            if fit < extent.count {
                let (now, later) = cut(extent, extent.first + u64::from(fit));
                self.waiting.push_front(later);
                extent = now;
            }
            self.waiting_bytes -= extent.bytes;
            self.waiting_count -= u64::from(extent.count);
            self.taken_count += u64::from(extent.count);
            bytes += extent.bytes;
            count += extent.count;
            insert(&mut self.taken, extent);
            taken.push(extent);
        }
        taken
    }

    pub fn give_back(&mut self) {
        self.taken_count = 0;
        for extent in std::mem::take(&mut self.taken) {
            self.wait(extent);
        }
    }

    /// What of `first..first + count` was unsettled until now.
    pub fn settle(&mut self, first: u64, count: u32, fate: Fate, at_ms: i64) -> Vec<Extent> {
        let end = first.saturating_add(u64::from(count));
        let mut settled = Vec::new();
        remove(&mut self.taken, first, end, |extent| {
            self.taken_count -= u64::from(extent.count);
            settled.push(extent);
        });
        remove(&mut self.waiting, first, end, |extent| {
            self.waiting_bytes -= extent.bytes;
            self.waiting_count -= u64::from(extent.count);
            settled.push(extent);
        });
        while let Some(sequence) = self.parked.range(first..end).next().map(|(sequence, _)| *sequence) {
            settled.extend(self.parked.remove(&sequence).map(|parked| parked.extent));
        }
        let is_news = !settled.is_empty() || !(first..end).all(|sequence| self.done.contains(sequence));
        self.reasons =
            std::mem::take(&mut self.reasons).into_iter().filter(|(at, _)| *at < first || *at >= end).collect();
        self.done.add(first, end);
        self.next = self.next.max(end);
        if is_news && first < end {
            self.note_end(first, end - first, fate, at_ms);
        }
        settled
    }

    /// Remembers an end; one that goes on where the last one stopped is one with it.
    fn note_end(&mut self, first: u64, count: u64, fate: Fate, at_ms: i64) {
        if let Some((before, ended)) = self.ended.range_mut(..=first).next_back() {
            if *before + ended.count > first {
                return; // told again
            }
            let goes_on = match (ended.fate, fate) {
                (Fate::Delivered { partition, offset }, Fate::Delivered { partition: p, offset: o }) => {
                    partition == p && (o == offset + ended.count as i64 && offset >= 0 || o < 0 && offset < 0)
                }
                (a, b) => a == b,
            };
            let is_near = at_ms.saturating_sub(ended.at_ms) < MERGED_WITHIN_MS;
            if goes_on && is_near && *before + ended.count == first {
                ended.count += count;
                return;
            }
        }
        self.ended.insert(first, Ended { count, fate, at_ms });
    }

    pub fn park(&mut self, sequence: u64, reason: Reason, at_ms: i64) -> bool {
        if self.done.contains(sequence) {
            return false;
        }
        match self.remove_one(sequence) {
            Some((extent, _)) => {
                self.parked.insert(sequence, Parked { extent, reason, at_ms });
                true
            }
            None => {
                // From a checkpoint or log that is read before the entry is found.
                self.reasons.insert(sequence, (reason, at_ms));
                false
            }
        }
    }

    pub fn unpark(&mut self, sequence: u64) -> bool {
        self.reasons.remove(&sequence);
        let Some(parked) = self.parked.remove(&sequence) else { return false };
        self.wait(parked.extent);
        true
    }

    /// Takes one unsettled entry out of wherever it is.
    fn remove_one(&mut self, sequence: u64) -> Option<(Extent, Origin)> {
        if let Some(parked) = self.parked.remove(&sequence) {
            return Some((parked.extent, Origin::Parked(parked.reason, parked.at_ms)));
        }
        let mut found = None;
        remove(&mut self.taken, sequence, sequence + 1, |extent| found = Some((extent, Origin::Taken)));
        if found.is_some() {
            self.taken_count -= 1;
            return found;
        }
        // What is told for the first time is behind all others: no search.
        if self.waiting.back().is_none_or(|last| last.end() <= sequence) {
            return None;
        }
        remove(&mut self.waiting, sequence, sequence + 1, |extent| found = Some((extent, Origin::Waiting)));
        if let Some((extent, _)) = &found {
            self.waiting_bytes -= extent.bytes;
            self.waiting_count -= 1;
        }
        found
    }

    fn put_back(&mut self, extent: Extent, origin: Origin) {
        match origin {
            Origin::Parked(reason, at_ms) => {
                self.parked.insert(extent.first, Parked { extent, reason, at_ms });
            }
            Origin::Taken => unreachable!("it is not found again while it is taken"),
            Origin::Waiting => self.wait(extent),
        }
    }

    /// A note of [`Queue::sending`](super::Queue::sending) is in the log.
    pub fn sending_noted(&mut self, begins: BTreeMap<i32, i64>) {
        match self.sendings_appending {
            // Told by a log: what was known here is older.
            0 => self.sent = begins,
            _ => self.sendings_appending -= 1,
        }
    }

    /// Entries of this partition are there up to this offset: whatever of the same sender has no answer stands behind them.
    pub fn landed(&mut self, partition: i32, end: i64) {
        if let Some(begin) = self.sent.get_mut(&partition) {
            *begin = end.max(*begin);
        }
    }

    /// After everything durable was told.
    pub fn recovered(&mut self) {
        self.appending = 0;
        if self.waiting.is_empty() && self.taken.is_empty() {
            self.sent.clear();
        }
        self.reasons.clear();
        let mut at = self.done.below();
        let mut unsettled: Vec<(u64, u64)> = self.extents().map(|extent| (extent.first, extent.end())).collect();
        unsettled.sort_unstable();
        for (first, end) in unsettled {
            self.done.add(at, first);
            at = at.max(end);
        }
        self.done.add(at, self.next);
    }

    /// Every unsettled entry, in no order.
    fn extents(&self) -> impl Iterator<Item = Extent> {
        let parked = self.parked.values().map(|parked| parked.extent);
        self.taken.iter().copied().chain(self.waiting.iter().copied()).chain(parked)
    }

    /// Those of a segment that nobody has taken.
    pub fn entries_in(&self, segment: u64) -> impl Iterator<Item = Extent> {
        let parked = self.parked.values().map(|parked| parked.extent);
        self.waiting.iter().copied().chain(parked).filter(move |extent| extent.place.segment == segment)
    }

    pub fn oldest_ms(&self) -> Option<i64> {
        self.taken.front().or(self.waiting.front()).map(|extent| extent.at_ms)
    }

    pub fn backlog(&self) -> Backlog {
        Backlog {
            appending: self.appending,
            waiting: self.waiting_count,
            waiting_bytes: self.waiting_bytes,
            taken: self.taken_count,
            taken_bytes: self.taken.iter().map(|extent| extent.bytes).sum(),
            parked: self.parked.len() as u64,
            oldest_ms: self.oldest_ms(),
        }
    }

    pub fn receipt(&self, sequence: u64) -> Receipt {
        if let Some(parked) = self.parked.get(&sequence) {
            return Receipt::Parked { reason: parked.reason.clone() };
        }
        if sequence >= self.next {
            return Receipt::Unknown;
        }
        if !self.done.contains(sequence) {
            return Receipt::Pending;
        }
        let Some((first, ended)) = self.ended.range(..=sequence).next_back() else { return Receipt::Unknown };
        match ended.fate {
            _ if sequence - first >= ended.count => Receipt::Unknown,
            Fate::Delivered { partition, offset: -1 } => Receipt::Delivered { partition, offset: -1 },
            Fate::Delivered { partition, offset } => {
                Receipt::Delivered { partition, offset: offset + (sequence - first) as i64 }
            }
            Fate::Dropped => Receipt::Dropped,
            Fate::Adopted => Receipt::Adopted,
        }
    }

    pub fn parked(&self, from: u64) -> impl Iterator<Item = (u64, &Parked)> {
        self.parked.range(from..).map(|(sequence, parked)| (*sequence, parked))
    }

    pub fn ended(&self) -> impl ExactSizeIterator<Item = (u64, Ended)> {
        self.ended.iter().map(|(first, ended)| (*first, *ended))
    }

    pub fn restore_end(&mut self, first: u64, ended: Ended) {
        self.ended.insert(first, ended);
    }

    /// Parked entries with their reasons, for a checkpoint.
    pub fn parked_reasons(&self) -> impl Iterator<Item = (u64, &Reason, i64)> {
        self.parked.iter().map(|(sequence, parked)| (*sequence, &parked.reason, parked.at_ms))
    }

    pub fn receipt_ranges(&self) -> usize {
        self.ended.len()
    }

    pub fn receipt_ages(&self) -> impl Iterator<Item = i64> {
        self.ended.values().map(|ended| ended.at_ms)
    }

    pub fn forget_receipts(&mut self, until_ms: i64) {
        self.ended.retain(|_, ended| ended.at_ms > until_ms);
    }

    /// Nothing of it is left but its name.
    pub fn is_over(&self) -> bool {
        self.ended.is_empty() && self.parked.is_empty() && self.backlog().is_empty()
    }
}

/// Ends this close together share a range; its age is the first one's.
const MERGED_WITHIN_MS: i64 = 60_000;

/// Where an entry was.
enum Origin {
    Taken,
    Waiting,
    Parked(Reason, i64),
}

/// The entries before `at`, and those from it on.
fn cut(extent: Extent, at: u64) -> (Extent, Extent) {
    let before = (at - extent.first) as u32;
    debug_assert!(before > 0 && before < extent.count, "{extent:?} is not cut at {at}");
    // Bytes are known of all together: a part has its share, and both together have all.
    let bytes = extent.bytes * u64::from(before) / u64::from(extent.count);
    let first = Extent { count: before, bytes, ..extent };
    let place = Place { index: extent.place.index + before, ..extent.place };
    let second = Extent { first: at, count: extent.count - before, place, bytes: extent.bytes - bytes, ..extent };
    (first, second)
}

/// Puts an extent where its numbers belong; it becomes one with the one before it where that goes on.
fn insert(extents: &mut VecDeque<Extent>, extent: Extent) {
    let at = match extents.back() {
        Some(last) if last.first > extent.first => extents.partition_point(|other| other.first < extent.first),
        _ => extents.len(),
    };
    if let Some(before) = at.checked_sub(1).and_then(|before| extents.get_mut(before)) {
        let follows = Place { index: before.place.index + before.count, ..before.place };
        if before.end() == extent.first && follows == extent.place {
            before.count += extent.count;
            before.bytes += extent.bytes;
            return;
        }
    }
    extents.insert(at, extent);
}

/// Takes `first..end` out of extents in order, each part told.
fn remove(extents: &mut VecDeque<Extent>, first: u64, end: u64, mut told: impl FnMut(Extent)) {
    let mut at = extents.partition_point(|extent| extent.end() <= first);
    while let Some(extent) = extents.get(at).copied()
        && extent.first < end
    {
        let (before, rest) = match extent.first < first {
            true => {
                let (before, rest) = cut(extent, first);
                (Some(before), rest)
            }
            false => (None, extent),
        };
        let (gone, after) = match rest.end() > end {
            true => {
                let (gone, after) = cut(rest, end);
                (gone, Some(after))
            }
            false => (rest, None),
        };
        told(gone);
        match (before, after) {
            (None, None) => drop(extents.remove(at)),
            (Some(left), None) | (None, Some(left)) => {
                extents[at] = left;
                at += 1;
            }
            (Some(before), Some(after)) => {
                extents[at] = before;
                extents.insert(at + 1, after);
                at += 2;
            }
        }
    }
}

//! A batch on its way: its records, who they belong to, and until when somebody waits for them.
//!
//! A run is a stretch of consecutive records of one request that share tag and deadline (and what to do with them when
//! the cluster is away), so a request of a thousand
//! records costs one run per batch, and outcomes are told per run.
//!
//! Invariants:
//! - The runs' counts add up to the body's record count, in order.
//! - A run is answered exactly once.

use std::time::Instant;

use bytes::Bytes;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{BatchBuilder, HeaderRef, RecordRef, SealedBatch};

use crate::producer::Identity;
use crate::types::{How, OnAway};
use crate::unsent::{self, Unsent};

/// Consecutive records of one request.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub tag: u64,
    pub record_first: u32,
    pub count: u32,
    pub deadline: Instant,
    /// Of the first record; what the publisher is told when the topic keeps the record's own time.
    pub timestamp_ms: i64,
    /// Its outcome was told; the records may still be part of the batch.
    pub answered: bool,
    pub on_away: OnAway,
}

impl Run {
    /// Its owner wants it back rather than wait.
    pub fn goes_back(&self) -> bool {
        self.on_away == OnAway::GiveBack && !self.answered
    }
}

/// Still growing, or closed and maybe sent.
#[derive(Debug)]
pub(crate) enum Body {
    Open(BatchBuilder),
    Sealed(SealedBatch),
}

/// One sending of one batch. Numbered through the client's life, so that an answer finds the batch it answers, or none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Attempt(pub u64);

/// One batch of one partition's queue.
#[derive(Debug)]
pub(crate) struct Batch {
    pub body: Body,
    pub runs: Vec<Run>,
    /// Earliest deadline among the runs not answered; None when all are.
    pub earliest: Option<Instant>,
    /// An attempt may have been stored: it was not answered, or answered with "appended, but".
    pub maybe_stored: bool,
    /// Times it was sent.
    pub attempts: u32,
    /// The last of them; the default before the first.
    pub attempt: Attempt,
    /// Records of answered runs. They must be out before the batch is sent (again), unless it may be stored.
    pub expired_count: u32,
    /// Runs before this one are answered.
    answered_first: usize,
    /// Each run's deadline is no earlier than the one before.
    deadlines_in_order: bool,
    /// The producer id it was last sent under.
    pub sent_as: Option<Identity>,
    /// Its topic was deleted and made again while it was in flight.
    pub of_old_topic: bool,
    /// Bytes this batch counts against the client's queue.
    pub accounted_bytes: usize,
}

impl Batch {
    pub fn new(capacity_bytes: usize, runs: Vec<Run>) -> Batch {
        debug_assert!(runs.is_empty());
        Batch {
            body: Body::Open(BatchBuilder::with_capacity(capacity_bytes)),
            runs,
            earliest: None,
            maybe_stored: false,
            attempts: 0,
            attempt: Attempt::default(),
            expired_count: 0,
            answered_first: 0,
            deadlines_in_order: true,
            sent_as: None,
            of_old_topic: false,
            accounted_bytes: 0,
        }
    }

    pub fn record_count(&self) -> u32 {
        match &self.body {
            Body::Open(builder) => builder.record_count(),
            Body::Sealed(sealed) => sealed.record_count(),
        }
    }

    pub fn bytes(&self) -> usize {
        match &self.body {
            Body::Open(builder) => builder.bytes(),
            Body::Sealed(sealed) => sealed.bytes(),
        }
    }

    /// Notes that a record was appended, extending the last run when it continues it.
    pub fn note(&mut self, tag: u64, record_index: u32, how: How, timestamp_ms: i64) {
        let How { deadline, on_away, .. } = how;
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        if let Some(run) = self.runs.last_mut()
            && run.tag == tag
            && run.record_first.wrapping_add(run.count) == record_index
            && run.deadline == deadline
            && run.on_away == on_away
            && !run.answered
        {
            run.count += 1;
            return;
        }
        self.deadlines_in_order &= self.runs.last().is_none_or(|last| last.deadline <= deadline);
        let record_first = record_index;
        self.runs.push(Run { tag, record_first, count: 1, deadline, timestamp_ms, answered: false, on_away });
    }

    /// Marks every run with a deadline up to `until` (all of them for None) as answered, and gives each to `tell`.
    /// Costs the expired runs alone where deadlines are in order, which they are while publishers ask for the same
    /// timeout.
    pub fn expire(&mut self, until: Option<Instant>, mut tell: impl FnMut(&Run)) {
        let over = |deadline: Instant| until.is_none_or(|until| deadline <= until);
        let mut prefix = self.answered_first;
        for (index, run) in self.runs.iter_mut().enumerate().skip(self.answered_first) {
            if !run.answered && over(run.deadline) {
                run.answered = true;
                self.expired_count += run.count;
                tell(run);
            }
            if run.answered && prefix == index {
                prefix += 1;
            } else if self.deadlines_in_order && !run.answered {
                break;
            }
        }
        self.answered_first = prefix;
        self.earliest = if self.deadlines_in_order {
            self.runs.get(prefix).map(|run| run.deadline)
        } else {
            earliest(&self.runs[prefix..])
        };
    }

    /// Closes the batch if it is open and gives it.
    pub fn seal(&mut self, compression: Compression) -> &mut SealedBatch {
        if let Body::Open(builder) = &mut self.body {
            let builder = std::mem::replace(builder, BatchBuilder::with_capacity(0));
            self.body = Body::Sealed(builder.seal(compression));
        }
        match &mut self.body {
            Body::Sealed(sealed) => sealed,
            Body::Open(_) => unreachable!("sealed just above"),
        }
    }

    /// Half of its records have been answered: taking them out now costs each record about one rewriting in all.
    pub fn is_mostly_over(&self) -> bool {
        self.expired_count * 2 >= self.record_count()
    }

    /// The halves of a sealed batch's records; the whole and None when it has one record or was never sealed.
    pub fn split(mut self) -> (Batch, Option<Batch>) {
        let halves = match &self.body {
            Body::Sealed(sealed) => sealed.split(),
            Body::Open(_) => None,
        };
        let Some((first, second)) = halves else { return (self, None) };
        let (first_runs, second_runs) = split_runs(std::mem::take(&mut self.runs), first.record_count());
        let first_accounted = self.accounted_bytes / 2;
        let half = |body: SealedBatch, runs: Vec<Run>, accounted_bytes: usize| Batch {
            expired_count: answered_count(&runs),
            deadlines_in_order: runs.is_sorted_by_key(|run| run.deadline),
            earliest: earliest(&runs),
            body: Body::Sealed(body),
            runs,
            maybe_stored: false,
            attempts: self.attempts,
            attempt: Attempt::default(),
            answered_first: 0,
            sent_as: self.sent_as,
            of_old_topic: false,
            accounted_bytes,
        };
        let second = half(second, second_runs, self.accounted_bytes - first_accounted);
        (half(first, first_runs, first_accounted), Some(second))
    }

    /// The same batch without the records whose position `dropped` names; the caller has answered their runs'
    /// records. None when nothing is left. Rare: records expired or were refused while others go on.
    pub fn without(mut self, dropped: impl Fn(u32) -> bool) -> Option<Batch> {
        let whole = self.take_bytes();
        self.rebuild(whole, dropped)
    }

    /// Takes out the records that go back to their owners, each run of them to `tell`, and those that were answered
    /// before. Gives what is left, in order.
    pub fn give_back(mut self, mut tell: impl FnMut(&Run, Unsent)) -> Option<Batch> {
        let whole = self.take_bytes();
        let mut records = unsent::records(whole.clone());
        let mut dropped = Vec::with_capacity(self.record_count() as usize);
        for run in &self.runs {
            if run.goes_back() {
                tell(run, Unsent::take(&mut records, run.count));
            } else {
                unsent::skip(&mut records, run.count);
            }
            dropped.resize(dropped.len() + run.count as usize, run.answered || run.goes_back());
        }
        if !dropped.contains(&false) {
            return None;
        }
        self.rebuild(whole, |position| dropped[position as usize])
    }

    fn rebuild(mut self, whole: Bytes, dropped: impl Fn(u32) -> bool) -> Option<Batch> {
        let mut builder = BatchBuilder::with_capacity(whole.len());
        let mut kept_runs: Vec<Run> = Vec::new();
        let mut runs = std::mem::take(&mut self.runs).into_iter();
        let mut run: Option<(Run, u32)> = None;
        for (position, record) in unsent::records(whole).enumerate() {
            let record = record.expect("a record of ours decodes");
            if run.as_ref().is_none_or(|(run, used)| *used == run.count) {
                run = runs.next().map(|run| (run, 0));
            }
            let (run, used) = run.as_mut().expect("runs cover every record");
            let record_index = run.record_first.wrapping_add(*used);
            *used += 1;
            if dropped(position as u32) {
                continue;
            }
            let headers: Vec<HeaderRef<'_>> =
                record.headers.iter_refs().map(|(name, value)| HeaderRef { name, value }).collect();
            builder.append(&RecordRef {
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            });
            match kept_runs.last_mut() {
                Some(last)
                    if last.tag == run.tag
                        && last.record_first.wrapping_add(last.count) == record_index
                        && last.deadline == run.deadline
                        && last.on_away == run.on_away
                        && last.answered == run.answered =>
                {
                    last.count += 1;
                }
                _ => kept_runs.push(Run {
                    record_first: record_index,
                    count: 1,
                    timestamp_ms: record.timestamp_ms,
                    ..run.clone()
                }),
            }
        }
        if builder.is_empty() {
            return None;
        }
        self.accounted_bytes = self.accounted_bytes.min(builder.bytes());
        self.earliest = earliest(&kept_runs);
        self.body = Body::Open(builder);
        self.expired_count = answered_count(&kept_runs);
        self.answered_first = 0;
        self.deadlines_in_order = kept_runs.is_sorted_by_key(|run| run.deadline);
        self.runs = kept_runs;
        Some(self)
    }

    /// The same batch without the records whose owners were answered; None when nobody is left.
    pub fn strip(self) -> Option<Batch> {
        let mut answered = Vec::with_capacity(self.record_count() as usize);
        for run in &self.runs {
            answered.resize(answered.len() + run.count as usize, run.answered);
        }
        self.without(|position| answered[position as usize])
    }

    fn take_bytes(&mut self) -> Bytes {
        self.seal(Compression::None).to_bytes()
    }
}

fn earliest(runs: &[Run]) -> Option<Instant> {
    runs.iter().filter(|run| !run.answered).map(|run| run.deadline).min()
}

fn answered_count(runs: &[Run]) -> u32 {
    runs.iter().filter(|run| run.answered).map(|run| run.count).sum()
}

/// Cuts the runs after `first_count` records.
fn split_runs(runs: Vec<Run>, first_count: u32) -> (Vec<Run>, Vec<Run>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut room = first_count;
    for run in runs {
        let here = run.count.min(room);
        room -= here;
        if here > 0 {
            first.push(Run { count: here, ..run.clone() });
        }
        if here < run.count {
            second.push(Run { record_first: run.record_first.wrapping_add(here), count: run.count - here, ..run });
        }
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kafka_wire::record_batch::Record;

    use super::*;
    use crate::types::Acks;

    fn batch_of(runs: &[(u64, u32, u64)]) -> Batch {
        let start = Instant::now();
        let mut batch = Batch::new(64, Vec::new());
        for (tag, count, deadline_s) in runs {
            for index in 0..*count {
                let value = format!("{tag}/{index}");
                let headers = [HeaderRef { name: b"h", value: None }, HeaderRef { name: b"h", value: Some(b"2") }];
                let record = RecordRef {
                    timestamp_ms: 1_000 + i64::from(index),
                    key: Some(b"k"),
                    value: Some(value.as_bytes()),
                    headers: &headers,
                };
                let Body::Open(builder) = &mut batch.body else { unreachable!() };
                builder.append(&record);
                let how = How::new(Acks::All, start + Duration::from_secs(*deadline_s));
                batch.note(*tag, index, how, record.timestamp_ms);
            }
        }
        batch
    }

    fn runs(batch: &Batch) -> Vec<(u64, u32, u32)> {
        batch.runs.iter().map(|run| (run.tag, run.record_first, run.count)).collect()
    }

    fn values(batch: &mut Batch) -> Vec<String> {
        let whole = batch.seal(Compression::None).to_bytes();
        let value = |record: Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        unsent::records(whole).map(|record| value(record.unwrap())).collect()
    }

    #[test]
    fn consecutive_records_of_one_request_share_a_run() {
        assert_eq!(runs(&batch_of(&[(1, 3, 9), (2, 1, 9), (1, 2, 9)])), [(1, 0, 3), (2, 0, 1), (1, 0, 2)]);
    }

    #[test]
    fn splitting_cuts_the_runs_where_it_cuts_the_records() {
        let mut batch = batch_of(&[(1, 3, 9), (2, 2, 5)]);
        batch.seal(Compression::Lz4);
        let (mut first, second) = batch.split();
        let mut second = second.expect("five records split");
        assert_eq!((runs(&first), runs(&second)), (vec![(1, 0, 3)], vec![(2, 0, 2)]));
        assert_eq!(values(&mut first), ["1/0", "1/1", "1/2"]);
        assert_eq!(values(&mut second), ["2/0", "2/1"]);
        let (first, second) = first.split();
        let second = second.expect("three records split");
        assert_eq!((runs(&first), runs(&second)), (vec![(1, 0, 2)], vec![(1, 2, 1)]));
        assert!(second.split().1.is_none(), "one record does not split");
    }

    #[test]
    fn dropping_records_keeps_the_others_whole_and_in_order() {
        let mut batch = batch_of(&[(1, 3, 9), (2, 2, 5)]);
        batch.seal(Compression::Zstd);
        let mut rest = batch.without(|position| position == 1 || position == 3).unwrap();
        assert_eq!(runs(&rest), [(1, 0, 1), (1, 2, 1), (2, 1, 1)]);
        assert_eq!(values(&mut rest), ["1/0", "1/2", "2/1"]);
        assert!(rest.without(|_| true).is_none());
    }

    #[test]
    fn expiry_one_by_one_rewrites_each_record_about_once_and_tells_each_once() {
        // Each expired record had the whole batch decoded and encoded again: seconds of a shard in an outage.
        for in_order in [true, false] {
            let deadline = |tag: u64| if in_order { tag } else { (tag * 389) % 1_000 };
            let runs: Vec<(u64, u32, u64)> = (0..1_000).map(|tag| (tag, 1, deadline(tag))).collect();
            let start = Instant::now();
            let mut batch = Some(batch_of(&runs));
            let (mut told, mut rewritten) = (Vec::new(), 0);
            for second in 0..1_001 {
                let Some(mut left) = batch.take() else { break };
                left.expire(Some(start + Duration::from_secs(second)), |run| told.push(run.tag));
                let last = left.runs.iter().filter(|run| !run.answered).map(|run| run.deadline).min();
                assert_eq!(left.earliest, last, "in order {in_order}, second {second}");
                batch = if left.is_mostly_over() {
                    rewritten += left.record_count();
                    left.strip()
                } else {
                    Some(left)
                };
            }
            assert!(batch.is_none(), "in order {in_order}: nobody is left");
            assert!(rewritten <= 2_100, "in order {in_order}: {rewritten} records rewritten");
            told.sort_unstable();
            assert!(told.iter().copied().eq(0..1_000), "in order {in_order}: {} told", told.len());
        }
    }
}

//! Fetched batches of one partition, read record by record.
//!
//! Batches stay as they came in the frame until a poll reaches them: a compressed batch takes its uncompressed size only
//! while it is the front one and somebody polls. What consumers must not see is dropped when the batch arrives: control
//! batches, batches of aborted transactions, and records below the position (a broker answers with whole batches).
//!
//! Invariants:
//! - Every batch in the queue has a valid checksum, and their offsets grow.
//! - What the queue keeps in memory is counted until it is let go: an answer's bytes until its last batch was read, a
//!   decompressed body until its last record was taken.

use std::collections::{HashSet, VecDeque};

use bytes::{Buf, Bytes};
use kafka_wire::WireError;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{Batch, Opening, Record, batches};

use super::Turn;
use super::limits::{BATCH_DECOMPRESSED_BYTES_MAX, DECOMPRESSED_GUESS};

/// What arrived in one fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Where to fetch next.
    pub next_offset: i64,
    /// There were bytes, but not one whole batch: ask for more bytes.
    pub too_small: bool,
}

/// The bytes of one answer: the batches in the queue share their memory.
#[derive(Debug)]
struct Chunk {
    batches_left: usize,
    bytes: usize,
}

/// The front batch.
#[derive(Debug)]
struct Front {
    opening: Opening,
    is_plain: bool,
    wire_bytes: usize,
}

impl Front {
    /// Memory beside the batch's own bytes.
    fn decompressed_bytes(&self) -> usize {
        match &self.opening {
            _ if self.is_plain => 0,
            Opening::Compressed(_, decompressing) => decompressing.held_bytes(),
            Opening::Open(records) => records.body_bytes(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    batches: VecDeque<Batch>,
    front: Option<Front>,
    head: Option<Record>,
    /// Wire bytes that were not read yet: unopened batches and the front one.
    bytes: usize,
    chunks: VecDeque<Chunk>,
    /// Of all chunks.
    chunk_bytes: usize,
    /// What the last record taken keeps: its body, decompressed, or the chunk it is a part of.
    front_bytes: usize,
    /// One past the last record taken, by this queue or before it began: those below are not handed out.
    taken_offset: i64,
    /// One past the last batch that arrived.
    fetched_offset: i64,
    /// The front batch cannot be read. Nothing more comes out until [`Queue::restart`].
    fault: Option<WireError>,
}

impl Queue {
    /// Empty, beginning at `offset`.
    pub(super) fn restart(&mut self, offset: i64) {
        *self = Queue { taken_offset: offset, fetched_offset: offset, ..Queue::default() };
    }

    /// Wire bytes not read yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory it keeps.
    pub(super) fn held_bytes(&self) -> usize {
        self.chunk_bytes + self.opened_bytes()
    }

    /// Of that, what the front batch was decompressed into.
    pub(super) fn opened_bytes(&self) -> usize {
        self.front.as_ref().map_or(0, Front::decompressed_bytes)
    }

    /// What the record that was taken last keeps in memory.
    pub(super) fn front_bytes(&self) -> usize {
        self.front_bytes
    }

    /// Nothing lies here that a poll could still read. The opposite is a guess: compaction leaves batches without records.
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none() && self.front.is_none() && self.batches.is_empty()
    }

    /// One past the last record taken.
    pub(super) fn taken_offset(&self) -> i64 {
        self.taken_offset
    }

    /// Where reading goes on: at the record after the last one taken or, when none is left, behind everything that arrived,
    /// control batches and compacted records included.
    pub(super) fn read_offset(&self) -> i64 {
        if self.is_empty() && self.fault.is_none() { self.fetched_offset } else { self.taken_offset }
    }

    pub(super) fn fault(&self) -> Option<&WireError> {
        self.fault.as_ref()
    }

    /// Takes in the record bytes of one fetch that began at `fetch_offset`.
    ///
    /// `aborted` lists (producer id, first offset) of the aborted transactions in these bytes. As in Java's
    /// `CompletedFetch`: from its first offset on, a producer's transactional batches are dropped until its abort marker.
    pub(super) fn accept(
        &mut self,
        bytes: Bytes,
        aborted: &[(i64, i64)],
        fetch_offset: i64,
    ) -> Result<Accepted, WireError> {
        let chunk_bytes = bytes.len();
        let before = self.batches.len();
        let mut aborted: VecDeque<(i64, i64)> = aborted.iter().copied().collect();
        aborted.make_contiguous().sort_unstable_by_key(|(_, first_offset)| *first_offset);
        let mut aborting: HashSet<i64> = HashSet::new();
        let mut next_offset = fetch_offset;
        let mut whole = 0usize;
        for batch in batches(bytes) {
            let batch = batch?;
            whole += 1;
            batch.verify_crc()?;
            let header = batch.header;
            let last_offset = header
                .base_offset
                .checked_add(i64::from(header.last_offset_delta))
                .filter(|last| header.base_offset >= 0 && *last >= header.base_offset && *last < i64::MAX)
                .ok_or(WireError::Invalid {
                    what: "last offset delta",
                    offset: 23,
                    found: i64::from(header.last_offset_delta),
                })?;
            while let Some(&(producer_id, first_offset)) = aborted.front()
                && first_offset <= last_offset
            {
                aborting.insert(producer_id);
                aborted.pop_front();
            }
            if last_offset < next_offset {
                continue; // a batch from before the position
            }
            next_offset = last_offset + 1;
            if header.is_control() {
                if is_abort_marker(&batch) {
                    aborting.remove(&header.producer_id);
                }
            } else if header.record_count != 0 && !(header.is_transactional() && aborting.contains(&header.producer_id))
            {
                self.bytes += batch.bytes().len();
                self.batches.push_back(batch);
            }
        }
        self.fetched_offset = next_offset;
        let batches_left = self.batches.len() - before;
        if batches_left > 0 {
            self.chunks.push_back(Chunk { batches_left, bytes: chunk_bytes });
            self.chunk_bytes += chunk_bytes;
        }
        Ok(Accepted { next_offset, too_small: chunk_bytes > 0 && whole == 0 })
    }

    /// The next record, if it is no larger than `bytes_max`. Decompresses what `turn` allows to get there.
    pub(super) fn take(&mut self, bytes_max: usize, turn: &mut Turn) -> Option<Record> {
        while self.head.is_none() && self.advance(turn) {}
        if record_bytes(self.head.as_ref()?) > bytes_max {
            return None;
        }
        let record = self.head.take()?;
        let chunk_bytes = self.chunks.front().map_or(0, |chunk| chunk.bytes);
        self.front_bytes = match &self.front {
            Some(front) if !front.is_plain => front.decompressed_bytes(),
            _ => chunk_bytes,
        };
        self.taken_offset = record.offset.saturating_add(1);
        self.read_front();
        Some(record)
    }

    /// One step towards a head. False: there is none, or not in this turn.
    fn advance(&mut self, turn: &mut Turn) -> bool {
        if self.fault.is_some() {
            return false;
        }
        match self.open_front(turn) {
            Ok(false) => return false,
            Ok(true) => self.read_front(),
            Err(err) => self.fault = Some(err),
        }
        self.fault.is_none()
    }

    /// Brings the front batch nearer to its records.
    fn open_front(&mut self, turn: &mut Turn) -> Result<bool, WireError> {
        if self.front.is_none() {
            let Some(batch) = self.batches.front() else { return Ok(false) };
            let wire_bytes = batch.bytes().len();
            let is_plain = batch.header.compression()? == Compression::None;
            let guess = wire_bytes.saturating_mul(DECOMPRESSED_GUESS).min(BATCH_DECOMPRESSED_BYTES_MAX);
            if !is_plain && guess > turn.room {
                turn.is_short = true;
                return Ok(false);
            }
            self.front = Some(Front { opening: batch.open(BATCH_DECOMPRESSED_BYTES_MAX)?, is_plain, wire_bytes });
            self.batches.pop_front();
        }
        let mut front = self.front.take().expect("opened above or before");
        if front.is_plain {
            self.front = Some(front);
            return Ok(true);
        }
        if turn.bytes_left == 0 {
            turn.is_cut = true;
            self.front = Some(front);
            return Ok(false);
        }
        let before = front.decompressed_bytes();
        front.opening = front.opening.step(turn.bytes_left)?;
        turn.spend(front.decompressed_bytes().saturating_sub(before));
        self.front = Some(front);
        Ok(true)
    }

    /// Fills the head from the front batch, which goes when it has no more records.
    fn read_front(&mut self) {
        while let Some(Front { opening: Opening::Open(records), wire_bytes, .. }) = &mut self.front
            && self.head.is_none()
        {
            match records.next() {
                Some(Ok(record)) if record.offset < self.taken_offset => {}
                Some(Ok(record)) => self.head = Some(record),
                Some(Err(err)) => {
                    self.fault = Some(err);
                    return;
                }
                None => {
                    self.bytes -= *wire_bytes;
                    self.front = None;
                    self.let_go_of_one();
                }
            }
        }
    }

    /// A batch was read to its end, and with the last one of an answer that answer's bytes.
    fn let_go_of_one(&mut self) {
        let Some(chunk) = self.chunks.front_mut() else { return };
        chunk.batches_left -= 1;
        if chunk.batches_left == 0 {
            self.chunk_bytes -= chunk.bytes;
            self.chunks.pop_front();
        }
    }
}

/// What a record counts for in a poll's byte limit: key, value and headers.
pub fn record_bytes(record: &Record) -> usize {
    let headers = record.headers.iter_refs().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
    record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len) + headers.sum::<usize>()
}

/// A control record's key is `version i16, type i16`; type 0 aborts, 1 commits (KIP-98).
fn is_abort_marker(batch: &Batch) -> bool {
    let first = batch.records(BATCH_DECOMPRESSED_BYTES_MAX).ok().and_then(|mut records| records.next());
    let Some(Ok(Record { key: Some(mut key), .. })) = first else { return false };
    key.len() >= 4 && {
        key.advance(2);
        key.get_i16() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::testing::batch;
    use kafka_wire::compression::Compression;
    use kafka_wire::record_batch::{BatchBuilder, HeaderRef, RecordRef, set_log_append_time};

    fn take_all(queue: &mut Queue) -> Vec<i64> {
        std::iter::from_fn(|| take(queue, usize::MAX)).map(|record| record.offset).collect()
    }

    fn take(queue: &mut Queue, bytes_max: usize) -> Option<Record> {
        queue.take(bytes_max, &mut Turn::unbounded())
    }

    fn queue_at(offset: i64) -> Queue {
        let mut queue = Queue::default();
        queue.restart(offset);
        queue
    }

    fn joined(batches: &[Bytes]) -> Bytes {
        batches.concat().into()
    }

    #[test]
    fn records_before_the_position_inside_a_batch_are_skipped() {
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let mut queue = queue_at(12);
            let accepted = queue.accept(batch(10).records(5).codec(codec).bytes(), &[], 12).unwrap();
            assert_eq!(accepted, Accepted { next_offset: 15, too_small: false });
            assert_eq!(take_all(&mut queue), [12, 13, 14], "{codec:?}");
            assert_eq!((queue.bytes(), queue.read_offset()), (0, 15));
        }
    }

    #[test]
    fn a_cut_off_last_batch_is_left_for_the_next_fetch() {
        let bytes = joined(&[batch(0).records(2).bytes(), batch(2).records(2).bytes()]);
        let mut queue = queue_at(0);
        let accepted = queue.accept(bytes.slice(..bytes.len() - 3), &[], 0).unwrap();
        assert_eq!(accepted, Accepted { next_offset: 2, too_small: false });
        assert_eq!(take_all(&mut queue), [0, 1]);
        let one = batch(2).records(2).bytes();
        assert_eq!(queue.accept(one.slice(..40), &[], 2).unwrap(), Accepted { next_offset: 2, too_small: true });
        assert_eq!(queue.accept(Bytes::new(), &[], 2).unwrap(), Accepted { next_offset: 2, too_small: false });
    }

    #[test]
    fn control_batches_move_the_position_and_are_not_delivered() {
        let bytes = joined(&[batch(0).records(1).transactional(7).bytes(), batch(1).control(7, true).bytes()]);
        let mut queue = queue_at(0);
        assert_eq!(queue.accept(bytes, &[], 0).unwrap().next_offset, 2);
        assert_eq!((take_all(&mut queue), queue.taken_offset(), queue.read_offset()), (vec![0], 1, 2));
        assert_eq!(queue.accept(batch(2).control(7, true).bytes(), &[], 2).unwrap().next_offset, 3);
        assert_eq!((take_all(&mut queue), queue.read_offset()), (vec![], 3));
    }

    #[test]
    fn records_of_an_aborted_transaction_are_dropped_and_those_of_the_next_are_not() {
        let bytes = joined(&[
            batch(0).records(2).transactional(7).bytes(), // aborted below
            batch(2).records(1).bytes(),                  // nobody's transaction
            batch(3).records(1).transactional(8).bytes(), // another producer's, committed
            batch(4).control(7, false).bytes(),           // 7 aborts
            batch(5).records(1).transactional(7).bytes(), // 7 again, committed
            batch(6).records(1).transactional(9).bytes(), // aborted, its marker comes later
        ]);
        let mut queue = queue_at(0);
        assert_eq!(queue.accept(bytes, &[(9, 6), (7, 0)], 0).unwrap().next_offset, 7);
        assert_eq!(take_all(&mut queue), [2, 3, 5]);
    }

    #[test]
    fn a_batch_with_a_wrong_checksum_is_refused_and_nothing_of_it_is_seen() {
        let mut bytes = batch(0).records(1).bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let mut queue = queue_at(0);
        assert!(matches!(queue.accept(bytes.into(), &[], 0), Err(WireError::Crc { .. })));
        assert_eq!(take(&mut queue, usize::MAX), None);
    }

    /// As in Java's `CompletedFetch`; brokers write no such log.
    #[test]
    fn only_its_abort_marker_ends_an_aborted_transaction() {
        for (key, seen) in [(&[0, 0, 0, 0][..], vec![2]), (&[0, 0, 0, 1], vec![]), (&[0, 0], vec![])] {
            let bytes = joined(&[
                batch(0).records(1).transactional(7).bytes(),
                batch(1).control_key(7, key).bytes(),
                batch(2).records(1).transactional(7).bytes(),
            ]);
            let mut queue = queue_at(0);
            assert_eq!(queue.accept(bytes, &[(7, 0)], 0).unwrap().next_offset, 3);
            assert_eq!(take_all(&mut queue), seen, "{key:?}");
        }
    }

    #[test]
    fn offsets_that_no_log_has_are_refused() {
        for (base_offset, last_offset_delta, accepted) in [
            (0, 0, true),
            (-1, 1, false),
            (5, -1, false),
            (i64::MAX - 1, 0, true),
            (i64::MAX, 0, false),
            (i64::MAX, 1, false),
        ] {
            let mut bytes = batch(0).records(1).bytes().to_vec();
            bytes[..8].copy_from_slice(&i64::to_be_bytes(base_offset));
            bytes[23..27].copy_from_slice(&i32::to_be_bytes(last_offset_delta));
            set_log_append_time(&mut bytes, 1); // renews the checksum
            let mut queue = queue_at(0);
            assert_eq!(queue.accept(bytes.into(), &[], 0).is_ok(), accepted, "{base_offset} {last_offset_delta}");
        }
    }

    #[test]
    fn a_queue_that_begins_anew_reads_on_where_it_was_told_to() {
        let queue = queue_at(12);
        assert_eq!((queue.taken_offset(), queue.read_offset()), (12, 12));
    }

    #[test]
    fn a_record_counts_for_its_key_value_and_headers() {
        let headers = [HeaderRef { name: b"trace", value: Some(b"12") }, HeaderRef { name: b"flag", value: None }];
        for (key, value, headers, bytes) in [
            (None, None, &[][..], 0),
            (Some(&b"key"[..]), None, &[][..], 3),
            (Some(b"key"), Some(&b"value"[..]), &headers[..1], 3 + 5 + 7),
            (None, Some(b"value"), &headers, 5 + 7 + 4),
        ] {
            let mut builder = BatchBuilder::with_capacity(256);
            builder.append(&RecordRef { timestamp_ms: 1, key, value, headers });
            let mut sealed = builder.seal(Compression::None);
            sealed.stamp(-1, 0, 0);
            let batch = batches(sealed.to_bytes()).next().unwrap().unwrap();
            let record = batch.records(BATCH_DECOMPRESSED_BYTES_MAX).unwrap().next().unwrap().unwrap();
            assert_eq!(record_bytes(&record), bytes, "{record:?}");
        }
    }

    #[test]
    fn a_record_larger_than_what_is_left_stays_for_the_next_poll() {
        let mut queue = queue_at(0);
        queue.accept(batch(0).records(1).value(&[7; 100]).bytes(), &[], 0).unwrap();
        assert_eq!(take(&mut queue, 99), None);
        assert_eq!(take(&mut queue, 100).unwrap().offset, 0);
    }

    #[test]
    fn a_compressed_batch_is_opened_when_polled_in_turns_and_only_into_memory_there_is() {
        for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd, Compression::Snappy] {
            let bytes = batch(0).records(4).value(&[7; 100_000]).codec(codec).bytes();
            let (wire_bytes, plain_bytes) = (bytes.len(), 400_000);
            let mut queue = queue_at(0);
            queue.accept(bytes, &[], 0).unwrap();
            assert_eq!(queue.held_bytes(), wire_bytes, "{codec:?}: nobody polled");

            let guess = wire_bytes * DECOMPRESSED_GUESS;
            let mut short = Turn::new(usize::MAX, guess - 1);
            assert_eq!((queue.take(usize::MAX, &mut short), short.is_short), (None, true), "{codec:?}");
            assert_eq!(queue.held_bytes(), wire_bytes, "{codec:?}: it waits for room");
            let mut enough = Turn::new(0, guess);
            assert_eq!((queue.take(usize::MAX, &mut enough), enough.is_short), (None, false), "{codec:?}");

            let mut turns = 1;
            while queue.take(usize::MAX, &mut Turn::new(50_000, usize::MAX)).is_none() {
                assert!(!queue.is_empty(), "{codec:?}: it is begun");
                turns += 1;
            }
            assert!((4..=10).contains(&turns), "{codec:?}: {turns} turns");
            let held = queue.held_bytes();
            assert!((plain_bytes..2 * plain_bytes).contains(&held), "{codec:?}: {held} bytes held");
            assert_eq!(
                queue.front_bytes(),
                queue.opened_bytes(),
                "{codec:?}: its record keeps what it was opened into"
            );

            let mut over = Turn::new(0, 0);
            let rest: Vec<i64> = std::iter::from_fn(|| queue.take(usize::MAX, &mut over)).map(|r| r.offset).collect();
            assert_eq!((rest, over.is_cut, over.is_short), (vec![1, 2, 3], false, false), "{codec:?}: it is open");
            assert_eq!((queue.held_bytes(), queue.bytes()), (0, 0), "{codec:?}");
        }
    }

    #[test]
    fn an_answer_is_held_until_the_last_of_its_batches_is_read() {
        let (one, two) = (batch(0).records(1).bytes(), batch(1).records(2).bytes());
        let both = joined(&[one, two]);
        let mut queue = queue_at(0);
        queue.accept(both.clone(), &[], 0).unwrap();
        queue.accept(batch(3).records(1).bytes(), &[], 3).unwrap();
        queue.accept(batch(4).control(7, true).bytes(), &[], 4).unwrap(); // nothing of it is kept
        let last = batch(3).records(1).bytes().len();
        for held in [both.len() + last, both.len() + last, both.len() + last, last, 0] {
            assert_eq!(queue.held_bytes(), held, "after {:?}", queue.taken_offset());
            let pinned = if queue.taken_offset() < 3 { both.len() } else { last };
            assert_eq!(take(&mut queue, usize::MAX).map(|_| queue.front_bytes()), (held > 0).then_some(pinned));
        }
    }
}

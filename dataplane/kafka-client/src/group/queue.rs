//! Fetched batches of one partition, read record by record.
//!
//! Batches stay as they came in the frame until a poll reaches them: a compressed batch takes its uncompressed size only
//! while it is the front one. What consumers must not see is dropped when the batch arrives: control batches, batches of
//! aborted transactions, and records below the position (a broker answers with whole batches).
//!
//! Invariants:
//! - Every batch in the queue has a valid checksum, and their offsets grow.
//! - `head` is filled whenever a deliverable record exists, so "is there a record" costs nothing and is exact.

use std::collections::{HashSet, VecDeque};

use bytes::{Buf, Bytes};
use kafka_wire::WireError;
use kafka_wire::record_batch::{Batch, Record, Records, batches};

use super::limits::BATCH_DECOMPRESSED_BYTES_MAX;

/// What arrived in one fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Where to fetch next.
    pub next_offset: i64,
    /// There were bytes, but not one whole batch: ask for more bytes.
    pub too_small: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    batches: VecDeque<Batch>,
    open: Option<(Records, usize)>,
    head: Option<Record>,
    /// Wire bytes held: unopened batches and the open one.
    bytes: usize,
    /// Records below were handed out before this queue began.
    from_offset: i64,
    /// One past the last record taken.
    taken_offset: i64,
    /// One past the last batch that arrived.
    fetched_offset: i64,
    /// The front batch cannot be read. Nothing more comes out until [`Queue::restart`].
    fault: Option<WireError>,
}

impl Queue {
    /// Empty, beginning at `offset`.
    pub(super) fn restart(&mut self, offset: i64) {
        *self = Queue { from_offset: offset, taken_offset: offset, fetched_offset: offset, ..Queue::default() };
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_record(&self) -> bool {
        self.head.is_some()
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
        let had_bytes = !bytes.is_empty();
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
            } else if !(header.is_transactional() && aborting.contains(&header.producer_id)) {
                self.bytes += batch.bytes().len();
                self.batches.push_back(batch);
            }
        }
        self.fetched_offset = next_offset;
        self.fill_head();
        Ok(Accepted { next_offset, too_small: had_bytes && whole == 0 })
    }

    /// The next record, if it is no larger than `bytes_max`.
    pub(super) fn take(&mut self, bytes_max: usize) -> Option<Record> {
        if record_bytes(self.head.as_ref()?) > bytes_max {
            return None;
        }
        let record = self.head.take()?;
        self.taken_offset = record.offset.saturating_add(1);
        self.fill_head();
        Some(record)
    }

    fn is_empty(&self) -> bool {
        self.head.is_none() && self.open.is_none() && self.batches.is_empty()
    }

    fn fill_head(&mut self) {
        while self.head.is_none() && self.fault.is_none() {
            let Some((records, open_bytes)) = &mut self.open else {
                let Some(batch) = self.batches.pop_front() else { return };
                match batch.records(BATCH_DECOMPRESSED_BYTES_MAX) {
                    Ok(records) => self.open = Some((records, batch.bytes().len())),
                    Err(err) => self.fault = Some(err),
                }
                continue;
            };
            match records.next() {
                Some(Ok(record)) if record.offset < self.from_offset.max(self.taken_offset) => {}
                Some(Ok(record)) => self.head = Some(record),
                Some(Err(err)) => self.fault = Some(err),
                None => {
                    self.bytes -= *open_bytes;
                    self.open = None;
                }
            }
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
        std::iter::from_fn(|| queue.take(usize::MAX)).map(|record| record.offset).collect()
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
        assert!(!queue.has_record());
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
        assert_eq!(queue.take(99), None);
        assert_eq!(queue.take(100).unwrap().offset, 0);
    }
}

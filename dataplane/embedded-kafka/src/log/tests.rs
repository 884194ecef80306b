//! The log against torn files, rolls, restarts, and a model.

use std::time::Instant;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{BatchBuilder, RecordRef, validate_batch};
use proptest::prelude::*;

use super::*;
use crate::producers::Verdict;

const EVERYTHING: i64 = i64::MAX;

struct Fixture {
    dir: PathBuf,
    log: PartitionLog,
    producers: Producers,
    options: LogOptions,
    hooks: Hooks,
}

impl Fixture {
    fn open(dir: &Path, segment_bytes: u64) -> Fixture {
        let (log, producers) = PartitionLog::open(dir.to_owned(), 0, 0).unwrap();
        let options = LogOptions { segment_bytes, retention_bytes: None, retention_ms: None };
        Fixture { dir: dir.to_owned(), log, producers, options, hooks: Hooks::new() }
    }

    fn reopen(&mut self) {
        let start = self.log.start_offset();
        let (log, producers) = PartitionLog::open(self.dir.clone(), start, 0).unwrap();
        self.log = log;
        self.producers = producers;
    }

    /// Appends a batch of `count` records of `value_bytes` each, the n-th at `first_ms + n`, stamped by producer 5.
    fn append(&mut self, count: usize, value_bytes: usize, first_ms: i64) -> i64 {
        let mut builder = BatchBuilder::with_capacity(1024);
        let value = vec![b'v'; value_bytes];
        for n in 0..count {
            let record = RecordRef { timestamp_ms: first_ms + n as i64, key: None, value: Some(&value), headers: &[] };
            builder.append(&record);
        }
        let mut sealed = builder.seal(Compression::None);
        sealed.stamp(5, 0, self.log.end_offset() as i32);
        let bytes = sealed.to_bytes();
        let header = validate_batch(&bytes).unwrap();
        let now = Instant::now();
        let offset = self.log.append(&bytes, &header, &self.options, &self.producers, &self.hooks, now).unwrap();
        self.producers.record(&stamp_of(&header), offset, 0);
        offset
    }

    fn read(&mut self, offset: i64, limit: i64, bytes_max: usize) -> Vec<i64> {
        let bytes = self.log.read(offset, limit, bytes_max).unwrap();
        batches(bytes)
            .flat_map(|batch| {
                let batch = batch.unwrap();
                batch.verify_crc().unwrap();
                batch.header.base_offset..=batch.header.last_offset()
            })
            .collect()
    }

    fn last_file(&self) -> PathBuf {
        self.log.segments.last().unwrap().path.clone()
    }
}

fn stamp(base_sequence: i32, count: i32) -> Stamp {
    Stamp { producer_id: 5, epoch: 0, base_sequence, last_offset_delta: count - 1, max_timestamp_ms: 0 }
}

#[test]
fn a_log_cut_at_every_byte_of_its_last_batch_keeps_everything_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(&dir.path().join("p"), 1 << 20);
    fixture.append(3, 10, 0);
    fixture.append(2, 10, 10);
    let path = fixture.last_file();
    let keep = fs::metadata(&path).unwrap().len() as usize;
    fixture.append(4, 10, 20);
    let whole = fs::read(&path).unwrap();
    for cut in keep..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        fixture.reopen();
        assert_eq!(fixture.log.end_offset(), 5, "cut at {cut}");
        assert_eq!(fs::metadata(&path).unwrap().len() as usize, keep);
        assert_eq!(fixture.producers.check(&stamp(5, 4)), Verdict::Append, "its sequence is forgotten with it");
        assert_eq!(fixture.append(1, 10, 30), 5);
        assert_eq!(fixture.read(0, EVERYTHING, 1 << 20), (0..6).collect::<Vec<_>>());
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_last_batch_cuts_it_and_zeros_behind_it_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(&dir.path().join("p"), 1 << 20);
    fixture.append(3, 10, 0);
    let path = fixture.last_file();
    let keep = fs::metadata(&path).unwrap().len() as usize;
    fixture.append(2, 10, 20);
    let whole = fs::read(&path).unwrap();
    for at in keep..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x04;
        fs::write(&path, &damaged).unwrap();
        fixture.reopen();
        // The leader epoch is not covered by the checksum; nothing depends on it.
        let epoch = (keep + 12..keep + 16).contains(&at);
        assert_eq!(fixture.log.end_offset(), if epoch { 5 } else { 3 }, "flipped at {}", at - keep);
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0; 5000]);
    fs::write(&path, &longer).unwrap();
    fixture.reopen();
    assert_eq!(fixture.log.end_offset(), 5);
    assert_eq!(fs::metadata(&path).unwrap().len() as usize, whole.len());
}

#[test]
fn segments_roll_and_recovery_needs_the_last_one_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(&dir.path().join("p"), 2_000);
    for n in 0..50 {
        fixture.append(3, 100, n * 10);
    }
    assert!(fixture.log.segments.len() > 5);
    let expected = fixture.producers.encode();
    fixture.reopen();
    assert_eq!(fixture.log.end_offset(), 150);
    assert_eq!(Producers::decode(&expected).unwrap(), fixture.producers);
    assert_eq!(fixture.log.segments.iter().filter(|segment| segment.index.is_some()).count(), 1);
    for offset in 0..150 {
        let read = fixture.read(offset, EVERYTHING, 300);
        assert_eq!(read[0], offset / 3 * 3);
    }
    // Without snapshots the producers come from the whole log.
    for segment in fixture.log.segments.iter() {
        let _ = fs::remove_file(segment.path.with_extension("producers"));
    }
    fixture.reopen();
    assert_eq!(Producers::decode(&expected).unwrap(), fixture.producers);
    // A snapshot of rubbish is not believed.
    fs::write(fixture.last_file().with_extension("producers"), b"rubbish").unwrap();
    fixture.reopen();
    assert_eq!(Producers::decode(&expected).unwrap(), fixture.producers);
}

#[test]
fn what_is_not_durable_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(&dir.path().join("p"), 1 << 20);
    for n in 0..4 {
        fixture.append(2, 10, n);
    }
    assert_eq!(fixture.read(0, 4, 1 << 20), [0, 1, 2, 3]);
    assert!(fixture.read(4, 4, 1 << 20).is_empty());
    assert!(fixture.read(5, 4, 1 << 20).is_empty());
    assert!(matches!(fixture.log.read(9, 8, 1), Err(LogError::OutOfRange { start: 0, end: 8, .. })));
}

#[test]
fn a_failed_sync_at_a_roll_poisons_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(&dir.path().join("p"), 300);
    fixture.append(1, 200, 0);
    fixture.hooks.fail_syncs(1);
    let mut builder = BatchBuilder::with_capacity(1024);
    builder.append(&RecordRef { timestamp_ms: 0, key: None, value: Some(&[0; 200]), headers: &[] });
    let bytes = builder.seal(Compression::None).to_bytes();
    let header = validate_batch(&bytes).unwrap();
    let Fixture { log, producers, options, hooks, .. } = &mut fixture;
    for _ in 0..2 {
        assert!(log.append(&bytes, &header, options, producers, hooks, Instant::now()).is_err());
    }
    assert_eq!(fixture.read(0, EVERYTHING, 1 << 20), [0], "reading goes on");
}

#[test]
fn retention_by_age_seals_the_active_segment_and_keeps_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(&dir.path().join("p"), 2_000);
    for n in 0..30 {
        fixture.append(3, 100, n * 1000);
    }
    fixture.options.retention_ms = Some(10_000);
    let Fixture { log, producers, options, hooks, .. } = &mut fixture;
    log.enforce_retention(options, 90, producers, hooks, 20_000).unwrap();
    let start = log.start_offset();
    assert!(start > 0 && start < 90, "{start}");
    assert!(log.enforce_retention(options, 80, producers, hooks, i64::MAX).unwrap() > 0);
    assert_eq!(log.segments.len(), 1, "not durable yet, so the active one stays");
    log.enforce_retention(options, 90, producers, hooks, i64::MAX).unwrap();
    assert_eq!((log.start_offset(), log.end_offset(), log.bytes()), (90, 90, 0));
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (90, 90));
    assert_eq!(fixture.producers.check(&stamp(87, 3)), Verdict::Duplicate { base_offset: 87, timestamp_ms: 29_002 });
    assert_eq!(fixture.append(1, 10, 0), 90);
}

#[test]
fn a_start_behind_a_torn_end_goes_on_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(&dir.path().join("p"), 1 << 20);
    fixture.append(5, 10, 0);
    fixture.append(5, 10, 0);
    fixture.log.delete_before(8).unwrap();
    let path = fixture.last_file();
    let len = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(len - 1).unwrap();
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (8, 8));
    assert_eq!(fixture.append(1, 10, 0), 8);
    assert_eq!(fixture.read(8, EVERYTHING, 1 << 20), [8]);
    fixture.reopen();
    assert_eq!(fixture.read(8, EVERYTHING, 1 << 20), [8]);
}

#[derive(Clone, Debug)]
enum Op {
    Append { count: usize, value_bytes: usize, first_ms: i64 },
    Reopen,
    Close,
    DeleteBefore(u8),
    Retain { bytes: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1..20_usize, 0..900_usize, 0..1000_i64)
            .prop_map(|(count, value_bytes, first_ms)| Op::Append { count, value_bytes, first_ms }),
        1 => Just(Op::Reopen),
        1 => Just(Op::Close),
        1 => any::<u8>().prop_map(Op::DeleteBefore),
        1 => (1..20_000_u64).prop_map(|bytes| Op::Retain { bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_log_reads_what_a_list_of_batches_would(ops in prop::collection::vec(op(), 1..60), probes in prop::collection::vec((any::<u16>(), 0..8_000_usize), 8)) {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::open(&dir.path().join("p"), 9_000);
        // (base offset, count, bytes, first timestamp) of every batch ever appended
        let mut model: Vec<(i64, i64, usize, i64)> = Vec::new();
        for op in ops {
            match op {
                Op::Append { count, value_bytes, first_ms } => {
                    let before = fixture.log.bytes();
                    let offset = fixture.append(count, value_bytes, first_ms);
                    model.push((offset, count as i64, (fixture.log.bytes() - before) as usize, first_ms));
                }
                Op::Reopen => fixture.reopen(),
                Op::Close => {
                    if let Some(target) = fixture.log.sync_target() {
                        target.sync_now(&Hooks::new()).unwrap();
                    }
                    fixture.log.close_if_idle(Instant::now() + FILE_IDLE * 2);
                }
                Op::DeleteBefore(at) => {
                    let (start, end) = (fixture.log.start_offset(), fixture.log.end_offset());
                    fixture.log.delete_before(start + (end - start) * i64::from(at) / 255).unwrap();
                }
                Op::Retain { bytes } => {
                    let options = LogOptions { retention_bytes: Some(bytes), ..fixture.options };
                    let end = fixture.log.end_offset();
                    fixture.log.enforce_retention(&options, end, &fixture.producers, &fixture.hooks, 0).unwrap();
                }
            }
            let end = model.last().map_or(0, |(base, count, ..)| base + count);
            prop_assert_eq!(fixture.log.end_offset(), end);
        }
        let (start, end) = (fixture.log.start_offset(), fixture.log.end_offset());
        for (at, bytes_max) in probes {
            let offset = start + i64::from(at) % (end - start + 1);
            let limit = end - i64::from(at % 3);
            let mut expected = Vec::new();
            let mut bytes = 0;
            for (base, count, size, _) in model.iter().filter(|(base, count, ..)| base + count > offset) {
                // One segment is read at a time; the model does not know where they begin.
                if base + count > limit || (bytes > 0 && bytes + size > bytes_max) || offset >= limit {
                    break;
                }
                bytes += size;
                expected.extend(*base..base + count);
            }
            let read = fixture.read(offset, limit, bytes_max);
            prop_assert!(expected.starts_with(&read), "at {} up to {}: {:?}, not {:?}", offset, limit, read, expected);
            prop_assert_eq!(read.is_empty(), expected.is_empty());

            let wanted_ms = i64::from(at) % 1020;
            let found = fixture.log.find_timestamp(wanted_ms, end).unwrap().map(|found| found.offset);
            let naive = model
                .iter()
                .flat_map(|(base, count, _, first)| (0..*count).map(move |n| (base + n, first + n)))
                .find(|(offset, ms)| *offset >= start && *ms >= wanted_ms)
                .map(|(offset, _)| offset);
            prop_assert_eq!(found, naive);
        }
    }
}

//! The log against torn files, rolls, restarts, and a model.

use std::time::Instant;

use disk::{Operation, SimulatedDisk};
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{BatchBuilder, RecordRef, batches, validate_batch};
use proptest::prelude::*;

use super::format::{parse_segment_name, snapshot_path};
use super::*;
use crate::storage::producers::Verdict;

const EVERYTHING: i64 = i64::MAX;
const DIR: &str = "/p";
const EIO: i32 = 5;
const EMFILE: i32 = 24;

struct Fixture {
    disk: Arc<SimulatedDisk>,
    log: PartitionLog,
    producers: Producers,
    options: LogOptions,
}

fn now(ms: i64) -> Now {
    Now { at: Instant::now(), ms }
}

impl Fixture {
    fn open(segment_bytes: u64) -> Fixture {
        let disk = Arc::new(SimulatedDisk::new(5));
        let (log, producers) = PartitionLog::open(disk.clone(), PathBuf::from(DIR), 0, None, 0).unwrap();
        let options = LogOptions { segment_bytes, retention_bytes: None, retention_ms: None };
        Fixture { disk, log, producers, options }
    }

    fn reopen(&mut self) {
        let start = self.log.start_offset();
        let (log, producers) = PartitionLog::open(self.disk.clone(), PathBuf::from(DIR), start, None, 0).unwrap();
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
        self.append_batch(sealed.to_bytes(), first_ms).unwrap()
    }

    fn append_batch(&mut self, bytes: Bytes, now_ms: i64) -> Result<i64, LogError> {
        let header = validate_batch(&bytes).unwrap();
        let offset = self.log.append(&bytes, &header, &self.options, &self.producers, now(now_ms))?;
        self.producers.record(&stamp_of(&header), offset, 0);
        Ok(offset)
    }

    fn retain(&mut self, limit_offset: i64, now_ms: i64) -> Option<i64> {
        let start = self.log.start_by_retention(&self.options, limit_offset, &self.producers, now_ms).unwrap();
        if let Some(start) = start {
            self.log.forget_before(start, None);
        }
        start
    }

    fn content(&self, path: &Path) -> Vec<u8> {
        let file = self.disk.open(path, Open::Existing).unwrap();
        self.disk.read(&file, 0, 1 << 24).unwrap().to_vec()
    }

    fn put(&self, path: &Path, content: &[u8]) {
        let file = self.disk.open(path, Open::Empty).unwrap();
        self.disk.write_all(&file, Bytes::copy_from_slice(content), Bytes::new(), 0).unwrap();
    }

    fn names(&self) -> Vec<String> {
        self.disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect()
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
    let mut fixture = Fixture::open(1 << 20);
    fixture.append(3, 10, 0);
    fixture.append(2, 10, 10);
    let path = fixture.last_file();
    let keep = fixture.content(&path).len();
    fixture.append(4, 10, 20);
    let whole = fixture.content(&path);
    for cut in keep..whole.len() {
        fixture.put(&path, &whole[..cut]);
        fixture.reopen();
        assert_eq!(fixture.log.end_offset(), 5, "cut at {cut}");
        assert_eq!(fixture.content(&path).len(), keep);
        assert_eq!(fixture.producers.check(&stamp(5, 4)), Verdict::Append, "its sequence is forgotten with it");
        assert_eq!(fixture.append(1, 10, 30), 5);
        assert_eq!(fixture.read(0, EVERYTHING, 1 << 20), (0..6).collect::<Vec<_>>());
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_last_batch_cuts_it_and_zeros_behind_it_are_cut() {
    let mut fixture = Fixture::open(1 << 20);
    fixture.append(3, 10, 0);
    let path = fixture.last_file();
    let keep = fixture.content(&path).len();
    fixture.append(2, 10, 20);
    let whole = fixture.content(&path);
    for at in keep..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x04;
        fixture.put(&path, &damaged);
        fixture.reopen();
        // The leader epoch is not covered by the checksum; nothing depends on it.
        let epoch = (keep + 12..keep + 16).contains(&at);
        assert_eq!(fixture.log.end_offset(), if epoch { 5 } else { 3 }, "flipped at {}", at - keep);
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0; 5000]);
    fixture.put(&path, &longer);
    fixture.reopen();
    assert_eq!(fixture.log.end_offset(), 5);
    assert_eq!(fixture.content(&path).len(), whole.len());
}

#[test]
fn segments_roll_and_recovery_needs_the_last_one_only() {
    let mut fixture = Fixture::open(2_000);
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
        let _ = fixture.disk.remove(&snapshot_path(Path::new(DIR), segment.base_offset));
    }
    fixture.reopen();
    assert_eq!(Producers::decode(&expected).unwrap(), fixture.producers);
    // A snapshot of rubbish is not believed.
    fixture.put(&fixture.last_file().with_extension("producers"), b"rubbish");
    fixture.reopen();
    assert_eq!(Producers::decode(&expected).unwrap(), fixture.producers);
}

#[test]
fn what_is_not_durable_is_not_read() {
    let mut fixture = Fixture::open(1 << 20);
    for n in 0..4 {
        fixture.append(2, 10, n);
    }
    assert_eq!(fixture.read(0, 4, 1 << 20), [0, 1, 2, 3]);
    assert!(fixture.read(4, 4, 1 << 20).is_empty());
    assert!(fixture.read(5, 4, 1 << 20).is_empty());
    assert!(matches!(fixture.log.read(9, 8, 1), Err(LogError::OutOfRange { start: 0, end: 8, .. })));
}

fn one_record(timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::with_capacity(1024);
    builder.append(&RecordRef { timestamp_ms, key: None, value: Some(&[0; 200]), headers: &[] });
    builder.seal(Compression::None).to_bytes()
}

#[test]
fn a_small_read_advances_when_the_header_it_looks_for_straddles_the_end_of_the_window() {
    // The window is what was asked for and 16 KiB; the second batch's header begins 20 bytes before that.
    for (short, bytes_max) in [(20, 1), (20, 20), (1, 1), (60, 30), (61, 1), (0, 1)] {
        let mut fixture = Fixture::open(1 << 20);
        let window = 16 * 1024;
        let mut value_bytes = window - short - 200;
        let size = |value_bytes: usize| {
            let mut builder = BatchBuilder::with_capacity(1024);
            let value = vec![b'v'; value_bytes];
            builder.append(&RecordRef { timestamp_ms: 0, key: None, value: Some(&value), headers: &[] });
            builder.seal(Compression::None).bytes()
        };
        while size(value_bytes) < window - short {
            value_bytes += 1;
        }
        fixture.append(1, value_bytes, 0);
        fixture.append(1, 10, 0);
        fixture.append(1, 10, 0);
        assert_eq!(fixture.read(1, EVERYTHING, bytes_max), [1], "{short} bytes before the end, {bytes_max} asked for");
        assert_eq!(fixture.read(2, EVERYTHING, bytes_max), [2], "{short} bytes before the end, {bytes_max} asked for");
    }
}

#[test]
fn a_failed_sync_at_a_roll_poisons_the_log() {
    let mut fixture = Fixture::open(300);
    fixture.append(1, 200, 0);
    fixture.disk.fail_next(|operation| matches!(operation, Operation::Persist { .. }), EIO);
    for _ in 0..2 {
        assert!(fixture.append_batch(one_record(0), 0).is_err());
    }
    assert!(fixture.log.read(0, 0, 1 << 20).is_ok(), "what was durable, nothing here, can still be read");
}

#[test]
fn no_descriptor_left_is_a_shortage_that_passes_wherever_it_is_met() {
    // The n-th of what needs a descriptor while a segment is rolled: the directory persisted with the old one, then the
    // snapshot, the new segment, and the new segment opened.
    for skipped in 0..4 {
        let mut fixture = Fixture::open(300);
        fixture.append(1, 200, 0);
        let left = std::sync::atomic::AtomicUsize::new(skipped);
        let needs_one = move |operation: &Operation| match operation {
            Operation::Open { .. } | Operation::PersistDir { .. } => left
                .fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_err(),
            _ => false,
        };
        fixture.disk.fail_next(needs_one, EMFILE);
        let first = fixture.append_batch(one_record(0), 0);
        // Without a snapshot nothing is lost but time.
        assert_eq!(first.is_err(), skipped != 2, "{skipped}: {first:?}");
        if first.is_err() {
            assert_eq!(fixture.append_batch(one_record(0), 0).unwrap(), 1, "{skipped}");
        }
        assert_eq!(fixture.read(0, EVERYTHING, 1 << 20), [0], "{skipped}");
        fixture.reopen();
        assert_eq!(fixture.log.end_offset(), 2, "{skipped}");
    }
}

#[test]
fn whole_batches_behind_a_broken_one_are_kept_beside_the_log_and_not_destroyed() {
    let mut fixture = Fixture::open(1 << 20);
    for n in 0..3 {
        fixture.append(2, 10, n);
    }
    let path = fixture.last_file();
    let whole = fixture.content(&path);
    let batch_bytes = whole.len() / 3;
    let mut damaged = whole.clone();
    damaged[batch_bytes + 70] ^= 1;
    fixture.put(&path, &damaged);
    fixture.reopen();
    assert_eq!(fixture.log.end_offset(), 2);
    let kept = fixture.names().into_iter().find(|name| name.ends_with(".cut")).expect("the end is kept");
    assert_eq!(fixture.content(&Path::new(DIR).join(kept)), damaged[batch_bytes..]);
    assert_eq!(fixture.append(1, 10, 0), 2, "and the log goes on");
}

#[test]
fn retention_by_age_seals_the_active_segment_and_keeps_the_end() {
    let mut fixture = Fixture::open(2_000);
    for n in 0..30 {
        fixture.append(3, 100, n * 1000);
    }
    fixture.options.retention_ms = Some(10_000);
    fixture.retain(90, 20_000);
    let start = fixture.log.start_offset();
    assert!(start > 0 && start < 90, "{start}");
    assert!(fixture.retain(80, i64::MAX).is_some());
    assert_eq!(fixture.log.segments.len(), 1, "not durable yet, so the active one stays");
    fixture.retain(90, i64::MAX);
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset(), fixture.log.bytes()), (90, 90, 0));
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (90, 90));
    assert_eq!(fixture.producers.check(&stamp(87, 3)), Verdict::Duplicate { base_offset: 87, timestamp_ms: 29_002 });
    assert_eq!(fixture.append(1, 10, 0), 90);
}

#[test]
fn records_that_do_not_say_when_they_are_from_are_as_old_as_their_segments_last_append() {
    let mut fixture = Fixture::open(1 << 20);
    fixture.options.retention_ms = Some(10_000);
    fixture.disk.set_now_ms(50_000);
    fixture.append_batch(one_record(-1), 50_000).unwrap();
    assert_eq!(fixture.retain(1, 60_000), None);
    // After a restart the file's own age is all there is.
    fixture.reopen();
    assert_eq!(fixture.retain(1, 60_000), None);
    assert_eq!(fixture.retain(1, 60_001), Some(1));
    // One that says so makes the segment as old as itself, as in Kafka.
    fixture.append_batch(one_record(-1), 70_000).unwrap();
    fixture.append_batch(one_record(1), 70_000).unwrap();
    assert_eq!(fixture.retain(3, 70_000), Some(3));
}

#[test]
fn what_a_kill_left_in_memory_is_persisted_before_it_is_called_durable_names_included() {
    for seed in 0..50 {
        let disk = Arc::new(SimulatedDisk::new(seed));
        let open = || PartitionLog::open(disk.clone(), PathBuf::from(DIR), 0, None, 0).unwrap();
        let (mut log, producers) = open();
        let options = LogOptions { segment_bytes: 1 << 20, retention_bytes: None, retention_ms: None };
        let batch = one_record(0);
        log.append(&batch, &validate_batch(&batch).unwrap(), &options, &producers, now(0)).unwrap();
        disk.kill();
        assert_eq!(open().0.end_offset(), 1, "read back");
        // The broker does this once for all partitions.
        disk.persist_dir(Path::new("/")).unwrap();
        disk.cut();
        assert_eq!(open().0.end_offset(), 1, "seed {seed}: and durable");
    }
}

#[test]
fn files_of_forgotten_records_go_when_the_catalogue_durably_says_so_and_never_before() {
    let mut fixture = Fixture::open(300);
    for n in 0..4 {
        fixture.append(1, 200, n);
    }
    let before = fixture.names();
    let file = fixture.disk.open(Path::new("/topics"), Open::Empty).unwrap();
    fixture.disk.write_all(&file, Bytes::from_static(b"x"), Bytes::new(), 0).unwrap();
    let catalogue = SyncTarget::new(file, 0, vec![PathBuf::from("/")], None);
    fixture.disk.write_all(catalogue.file(), Bytes::from_static(b"x"), Bytes::new(), 0).unwrap();
    fixture.log.forget_before(3, Some(catalogue.point()));
    fixture.log.remove_forgotten();
    assert_eq!((fixture.log.start_offset(), fixture.names()), (3, before));
    catalogue.sync_now(&*fixture.disk).unwrap();
    fixture.log.remove_forgotten();
    let segments: Vec<_> = fixture.names().iter().filter_map(|name| parse_segment_name(name)).collect();
    assert_eq!(segments, [3]);
}

#[test]
fn a_start_behind_a_torn_end_goes_on_from_the_start() {
    let mut fixture = Fixture::open(1 << 20);
    fixture.append(5, 10, 0);
    fixture.append(5, 10, 0);
    fixture.log.forget_before(8, None);
    let path = fixture.last_file();
    let whole = fixture.content(&path);
    fixture.put(&path, &whole[..whole.len() - 1]);
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
            let mut fixture = Fixture::open(9_000);
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
                        target.sync_now(&*fixture.disk).unwrap();
                    }
                    fixture.log.close_if_idle(Now { at: Instant::now() + FILE_IDLE * 2, ms: 0 });
                }
                Op::DeleteBefore(at) => {
                    let (start, end) = (fixture.log.start_offset(), fixture.log.end_offset());
                    fixture.log.forget_before(start + (end - start) * i64::from(at) / 255, None);
                }
                Op::Retain { bytes } => {
                    let end = fixture.log.end_offset();
                    fixture.options.retention_bytes = Some(bytes);
                    fixture.retain(end, 0);
                    fixture.options.retention_bytes = None;
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
            let found = fixture.log.find_timestamp(wanted_ms, end, &mut 0).unwrap().map(|found| found.offset);
            let naive = model
                .iter()
                .flat_map(|(base, count, _, first)| (0..*count).map(move |n| (base + n, first + n)))
                .find(|(offset, ms)| *offset >= start && *ms >= wanted_ms)
                .map(|(offset, _)| offset);
            prop_assert_eq!(found, naive);
            let largest = fixture.log.find_max_timestamp(end, &mut 0).unwrap().map(|found| found.offset);
            let all = model.iter().flat_map(|(base, count, _, first)| (0..*count).map(move |n| (first + n, base + n)));
            let naive = all.filter(|(_, offset)| *offset >= start).map(|(ms, offset)| (ms, -offset)).max();
            prop_assert_eq!(largest, naive.map(|(_, offset)| -offset));
        }
    }
}

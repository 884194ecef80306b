//! Record batches: what is written is what is read, and bytes that are no batch are refused, never believed.

use bytes::{Bytes, BytesMut};
use kafka_wire::WireError;
use kafka_wire::compression::{Compression, compress};
use kafka_wire::limits::VALUE_LINK_BYTES_MIN;
use kafka_wire::record_batch::{
    BatchBuilder, BatchHeader, HeaderRef, Record, RecordRef, SealedBatch, batches, patch_base_offset,
    set_log_append_time, set_max_timestamp, validate_batch,
};
use proptest::prelude::*;

const NO_LIMIT: usize = 64 << 20;

fn record<'a>(timestamp_ms: i64, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> RecordRef<'a> {
    RecordRef { timestamp_ms, key, value, headers: &[] }
}

fn sealed(count: usize, codec: Compression) -> SealedBatch {
    let mut builder = BatchBuilder::with_capacity(0);
    for n in 0..count {
        let value = format!("value number {n}");
        builder.append(&record(1000 + n as i64, Some(b"key"), Some(value.as_bytes())));
    }
    let mut batch = builder.seal(codec);
    batch.stamp(7, 2, 40);
    batch
}

fn read(bytes: Bytes) -> Result<Vec<Record>, WireError> {
    let mut records = Vec::new();
    for batch in batches(bytes) {
        let batch = batch?;
        batch.verify_crc()?;
        for record in batch.records(NO_LIMIT)? {
            records.push(record?);
        }
    }
    Ok(records)
}

fn bytes_with(bytes: &Bytes, at: usize, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut changed = BytesMut::from(&bytes[..]);
    change(&mut changed[at..]);
    changed.freeze()
}

/// The same bytes with the checksum made right again, so that what lies behind it is reached.
fn with_crc(bytes: Bytes) -> Bytes {
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes_with(&bytes, 17, |at| at[..4].copy_from_slice(&crc.to_be_bytes()))
}

#[test]
fn a_batch_says_of_itself_what_was_put_in() {
    let batch = sealed(3, Compression::None);
    let header = validate_batch(&batch.to_bytes()).expect("our own batch");
    assert_eq!((header.record_count, header.last_offset_delta, header.base_offset), (3, 2, 0));
    assert_eq!((header.first_timestamp_ms, header.max_timestamp_ms), (1000, 1002));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 2, 40));
    assert_eq!(header.last_sequence(), 42);
    assert_eq!((header.is_control(), header.is_transactional(), header.log_append_time()), (false, false, false));
    assert_eq!(batch.bytes(), batch.to_bytes().len());
    assert_eq!((batch.record_count(), batch.max_timestamp_ms()), (3, 1002));
}

#[test]
fn the_size_is_known_before_a_record_is_appended() {
    let headers = [HeaderRef { name: b"trace", value: Some(b"1") }, HeaderRef { name: b"", value: None }];
    let long = vec![b'x'; 20_000];
    let mut builder = BatchBuilder::with_capacity(64);
    for (timestamp_ms, value) in [(5, Some(&b"v"[..])), (-70_000, None), (i64::MAX, Some(&long)), (6, Some(b""))] {
        for headers in [&headers[..], &[]] {
            let record = RecordRef { timestamp_ms, key: Some(b"k"), value, headers };
            let announced = builder.bytes_with(&record);
            builder.append(&record);
            assert_eq!(builder.bytes(), announced);
        }
    }
    let count = builder.record_count();
    let announced = builder.bytes();
    let batch = builder.seal(Compression::None);
    assert_eq!((batch.bytes(), batch.record_count()), (announced, count));
}

#[test]
fn a_large_shared_value_is_linked_and_a_small_one_copied() {
    let large = Bytes::from(vec![b'L'; VALUE_LINK_BYTES_MIN]);
    let small = Bytes::from_static(b"small");
    let headers = [HeaderRef { name: b"h", value: Some(b"1") }];
    let mut shared = BatchBuilder::with_capacity(1024);
    let mut copied = BatchBuilder::with_capacity(1024);
    for (n, value) in [&small, &large, &large, &small].into_iter().enumerate() {
        let record = RecordRef { timestamp_ms: n as i64, key: None, value: Some(value), headers: &headers };
        assert_eq!(shared.append_shared(&record, value.clone()), n as u32);
        copied.append(&record);
        assert_eq!(shared.bytes(), copied.bytes());
    }
    let shared = shared.seal(Compression::None);
    let linked = shared.body().iter().filter(|chunk| chunk.as_ptr() == large.as_ptr()).count();
    assert_eq!((linked, shared.body().len()), (2, 5));
    assert_eq!(shared.to_bytes(), copied.seal(Compression::None).to_bytes());
}

#[test]
fn stamping_again_changes_the_identity_and_the_checksum_only() {
    let mut batch = sealed(5, Compression::None);
    let body: Vec<_> = batch.body().iter().map(|chunk| chunk.as_ptr()).collect();
    let first = batch.to_bytes();
    batch.stamp(99, 0, i32::MAX - 1);
    let header = validate_batch(&batch.to_bytes()).expect("stamped again");
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (99, 0, i32::MAX - 1));
    assert_eq!(header.last_sequence(), 2, "sequences wrap to zero");
    assert_eq!(body, batch.body().iter().map(|chunk| chunk.as_ptr()).collect::<Vec<_>>());
    batch.stamp(7, 2, 40);
    assert_eq!(batch.to_bytes(), first);
}

#[test]
fn a_batch_never_stamped_still_goes_out_with_a_valid_checksum() {
    let mut builder = BatchBuilder::with_capacity(0);
    builder.append(&record(1, None, Some(b"v")));
    let batch = builder.seal(Compression::None);
    let header = validate_batch(&batch.to_bytes()).expect("a valid checksum");
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (-1, -1, -1));
    assert_eq!(header.last_sequence(), -1);
}

#[test]
fn duplicate_headers_their_order_and_names_that_are_no_text_are_kept() {
    let headers = [
        HeaderRef { name: b"tag", value: Some(b"a") },
        HeaderRef { name: b"\xff\xfe\x00", value: Some(b"not text") },
        HeaderRef { name: b"tag", value: None },
        HeaderRef { name: b"", value: Some(b"") },
        HeaderRef { name: b"tag", value: Some(b"b") },
    ];
    let mut builder = BatchBuilder::with_capacity(0);
    builder.append(&RecordRef { timestamp_ms: 1, key: None, value: None, headers: &headers });
    let records = read(builder.seal(Compression::None).to_bytes()).expect("our own batch");
    let found: Vec<_> = records[0].headers.iter_refs().map(|(name, value)| HeaderRef { name, value }).collect();
    assert_eq!(found, headers);
    assert_eq!(records[0].headers.len(), 5);
    assert_eq!(records[0].headers.last(b"tag"), Some(Some(&b"b"[..])));
    assert_eq!(records[0].headers.last(b"none"), None);
}

#[test]
fn records_are_slices_of_the_frame() {
    let bytes = sealed(10, Compression::None).to_bytes();
    let range = bytes.as_ptr_range();
    for record in read(bytes.clone()).expect("our own batch") {
        let value = record.value.expect("a value");
        assert!(range.contains(&value.as_ptr()));
    }
}

#[test]
fn a_broker_gives_offsets_without_touching_the_checksum() {
    let mut log = BytesMut::from(&sealed(3, Compression::None).to_bytes()[..]);
    patch_base_offset(&mut log, 5_000_000_000, 12);
    let log = log.freeze();
    let header = validate_batch(&log).expect("still valid");
    assert_eq!((header.base_offset, header.partition_leader_epoch), (5_000_000_000, 12));
    assert_eq!(header.last_offset(), 5_000_000_002);
    let offsets: Vec<_> = read(log).expect("still valid").iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [5_000_000_000, 5_000_000_001, 5_000_000_002]);
}

#[test]
fn log_append_time_is_the_timestamp_of_every_record() {
    for codec in [Compression::None, Compression::Lz4] {
        let mut log = BytesMut::from(&sealed(50, codec).to_bytes()[..]);
        set_log_append_time(&mut log, 777_777);
        let records = read(log.freeze()).expect("still valid");
        assert_eq!(records.len(), 50);
        assert!(records.iter().all(|record| record.timestamp_ms == 777_777), "{codec:?}");
    }
}

#[test]
fn every_codec_is_written_and_read_and_one_that_does_not_shrink_is_dropped() {
    for codec in Compression::ALL {
        let batch = sealed(200, codec);
        assert_eq!(batch.decoded().compression(), Ok(codec));
        assert_eq!(read(batch.to_bytes()), read(sealed(200, Compression::None).to_bytes()), "{codec:?}");
    }
    let mut builder = BatchBuilder::with_capacity(0);
    builder.append(&record(1, None, Some(b"q")));
    assert_eq!(builder.seal(Compression::Zstd).decoded().compression(), Ok(Compression::None));
}

#[test]
fn a_compressed_batch_larger_than_the_limit_is_refused() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::with_capacity(0);
        builder.append(&record(1, None, Some(&vec![0; 4 << 20])));
        let bytes = builder.seal(codec).to_bytes();
        assert!(bytes.len() < 1 << 20, "{codec:?} shrinks zeros");
        let batch = batches(bytes).next().expect("one batch").expect("a whole batch");
        assert!(matches!(batch.records(1 << 20), Err(WireError::TooLarge { .. })), "{codec:?}");
        assert_eq!(batch.records(5 << 20).expect("within the limit").count(), 1);
    }
}

#[test]
fn raw_snappy_and_xerial_snappy_are_both_read() {
    let plain = sealed(100, Compression::None).to_bytes();
    let bodies = [
        compress(Compression::Snappy, &plain[61..]).expect("memory compresses"),
        snap::raw::Encoder::new().compress_vec(&plain[61..]).expect("memory compresses"),
    ];
    for body in bodies {
        let mut bytes = BytesMut::from(&plain[..61]);
        bytes.extend_from_slice(&body);
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[22] = Compression::Snappy as u8;
        assert_eq!(read(with_crc(bytes.freeze())), read(plain.clone()));
    }
}

#[test]
fn a_split_batch_is_the_same_records_in_two() {
    for codec in [Compression::None, Compression::Gzip] {
        let whole = sealed(7, codec);
        let (mut first, mut second) = whole.split().expect("seven records");
        first.stamp(7, 2, 40);
        second.stamp(7, 2, 40 + first.record_count() as i32);
        assert_eq!((first.record_count(), second.record_count()), (4, 3));
        let strip = |records: Vec<Record>| {
            records.into_iter().map(|record| (record.timestamp_ms, record.key, record.value)).collect::<Vec<_>>()
        };
        let mut halves = strip(read(first.to_bytes()).expect("the first half"));
        halves.extend(strip(read(second.to_bytes()).expect("the second half")));
        assert_eq!(halves, strip(read(whole.to_bytes()).expect("the whole")), "{codec:?}");
        assert!(sealed(1, codec).split().is_none());
    }
}

#[test]
fn a_fetch_cut_at_any_byte_gives_the_whole_batches_before_the_cut() {
    let one = sealed(3, Compression::None).to_bytes();
    let mut two = BytesMut::from(&one[..]);
    two.extend_from_slice(&one);
    let two = two.freeze();
    for size in 0..=two.len() {
        let mut found = batches(two.slice(..size));
        let whole = found.by_ref().inspect(|batch| assert!(batch.is_ok(), "cut is not garbled")).count();
        assert_eq!(whole, size / one.len(), "cut at {size}");
        assert_eq!(found.truncated(), size % one.len() != 0, "cut at {size}");
    }
}

#[test]
fn what_a_producer_sent_is_refused_by_the_first_thing_wrong_with_it() {
    let good = sealed(3, Compression::None).to_bytes();
    let i32_at = |at: usize, value: i32| bytes_with(&good, at, |at| at[..4].copy_from_slice(&value.to_be_bytes()));
    let mut trailing = BytesMut::from(&good[..]);
    trailing.extend_from_slice(b"x");
    let rows = [
        ("crc", bytes_with(&good, good.len() - 1, |last| last[0] ^= 1), "checksum"),
        ("crc of the header", bytes_with(&good, 43, |id| id[0] ^= 1), "checksum"),
        ("magic 1", bytes_with(&good, 16, |magic| magic[0] = 1), "magic 1"),
        ("length -1", i32_at(8, -1), "batch length"),
        ("length 48", i32_at(8, 48), "batch length"),
        ("length too long", i32_at(8, i32::MAX), "needs 2147483647 bytes"),
        ("one byte more", trailing.freeze(), "1 bytes follow"),
        ("count 0", with_crc(i32_at(57, 0)), "record count"),
        ("count 4", with_crc(i32_at(57, 4)), "record count"),
        ("count i32::MAX", with_crc(i32_at(57, i32::MAX)), "record count"),
        (
            "count and delta at their end",
            with_crc(bytes_with(&i32_at(57, i32::MIN), 23, |at| at[..4].copy_from_slice(&i32::MAX.to_be_bytes()))),
            "record count",
        ),
        ("codec 7", with_crc(bytes_with(&good, 22, |codec| codec[0] = 7)), "compression codec"),
        ("nothing", Bytes::new(), "needs"),
    ];
    for (what, bytes, expected) in rows {
        let refusal = validate_batch(&bytes).expect_err(what).to_string();
        assert!(refusal.contains(expected), "{what}: {refusal}");
    }
    for size in 0..good.len() {
        assert!(validate_batch(&good.slice(..size)).is_err(), "cut at {size}");
    }
}

#[test]
fn records_that_do_not_fill_their_batch_or_skip_a_delta_are_refused() {
    let good = sealed(3, Compression::None).to_bytes();
    let all = |bytes: Bytes| batches(bytes).next().expect("a batch").expect("whole").validate_records(NO_LIMIT);
    let largest_ms = validate_batch(&good).expect("whole").max_timestamp_ms;
    assert_eq!(all(good.clone()), Ok(largest_ms));
    // A header that says otherwise is not asked.
    for told_ms in [-1, largest_ms - 1, largest_ms + 1] {
        let mut told = good.to_vec();
        set_max_timestamp(&mut told, told_ms);
        let told = Bytes::from(told);
        assert_eq!(validate_batch(&told).expect("its checksum follows").max_timestamp_ms, told_ms);
        assert_eq!(all(told), Ok(largest_ms));
    }
    let count = |n: i32| bytes_with(&good, 57, |at| at[..4].copy_from_slice(&n.to_be_bytes()));
    assert!(matches!(all(count(2)), Err(WireError::TrailingBytes { .. })));
    assert!(matches!(all(count(0)), Err(WireError::TrailingBytes { .. })));
    assert!(matches!(all(count(4)), Err(WireError::Truncated { .. })));
    assert!(matches!(all(count(i32::MAX)), Err(WireError::Truncated { .. })));
    assert!(matches!(all(count(-1)), Err(WireError::Invalid { .. })));
    // The first record: length, attributes, timestamp delta, then the offset delta at byte 64.
    assert_eq!(good[64], 0);
    assert!(matches!(all(bytes_with(&good, 64, |delta| delta[0] = 2)), Err(WireError::Invalid { .. })));
    // Its header count is its last byte.
    let header_count = 61 + good[61] as usize / 2;
    assert_eq!(good[header_count], 0);
    assert!(matches!(all(bytes_with(&good, header_count, |count| count[0] = 0x7e)), Err(WireError::Invalid { .. })));
}

#[test]
fn an_old_message_set_is_named_not_misread() {
    // Magic 1, 22 bytes after the length: smaller than a batch header.
    let mut old = vec![0; 34];
    old[11] = 22;
    old[16] = 1;
    let refusal = batches(Bytes::from(old)).next().expect("something is there");
    assert!(matches!(refusal, Err(WireError::Magic { offset: 0, magic: 1 })), "{refusal:?}");
}

#[test]
fn the_header_decodes_without_its_records() {
    let bytes = sealed(3, Compression::None).to_bytes();
    assert!(BatchHeader::decode(&bytes[..61]).is_ok());
    for size in 0..61 {
        assert!(BatchHeader::decode(&bytes[..size]).is_err(), "cut at {size}");
    }
}

type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    let timestamp_ms = prop_oneof![Just(0), 1_700_000_000_000..1_700_000_100_000i64, any::<i64>()];
    let headers = proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..4);
    (timestamp_ms, proptest::option::of(bytes()), proptest::option::of(bytes()), headers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_records_come_back_as_they_went_in(
        records in proptest::collection::vec(any_record(), 1..30),
        codec in proptest::sample::select(&Compression::ALL[..]),
    ) {
        let mut builder = BatchBuilder::with_capacity(16);
        for (timestamp_ms, key, value, headers) in &records {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() }).collect();
            let record = RecordRef {
                timestamp_ms: *timestamp_ms,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            };
            let announced = builder.bytes_with(&record);
            builder.append(&record);
            prop_assert_eq!(builder.bytes(), announced);
        }
        let bytes = builder.seal(codec).to_bytes();
        prop_assert!(validate_batch(&bytes).is_ok());
        let found = read(bytes).expect("our own batch");
        prop_assert_eq!(found.len(), records.len());
        for (n, (found, (timestamp_ms, key, value, headers))) in found.iter().zip(&records).enumerate() {
            prop_assert_eq!(found.offset, n as i64);
            prop_assert_eq!(found.timestamp_ms, *timestamp_ms);
            prop_assert_eq!(found.key.as_deref(), key.as_deref());
            prop_assert_eq!(found.value.as_deref(), value.as_deref());
            let found: Vec<_> =
                found.headers.iter().map(|(name, value)| (name.to_vec(), value.map(|value| value.to_vec()))).collect();
            prop_assert_eq!(&found, headers);
        }
    }

    #[test]
    fn garbled_batches_are_errors_or_records_never_panics(
        at in 0usize..2000,
        flip in 1u8..,
        codec in proptest::sample::select(&Compression::ALL[..]),
    ) {
        let good = sealed(40, codec).to_bytes();
        let garbled = bytes_with(&good, at % good.len(), |byte| byte[0] ^= flip);
        for batch in batches(garbled.clone()).flatten() {
            if let Ok(records) = batch.records(1 << 20) {
                for record in records.flatten() {
                    record.headers.iter().for_each(drop);
                }
            }
        }
        prop_assert!(validate_batch(&garbled).is_err() || at % good.len() < 17, "byte {at} is covered");
    }

    #[test]
    fn random_bytes_are_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for batch in batches(Bytes::from(bytes)).flatten() {
            if let Ok(records) = batch.records(1 << 20) {
                records.flatten().for_each(drop);
            }
        }
    }
}

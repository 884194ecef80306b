//! The decoders by themselves: round trips, and what is not taken.

use journal::format::Bad;

use super::*;
use crate::table::format::page::Entry;
use crate::table::format::tail::{BLOCK_ENTRY_BYTES, Footer, PAGE_ENTRY_BYTES};
use crate::table::format::{DIRECTORY, FileKey, Header, block, page, put_varint, take_varint, unzigzag, zigzag};

const HEADER: Header = Header { store: STORE, number: 5, part: 1 };

/// The same place in another file, each of the three by itself.
fn other_keys() -> [FileKey; 3] {
    let others =
        [Header { store: [8; 16], ..HEADER }, Header { number: 6, ..HEADER }, Header { part: DIRECTORY, ..HEADER }];
    others.map(|header| header.key())
}

#[test]
fn numbers_of_every_size_are_as_short_as_they_can_be_and_come_back() {
    for (number, bytes) in [(0, 1), (127, 1), (128, 2), (1 << 14, 3), ((1 << 56) - 1, 8), (u64::MAX, 10)] {
        let mut written = Vec::new();
        put_varint(&mut written, number);
        assert_eq!(written.len(), bytes, "{number}");
        let mut at = 0;
        assert_eq!(take_varint(&written, &mut at), Some(number));
        assert_eq!(at, bytes);
        assert_eq!(take_varint(&written[..bytes - 1], &mut 0), None, "{number} cut off");
    }
    assert_eq!(take_varint(&[0xff; 11], &mut 0), None);
    assert_eq!(take_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &mut 0), None, "a 65th bit");
    for (number, code) in [(0, 0), (-1, 1), (1, 2), (-2, 3), (i64::MAX, u64::MAX - 1), (i64::MIN, u64::MAX)] {
        assert_eq!((zigzag(number), unzigzag(code)), (code, number));
    }
}

#[test]
fn a_header_says_which_file_it_is() {
    for part in [0, 1, DIRECTORY] {
        let header = Header { part, ..HEADER };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        let mut other_kind = Header { part: if part == DIRECTORY { 0 } else { DIRECTORY }, ..HEADER }.encode();
        other_kind[48..52].copy_from_slice(&part.to_le_bytes());
        let crc = crc32c::crc32c(&other_kind[4..]);
        other_kind[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&other_kind), Err(Bad::Field), "the magic of one, the number of the other");
    }
}

#[test]
fn a_block_a_page_and_a_footer_belong_to_one_place_in_one_file() {
    let mut builder = block::Builder::new();
    for due_ms in 0..3 {
        builder.push(&RowRef { key: key(due_ms, 7), queue: 1, body: b"body" });
    }
    let sealed = Bytes::copy_from_slice(builder.seal(HEADER.key(), 4096));
    let mut entries = page::Builder::new();
    (0..3).for_each(|seq| assert!(entries.push(Entry { seq, due_ms: -5, queue: 1 })));
    let page = entries.seal(HEADER.key(), 4096);
    let footer = Footer::new(&[1; 56], 2, 9, HEADER.key(), 4096 - 56).seal(HEADER.key(), 4096);
    let decodes = |key, at| {
        let block = Block::decode(&sealed, key, at).map(|_| ());
        let page = page::decode(&page, key, at).map(|_| ());
        [block, page, Footer::decode(&footer, BLOCK_ENTRY_BYTES, key, at).map(|_| ())]
    };
    assert_eq!(decodes(HEADER.key(), 4096), [Ok(()); 3]);
    assert_eq!(decodes(HEADER.key(), 8192), [Err(Bad::Checksum); 3]);
    for other in other_keys() {
        assert_eq!(decodes(other, 4096), [Err(Bad::Checksum); 3]);
    }
    let of_pages = Footer::decode(&footer, PAGE_ENTRY_BYTES, HEADER.key(), 4096);
    assert_eq!(of_pages, Err(Bad::Field), "as many entries of another length do not fit");
}

/// Whole by their checksums, and yet nothing that was ever written.
#[test]
fn rows_and_entries_out_of_order_or_beyond_their_end_are_refused() {
    let sealed = |rows: u32, change: &dyn Fn(&mut Vec<u8>)| {
        let mut builder = block::Builder::new();
        for due_ms in [5, 6] {
            builder.push(&RowRef { key: key(due_ms, 7), queue: 1, body: b"b" });
        }
        let mut bytes = builder.seal(HEADER.key(), 0).to_vec();
        bytes[12..16].copy_from_slice(&rows.to_le_bytes());
        change(&mut bytes);
        let crc = HEADER.key().checksum(0, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        Block::decode(&Bytes::from(bytes), HEADER.key(), 0).map(|block| block.row_count())
    };
    // Rows begin at 32: 0 0 1 1 'b', 1 0 1 1 'b'.
    for (what, rows, change, expected) in [
        ("as written", 2, None, Ok(2)),
        ("more rows than there are", 3, None, Err(Bad::Field)),
        ("fewer rows than there are", 1, None, Err(Bad::Field)),
        ("none", 0, None, Err(Bad::Field)),
        ("the same key twice", 2, Some((37, 0)), Err(Bad::Field)),
        ("a first row that is not the header's", 2, Some((32, 1)), Err(Bad::Field)),
        ("a body that is longer than the block", 2, Some((40, 2)), Err(Bad::Field)),
    ] as [(&str, u32, Option<(usize, u8)>, Result<u32, Bad>); 7]
    {
        let change = move |bytes: &mut Vec<u8>| {
            if let Some((at, byte)) = change {
                bytes[at] = byte;
            }
        };
        assert_eq!(sealed(rows, &change), expected, "{what}");
    }
}

#[test]
fn a_meta_that_cannot_be_is_none() {
    let part =
        |number: u32, from: i64| PartMeta { number, bytes: 9000, rows: 5, first: key(from, 1), last: key(from + 9, 1) };
    let good = Meta {
        number: 3,
        tier: 1,
        rows: 10,
        seq_min: 1,
        seq_max: 2,
        parts: vec![part(0, 0), part(4, 10)],
        directory_bytes: 5000,
    };
    let encoded = |meta: &Meta| {
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        bytes
    };
    let bytes = [encoded(&good), b"more".to_vec()].concat();
    let mut rest = &bytes[..];
    assert_eq!(Meta::decode(&mut rest), Some(good.clone()));
    assert_eq!(rest, b"more");
    for cut in 0..bytes.len() - 4 {
        assert_eq!(Meta::decode(&mut &bytes[..cut]), None, "cut at {cut}");
    }
    type Change = fn(&mut Meta);
    let cases: [(&str, Change); 8] = [
        ("no part", |meta| (meta.parts, meta.rows) = (Vec::new(), 0)),
        ("parts that overlap", |meta| meta.parts[1].first = key(9, 1)),
        ("parts in the wrong order", |meta| meta.parts.reverse()),
        ("a part that ends before it begins", |meta| meta.parts[1].last = key(9, 9)),
        ("rows that are not those of its parts", |meta| meta.rows = 11),
        ("a part without rows", |meta| (meta.parts[0].rows, meta.rows) = (0, 5)),
        ("a part beyond the limit", |meta| meta.parts[0].bytes = limits::PART_BYTES_MAX + 1),
        ("seqs the wrong way round", |meta| meta.seq_min = 3),
    ];
    for (what, change) in cases {
        let mut meta = good.clone();
        change(&mut meta);
        assert_eq!(Meta::decode(&mut &encoded(&meta)[..]), None, "{what}");
    }
}

/// What the fuzzer found, and what it begins with: nothing panics, with the checksum made right, too.
#[test]
fn the_fuzz_corpus_is_decoded_or_refused() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/fuzz/corpus/table_decoders");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let mut bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let _ = (Header::decode(&bytes), Meta::decode(&mut &bytes[..]));
        for end in [bytes.len(), 4096, 64] {
            if let Some(checked) = bytes.get(4..end) {
                let crc = HEADER.key().checksum(4096, checked);
                bytes[..4].copy_from_slice(&crc.to_le_bytes());
            }
            if let Ok(block) = Block::decode(&Bytes::from(bytes.clone()), HEADER.key(), 4096) {
                assert_eq!(block.rows().count(), block.row_count() as usize);
            }
            let _ = page::decode(&bytes, HEADER.key(), 4096);
            let _ = Footer::decode(&bytes, BLOCK_ENTRY_BYTES, HEADER.key(), 4096);
        }
        seen += 1;
    }
    assert!(seen > 3);
}

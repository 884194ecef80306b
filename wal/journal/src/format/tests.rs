//! Round trips, and what is not taken.

use super::block::{Block, BlockHeader, Row, bodies_begin, body_room, encode};
use super::checkpoint::{Checkpoint, Extent};
use super::id::Identity;
use super::segment::{BlockKey, End, SegmentHeader};
use super::*;

fn segment() -> SegmentHeader {
    let previous = End { segment: 6, at: 8192, hash: 9 };
    SegmentHeader {
        salt: [1; 16],
        journal: [2; 16],
        number: 7,
        first_lsn: 100,
        length: 1 << 22,
        previous,
        created_ms: -5,
    }
}

fn block(key: BlockKey, offset: u64) -> Vec<u8> {
    let bodies: [&[u8]; 3] = [b"first", b"", b"third one"];
    let row = |body: &&[u8]| Row {
        body_crc: crc32c::crc32c(body),
        body_bytes: body.len() as u32,
        stream: 8,
        kind: 9,
        flags: 1,
        sequence: 1 << 40,
    };
    let rows = bodies.iter().map(row).collect::<Vec<_>>();
    let length = bodies_begin(3) + bodies.iter().map(|body| body_room(body.len())).sum::<usize>();
    let header = BlockHeader { first_lsn: 100, previous_hash: 5, durable_lsn: 90, wall_ms: 1 };
    let mut bytes = vec![0; bodies_begin(3)];
    encode(&header, length, &rows, key, offset, &mut bytes);
    for body in bodies {
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    assert_eq!(bytes.len(), length);
    bytes
}

#[test]
fn what_is_encoded_is_decoded() {
    let identity = Identity { id: [3; 16], name: "node é".to_owned() };
    assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
    assert_eq!(SegmentHeader::decode(&segment().encode()), Ok(segment()));
    let extent = Extent { number: 1, first_lsn: 2, next_lsn: 3, end: 4, last_hash: 5 };
    for segments in [vec![], vec![extent; 3]] {
        let checkpoint = Checkpoint { journal: [2; 16], number: 4, lsn: 6, segments, blob: b"blob".to_vec() };
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
    }
    let bytes = block(segment().key(), 4096);
    let block = Block::decode(&bytes, segment().key(), 4096).unwrap();
    let records: Vec<_> = block.records().map(|(lsn, row, at)| (lsn, block.body(&row, at))).collect();
    assert_eq!(records, [(100, &b"first"[..]), (101, b""), (102, b"third one")]);
    assert!(block.records().all(|(_, row, at)| block.body_is_good(&row, at) && row.stream == 8));
}

#[test]
fn a_block_belongs_to_one_place_in_one_use_of_one_file() {
    let SegmentHeader { salt, number, .. } = segment();
    let key = segment().key();
    let bytes = block(key, 8192);
    for (what, key, offset, found) in [
        ("here", key, 8192, None),
        ("elsewhere", key, 4096, Some(Bad::Checksum)),
        ("in the use before of this file", BlockKey::new(&[9; 16], number), 8192, Some(Bad::Checksum)),
        ("in a copy of this file", BlockKey::new(&salt, number + 1), 8192, Some(Bad::Checksum)),
    ] {
        assert_eq!(Block::decode(&bytes, key, offset).err(), found, "{what}");
    }
}

#[test]
fn a_flipped_bit_anywhere_and_a_cut_anywhere_is_noticed() {
    let checkpoint = Checkpoint { journal: [2; 16], number: 4, lsn: 6, segments: Vec::new(), blob: b"blob".to_vec() };
    let key = segment().key();
    type Decodes = fn(&[u8], BlockKey) -> bool;
    let of_block: Decodes = |bytes, key| {
        let block = Block::decode(bytes, key, 4096);
        block.is_ok_and(|block| block.records().all(|(_, row, at)| block.body_is_good(&row, at)))
    };
    let cases: [(&str, Vec<u8>, Decodes); 4] = [
        ("id", Identity { id: [3; 16], name: "n".to_owned() }.encode(), |bytes, _| Identity::decode(bytes).is_ok()),
        ("segment", segment().encode(), |bytes, _| SegmentHeader::decode(bytes).is_ok()),
        ("checkpoint", checkpoint.encode(), |bytes, _| Checkpoint::decode(bytes).is_ok()),
        ("block", block(key, 4096), of_block),
    ];
    for (what, bytes, decodes) in cases {
        assert!(decodes(&bytes, key));
        for cut in 0..bytes.len() {
            assert!(!decodes(&bytes[..cut], key), "{what} cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            // Between bodies there is padding, which nobody reads.
            let is_padding = what == "block" && [141..144, 153..160].iter().any(|padding| padding.contains(&at));
            assert_eq!(decodes(&flipped, key), is_padding, "{what} at {at}");
        }
    }
}

/// What the fuzzer found, and what it begins with: nothing panics, with the checksum made right, too.
#[test]
fn the_fuzz_corpus_is_decoded_or_refused() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/fuzz/corpus/journal_decoders");
    let key = BlockKey::new(&[1; 16], 1);
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let mut bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let _ = (Identity::decode(&bytes), SegmentHeader::decode(&bytes), Checkpoint::decode(&bytes));
        let table_end = bodies_begin(u32_at(&bytes, 12) as usize);
        if let Some(checked) = bytes.get(4..table_end) {
            let crc = crc32c::crc32c_append(key.at(4096), checked);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(block) = Block::decode(&bytes, key, 4096) {
            block.records().for_each(|(_, row, at)| drop(block.body(&row, at).to_vec()));
        }
        seen += 1;
    }
    assert!(seen > 3);
}

//! Every decoder of the journal: nothing panics, and what is decoded is what would be written.
#![no_main]

use journal::format::block::Block;
use journal::format::checkpoint::Checkpoint;
use journal::format::id::Identity;
use journal::format::segment::{BlockKey, SegmentHeader};
use libfuzzer_sys::fuzz_target;

/// Makes the checksum right, so that what is behind it is reached.
fn signed(data: &[u8], begin: u32, end: usize) -> Vec<u8> {
    let mut signed = data.to_vec();
    if let Some(checked) = data.get(4..end) {
        let crc = crc32c::crc32c_append(begin, checked);
        signed[..4].copy_from_slice(&crc.to_le_bytes());
    }
    signed
}

fn number(data: &[u8], at: usize) -> usize {
    data.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()) as usize)
}

fuzz_target!(|data: &[u8]| {
    let key = BlockKey::new(&[1; 16], 1);
    let table_end = 64usize.saturating_add(number(data, 12).saturating_mul(16));
    for (header, block) in [
        (data.to_vec(), data.to_vec()),
        (signed(data, 0, number(data, 4)), signed(data, key.at(4096), table_end)),
    ] {
        if let Ok(identity) = Identity::decode(&header) {
            assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
        }
        if let Ok(segment) = SegmentHeader::decode(&header) {
            assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
        }
        if let Ok(checkpoint) = Checkpoint::decode(&header) {
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }
        if let Ok(block) = Block::decode(&block, key, 4096) {
            for (_, row, at) in block.records() {
                let _ = block.body_is_good(&row, at);
            }
        }
    }
});

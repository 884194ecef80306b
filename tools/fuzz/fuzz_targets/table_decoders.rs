//! Every decoder of a table of jobs: nothing panics, and what is decoded is what would be written.
#![no_main]

use bytes::Bytes;
use jobs::table::format::page::{self, Entry};
use jobs::table::format::tail::{BLOCK_ENTRY_BYTES, BlockEntry, Footer, PAGE_ENTRY_BYTES};
use jobs::table::format::{Header, block};
use jobs::table::{Block, Meta, RowRef};
use libfuzzer_sys::fuzz_target;

const AT: u64 = 4096;

fuzz_target!(|data: &[u8]| {
    let key = Header { store: [7; 16], number: 5, part: 1 }.key();
    // Makes the checksum right, so that what is behind it is reached.
    let signed = |end: usize, of: &dyn Fn(&[u8]) -> u32| {
        let mut signed = data.to_vec();
        if let Some(checked) = data.get(4..end) {
            signed[..4].copy_from_slice(&of(checked).to_le_bytes());
        }
        signed
    };
    let in_file = |checked: &[u8]| key.checksum(AT, checked);
    for header in [data.to_vec(), signed(56, &crc32c::crc32c)] {
        if let Ok(header) = Header::decode(&header) {
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
    }
    for block in [data.to_vec(), signed(data.len(), &in_file)] {
        if let Ok(block) = Block::decode(&Bytes::from(block), key, AT) {
            let mut again = block::Builder::new();
            for row in block.rows() {
                again.push(&RowRef { key: row.key, queue: row.queue, body: &row.body });
            }
            let sealed = Bytes::copy_from_slice(again.seal(key, AT));
            let again = Block::decode(&sealed, key, AT).unwrap();
            assert!(again.rows().eq(block.rows()));
            assert_eq!((again.first(), again.last()), (block.first(), block.last()));
        }
    }
    for page in [data.to_vec(), signed(4096, &in_file)] {
        if let Ok(entries) = page::decode(&page, key, AT) {
            let mut again = page::Builder::new();
            // One that was written with longer numbers than needed has room when it is written anew.
            assert!(entries.iter().all(|entry: &Entry| again.push(*entry)));
            assert_eq!(page::decode(&again.seal(key, AT), key, AT), Ok(entries));
        }
    }
    for footer in [data.to_vec(), signed(64, &in_file)] {
        for entry_bytes in [BLOCK_ENTRY_BYTES, PAGE_ENTRY_BYTES] {
            if let Ok(footer) = Footer::decode(&footer, entry_bytes, key, AT) {
                assert_eq!(Footer::decode(&footer.seal(key, AT), entry_bytes, key, AT), Ok(footer));
            }
        }
    }
    let _ = BlockEntry::decode_all(data).count();
    let mut rest = data;
    if let Some(meta) = Meta::decode(&mut rest) {
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(bytes, data[..data.len() - rest.len()]);
    }
});

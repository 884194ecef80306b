//! A table one of whose files was damaged as the input says: it opens, and of its jobs it gives what was written or an error;
//! it can be merged, and its directory made again. The first byte says of which file the second half of the input is the index,
//! with its checksums made right; the rest is a list of: file, place, byte.
#![no_main]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use disk::{AtOnce, Disk, Open, SimulatedDisk, at_once};
use jobs::Key;
use jobs::table::format::tail::{BLOCK_ENTRY_BYTES, Footer, PAGE_ENTRY_BYTES};
use jobs::table::format::{DIRECTORY, Header};
use jobs::table::{Limits, OpenError, ReadError, RowRef, Table, Target, merge, write};
use libfuzzer_sys::fuzz_target;

const STORE: [u8; 16] = [7; 16];
const LIMITS: Limits = Limits { part_bytes: 6300, block_bytes: 300, sort_entries: 20 };

fuzz_target!(|data: &[u8]| {
    let simulated = SimulatedDisk::new(1);
    let (disk, dir, stop) = (AtOnce(&simulated), Path::new("/"), AtomicBool::new(false));
    let target = |number| Target { dir, store: STORE, number, tier: 0 };
    let jobs: Vec<(Key, Vec<u8>)> =
        (1..=40u8).map(|n| (Key { due_ms: i64::from(n) * 10, seq: 100 - u64::from(n) }, vec![n; 60])).collect();
    let rows = jobs.iter().map(|(key, body)| RowRef { key: *key, queue: 4, body });
    let mut meta = at_once(write(&disk, target(5), rows, LIMITS, &stop)).unwrap().unwrap();
    let names: Vec<String> = meta.names().collect();
    let file = |index: u8| {
        let path = dir.join(&names[usize::from(index) % names.len()]);
        let bytes = simulated.look_at(&path).unwrap().bytes;
        (simulated.open(&path, Open::Existing).unwrap(), bytes)
    };
    let (damages, index) = data.split_at(data.len() / 2);
    let [which, damages @ ..] = damages else { return };
    // What an index says can be wild with the checksum right only by a bug of ours; it must not be worse than rot.
    let is_wild = which % 2 == 1;
    if is_wild {
        let part = usize::from(which / 2) % names.len();
        let (file, length) = file(part as u8);
        let is_directory = part == meta.parts.len();
        let header = Header { store: STORE, number: 5, part: if is_directory { DIRECTORY } else { part as u32 } };
        let entry_bytes = if is_directory { PAGE_ENTRY_BYTES } else { BLOCK_ENTRY_BYTES };
        let index = &index[..index.len() / entry_bytes * entry_bytes];
        let at = length - 64 - index.len().min(length as usize - 64) as u64;
        let index = &index[index.len() - (length - 64 - at) as usize..];
        let footer = Footer::new(index, (index.len() / entry_bytes) as u32, meta.rows, header.key(), at);
        let tail = [index, &footer.seal(header.key(), length - 64)].concat();
        simulated.write_all(&file, Bytes::from(tail), Bytes::new(), at).unwrap();
    }
    for damage in damages.chunks_exact(4).take(16) {
        let (file, length) = file(damage[0]);
        let at = u64::from(u16::from_le_bytes([damage[1], damage[2]])) % length;
        simulated.write_all(&file, Bytes::copy_from_slice(&damage[3..]), Bytes::new(), at).unwrap();
    }
    let table = match at_once(Table::open(&disk, dir, STORE, &meta)) {
        Ok((table, _)) => table,
        Err(OpenError::Newer { .. }) => return,
        Err(err) => panic!("{err}"),
    };
    let (mut before, mut next) = (Key::MIN, table.block_at_or_after(Key::MIN));
    while let Some(block) = next {
        next = table.next(block);
        match at_once(table.read_block(&disk, block)) {
            Ok(read) => {
                for row in read.rows() {
                    assert!(before < row.key && jobs.iter().any(|(key, body)| (*key, &body[..]) == (row.key, &row.body[..])));
                    before = row.key;
                }
            }
            Err(ReadError::Rotten(_)) => {}
            Err(err) => panic!("{err}"),
        }
    }
    for (key, body) in &jobs {
        if let Ok(found) = at_once(table.find(&disk, key.seq, |_| true)) {
            assert!(is_wild && found.is_none() || found == Some((key.due_ms, 4)));
        }
        if let Ok(found) = at_once(table.read_job(&disk, *key)) {
            assert!(is_wild && found.is_none() || found == Some((4, Bytes::copy_from_slice(body))));
        }
    }
    let merged = at_once(merge(&disk, target(6), &[&table], Key::MIN, |_, _| true, LIMITS, &stop)).unwrap();
    if let Some(meta) = merged.meta {
        let (_, rotten) = at_once(Table::open(&disk, dir, STORE, &meta)).unwrap();
        assert_eq!(rotten, []);
    }
    let (rebuilt, lost) = at_once(table.rebuild_directory(&disk, LIMITS, &stop)).unwrap();
    meta.directory_bytes = rebuilt.directory_bytes;
    let (table, _) = at_once(Table::open(&disk, dir, STORE, &meta)).unwrap();
    for (key, _) in jobs.iter().filter(|_| lost.is_empty()) {
        assert_eq!(at_once(table.find(&disk, key.seq, |_| true)).unwrap(), Some((key.due_ms, 4)));
    }
});

//! Tables that released versions wrote are opened, and hold what they held. `UPDATE_GOLDEN=1` writes those of this version
//! anew; then say so in `wal/FORMAT.md` and keep the old ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use disk::{AtOnce, Files, at_once};
use jobs::Key;
use jobs::table::{Limits, Meta, RowRef, StoreId, Table, Target, write};

const STORE: StoreId = *b"a store of jobs.";

/// Dues before and after the epoch, some at once; empty, short and long bodies; small and large queues.
fn rows() -> Vec<(Key, u32, Vec<u8>)> {
    let row = |n: i64| {
        let key = Key { due_ms: n / 3 * 7_000_000_000 - 40_000_000_000, seq: (n * 37 % 120) as u64 + 1_000_000 };
        (key, (n as u32 % 5) * 1000, vec![b'a' + n as u8 % 26; (n as usize % 9) * (n as usize % 11) * 7])
    };
    let mut rows: Vec<_> = (0..60).map(row).collect();
    rows.sort();
    rows
}

fn write_v1(dir: &Path) {
    let disk = Files::start(|_| Ok(()), || {}, || {}).unwrap();
    let rows = rows();
    let refs = rows.iter().map(|(key, queue, body)| RowRef { key: *key, queue: *queue, body });
    let limits = Limits { part_bytes: 9000, block_bytes: 1000, sort_entries: 25 };
    let target = Target { dir, store: STORE, number: 0x1f, tier: 2 };
    let meta = at_once(write(&AtOnce(&disk), target, refs, limits, &AtomicBool::new(false))).unwrap().unwrap();
    assert!(meta.parts.len() > 2);
    let mut bytes = Vec::new();
    meta.encode(&mut bytes);
    fs::write(dir.join("meta"), bytes).unwrap();
}

#[test]
fn what_every_version_wrote_is_read_and_this_one_writes_its_own_again() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let fresh = tempfile::tempdir().unwrap();
    write_v1(fresh.path());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(data.join("v1")).unwrap();
        for entry in fs::read_dir(fresh.path()).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), data.join("v1").join(entry.file_name())).unwrap();
        }
    }
    for entry in fs::read_dir(fresh.path()).unwrap().map(Result::unwrap) {
        let golden = fs::read(data.join("v1").join(entry.file_name())).unwrap();
        assert!(
            golden == fs::read(entry.path()).unwrap(),
            "{:?} has other bytes than FORMAT.md says",
            entry.file_name()
        );
    }
    let versions: Vec<PathBuf> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!versions.is_empty());
    for version in versions {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&version).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        let meta = fs::read(dir.path().join("meta")).unwrap();
        let meta = Meta::decode(&mut &meta[..]).expect("a meta");
        assert_eq!((meta.number, meta.tier, meta.rows), (0x1f, 2, 60));
        let disk = Files::start(|_| Ok(()), || {}, || {}).unwrap();
        let disk = AtOnce(&disk);
        let (table, rotten) = at_once(Table::open(&disk, dir.path(), STORE, &meta)).unwrap();
        assert_eq!(rotten, []);
        let (mut found, mut next) = (Vec::new(), table.block_at_or_after(Key::MIN));
        while let Some(block) = next {
            let read = at_once(table.read_block(&disk, block)).unwrap();
            found.extend(read.rows().map(|row| (row.key, row.queue, row.body.to_vec())));
            next = table.next(block);
        }
        assert_eq!(found, rows(), "{version:?}");
        for (key, queue, _) in rows() {
            assert_eq!(at_once(table.find(&disk, key.seq, |_| true)).unwrap(), Some((key.due_ms, queue)));
        }
    }
}

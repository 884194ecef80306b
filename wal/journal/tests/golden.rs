//! Directories that released versions wrote are opened, and hold what they held. `UPDATE_GOLDEN=1` writes that of this
//! version anew; then say so in `wal/FORMAT.md` and keep the old one.

mod unpack;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, Files};
use journal::{Config, Group, Journal, Random, Record, Waiter};
use unpack::unpack;

/// See `unpack`; a segment is mostly nothing.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = (bytes.len() as u64).to_le_bytes().to_vec();
    for (number, page) in bytes.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
        packed.extend_from_slice(&(number as u32).to_le_bytes());
        packed.extend_from_slice(page);
        packed.resize(packed.len() + 4096 - page.len(), 0);
    }
    packed
}

fn config(dir: &Path) -> Config {
    let (segment_bytes_first, segment_bytes_max, reserve_bytes) = (32 << 10, 64 << 10, 0);
    Config { segment_bytes_first, segment_bytes_max, reserve_bytes, ..Config::new(dir, "node-1") }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(Files::start(|_| Ok(()), || {}, || {}).unwrap())
}

fn counting() -> Random {
    let mut count = 0;
    Box::new(move || {
        count += 1;
        [count; 16]
    })
}

fn body(lsn: u64) -> Bytes {
    Bytes::from(format!("record {lsn} ").repeat(1 + lsn as usize * 40))
}

fn write(dir: &Path) {
    let (idle, _) = Journal::recover(config(dir), disk(), counting()).unwrap();
    let journal = idle.start(|| {}, |_| {}).unwrap();
    let (ring, rang) = std::sync::mpsc::channel();
    let waiter = Waiter::new(move || ring.send(()).unwrap());
    for lsn in (0..20).step_by(2) {
        let records = [lsn, lsn + 1].map(|lsn| Record::new(lsn as u32 % 3, lsn as u8, lsn * 7, body(lsn)));
        journal.append(Group::new(records).unwrap(), lsn, &waiter).unwrap();
        rang.recv().unwrap();
        if lsn == 8 {
            journal.checkpoint(10, b"what was known".to_vec()).unwrap();
        }
    }
    journal.close();
}

#[test]
fn what_every_version_wrote_is_read() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let (dir, of_version) = (tempfile::tempdir().unwrap(), data.join("v1"));
        write(&dir.path().join("j"));
        fs::create_dir_all(&of_version).unwrap();
        for entry in fs::read_dir(dir.path().join("j")).unwrap().map(Result::unwrap) {
            let bytes = packed(&fs::read(entry.path()).unwrap());
            fs::write(of_version.join(entry.file_name()), bytes).unwrap();
        }
    }
    let versions: Vec<PathBuf> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!versions.is_empty());
    for version in versions {
        let dir = tempfile::tempdir().unwrap();
        unpack(&version, dir.path());
        let (idle, recovered) = Journal::recover(config(dir.path()), disk(), counting()).unwrap();
        assert_eq!((recovered.from_lsn, recovered.next_lsn), (10, 20), "{version:?}");
        assert_eq!(recovered.checkpoint.as_deref(), Some(&b"what was known"[..]));
        assert_eq!((recovered.lost.len(), recovered.torn, recovered.rewritten), (0, false, 0));
        let mut next = 0;
        let lost = idle.reader().scan(0, &mut |entry| {
            assert_eq!((entry.lsn, entry.stream, u64::from(entry.kind)), (next, next as u32 % 3, next));
            assert_eq!(entry.body, body(next));
            next += 1;
        });
        assert_eq!((lost.unwrap().len(), next), (0, 20));
    }
}

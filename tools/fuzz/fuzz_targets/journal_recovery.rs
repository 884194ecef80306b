//! A journal one of whose files was damaged as the input says: it starts, twice, takes records, and has them afterwards.
//! The input is a list of: file, page, place in it, two bytes to put there, whether the header's checksum is made right.
#![no_main]

use std::path::Path;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use disk::{Disk, Open, SimulatedDisk};
use journal::{Config, Group, Journal, OpenError, Random, Record, Waiter};
use libfuzzer_sys::fuzz_target;

fn random(salt: u8) -> Random {
    let mut count = 0;
    Box::new(move || {
        count += 1;
        let mut bytes = [salt; 16];
        bytes[0] = count;
        bytes
    })
}

fn config() -> Config {
    let (segment_bytes_first, segment_bytes_max, reserve_bytes) = (32 << 10, 64 << 10, 0);
    Config { segment_bytes_first, segment_bytes_max, reserve_bytes, ..Config::new("/j", "n") }
}

/// Appends so many records; the lsn of the last.
fn append(disk: &Arc<dyn Disk>, salt: u8, count: usize) -> Option<u64> {
    let (idle, recovered) = match Journal::recover(config(), Arc::clone(disk), random(salt)) {
        Ok(recovered) => recovered,
        Err(OpenError::Newer { .. } | OpenError::OfAnother { .. }) => return None,
        Err(err) => panic!("{err}"),
    };
    let mut before = None;
    idle.reader()
        .scan(0, &mut |entry| {
            assert!(before < Some(entry.lsn) && entry.lsn < recovered.next_lsn, "lsns rise");
            before = Some(entry.lsn);
        })
        .unwrap();
    let journal = idle.start(|| {}, |_| {}).unwrap();
    let (ring, rang) = mpsc::channel();
    let waiter = Waiter::new(move || ring.send(()).unwrap());
    let mut done = Vec::new();
    for n in 0..count {
        let body = Bytes::from(vec![n as u8; n * 300]);
        journal.append(Group::new([Record::new(1, 1, body)]).unwrap(), 0, &waiter).unwrap();
        rang.recv().unwrap();
        waiter.take(&mut done);
        if n == 5 {
            let _ = journal.checkpoint(recovered.next_lsn, vec![1]);
        }
    }
    journal.close();
    done.last().map(|done| done.result.unwrap())
}

fuzz_target!(|data: &[u8]| {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
    append(&disk, 1, 12);
    let names: Vec<String> = disk.list(Path::new("/j")).unwrap().into_iter().map(|entry| entry.name).collect();
    for damage in data.chunks_exact(7).take(16) {
        let path = Path::new("/j").join(&names[damage[0] as usize % names.len()]);
        let file = disk.open(&path, Open::Existing).unwrap();
        let length = disk.look_at(&path).unwrap().bytes;
        let page = u64::from(damage[1]) * 4096 % length.max(1);
        let at = (page + u64::from(u16::from_le_bytes([damage[2], damage[3]])) % 4096).min(length.saturating_sub(2));
        disk.write_all(&file, Bytes::copy_from_slice(&damage[4..6]), Bytes::new(), at).unwrap();
        if damage[6] % 2 == 1 && length >= page + 8 {
            let mut head = disk.read(&file, page, 4096).unwrap().to_vec();
            let header_bytes = u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize;
            if let Some(checked) = head.get(4..header_bytes) {
                let crc = crc32c::crc32c(checked);
                head[..4].copy_from_slice(&crc.to_le_bytes());
                disk.write_all(&file, Bytes::from(head), Bytes::new(), page).unwrap();
            }
        }
    }
    if let Some(last) = append(&disk, 2, 3) {
        assert!(append(&disk, 3, 1).expect("it started before") > last);
    }
});

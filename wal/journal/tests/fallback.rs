//! A journal where there can be no ring. A process of its own: what it may lock is the whole process's.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use disk::{Disk, Files};
use journal::{Background, Config, Group, Journal, Place, ReadWaiter, Record, Waiter, random};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn where_too_little_memory_may_be_locked_reads_are_answered_on_a_plain_thread() {
    let maximum = getrlimit(Resource::Memlock).maximum;
    setrlimit(Resource::Memlock, Rlimit { current: Some(64 << 10), maximum }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Files::start(|_| Ok(()), || {}, || {}).unwrap());
    let config = Config { background: Background::Ring, ..Config::new(dir.path().join("j"), "n") };
    let (idle, _) = Journal::recover(config, disk, random()).unwrap();
    let (tell, told) = mpsc::channel::<Place>();
    let journal = idle.start(|| {}, move |committed| tell.send(committed.place).unwrap()).unwrap();
    assert_eq!(journal.background(), Background::Plain);
    journal.append(Group::new([Record::new(1, 1, 0, &b"body"[..])]).unwrap(), 0, &Waiter::new(|| {})).unwrap();
    let place = told.recv_timeout(Duration::from_secs(20)).unwrap();
    let (ring, rang) = mpsc::channel();
    let reads = ReadWaiter::new(move || ring.send(()).unwrap());
    journal.read(place, 1, 7, &reads).unwrap();
    rang.recv_timeout(Duration::from_secs(20)).unwrap();
    let mut done = Vec::new();
    reads.take(&mut done);
    let entries = done.remove(0).entries.unwrap();
    assert_eq!(entries[0].as_ref().unwrap().body, &b"body"[..]);
}

//! Starts that find more in the log than memory takes: what they write on the way is a table, or it never was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use disk::{Disk, Operation, SimulatedDisk};
use jobs::Key;
use jobs::limits::Limits;
use jobs::log::Name;
use jobs::store::{Answer, Asked, Config, LookWaiter, NewJob, OpenError, Opened, Question, Store};
use jobs::table;
use journal::Waiter;

const JOBS: usize = 100;
const IN_MEMORY_MAX: usize = 15;
const PATIENCE: Duration = Duration::from_secs(10);
/// Starts may end so many operations behind the first that did not.
const BEYOND: u64 = 60;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// When each job is due, and what it was added with.
type Added = BTreeMap<u64, (i64, Vec<u8>)>;

fn name() -> Name {
    Name { account: "app".into(), subject: "orders/v1".into() }
}

fn open(disk: &Arc<SimulatedDisk>, memory_jobs_max: usize) -> Result<Opened, OpenError> {
    let config = Config {
        dir: PathBuf::from("/jobs"),
        node: "node-1".to_owned(),
        node_number: 3,
        limits: Limits { memory_jobs_max, merge_min: 100, ..Limits::default() },
        table_limits: table::Limits { part_bytes: 8 << 10, block_bytes: 512, ..table::Limits::default() },
        floor_bytes: 0,
        journal: |config| journal::Config {
            segment_bytes_first: 32 << 10,
            segment_bytes_max: 32 << 10,
            reserve_bytes: 8 << 10,
            ..config
        },
    };
    let mut salt = 0_u8;
    let random = Box::new(move || {
        salt += 1;
        [salt; 16]
    });
    let disk: Arc<dyn Disk> = Arc::<SimulatedDisk>::clone(disk);
    Store::open(config, disk, random, || {}, Box::new(|jobs| panic!("due tomorrow: {jobs:?}")))
}

/// A log with so many jobs, of which the process that wrote it made no table: its memory had room for all.
fn logged(seed: u64) -> (Arc<SimulatedDisk>, Added) {
    let disk = Arc::new(SimulatedDisk::new(seed));
    let Opened { store, .. } = open(&disk, 10 * JOBS).expect("an empty disk");
    let (ring, rang) = mpsc::channel();
    let waiter = Waiter::new(move || ring.send(()).unwrap_or_default());
    let mut added = BTreeMap::new();
    let mut completions = Vec::new();
    for index in 0..JOBS {
        let due_ms = store.now_ms() + DAY_MS + (index as i64 * 7_919) % 1_000;
        let own = format!("job {index}").into_bytes();
        let seq = store.add(&name(), &[NewJob { due_ms, key: None, own: &own }], 1, &waiter).expect("there is room");
        added.insert(seq, (due_ms, own));
        rang.recv_timeout(PATIENCE).expect("it is durable soon");
    }
    waiter.take(&mut completions);
    assert!(completions.iter().all(|completion| completion.result.is_ok()) && completions.len() == JOBS);
    disk.cut_after(0);
    store.close();
    disk.cut();
    (disk, added)
}

fn ask(store: &Store, question: Question) -> Answer {
    let (ring, rang) = mpsc::channel();
    let waiter = LookWaiter::new(move || ring.send(()).unwrap_or_default());
    assert!(store.look(Asked { question, ticket: 1, waiter: waiter.clone() }));
    rang.recv_timeout(PATIENCE).expect("it is answered");
    let mut answers = Vec::new();
    waiter.take(&mut answers);
    answers.pop().expect("one").1
}

/// Every job is there once, due when it was, with what it was added with.
fn check(store: &Store, added: &Added, when: &str) {
    let queue = store.find(&name()).expect("its queue").0;
    let (from, to) = (Key::MIN, Key::first_of(i64::MAX));
    let Answer::List(listed) = ask(store, Question::List { queue, from, to, count_max: 10 * JOBS }) else {
        panic!("{when}: no list");
    };
    let mut found: Vec<(u64, i64)> = listed.jobs.iter().map(|(entry, _)| (entry.key.seq, entry.key.due_ms)).collect();
    found.sort_unstable();
    let expected: Vec<(u64, i64)> = added.iter().map(|(seq, (due_ms, _))| (*seq, *due_ms)).collect();
    assert_eq!(found, expected, "{when}");
    for (seq, (_, own)) in added {
        let Answer::Job(looked) = ask(store, Question::Job { seq: *seq, with_body: true }) else {
            panic!("{when}: {seq} is not found");
        };
        assert_eq!(looked.body.as_deref(), Some(&own[..]), "{when}: {seq}");
    }
    assert_eq!(store.counts().pending, JOBS as u64, "{when}");
}

fn tables_on(disk: &SimulatedDisk) -> usize {
    let listed = disk.list(Path::new("/jobs/tables")).unwrap_or_default();
    listed.iter().filter(|entry| entry.name.starts_with("table-") && entry.name.ends_with(".dir")).count()
}

#[test]
fn a_start_that_is_cut_at_any_operation_loses_nothing_and_doubles_nothing() {
    for seed in 0..3 {
        let (disk, added) = logged(seed);
        let (mut cut, mut with_tables, mut beyond, mut operations) = (0, 0, 0, 0);
        while beyond < BEYOND {
            disk.cut_after(operations);
            match open(&disk, IN_MEMORY_MAX) {
                Ok(Opened { store, .. }) => {
                    // The power goes while it writes its first book, or before that, or behind it.
                    store.close();
                    beyond += 1;
                }
                Err(err) => {
                    assert!(disk.is_off(), "seed {seed}: it does not open: {err:?}");
                    assert_eq!(beyond, 0, "seed {seed}: what one start can, the next can, too");
                    cut += 1;
                }
            }
            disk.cut();
            with_tables += usize::from(tables_on(&disk) > 0);
            operations += 1;
        }
        assert!(cut > 20 && with_tables > 20, "seed {seed}: {cut} starts were cut, {with_tables} left tables");
        let Opened { store, pending, .. } = open(&disk, IN_MEMORY_MAX).expect("the power is on");
        assert_eq!(pending, JOBS as u64, "seed {seed}");
        check(&store, &added, &format!("seed {seed}"));
        store.close();
    }
}

#[test]
fn a_start_takes_no_more_into_memory_than_one_generation_and_the_next_one_reads_no_log_again() {
    let (disk, added) = logged(7);
    let Opened { store, written, tables, .. } = open(&disk, IN_MEMORY_MAX).expect("it opens");
    assert_eq!((written, tables), (JOBS / IN_MEMORY_MAX, JOBS / IN_MEMORY_MAX));
    assert!(store.counts().in_memory < IN_MEMORY_MAX as u64, "{:?}", store.counts());
    check(&store, &added, "with tables that no book names");
    // A snapshot is owed to them, and not in five seconds.
    let until = std::time::Instant::now() + Duration::from_secs(3);
    while disk.list(Path::new("/jobs/tables")).unwrap().iter().all(|entry| !entry.name.starts_with("book-")) {
        assert!(std::time::Instant::now() < until, "no book after a start that wrote tables");
        std::thread::sleep(Duration::from_millis(1));
    }
    disk.cut_after(0);
    store.close();
    disk.cut();
    let Opened { store, written, .. } = open(&disk, IN_MEMORY_MAX).expect("it opens again");
    assert_eq!(written, 0, "the book knows them");
    check(&store, &added, "with a book");
}

#[test]
fn on_a_full_disk_a_start_keeps_in_memory_what_has_no_table_and_writes_it_later() {
    let (disk, added) = logged(8);
    const ENOSPC: i32 = 28;
    let is_of_table = |operation: &Operation| matches!(operation, Operation::Write { file, .. } if file.path().to_string_lossy().contains("/table-"));
    disk.fail_next(is_of_table, ENOSPC);
    let Opened { store, written, pending, .. } = open(&disk, IN_MEMORY_MAX).expect("it opens all the same");
    assert_eq!((written, pending), (0, JOBS as u64));
    check(&store, &added, "in memory");
    let until = std::time::Instant::now() + PATIENCE;
    while store.counts().in_memory >= IN_MEMORY_MAX as u64 {
        assert!(std::time::Instant::now() < until, "it stays in memory: {:?}", store.counts());
        std::thread::sleep(Duration::from_millis(2));
    }
    check(&store, &added, "in tables");
}

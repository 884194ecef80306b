//! Rot in tables is found before somebody needs what it has eaten, told of once, and what is left is written anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use disk::{Disk, SimulatedDisk};
use jobs::limits::{Limits, SCRUB_BURST};
use jobs::log::Name;
use jobs::store::{Answer, Asked, Config, Counts, Deed, LookWaiter, NewJob, Opened, Question, Store};
use jobs::table;
use journal::Waiter;

const JOBS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(20);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const FAST: u64 = 1 << 30;
/// Blocks and pages begin behind a page with the header.
const BEGIN: u64 = 4_096;

fn open(disk: &Arc<SimulatedDisk>, scrub_every: Duration, scrub_bytes_per_second: u64) -> Store {
    let config = Config {
        dir: PathBuf::from("/jobs"),
        node: "node-1".to_owned(),
        node_number: 3,
        limits: Limits {
            memory_jobs_max: JOBS,
            merge_min: 2,
            scrub_every,
            scrub_bytes_per_second,
            ..Limits::default()
        },
        table_limits: table::Limits { block_bytes: 512, ..table::Limits::default() },
        floor_bytes: 0,
        journal: |config| journal::Config { segment_bytes_first: 64 << 10, reserve_bytes: 8 << 10, ..config },
    };
    let disk: Arc<dyn Disk> = Arc::<SimulatedDisk>::clone(disk);
    let deliver = Box::new(|jobs| panic!("due tomorrow: {jobs:?}"));
    let Opened { store, .. } = Store::open(config, disk, Box::new(|| [7; 16]), || {}, deliver).expect("it opens");
    store
}

fn until(store: &Store, what: &str, is_so: impl Fn(&Counts) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so(&store.counts()) {
        assert!(Instant::now() < end, "never: {what}: {:?}", store.counts());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Adds so many jobs; their numbers.
fn add(store: &Store) -> Vec<u64> {
    let (ring, rang) = mpsc::channel();
    let waiter = Waiter::new(move || ring.send(()).unwrap_or_default());
    let name = Name { account: "app".into(), subject: "orders/v1".into() };
    let job =
        |index: usize| NewJob { due_ms: store.now_ms() + DAY_MS + index as i64, key: None, own: b"what it brings" };
    let jobs: Vec<NewJob<'_>> = (0..JOBS).map(job).collect();
    let first = store.add(&name, &jobs, 1, &waiter).expect("there is room");
    rang.recv_timeout(PATIENCE).expect("it is durable soon");
    (first..first + JOBS as u64).collect()
}

/// A store with one table of so many jobs; their numbers.
fn filled(disk: &Arc<SimulatedDisk>, scrub_every: Duration, pace: u64) -> (Store, Vec<u64>) {
    let store = open(disk, scrub_every, pace);
    let seqs = add(&store);
    until(&store, "a table", |counts| counts.tables == 1 && counts.in_memory == 0);
    (store, seqs)
}

fn files(disk: &SimulatedDisk, is: &str) -> Vec<String> {
    let names = disk.list(Path::new("/jobs/tables")).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.starts_with("table-") && name.ends_with(is)).collect()
}

fn rot(disk: &SimulatedDisk, is: &str, at: u64) {
    let name = files(disk, is).pop().expect("a file");
    disk.flip(&Path::new("/jobs/tables").join(name), at, 3).expect("it is there");
}

fn body(store: &Store, seq: u64) -> Option<Vec<u8>> {
    let (ring, rang) = mpsc::channel();
    let waiter = LookWaiter::new(move || ring.send(()).unwrap_or_default());
    assert!(store.look(Asked { question: Question::Job { seq, with_body: true }, ticket: 1, waiter: waiter.clone() }));
    rang.recv_timeout(PATIENCE).expect("it is answered");
    let mut answers = Vec::new();
    waiter.take(&mut answers);
    match answers.pop().expect("one").1 {
        Answer::Job(looked) => looked.body.map(|body| body.to_vec()),
        answer => panic!("{answer:?}"),
    }
}

fn parked(store: &Store) -> BTreeSet<u64> {
    let rows = store.parked(0, 10 * JOBS, &|_, parked| &*parked.reason.code == "rotten");
    rows.iter().map(|(_, parked)| parked.key.seq).collect()
}

#[test]
fn jobs_of_a_rotten_block_are_parked_at_once_and_the_others_are_written_anew() {
    let disk = Arc::new(SimulatedDisk::new(1));
    let (store, seqs) = filled(&disk, Duration::from_millis(20), FAST);
    let before = files(&disk, ".jobs");
    rot(&disk, ".jobs", BEGIN + 100);
    until(&store, "rot is found and the table renewed", |counts| counts.rotten == 1 && counts.parked > 0);
    let lost = parked(&store);
    assert_eq!(store.counts().lost, lost.len() as u64);
    assert!((1..JOBS).contains(&lost.len()) && lost.contains(&seqs[0]), "{lost:?}");
    let end = Instant::now() + PATIENCE;
    while files(&disk, ".jobs").iter().any(|name| before.contains(name)) {
        assert!(Instant::now() < end, "the rotten file stays: {:?}", files(&disk, ".jobs"));
        std::thread::sleep(Duration::from_millis(2));
    }
    for seq in &seqs {
        let expected = (!lost.contains(seq)).then(|| b"what it brings".to_vec());
        assert_eq!(body(&store, *seq), expected, "{seq}");
    }
    // Further passes have nothing to tell.
    let scrubbed = store.counts().scrubbed_bytes;
    until(&store, "it goes on", |counts| counts.scrubbed_bytes > scrubbed + 20_000);
    assert_eq!((store.counts().rotten, store.counts().lost), (1, lost.len() as u64));
    store.close();
    drop(store);

    let store = open(&disk, Duration::from_secs(3_600), FAST);
    assert_eq!(parked(&store), lost, "that is durable");
    let lost: Vec<u64> = lost.into_iter().collect();
    assert_eq!(store.change_parked(Deed::Drop, &lost), Ok(lost.len() as u64));
    assert_eq!(store.counts().pending, (JOBS - lost.len()) as u64);
}

#[test]
fn jobs_that_a_merge_cannot_read_are_parked_too() {
    let disk = Arc::new(SimulatedDisk::new(5));
    let (store, mut seqs) = filled(&disk, Duration::from_secs(3_600), FAST);
    rot(&disk, ".jobs", BEGIN + 100);
    seqs.extend(add(&store));
    until(&store, "a merge", |counts| counts.tables == 1 && counts.in_memory == 0 && counts.rotten == 1);
    let lost = parked(&store);
    assert!((1..JOBS).contains(&lost.len()), "{lost:?}");
    assert_eq!(store.counts().lost, lost.len() as u64);
    assert!(seqs.iter().all(|seq| body(&store, *seq).is_none() == lost.contains(seq)), "{lost:?}");
}

#[test]
fn a_rotten_directory_costs_no_job() {
    for (what, is, at) in [("a page", ".dir", BEGIN + 60), ("its header", ".dir", 30), ("a part's header", ".jobs", 30)]
    {
        let disk = Arc::new(SimulatedDisk::new(2));
        let (store, seqs) = filled(&disk, Duration::from_millis(20), FAST);
        let before = files(&disk, is);
        rot(&disk, is, at);
        until(&store, what, |counts| counts.rotten == 1);
        let end = Instant::now() + PATIENCE;
        while files(&disk, is).iter().any(|name| before.contains(name)) {
            assert!(Instant::now() < end, "{what}: the rotten file stays: {:?}", files(&disk, is));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(seqs.iter().all(|seq| body(&store, *seq).is_some()), "{what}");
        let Counts { rotten, lost, parked, .. } = store.counts();
        assert_eq!((rotten, lost, parked), (1, 0, 0), "{what}");
    }
}

#[test]
fn a_scrub_keeps_its_pace_and_begins_again_only_when_it_is_time() {
    const EVERY: Duration = Duration::from_millis(100);
    let (disk, began) = (Arc::new(SimulatedDisk::new(3)), Instant::now());
    let (store, _) = filled(&disk, EVERY, u64::MAX);
    // A pass reads no more than a table is long, so the third has begun.
    until(&store, "two passes", |counts| counts.scrubbed_bytes > 2 * counts.table_bytes);
    assert!(began.elapsed() >= 3 * EVERY, "{:?}", began.elapsed());

    const PACE: u64 = 16 << 10;
    let (disk, began) = (Arc::new(SimulatedDisk::new(4)), Instant::now());
    let (store, _) = filled(&disk, Duration::ZERO, PACE);
    until(&store, "two passes", |counts| counts.scrubbed_bytes > 2 * counts.table_bytes);
    // What it may have at once, and the last step of it.
    let allowed = PACE as f64 * (began.elapsed() + SCRUB_BURST).as_secs_f64() + BEGIN as f64;
    assert!(store.counts().scrubbed_bytes as f64 <= allowed, "{:?} of {allowed}", store.counts());
}

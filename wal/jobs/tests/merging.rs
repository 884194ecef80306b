//! A merge does not hold up what memory has.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use disk::{Completion, Disk, Operation, Outcome, SimulatedDisk};
use jobs::limits::Limits;
use jobs::log::Name;
use jobs::store::{Config, NewJob, Opened, Store};
use jobs::table;
use journal::Waiter;

const JOBS: usize = 500;
const PATIENCE: Duration = Duration::from_secs(20);

type Hook = Box<dyn Fn(&Operation) + Send + Sync>;

/// Asks before every call.
struct Hooked {
    disk: SimulatedDisk,
    hook: OnceLock<Hook>,
}

impl Disk for Hooked {
    fn call(&self, operation: Operation) -> std::io::Result<Outcome> {
        if let Some(hook) = self.hook.get() {
            hook(&operation);
        }
        self.disk.call(operation)
    }

    fn submit(&self, ticket: u64, operation: Operation) {
        self.disk.submit(ticket, operation);
    }

    fn complete(&self) -> Option<Completion> {
        self.disk.complete()
    }
}

fn add(store: &Store) {
    let (ring, rang) = mpsc::channel();
    let waiter = Waiter::new(move || ring.send(()).unwrap_or_default());
    let name = Name { account: "app".into(), subject: "orders/v1".into() };
    let due_ms = store.now_ms() + 24 * 60 * 60 * 1_000;
    let jobs = vec![NewJob { due_ms, key: None, own: b"what it brings" }; JOBS];
    store.add(&name, &jobs, 1, &waiter).expect("there is room");
    rang.recv_timeout(PATIENCE).expect("it is durable soon");
}

/// Numbers of tables, in the order they were named: two that are merged, while memory fills once more, and what comes of both.
fn named(fresh_tables_max: usize) -> Vec<String> {
    let disk = Arc::new(Hooked { disk: SimulatedDisk::new(1), hook: OnceLock::new() });
    let config = Config {
        dir: PathBuf::from("/jobs"),
        node: "node-1".to_owned(),
        node_number: 3,
        limits: Limits { memory_jobs_max: JOBS, merge_min: 2, fresh_tables_max, ..Limits::default() },
        table_limits: table::Limits { block_bytes: 512, ..table::Limits::default() },
        floor_bytes: 0,
        journal: |config| journal::Config { segment_bytes_first: 64 << 10, reserve_bytes: 8 << 10, ..config },
    };
    let shared: Arc<dyn Disk> = Arc::<Hooked>::clone(&disk);
    let deliver = Box::new(|jobs| panic!("due tomorrow: {jobs:?}"));
    let opened = Store::open(config, shared, Box::new(|| [7; 16]), || {}, deliver).expect("it opens");
    let Opened { store, .. } = opened;
    let store = Arc::new(store);
    // Names that tables are given, in order; the third is the merge's, and on its way memory fills.
    let named: Arc<Mutex<Vec<String>>> = Arc::default();
    let hook: Hook = {
        let (named, store, reads) = (Arc::clone(&named), Arc::downgrade(&store), AtomicUsize::new(0));
        Box::new(move |operation| match operation {
            Operation::Rename { to, .. } => {
                let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.starts_with("table-") && name.ends_with(".dir") {
                    named.lock().unwrap().push(name);
                }
            }
            // The first reads are of the table's opening.
            Operation::Read { file, .. }
                if file.path().to_string_lossy().ends_with("01-0000.jobs")
                    && named.lock().unwrap().len() == 2
                    && reads.fetch_add(1, Ordering::Relaxed) == 3 =>
            {
                add(&store.upgrade().expect("it is open"));
            }
            _ => {}
        })
    };
    assert!(disk.hook.set(hook).is_ok());
    for _ in 0..2 {
        let before = store.counts().tables;
        add(&store);
        let until = Instant::now() + PATIENCE;
        while named.lock().unwrap().len() as u64 == before && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let until = Instant::now() + PATIENCE;
    while named.lock().unwrap().len() < 4 {
        assert!(Instant::now() < until, "{:?}, {:?}", named.lock().unwrap(), store.counts());
        std::thread::sleep(Duration::from_millis(1));
    }
    store.close();
    assert_eq!(store.counts().pending, 3 * JOBS as u64);
    let names = named.lock().unwrap();
    let digits =
        |name: &String| name.trim_start_matches("table-").trim_start_matches('0').trim_end_matches(".dir").to_owned();
    names.iter().take(4).map(digits).collect()
}

#[test]
fn memory_that_is_full_while_a_merge_runs_is_written_before_the_merge_ends() {
    assert_eq!(named(3), ["1", "2", "4", "3"], "three is the merge of one and two");
}

#[test]
fn memory_waits_for_the_merge_when_there_are_many_tables() {
    assert_eq!(named(2), ["1", "2", "3", "4"]);
}

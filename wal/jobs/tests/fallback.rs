//! A store where there can be no ring. A process of its own: what it may lock is the whole process's.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use disk::{Disk, Files};
use jobs::limits::Limits;
use jobs::log::Name;
use jobs::store::{Config, NewJob, Opened, Store};
use jobs::table;
use journal::{Background, Waiter};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn where_too_little_memory_may_be_locked_tables_are_written_on_a_plain_thread() {
    let maximum = getrlimit(Resource::Memlock).maximum;
    setrlimit(Resource::Memlock, Rlimit { current: Some(64 << 10), maximum }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Files::start(|_| Ok(()), || {}, || {}).unwrap());
    let config = Config {
        dir: dir.path().join("jobs"),
        node: "node-1".to_owned(),
        node_number: 1,
        limits: Limits { memory_jobs_max: 10, ..Limits::default() },
        table_limits: table::Limits::default(),
        floor_bytes: 0,
        journal: |config| journal::Config { background: Background::Ring, ..config },
    };
    let deliver = Box::new(|jobs| panic!("due tomorrow: {jobs:?}"));
    let Opened { store, .. } = Store::open(config, disk, journal::random(), || {}, deliver).unwrap();
    let (ring, rang) = mpsc::channel();
    let waiter = Waiter::new(move || ring.send(()).unwrap_or_default());
    let name = Name { account: "app".into(), subject: "orders/v1".into() };
    let jobs = vec![NewJob { due_ms: store.now_ms() + 86_400_000, key: None, own: b"x" }; 10];
    store.add(&name, &jobs, 1, &waiter).unwrap();
    rang.recv_timeout(Duration::from_secs(20)).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while store.counts().tables == 0 {
        assert!(Instant::now() < until, "{:?}", store.counts());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(store.tables_background(), Background::Plain);
}

//! The store on real files, with its threads: what is added comes out when it is due, once, also after a restart.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use disk::{Disk, Files};
use jobs::book::{QueueId, Refused, Seen};
use jobs::limits::Limits;
use jobs::log::Name;
use jobs::store::{
    AddError, Answer, Asked, Changed, Config, Deed, Job, LookWaiter, NewJob, OpenError, Opened, Outcome, Question,
    Store,
};
use jobs::table;
use jobs::wheel::Entry;
use jobs::{JobId, Key};
use journal::{Background, Waiter};
use tempfile::TempDir;

/// So small that a few hundred jobs become tables and tables of tables.
fn small() -> Limits {
    Limits { memory_jobs_max: 50, merge_min: 3, queue_due_max: 40, due_max: 100, ..Limits::default() }
}

fn config(dir: &Path, limits: Limits) -> Config {
    Config {
        dir: dir.join("jobs"),
        node: "node-1".to_owned(),
        node_number: 7,
        limits,
        table_limits: table::Limits { part_bytes: 16 << 10, block_bytes: 1 << 10, ..table::Limits::default() },
        floor_bytes: 0,
        journal: match BACKGROUND.get() {
            Background::Ring => |config| small_journal(config, Background::Ring),
            Background::Plain => |config| small_journal(config, Background::Plain),
        },
    }
}

fn small_journal(config: journal::Config, background: Background) -> journal::Config {
    let (segment_bytes_first, segment_bytes_max, reserve_bytes) = (64 << 10, 64 << 10, 16 << 10);
    journal::Config { segment_bytes_first, segment_bytes_max, reserve_bytes, background, ..config }
}

thread_local! {
    /// What runs behind commits, in the test that runs on this thread.
    static BACKGROUND: Cell<Background> = const { Cell::new(Background::Plain) };
}

/// The same, with tables written on a plain thread and on a ring.
fn on_both(test: impl Fn()) {
    for background in [Background::Plain, Background::Ring] {
        eprintln!("{background:?}");
        BACKGROUND.set(background);
        test();
    }
}

/// A store whose jobs go nowhere but here.
struct Bench {
    store: Arc<Store>,
    waiter: Waiter,
    committed: mpsc::Receiver<()>,
    fired: Arc<Mutex<Vec<(Job, Instant)>>>,
    opened: (u64, usize),
}

type Judge = Box<dyn Fn(&Job) -> Option<Outcome> + Send + Sync>;

fn fires(job: &Job) -> Option<Outcome> {
    Some(Outcome::Fired { queue: job.queue, seqs: vec![job.key.seq], partition: 0, offset: job.key.seq as i64 })
}

fn open(dir: &Path, limits: Limits, judge: Judge) -> Bench {
    let disk: Arc<dyn Disk> = Arc::new(Files::start(|_| Ok(()), || {}, || {}).expect("a disk"));
    let fired: Arc<Mutex<Vec<(Job, Instant)>>> = Arc::default();
    let store: Arc<std::sync::OnceLock<std::sync::Weak<Store>>> = Arc::default();
    let deliver = {
        let (fired, store) = (Arc::clone(&fired), Arc::clone(&store));
        move |jobs: Vec<Job>| {
            for job in jobs {
                let outcome = judge(&job);
                if matches!(outcome, Some(Outcome::Fired { .. })) {
                    fired.lock().unwrap().push((job, Instant::now()));
                }
                // Whoever fires before the store is out of its constructor waits for it.
                let store = loop {
                    match store.get() {
                        Some(store) => break store.upgrade(),
                        None => std::thread::yield_now(),
                    }
                };
                if let (Some(store), Some(outcome)) = (store, outcome) {
                    store.settle(outcome);
                }
            }
        }
    };
    let opened = Store::open(config(dir, limits), disk, journal::random(), || {}, Box::new(deliver)).expect("it opens");
    let Opened { store: opened_store, pending, in_doubt, .. } = opened;
    let opened_store = Arc::new(opened_store);
    let until = Instant::now() + Duration::from_secs(10);
    while opened_store.tables_background() != BACKGROUND.get() {
        assert!(Instant::now() < until, "tables are not written on a {:?}", BACKGROUND.get());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(store.set(Arc::downgrade(&opened_store)).is_ok());
    let (ring, committed) = mpsc::channel();
    let waiter = Waiter::new(move || ring.send(()).unwrap_or_default());
    Bench { store: opened_store, waiter, committed, fired, opened: (pending, in_doubt) }
}

fn name(queue: &str) -> Name {
    Name { account: "app1".into(), subject: queue.into() }
}

impl Bench {
    /// Waits until everything appended is durable.
    fn durable(&self, count: usize) {
        let mut completions = Vec::new();
        while completions.len() < count {
            self.committed.recv_timeout(Duration::from_secs(10)).expect("the journal answers");
            self.waiter.take(&mut completions);
        }
        assert!(completions.iter().all(|completion| completion.result.is_ok()), "{completions:?}");
    }

    fn add(&self, queue: &str, due_ms: i64, body: &str) -> u64 {
        let job = NewJob { due_ms, key: None, own: body.as_bytes() };
        // Memory may wait for a table.
        let until = Instant::now() + Duration::from_secs(20);
        let seq = loop {
            match self.store.add(&name(queue), &[job], 1, &self.waiter) {
                Ok(seq) => break seq,
                Err(AddError::Refused(Refused::Memory)) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(refused) => panic!("{refused}"),
            }
        };
        self.durable(1);
        seq
    }

    fn pause(&self, queue: &str, is_paused: bool) {
        assert_eq!(self.store.pause(&name(queue), is_paused, 1, &self.waiter), Ok(true));
        self.durable(1);
    }

    fn look(&self, question: Question) -> Answer {
        let (ring, rang) = mpsc::channel();
        let waiter = LookWaiter::new(move || ring.send(()).unwrap_or_default());
        assert!(self.store.look(Asked { question, ticket: 5, waiter: waiter.clone() }));
        rang.recv_timeout(Duration::from_secs(10)).expect("it is answered");
        let mut answers = Vec::new();
        waiter.take(&mut answers);
        answers.pop().expect("one").1
    }

    fn entry(&self, seq: u64) -> Option<Entry> {
        match self.look(Question::Job { seq, with_body: false }) {
            Answer::Job(looked) => match looked.seen {
                Seen::Pending(Some((entry, _))) => Some(entry),
                _ => None,
            },
            answer => panic!("{answer:?}"),
        }
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Bench) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < until, "{what}: {:?}", self.store.counts());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn fired(&self) -> BTreeMap<u64, u32> {
        let mut fired = BTreeMap::new();
        self.fired.lock().unwrap().iter().for_each(|(job, _)| *fired.entry(job.key.seq).or_default() += 1);
        fired
    }

    fn close(self) {
        self.store.close();
    }
}

#[test]
fn jobs_come_out_when_they_are_due_with_what_they_were_added_with() {
    on_both(|| {
        let dir = TempDir::new().unwrap();
        let bench = open(dir.path(), Limits::default(), Box::new(fires));
        let begun = (Instant::now(), bench.store.now_ms());
        let mut wanted = BTreeMap::new();
        for (at, delay) in [0, 30, 30, 100, 250, 700].into_iter().enumerate() {
            let body = format!("message {at}");
            let due_ms = begun.1 + delay;
            wanted.insert(bench.add("orders.v1", due_ms, &body), (due_ms, body));
        }
        bench.wait_for("all fire", |bench| bench.fired.lock().unwrap().len() == wanted.len());
        let fired = bench.fired.lock().unwrap().clone();
        for (job, at) in &fired {
            let (due_ms, body) = &wanted[&job.key.seq];
            assert_eq!((job.key.due_ms, &job.body[..], &*job.name.subject), (*due_ms, body.as_bytes(), "orders.v1"));
            let at_ms = begun.1 + at.duration_since(begun.0).as_millis() as i64;
            assert!(at_ms + 1 >= *due_ms, "{job:?} fired at {at_ms}");
        }
        let order: Vec<Key> = fired.iter().map(|(job, _)| job.key).collect();
        assert!(order.is_sorted(), "{order:?}");
        bench.wait_for("nothing is left", |bench| bench.store.counts().pending == 0);
        let issuer = *bench.store.issuer().expect("something is durable");
        let id = issuer.issue(0, 1);
        assert_eq!(JobId::parse(&id.to_string()), Some(id));
    });
}

#[test]
fn what_waits_is_there_after_a_restart_and_fires_once() {
    on_both(|| {
        let dir = TempDir::new().unwrap();
        let never: Judge = Box::new(|_| None);
        let bench = open(dir.path(), small(), never);
        let queues = ["orders.v1", "mails.v1"];
        // However slow this machine is, nothing is taken before the restart.
        queues.iter().for_each(|queue| bench.pause(queue, true));
        let now_ms = bench.store.now_ms();
        let mut seqs = Vec::new();
        for at in 0..400_i64 {
            // Some soon, some in an hour, in no order.
            let delay = if at % 2 == 0 { 1_500 + (at * 37) % 300 } else { 3_600_000 + (at * 7_919) % 100_000 };
            let queue = if at % 3 == 0 { "orders.v1" } else { "mails.v1" };
            seqs.push((bench.add(queue, now_ms + delay, &format!("body {at}")), now_ms + delay, format!("body {at}")));
        }
        bench.wait_for("tables are made", |bench| {
            bench.store.counts().tables > 0 && bench.store.counts().in_memory < 100
        });
        for (seq, due_ms, body) in &seqs {
            let entry = bench.entry(*seq).expect("it waits");
            assert_eq!(entry.key, Key { due_ms: *due_ms, seq: *seq });
            match bench.look(Question::Job { seq: *seq, with_body: true }) {
                Answer::Job(looked) => assert_eq!(looked.body, Some(Bytes::copy_from_slice(body.as_bytes()))),
                answer => panic!("{answer:?}"),
            }
        }
        // Deleted and moved while they are in tables, and in memory.
        let deleted: Vec<u64> = seqs.iter().step_by(5).map(|(seq, ..)| *seq).collect();
        for seq in &deleted {
            let entry = bench.entry(*seq).expect("it waits");
            assert_eq!(bench.store.delete(entry, 2, &bench.waiter), Ok(Changed::Appended));
            bench.durable(1);
        }
        let moved: Vec<u64> = seqs.iter().skip(1).step_by(10).map(|(seq, ..)| *seq).collect();
        for seq in &moved {
            let entry = bench.entry(*seq).expect("it waits");
            let own = &seqs.iter().find(|(is, ..)| is == seq).expect("added").2;
            assert_eq!(
                bench.store.reschedule(entry, now_ms + 1_700, own.as_bytes(), 3, &bench.waiter),
                Ok(Changed::Appended)
            );
            bench.durable(1);
        }
        bench.close();

        let bench = open(dir.path(), small(), Box::new(fires));
        assert_eq!(bench.opened.0, 400 - deleted.len() as u64);
        queues.iter().for_each(|queue| bench.pause(queue, false));
        let soon = |at: usize| at.is_multiple_of(2);
        let wanted: Vec<u64> = seqs
            .iter()
            .enumerate()
            .filter(|(at, (seq, ..))| !deleted.contains(seq) && (soon(*at) || moved.contains(seq)))
            .map(|(_, (seq, ..))| *seq)
            .collect();
        bench.wait_for("what is due fires", |bench| bench.fired().len() >= wanted.len());
        std::thread::sleep(Duration::from_millis(100));
        let fired = bench.fired();
        assert!(fired.values().all(|count| *count == 1), "{fired:?}");
        assert_eq!(fired.keys().copied().collect::<Vec<_>>(), wanted);
        bench.wait_for("it is noted", |bench| {
            bench.store.counts().pending as usize == 400 - deleted.len() - wanted.len()
        });
        // The others are listed, page by page, each once.
        let orders = bench.store.find(&name("orders.v1")).expect("it is known");
        let (mut from, mut listed) = (Key::MIN, Vec::new());
        loop {
            let question = Question::List { queue: orders.0, from, to: Key::MAX, count_max: 7 };
            let Answer::List(list) = bench.look(question) else { panic!("a list") };
            assert!(list.jobs.len() <= 7);
            listed.extend(list.jobs.iter().map(|(entry, _)| entry.key));
            match list.next {
                Some(next) => from = next,
                None => break,
            }
        }
        let mut expected: Vec<Key> = seqs
            .iter()
            .enumerate()
            .filter(|(at, (seq, ..))| at % 3 == 0 && !deleted.contains(seq) && !wanted.contains(seq))
            .map(|(_, (seq, due_ms, _))| Key { due_ms: *due_ms, seq: *seq })
            .collect();
        expected.sort_unstable();
        assert_eq!(listed, expected);
        bench.close();
    });
}

#[test]
fn what_kafka_does_not_take_is_tried_again_and_what_it_refuses_is_parked() {
    on_both(|| {
        let dir = TempDir::new().unwrap();
        let judge: Judge = Box::new(|job| match (job.attempts, &*job.name.subject) {
            (_, "gone.v1") => Some(Outcome::Parked {
                queue: job.queue,
                key: job.key,
                reason: jobs::log::Reason { code: "topic_gone".into(), sentence: "the topic is gone".into() },
            }),
            (0..3, _) => {
                Some(Outcome::GivenBack { queue: job.queue, seqs: vec![job.key.seq], pause: Duration::from_millis(20) })
            }
            _ => fires(job),
        });
        let bench = open(dir.path(), Limits::default(), judge);
        let now_ms = bench.store.now_ms();
        let fires = bench.add("orders.v1", now_ms + 10, "a");
        let parks = bench.add("gone.v1", now_ms + 10, "b");
        bench.wait_for("it fires", |bench| bench.fired().contains_key(&fires));
        bench.wait_for("it is parked", |bench| bench.store.counts().parked == 1);
        assert_eq!(bench.fired.lock().unwrap()[0].0.attempts, 3);
        let seen = bench.store.see(parks);
        assert!(format!("{seen:?}").contains("topic_gone"), "{seen:?}");
        assert_eq!(bench.store.unpark(parks, 4, &bench.waiter), Ok(true));
        bench.durable(1);
        bench.wait_for("it is parked again", |bench| bench.store.counts().parked == 1);
        // Parked ones can be deleted.
        let entry = bench.entry(parks).expect("it waits");
        assert_eq!(bench.store.delete(entry, 5, &bench.waiter), Ok(Changed::Appended));
        bench.durable(1);
        assert_eq!(bench.store.counts().pending, 0);
        assert_eq!(bench.store.find(&name("gone.v1")), Some(QueueId(1)));
    });
}

#[test]
fn parked_jobs_are_listed_replayed_and_dropped_and_nothing_else_is() {
    on_both(|| {
        let dir = TempDir::new().unwrap();
        let is_back = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let judge: Judge = {
            let is_back = Arc::clone(&is_back);
            Box::new(move |job| match is_back.load(std::sync::atomic::Ordering::SeqCst) {
                true => fires(job),
                false => Some(Outcome::Parked {
                    queue: job.queue,
                    key: job.key,
                    reason: jobs::log::Reason { code: "topic_gone".into(), sentence: "the topic is gone".into() },
                }),
            })
        };
        let bench = open(dir.path(), Limits::default(), judge);
        let now_ms = bench.store.now_ms();
        let gone: Vec<u64> = (0..4).map(|_| bench.add("gone.v1", now_ms, "x")).collect();
        // Between parked ones, so that whoever looks for it finds the next one.
        let waits = bench.add("other.v1", now_ms + 3_600_000, "z");
        let other = bench.add("other.v1", now_ms, "y");
        bench.wait_for("they are parked", |bench| bench.store.counts().parked == 5);
        let found = |from, rows_max, subject: &str| -> Vec<u64> {
            let rows = bench.store.parked(from, rows_max, &|name, _| &*name.subject == subject);
            rows.iter().map(|(_, parked)| parked.key.seq).collect()
        };
        assert_eq!(found(0, 3, "gone.v1"), gone[..3]);
        assert_eq!(found(gone[2] + 1, 3, "gone.v1"), gone[3..]);
        let seen: Vec<(String, u64, u64)> = bench
            .store
            .queues()
            .iter()
            .map(|queue| (queue.name.subject.to_string(), queue.pending, queue.parked))
            .collect();
        assert_eq!(seen, [("gone.v1".to_owned(), 4, 4), ("other.v1".to_owned(), 2, 1)]);

        // What waits, and what there is not, is passed over; so is what was done before.
        for (deed, seqs, changed) in [
            (Deed::Drop, vec![gone[0], waits, 99], 1),
            (Deed::Drop, vec![gone[0]], 0),
            (Deed::Replay, vec![waits, 99], 0),
            (Deed::Drop, vec![], 0),
        ] {
            assert_eq!(bench.store.change_parked(deed, &seqs), Ok(changed), "{deed:?} {seqs:?}");
        }
        assert_eq!((bench.store.see(gone[0]), found(0, 9, "gone.v1").len()), (Seen::Deleted, 3));
        is_back.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(bench.store.change_parked(Deed::Replay, &[gone[1], gone[2], other]), Ok(3));
        bench.wait_for("they fire", |bench| bench.fired().len() == 3);
        bench.wait_for("it is noted", |bench| bench.store.counts().pending == 2);
        assert_eq!((found(0, 9, "gone.v1"), bench.store.see(gone[1])), (vec![gone[3]], Seen::Fired));
        bench.close();
        let bench = open(dir.path(), Limits::default(), Box::new(fires));
        assert_eq!(bench.store.see(gone[0]), Seen::Deleted, "that is durable");
        assert_eq!(bench.store.parked(0, 9, &|_, _| true).len(), 1);
    });
}

#[test]
fn a_queue_that_stands_still_keeps_its_jobs_and_goes_on_where_it_was() {
    on_both(|| {
        let dir = TempDir::new().unwrap();
        let bench = open(dir.path(), small(), Box::new(fires));
        assert_eq!(bench.store.pause(&name("orders.v1"), true, 1, &bench.waiter), Ok(true));
        bench.durable(1);
        let now_ms = bench.store.now_ms();
        // More than the queue's lists have room for.
        let seqs: Vec<u64> = (0..300).map(|at| bench.add("orders.v1", now_ms + 10 + at % 7, "x")).collect();
        let other = bench.add("mails.v1", now_ms + 20, "y");
        bench.wait_for("another queue's fires", |bench| bench.fired().contains_key(&other));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(bench.fired().len(), 1);
        assert_eq!(bench.store.pause(&name("orders.v1"), false, 1, &bench.waiter), Ok(true));
        bench.durable(1);
        bench.wait_for("all fire", |bench| bench.fired().len() == seqs.len() + 1);
        assert!(bench.fired().values().all(|count| *count == 1));
    });
}

/// What knows of the past: books, and the log's checkpoints.
fn forget_the_past(dir: &Path) {
    forget(dir, "book-");
    forget(dir, "checkpoint-");
}

fn forget(dir: &Path, begins: &str) {
    for below in ["tables", "log"] {
        for entry in std::fs::read_dir(dir.join("jobs").join(below)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with(begins) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

fn files(dir: &Path) -> Vec<String> {
    let listed = std::fs::read_dir(dir.join("jobs/tables")).unwrap();
    let mut names: Vec<String> =
        listed.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn without_a_book_all_is_read_from_the_log_or_nothing_is_touched() {
    on_both(|| {
        let dir = TempDir::new().unwrap();
        let bench = open(dir.path(), Limits::default(), Box::new(fires));
        let far_ms = bench.store.now_ms() + 3_600_000;
        for at in 0..20 {
            bench.add("orders.v1", far_ms + at, "x");
        }
        bench.close();
        forget_the_past(dir.path());
        let bench = open(dir.path(), small(), Box::new(fires));
        assert_eq!(bench.opened.0, 20, "the log has them all");

        // More than its segments hold, so that the first ones go.
        let body = "y".repeat(600);
        for at in 0..1_000 {
            bench.add("orders.v1", far_ms + at, &body);
        }
        bench.wait_for("the first segment to go", |bench| bench.store.journal().segments().first() != Some(&1));
        let pending = bench.store.counts().pending;
        bench.close();

        // Whoever has the books needs no checkpoint, and nothing of what was let go is missed.
        forget(dir.path(), "checkpoint-");
        let disk: Arc<dyn Disk> = Arc::new(Files::start(|_| Ok(()), || {}, || {}).expect("a disk"));
        let opened = Store::open(config(dir.path(), small()), disk, journal::random(), || {}, Box::new(|_| {}));
        let opened = opened.expect("its books are there");
        assert!(opened.pending == pending && opened.lost.is_empty() && !opened.without_book, "{opened:?}");
        opened.store.close();
        forget_the_past(dir.path());
        let before = files(dir.path());
        let disk: Arc<dyn Disk> = Arc::new(Files::start(|_| Ok(()), || {}, || {}).expect("a disk"));
        let refused = Store::open(config(dir.path(), small()), disk, journal::random(), || {}, Box::new(|_| {}));
        let Err(OpenError::NoBook { books: 0, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(files(dir.path()), before, "nothing was touched");
        assert!(before.iter().any(|name| name.starts_with("table-")), "{before:?}");
    });
}

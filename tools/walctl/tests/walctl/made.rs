//! Journals as gateways leave them, and the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use disk::Files;
use journal::queue::{Budget, Committed, Keeping, Name, Note, Queue, replay};
use journal::{Config, Group, Journal, Record, Waiter};
use kafka_wire::handoff_entry::{self, Target};
use kafka_wire::record_batch::{HeaderRef, RecordRef};

pub const NODE: &str = "5f0c9a3e71d2b684";
const BUDGET: Budget = Budget {
    bytes_max: u64::MAX,
    subject_bytes_max: u64::MAX,
    account_bytes_max: u64::MAX,
    records_max: u64::MAX,
    age_ms_max: None,
};

/// The queue and the journal under it.
pub struct Made {
    pub queue: Queue,
    pub journal: Journal,
    waiter: Waiter,
    rang: std::sync::mpsc::Receiver<()>,
    places: Arc<std::sync::Mutex<Vec<Committed<'static>>>>,
}

impl Made {
    pub fn at(dir: &Path) -> Made {
        let config = Config {
            segment_bytes_first: 64 << 10,
            segment_bytes_max: 64 << 10,
            reserve_bytes: 0,
            ..Config::new(dir, NODE)
        };
        let files = Arc::new(Files::start(|_| Ok(()), || {}, || {}).unwrap());
        let (idle, _) = Journal::recover(config, files, journal::random()).unwrap();
        let places = Arc::<std::sync::Mutex<Vec<_>>>::default();
        let theirs = Arc::clone(&places);
        let observer = move |committed: journal::Committed<'_>| {
            let record = committed.record;
            let head: &'static [u8] = record.head().to_vec().leak();
            theirs.lock().unwrap().push(Committed {
                stream: record.stream,
                kind: record.kind,
                sequence: record.sequence,
                place: committed.place.into(),
                bytes: record.body_bytes() as u32,
                wall_ms: committed.wall_ms,
                body: head,
            });
        };
        let journal = idle.start(|| {}, observer).unwrap();
        let (ring, rang) = std::sync::mpsc::channel();
        let waiter = Waiter::new(move || ring.send(()).unwrap());
        Made { queue: Queue::new(BUDGET, Keeping { receipts_ms: i64::MAX }), journal, waiter, rang, places }
    }

    pub fn commit(&mut self, records: Vec<Record>) {
        self.journal.append(Group::new(records).unwrap(), 0, &self.waiter).unwrap();
        self.rang.recv().unwrap();
        for committed in self.places.lock().unwrap().drain(..) {
            self.queue.apply(&committed).unwrap();
        }
    }

    pub fn note(note: Note) -> Record {
        Record::new(note.stream.0, note.kind as u8, note.sequence, note.body)
    }

    pub fn accept(&mut self, app: &str, lane: i32, message: &RecordRef<'_>) {
        let name = Name { account: app.into(), subject: format!("main/{app}.orders.v1").into(), lane };
        self.accept_for(&name, [0; 16], &[*message]);
    }

    /// Messages of one stream, durable together.
    pub fn accept_for(&mut self, name: &Name, topic_id: [u8; 16], messages: &[RecordRef<'_>]) {
        let mut records = Vec::new();
        for message in messages {
            let target = Target { partition: (name.lane >= 0).then_some(name.lane), is_named: false, topic_id };
            let head = handoff_entry::head(message, message.value.is_none(), target);
            let tail = Bytes::copy_from_slice(message.value.unwrap_or_default());
            let accepted = self.queue.accept(name, (head.len() + tail.len()) as u32, 0).unwrap();
            records.extend(accepted.definition.map(Made::note));
            records.push(Record::of_parts(accepted.stream.0, 2, accepted.sequence, head, tail));
        }
        self.commit(records);
    }
}

/// A gateway's data directory with one node and its journal, as a gateway leaves it.
pub struct DataDir(tempfile::TempDir);

impl DataDir {
    /// With what `fill` puts into the journal.
    pub fn new(fill: impl FnOnce(&mut Made)) -> DataDir {
        let dir = DataDir(tempfile::tempdir().unwrap());
        fs::create_dir_all(dir.node()).unwrap();
        fs::write(dir.node().join("lock"), "").unwrap();
        fs::write(dir.path().join("nodes/.lock"), "").unwrap();
        let mut made = Made::at(&dir.journal());
        fill(&mut made);
        made.journal.close();
        dir
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn node(&self) -> PathBuf {
        self.path().join("nodes").join(NODE)
    }

    pub fn journal(&self) -> PathBuf {
        self.node().join("journal")
    }

    pub fn segment(&self, number: u64) -> PathBuf {
        self.journal().join(format!("segment-{number:016x}.wal"))
    }

    /// Holds the node like a process that runs.
    pub fn hold(&self) -> fs::File {
        let lock = fs::File::open(self.node().join("lock")).unwrap();
        lock.lock().unwrap();
        lock
    }

    /// Turns a bit of a message's value, found by its bytes.
    pub fn rot(&self, value: &[u8]) {
        for number in 1..9 {
            let Ok(mut bytes) = fs::read(self.segment(number)) else { continue };
            if let Some(at) = bytes.windows(value.len()).position(|window| window == value) {
                bytes[at] ^= 0x40;
                fs::write(self.segment(number), bytes).unwrap();
                return;
            }
        }
        panic!("no segment has {:?}", String::from_utf8_lossy(value));
    }
}

/// What the next start finds in a journal that nobody has open.
pub fn reopened(dir: &Path) -> Queue {
    let files = Arc::new(Files::start(|_| Ok(()), || {}, || {}).unwrap());
    let (idle, recovered) = Journal::recover(Config::new(dir, NODE), files, journal::random()).unwrap();
    replay(&recovered, &mut idle.reader(), BUDGET, Keeping { receipts_ms: i64::MAX }).unwrap().queue
}

pub fn message<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>, headers: &'a [HeaderRef<'a>]) -> RecordRef<'a> {
    RecordRef { timestamp_ms: 1_700_000_000_123, key, value, headers }
}

pub fn walctl(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_walctl")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Every file with its bytes.
pub fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(contents(&entry.path())),
            false => drop(all.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    all
}

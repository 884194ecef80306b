//! Opens a store: what the last book says, what the log says since, and the threads.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use disk::{AtOnce, Disk, at_once};
use journal::{Journal, Lost, Recovered};
use tracing::{error, warn};

use super::due::Dispatcher;
use super::look::Looker;
use super::replay::Replay;
use super::tables::Keeper;
use super::{Bell, Config, Deliver, Shared, Store, book_file, clocks};
use crate::book::{Book, Committed};
use crate::clock::Clock;
use crate::log::Kind;
use crate::table::{self, Meta, StoreId, Table};

pub(super) const LOG: &str = "log";
pub(super) const TABLES: &str = "tables";

/// Why a store is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the log of delayed jobs")]
    Log(#[from] journal::OpenError),
    #[error("the log of delayed jobs cannot be read")]
    Read(#[from] journal::ReadError),
    #[error("cannot {what} {path:?}")]
    Io {
        what: &'static str,
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Table(#[from] table::OpenError),
    /// Nothing was touched.
    #[error(
        "none of the {books} books of delayed jobs in {dir:?} can be read, and the log does not reach back to the first job: which jobs \
         wait, and whose they are, is not known. Put back a file book-….jobs from a backup, or move {:?} away to go on without these \
         jobs",
        dir.parent().unwrap_or(dir)
    )]
    NoBook { dir: std::path::PathBuf, books: usize },
    #[error("a thread of the job store cannot be started")]
    Thread(#[source] io::Error),
}

/// What a start found.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    pub pending: u64,
    /// Jobs that were at Kafka at the end of the last process: nobody knows whether it has them.
    pub in_doubt: usize,
    /// Stretches of the log that are rotten.
    pub lost: Vec<Lost>,
    /// Records that make no sense and were passed over.
    pub malformed: u64,
    pub tables: usize,
    /// Of these, tables that were written at the start, because the log had more than memory takes.
    pub written: usize,
    /// No book was good, and all was read from the log, which has all of it.
    pub without_book: bool,
    pub took: Duration,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.shared.config.dir)
    }
}

impl Store {
    /// Opens the store of this directory, or begins one. `prepare` runs first on the thread that commits; `deliver` is called
    /// for what is due, as soon as this returns.
    pub fn open(
        config: Config,
        disk: Arc<dyn Disk>,
        random: journal::Random,
        prepare: impl FnOnce() + Send + 'static,
        deliver: Deliver,
    ) -> Result<Opened, OpenError> {
        let began = Instant::now();
        let tables_dir = config.dir.join(TABLES);
        for dir in [&config.dir, &tables_dir] {
            make_dir(&*disk, dir)?;
        }
        let log = journal::Config {
            floor_bytes: config.floor_bytes,
            ..journal::Config::new(config.dir.join(LOG), &config.node)
        };
        let (idle, recovered) = Journal::recover((config.journal)(log), Arc::clone(&disk), random)?;
        let (wall_ms, boot_ms) = clocks();
        let log_is_whole = idle.first_lsn() == Some(0);
        let (id, now_ms) = (idle.id(), wall_ms);
        let begun = Begun { config: &config, disk: &*disk, recovered: &recovered, log_is_whole, id, now_ms };
        let (mut book, next_book, without_book) = begun.book()?;
        let mut tables = begun.tables(&book)?;
        let needed_from = book.begin_lsn();
        let mut replay = Replay {
            book: &mut book,
            tables: &mut tables,
            disk: &*disk,
            dir: &tables_dir,
            limits: config.table_limits,
            malformed: 0,
            written: 0,
        };
        let mut lost = replay.run(&idle)?;
        let Replay { malformed, written, .. } = replay;
        book.recovered();
        // Without its checkpoints the log does not know that what lies before it was let go; the book does.
        lost.extend(recovered.lost.iter().copied().filter(|lost| lost.to_lsn > needed_from));
        for lost in &lost {
            if let Err(err) = idle.quarantine(lost) {
                warn!(%err, segment = lost.segment, "no copy of what is rotten in the log of jobs");
            }
        }
        let in_doubt = place_doubts(&mut book, &tables, &disk);
        let (pending, table_count) = (book.states().pending(), tables.len());
        let book = Arc::new(Mutex::new(book));
        let sleeps_until_ms = Arc::new(AtomicI64::new(i64::MIN));
        let bells: Arc<OnceLock<std::sync::Weak<Shared>>> = Arc::default();
        let observer = {
            let (book, sleeps_until_ms, bells) = (Arc::clone(&book), Arc::clone(&sleeps_until_ms), Arc::clone(&bells));
            move |committed: journal::Committed<'_>| observe(&book, &sleeps_until_ms, &bells, &committed)
        };
        let journal = idle.start(prepare, observer)?;
        let shared = Arc::new(Shared {
            journal,
            disk,
            config,
            book,
            tables: Mutex::new(Arc::new(tables)),
            clock: Mutex::new(Clock::new(wall_ms, boot_ms)),
            issuer: OnceLock::new(),
            outcomes: Mutex::default(),
            questions: Mutex::default(),
            due: Bell::default(),
            look: Bell::default(),
            tend: Bell::default(),
            sleeps_until_ms,
            is_held: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            in_flight_bytes: AtomicU64::new(0),
            fired: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            is_on_ring: AtomicBool::new(false),
            rotten: AtomicU64::new(0),
            scrubbed_bytes: AtomicU64::new(0),
        });
        drop(bells.set(Arc::downgrade(&shared)));
        let store = Store { shared: Arc::clone(&shared), threads: Mutex::default() };
        let dispatcher = Dispatcher::new(Arc::clone(&shared), deliver);
        let looker = Looker::new(Arc::clone(&shared));
        let keeper = Keeper::new(shared, next_book, written > 0);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)?;
            store.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            Ok::<(), OpenError>(())
        };
        spawn("jobs-due", Box::new(move || dispatcher.run()))?;
        spawn("jobs-look", Box::new(move || looker.run()))?;
        spawn("jobs-tables", Box::new(move || keeper.run_here()))?;
        Ok(Opened {
            store,
            pending,
            in_doubt,
            lost,
            malformed,
            tables: table_count,
            written,
            without_book,
            took: began.elapsed(),
        })
    }
}

fn make_dir(disk: &dyn Disk, dir: &std::path::Path) -> Result<(), OpenError> {
    let failed = |what| move |source| OpenError::Io { what, path: dir.to_owned(), source };
    match disk.make_dir(dir) {
        Ok(()) => {}
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(err) => return Err(failed("make the directory")(err)),
    }
    let parent = dir.parent().unwrap_or(dir);
    disk.persist_dir(parent).map_err(failed("keep the name of"))
}

/// What a start begins with.
struct Begun<'a> {
    config: &'a Config,
    disk: &'a dyn Disk,
    recovered: &'a Recovered,
    /// It has every record there ever was.
    log_is_whole: bool,
    id: Option<StoreId>,
    now_ms: i64,
}

impl Begun<'_> {
    /// The newest good book, the number of the next one, and whether there should have been one and is none.
    fn book(&self) -> Result<(Book, u64, bool), OpenError> {
        let Begun { config, disk, recovered, log_is_whole, id, now_ms } = self;
        let dir = config.dir.join(TABLES);
        let failed = |source| OpenError::Io { what: "list", path: dir.clone(), source };
        let listing = disk.list(&dir).map_err(failed)?;
        let numbers = book_file::numbers(&listing);
        let next_book = numbers.first().map_or(1, |newest| newest + 1);
        let named = recovered.checkpoint.as_deref().and_then(|blob| Some(u64::from_le_bytes(blob.try_into().ok()?)));
        // The one that belongs to the checkpoint; else the newest that can be read.
        let others = numbers.iter().copied().filter(|number| Some(*number) != named);
        for number in named.into_iter().chain(others) {
            let read = match book_file::read(*disk, &dir, id.as_ref(), number) {
                Ok(read) => read,
                Err(err) if err.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(OpenError::Io { what: "read the book of jobs in", path: dir, source }),
            };
            match read.and_then(|bytes| Book::restore(&bytes, *now_ms, config.limits)) {
                Some(book) => return Ok((book, next_book, false)),
                None => error!(number, dir = %dir.display(), "a book of jobs is rotten or gone; an older one is used"),
            }
        }
        let had_one = named.is_some() || !numbers.is_empty();
        // Files of tables that no book names are removed below: right only when the log has all that is in them.
        let has_tables = !table::unknown(&listing, &[]).is_empty();
        if (had_one || has_tables) && !log_is_whole {
            return Err(OpenError::NoBook { dir, books: numbers.len() });
        }
        Ok((Book::new(*now_ms, config.limits), next_book, had_one))
    }

    /// Opens the tables the book names, and removes those that nobody knows.
    fn tables(&self, book: &Book) -> Result<BTreeMap<u64, Arc<Table>>, OpenError> {
        let dir = self.config.dir.join(TABLES);
        let listing =
            self.disk.list(&dir).map_err(|source| OpenError::Io { what: "list", path: dir.clone(), source })?;
        let disk = AtOnce(self.disk);
        let mut metas: Vec<Meta> = Vec::new();
        for table in book.keeping().tables() {
            match Meta::decode(&mut &table.meta[..]) {
                Some(meta) => metas.push(meta),
                None => error!(table = table.number, "the book does not say what this table of jobs is"),
            }
        }
        for name in table::unknown(&listing, &metas) {
            if let Err(err) = self.disk.remove(&dir.join(&name)) {
                warn!(name, %err, "a file of no table stays");
            }
        }
        let mut tables = BTreeMap::new();
        let Some(store) = self.id else { return Ok(tables) };
        for meta in metas {
            let (table, rotten) = at_once(Table::open(&disk, &dir, store, &meta))?;
            rotten
                .iter()
                .for_each(|rotten| error!(%rotten, "a table of jobs is rotten; what can be read of it is used"));
            tables.insert(meta.number, Arc::new(table));
        }
        Ok(tables)
    }
}

/// Jobs of which nobody knows whether Kafka has them become due again: whoever gets them looks for them. How many there are.
fn place_doubts(book: &mut Book, tables: &BTreeMap<u64, Arc<Table>>, disk: &Arc<dyn Disk>) -> usize {
    let in_doubt: Vec<u64> = book.in_doubt().map(|(seq, _)| seq).collect();
    let mut reader = super::rows::Reader::new(Arc::clone(disk));
    let tables = Arc::new(tables.clone());
    for seq in &in_doubt {
        let entry = match book.see(*seq) {
            crate::book::Seen::Pending(Some((entry, _))) => Some(entry),
            crate::book::Seen::Pending(None) => {
                let is_its = |due_ms| book.is_alive(*seq, due_ms);
                reader.find(&tables, *seq, is_its).ok().flatten()
            }
            _ => None,
        };
        match entry {
            Some(entry) => book.doubt_placed(*seq, entry),
            None => error!(job = seq, "a job that may have fired cannot be found; it is left alone"),
        }
    }
    in_doubt.len()
}

/// What the committing thread does for each record, before whoever appended it hears of it.
fn observe(
    book: &Mutex<Book>,
    sleeps_until_ms: &AtomicI64,
    bells: &OnceLock<std::sync::Weak<Shared>>,
    committed: &journal::Committed<'_>,
) {
    let record = committed.record;
    debug_assert!(record.tail().is_empty(), "the store appends bodies in one part");
    let told = Committed {
        lsn: committed.lsn,
        stream: record.stream,
        kind: record.kind,
        sequence: record.sequence,
        wall_ms: committed.wall_ms,
        body: record.head(),
    };
    if let Err(err) = book.lock().unwrap_or_else(PoisonError::into_inner).apply(&told) {
        unreachable!("the store wrote a record that it cannot read: {err}");
    }
    let is_sooner = |body: &[u8]| {
        let due_ms = body.first_chunk().map(|due| i64::from_le_bytes(*due));
        due_ms.is_some_and(|due_ms| due_ms < sleeps_until_ms.load(Ordering::Acquire))
    };
    let wakes = match Kind::of(record.kind) {
        Some(Kind::Added | Kind::Moved) => is_sooner(record.head()),
        Some(Kind::Unparked | Kind::Paused) => true,
        _ => false,
    };
    if wakes {
        // Once is enough.
        sleeps_until_ms.store(i64::MIN, Ordering::Release);
        if let Some(shared) = bells.get().and_then(std::sync::Weak::upgrade) {
            shared.due.ring();
        }
    }
}

//! The thread of what is due: out of the wheel, with its body, to whoever delivers; and what became of it, into the log.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use journal::{Completion, Waiter};
use tracing::{error, warn};

use super::rows::Reader;
use super::{Deliver, Job, Outcome, Shared};
use crate::book::{Book, Due, Note, QueueId};
use crate::limits::{BODY_COPIED_MAX, IN_FLIGHT_BYTES_MAX, LIST_MAX, TAKE_BYTES, TAKE_MAX, TICK};
use crate::log::{Reason, Went};

/// Sleeps no longer, whatever is due.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// A log that does not answer at the end is not waited for longer.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What the log does not take is tried again after this.
const OWED_AFTER: Duration = Duration::from_millis(100);
/// A job that cannot be read or noted waits so long.
const AGAIN_AFTER_MS: i64 = 1_000;

pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    deliver: Deliver,
    reader: Reader,
    waiter: Waiter,
    ticket: u64,
    /// Appended and not durable.
    appending: HashMap<u64, Appending>,
    /// Bytes of jobs at Kafka, by number.
    at_kafka: HashMap<u64, u32>,
    taken_at: Instant,
    owed_at: Option<Instant>,
    /// What a body has on average, of those that were taken lately.
    body_bytes: usize,
}

enum Appending {
    /// Delivered when this is durable.
    Taken(Vec<Job>),
    /// Kafka has them.
    Fired(Vec<Note>),
    /// Parked, said again when refused.
    Parked(Vec<(QueueId, u64)>),
}

impl Dispatcher {
    pub fn new(shared: Arc<Shared>, deliver: Deliver) -> Dispatcher {
        let waiter = {
            let shared = Arc::downgrade(&shared);
            Waiter::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.due.ring();
                }
            })
        };
        let reader = Reader::new(Arc::clone(&shared.disk));
        Dispatcher {
            shared,
            deliver,
            reader,
            waiter,
            ticket: 0,
            appending: HashMap::new(),
            at_kafka: HashMap::new(),
            taken_at: Instant::now(),
            owed_at: None,
            body_bytes: 256,
        }
    }

    pub fn run(mut self) {
        while !self.shared.is_closing() {
            let sleeps_until_ms = &self.shared.sleeps_until_ms;
            sleeps_until_ms.store(i64::MAX, Ordering::Release);
            let now_ms = self.shared.now_ms();
            self.settle(now_ms);
            self.completed(now_ms);
            let next_ms = self.take(now_ms);
            let sleep = match next_ms {
                Some(next_ms) => Duration::from_millis(next_ms.saturating_sub(now_ms).clamp(0, 1_000) as u64),
                None => SLEEP_MAX,
            };
            // Not more often than this, so that what is due comes in batches.
            let sleep = sleep.max(TICK.saturating_sub(self.taken_at.elapsed())).min(SLEEP_MAX);
            let sleep = if self.owed_at.is_some() { sleep.min(OWED_AFTER) } else { sleep };
            let until_ms = now_ms + sleep.as_millis() as i64;
            // Whoever added something meanwhile has rung.
            let (undecided, decided) = (Ordering::AcqRel, Ordering::Acquire);
            self.shared.sleeps_until_ms.compare_exchange(i64::MAX, until_ms, undecided, decided).ok();
            self.shared.due.wait(sleep);
        }
        // What is known of Kafka's answers is in the log before it closes.
        self.settle(self.shared.now_ms());
        let until = Instant::now() + LAST_WORDS;
        while self.appending.values().any(|what| !matches!(what, Appending::Taken(_))) && Instant::now() < until {
            self.shared.due.wait(SLEEP_MAX.min(until.saturating_duration_since(Instant::now())));
            self.completed(self.shared.now_ms());
        }
    }

    fn append(&mut self, notes: Vec<Note>, what: Appending) -> Result<(), (Appending, journal::Refused)> {
        self.ticket += 1;
        match self.shared.append(notes, self.ticket, &self.waiter) {
            Ok(()) => {
                self.appending.insert(self.ticket, what);
                Ok(())
            }
            Err(refused) => Err((what, refused)),
        }
    }

    // ---- out of the wheel

    /// Takes what is due; when the next is.
    fn take(&mut self, now_ms: i64) -> Option<i64> {
        let mut due: Vec<Due> = Vec::new();
        let mut here: Vec<Option<Bytes>> = Vec::new();
        let mut names = HashMap::new();
        let (next_ms, tables) = {
            let mut book = self.shared.book();
            let next_ms = book.advance(now_ms);
            let room = IN_FLIGHT_BYTES_MAX.saturating_sub(self.shared.in_flight_bytes.load(Ordering::Relaxed));
            let is_held = self.shared.is_held.load(Ordering::Acquire);
            if room > 0 && !is_held && self.taken_at.elapsed() >= TICK {
                let count = (TAKE_BYTES / self.body_bytes.max(1)).clamp(1, TAKE_MAX);
                book.take(now_ms, count, &mut due);
            }
            here.extend(due.iter().map(|due| book.body(due.entry.key.seq).map(Bytes::copy_from_slice)));
            for due in &due {
                let queue = QueueId(due.entry.queue);
                names.entry(queue).or_insert_with(|| {
                    Arc::clone(&book.queue(queue).expect("what is due is of a queue that is known").name)
                });
            }
            let tables = Arc::clone(&self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner));
            let (known, _) = book.due_and_in_flight();
            (if known > 0 { Some(now_ms + TICK.as_millis() as i64) } else { next_ms }, tables)
        };
        if due.is_empty() {
            return next_ms;
        }
        self.taken_at = Instant::now();
        let mut jobs = Vec::with_capacity(due.len());
        let mut unread: HashMap<QueueId, Vec<u64>> = HashMap::new();
        for (due, here) in due.iter().zip(here) {
            let (queue, key) = (QueueId(due.entry.queue), due.entry.key);
            let body = match here {
                Some(body) => Ok(Some(body)),
                None => self.reader.body(&tables, key).map(|body| body.map(detached)),
            };
            match body {
                Ok(Some(body)) => {
                    let name = Arc::clone(&names[&queue]);
                    let Due { attempts, doubt_since_ms, .. } = *due;
                    jobs.push(Job { queue, name, key, attempts, doubt_since_ms, body });
                }
                Ok(None) => {
                    let id = key.seq;
                    error!(
                        job = id,
                        due_ms = key.due_ms,
                        "a job is due whose message is rotten on the disk, or gone: it is parked"
                    );
                    let sentence = "the message is rotten on the gateway's disk".into();
                    self.park(queue, key, &Reason { code: "rotten".into(), sentence }, now_ms);
                }
                Err(err) => {
                    warn!(%err, "a job that is due cannot be read now; tried again");
                    unread.entry(queue).or_default().push(key.seq);
                }
            }
        }
        self.report_rotten();
        self.reader.forget(&tables);
        for (queue, seqs) in unread {
            self.shared.book().give_back(queue, &seqs, now_ms + AGAIN_AFTER_MS, now_ms);
        }
        self.note_bytes(&jobs);
        let taken: Vec<Due> = {
            let is_read: std::collections::HashSet<u64> = jobs.iter().map(|job| job.key.seq).collect();
            due.into_iter().filter(|due| is_read.contains(&due.entry.key.seq)).collect()
        };
        if !taken.is_empty() {
            let notes = Book::taken(&taken, now_ms);
            if let Err((Appending::Taken(jobs), refused)) = self.append(notes, Appending::Taken(jobs)) {
                warn!(%refused, jobs = jobs.len(), "jobs that are due cannot be noted; tried again");
                self.give_back(&jobs, now_ms);
            }
        }
        next_ms
    }

    fn note_bytes(&mut self, jobs: &[Job]) {
        let mut bytes = 0;
        for job in jobs {
            self.at_kafka.insert(job.key.seq, job.body.len() as u32);
            bytes += job.body.len();
        }
        self.shared.in_flight_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(average) = bytes.checked_div(jobs.len()) {
            self.body_bytes = (self.body_bytes * 3 + average) / 4;
        }
    }

    fn landed(&mut self, seqs: &[u64]) {
        let bytes: u64 = seqs.iter().filter_map(|seq| self.at_kafka.remove(seq)).map(u64::from).sum();
        self.shared.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn give_back(&mut self, jobs: &[Job], now_ms: i64) {
        let mut by_queue: HashMap<QueueId, Vec<u64>> = HashMap::new();
        jobs.iter().for_each(|job| by_queue.entry(job.queue).or_default().push(job.key.seq));
        for (queue, seqs) in by_queue {
            self.landed(&seqs);
            self.shared.book().give_back(queue, &seqs, now_ms + AGAIN_AFTER_MS, now_ms);
        }
    }

    fn report_rotten(&mut self) {
        for rotten in self.reader.take_rotten() {
            self.shared.lost.fetch_add(rotten.rows, Ordering::Relaxed);
            error!(%rotten, "jobs are rotten on the disk; look at the disk");
        }
    }

    // ---- into the log

    /// Writes down what became of jobs.
    fn settle(&mut self, now_ms: i64) {
        let outcomes = std::mem::take(&mut *self.shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        let mut fired: HashMap<(QueueId, i32), (Vec<u64>, i64)> = HashMap::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Fired { queue, seqs, partition, offset } => {
                    self.landed(&seqs);
                    self.shared.fired.fetch_add(seqs.len() as u64, Ordering::Relaxed);
                    let (all, first) = fired.entry((queue, partition)).or_insert((Vec::new(), offset));
                    // Of one run; nobody knows it of several that are noted together.
                    *first = if all.is_empty() { offset } else { -1 };
                    all.extend(seqs);
                }
                Outcome::GivenBack { queue, seqs, pause } => {
                    self.landed(&seqs);
                    let hold_until_ms = now_ms + pause.as_millis() as i64;
                    self.shared.book().give_back(queue, &seqs, hold_until_ms, now_ms);
                }
                Outcome::Parked { queue, key, reason } => {
                    self.landed(&[key.seq]);
                    self.park(queue, key, &reason, now_ms);
                }
            }
        }
        let mut notes = Vec::new();
        if self.owed_at.is_some_and(|at| at.elapsed() >= OWED_AFTER) {
            self.owed_at = None;
            notes.append(&mut self.shared.book().owed());
        }
        for ((queue, partition), (seqs, offset)) in fired {
            for seqs in seqs.chunks(LIST_MAX) {
                let went = Went { at_ms: now_ms, partition, offset, seqs: seqs.to_vec() };
                notes.push(self.shared.book().fired(queue, went));
            }
        }
        if !notes.is_empty()
            && let Err((Appending::Fired(notes), refused)) = self.append(notes.clone(), Appending::Fired(notes))
        {
            self.owe(&notes, refused);
        }
    }

    fn park(&mut self, queue: QueueId, key: crate::Key, reason: &Reason, now_ms: i64) {
        let note = self.shared.book().park(key, queue, reason, now_ms);
        let parked = vec![(queue, key.seq)];
        let refused = match note {
            Some(note) => {
                self.append(vec![note], Appending::Parked(parked)).err().map(|(_, refused)| refused.to_string())
            }
            None => Some("too many are parked".to_owned()),
        };
        if let Some(refused) = refused {
            warn!(job = key.seq, code = %reason.code, refused, "a job cannot be parked; it is tried again");
            self.shared.book().give_back(queue, &[key.seq], now_ms + AGAIN_AFTER_MS, now_ms);
        }
    }

    fn owe(&mut self, notes: &[Note], refused: journal::Refused) {
        warn!(%refused, "the log does not take which jobs were fired; said again, and until then a crash would fire them twice");
        let mut book = self.shared.book();
        notes.iter().for_each(|note| book.owe(note));
        self.owed_at = Some(Instant::now());
    }

    fn completed(&mut self, now_ms: i64) {
        let mut completions: Vec<Completion> = Vec::new();
        self.waiter.take(&mut completions);
        for Completion { ticket, result } in completions {
            match (self.appending.remove(&ticket), result) {
                (Some(Appending::Taken(jobs)), Ok(_)) if self.shared.is_held.load(Ordering::Acquire) => {
                    self.give_back(&jobs, now_ms);
                }
                (Some(Appending::Taken(jobs)), Ok(_)) => (self.deliver)(jobs),
                (Some(Appending::Taken(jobs)), Err(refused)) => {
                    warn!(%refused, jobs = jobs.len(), "jobs that are due cannot be noted; tried again");
                    self.give_back(&jobs, now_ms);
                }
                (Some(Appending::Fired(notes)), Err(refused)) => self.owe(&notes, refused),
                (Some(Appending::Parked(parked)), Err(refused)) => {
                    warn!(%refused, jobs = parked.len(), "jobs cannot be parked; they are tried again");
                    for (queue, seq) in parked {
                        self.shared.book().give_back(queue, &[seq], now_ms + AGAIN_AFTER_MS, now_ms);
                    }
                }
                (Some(Appending::Fired(_) | Appending::Parked(_)), Ok(_)) | (None, _) => {}
            }
        }
    }
}

/// A small body out of a block that it would keep.
fn detached(body: Bytes) -> Bytes {
    if body.len() <= BODY_COPIED_MAX { Bytes::copy_from_slice(&body) } else { body }
}

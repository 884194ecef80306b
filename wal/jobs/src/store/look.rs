//! The thread that looks into tables: the horizon, sweeps, and what somebody asks.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tracing::{error, warn};

use super::rows::{Reader, Rows};
use super::{Shared, Tables};
use crate::book::{Seen, Stage, Sweep};
use crate::key::Key;
use crate::limits::{LIST_LOOKED_MAX, LOOK_EVERY, QUESTIONS_MAX, SCAN_AGAIN_AFTER};
use crate::table::ReadError;
use crate::wheel::Entry;

/// What is asked about jobs, and who hears.
pub struct Asked {
    pub question: Question,
    pub ticket: u64,
    pub waiter: LookWaiter,
}

/// A question that may need the disk.
#[derive(Clone, Debug)]
pub enum Question {
    /// What a job is; with its body?
    Job { seq: u64, with_body: bool },
    /// Jobs of a queue that wait and are due within a range, in order.
    List { queue: u32, from: Key, to: Key, count_max: usize },
}

/// What there is to say.
#[derive(Clone, Debug)]
pub enum Answer {
    Job(Looked),
    List(Listed),
    /// The disk did not answer; again later.
    Failed(String),
}

/// A job.
#[derive(Clone, Debug)]
pub struct Looked {
    pub seen: Seen,
    pub attempts: u32,
    pub body: Option<Bytes>,
}

/// Jobs of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub jobs: Vec<(Entry, Stage)>,
    /// Where to go on; none: that was all. There may be more although no job is here: a look takes only so long.
    pub next: Option<Key>,
}

/// One per consumer; clones are the same one.
#[derive(Clone)]
pub struct LookWaiter {
    inner: Arc<Inner>,
}

struct Inner {
    answers: Mutex<Vec<(u64, Answer)>>,
    doorbell: Box<dyn Fn() + Send + Sync>,
}

impl LookWaiter {
    /// `doorbell` is rung on the looking thread, once an answer.
    pub fn new(doorbell: impl Fn() + Send + Sync + 'static) -> LookWaiter {
        LookWaiter { inner: Arc::new(Inner { answers: Mutex::default(), doorbell: Box::new(doorbell) }) }
    }

    pub fn take(&self, into: &mut Vec<(u64, Answer)>) {
        into.append(&mut self.inner.answers.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, ticket: u64, answer: Answer) {
        self.inner.answers.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, answer));
        (self.inner.doorbell)();
    }
}

/// What was asked and not answered.
#[derive(Default)]
pub(super) struct Questions {
    asked: VecDeque<Asked>,
}

impl Questions {
    /// False: too many wait.
    pub fn push(&mut self, asked: Asked) -> bool {
        let has_room = self.asked.len() < QUESTIONS_MAX;
        if has_room {
            self.asked.push_back(asked);
        }
        has_room
    }

    pub fn pop(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }
}

pub(super) struct Looker {
    shared: Arc<Shared>,
    reader: Reader,
    sweep: Option<Sweep>,
}

impl Looker {
    pub fn new(shared: Arc<Shared>) -> Looker {
        let reader = Reader::new(Arc::clone(&shared.disk));
        Looker { shared, reader, sweep: None }
    }

    pub fn run(mut self) {
        while !self.shared.is_closing() {
            let asked = self.shared.questions.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let answered = asked.map(|asked| self.answer(asked)).is_some();
            let pause = match self.scan().and_then(|scanned| Ok(self.sweep()? || scanned)) {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK_EVERY,
                Err(err) => {
                    warn!(%err, "tables of jobs cannot be read now; tried again");
                    SCAN_AGAIN_AFTER
                }
            };
            for rotten in self.reader.take_rotten() {
                error!(%rotten, "jobs are rotten on the disk; look at the disk");
            }
            if !answered && !pause.is_zero() {
                self.shared.look.wait(pause);
            }
        }
        // Nobody waits for ever.
        while let Some(asked) = self.shared.questions.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            asked.waiter.tell(asked.ticket, Answer::Failed("the job store closes".to_owned()));
        }
    }

    /// One step of the horizon. True: there is more to do.
    fn scan(&mut self) -> Result<bool, ReadError> {
        let (scan, tables, epoch) = {
            let book = self.shared.book();
            let tables = Arc::clone(&self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner));
            (book.scan(), tables, book.epoch())
        };
        let Some(scan) = scan else { return Ok(false) };
        let Rows { found, reached } = self.reader.rows(&tables, scan.from, scan.to, scan.rows_max)?;
        let mut book = self.shared.book();
        book.scanned(epoch, &found, reached);
        let is_behind =
            book.scan().is_some_and(|next| next.from.due_ms < next.to.due_ms - LOOK_EVERY.as_millis() as i64);
        drop(book);
        if !found.is_empty() {
            self.shared.due.ring();
        }
        self.reader.forget(&tables);
        Ok(is_behind)
    }

    /// One step of a sweep. True: there is more to do.
    fn sweep(&mut self) -> Result<bool, ReadError> {
        if self.sweep.is_none() {
            self.sweep = self.shared.book().sweep();
        }
        let Some(sweep) = &mut self.sweep else { return Ok(false) };
        let (tables, epoch) = self.shared.tables();
        let Rows { found, reached } = self.reader.rows(&tables, sweep.from, sweep.to, sweep.rows_max)?;
        let goes_on = self.shared.book().swept(sweep, epoch, &found, reached);
        self.shared.due.ring();
        if !goes_on {
            self.sweep = None;
        }
        Ok(goes_on)
    }

    fn answer(&mut self, asked: Asked) {
        let Asked { question, ticket, waiter } = asked;
        let (tables, _) = self.shared.tables();
        let answer = match question {
            Question::Job { seq, with_body } => self.job(&tables, seq, with_body).map(Answer::Job),
            Question::List { queue, from, to, count_max } => {
                self.list(&tables, queue, from, to, count_max).map(Answer::List)
            }
        };
        waiter.tell(ticket, answer.unwrap_or_else(|err| Answer::Failed(err.to_string())));
    }

    fn job(&mut self, tables: &Tables, seq: u64, with_body: bool) -> Result<Looked, ReadError> {
        let (mut seen, attempts) = {
            let book = self.shared.book();
            (book.see(seq), book.attempts(seq))
        };
        if let Seen::Pending(None) = seen {
            let found = self.reader.find(tables, seq, |due_ms| self.shared.book().is_alive(seq, due_ms))?;
            // It may have come to an end meanwhile.
            let book = self.shared.book();
            seen = match (book.see(seq), found) {
                (Seen::Pending(None), Some(entry)) => Seen::Pending(Some((entry, book.stage_of(seq, entry.queue)))),
                (seen, _) => seen,
            };
        }
        let mut body = None;
        if let (true, Seen::Pending(Some((entry, _)))) = (with_body, &seen) {
            body = self.shared.book().body(seq).map(Bytes::copy_from_slice);
            if body.is_none() {
                body = self.reader.body(tables, entry.key)?;
            }
        }
        Ok(Looked { seen, attempts, body })
    }

    fn list(&mut self, tables: &Tables, queue: u32, from: Key, to: Key, count_max: usize) -> Result<Listed, ReadError> {
        let here: Vec<Entry> = {
            let book = self.shared.book();
            let mut here = Vec::new();
            book.each_in_memory(&mut |entry| {
                if entry.queue == queue && entry.key >= from && entry.key < to {
                    here.push(entry);
                }
            });
            here.sort_unstable();
            here
        };
        let mut here = here.into_iter().peekable();
        let (mut at, mut looked, mut jobs) = (from, 0, Vec::new());
        let step = LIST_LOOKED_MAX / 8;
        while at < to && looked < LIST_LOOKED_MAX {
            let Rows { found, reached } = self.reader.rows(tables, at, to, step)?;
            looked += found.len().max(1);
            let mut all: Vec<Entry> = found.into_iter().filter(|entry| entry.queue == queue).collect();
            all.extend(std::iter::from_fn(|| here.next_if(|entry| entry.key < reached)));
            all.sort_unstable();
            all.dedup();
            let book = self.shared.book();
            let full = all.iter().try_for_each(|entry| {
                if let Some(stage) = book.listed(entry) {
                    jobs.push((*entry, stage));
                }
                if jobs.len() >= count_max { ControlFlow::Break(entry.key.after()) } else { ControlFlow::Continue(()) }
            });
            drop(book);
            if let ControlFlow::Break(next) = full {
                return Ok(Listed { jobs, next: (next < to).then_some(next) });
            }
            at = reached;
        }
        Ok(Listed { jobs, next: (at < to).then_some(at) })
    }
}

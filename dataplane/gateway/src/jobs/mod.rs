//! Delayed jobs: messages that are kept on this gateway's disk until they are due, and then published.
//!
//! ```text
//!   POST /v1/jobs ──▶ Desk.store ──durable──▶ 201 and an id        (crate jobs: log, tables, what is due)
//!                        │ due
//!                        ▼
//!   shard of its queue: may it still? ──▶ Kafka client ──▶ fired, given back, or parked
//! ```
//!
//! | File | Story |
//! |---|---|
//! | [`desk`] | the store of this process, and how shards hear from it |
//! | [`when`] | when a job may be due |
//! | [`group`] | jobs of a batch, added together |
//! | [`fire`] | gives what is due to Kafka |
//! | [`doubts`] | looks for what a dead process may have given to it |
//! | [`ask`] | what an operator asks of one job |
//! | this | one shard's part: who waits for the store's answer |
//!
//! A queue is an app's topic version; one shard gives its jobs to Kafka, so that those of a key keep their order.

pub mod ask;
pub mod desk;
pub mod doubts;
pub mod fire;
pub mod group;
pub mod when;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use ::jobs::book::{QueueId, Refused, Seen, Stage};
use ::jobs::log::{AddKey, Name};
use ::jobs::store::{AddError, Answer, Asked, Changed, Listed, Looked, NewJob, Question, Store};
use ::jobs::wheel::Entry;
use ::jobs::{JobId, Key};
use bytes::Bytes;
use journal::Waiter;
use kafka_client::Outcome;
use runtime::notify::Notify;
use serde_json::{Value, json};
use slab::Slab;

use self::desk::{Desk, Door};
use self::fire::Firing;
use self::group::{Group, Settled};
use crate::access::Access;
use crate::codes;
use crate::due::shown_time;
use crate::env::Env;
use crate::env::metrics::ShardMetrics;
use crate::exchange::Exchange;
use crate::exchange::reply::{Header, Reply};
use crate::kafka::Clusters;
use crate::kafka::cluster::Cluster;
use crate::limits::JOBS_WAITING_MAX;
use crate::refusal::Refusal;

/// What firing stands on.
#[derive(Clone, Copy)]
pub struct Ground<'s> {
    pub env: &'s Env,
    pub access: &'s Access,
    pub clusters: &'s Clusters,
}

/// One shard's part. One per shard.
pub struct Jobs {
    desk: Option<(Arc<Desk>, Door)>,
    /// Requests that wait for the store, by ticket.
    waiting: RefCell<Slab<Waiting>>,
    firing: Firing,
    /// Rung when the store has something to say.
    pub wake: Notify,
}

/// What is to be done with a job once it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Show,
    Delete,
    /// Another time, epoch ms.
    Move(i64),
    /// Now; with another word for the answer.
    Fire,
    /// A parked one again.
    Replay,
}

/// A job somebody names.
#[derive(Debug, Clone)]
pub struct Named {
    pub id: JobId,
    pub name: Name,
    pub act: Act,
}

/// When an add is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk.
    Durable,
    /// At once: a kill before the next commit loses it.
    Async,
}

/// A job to be added.
pub struct New {
    pub name: Name,
    pub due_ms: i64,
    pub key: Option<AddKey>,
    /// The message ([`kafka_wire::job_entry`]).
    pub own: Vec<u8>,
    pub durability: Durability,
}

/// Which jobs that wait are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub from: Key,
    pub to: Key,
    pub count_max: usize,
}

/// A request that waits for the store.
enum Waiting {
    /// Its client was told already.
    Told {
        seq: u64,
        key: Option<AddKey>,
    },
    Added {
        exchange: Exchange,
        seq: u64,
        new: New,
    },
    /// Part of a batch; its jobs' numbers follow each other.
    Grouped {
        name: Name,
        first_seq: u64,
        group: Group,
    },
    Looked {
        exchange: Exchange,
        named: Named,
    },
    Changed {
        exchange: Exchange,
        named: Named,
        entry: Entry,
    },
    Listed {
        exchange: Exchange,
        name: Name,
    },
    Paused {
        exchange: Exchange,
        is_paused: bool,
    },
}

impl Jobs {
    pub fn new(desk: Option<Arc<Desk>>, shard: usize) -> Jobs {
        let desk = desk.map(|desk| {
            let door = desk.door(shard);
            (desk, door)
        });
        Jobs { desk, waiting: RefCell::default(), firing: Firing::default(), wake: Notify::new() }
    }

    /// The store, if this gateway keeps jobs.
    pub fn store(&self) -> Option<&Store> {
        self.desk.as_ref().map(|(desk, _)| desk.store())
    }

    fn open(&self) -> Result<(&Store, &Door), Refusal> {
        self.desk.as_ref().map(|(desk, door)| (desk.store(), door)).ok_or_else(off)
    }

    /// Whether new jobs are taken.
    pub fn takes(&self) -> Result<(), Refusal> {
        self.desk.as_ref().is_some_and(|(desk, _)| desk.takes()).then_some(()).ok_or_else(off)
    }

    /// Requests that wait, and jobs at Kafka or about to be.
    pub fn count(&self) -> usize {
        let is_due = self.desk.as_ref().is_some_and(|(desk, door)| desk.has_due(door));
        self.waiting.borrow().len() + self.firing.count() + usize::from(is_due)
    }

    /// This gateway ends: what is due from now on is for the next start.
    pub fn drain(&self) {
        if let Some((desk, _)) = &self.desk {
            desk.hold();
        }
    }

    fn has_room(&self) -> Result<(), Refusal> {
        match self.waiting.borrow().len() < JOBS_WAITING_MAX {
            true => Ok(()),
            false => Err(Refusal::overloaded("too many requests wait for the store of delayed jobs")),
        }
    }

    // ---- adding

    /// Keeps a message until it is due; answered when it is durable.
    pub fn add(&self, exchange: Exchange, new: New, env: &Env, now: Instant) {
        match self.start_add(&new) {
            // The ticket it was appended with is the next place's.
            // Before the first record the store has no id, so nothing has a name.
            Ok(Start::Waits { seq }) if new.durability == Durability::Async && self.names() => {
                let reply = self.added(seq, &new.name, new.due_ms, "async");
                self.waiting.borrow_mut().insert(Waiting::Told { seq, key: new.key });
                answer(exchange, reply, env, now);
            }
            Ok(Start::Waits { seq }) => {
                self.waiting.borrow_mut().insert(Waiting::Added { exchange, seq, new });
            }
            Ok(Start::Known { seq, due_ms }) => answer(exchange, self.added(seq, &new.name, due_ms, "local"), env, now),
            Err(refusal) => exchange.refuse(env, &refusal, now),
        }
    }

    fn start_add(&self, new: &New) -> Result<Start, Refusal> {
        let New { name, due_ms, key, own, .. } = new;
        let (store, door) = self.open()?;
        self.takes()?;
        self.has_room()?;
        if let Some(key) = key
            && let Some(known) = store.find_key(key).map_err(|refused| refuse(&refused.into()))?
        {
            return Ok(Start::Known { seq: known.seq, due_ms: known.due_ms });
        }
        let ticket = self.waiting.borrow().vacant_key();
        let job = NewJob { due_ms: *due_ms, key: *key, own };
        let seq = store.add(name, &[job], ticket as u64, &door.waiter).map_err(|error| refuse(&error))?;
        Ok(Start::Waits { seq })
    }

    /// Whether the store can name jobs.
    fn names(&self) -> bool {
        self.store().is_some_and(|store| store.issuer().is_some())
    }

    fn added(&self, seq: u64, name: &Name, due_ms: i64, durability: &str) -> Reply {
        let id = self.id_of(seq, name);
        // In this order, as it is documented.
        let body = format!(r#"{{"ok":1,"id":"{id}","due":"{}","durability":"{durability}"}}"#, shown_time(due_ms));
        Reply::json(201, body).with(Header::bytes("X-Job-Id".to_owned(), id.into_bytes()))
    }

    fn id_of(&self, seq: u64, name: &Name) -> String {
        self.ids_of(name)(seq).to_string()
    }

    /// Names jobs of a queue by their numbers.
    fn ids_of(&self, name: &Name) -> impl Fn(u64) -> JobId {
        let (desk, _) = self.desk.as_ref().expect("it has jobs");
        let queue = desk.store().find(name).expect("a queue with jobs is known");
        move |seq| desk.id_of(queue, seq)
    }

    // ---- one job

    /// Whether this gateway's store gave that id out, for that queue. Nothing else has it if another gateway's number is not the
    /// same.
    pub fn has(&self, named: &Named) -> bool {
        self.store().is_some_and(|store| {
            let queue = store.find(&named.name);
            queue.zip(store.issuer()).is_some_and(|(queue, issuer)| issuer.is_genuine(queue.0, named.id))
        })
    }

    /// Whether ids with this number may be of this gateway.
    pub fn is_here(&self, id: JobId) -> bool {
        self.desk.as_ref().is_some_and(|(desk, _)| desk.node_number() == id.node())
    }

    /// Does something with a job that is here.
    pub fn act(&self, exchange: Exchange, named: Named, env: &Env, now: Instant) {
        let seq = named.id.seq();
        let (store, door) = match self.open().and_then(|open| self.has_room().map(|()| open)) {
            Ok(open) => open,
            Err(refusal) => return exchange.refuse(env, &refusal, now),
        };
        let needs_body = matches!(named.act, Act::Move(_) | Act::Fire);
        let seen = store.see(seq);
        if !needs_body && !matches!(seen, Seen::Pending(None)) {
            return self.go_on(exchange, named, &Looked { seen, attempts: store.attempts(seq), body: None }, env, now);
        }
        let ticket = self.waiting.borrow_mut().insert(Waiting::Looked { exchange, named }) as u64;
        let question = Question::Job { seq, with_body: needs_body };
        if !store.look(Asked { question, ticket, waiter: door.looks.clone() }) {
            let waiting = self.waiting.borrow_mut().remove(ticket as usize);
            waiting.refuse(env, &Refusal::overloaded("too many questions about delayed jobs wait"), now);
        }
    }

    /// The job is known.
    fn go_on(&self, exchange: Exchange, named: Named, looked: &Looked, env: &Env, now: Instant) {
        let Ok((store, door)) = self.open() else { return };
        let (entry, stage) = match &looked.seen {
            Seen::Pending(Some((entry, stage))) if self.is_of(entry, &named.name) => (*entry, stage.clone()),
            Seen::Pending(_) | Seen::Unknown => return refuse_unknown(exchange, &named, env, now),
            ended => {
                let state = if *ended == Seen::Fired { "fired" } else { "deleted" };
                return match named.act {
                    Act::Show => answer(
                        exchange,
                        Reply::json(200, json!({ "id": named.id.to_string(), "state": state }).to_string()),
                        env,
                        now,
                    ),
                    _ => exchange.refuse(env, &too_late(state), now),
                };
            }
        };
        if named.act == Act::Show {
            let shown = shown(&named.id.to_string(), &entry, &stage, looked.attempts);
            return answer(exchange, Reply::json(200, shown.to_string()), env, now);
        }
        let ticket = self.waiting.borrow().vacant_key() as u64;
        let is_parked = matches!(stage, Stage::Parked { .. });
        let begun = begin(store, named.act, entry, is_parked, looked.body.as_ref(), ticket, &door.waiter);
        let Some(done) = begun else {
            let sentence = "the message of this job cannot be read from the disk of this gateway";
            return exchange.refuse(env, &Refusal::new(codes::JOBS_BROKEN, sentence), now);
        };
        match done {
            Ok(Changed::Appended) => {
                self.waiting.borrow_mut().insert(Waiting::Changed { exchange, named, entry });
            }
            Ok(Changed::TooLate) => exchange.refuse(env, &too_late("about to fire, or being changed"), now),
            Ok(Changed::Unknown) => refuse_unknown(exchange, &named, env, now),
            Err(error) => exchange.refuse(env, &refuse(&error), now),
        }
    }

    fn is_of(&self, entry: &Entry, name: &Name) -> bool {
        self.store().is_some_and(|store| store.find(name) == Some(QueueId(entry.queue)))
    }

    // ---- queues

    /// Jobs of a queue that wait, due within a range.
    pub fn list(&self, exchange: Exchange, name: Name, page: Page, env: &Env, now: Instant) {
        let Page { from, to, count_max } = page;
        let open = self.open().and_then(|open| self.has_room().map(|()| open));
        let (store, door) = match open {
            Ok(open) => open,
            Err(refusal) => return exchange.refuse(env, &refusal, now),
        };
        let Some(queue) = store.find(&name) else {
            return answer(
                exchange,
                Reply::json(200, json!({ "jobs": [], "cursor": Value::Null }).to_string()),
                env,
                now,
            );
        };
        let ticket = self.waiting.borrow_mut().insert(Waiting::Listed { exchange, name }) as u64;
        let question = Question::List { queue: queue.0, from, to, count_max };
        if !store.look(Asked { question, ticket, waiter: door.looks.clone() }) {
            let waiting = self.waiting.borrow_mut().remove(ticket as usize);
            waiting.refuse(env, &Refusal::overloaded("too many questions about delayed jobs wait"), now);
        }
    }

    /// Has a queue stand still, or go on.
    pub fn pause(&self, exchange: Exchange, name: &Name, is_paused: bool, env: &Env, now: Instant) {
        let done = self.open().and_then(|(store, door)| {
            self.has_room()?;
            let ticket = self.waiting.borrow().vacant_key() as u64;
            store.pause(name, is_paused, ticket, &door.waiter).map_err(|error| refuse(&error))
        });
        match done {
            Ok(true) => {
                self.waiting.borrow_mut().insert(Waiting::Paused { exchange, is_paused });
            }
            Ok(false) => answer(exchange, paused(false), env, now),
            Err(refusal) => exchange.refuse(env, &refusal, now),
        }
    }

    // ---- what the store says

    /// One look at everything the store has for this shard; what it says of batches is for whoever has those.
    pub fn turn(&self, ground: Ground<'_>, now: Instant) -> Vec<Settled> {
        let mut settled = Vec::new();
        let Some((desk, door)) = &self.desk else { return settled };
        let mut completions = Vec::new();
        door.waiter.take(&mut completions);
        for completion in completions {
            let Some(waiting) = self.waiting.borrow_mut().try_remove(completion.ticket as usize) else { continue };
            settled.extend(match completion.result {
                Ok(_) => self.durable(waiting, ground.env, now),
                Err(refused) => self.not_durable(waiting, refused, ground.env, now),
            });
        }
        let mut answers = Vec::new();
        door.looks.take(&mut answers);
        for (ticket, answer) in answers {
            let Some(waiting) = self.waiting.borrow_mut().try_remove(ticket as usize) else { continue };
            self.answered(waiting, answer, ground.env, now);
        }
        self.firing.fire(ground, desk, desk.take(door), now);
        settled
    }

    fn durable(&self, waiting: Waiting, env: &Env, now: Instant) -> Option<Settled> {
        match waiting {
            Waiting::Grouped { name, first_seq, group } => {
                let ids = (first_seq..).take(group.jobs.len()).map(self.ids_of(&name)).collect();
                return Some(Settled { group, result: Ok(ids) });
            }
            Waiting::Added { exchange, seq, new } => {
                let reply = self.added(seq, &new.name, new.due_ms, "local");
                answer(exchange, reply, env, now);
            }
            Waiting::Told { .. } => {}
            Waiting::Changed { exchange, named, .. } => {
                let due = |due_ms| json!({ "ok": 1, "id": named.id.to_string(), "due": shown_time(due_ms) });
                let body = match named.act {
                    Act::Move(due_ms) => due(due_ms),
                    _ => json!({ "ok": 1, "id": named.id.to_string() }),
                };
                answer(exchange, Reply::json(200, body.to_string()), env, now);
            }
            Waiting::Paused { exchange, is_paused } => answer(exchange, paused(is_paused), env, now),
            Waiting::Looked { .. } | Waiting::Listed { .. } => unreachable!("these wait for an answer"),
        }
        None
    }

    fn not_durable(&self, waiting: Waiting, refused: journal::Refused, env: &Env, now: Instant) -> Option<Settled> {
        let store = self.store().expect("it refused something");
        let refusal = refuse(&AddError::Log(refused));
        match waiting {
            // Its jobs have no keys that would have to be free again.
            Waiting::Grouped { group, .. } => return Some(Settled { group, result: Err(refusal) }),
            Waiting::Told { seq, key } => {
                store.add_failed(seq, key.as_ref());
                lost(seq, &refusal);
                return None;
            }
            Waiting::Added { seq, ref new, .. } => store.add_failed(seq, new.key.as_ref()),
            Waiting::Changed { entry, .. } => store.change_failed(entry),
            Waiting::Paused { .. } | Waiting::Looked { .. } | Waiting::Listed { .. } => {}
        }
        waiting.refuse(env, &refusal, now);
        None
    }

    fn answered(&self, waiting: Waiting, said: Answer, env: &Env, now: Instant) {
        match (waiting, said) {
            (Waiting::Looked { exchange, named }, Answer::Job(looked)) => {
                self.go_on(exchange, named, &looked, env, now)
            }
            (Waiting::Listed { exchange, name }, Answer::List(listed)) => {
                let body = self.listed(&name, &listed);
                answer(exchange, Reply::json(200, body.to_string()), env, now);
            }
            (waiting, Answer::Failed(why)) => {
                let sentence = format!("the disk of this gateway does not answer: {why}");
                waiting.refuse(env, &Refusal::new(codes::JOBS_BROKEN, sentence), now);
            }
            _ => unreachable!("an answer is of its question's kind"),
        }
    }

    fn listed(&self, name: &Name, listed: &Listed) -> Value {
        let jobs: Vec<Value> = listed
            .jobs
            .iter()
            .map(|(entry, stage)| {
                let attempts = self.store().map_or(0, |store| store.attempts(entry.key.seq));
                shown(&self.id_of(entry.key.seq, name), entry, stage, attempts)
            })
            .collect();
        let cursor = listed.next.map(|next| format!("{}-{}", next.due_ms, next.seq));
        json!({ "jobs": jobs, "cursor": cursor })
    }

    /// State of the store, by one shard of the process.
    pub fn measure(&self, metrics: &ShardMetrics) {
        let Some(store) = self.store() else { return };
        let counts = store.counts();
        for (what, value) in [
            ("pending", counts.pending),
            ("in_memory", counts.in_memory),
            ("due", counts.due),
            ("in_flight", counts.in_flight),
            ("parked", counts.parked),
            ("lost", counts.lost),
            ("rotten", counts.rotten),
            ("scrubbed_bytes", counts.scrubbed_bytes),
            ("tables", counts.tables),
            ("table_bytes", counts.table_bytes),
            ("log_segments", store.journal().segments().len() as u64),
            ("log_read_only", u64::from(store.journal().is_read_only())),
        ] {
            metrics.jobs(what, value);
        }
    }

    /// Whether an outcome of a Kafka client is of a job.
    pub fn is_its(tag: u64) -> bool {
        Firing::is_its(tag)
    }

    /// A cluster was asked for jobs that it may have.
    pub fn searched(&self, ground: Ground<'_>, cluster: &Cluster, now: Instant) {
        if let Some((desk, _)) = &self.desk {
            self.firing.searched(ground, desk, cluster, now);
        }
    }

    /// Kafka's outcome for jobs.
    pub fn complete(&self, ground: Ground<'_>, outcome: &Outcome, now: Instant) {
        if let Some((desk, _)) = &self.desk {
            self.firing.complete(ground, desk, outcome, now);
        }
    }
}

/// Appends what is to be done with a job that waits. None: it takes the job's message, and there is none.
fn begin(
    store: &Store,
    act: Act,
    entry: Entry,
    is_parked: bool,
    own: Option<&Bytes>,
    ticket: u64,
    waiter: &Waiter,
) -> Option<Result<Changed, AddError>> {
    Some(match (act, own) {
        (Act::Delete, _) => store.delete(entry, ticket, waiter),
        (Act::Replay | Act::Fire, _) if is_parked => {
            let unparked = store.unpark(entry.key.seq, ticket, waiter);
            unparked.map(|is_done| if is_done { Changed::Appended } else { Changed::TooLate })
        }
        (Act::Replay, _) => Ok(Changed::TooLate),
        (Act::Move(due_ms), Some(own)) => store.reschedule(entry, due_ms, own, ticket, waiter),
        (Act::Fire, Some(own)) => store.reschedule(entry, store.now_ms(), own, ticket, waiter),
        (Act::Move(_) | Act::Fire | Act::Show, _) => return None,
    })
}

/// What became of an add at once.
enum Start {
    Waits {
        seq: u64,
    },
    /// It was done before, under the same key.
    Known {
        seq: u64,
        due_ms: i64,
    },
}

impl Waiting {
    fn refuse(self, env: &Env, refusal: &Refusal, now: Instant) {
        match self {
            Waiting::Added { exchange, .. }
            | Waiting::Looked { exchange, .. }
            | Waiting::Changed { exchange, .. }
            | Waiting::Listed { exchange, .. }
            | Waiting::Paused { exchange, .. } => exchange.refuse(env, refusal, now),
            Waiting::Grouped { .. } => unreachable!("its batch is told, record by record"),
            Waiting::Told { .. } => unreachable!("nobody waits for it"),
        }
    }
}

fn shown(id: &str, entry: &Entry, stage: &Stage, attempts: u32) -> Value {
    let (state, why) = match stage {
        Stage::Waiting => ("pending", None),
        Stage::Firing => ("firing", None),
        Stage::Parked { reason, at_ms } => ("parked", Some((reason, at_ms))),
    };
    let mut shown = json!({ "id": id, "state": state, "due": shown_time(entry.key.due_ms), "attempts": attempts });
    if let Some((reason, at_ms)) = why {
        shown["code"] = (*reason.code).into();
        shown["reason"] = (*reason.sentence).into();
        shown["parked_at"] = shown_time(*at_ms).into();
    }
    shown
}

fn answer(exchange: Exchange, reply: Reply, env: &Env, now: Instant) {
    // Its client may be gone.
    let _ = exchange.answer(env, reply, now);
}

fn paused(is_paused: bool) -> Reply {
    Reply::json(200, json!({ "ok": 1, "paused": is_paused }).to_string())
}

/// A job that its client was told of and that is not on the disk.
fn lost(seq: u64, refusal: &Refusal) {
    tracing::error!(
        job = seq,
        why = refusal.message,
        "a delayed job that was answered 201 with durability=async is lost"
    );
}

fn off() -> Refusal {
    Refusal::new(codes::JOBS_OFF, "nothing was stored: delayed jobs are off at this gateway")
}

fn too_late(state: &str) -> Refusal {
    Refusal::new(codes::JOB_TOO_LATE, format!("nothing was changed: this job is {state}"))
}

/// Deleting what is not there is 409, as in 2017; asking for it 404.
fn refuse_unknown(exchange: Exchange, named: &Named, env: &Env, now: Instant) {
    exchange.refuse(env, &unknown(named.act), now);
}

/// What a job that is nowhere comes to.
pub fn unknown(act: Act) -> Refusal {
    let code = if act == Act::Show { codes::NO_SUCH_JOB } else { codes::JOB_TOO_LATE };
    Refusal::new(code, "there is no such job of this topic, or it is no longer remembered")
}

/// Why the store does not do something, as an answer.
pub fn refuse(error: &AddError) -> Refusal {
    let nothing = format!("nothing was stored: {error}");
    match error {
        AddError::Refused(Refused::KeyBusy) => Refusal::new(codes::IDEMPOTENCY_KEY_BUSY, nothing),
        AddError::Refused(_) => Refusal::new(codes::JOBS_FULL, nothing),
        AddError::Log(journal::Refused::DiskFull) => Refusal::new(codes::DISK_FULL, nothing),
        AddError::Log(journal::Refused::Waiting) => Refusal::overloaded("the disk is busy"),
        AddError::Log(journal::Refused::TooLarge) => {
            Refusal::new(codes::MESSAGE_TOO_LARGE, "nothing was stored: a job's message may have 2 MiB at most")
        }
        AddError::Log(refused) => {
            Refusal::new(codes::JOBS_BROKEN, format!("the disk of this gateway failed, nothing is certain: {refused}"))
        }
    }
}

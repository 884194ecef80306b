//! The book against a twin that keeps everything in a map: jobs that come and go, a Kafka that fails, clocks that jump, crashes.
//!
//! `GAFKA_SIM_SEED=7` runs one world, `GAFKA_SIMULATION_WORLDS=20000` more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;
use disk::Chance;

use super::*;
use crate::keep_rows::rows_from;
use crate::limits::{AHEAD_MS, Limits};
use crate::memory;

const WORLDS: u64 = 400;
const QUEUES: usize = 4;

/// So small that a world meets every one of them.
fn small() -> Limits {
    Limits {
        wheel_max: 24,
        scan_rows_max: 10,
        memory_jobs_max: 12,
        memory_bytes_max: 1 << 20,
        memory_log_bytes_max: 4 << 10,
        queue_due_max: 6,
        due_max: 16,
        queue_in_flight_max: 5,
        in_flight_max: 12,
        merge_min: 3,
        ..Limits::default()
    }
}

/// A record as the log has it.
#[derive(Clone, Debug)]
struct Logged {
    stream: u32,
    kind: u8,
    sequence: u64,
    body: Bytes,
    wall_ms: i64,
}

/// What a client may expect of a job.
#[derive(Clone, Debug)]
struct Twin {
    queue: usize,
    due_ms: i64,
    body: Bytes,
    is_deleted: bool,
    fired: u32,
    is_parked: bool,
    /// When it was first given to a Kafka that may have kept it.
    given_ms: Option<i64>,
}

struct World {
    seed: u64,
    chance: Chance,
    now_ms: i64,
    book: Book,
    log: Vec<Logged>,
    committed: usize,
    /// Everything the disk has of tables; those of no snapshot are removed at a start.
    tables: BTreeMap<u64, Vec<Row>>,
    snapshots: Vec<(Vec<u8>, BTreeSet<u64>)>,
    twins: BTreeMap<u64, Twin>,
    /// What was told to clients only when it is committed: the log's length until then.
    promised: Vec<(usize, Promise)>,
    at_kafka: Vec<(QueueId, Key)>,
    kafka_is_away: bool,
    sweep: Option<Sweep>,
    story: String,
}

type Row = (Key, u32, Bytes);

#[derive(Clone, Debug)]
enum Promise {
    Added(u64, Twin),
    Deleted(u64),
    Moved(u64, i64),
    Unparked(u64),
}

fn name(queue: usize) -> Name {
    // Two queues of one account, and two of others.
    Name { account: format!("app{}", queue.saturating_sub(1)).into(), subject: format!("t{queue}.v1").into() }
}

impl World {
    fn new(seed: u64) -> World {
        let now_ms = 1_000_000;
        World {
            seed,
            chance: Chance::new(seed),
            now_ms,
            book: Book::new(now_ms, small()),
            log: Vec::new(),
            committed: 0,
            tables: BTreeMap::new(),
            snapshots: Vec::new(),
            twins: BTreeMap::new(),
            promised: Vec::new(),
            at_kafka: Vec::new(),
            kafka_is_away: false,
            sweep: None,
            story: String::new(),
        }
    }

    fn say(&mut self, what: impl std::fmt::Display) {
        writeln!(self.story, "{} {what}", self.now_ms).expect("a string");
    }

    fn append(&mut self, note: &Note) {
        let Note { queue, kind, sequence, body } = note.clone();
        self.log.push(Logged { stream: queue.0, kind: kind as u8, sequence, body, wall_ms: self.now_ms });
    }

    /// The log is durable up to some record.
    fn commit(&mut self, upto: usize) {
        while self.committed < upto {
            let lsn = self.committed;
            let Logged { stream, kind, sequence, body, wall_ms } = self.log[lsn].clone();
            let committed = Committed { lsn: lsn as u64, stream, kind, sequence, wall_ms, body: &body };
            self.book.apply(&committed).expect("it was made here");
            self.committed += 1;
        }
        let committed = self.committed;
        let kept: Vec<_> = self.promised.extract_if(.., |(lsn, _)| *lsn <= committed).collect();
        for (_, promise) in kept {
            match promise {
                Promise::Added(seq, twin) => drop(self.twins.insert(seq, twin)),
                Promise::Deleted(seq) => self.twins.get_mut(&seq).expect("added").is_deleted = true,
                Promise::Moved(seq, due_ms) => {
                    let twin = self.twins.get_mut(&seq).expect("added");
                    (twin.due_ms, twin.is_parked) = (due_ms, false);
                }
                Promise::Unparked(seq) => self.twins.get_mut(&seq).expect("added").is_parked = false,
            }
        }
    }

    fn add(&mut self) {
        let queue = self.chance.below(QUEUES);
        let ahead = [0, 20, 500, 5_000, 60_000, 4_000_000][self.chance.below(6)];
        let due_ms = self.now_ms + self.chance.below(ahead + 1) as i64;
        let body = Bytes::from(format!("{}", self.chance.number()));
        let added = Added { due_ms, key: None };
        match self.book.accept(&name(queue), &added, self.now_ms) {
            Ok(Accepted { queue: id, seq, definition }) => {
                definition.iter().for_each(|note| self.append(note));
                self.append(&Note { queue: id, kind: Kind::Added, sequence: seq, body: added.head(&body) });
                self.say(format_args!("add {seq} to {queue}, due {due_ms}"));
                let twin = Twin { queue, due_ms, body, is_deleted: false, fired: 0, is_parked: false, given_ms: None };
                self.promised.push((self.log.len(), Promise::Added(seq, twin)));
            }
            Err(refused) => assert_eq!(refused, Refused::Memory, "seed {}", self.seed),
        }
    }

    /// Some job there was, which may be over.
    fn some_job(&mut self) -> Option<u64> {
        let last = *self.twins.keys().next_back()?;
        let from = last.saturating_sub(self.chance.below(40) as u64);
        self.twins.range(from..).next().map(|(seq, _)| *seq)
    }

    fn change(&mut self) {
        let Some(seq) = self.some_job() else { return };
        let twin = self.twins[&seq].clone();
        let queue = self.book.find(&name(twin.queue)).expect("it has jobs");
        let is_moved = self.chance.below(2) == 0;
        let ahead = [0, 300, 30_000][self.chance.below(3)];
        let due_ms = self.now_ms + self.chance.below(ahead + 1) as i64;
        let change = match is_moved {
            true => self.book.reschedule(seq, queue, due_ms, &twin.body),
            false => Ok(self.book.delete(seq, queue, self.now_ms)),
        };
        match change {
            Ok(Change::Append(note)) if self.chance.below(8) == 0 => {
                self.say(format_args!("refused change of {seq}: {note:?}"));
                self.book.unchanged(Entry { key: Key { due_ms: twin.due_ms, seq }, queue: queue.0 });
            }
            Ok(Change::Append(note)) => {
                assert!(!twin.is_deleted && twin.fired == 0, "seed {}: {seq} {twin:?}", self.seed);
                self.say(format_args!("change {seq}: {:?}", note.kind));
                self.append(&note);
                let promise = if is_moved { Promise::Moved(seq, due_ms) } else { Promise::Deleted(seq) };
                self.promised.push((self.log.len(), promise));
            }
            Ok(Change::TooLate) => {}
            Ok(Change::Unknown) => panic!("seed {}: {seq} is unknown", self.seed),
            Err(refused) => assert_eq!(refused, Refused::Memory, "seed {}", self.seed),
        }
    }

    fn pause(&mut self, is_paused: bool, queue: usize) {
        let notes = self.book.pause(&name(queue), is_paused).expect("few queues");
        notes.iter().for_each(|note| self.append(note));
        self.say(format_args!("queue {queue} paused: {is_paused}"));
    }

    fn unpark(&mut self) {
        let Some(seq) = self.book.parked(0).map(|parked| parked.key.seq).next() else { return };
        if let Some(note) = self.book.unpark(seq) {
            self.append(&note);
            self.promised.push((self.log.len(), Promise::Unparked(seq)));
        }
    }

    fn take(&mut self) {
        self.book.advance(self.now_ms);
        let mut due = Vec::new();
        self.book.take(self.now_ms, 1 + self.chance.below(12), &mut due);
        for due in &due {
            let Entry { key, queue } = due.entry;
            self.say(format_args!("take {key:?}"));
            let twin = &self.twins[&key.seq];
            let (seed, story) = (self.seed, &self.story);
            assert!(key.due_ms <= self.now_ms, "seed {seed}: {key:?} is early at {}\n{story}", self.now_ms);
            assert_eq!(key.due_ms, twin.due_ms, "seed {seed}: {key:?} has another time\n{story}");
            assert!(!twin.is_deleted, "seed {seed}: {key:?} is deleted\n{story}");
            assert!(!twin.is_parked, "seed {seed}: {key:?} is parked\n{story}");
            let is_told = |since_ms| twin.given_ms.is_some_and(|given_ms| since_ms <= given_ms);
            let is_found = due.doubt_since_ms.is_some_and(is_told);
            assert!(
                twin.fired == 0 || is_found,
                "seed {seed}: {due:?} fired, and nobody looks for it: {twin:?}\n{story}"
            );
            assert_eq!(self.body_of(key), twin.body, "seed {seed}: {key:?}\n{story}");
            assert_eq!(self.book.queue(QueueId(queue)).expect("known").name.as_ref(), &name(twin.queue));
        }
        let notes = Book::taken(&due, self.now_ms);
        notes.iter().for_each(|note| self.append(note));
        let upto = self.log.len();
        self.commit(upto); // before Kafka is given anything
        for due in &due {
            let (queue, key) = (QueueId(due.entry.queue), due.entry.key);
            let twin = self.twins.get_mut(&key.seq).expect("added");
            if due.doubt_since_ms.is_some() {
                // It is looked for.
                if twin.fired > 0 {
                    self.say(format_args!("found {key:?}"));
                    let note = self
                        .book
                        .fired(queue, Went { at_ms: self.now_ms, partition: 0, offset: 7, seqs: vec![key.seq] });
                    self.append(&note);
                    continue;
                }
                if self.chance.below(3) == 0 {
                    self.say(format_args!("cannot look for {key:?} now"));
                    self.book.give_back(queue, &[key.seq], self.now_ms + 10, self.now_ms);
                    continue;
                }
                self.book.not_in_kafka(&[key.seq]);
                twin.given_ms = None;
            }
            twin.given_ms.get_or_insert(self.now_ms);
            self.at_kafka.push((queue, key));
        }
    }

    fn body_of(&self, key: Key) -> Bytes {
        let here = self.book.body(key.seq).map(Bytes::copy_from_slice);
        let there = || {
            let rows = self.tables.values().flatten();
            rows.filter(|(is, ..)| *is == key).map(|(.., body)| body.clone()).next().expect("it is somewhere")
        };
        here.unwrap_or_else(there)
    }

    /// Kafka answers some of what it was given.
    fn answer(&mut self, count: usize) {
        for _ in 0..count {
            if self.at_kafka.is_empty() {
                return;
            }
            let at = self.chance.below(self.at_kafka.len());
            let (queue, key) = self.at_kafka.swap_remove(at);
            match self.chance.below(16) {
                _ if self.kafka_is_away => {
                    self.say(format_args!("give back {key:?}"));
                    self.given_back(queue, key, self.now_ms + 100);
                }
                0 => {
                    let reason = Reason { code: "topic_gone".into(), sentence: "gone".into() };
                    let note = self.book.park(key, queue, &reason, self.now_ms).expect("few are parked");
                    self.append(&note);
                    self.say(format_args!("park {key:?}"));
                    let twin = self.twins.get_mut(&key.seq).expect("added");
                    (twin.is_parked, twin.given_ms) = (true, None);
                }
                1 => self.given_back(queue, key, self.now_ms),
                _ => {
                    self.say(format_args!("fired {key:?}"));
                    self.twins.get_mut(&key.seq).expect("added").fired += 1;
                    let went = Went { at_ms: self.now_ms, partition: 0, offset: 7, seqs: vec![key.seq] };
                    let note = self.book.fired(queue, went);
                    match self.chance.below(6) {
                        0 => self.book.owe(&note),
                        _ => self.append(&note),
                    }
                }
            }
        }
    }

    /// Kafka says that it does not have it.
    fn given_back(&mut self, queue: QueueId, key: Key, hold_until_ms: i64) {
        self.book.give_back(queue, &[key.seq], hold_until_ms, self.now_ms);
        self.twins.get_mut(&key.seq).expect("added").given_ms = None;
    }

    fn rows_of(&self, from: Key, to: Key, rows_max: usize) -> (Vec<Entry>, Key) {
        let tables: Vec<&[Row]> = self.tables_named().map(|number| self.tables[&number].as_slice()).collect();
        rows_from(&tables, from, to, rows_max)
    }

    fn tables_named(&self) -> impl Iterator<Item = u64> {
        self.book.keeping().tables().map(|table| table.number)
    }

    fn look(&mut self) {
        if let Some(scan) = self.book.scan() {
            let (found, reached) = self.rows_of(scan.from, scan.to, scan.rows_max);
            self.book.scanned(self.book.epoch(), &found, reached);
        }
        if self.sweep.is_none() {
            self.sweep = self.book.sweep();
        }
        if let Some(mut sweep) = self.sweep.take() {
            let (found, reached) = self.rows_of(sweep.from, sweep.to, sweep.rows_max);
            if self.book.swept(&mut sweep, self.book.epoch(), &found, reached) {
                self.sweep = Some(sweep);
            }
        }
    }

    fn work(&mut self) {
        match self.book.work() {
            None => {}
            Some(Work::Write { generation, number }) => {
                let row = |row: &memory::Row| (row.key, row.queue, Bytes::copy_from_slice(generation.body(row)));
                let rows: Vec<Row> = generation.rows().iter().map(row).collect();
                let seen = self.seen(number, 0, &rows);
                self.tables.insert(number, rows);
                self.say(format_args!("table {number} written"));
                self.book.written(seen);
            }
            Some(Work::Merge { inputs, number, tier }) => {
                let mut rows: Vec<Row> = inputs.iter().flat_map(|input| self.tables[input].clone()).collect();
                rows.retain(|(key, ..)| self.book.is_alive(key.seq, key.due_ms));
                rows.sort_unstable_by_key(|(key, ..)| *key);
                rows.dedup_by_key(|(key, ..)| *key);
                let seen = self.seen(number, tier, &rows);
                self.tables.insert(number, rows);
                self.say(format_args!("{inputs:?} merged to {number}"));
                self.book.merged(&inputs, seen);
            }
            Some(Work::Count { number }) => {
                let is_alive = |row: &&Row| self.book.is_alive(row.0.seq, row.0.due_ms);
                let waiting = self.tables[&number].iter().filter(is_alive).count() as u64;
                self.book.counted(number, waiting);
            }
        }
    }

    fn seen(&self, number: u64, tier: u8, rows: &[Row]) -> Option<TableSeen> {
        let seqs = || rows.iter().map(|(key, ..)| key.seq);
        let (seq_min, seq_max) = (seqs().min()?, seqs().max()?);
        Some(TableSeen { number, tier, rows: rows.len() as u64, seq_min, seq_max, meta: Bytes::new() })
    }

    fn snapshot(&mut self) {
        let snapshot = self.book.snapshot();
        let tables = snapshot.tables().collect();
        self.say(format_args!("snapshot at {} from {}", snapshot.lsn, snapshot.begin_lsn));
        self.snapshots.push((snapshot.encode(), tables));
        let kept: BTreeSet<u64> = self.snapshots.iter().rev().take(2).flat_map(|(_, tables)| tables.clone()).collect();
        let named: BTreeSet<u64> = self.tables_named().collect();
        self.tables.retain(|number, _| kept.contains(number) || named.contains(number));
    }

    fn crash(&mut self) {
        let lost = self.chance.below(self.log.len() - self.committed + 1);
        let upto = self.log.len() - lost;
        self.say(format_args!("crash, {lost} records lost"));
        // Some of what is durable was not told.
        self.log.truncate(upto);
        let is_durable = |promised: &(usize, Promise)| promised.0 <= upto;
        self.promised.retain(is_durable);
        let (bytes, tables) = match self.chance.below(4) {
            0 => self.snapshots.len().checked_sub(2).map(|at| self.snapshots[at].clone()),
            _ => self.snapshots.last().cloned(),
        }
        .unwrap_or_default();
        self.tables.retain(|number, _| tables.contains(number));
        self.snapshots.retain(|(is, _)| *is == bytes);
        self.book = match bytes.is_empty() {
            true => Book::new(self.now_ms, small()),
            false => Book::restore(&bytes, self.now_ms, small()).expect("it was encoded here"),
        };
        // Those at Kafka: it has some of them, and nobody heard of it.
        for (_, key) in std::mem::take(&mut self.at_kafka) {
            let fired = self.chance.below(2) as u32;
            self.twins.get_mut(&key.seq).expect("added").fired += fired;
        }
        self.sweep = None;
        self.committed = self.book.begin_lsn() as usize;
        self.commit(upto);
        self.book.recovered();
        let in_doubt: BTreeMap<u64, Doubt> = self.book.in_doubt().collect();
        for (seq, twin) in &mut self.twins {
            if !self.book.states().is_pending(*seq) {
                continue;
            }
            let is_known = twin.fired == 0 || in_doubt.contains_key(seq);
            assert!(is_known, "seed {}: {seq} fired, and nobody doubts that it waits\n{}", self.seed, self.story);
            twin.is_parked = matches!(self.book.see(*seq), Seen::Pending(Some((_, Stage::Parked { .. }))));
        }
        for (seq, doubt) in in_doubt {
            let twin = &self.twins[&seq];
            let entry = Entry { key: Key { due_ms: twin.due_ms, seq }, queue: doubt.queue.0 };
            self.book.doubt_placed(seq, entry);
        }
    }

    fn step(&mut self) {
        match self.chance.below(24) {
            0..=7 => self.add(),
            8..=9 => self.change(),
            10..=12 => {
                let upto = self.committed + self.chance.below(self.log.len() - self.committed + 1);
                self.commit(upto);
            }
            13..=15 => self.take(),
            16..=17 => {
                let count = self.chance.below(8);
                self.answer(count);
            }
            18 => self.look(),
            19 => self.work(),
            20 => match self.chance.below(6) {
                0 => self.crash(),
                1 => self.unpark(),
                2 => self.kafka_is_away = !self.kafka_is_away,
                4 if self.chance.below(4) == 0 => {
                    self.now_ms -= [5_000, 100_000, 10_000_000][self.chance.below(3)];
                    self.say("the clock went back");
                    self.book.rewind(self.now_ms);
                    self.sweep = None;
                }
                3 => {
                    let (is_paused, queue) = (self.chance.below(2) == 0, self.chance.below(QUEUES));
                    self.pause(is_paused, queue);
                }
                _ => self.snapshot(),
            },
            21 => self.book.owed().iter().for_each(|note| self.append(note)),
            _ => {
                let step = [1, 10, 200, 3_000, AHEAD_MS as usize * 3][self.chance.below(5)];
                self.now_ms += self.chance.below(step) as i64;
            }
        }
    }

    /// Everything goes on, and everybody gets what is his.
    fn end(&mut self) {
        self.kafka_is_away = false;
        (0..QUEUES).for_each(|queue| self.pause(false, queue));
        let upto = self.log.len();
        self.commit(upto);
        for round in 0..4_000 {
            self.book.owed().iter().for_each(|note| self.append(note));
            self.look();
            self.work();
            self.take();
            self.answer(64);
            self.unpark();
            let upto = self.log.len();
            self.commit(upto);
            if round > 200 {
                self.now_ms += [5, 1_000, 50_000][round % 3];
            }
            if self.book.states().pending() == 0 && self.at_kafka.is_empty() {
                break;
            }
        }
        let (seed, story) = (self.seed, &self.story);
        for (seq, twin) in &self.twins {
            let seen = self.book.see(*seq);
            let is_right = match twin.is_deleted {
                true => twin.fired == 0,
                false => twin.fired == 1,
            };
            let queue = self.book.find(&name(twin.queue)).and_then(|id| self.book.queue(id));
            assert!(is_right, "seed {seed}: {seq} {twin:?} ended as {seen:?}\n{story}\n{queue:?}");
        }
        for (_, queue) in self.book.queues() {
            assert_eq!(queue.pending, 0, "seed {seed}: {queue:?}\n{story}");
        }
        assert_eq!(self.book.due_and_in_flight().1, 0, "seed {seed}");
    }
}

#[test]
fn every_job_that_was_kept_fires_or_is_deleted_and_none_is_early() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match setting("GAFKA_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("GAFKA_SIMULATION_WORLDS").unwrap_or(WORLDS),
    };
    let mut met = BTreeMap::<&str, u64>::new();
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..1_500 {
            world.step();
            *met.entry("spilled").or_default() += u64::from(world.book.has_spilled());
        }
        *met.entry("tables").or_default() += world.tables.len() as u64;
        *met.entry("merged").or_default() += world.story.matches("merged").count() as u64;
        *met.entry("crashed").or_default() += world.story.matches("crash").count() as u64;
        world.end();
    }
    assert!(met.values().all(|count| *count > 0), "a world met none of {met:?}");
    println!("{met:?}");
}

#[test]
fn while_kafka_is_away_a_queue_is_tried_with_one_job_at_a_time() {
    let mut book = Book::new(0, Limits::default());
    let mut lsn = 0;
    let mut tell = |book: &mut Book, note: Note| {
        let Note { queue, kind, sequence, body } = note;
        let committed = Committed { lsn, stream: queue.0, kind: kind as u8, sequence, wall_ms: 0, body: &body };
        book.apply(&committed).expect("it was made here");
        lsn += 1;
    };
    for _ in 0..20 {
        let added = Added { due_ms: 10, key: None };
        let Accepted { queue, seq, definition } = book.accept(&name(0), &added, 0).expect("few");
        definition.into_iter().for_each(|note| tell(&mut book, note));
        tell(&mut book, Note { queue, kind: Kind::Added, sequence: seq, body: added.head(b"x") });
    }
    let queue = QueueId(0);
    let take = |book: &mut Book, now_ms| {
        book.advance(now_ms);
        let mut due = Vec::new();
        book.take(now_ms, 100, &mut due);
        due.iter().map(|due| due.entry.key.seq).collect::<Vec<_>>()
    };
    let all = take(&mut book, 20);
    assert_eq!(all.len(), 20);
    book.give_back(queue, &all, 220, 20);
    assert_eq!(take(&mut book, 100), [], "it is left alone");
    assert_eq!(take(&mut book, 220), [1], "the first, as a probe");
    assert_eq!(take(&mut book, 230), [], "while that is under way");
    book.give_back(queue, &[1], 420, 230);
    assert_eq!(take(&mut book, 420), [1]);
    let note = book.fired(queue, Went { at_ms: 430, partition: 0, offset: 0, seqs: vec![1] });
    tell(&mut book, note);
    assert_eq!(take(&mut book, 430).len(), 19, "Kafka takes them again");
}

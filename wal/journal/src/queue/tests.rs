//! The queue against a twin that remembers every entry by itself, with a log that loses what was not committed.

use std::collections::{BTreeMap, BTreeSet};

use disk::Chance;

use super::*;

const BUDGET: Budget = Budget {
    bytes_max: 1 << 30,
    subject_bytes_max: 1 << 30,
    account_bytes_max: 1 << 30,
    records_max: 1 << 20,
    age_ms_max: None,
};
const KEEPING: Keeping = Keeping { receipts_ms: 1_000_000 };

fn name(lane: i32) -> Name {
    Name { account: format!("app{}", lane % 2).into(), subject: format!("main/t{}", lane / 2).into(), lane }
}

/// What the twin knows of an entry.
#[derive(Clone, Debug, PartialEq)]
enum Twin {
    Waiting,
    Taken,
    Parked(&'static str),
    Settled(Fate),
}

/// A record as the log has it.
#[derive(Clone, Debug)]
struct Logged {
    stream: u32,
    kind: Kind,
    sequence: u64,
    bytes: u32,
    body: Bytes,
    place: Place,
    lsn: u64,
}

struct World {
    random: Chance,
    queue: Queue,
    twin: BTreeMap<(u32, u64), Twin>,
    /// What a crash leaves of it.
    durable: BTreeMap<(u32, u64), Twin>,
    names: BTreeMap<u32, Name>,
    /// Appended and not committed.
    pending: Vec<Logged>,
    /// Committed and not freed.
    log: Vec<Logged>,
    checkpoint: Option<(Vec<u8>, u64)>,
    lsn_next: u64,
    /// Where entries were when they were taken, and lsns of moves that came too late for it.
    taken_at: BTreeMap<(u32, u64), Place>,
    in_vain: BTreeSet<u64>,
    segment: u64,
    block: u32,
    now_ms: i64,
    /// By stream, the end of partition 3's log, which only this process writes.
    ends: BTreeMap<u32, i64>,
    /// Of entries that Kafka has and that are not settled, durably so: where they are.
    stored: BTreeMap<(u32, u64), i64>,
    /// Streams of which it was noted that they are sent.
    sending: BTreeSet<u32>,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            random: Chance::new(seed),
            queue: Queue::new(BUDGET, KEEPING),
            twin: BTreeMap::new(),
            durable: BTreeMap::new(),
            names: BTreeMap::new(),
            pending: Vec::new(),
            log: Vec::new(),
            checkpoint: None,
            lsn_next: 0,
            taken_at: BTreeMap::new(),
            in_vain: BTreeSet::new(),
            segment: 0,
            block: 4096,
            now_ms: 1_000,
            ends: BTreeMap::new(),
            stored: BTreeMap::new(),
            sending: BTreeSet::new(),
        }
    }

    fn append(&mut self, stream: u32, kind: Kind, sequence: u64, bytes: u32, body: Bytes) {
        let place = Place { segment: 0, block: 0, index: 0 };
        self.pending.push(Logged { stream, kind, sequence, bytes, body, place, lsn: 0 });
    }

    fn note(&mut self, note: Option<Note>) {
        if let Some(Note { stream, kind, sequence, body }) = note {
            self.append(stream.0, kind, sequence, body.len() as u32, body);
        }
    }

    fn accept(&mut self) {
        let name = name(self.random.below(6) as i32);
        let bytes = 1 + self.random.below(1_000) as u32;
        let accepted = self.queue.accept(&name, bytes, self.now_ms).unwrap();
        let stream = accepted.stream;
        self.names.insert(stream.0, name);
        if self.random.below(10) == 0 {
            self.queue.refused(stream, accepted.sequence, bytes);
            return;
        }
        self.note(accepted.definition);
        self.append(stream.0, Kind::Entry, accepted.sequence, bytes, Bytes::new());
    }

    /// One block with everything that was appended.
    fn commit(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for (index, mut logged) in pending.into_iter().enumerate() {
            logged.lsn = self.lsn_next;
            self.lsn_next += 1;
            logged.place = Place { segment: self.segment, block: self.block, index: index as u32 };
            self.note_durable(&logged);
            self.tell(&logged);
            self.log.push(logged);
        }
        self.block += 4096;
        if self.random.below(8) == 0 {
            self.segment += 1;
        }
    }

    fn note_durable(&mut self, logged: &Logged) {
        let key = (logged.stream, logged.sequence);
        match logged.kind {
            Kind::Stream | Kind::Sending => {}
            Kind::Moved => {
                if self.twin.get(&key) == Some(&Twin::Taken) {
                    self.in_vain.insert(logged.lsn);
                }
            }
            Kind::Entry => {
                self.twin.insert(key, Twin::Waiting);
                self.durable.insert(key, Twin::Waiting);
            }
            Kind::Settled => {
                let (count, fate, _) = bodies::read_settled(&logged.body).unwrap();
                for at in 0..u64::from(count) {
                    let fate = match fate {
                        Fate::Delivered { partition, offset: first @ 0.. } => {
                            Fate::Delivered { partition, offset: first + at as i64 }
                        }
                        fate => fate,
                    };
                    self.durable.insert((key.0, key.1 + at), Twin::Settled(fate));
                    self.stored.remove(&(key.0, key.1 + at));
                }
            }
            Kind::Parked | Kind::Unparked => {
                let twin = self.durable.get_mut(&key).expect("parked when it was durable");
                if !matches!(twin, Twin::Settled(_)) {
                    *twin = if logged.kind == Kind::Parked { Twin::Parked("topic_gone") } else { Twin::Waiting };
                }
            }
        }
    }

    fn tell(&mut self, logged: &Logged) {
        let committed = Committed {
            stream: logged.stream,
            kind: logged.kind as u8,
            sequence: logged.sequence,
            place: logged.place,
            bytes: logged.bytes,
            wall_ms: self.now_ms,
            body: &logged.body,
        };
        self.queue.apply(&committed).unwrap();
    }

    fn some_stream(&mut self) -> Option<StreamId> {
        let all: Vec<u32> = self.names.keys().copied().collect();
        (!all.is_empty()).then(|| StreamId(all[self.random.below(all.len())]))
    }

    fn take(&mut self) {
        let Some(stream) = self.some_stream() else { return };
        let expected: Vec<u64> = self.of(stream, |twin| *twin == Twin::Waiting);
        let taken = self.queue.take(stream, self.random.below(5_000) as u64, 1 + self.random.below(20) as u32);
        let numbers: Vec<u64> = taken.iter().flat_map(|extent| extent.first..extent.end()).collect();
        assert_eq!(numbers, expected[..numbers.len()], "in the order of their numbers");
        assert!(!numbers.is_empty() || expected.is_empty());
        for extent in &taken {
            for (at, sequence) in (extent.first..extent.end()).enumerate() {
                let place = Place { index: extent.place.index + at as u32, ..extent.place };
                let logged = self.log.iter().find(|logged| logged.place == place).expect("in the log");
                assert_eq!((logged.stream, logged.sequence), (stream.0, sequence));
                self.twin.insert((stream.0, sequence), Twin::Taken);
                self.taken_at.insert((stream.0, sequence), place);
            }
        }
    }

    fn of(&self, stream: StreamId, which: impl Fn(&Twin) -> bool) -> Vec<u64> {
        let all = self.twin.range((stream.0, 0)..=(stream.0, u64::MAX));
        all.filter(|(_, twin)| which(twin)).map(|((_, sequence), _)| *sequence).collect()
    }

    fn settle(&mut self) {
        let Some(stream) = self.some_stream() else { return };
        let mut taken = self.of(stream, |twin| *twin == Twin::Taken);
        // What was sent is not sent again, and answers come in order: nothing is heard any more after one that was not.
        taken.retain(|sequence| !self.stored.contains_key(&(stream.0, *sequence)));
        let is_deaf = !self.is_idle(stream);
        let Some(first) = taken.first().copied() else { return };
        let run = taken.iter().enumerate().take_while(|(at, sequence)| **sequence == first + *at as u64).count();
        let count = 1 + self.random.below(run) as u64;
        if !self.may_send(stream) {
            return;
        }
        let end = self.ends.entry(stream.0).or_default();
        let stands_at = *end;
        *end += count as i64;
        self.stored.extend((0..count).map(|at| ((stream.0, first + at), stands_at + at as i64)));
        if is_deaf || self.random.below(6) == 0 {
            return; // nobody hears of it
        }
        // Settled, and not durably so until the note is.
        let offset = if self.random.below(9) == 0 { -1 } else { stands_at };
        let fate = Fate::Delivered { partition: 3, offset };
        let note = self.queue.settle(stream, first, count as u32, fate, self.now_ms);
        assert!(note.is_some());
        self.note(note);
        for sequence in first..first + count {
            let offset = if offset < 0 { -1 } else { offset + (sequence - first) as i64 };
            self.twin.insert((stream.0, sequence), Twin::Settled(Fate::Delivered { partition: 3, offset }));
        }
    }

    /// What is sent was noted before.
    fn may_send(&mut self, stream: StreamId) -> bool {
        if self.sending.insert(stream.0) {
            let end = self.ends.get(&stream.0).copied().unwrap_or(0);
            let note = self.queue.sending(stream, [(3, end)].into());
            self.note(note);
        }
        self.queue.is_sending_noted(stream)
    }

    /// Everything that Kafka has is settled, as far as this process knows.
    fn is_idle(&self, stream: StreamId) -> bool {
        let mut stored = self.stored.range((stream.0, 0)..=(stream.0, u64::MAX));
        stored.all(|(key, _)| matches!(self.twin[key], Twin::Settled(_)))
    }

    /// Nothing is under way: what was taken is given back, and Kafka has none of it.
    fn stop_sending(&mut self) {
        let Some(stream) = self.some_stream() else { return };
        if self.is_idle(stream) && self.sending.remove(&stream.0) {
            let note = self.queue.sending(stream, BTreeMap::new());
            self.note(note);
        }
    }

    /// A new process looks where it was told to, and finds everything that Kafka has and that was not settled.
    fn find_stored(&mut self) {
        for ((stream, sequence), offset) in std::mem::take(&mut self.stored) {
            let (id, key) = (StreamId(stream), (stream, sequence));
            let begin = self.queue.sent(id).get(&3).copied();
            assert!(
                begin.is_some_and(|begin| begin <= offset),
                "{key:?} stands at {offset}, looked for from {begin:?}"
            );
            let fate = Fate::Delivered { partition: 3, offset };
            let note = self.queue.settle(id, sequence, 1, fate, self.now_ms);
            self.note(note);
            self.twin.insert(key, Twin::Settled(fate));
        }
    }

    fn park(&mut self) {
        let Some(stream) = self.some_stream() else { return };
        let mut taken = self.of(stream, |twin| *twin == Twin::Taken);
        taken.retain(|sequence| !self.stored.contains_key(&(stream.0, *sequence)));
        if taken.is_empty() {
            return;
        }
        let sequence = taken[self.random.below(taken.len())];
        let reason = Reason { code: "topic_gone".into(), sentence: "gone".into() };
        let note = self.queue.park(stream, sequence, reason, self.now_ms);
        self.note(note);
        self.twin.insert((stream.0, sequence), Twin::Parked("topic_gone"));
    }

    fn unpark_or_drop(&mut self) {
        let Some(stream) = self.some_stream() else { return };
        let parked = self.of(stream, |twin| matches!(twin, Twin::Parked(_)));
        let Some(sequence) = parked.first().copied() else { return };
        if self.random.below(2) == 0 {
            let note = self.queue.unpark(stream, sequence);
            assert!(note.is_some());
            self.note(note);
            self.twin.insert((stream.0, sequence), Twin::Waiting);
        } else {
            let note = self.queue.settle(stream, sequence, 1, Fate::Dropped, self.now_ms);
            self.note(note);
            self.twin.insert((stream.0, sequence), Twin::Settled(Fate::Dropped));
        }
    }

    fn give_back(&mut self) {
        let Some(stream) = self.some_stream().filter(|stream| self.is_idle(*stream)) else { return };
        self.queue.give_back(stream);
        for sequence in self.of(stream, |twin| *twin == Twin::Taken) {
            self.twin.insert((stream.0, sequence), Twin::Waiting);
        }
    }

    fn checkpoint(&mut self) {
        self.checkpoint = Some((self.queue.checkpoint(), self.lsn_next));
        self.durable = self.twin.clone();
        self.durable.values_mut().filter(|twin| **twin == Twin::Taken).for_each(|twin| *twin = Twin::Waiting);
        // What nothing needs any more goes, but for the segment that is written and those after the checkpoint.
        let (queue, segment) = (&self.queue, self.segment);
        self.log.retain(|logged| logged.place.segment >= segment || queue.is_needed(logged.place.segment));
    }

    /// Entries of an old segment get a new place.
    fn relocate(&mut self) {
        let Some((segment, _)) = self.queue.needed().find(|(segment, _)| *segment < self.segment) else { return };
        for (stream, extent) in self.queue.entries_in(segment, 100) {
            for sequence in extent.first..extent.end() {
                let old = self.log.iter().rfind(|logged| {
                    (logged.stream, logged.sequence) == (stream.0, sequence)
                        && matches!(logged.kind, Kind::Entry | Kind::Moved)
                });
                let bytes = old.expect("in the log").bytes;
                self.append(stream.0, Kind::Moved, sequence, bytes, Bytes::new());
            }
        }
    }

    /// Everything that was not committed is lost, and what the queue knew.
    fn crash(&mut self) {
        self.pending.clear();
        let log = std::mem::take(&mut self.log);
        let (queue, from) = match &self.checkpoint {
            Some((blob, lsn)) => (Queue::restore(blob, BUDGET, KEEPING).unwrap(), *lsn),
            None => (Queue::new(BUDGET, KEEPING), 0),
        };
        self.queue = queue;
        // Of what is before the checkpoint only where entries are is read again.
        let is_told = |logged: &&Logged| logged.lsn >= from || matches!(logged.kind, Kind::Entry | Kind::Moved);
        log.iter().filter(is_told).for_each(|logged| self.tell(logged));
        self.log = log;
        self.queue.recovered();
        self.twin = self.durable.clone();
        self.in_vain.clear();
        self.sending.clear();
        self.stored.retain(|key, _| !matches!(self.twin.get(key), Some(Twin::Settled(_))));
        self.find_stored();
    }

    /// Where an entry is.
    fn place_of(&self, stream: u32, sequence: u64) -> Option<&Logged> {
        self.log.iter().rfind(|logged| {
            (logged.stream, logged.sequence) == (stream, sequence)
                && matches!(logged.kind, Kind::Entry | Kind::Moved)
                && !self.in_vain.contains(&logged.lsn)
        })
    }

    fn check(&self) {
        let mut needed: BTreeMap<u64, u64> = BTreeMap::new();
        let mut records = 0_u64;
        for ((stream, sequence), twin) in &self.twin {
            let receipt = self.queue.receipt(StreamId(*stream), *sequence);
            let agrees = match twin {
                Twin::Waiting | Twin::Taken => receipt == Receipt::Pending,
                Twin::Parked(_) => matches!(receipt, Receipt::Parked { .. }),
                Twin::Settled(Fate::Delivered { partition, offset }) => {
                    receipt == Receipt::Delivered { partition: *partition, offset: *offset }
                }
                Twin::Settled(_) => receipt == Receipt::Dropped,
            };
            assert!(agrees, "stream {stream} entry {sequence}: {twin:?}, but {receipt:?}");
            if !matches!(twin, Twin::Settled(_)) {
                let logged = self.place_of(*stream, *sequence).expect("what is unsettled stays in the log");
                if *twin == Twin::Taken {
                    assert_eq!(logged.place, self.taken_at[&(*stream, *sequence)], "it stays where it was taken from");
                }
                *needed.entry(logged.place.segment).or_default() += 1;
                records += 1;
            }
        }
        assert_eq!(self.queue.needed().collect::<BTreeMap<_, _>>(), needed);
        let appending: Vec<&Logged> = self.pending.iter().filter(|logged| logged.kind == Kind::Entry).collect();
        let usage = self.queue.usage();
        assert_eq!(usage.records, records + appending.len() as u64);
        // A part of an extent counts as a share of it, so that single sizes are not exact.
        let appending_bytes: u64 = appending.iter().map(|logged| u64::from(logged.bytes)).sum();
        assert!(usage.records > 0 || usage.bytes == 0, "{usage:?}");
        assert!(usage.bytes >= appending_bytes, "{usage:?}");
        let backlog: u64 =
            self.names.keys().map(|id| self.queue.backlog(StreamId(*id))).map(|b| b.waiting + b.taken + b.parked).sum();
        assert_eq!(backlog, records);
    }
}

fn story(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..300 {
        world.now_ms += 10;
        match world.random.below(100) {
            0..35 => world.accept(),
            35..50 => world.commit(),
            50..62 => world.take(),
            62..78 => world.settle(),
            78..83 => world.park(),
            83..88 => world.unpark_or_drop(),
            88..90 => world.give_back(),
            90..93 => world.checkpoint(),
            93..94 => world.stop_sending(),
            94..96 => world.relocate(),
            _ => world.crash(),
        }
        world.check();
    }
}

#[test]
fn whatever_is_lost_that_was_not_committed_every_committed_entry_is_where_the_twin_has_it() {
    for seed in 0..400 {
        let run = std::panic::catch_unwind(|| story(seed));
        if let Err(why) = run {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(why);
        }
    }
}

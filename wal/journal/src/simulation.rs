//! Power cuts by the thousand: writer, checkpoints and recovery on a simulated disk, beside a list of what was promised.
//!
//! A world is a seed. In it groups are committed, segments freed, checkpoints and marks written, spares made; persists fail,
//! the disk is full, writes are short; the power goes in the middle of anything, recovery included, or the process is
//! killed. After every start:
//!
//! - every record that was told durable is there, byte by byte, at its lsn, unless its segment was freed;
//! - what was not told is there as a suffix of whole groups, or not at all, and what was not there once never comes back;
//! - nothing is said to be lost, and the checkpoint is the last one that was told, or one that was asked for since.
//!
//! `GAFKA_SIM_SEED=7` runs one world, `GAFKA_SIMULATION_WORLDS=100000` or `GAFKA_SIMULATION_SECONDS=600` more.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use disk::{Chance, Chances, Disk, SimulatedDisk};

use crate::config::{Config, Now, Random};
use crate::core::Core;
use crate::format::PAGE_BYTES;
use crate::record::{Group, Record};
use crate::recovery::Recovered;
use crate::refused::Refused;
use crate::writer::Writer;

const WORLDS: u64 = 2_000;
const CUTS_PER_WORLD: usize = 6;
const STEPS_MAX: usize = 25;
const RESERVE_BYTES: u64 = 8 << 10;

pub(crate) fn random(seed: u64) -> Random {
    let mut dice = Chance::new(seed);
    Box::new(move || {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&dice.number().to_le_bytes());
        bytes[8..].copy_from_slice(&dice.number().to_le_bytes());
        bytes
    })
}

pub(crate) fn config() -> Config {
    Config {
        segment_bytes_first: 32 << 10,
        segment_bytes_max: 128 << 10,
        reserve_bytes: RESERVE_BYTES,
        ..Config::new("/j", "node-1")
    }
}

/// The body of one record of a group: whose it is, then bytes that follow from that.
fn body(group: u64, index: u32, count: u32, bytes: usize) -> Bytes {
    let mut body = Vec::with_capacity(bytes.max(16));
    body.extend_from_slice(&group.to_le_bytes());
    body.extend_from_slice(&index.to_le_bytes());
    body.extend_from_slice(&count.to_le_bytes());
    let mut dice = Chance::new(group ^ (u64::from(index) << 40) ^ bytes as u64);
    while body.len() + 8 <= bytes {
        body.extend_from_slice(&dice.number().to_le_bytes());
    }
    Bytes::from(body)
}

fn stamp(body: &[u8]) -> (u64, u32, u32) {
    let number = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
    (u64::from_le_bytes(body[..8].try_into().unwrap()), number(8), number(12))
}

/// A record that was told durable.
#[derive(Clone, Debug)]
struct Told {
    body: Bytes,
    segment: u64,
}

struct World {
    seed: u64,
    dice: Chance,
    disk: Arc<SimulatedDisk>,
    now: Now,
    core: Arc<Core>,
    writer: Option<Writer>,
    groups: u64,
    told: BTreeMap<u64, Told>,
    /// Groups nobody was told of, that may be there after the next start.
    possible: BTreeMap<u64, Vec<Bytes>>,
    /// Found by a start that could not write it again: told once the log goes on behind it.
    limbo: BTreeMap<u64, Told>,
    freed: BTreeSet<u64>,
    next_lsn: u64,
    /// Lsn and blob: told last, and asked for since.
    checkpoints: Vec<Option<(u64, Vec<u8>)>>,
    chances: Chances,
    starts: u64,
}

fn core(disk: &Arc<SimulatedDisk>) -> Arc<Core> {
    Arc::new(Core::new(Arc::clone(disk) as Arc<dyn Disk>, config()))
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Chance::new(seed);
        let disk = Arc::new(SimulatedDisk::new(seed ^ 0xd15c));
        let mut chances = Chances::default();
        match dice.below(6) {
            0 => chances.shortage = 30,
            1 => chances = Chances { disk_full: 30, short_write: 100, ..chances },
            2 => chances.persist_fails = 60,
            3 => chances = Chances { disk_full: 20, short_write: 50, persist_fails: 30, shortage: 10 },
            _ => {}
        }
        if dice.below(4) == 0 {
            disk.set_capacity((128 << 10) << dice.below(4));
        }
        World {
            seed,
            dice,
            core: core(&disk),
            disk,
            now: Now { wall_ms: 1_000_000, monotonic_ms: 1 },
            writer: None,
            groups: 0,
            told: BTreeMap::new(),
            possible: BTreeMap::new(),
            limbo: BTreeMap::new(),
            freed: BTreeSet::new(),
            next_lsn: 0,
            checkpoints: vec![None],
            chances,
            starts: 0,
        }
    }

    fn group(&mut self) -> (u64, Group, Vec<Bytes>) {
        self.groups += 1;
        let count = match self.dice.below(3) {
            0 => 1 + self.dice.below(6),
            _ => 1,
        };
        let bytes = match self.dice.below(40) {
            0 => self.dice.below(200 << 10),
            1..6 => self.dice.below(20 << 10),
            _ => self.dice.below(1 << 10),
        };
        let is_reserved = self.dice.below(4) == 0;
        let body = |index| body(self.groups, index, count as u32, bytes / count);
        let bodies: Vec<Bytes> = (0..count as u32).map(body).collect();
        let records = bodies.iter().map(|body| {
            let at = self.dice.below(body.len());
            let record = Record::of_parts(7, 3, 11, body.slice(..at), body.slice(at..));
            if is_reserved { record.reserved() } else { record }
        });
        let group = Group::new(records.collect::<Vec<_>>()).unwrap();
        (self.groups, group, bodies)
    }

    fn step(&mut self) {
        self.now.monotonic_ms += self.dice.below(10_000) as u64;
        self.now.wall_ms += 5;
        match self.dice.below(20) {
            0..12 => self.commit(),
            12..14 => {
                let _ = self.core.tend();
            }
            14..16 => self.writer.as_mut().unwrap().mark(self.now),
            16..18 => {
                let segments: Vec<u64> = self.core.table().live.keys().copied().collect();
                if !segments.is_empty() {
                    let segment = segments[self.dice.below(segments.len().min(3))];
                    self.core.free(segment);
                    self.freed.insert(segment);
                }
            }
            _ => self.checkpoint(),
        }
    }

    fn commit(&mut self) {
        let count = 1 + self.dice.below(4);
        let made: Vec<_> = (0..count).map(|_| self.group()).collect();
        let groups: Vec<Group> = made.iter().map(|(_, group, _)| group.clone()).collect();
        for (id, _, bodies) in &made {
            self.possible.insert(*id, bodies.clone());
        }
        let mut told = Vec::new();
        let results = self.writer.as_mut().unwrap().commit(&groups, self.now, &mut |committed| {
            let record = committed.record;
            let body = [&record.head()[..], &record.tail()[..]].concat();
            told.push((committed.lsn, committed.location, Bytes::from(body)));
        });
        let mut reader = crate::reader::Reader::new(Arc::clone(&self.core));
        if let Some((lsn, ..)) = told.first()
            && !self.limbo.is_empty()
        {
            assert_eq!(*lsn, self.next_lsn + self.limbo.len() as u64, "what was found at the start counts now");
            self.next_lsn = *lsn;
            self.told.append(&mut self.limbo);
        }
        for (lsn, location, body) in told {
            assert_eq!(lsn, self.next_lsn, "told in order, without a gap");
            self.next_lsn += 1;
            if !self.disk.is_off()
                && self.dice.below(4) == 0
                && let Ok(read) = reader.read(&location)
            {
                assert!(read == body);
            }
            self.told.insert(lsn, Told { body, segment: location.segment });
        }
        for ((id, _, bodies), result) in made.iter().zip(results) {
            match result {
                Ok(first_lsn) => {
                    self.possible.remove(id);
                    for (lsn, body) in (first_lsn..).zip(bodies) {
                        assert!(self.told[&lsn].body == *body, "group {id}");
                    }
                }
                Err(Refused::ReadOnly) => drop(self.possible.remove(id)),
                Err(Refused::DiskFull | Refused::Unknown) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    fn checkpoint(&mut self) {
        let below = self.next_lsn.saturating_sub(self.dice.below(10) as u64);
        let last = self.checkpoints.iter().flatten().map(|(lsn, _)| *lsn).max().unwrap_or(0);
        let lsn = below.max(last);
        let blob = vec![self.dice.below(256) as u8; self.dice.below(5_000)];
        let asked = Some((lsn, blob.clone()));
        if self.core.checkpoint(lsn, blob).is_ok() {
            self.checkpoints = vec![asked];
        } else {
            self.checkpoints.push(asked);
        }
    }

    fn start(&mut self) {
        loop {
            self.starts += 1;
            if self.dice.below(3) == 0 {
                self.disk.cut_after(self.dice.below(40) as u64);
            }
            self.core = core(&self.disk);
            let opened = Writer::open(Arc::clone(&self.core), random(self.seed ^ (self.starts << 32)), self.now);
            if self.disk.is_off() {
                self.disk.cut();
                continue;
            }
            // What looks on does not lose its power.
            self.disk.cut_after(u64::MAX);
            match opened {
                Ok((writer, recovered)) => {
                    self.check(&writer, &recovered);
                    self.writer = Some(writer);
                    return;
                }
                Err(_) => {
                    assert_ne!(self.chances, Chances::default(), "a start only fails when the disk does");
                    self.now.monotonic_ms += 1;
                }
            }
        }
    }

    fn check(&mut self, writer: &Writer, recovered: &Recovered) {
        assert_eq!(recovered.lost, [], "nothing is rotten");
        assert_eq!(recovered.bad_checkpoints, [0; 0]);
        let checkpoint = recovered.checkpoint.clone().map(|blob| (recovered.from_lsn, blob));
        assert!(self.checkpoints.contains(&checkpoint), "{checkpoint:?} of {:?}", self.checkpoints);
        self.checkpoints = vec![checkpoint];
        let mut found = BTreeMap::new();
        let mut reader = crate::reader::Reader::new(Arc::clone(&self.core));
        self.disk.set_chances(Chances::default());
        let lost = reader.scan(0, &mut |entry| {
            assert_eq!((entry.stream, entry.kind), (7, 3));
            let told = Told { body: entry.body.clone(), segment: entry.location.segment };
            assert!(found.insert(entry.lsn, told).is_none(), "lsn {} twice", entry.lsn);
        });
        assert_eq!(lost.unwrap(), []);
        self.disk.set_chances(self.chances);
        for (lsn, told) in &self.told {
            match found.get(lsn) {
                Some(there) => {
                    assert!(there.body == told.body, "lsn {lsn}: {:?}, not {:?}", stamp(&there.body), stamp(&told.body))
                }
                None => assert!(self.freed.contains(&told.segment), "lsn {lsn} of segment {} is gone", told.segment),
            }
        }
        // What nobody was told of: whole groups, after everything else.
        let more: Vec<(u64, Bytes)> = found
            .iter()
            .filter(|(lsn, _)| **lsn >= self.next_lsn)
            .map(|(lsn, told)| (*lsn, told.body.clone()))
            .collect();
        let mut at = 0;
        while at < more.len() {
            let (group, index, count) = stamp(&more[at].1);
            assert_eq!(index, 0, "a group begins with its first record");
            let bodies = self.possible.get(&group).unwrap_or_else(|| panic!("group {group} came out of nowhere"));
            assert_eq!(bodies.len(), count as usize);
            for (offset, body) in bodies.iter().enumerate() {
                let (lsn, there) = more.get(at + offset).expect("all of a group, or nothing");
                assert_eq!(*lsn, self.next_lsn + (at + offset) as u64);
                assert!(there == body, "lsn {lsn}");
            }
            at += bodies.len();
        }
        assert_eq!(recovered.next_lsn, self.next_lsn + more.len() as u64);
        assert!(found.keys().all(|lsn| self.told.contains_key(lsn) || *lsn >= self.next_lsn), "out of nowhere");
        // What is there and not durable yet may still go.
        let settled = if writer.is_read_only() { self.next_lsn } else { recovered.next_lsn };
        if !writer.is_read_only() {
            self.possible.clear();
        }
        self.limbo = found.split_off(&settled);
        self.next_lsn = settled;
        // It may have moved to another segment; the one it was in, freed or not, holds it no more.
        self.told.append(&mut found);
    }

    fn run(&mut self) {
        self.disk.set_chances(self.chances);
        for _ in 0..CUTS_PER_WORLD {
            self.start();
            if self.dice.below(4) > 0 {
                self.disk.cut_after(self.dice.below(250) as u64);
            }
            for _ in 0..self.dice.below(STEPS_MAX) {
                self.step();
                if self.disk.is_off() {
                    break;
                }
            }
            self.writer = None;
            match self.disk.is_off() || self.dice.below(2) == 0 {
                true => self.disk.cut(),
                false => self.disk.kill(),
            }
        }
        self.start();
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}

/// Runs worlds until one fails, and says which.
fn worlds(run: impl Fn(u64)) {
    if let Some(seed) = setting("GAFKA_SIM_SEED") {
        return run(seed);
    }
    let until = setting("GAFKA_SIMULATION_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let count = setting("GAFKA_SIMULATION_WORLDS").unwrap_or(WORLDS);
    for seed in 0.. {
        if until.map_or(seed >= count, |until| Instant::now() > until) {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("simulation failed with GAFKA_SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn what_was_told_survives_everything_but_rot() {
    worlds(|seed| World::new(seed).run());
}

/// Whatever the disk holds, what fitted once fits again when all of it is settled: a next segment that is longer than the room
/// is made shorter.
#[test]
fn a_full_disk_takes_records_again_when_what_it_kept_is_settled() {
    // The newest segment stays until there is another: two of the shortest, and a page.
    for capacity in (17..=120).map(|pages| pages * PAGE_BYTES) {
        let disk = Arc::new(SimulatedDisk::new(capacity as u64));
        disk.set_capacity(capacity as u64);
        let core = core(&disk);
        let mut now = Now { wall_ms: 1_000_000, monotonic_ms: 1 };
        let (mut writer, _) = Writer::open(Arc::clone(&core), random(7), now).unwrap();
        let mut fits = Vec::new();
        for round in 0..4 {
            let (mut kept, mut next_lsn) = (0, 0);
            loop {
                now.monotonic_ms += 1_000;
                let group = Group::new([Record::new(7, 3, 11, vec![1; 3_000])]).unwrap();
                let result = writer.commit(&[group], now, &mut |told| next_lsn = told.lsn + 1);
                match result[0] {
                    Ok(_) => kept += 1,
                    Err(Refused::DiskFull) => break,
                    Err(refused) => panic!("{capacity} bytes, round {round}: {refused:?}"),
                }
            }
            fits.push(kept);
            // What settles them has its room.
            let settles = Group::new([Record::new(7, 4, 11, vec![1; 100]).reserved()]).unwrap();
            let settled = writer.commit(&[settles], now, &mut |told| next_lsn = told.lsn + 1);
            assert!(kept == 0 || settled[0].is_ok(), "{capacity} bytes, round {round}: {settled:?}");
            let segments: Vec<u64> = core.table().live.keys().copied().collect();
            segments.into_iter().for_each(|segment| core.free(segment));
            for _ in 0..2 {
                let _ = core.checkpoint(next_lsn, Vec::new());
            }
            let _ = core.tend();
        }
        assert!(fits.iter().all(|kept| *kept > 0), "{capacity} bytes: {fits:?}");
    }
}

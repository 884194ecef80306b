//! The committing side: groups in, blocks out, durable when it says so. No thread and no clock of its own.
//!
//! ```text
//!   groups ─► blocks ─► write … write ─► persist ─► durable: told in lsn order
//!                │ the segment is full: persist, seal, next one       │ failed: the file is poisoned, what was not durable
//!                ▼                                                    ▼ is written again to a fresh one, from memory
//! ```
//!
//! Invariants:
//! - Nothing is told durable before a persist that covers it succeeded, and a segment is left only when all of it is durable.
//! - A file of which a write or persist failed is never written or persisted again; its successor says where it ends.
//! - Within `poison_again_within` of such a failure a second one makes the journal read-only: no more fresh files, which a
//!   dying disk would eat. After `read_only_pause` it tries once more. What was not told durable is void then, or unknown
//!   after a restart.
//! - No room is no failure: ordinary groups are refused, reserved ones go on as long as the reserve lasts.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use disk::File;
use tracing::{error, info, warn};

use crate::config::{Config, Now, Random};
use crate::core::{Core, Live, Moved, is_full, names};
use crate::format::block::{BlockHeader, HEADER_BYTES, bodies_begin, body_room};
use crate::format::checkpoint::Extent;
use crate::format::id::Identity;
use crate::format::pages;
use crate::format::segment::{BLOCKS_BEGIN, BlockKey, End, OVERHEAD_BYTES, SegmentHeader};
use crate::fresh::{Fresh, Place, Placed, Staging, persist, write_block};
use crate::limits::{BLOCK_BYTES_TARGET, COMMIT_BYTES_MAX};
use crate::record::{self, Committed, Group, Location};
use crate::recovery::{self, Recovered, Resume};
use crate::refused::{OpenError, Refused};

/// See the module.
pub(crate) struct Writer {
    core: Arc<Core>,
    random: Random,
    /// Of the next record that is written; the first that is not durable.
    next_lsn: u64,
    durable_lsn: u64,
    /// What the next block is chained to.
    hash: u64,
    active: Option<Active>,
    /// Where the last segment validly, durably ends.
    tail: End,
    next_segment: u64,
    next_bytes: u64,
    /// When the medium failed last.
    failed_ms: Option<u64>,
    read_only: Option<ReadOnly>,
    /// There is a record that no watermark covers.
    is_unmarked: bool,
    staging: Staging,
}

struct Active {
    file: File,
    header: SegmentHeader,
    key: BlockKey,
    position: u64,
}

impl Active {
    /// Room for records. The last page for blocks is kept for a mark, so that an orderly close always finds one.
    fn left(&self) -> u64 {
        (self.header.blocks_end() - BLOCKS_BEGIN).saturating_sub(self.position)
    }
}

struct ReadOnly {
    until_ms: u64,
    /// The end of the log could not be written again at the start: that comes first.
    must_recover: bool,
}

/// A block that is written and not durable: its groups, by index.
struct Written {
    groups: std::ops::Range<usize>,
    first_lsn: u64,
    next_lsn: u64,
    placed: Placed,
    wall_ms: i64,
}

enum Fault {
    /// No room.
    Full(io::Error),
    /// The medium failed.
    Broken(io::Error),
}

impl Fault {
    fn of(err: io::Error) -> Fault {
        if is_full(&err) { Fault::Full(err) } else { Fault::Broken(err) }
    }
}

type Results = Vec<Option<Result<u64, Refused>>>;

impl Writer {
    /// Recovers, and goes on from there.
    pub fn open(core: Arc<Core>, mut random: Random, now: Now) -> Result<(Writer, Recovered), OpenError> {
        core.config.check();
        let began = Instant::now();
        let (resume, recovered) = recovery::recover(&core, false, &mut random, now)?;
        core.metrics.recovery_ms.set(began.elapsed().as_millis() as u64);
        let next_bytes = core.config.segment_bytes_first;
        let mut writer = Writer {
            core,
            random,
            next_lsn: 0,
            durable_lsn: 0,
            hash: 0,
            active: None,
            tail: End::default(),
            next_segment: 1,
            next_bytes,
            failed_ms: None,
            read_only: None,
            is_unmarked: false,
            staging: Staging::default(),
        };
        writer.resume(resume, now);
        Ok((writer, recovered))
    }

    fn resume(&mut self, resume: Resume, now: Now) {
        let Resume { next_lsn, tail, in_place, next_segment, unfinished } = resume;
        (self.next_lsn, self.durable_lsn, self.hash) = (next_lsn, next_lsn, tail.hash);
        (self.tail, self.next_segment, self.active) = (tail, next_segment, None);
        let Config { segment_bytes_first, segment_bytes_max, read_only_pause, .. } = self.core.config;
        let last = self.core.table().live.values().next_back().map(|live| live.header.clone());
        let doubled = last.as_ref().map_or(segment_bytes_first, |last| last.length * 2);
        self.next_bytes = doubled.clamp(segment_bytes_first, segment_bytes_max);
        if let (true, Some(header)) = (in_place, last) {
            let path = self.core.path(&names::segment(header.number));
            // Not to be had right now: then the log goes on in a new one, which seals this one.
            if let Ok(file) = self.core.disk.open(&path, disk::Open::Segment) {
                self.active = Some(Active { file, key: header.key(), header, position: tail.at });
            }
        }
        self.read_only = unfinished.then(|| {
            let until_ms = now.monotonic_ms + read_only_pause.as_millis() as u64;
            ReadOnly { until_ms, must_recover: true }
        });
        self.core.metrics.read_only.set(u64::from(unfinished));
        self.core.metrics.durable_lsn.set(self.durable_lsn);
        self.look_ahead();
    }

    #[cfg(test)]
    pub fn is_read_only(&self) -> bool {
        self.read_only.is_some()
    }

    /// Commits groups, each whole. `told` hears of every record that has become durable, in lsn order; then the result says
    /// the lsn of each group's first record, or why there is none.
    pub fn commit(
        &mut self,
        groups: &[Group],
        now: Now,
        told: &mut dyn FnMut(Committed<'_>),
    ) -> Vec<Result<u64, Refused>> {
        let mut results: Results = vec![None; groups.len()];
        if self.is_refusing(now) {
            refuse(&mut results, Refused::ReadOnly, |_| true);
        }
        let mut written = Vec::new();
        let mut from = 0;
        while from < groups.len() {
            written.clear();
            let mut fault = self.write(groups, &mut from, &results, &mut written, now).err();
            // What was written is made durable first, whatever stopped it; but a file that failed is left alone.
            if !written.is_empty() && !matches!(fault, Some(Fault::Broken(_))) {
                match self.persist() {
                    Ok(()) => self.tell(groups, &written, &mut results, told),
                    Err(err) => fault = Some(Fault::Broken(err)),
                }
            }
            match fault {
                None => {}
                Some(Fault::Full(err)) => {
                    self.rewind();
                    from = from.min(first_open(&results));
                    let is_ordinary = |at: usize| !groups[at].is_reserved();
                    let some = refuse(&mut results, Refused::DiskFull, is_ordinary);
                    // Reserved groups alone are tried again, once.
                    if some == 0 {
                        warn!(%err, "no room even for what settles others");
                        refuse(&mut results, Refused::DiskFull, |_| true);
                    }
                }
                Some(Fault::Broken(err)) => {
                    self.rewind();
                    from = first_open(&results);
                    if !self.poison(err, now) {
                        refuse(&mut results, Refused::Unknown, |_| true);
                    }
                }
            }
        }
        self.core.metrics.commits.add(1);
        self.count(&results);
        self.look_ahead();
        results.into_iter().map(|result| result.expect("the loop ends when every group has one")).collect()
    }

    /// Writes blocks from group `from` on, as many as one persist shall cover, into one segment.
    fn write(
        &mut self,
        groups: &[Group],
        from: &mut usize,
        results: &Results,
        written: &mut Vec<Written>,
        now: Now,
    ) -> Result<(), Fault> {
        let mut bytes = 0;
        while *from < groups.len() && bytes < COMMIT_BYTES_MAX {
            if results[*from].is_some() {
                *from += 1;
                continue;
            }
            let first = &groups[*from];
            let least = pages(HEADER_BYTES + first.room()) as u64;
            let left = self.active.as_ref().map_or(0, Active::left);
            if left < least && !written.is_empty() {
                return Ok(());
            }
            self.make_id().map_err(Fault::of)?;
            self.admit(first, left, least)?;
            if left < least {
                self.roll(least, now)?;
            }
            let active = self.active.as_mut().expect("rolled");
            let left = active.left();
            // The groups of one block: all that are open and like the first (a full disk is asked for each kind).
            let (mut end, mut room) = (*from, HEADER_BYTES);
            while let Some(group) = groups.get(end) {
                let fits = pages(room + group.room()) as u64 <= left && room < BLOCK_BYTES_TARGET;
                if results[end].is_some() || !fits || group.is_reserved() != first.is_reserved() {
                    break;
                }
                room += group.room();
                end += 1;
            }
            let block = *from..end;
            let header = BlockHeader {
                first_lsn: self.next_lsn,
                previous_hash: self.hash,
                durable_lsn: self.durable_lsn,
                wall_ms: now.wall_ms,
            };
            let place = Place { disk: &*self.core.disk, file: &active.file, key: active.key, offset: active.position };
            let records = groups[block.clone()].iter().flat_map(|group| group.records());
            let placed = write_block(&place, &header, records, &mut self.staging).map_err(Fault::of)?;
            let count: usize = groups[block.clone()].iter().map(|group| group.records().len()).sum();
            active.position = placed.end;
            self.hash = placed.hash;
            self.next_lsn += count as u64;
            bytes += (placed.end - placed.offset) as usize;
            *from = end;
            let (first_lsn, next_lsn, wall_ms) = (header.first_lsn, self.next_lsn, header.wall_ms);
            written.push(Written { groups: block, first_lsn, next_lsn, placed, wall_ms });
        }
        Ok(())
    }

    /// Whether there is room for a group, so that the reserve stays whole for those that may use it.
    fn admit(&self, group: &Group, left: u64, needs: u64) -> Result<(), Fault> {
        if group.is_reserved() {
            return Ok(());
        }
        let reserve = self.core.config.reserve_bytes;
        // What is left of a segment that is too short for the group is left behind.
        let left = if left < needs { 0 } else { left };
        while left + self.core.shelf.room() < needs + reserve {
            // Ahead of time, so that the room is there when what settles others needs it.
            self.core.make_longest_spare(self.lengths(needs.max(reserve)), true).map_err(Fault::of)?;
        }
        Ok(())
    }

    /// How long the next segment may be: on a full disk as short as a first one, or what is needed.
    fn lengths(&self, needs: u64) -> RangeInclusive<u64> {
        let least = self.core.config.segment_bytes_first.max((needs + OVERHEAD_BYTES).next_power_of_two());
        least..=self.next_bytes.max(least)
    }

    /// Leaves the active segment, all of which is durable, for a new one.
    fn roll(&mut self, needs: u64, now: Now) -> Result<(), Fault> {
        assert_eq!(self.next_lsn, self.durable_lsn, "a segment is left when all of it is durable");
        let spare = match self.core.shelf.take(needs + OVERHEAD_BYTES) {
            Some(spare) => spare,
            None => self.core.spare(self.lengths(needs)).map_err(Fault::of)?,
        };
        let number = self.next_segment;
        let header = SegmentHeader {
            salt: (self.random)(),
            journal: self.core.table().id.expect("made above"),
            number,
            first_lsn: self.next_lsn,
            length: spare.bytes,
            previous: self.tail,
            created_ms: now.wall_ms,
        };
        let fresh = Fresh::begin(&self.core, spare.clone(), header).and_then(|fresh| fresh.persist().map(|()| fresh));
        let fresh = match fresh {
            Ok(fresh) => fresh,
            Err(err) => {
                let gone = crate::shelf::Gone { name: spare.name, bytes: spare.bytes, recycle: is_full(&err) };
                self.core.shelf.throw([gone]);
                return Err(Fault::of(err));
            }
        };
        // From here on the segment before may be sealed, whatever comes back.
        self.active = None;
        self.next_segment += 1;
        let (file, header) = fresh.name().map_err(Fault::of)?;
        self.hash = header.hash();
        self.tail = End { segment: number, at: BLOCKS_BEGIN, hash: self.hash };
        let (next_lsn, end, last_hash) = (self.next_lsn, BLOCKS_BEGIN, self.hash);
        let extent = Extent { number, first_lsn: next_lsn, next_lsn, end, last_hash };
        let live = Live { extent, header: header.clone(), is_poisoned: false, is_free: false };
        self.core.table().live.insert(number, live);
        self.next_bytes = (header.length * 2).clamp(self.next_bytes, self.core.config.segment_bytes_max);
        self.active = Some(Active { file, key: header.key(), header, position: BLOCKS_BEGIN });
        Ok(())
    }

    /// The first segment brings the directory and the file `id`.
    fn make_id(&mut self) -> io::Result<()> {
        if self.core.table().id.is_some() {
            return Ok(());
        }
        let dir = &self.core.config.dir;
        match self.core.disk.make_dir(dir) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
            _ => self.core.disk.persist_dir(dir.parent().unwrap_or(dir))?,
        }
        let identity = Identity { id: (self.random)(), name: self.core.config.node.clone() };
        self.core.write_whole(names::ID_TEMPORARY, names::ID, identity.encode())?;
        self.core.table().id = Some(identity.id);
        Ok(())
    }

    fn persist(&mut self) -> io::Result<()> {
        let active = self.active.as_ref().expect("something was written to it");
        let began = Instant::now();
        persist(&*self.core.disk, &active.file, self.tail.at)?;
        let us = began.elapsed().as_micros() as u64;
        let metrics = &self.core.metrics;
        metrics.persists.add(1);
        metrics.persist_us_sum.add(us);
        metrics.persist_us_max.at_least(us);
        self.durable_lsn = self.next_lsn;
        self.tail = End { segment: active.header.number, at: active.position, hash: self.hash };
        metrics.durable_lsn.set(self.durable_lsn);
        let mut table = self.core.table();
        table.durable_lsn = self.durable_lsn;
        let live = table.live.get_mut(&self.tail.segment).expect("the active segment is live");
        // Said of what was in it before.
        live.is_free &= live.extent.next_lsn == self.durable_lsn;
        live.extent.next_lsn = self.durable_lsn;
        live.extent.end = self.tail.at;
        live.extent.last_hash = self.tail.hash;
        Ok(())
    }

    /// Back to what is durable: what was written after it is void, and is written over, or sealed off.
    fn rewind(&mut self) {
        self.next_lsn = self.durable_lsn;
        self.hash = self.tail.hash;
        if let Some(active) = &mut self.active {
            active.position = self.tail.at;
        }
    }

    fn tell(
        &mut self,
        groups: &[Group],
        written: &[Written],
        results: &mut Results,
        told: &mut dyn FnMut(Committed<'_>),
    ) {
        self.is_unmarked = true;
        let segment = self.tail.segment;
        let (mut records, mut bytes) = (0, 0);
        for Written { groups: range, first_lsn, next_lsn, placed, wall_ms } in written {
            let mut lsn = *first_lsn;
            let mut at = placed.offset as usize + bodies_begin((next_lsn - first_lsn) as usize);
            for group in range.clone() {
                results[group] = Some(Ok(lsn));
                for record in groups[group].records() {
                    let body_bytes = record.body_bytes();
                    let (offset, body_crc) = (at as u32, record.body_crc);
                    let location = Location { segment, offset, bytes: body_bytes as u32, body_crc };
                    let (block, index) = (placed.offset as u32, (lsn - first_lsn) as u32);
                    let place = record::Place { segment, block, index };
                    told(Committed { lsn, location, place, wall_ms: *wall_ms, record });
                    at += body_room(body_bytes);
                    lsn += 1;
                    bytes += body_bytes as u64;
                }
            }
            assert_eq!(lsn, *next_lsn);
            records += next_lsn - first_lsn;
        }
        self.core.metrics.blocks.add(written.len() as u64);
        self.core.metrics.records.add(records);
        self.core.metrics.record_bytes.add(bytes);
    }

    /// The medium failed. Whether to go on, in a fresh segment.
    fn poison(&mut self, err: io::Error, now: Now) -> bool {
        self.core.metrics.poisoned.add(1);
        let segment = self.active.take().map(|active| active.header.number);
        if let Some(number) = segment
            && let Some(live) = self.core.table().live.get_mut(&number)
        {
            live.is_poisoned = true;
        }
        let within = self.core.config.poison_again_within.as_millis() as u64;
        let again = self.failed_ms.replace(now.monotonic_ms).is_some_and(|last| now.monotonic_ms < last + within);
        let durable_lsn = self.durable_lsn;
        if again {
            error!(%err, segment, durable_lsn, "the disk of the journal failed again: read-only; look at the disk");
            let until_ms = now.monotonic_ms + self.core.config.read_only_pause.as_millis() as u64;
            self.read_only = Some(ReadOnly { until_ms, must_recover: false });
            self.core.metrics.read_only.set(1);
        } else {
            error!(%err, segment, durable_lsn, "the disk of the journal failed: going on in a fresh segment");
        }
        !again
    }

    /// Whether nothing can be written; tries to leave that state when the pause is over.
    fn is_refusing(&mut self, now: Now) -> bool {
        let Some(read_only) = &self.read_only else { return false };
        if now.monotonic_ms < read_only.until_ms {
            return true;
        }
        self.reopen(now).is_err()
    }

    /// Leaves the read-only state, as its user or the pause asks. The next failure brings it back.
    pub fn reopen(&mut self, now: Now) -> Result<(), OpenError> {
        let Some(read_only) = self.read_only.take() else { return Ok(()) };
        let pause_ms = self.core.config.read_only_pause.as_millis() as u64;
        self.core.metrics.read_only.set(0);
        if !read_only.must_recover {
            info!("the journal tries its disk again");
            return Ok(());
        }
        // What the user has freed, and where it believes the end of the log to be.
        let before: Vec<(u64, bool)> = {
            let table = self.core.table();
            table.live.iter().map(|(number, live)| (*number, live.is_free)).collect()
        };
        let until_ms = now.monotonic_ms + pause_ms;
        match recovery::recover(&self.core, true, &mut self.random, now) {
            Ok((resume, _)) => {
                self.resume(resume, now);
                let mut table = self.core.table();
                let to = self.tail.segment;
                table.moved = before.last().filter(|(from, _)| *from != to).map(|(from, is_free)| Moved {
                    from: *from,
                    to,
                    from_is_free: *is_free,
                });
                for (number, is_free) in before {
                    table.live.entry(number).and_modify(|live| live.is_free = is_free);
                }
                drop(table);
                match self.read_only {
                    Some(_) => Err(OpenError::Io {
                        what: "write the end of the log again in",
                        path: self.core.config.dir.clone(),
                        source: io::ErrorKind::StorageFull.into(),
                    }),
                    None => Ok(()),
                }
            }
            Err(err) => {
                self.read_only = Some(ReadOnly { until_ms, must_recover: true });
                self.core.metrics.read_only.set(1);
                Err(err)
            }
        }
    }

    /// Writes a mark, when there is a record that no watermark covers: at a close, and when the log has been idle. Without
    /// it, rot in the last commit would look like a torn tail. A failure is the next commit's to find.
    pub fn mark(&mut self, now: Now) {
        if !std::mem::take(&mut self.is_unmarked) || self.read_only.is_some() {
            return;
        }
        let Some(active) = &mut self.active else { return };
        if active.header.blocks_end() - active.position < BLOCKS_BEGIN {
            return;
        }
        let lsn = self.durable_lsn;
        let header = BlockHeader { first_lsn: lsn, previous_hash: self.hash, durable_lsn: lsn, wall_ms: now.wall_ms };
        let place = Place { disk: &*self.core.disk, file: &active.file, key: active.key, offset: active.position };
        let marked = match write_block(&place, &header, [].iter(), &mut self.staging) {
            Ok(placed) => {
                active.position = placed.end;
                self.hash = placed.hash;
                self.persist().map_err(Fault::Broken)
            }
            Err(err) => Err(Fault::of(err)),
        };
        match marked {
            Ok(()) => self.core.metrics.marks.add(1),
            Err(Fault::Full(_)) => self.rewind(),
            Err(Fault::Broken(err)) => {
                self.rewind();
                self.poison(err, now);
            }
        }
    }

    /// Has the next segment made ahead, once the active one is half full.
    fn look_ahead(&self) {
        let is_half_full = |active: &Active| active.position > active.header.length / 2;
        let wanted = if self.active.as_ref().is_some_and(is_half_full) { self.next_bytes } else { 0 };
        self.core.shelf.want(wanted);
        let table = self.core.table();
        let metrics = &self.core.metrics;
        metrics.segments.set(table.live.len() as u64);
        metrics.segment_bytes.set(table.live.values().map(|live| live.header.length).sum());
        metrics.spares.set(self.core.shelf.count() as u64);
        metrics.spare_bytes.set(self.core.shelf.bytes());
    }

    fn count(&self, results: &Results) {
        let metrics = &self.core.metrics;
        for result in results.iter().flatten() {
            match result {
                Ok(_) => metrics.groups.add(1),
                Err(Refused::DiskFull) => metrics.refused_disk_full.add(1),
                Err(Refused::ReadOnly) => metrics.refused_read_only.add(1),
                Err(_) => metrics.refused_unknown.add(1),
            }
        }
    }
}

fn first_open(results: &Results) -> usize {
    results.iter().position(Option::is_none).unwrap_or(results.len())
}

/// Refuses all groups that are open and match; returns how many.
fn refuse(results: &mut Results, why: Refused, matches: impl Fn(usize) -> bool) -> usize {
    let open = results.iter_mut().enumerate().filter(|(at, result)| result.is_none() && matches(*at));
    open.map(|(_, result)| *result = Some(Err(why))).count()
}

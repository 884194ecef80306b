//! From a directory, in whatever state, to where the log goes on (`wal/FORMAT.md`, "Recovery").
//!
//! Nothing is touched before every file is known to be of a version we understand. Then each step can be cut off and done
//! again: names are persisted as found, a new segment appears whole or not at all, and what is rotten is copied before
//! anything else could use its place.

pub(crate) mod inventory;
pub(crate) mod quarantine;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;

use disk::Open;
use tracing::{error, info, warn};

use crate::config::{Now, Random};
use crate::core::{Core, Live, Needs, Table, names};
use crate::format::block::{Block, BlockHeader};
use crate::format::checkpoint::{Checkpoint, Extent};
use crate::format::id::Identity;
use crate::format::segment::{BLOCKS_BEGIN, End, SegmentHeader};
use crate::fresh::{Fresh, Staging, write_block};
use crate::record::Record;
use crate::refused::OpenError;
use crate::shelf::{Gone, Spare};
use crate::walk::{self, Gap, Verdict, Witness};
use inventory::Inventory;

/// Lsns that were acknowledged and cannot be read: the medium has lost them. Told at every start while their place is in
/// what is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub from_lsn: u64,
    /// The first that is not lost. When a whole segment's header is rotten, an upper bound.
    pub to_lsn: u64,
    pub segment: u64,
    /// Where in the segment; a copy is in `quarantine/`.
    pub at: u64,
    pub bytes: u64,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Replay from here.
    pub from_lsn: u64,
    /// What the user put into the checkpoint of that lsn; `None`: there is none that is good.
    pub checkpoint: Option<Vec<u8>>,
    /// The lsn the next record gets.
    pub next_lsn: u64,
    pub lost: Vec<Lost>,
    /// Blocks nobody was told of were torn, and are not believed.
    pub torn: bool,
    /// Records that may not have been durable and were written again.
    pub rewritten: u64,
    /// Checkpoints that are rotten; an older one was used.
    pub bad_checkpoints: Vec<u64>,
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resume {
    pub next_lsn: u64,
    /// What the next segment seals, and the next block is chained to.
    pub tail: End,
    /// The log goes on in the segment of `tail`.
    pub in_place: bool,
    pub next_segment: u64,
    /// There was no room to write the tail again: read-only, recover again later.
    pub unfinished: bool,
}

/// Recovers. On a new or empty directory nothing is made. `again`: the journal is open, so that its user knows where
/// records lie.
pub(crate) fn recover(
    core: &Core,
    again: bool,
    random: &mut Random,
    now: Now,
) -> Result<(Resume, Recovered), OpenError> {
    let Some(found) = inventory::take(core)? else {
        core.shelf.reset(Vec::new(), Vec::new(), 0);
        *core.table() = Table::default();
        return Ok((Resume { next_segment: 1, ..Resume::default() }, Recovered::default()));
    };
    let io = |what| move |source| OpenError::Io { what, path: core.config.dir.clone(), source };
    core.persist_dir().map_err(io("persist the names in"))?;
    for name in &found.temporary {
        core.disk.remove(&core.path(name)).map_err(io("remove a temporary file from"))?;
    }
    let mut recovery = Recovery { core, again, found: &found, recovered: Recovered::default(), live: BTreeMap::new() };
    let (resume, _) = recovery.run(random, now).map_err(io("recover the journal in"))?;
    Ok((resume, recovery.recovered))
}

/// What is there, what a recovery would say, and segments whose header is rotten; nothing is touched. `None`: there is no
/// journal.
pub(crate) fn look(core: &Core) -> Result<Option<(Inventory, Recovered, Vec<u64>)>, OpenError> {
    assert!(core.is_looking);
    let Some(found) = inventory::take(core)? else { return Ok(None) };
    let mut recovery =
        Recovery { core, again: false, found: &found, recovered: Recovered::default(), live: BTreeMap::new() };
    let mut no_salts: Random = Box::new(|| unreachable!("who only looks makes no segment"));
    let io = |source| OpenError::Io { what: "look at the journal in", path: core.config.dir.clone(), source };
    let (_, rotten) = recovery.run(&mut no_salts, Now::default()).map_err(io)?;
    let recovered = recovery.recovered;
    Ok(Some((found, recovered, rotten)))
}

struct Recovery<'a> {
    core: &'a Core,
    again: bool,
    found: &'a Inventory,
    recovered: Recovered,
    live: BTreeMap<u64, Live>,
}

/// What is known of a segment from elsewhere.
struct Known {
    end: u64,
    witnesses: Vec<Witness>,
    durable_lsn: u64,
}

impl Recovery<'_> {
    /// Where the log goes on, and the segments whose header is rotten.
    fn run(&mut self, random: &mut Random, now: Now) -> io::Result<(Resume, Vec<u64>)> {
        let Inventory { checkpoints, headers, .. } = self.found;
        let needs: Vec<Needs> = checkpoints.iter().map(Needs::of).collect();
        let newest = checkpoints.last();
        // Without any good checkpoint where there were some: from what is left, which is all there can be.
        let oldest_lsn = headers.first_key_value().map_or(0, |(_, header)| header.first_lsn);
        let floor = if self.found.had_checkpoints { oldest_lsn } else { 0 };
        self.recovered.from_lsn = newest.map_or(floor, |checkpoint| checkpoint.lsn);
        self.recovered.checkpoint = newest.map(|checkpoint| checkpoint.blob.clone());
        self.recovered.bad_checkpoints.clone_from(&self.found.bad_checkpoints);
        for number in &self.found.bad_checkpoints {
            quarantine::set_aside(self.core, &names::checkpoint(*number))?;
        }

        let (seals, void) = self.found.seals();
        let let_go =
            |number: u64| needs.len() >= 2 && needs[needs.len() - 2..].iter().all(|needs| needs.lets_go(number));
        let mut gone = Vec::new();
        let mut rotten = Vec::new();
        for (number, bytes) in &self.found.segments {
            let is_gone = void.contains(number) || let_go(*number);
            match headers.get(number) {
                Some(_) if is_gone => gone.push(Gone { name: names::segment(*number), bytes: *bytes, recycle: true }),
                Some(header) => {
                    let extent = self.walk(*number, header, &seals, newest)?;
                    self.live.insert(*number, extent);
                }
                None if is_gone => gone.push(Gone { name: names::segment(*number), bytes: *bytes, recycle: false }),
                None => rotten.push((*number, *bytes)),
            }
        }
        let spares = self.found.spares.iter().map(|(name, bytes)| Spare { name: name.clone(), bytes: *bytes });
        self.core.shelf.reset(spares.collect(), gone, self.found.last_spare);
        let resume = self.finish(&seals, newest, &rotten, random, now)?;
        self.set_table(&needs, &resume);
        for (number, _) in &rotten {
            quarantine::set_aside(self.core, &names::segment(*number))?;
        }
        self.rescue_id();
        self.core.metrics.lost_records.add(self.recovered.lost.iter().map(|lost| lost.to_lsn - lost.from_lsn).sum());
        Ok((resume, rotten.into_iter().map(|(number, _)| number).collect()))
    }

    /// Takes a segment's extent from the checkpoint, when replay begins after it; else from its blocks.
    fn walk(
        &mut self,
        number: u64,
        header: &SegmentHeader,
        seals: &BTreeMap<u64, (End, u64)>,
        newest: Option<&Checkpoint>,
    ) -> io::Result<Live> {
        let known = self.known(number, header, seals, newest);
        let live = |extent| Live { extent, header: header.clone(), is_poisoned: false, is_free: false };
        if let Some(extent) = closed_in(&self.found.checkpoints, number)
            && extent.next_lsn <= self.recovered.from_lsn
        {
            return Ok(live(extent));
        }
        let verdict = self.judge(number, header, &known)?;
        self.note_gap_before(number, header);
        self.note_gaps(number, &verdict)?;
        self.recovered.torn |= verdict.leftovers && !seals.contains_key(&number);
        Ok(live(extent_of(number, header, &verdict)))
    }

    fn known(
        &self,
        number: u64,
        header: &SegmentHeader,
        seals: &BTreeMap<u64, (End, u64)>,
        newest: Option<&Checkpoint>,
    ) -> Known {
        let mut known = Known { end: header.blocks_end(), witnesses: Vec::new(), durable_lsn: 0 };
        if let Some(checkpoint) = newest {
            let is_last = self.found.headers.keys().next_back() == Some(&number);
            if is_last {
                known.durable_lsn = checkpoint.lsn;
            }
            if let Some(extent) = checkpoint.segments.iter().find(|extent| extent.number == number) {
                known.witnesses.push(Witness { hash: extent.last_hash, lsn: extent.next_lsn });
                known.durable_lsn = known.durable_lsn.max(extent.next_lsn);
            }
        }
        // The successor may have been let go, so that only the checkpoint knows.
        if let Some(extent) = closed_in(&self.found.checkpoints, number) {
            known.end = known.end.min(extent.end);
        }
        if let Some((end, lsn)) = seals.get(&number) {
            known.end = known.end.min(end.at);
            known.witnesses.push(Witness { hash: end.hash, lsn: *lsn });
            known.durable_lsn = *lsn;
        }
        known
    }

    fn judge(&self, number: u64, header: &SegmentHeader, known: &Known) -> io::Result<Verdict> {
        let file = self.core.open_to_read(&self.core.path(&names::segment(number)))?;
        let bytes = self.core.read_or_zeros(&file, 0, known.end as usize)?;
        let nodes = walk::nodes(&bytes, header);
        Ok(walk::judge(header, nodes, &known.witnesses, known.durable_lsn, known.end))
    }

    /// Whole segments may be missing between this one and the one before.
    fn note_gap_before(&mut self, number: u64, header: &SegmentHeader) {
        let before = self.live.values().next_back().map_or(0, |live| live.extent.next_lsn);
        let from_lsn = before.max(self.recovered.from_lsn);
        if header.first_lsn > from_lsn {
            self.lost(Lost { from_lsn, to_lsn: header.first_lsn, segment: number - 1, at: 0, bytes: 0 });
        }
    }

    fn note_gaps(&mut self, number: u64, verdict: &Verdict) -> io::Result<()> {
        for Gap { from_lsn, to_lsn, at, bytes } in &verdict.gaps {
            let (from_lsn, to_lsn, at, bytes) = (*from_lsn, *to_lsn, *at, *bytes);
            self.lost(Lost { from_lsn, to_lsn, segment: number, at, bytes });
            quarantine::copy(self.core, number, at, bytes)?;
        }
        Ok(())
    }

    fn lost(&mut self, lost: Lost) {
        let Lost { from_lsn, to_lsn, segment, at, bytes } = lost;
        match self.recovered.lost.last_mut() {
            // Records of one block, one after the other.
            Some(last) if last.to_lsn == from_lsn && last.segment == segment && last.at == at => last.to_lsn = to_lsn,
            _ => {
                error!(from_lsn, to_lsn, segment, at, bytes, "acknowledged records are rotten; the rest goes on");
                self.recovered.lost.push(lost);
            }
        }
    }

    /// Decides where the log goes on, and writes again what may not be durable.
    fn finish(
        &mut self,
        seals: &BTreeMap<u64, (End, u64)>,
        newest: Option<&Checkpoint>,
        rotten: &[(u64, u64)],
        random: &mut Random,
        now: Now,
    ) -> io::Result<Resume> {
        let mut resume = Resume { next_segment: self.found.highest_segment() + 1, ..Resume::default() };
        let last = self.live.values().next_back().cloned();
        if let Some(last) = &last {
            let Extent { number, next_lsn, end, last_hash, .. } = last.extent;
            let known = self.known(number, &last.header, seals, newest);
            let verdict = self.judge(number, &last.header, &known)?;
            resume.next_lsn = next_lsn;
            resume.tail = End { segment: number, at: end, hash: last_hash };
            let is_newest = rotten.iter().all(|(rotten, _)| *rotten < number);
            match verdict.continues() {
                Some((at, hash)) if is_newest => {
                    resume.in_place = true;
                    resume.tail = End { segment: number, at, hash };
                }
                _ => match self.write_again(last, &verdict, resume.next_segment, random, now) {
                    Ok(None) => {}
                    Ok(Some(moved)) => resume = moved,
                    // A disk that is full, or breaks right here, is no reason not to start.
                    Err(err) => {
                        warn!(%err, "the end of the log cannot be written again; the journal is read-only for now");
                        resume.unfinished = true;
                        // Its number is used up, if only for a moment.
                        resume.next_segment += 1;
                    }
                },
            }
        }
        resume.next_lsn = resume.next_lsn.max(self.recovered.from_lsn);
        let last_number = last.map_or(0, |last| last.extent.number);
        for (number, bytes) in rotten.iter().filter(|(number, _)| *number > last_number) {
            let (from_lsn, to_lsn) = (resume.next_lsn, resume.next_lsn + bytes / 16);
            self.lost(Lost { from_lsn, to_lsn, segment: *number, at: 0, bytes: *bytes });
            resume.next_lsn = to_lsn;
            resume.in_place = false;
        }
        self.recovered.next_lsn = resume.next_lsn;
        Ok(resume)
    }

    /// Moves the blocks that no watermark covers into a fresh segment. `None`: there are none.
    fn write_again(
        &mut self,
        last: &Live,
        verdict: &Verdict,
        number: u64,
        random: &mut Random,
        now: Now,
    ) -> io::Result<Option<Resume>> {
        let first = verdict.believed.iter().position(|node| node.next_lsn > verdict.durable_lsn);
        let Some(first) = first else { return Ok(None) };
        let core = self.core;
        if core.is_looking {
            self.recovered.rewritten =
                verdict.believed[first..].iter().map(|node| node.next_lsn - node.first_lsn).sum();
            return Ok(None);
        }
        let first_lsn = verdict.believed[first].first_lsn;
        let (at, hash) = match first.checked_sub(1) {
            Some(before) => (verdict.believed[before].end, verdict.believed[before].hash),
            None => (BLOCKS_BEGIN, last.header.hash()),
        };
        // Nothing would be left of the segment: then it is void, or each of many starts would leave one.
        let is_void = first == 0 && first_lsn == last.header.first_lsn && !self.again;
        let previous = if is_void { last.header.previous } else { End { segment: last.extent.number, at, hash } };

        let length = last.header.length;
        let spare = core.spare(length..=length)?;
        let (salt, journal, length) = (random(), last.header.journal, spare.bytes);
        let created_ms = now.wall_ms;
        let header = SegmentHeader { salt, journal, number, first_lsn, length, previous, created_ms };
        let fresh = Fresh::begin(core, spare, header)?;
        let file = core.disk.open(&core.path(&names::segment(last.extent.number)), Open::Existing)?;
        let (mut offset, mut hash, mut staging) = (BLOCKS_BEGIN, fresh.header.hash(), Staging::default());
        for node in &verdict.believed[first..] {
            let bytes = core.disk.read(&file, node.offset, (node.end - node.offset) as usize)?;
            let block = Block::decode(&bytes, last.header.key(), node.offset).map_err(io::Error::other)?;
            let record = |(_, row, begin): (u64, crate::format::block::Row, usize)| {
                Record::of_row(&row, bytes.slice(begin..begin + row.body_bytes as usize))
            };
            let records: Vec<Record> = block.records().map(record).collect();
            let header = BlockHeader {
                first_lsn: node.first_lsn,
                previous_hash: hash,
                durable_lsn: first_lsn,
                wall_ms: block.header.wall_ms,
            };
            let placed = write_block(&fresh.place(offset), &header, records.iter(), &mut staging)?;
            (offset, hash) = (placed.end, placed.hash);
            self.recovered.rewritten += records.len() as u64;
        }
        // True once the file has its name, before which nobody reads it.
        let next_lsn = verdict.next_lsn;
        let mark =
            BlockHeader { first_lsn: next_lsn, previous_hash: hash, durable_lsn: next_lsn, wall_ms: now.wall_ms };
        // Blocks of ours leave it room.
        if offset + BLOCKS_BEGIN <= fresh.header.blocks_end() {
            write_block(&fresh.place(offset), &mark, [].iter(), &mut staging)?;
        }
        fresh.persist()?;
        let (_, header) = fresh.name().inspect_err(|_| {
            // Users are told where records lie as before this; so they had better lie there.
            if let Err(err) = core.disk.remove(&core.path(&names::segment(number))) {
                warn!(%err, segment = number, "a segment that may not be durable cannot be removed");
            }
        })?;
        info!(records = self.recovered.rewritten, segment = number, "the end of the log was written again");

        if is_void {
            self.live.remove(&last.extent.number);
            let name = names::segment(last.extent.number);
            core.shelf.throw([Gone { name, bytes: last.header.length, recycle: true }]);
        } else if let Some(live) = self.live.get_mut(&last.extent.number) {
            live.extent = Extent { next_lsn: first_lsn, end: at, last_hash: previous.hash, ..live.extent };
        }
        let extent = Extent { number, first_lsn, next_lsn, end: offset, last_hash: hash };
        self.live.insert(number, Live { extent, header, is_poisoned: false, is_free: false });
        let tail = End { segment: number, at: offset, hash };
        Ok(Some(Resume { next_lsn, tail, in_place: true, next_segment: number + 1, unfinished: false }))
    }

    fn set_table(&mut self, needs: &[Needs], resume: &Resume) {
        for live in self.live.values_mut() {
            live.is_free = live.extent.first_lsn == live.extent.next_lsn;
        }
        // A mark that the next block replaces is not part of it.
        if let Some(last) = self.live.get_mut(&resume.tail.segment) {
            last.extent.end = resume.tail.at;
            last.extent.last_hash = resume.tail.hash;
        }
        *self.core.table() = Table {
            id: self.found.id,
            live: std::mem::take(&mut self.live),
            checkpoints: needs.iter().cloned().collect(),
            last_checkpoint: self.found.last_checkpoint,
            durable_lsn: resume.next_lsn,
            is_unfinished: resume.unfinished,
            moved: None,
        };
    }

    /// Writes the file `id` again when it was lost.
    fn rescue_id(&self) {
        if let (Some(id), true, false) = (self.found.id, self.found.id_is_bad, self.core.is_looking) {
            let identity = Identity { id, name: self.core.config.node.clone() };
            if let Err(err) = self.core.write_whole(names::ID_TEMPORARY, names::ID, identity.encode()) {
                warn!(%err, "the file id of the journal is lost and cannot be written again; tried at the next start");
            }
        }
    }
}

/// The extent of a segment that was closed when a checkpoint was written, so that it is final. The newest checkpoint may
/// do without a segment that is kept for the one before.
fn closed_in(checkpoints: &[Checkpoint], number: u64) -> Option<Extent> {
    checkpoints.iter().rev().find_map(|checkpoint| {
        let newest = checkpoint.segments.iter().map(|extent| extent.number).max();
        let mut closed = checkpoint.segments.iter().filter(|extent| Some(extent.number) != newest);
        closed.find(|extent| extent.number == number).copied()
    })
}

fn extent_of(number: u64, header: &SegmentHeader, verdict: &Verdict) -> Extent {
    let Verdict { next_lsn, end, last_hash, .. } = *verdict;
    Extent { number, first_lsn: header.first_lsn, next_lsn, end, last_hash }
}

impl Core {
    /// A file for a segment: the shortest that is ready, or the longest that can be made.
    pub(crate) fn spare(&self, lengths: RangeInclusive<u64>) -> io::Result<Spare> {
        let bytes_min = *lengths.start();
        if let Some(spare) = self.shelf.take(bytes_min) {
            return Ok(spare);
        }
        self.make_longest_spare(lengths, false)?;
        self.shelf.take(bytes_min).ok_or_else(|| io::Error::other("a spare segment was taken as it was made"))
    }
}

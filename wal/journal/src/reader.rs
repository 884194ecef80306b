//! Reading what is durable: one record by its location, or all from an lsn on. Any thread, own file handles.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use disk::File;

use crate::core::{Core, Live, names};
use crate::format::block::{Block, HEADER_BYTES, Row};
use crate::record::{Entry, Location, Place};
use crate::recovery::Lost;
use crate::refused::ReadError;
use crate::run::{Run, Tables, Wanted};
use crate::walk::{self, Gap, Node, Verdict, Witness};

/// Handles kept open. A segment that was let go is closed when it is noticed.
pub(crate) const HANDLES_MAX: usize = 64;

/// One per thread that reads.
pub struct Reader {
    core: Arc<Core>,
    files: HashMap<u64, File>,
    tables: Tables,
}

impl Reader {
    pub(crate) fn new(core: Arc<Core>) -> Reader {
        Reader { core, files: HashMap::new(), tables: Tables::default() }
    }

    /// The body of one record, checked.
    pub fn read(&mut self, location: &Location) -> Result<Bytes, ReadError> {
        let Location { segment, offset, bytes, body_crc } = *location;
        let body = self
            .file(segment)
            .and_then(|file| self.core.disk.read(&file, u64::from(offset), bytes as usize))
            .map_err(|source| ReadError::Io { segment, source });
        // Its file may have become another segment while we read.
        if !self.core.is_live(segment) {
            return Err(self.gone(segment));
        }
        let body = body?;
        match body.len() == bytes as usize && crc32c::crc32c(&body) == body_crc {
            true => Ok(body),
            false => Err(ReadError::Rotten { segment, offset, bytes }),
        }
    }

    /// `count` records from a place on, each checked by its row: a rotten body is an error of that one alone. Fewer when the
    /// block has no more. One read when a run of the same block was read lately, otherwise three.
    pub fn read_run(&mut self, place: Place, count: u32) -> Result<Vec<Result<Entry, ReadError>>, ReadError> {
        let segment = place.segment;
        let key = self.core.table().live.get(&segment).map(|live| live.header.key());
        let run = Run { place, count, key: key.ok_or_else(|| self.gone(segment))? };
        let read = self.read_bytes_of(run);
        // Its file may have become another segment while we read, or nobody's.
        if !self.core.is_live(segment) {
            return Err(self.gone(segment));
        }
        let (wanted, bodies) = read?;
        Ok(wanted.entries(&bodies))
    }

    fn read_bytes_of(&mut self, run: Run) -> Result<(Wanted, Bytes), ReadError> {
        let Place { segment, block, .. } = run.place;
        let io = |source| ReadError::Io { segment, source };
        let file = self.file(segment).map_err(io)?;
        let read = |from: usize, to: usize| match to - from {
            0 => Ok(Bytes::new()),
            bytes => self.core.disk.read(&file, u64::from(block) + from as u64, bytes).map_err(io),
        };
        let wanted = match self.tables.wanted(&run) {
            Some(wanted) => wanted,
            None => {
                let head = read(0, HEADER_BYTES)?;
                self.tables.learn(&run, &read(0, run.table_bytes(&head)?)?)?
            }
        };
        let bodies = wanted.bodies();
        let bodies = read(bodies.start, bodies.end)?;
        Ok((wanted, bodies))
    }

    /// As [`Reader::scan`] of every live segment, with bodies only of the records that `wants` them: the others' are empty.
    pub fn scan_rows(
        &mut self,
        wants: &dyn Fn(&Row) -> bool,
        entry: &mut dyn FnMut(Entry),
    ) -> Result<Vec<Lost>, ReadError> {
        self.scan(0, &mut |found| {
            let row = Row {
                stream: found.stream,
                kind: found.kind,
                flags: found.flags,
                sequence: found.sequence,
                ..Row::default()
            };
            let body = if wants(&row) { found.body.clone() } else { Bytes::new() };
            entry(Entry { body, ..found });
        })
    }

    /// Every durable record from `from_lsn` on, in order, and what is rotten among them.
    pub fn scan(&mut self, from_lsn: u64, entry: &mut dyn FnMut(Entry)) -> Result<Vec<Lost>, ReadError> {
        let live: Vec<Live> = self.core.table().live.values().cloned().collect();
        let mut lost = Vec::new();
        for live in live.iter().filter(|live| live.extent.next_lsn > from_lsn) {
            let (bytes, verdict) = self.verdict(live)?;
            lost.extend(lost_of(live, &verdict).filter(|lost| lost.to_lsn > from_lsn));
            let segment = live.extent.number;
            for node in &verdict.believed {
                let block = Block::decode(&bytes[node.offset as usize..], live.header.key(), node.offset);
                let block = block.expect("it was decoded a moment ago");
                for ((lsn, row, begin), index) in block.records().zip(0..) {
                    if lsn < from_lsn || node.bad.contains(&lsn) {
                        continue;
                    }
                    let begin = node.offset as usize + begin;
                    let (offset, body_crc) = (begin as u32, row.body_crc);
                    entry(Entry {
                        lsn,
                        stream: row.stream,
                        kind: row.kind,
                        flags: row.flags,
                        sequence: row.sequence,
                        location: Location { segment, offset, bytes: row.body_bytes, body_crc },
                        place: Place { segment, block: node.offset as u32, index },
                        wall_ms: block.header.wall_ms,
                        body: bytes.slice(begin..begin + row.body_bytes as usize),
                    });
                }
            }
        }
        Ok(lost)
    }

    /// Checks one segment as far as it is durable. `None`: it is gone meanwhile.
    pub fn scrub(&mut self, segment: u64) -> Result<Option<(u64, Vec<Lost>)>, ReadError> {
        let Some(live) = self.core.table().live.get(&segment).cloned() else { return Ok(None) };
        match self.verdict(&live) {
            Ok((bytes, verdict)) => Ok(Some((bytes.len() as u64, lost_of(&live, &verdict).collect()))),
            Err(ReadError::Gone { .. }) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Live segments, oldest first.
    pub fn segments(&self) -> Vec<u64> {
        self.core.table().live.keys().copied().collect()
    }

    fn verdict(&mut self, live: &Live) -> Result<(Bytes, Verdict), ReadError> {
        let extent = live.extent;
        let segment = extent.number;
        let io = |source| ReadError::Io { segment, source };
        let file = self.file(segment).map_err(io)?;
        let bytes = self.core.read_or_zeros(&file, 0, extent.end as usize).map_err(io)?;
        if !self.core.is_live(segment) {
            return Err(ReadError::Gone { segment });
        }
        let verdict = judge(live, walk::nodes(&bytes, &live.header));
        Ok((bytes, verdict))
    }

    /// Nothing of this segment is needed again.
    fn gone(&mut self, segment: u64) -> ReadError {
        self.files.remove(&segment);
        self.tables.forget(segment);
        ReadError::Gone { segment }
    }

    fn file(&mut self, segment: u64) -> io::Result<File> {
        if let Some(file) = self.files.get(&segment) {
            return Ok(file.clone());
        }
        if self.files.len() >= HANDLES_MAX {
            self.files.clear();
        }
        let file = self.core.open_to_read(&self.core.path(&names::segment(segment)))?;
        self.files.insert(segment, file.clone());
        Ok(file)
    }
}

/// What is believed of a segment, as far as it is durable, whose blocks these are.
pub(crate) fn judge(live: &Live, nodes: Vec<Node>) -> Verdict {
    let extent = live.extent;
    let witness = Witness { hash: extent.last_hash, lsn: extent.next_lsn };
    walk::judge(&live.header, nodes, &[witness], extent.next_lsn, extent.end)
}

pub(crate) fn lost_of(live: &Live, verdict: &Verdict) -> impl Iterator<Item = Lost> {
    let segment = live.extent.number;
    verdict.gaps.iter().map(move |gap| {
        let Gap { from_lsn, to_lsn, at, bytes } = *gap;
        Lost { from_lsn, to_lsn, segment, at, bytes }
    })
}

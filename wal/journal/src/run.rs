//! One request to read, step by step as its bytes come; pure. Who reads them, and how, is the caller's.
//!
//! ```text
//!   block:  header │ table of records │ bodies …
//!           1. HEADER_BYTES: how long is the table   2. up to there: which bodies   3. those, each checked by its row
//! ```
//!
//! A backlog of keyed messages is asked for one or two records at a time, a block's in turn, and a table has some 1600 rows.
//! So [`Tables`] of the last few blocks are kept decoded, and a run of one of those is step 3 alone. A durable block never
//! changes and a segment's number is never used again, so what is kept is never wrong; it only becomes useless.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::format::block::{self, Row, Table};
use crate::format::segment::BlockKey;
use crate::limits::{TABLE_ROWS_KEPT_MAX, TABLES_KEPT_MAX};
use crate::record::{Entry, Location, Place};
use crate::refused::ReadError;

/// Consecutive records of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub place: Place,
    pub count: u32,
    /// Of its segment.
    pub key: BlockKey,
}

impl Run {
    /// Bytes of header and table, of a block that begins with `head`.
    pub fn table_bytes(&self, head: &[u8]) -> Result<usize, ReadError> {
        block::table_end(head).ok_or_else(|| self.rotten(head.len()))
    }

    fn rotten(&self, bytes: usize) -> ReadError {
        ReadError::Rotten { segment: self.place.segment, offset: self.place.block, bytes: bytes as u32 }
    }
}

/// A block's header and table, checked.
#[derive(Debug)]
struct Known {
    wall_ms: i64,
    /// Lsn, row, where the body begins in the block.
    records: Vec<(u64, Row, usize)>,
}

/// Tables of the blocks that were read last. One per reader.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// By segment and block; what was used last is last.
    kept: VecDeque<((u64, u32), Arc<Known>)>,
}

impl Tables {
    /// Which records are to be read. `None`: the table is not known, so it is to be read and [told](Tables::learn).
    pub fn wanted(&mut self, run: &Run) -> Option<Wanted> {
        let block = (run.place.segment, run.place.block);
        // The same block again is the usual case, and the last.
        let at = self.kept.iter().rposition(|(kept, _)| *kept == block)?;
        let (_, known) = self.kept.remove(at)?;
        self.kept.push_back((block, Arc::clone(&known)));
        Some(Wanted::new(run, known))
    }

    /// Which records are to be read, by header and table, which are kept if they are good.
    pub fn learn(&mut self, run: &Run, table: &[u8]) -> Result<Wanted, ReadError> {
        let Run { place, key, .. } = *run;
        let whole = Table::decode(table, key, u64::from(place.block)).map_err(|_| run.rotten(table.len()))?;
        let known = Arc::new(Known { wall_ms: whole.header.wall_ms, records: whole.records().collect() });
        self.kept.push_back(((place.segment, place.block), Arc::clone(&known)));
        while self.kept.len() > TABLES_KEPT_MAX || self.row_count() > TABLE_ROWS_KEPT_MAX {
            self.kept.pop_front();
        }
        Ok(Wanted::new(run, known))
    }

    /// Drops the tables of a segment that is gone.
    pub fn forget(&mut self, segment: u64) {
        self.kept.retain(|((of, _), _)| *of != segment);
    }

    #[cfg(test)]
    pub fn knows(&self, segment: u64, block: u32) -> bool {
        self.kept.iter().any(|(kept, _)| *kept == (segment, block))
    }

    fn row_count(&self) -> usize {
        self.kept.iter().map(|(_, known)| known.records.len()).sum()
    }
}

/// Records whose bodies are still to be read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    place: Place,
    known: Arc<Known>,
    /// Which of them.
    range: Range<usize>,
}

impl Wanted {
    fn new(run: &Run, known: Arc<Known>) -> Wanted {
        let count = known.records.len();
        let begin = count.min(run.place.index as usize);
        let end = count.min(begin.saturating_add(run.count as usize));
        Wanted { place: run.place, known, range: begin..end }
    }

    fn records(&self) -> &[(u64, Row, usize)] {
        &self.known.records[self.range.clone()]
    }

    /// Where the bodies are in the block. Empty when there is nothing to read.
    pub fn bodies(&self) -> Range<usize> {
        match (self.records().first(), self.records().last()) {
            (Some((_, _, begin)), Some((_, last, last_begin))) => *begin..last_begin + last.body_bytes as usize,
            _ => 0..0,
        }
    }

    /// The records, with what was read of [`Wanted::bodies`]; a rotten body is an error of that one alone.
    pub fn entries(self, bodies: &Bytes) -> Vec<Result<Entry, ReadError>> {
        let Place { segment, block, index } = self.place;
        let begin = self.bodies().start;
        let entries = self.records().iter().zip(index..).map(|((lsn, row, at), index)| {
            let offset = block + *at as u32;
            let (at, bytes) = (at - begin, row.body_bytes as usize);
            match bodies.get(at..at + bytes) {
                Some(body) if crc32c::crc32c(body) == row.body_crc => Ok(Entry {
                    lsn: *lsn,
                    stream: row.stream,
                    kind: row.kind,
                    flags: row.flags,
                    sequence: row.sequence,
                    location: Location { segment, offset, bytes: row.body_bytes, body_crc: row.body_crc },
                    place: Place { segment, block, index },
                    wall_ms: self.known.wall_ms,
                    body: bodies.slice(at..at + bytes),
                }),
                _ => Err(ReadError::Rotten { segment, offset, bytes: row.body_bytes }),
            }
        });
        entries.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::block::{BlockHeader, bodies_begin, encode};

    fn run(block: u32) -> Run {
        Run { place: Place { segment: 7, block, index: 0 }, count: 1, key: BlockKey::new(&[1; 16], 7) }
    }

    /// Header and table of a block of so many empty bodies.
    fn table(run: &Run, row_count: usize) -> Vec<u8> {
        let header = BlockHeader { first_lsn: 5, previous_hash: 0, durable_lsn: 5, wall_ms: 1 };
        let mut out = vec![0; bodies_begin(row_count)];
        let (length, offset) = (out.len(), u64::from(run.place.block));
        encode(&header, length, &vec![Row::default(); row_count], run.key, offset, &mut out);
        out
    }

    #[test]
    fn rows_of_all_tables_are_bounded_too() {
        const HALF: usize = TABLE_ROWS_KEPT_MAX / 2;
        for (what, row_counts, kept) in [
            ("as many as there may be", &[HALF, HALF][..], &[true, true][..]),
            ("one row too many", &[HALF, HALF, 1], &[false, true, true]),
            ("one that needs all the room", &[1, 1, TABLE_ROWS_KEPT_MAX], &[false, false, true]),
            ("one that has none", &[1, TABLE_ROWS_KEPT_MAX + 1], &[false, false]),
        ] {
            let mut tables = Tables::default();
            for (run, row_count) in (0..).map(run).zip(row_counts) {
                let wanted = tables.learn(&run, &table(&run, *row_count)).unwrap();
                assert_eq!(wanted.records().len(), 1, "{what}: it is read, kept or not");
            }
            let is_kept = (0..row_counts.len() as u32).map(|block| tables.wanted(&run(block)).is_some());
            assert!(is_kept.eq(kept.iter().copied()), "{what}");
        }
    }

    #[test]
    fn a_table_that_is_rotten_is_not_kept() {
        let (run, mut tables) = (run(0), Tables::default());
        let good = table(&run, 3);
        for at in 0..good.len() {
            let mut rotten = good.clone();
            rotten[at] ^= 1;
            assert!(matches!(tables.learn(&run, &rotten), Err(ReadError::Rotten { .. })), "byte {at}");
            assert!(tables.wanted(&run).is_none(), "byte {at}");
        }
        tables.learn(&run, &good).unwrap();
        assert!(tables.wanted(&run).is_some());
    }
}

//! One request to read, step by step as its bytes come; pure. Who reads them, and how, is the caller's.
//!
//! ```text
//!   block:  header │ table of records │ bodies …
//!           1. HEADER_BYTES: how long is the table   2. up to there: which bodies   3. those, each checked by its row
//! ```

use std::ops::Range;

use bytes::Bytes;

use crate::format::block::{self, Row, Table};
use crate::format::segment::BlockKey;
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

    /// Which records are to be read, by header and table.
    pub fn wanted(&self, table: &[u8]) -> Result<Wanted, ReadError> {
        let Run { place, count, key } = *self;
        let whole = Table::decode(table, key, u64::from(place.block)).map_err(|_| self.rotten(table.len()))?;
        let records = whole.records().skip(place.index as usize).take(count as usize).collect();
        Ok(Wanted { place, wall_ms: whole.header.wall_ms, records })
    }

    fn rotten(&self, bytes: usize) -> ReadError {
        ReadError::Rotten { segment: self.place.segment, offset: self.place.block, bytes: bytes as u32 }
    }
}

/// Records whose bodies are still to be read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    place: Place,
    wall_ms: i64,
    /// Lsn, row, where the body begins in the block.
    records: Vec<(u64, Row, usize)>,
}

impl Wanted {
    /// Where the bodies are in the block. Empty when there is nothing to read.
    pub fn bodies(&self) -> Range<usize> {
        match (self.records.first(), self.records.last()) {
            (Some((_, _, begin)), Some((_, last, last_begin))) => *begin..last_begin + last.body_bytes as usize,
            _ => 0..0,
        }
    }

    /// The records, with what was read of [`Wanted::bodies`]; a rotten body is an error of that one alone.
    pub fn entries(self, bodies: &Bytes) -> Vec<Result<Entry, ReadError>> {
        let Place { segment, block, index } = self.place;
        let begin = self.bodies().start;
        let entries = self.records.iter().zip(index..).map(|((lsn, row, at), index)| {
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
                    wall_ms: self.wall_ms,
                    body: bodies.slice(at..at + bytes),
                }),
                _ => Err(ReadError::Rotten { segment, offset, bytes: row.body_bytes }),
            }
        });
        entries.collect()
    }
}

//! A partition's log: which records lie where, and whether a client got them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::super::testing::batch;

/// The segment of a transaction's marker: an offset that is no record.
pub(super) const MARKER: u32 = 0;

/// What lies at an offset. Records of one segment were written between the same two accidents.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) segment: u32,
    pub(super) read_count: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    pub(super) cells: Vec<Cell>,
    /// Records below are expired.
    pub(super) start: i64,
    /// It was cut back, and some reader has not noticed.
    pub(super) cut: bool,
}

impl Log {
    pub(super) fn end(&self) -> i64 {
        self.cells.len() as i64
    }

    pub(super) fn append(&mut self, segment: u32, count: usize) {
        self.cells.extend((0..count).map(|_| Cell { segment, read_count: 0 }));
    }

    /// Whole batches, so they may begin before `offset`.
    pub(super) fn batches_from(&self, offset: i64, back: i64) -> Bytes {
        let end = self.end().min(offset + 20);
        let segment = |at: i64| self.cells[at as usize].segment;
        let mut at = offset;
        while at > self.start.max(offset - back) && segment(at - 1) == segment(offset) {
            at -= 1;
        }
        let mut bytes = BytesMut::new();
        while at < end {
            let same = self.cells[at as usize..end as usize].iter().take_while(|cell| cell.segment == segment(at));
            let count = if segment(at) == MARKER { 1 } else { same.count() as i64 };
            bytes.extend_from_slice(&match segment(at) {
                MARKER => batch(at).control(7, true).bytes(),
                segment => batch(at).records(count).value(&segment.to_be_bytes()).bytes(),
            });
            at += count;
        }
        bytes.freeze()
    }

    pub(super) fn is_settled(&self, offsets: Range<i64>) -> bool {
        let settled = |cell: &Cell| cell.segment == MARKER || cell.read_count > 0;
        self.cells[self.start.max(offsets.start) as usize..offsets.end.max(self.start) as usize].iter().all(settled)
    }
}

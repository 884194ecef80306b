//! A block of a part: header, then rows in the order of their keys, each told as its difference to the one before.
//!
//! ```text
//! | crc | GBJB | length | rows | first due | first seq |  row  row  row …
//!                                                         due since the row before · seq since it · queue · length · body
//! ```
//!
//! Cost of a row besides its body: one or two bytes each for the due, the queue and the length, up to four for the seq.

use std::ops::Range;

use bytes::Bytes;
use journal::format::{Bad, put, u32_at, u64_at};

use super::{FileKey, put_varint, take_u32, take_varint, unzigzag, zigzag};
use crate::Key;
use crate::table::limits::BLOCK_BYTES_MAX;

const MAGIC: &[u8; 4] = b"GBJB";
pub const HEADER_BYTES: usize = 32;
/// Two numbers of up to ten bytes, two of up to five.
pub const ROW_OVERHEAD_MAX: usize = 30;

const AT_LENGTH: usize = 8;
const AT_ROWS: usize = 12;
const AT_FIRST_DUE: usize = 16;
const AT_FIRST_SEQ: usize = 24;

/// A job, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef<'a> {
    pub key: Key,
    pub queue: u32,
    pub body: &'a [u8],
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Key,
    pub queue: u32,
    pub body: Bytes,
}

/// A block that is being filled.
#[derive(Debug)]
pub struct Builder {
    bytes: Vec<u8>,
    rows: u32,
    first: Key,
    last: Key,
}

impl Builder {
    /// An empty one.
    pub fn new() -> Builder {
        Builder { bytes: vec![0; HEADER_BYTES], rows: 0, first: Key::MIN, last: Key::MIN }
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn rows(&self) -> u32 {
        self.rows
    }

    pub fn first(&self) -> Key {
        self.first
    }

    pub fn last(&self) -> Key {
        self.last
    }

    /// # Panics
    /// When it does not come behind the row before: the writer merges and sorts.
    pub fn push(&mut self, row: &RowRef<'_>) {
        match self.is_empty() {
            true => (self.first, self.last) = (row.key, row.key),
            false => assert!(self.last < row.key, "rows are in order: {:?} before {:?}", self.last, row.key),
        }
        put_varint(&mut self.bytes, row.key.due_ms.wrapping_sub(self.last.due_ms) as u64);
        put_varint(&mut self.bytes, zigzag(row.key.seq.wrapping_sub(self.last.seq) as i64));
        put_varint(&mut self.bytes, u64::from(row.queue));
        put_varint(&mut self.bytes, row.body.len() as u64);
        self.bytes.extend_from_slice(row.body);
        self.last = row.key;
        self.rows += 1;
    }

    /// Its bytes, as they stand at this offset of this file.
    pub fn seal(&mut self, key: FileKey, at: u64) -> &[u8] {
        let length = self.bytes.len();
        put(&mut self.bytes, 4, MAGIC);
        put(&mut self.bytes, AT_LENGTH, &(length as u32).to_le_bytes());
        put(&mut self.bytes, AT_ROWS, &self.rows.to_le_bytes());
        put(&mut self.bytes, AT_FIRST_DUE, &self.first.due_ms.to_le_bytes());
        put(&mut self.bytes, AT_FIRST_SEQ, &self.first.seq.to_le_bytes());
        let crc = key.checksum(at, &self.bytes[4..]);
        put(&mut self.bytes, 0, &crc.to_le_bytes());
        &self.bytes
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.rows = 0;
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

/// How long a block is that begins like this, as far as it can be believed before its checksum. `None`: it is none.
pub fn length(head: &[u8]) -> Option<usize> {
    let head = head.get(..HEADER_BYTES).filter(|head| head[4..8] == MAGIC[..])?;
    Some(u32_at(head, AT_LENGTH) as usize).filter(|length| (HEADER_BYTES..=BLOCK_BYTES_MAX).contains(length))
}

/// A block, whole: its checksum and every row of it were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    bytes: Bytes,
    rows: u32,
    first: Key,
    last: Key,
}

impl Block {
    /// The block at the begin of `bytes`, which were found at this offset.
    pub fn decode(bytes: &Bytes, key: FileKey, at: u64) -> Result<Block, Bad> {
        if bytes.len() < HEADER_BYTES {
            return Err(Bad::Short);
        }
        let length = length(bytes).ok_or(Bad::Magic)?;
        if bytes.len() < length {
            return Err(Bad::Short);
        }
        let bytes = bytes.slice(..length);
        if key.checksum(at, &bytes[4..]) != u32_at(&bytes, 0) {
            return Err(Bad::Checksum);
        }
        let first = Key { due_ms: u64_at(&bytes, AT_FIRST_DUE) as i64, seq: u64_at(&bytes, AT_FIRST_SEQ) };
        let rows = u32_at(&bytes, AT_ROWS);
        let mut block = Block { bytes, rows, first, last: first };
        block.last = block.check().ok_or(Bad::Field)?;
        Ok(block)
    }

    /// Its last key, when its rows are as many as it says, in order, and end where it ends.
    fn check(&self) -> Option<Key> {
        let mut position = self.begin();
        let mut last = None;
        while position.left > 0 {
            let row = position.step(&self.bytes)?;
            let in_order = match last {
                None => row.key == self.first,
                Some(last) => last < row.key,
            };
            last = Some(row.key).filter(|_| in_order);
            last?;
        }
        last.filter(|_| position.at == self.bytes.len())
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn row_count(&self) -> u32 {
        self.rows
    }

    pub fn first(&self) -> Key {
        self.first
    }

    pub fn last(&self) -> Key {
        self.last
    }

    /// Its jobs in order; their bodies share its memory.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let mut position = self.begin();
        std::iter::from_fn(move || {
            let RawRow { key, queue, body } = position.next(self)?;
            Some(Row { key, queue, body: self.bytes.slice(body) })
        })
    }

    /// Before its first row.
    pub(crate) fn begin(&self) -> Position {
        Position { at: HEADER_BYTES, before: self.first, left: self.rows }
    }

    pub(crate) fn row<'a>(&'a self, row: &RawRow) -> RowRef<'a> {
        RowRef { key: row.key, queue: row.queue, body: &self.bytes[row.body.clone()] }
    }
}

/// A row whose body is still in its block.
#[derive(Clone, Debug)]
pub(crate) struct RawRow {
    pub key: Key,
    pub queue: u32,
    body: Range<usize>,
}

/// How far somebody has read a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    at: usize,
    before: Key,
    left: u32,
}

impl Position {
    pub fn next(&mut self, block: &Block) -> Option<RawRow> {
        (self.left > 0).then(|| self.step(&block.bytes).expect("a block's rows are checked when it is decoded"))
    }

    fn step(&mut self, bytes: &[u8]) -> Option<RawRow> {
        let mut at = self.at;
        let due_ms = self.before.due_ms.checked_add_unsigned(take_varint(bytes, &mut at)?)?;
        let seq = self.before.seq.wrapping_add(unzigzag(take_varint(bytes, &mut at)?) as u64);
        let queue = take_u32(bytes, &mut at)?;
        let body_bytes = take_u32(bytes, &mut at)? as usize;
        let end = at.checked_add(body_bytes).filter(|end| *end <= bytes.len())?;
        let key = Key { due_ms, seq };
        *self = Position { at: end, before: key, left: self.left - 1 };
        Some(RawRow { key, queue, body: at..end })
    }
}

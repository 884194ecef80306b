//! A commit block: header, table of records, bodies.
//!
//! Header and table are encoded by the committing thread; the bodies' checksums came with the records. Decoding is in two
//! steps, because the two can go wrong separately: [`Block::decode`] believes header and table, [`Block::body_is_good`] a body.

use super::segment::BlockKey;
use super::{Bad, NUMBERS_END, hash, put, u32_at, u64_at};

const MAGIC: &[u8; 4] = b"GBLK";
pub const HEADER_BYTES: usize = 64;
pub const TABLE_ENTRY_BYTES: usize = 24;
pub const BODY_ALIGNMENT: usize = 8;

/// Flag of a record: it settles others, so it may use the reserve.
pub const RESERVED: u8 = 1;

const AT_LENGTH: usize = 8;
const AT_COUNT: usize = 12;
const AT_FIRST_LSN: usize = 16;
const AT_PREVIOUS: usize = 24;
const AT_DURABLE: usize = 32;
const AT_WALL: usize = 40;

/// One row of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub body_crc: u32,
    pub body_bytes: u32,
    pub stream: u32,
    pub kind: u8,
    pub flags: u8,
    /// The appender's, within its stream.
    pub sequence: u64,
}

/// What a header says, apart from what follows from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    pub first_lsn: u64,
    pub previous_hash: u64,
    pub durable_lsn: u64,
    pub wall_ms: i64,
}

/// Where the bodies begin in a block of so many records.
pub fn bodies_begin(record_count: usize) -> usize {
    HEADER_BYTES + record_count * TABLE_ENTRY_BYTES
}

/// Length of a block of these bodies: with [`bodies_begin`] for its header and table.
pub fn body_room(body_bytes: usize) -> usize {
    body_bytes.next_multiple_of(BODY_ALIGNMENT)
}

/// Writes header and table into `out`, which is as long as they are; `length` is the whole block's. Returns the hash the
/// next block is chained to.
pub fn encode(header: &BlockHeader, length: usize, rows: &[Row], key: BlockKey, offset: u64, out: &mut [u8]) -> u64 {
    assert_eq!(out.len(), bodies_begin(rows.len()));
    out[..HEADER_BYTES].fill(0);
    put(out, 4, MAGIC);
    put(out, AT_LENGTH, &(length as u32).to_le_bytes());
    put(out, AT_COUNT, &(rows.len() as u32).to_le_bytes());
    put(out, AT_FIRST_LSN, &header.first_lsn.to_le_bytes());
    put(out, AT_PREVIOUS, &header.previous_hash.to_le_bytes());
    put(out, AT_DURABLE, &header.durable_lsn.to_le_bytes());
    put(out, AT_WALL, &header.wall_ms.to_le_bytes());
    for (row, entry) in rows.iter().zip(out[HEADER_BYTES..].chunks_exact_mut(TABLE_ENTRY_BYTES)) {
        put(entry, 0, &row.body_crc.to_le_bytes());
        put(entry, 4, &row.body_bytes.to_le_bytes());
        put(entry, 8, &row.stream.to_le_bytes());
        put(entry, 12, &[row.kind, row.flags, 0, 0]);
        put(entry, 16, &row.sequence.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(key.at(offset), &out[4..]);
    put(out, 0, &crc.to_le_bytes());
    hash(&out[..HEADER_BYTES])
}

/// Where the table ends, of a block that begins with this header. `None`: it is none.
pub fn table_end(head: &[u8]) -> Option<usize> {
    let head = head.get(..HEADER_BYTES).filter(|head| head[4..8] == MAGIC[..])?;
    let (length, end) = (u32_at(head, AT_LENGTH) as usize, bodies_begin(u32_at(head, AT_COUNT) as usize));
    (end <= length).then_some(end)
}

/// Header and table of a block, without its bodies.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    bytes: &'a [u8],
    pub header: BlockHeader,
}

impl<'a> Table<'a> {
    /// Header and table at the begin of `bytes`, which were found at `offset`.
    pub fn decode(bytes: &'a [u8], key: BlockKey, offset: u64) -> Result<Table<'a>, Bad> {
        let end = table_end(bytes).ok_or(Bad::Field)?;
        let bytes = bytes.get(..end).ok_or(Bad::Short)?;
        if crc32c::crc32c_append(key.at(offset), &bytes[4..]) != u32_at(bytes, 0) {
            return Err(Bad::Checksum);
        }
        let header = BlockHeader {
            first_lsn: u64_at(bytes, AT_FIRST_LSN),
            previous_hash: u64_at(bytes, AT_PREVIOUS),
            durable_lsn: u64_at(bytes, AT_DURABLE),
            wall_ms: u64_at(bytes, AT_WALL) as i64,
        };
        Ok(Table { bytes, header })
    }

    pub fn rows(&self) -> impl Iterator<Item = Row> + use<'a> {
        self.bytes[HEADER_BYTES..].chunks_exact(TABLE_ENTRY_BYTES).map(|entry| Row {
            body_crc: u32_at(entry, 0),
            body_bytes: u32_at(entry, 4),
            stream: u32_at(entry, 8),
            kind: entry[12],
            flags: entry[13],
            sequence: u64_at(entry, 16),
        })
    }

    /// Its records: lsn, row, where the body begins in the block.
    pub fn records(&self) -> impl Iterator<Item = (u64, Row, usize)> + use<'a> {
        let mut at = self.bytes.len();
        (self.header.first_lsn..).zip(self.rows()).map(move |(lsn, row)| {
            let begin = at;
            at += body_room(row.body_bytes as usize);
            (lsn, row, begin)
        })
    }
}

/// A block whose header and table are whole.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
    pub header: BlockHeader,
    pub record_count: u32,
    /// Of its header.
    pub hash: u64,
}

impl<'a> Block<'a> {
    /// The block at the begin of `bytes`, which were found at `offset`.
    pub fn decode(bytes: &'a [u8], key: BlockKey, offset: u64) -> Result<Block<'a>, Bad> {
        let head = bytes.get(..HEADER_BYTES).ok_or(Bad::Short)?;
        if head[4..8] != MAGIC[..] {
            return Err(Bad::Magic);
        }
        let (length, record_count) = (u32_at(head, AT_LENGTH) as usize, u32_at(head, AT_COUNT));
        let table_end = table_end(head).ok_or(Bad::Field)?;
        let bytes = bytes.get(..length).ok_or(Bad::Short)?;
        let header = Table::decode(bytes, key, offset)?.header;
        let block = Block { bytes, header, record_count, hash: hash(head) };
        let bodies: usize = block.rows().map(|row| body_room(row.body_bytes as usize)).sum();
        let lsns_fit = header.durable_lsn <= header.first_lsn && header.first_lsn < NUMBERS_END;
        match table_end + bodies == length && lsns_fit {
            true => Ok(block),
            false => Err(Bad::Field),
        }
    }

    /// Bytes of it, padding of its last page not counted.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    pub fn rows(&self) -> impl Iterator<Item = Row> + use<'a> {
        self.table().rows()
    }

    /// Its records: lsn, row, where the body begins in the block.
    pub fn records(&self) -> impl Iterator<Item = (u64, Row, usize)> + use<'a> {
        self.table().records()
    }

    fn table(&self) -> Table<'a> {
        Table { bytes: &self.bytes[..bodies_begin(self.record_count as usize)], header: self.header }
    }

    pub fn body(&self, row: &Row, begin: usize) -> &'a [u8] {
        &self.bytes[begin..begin + row.body_bytes as usize]
    }

    pub fn body_is_good(&self, row: &Row, begin: usize) -> bool {
        crc32c::crc32c(self.body(row, begin)) == row.body_crc
    }
}

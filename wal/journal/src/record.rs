//! What is appended, and where it lies afterwards.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::format::block::{RESERVED, Row, TABLE_ENTRY_BYTES, body_room};
use crate::limits::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX};
use crate::refused::Refused;

/// One record to be appended. Its body is two parts, so that a small head can stand before a large body which nobody
/// copies; on the disk, and when it is read, they are one.
#[derive(Clone, Debug)]
pub struct Record {
    pub stream: u32,
    /// The user's.
    pub kind: u8,
    /// The user's, within the stream.
    pub sequence: u64,
    pub(crate) flags: u8,
    pub(crate) head: Bytes,
    pub(crate) tail: Bytes,
    /// Of both parts; computed here, so that the committing thread does not have to.
    pub(crate) body_crc: u32,
}

impl Record {
    pub fn new(stream: u32, kind: u8, sequence: u64, body: impl Into<Bytes>) -> Record {
        Record::of_parts(stream, kind, sequence, body.into(), Bytes::new())
    }

    pub fn of_parts(stream: u32, kind: u8, sequence: u64, head: Bytes, tail: Bytes) -> Record {
        let body_crc = crc32c::crc32c_append(crc32c::crc32c(&head), &tail);
        Record { stream, kind, sequence, flags: 0, head, tail, body_crc }
    }

    /// It settles others: on a full disk it may use the reserve.
    pub fn reserved(mut self) -> Record {
        self.flags |= RESERVED;
        self
    }

    pub fn head(&self) -> &Bytes {
        &self.head
    }

    pub fn tail(&self) -> &Bytes {
        &self.tail
    }

    pub fn body_bytes(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    pub(crate) fn row(&self) -> Row {
        Row {
            body_crc: self.body_crc,
            // A group is no longer than `GROUP_BYTES_MAX`, checked before.
            body_bytes: self.body_bytes() as u32,
            stream: self.stream,
            kind: self.kind,
            flags: self.flags,
            sequence: self.sequence,
        }
    }

    /// As it was read back.
    pub(crate) fn of_row(row: &Row, body: Bytes) -> Record {
        let Row { body_crc, stream, kind, flags, sequence, .. } = *row;
        Record { stream, kind, sequence, flags, head: body, tail: Bytes::new(), body_crc }
    }
}

/// Records that are durable together or not at all. Never empty.
#[derive(Clone, Debug)]
pub struct Group {
    records: SmallVec<[Record; 1]>,
    room: usize,
}

impl Group {
    /// # Panics
    /// When there is no record.
    pub fn new(records: impl IntoIterator<Item = Record>) -> Result<Group, Refused> {
        let records: SmallVec<[Record; 1]> = records.into_iter().collect();
        assert!(!records.is_empty(), "a group has a record");
        let bytes: usize = records.iter().map(Record::body_bytes).sum();
        if bytes > GROUP_BYTES_MAX || records.len() > GROUP_RECORDS_MAX {
            return Err(Refused::TooLarge);
        }
        let room = records.iter().map(|record| TABLE_ENTRY_BYTES + body_room(record.body_bytes())).sum();
        Ok(Group { records, room })
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Bytes it takes in a block, whose header is not counted.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Whether all of it may use the reserve.
    pub(crate) fn is_reserved(&self) -> bool {
        self.records.iter().all(|record| record.flags & RESERVED != 0)
    }
}

/// Where a body lies, and what it must be. 24 bytes: users keep many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub segment: u64,
    pub offset: u32,
    pub bytes: u32,
    pub body_crc: u32,
}

/// Which record of which block. With a count it names consecutive records, which is less to keep than their locations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u64,
    /// Where the block begins in the segment.
    pub block: u32,
    /// Of the record in the block.
    pub index: u32,
}

/// A record that has become durable, as the observer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    pub lsn: u64,
    pub location: Location,
    pub place: Place,
    /// Of its block, epoch ms.
    pub wall_ms: i64,
    pub record: &'a Record,
}

/// A record that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub lsn: u64,
    pub stream: u32,
    pub kind: u8,
    pub flags: u8,
    pub sequence: u64,
    pub location: Location,
    pub place: Place,
    /// Of its block, epoch ms.
    pub wall_ms: i64,
    /// A slice of everything that was read with it: copy what is kept.
    pub body: Bytes,
}

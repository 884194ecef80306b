//! Bytes on their way: how a block is written, and how a file becomes a segment.
//!
//! A segment gets its name when its header is durable, and after a recovery when everything that moves into it is. So there
//! is never a segment without a header, and a power cut leaves the state before or the state after.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use disk::{Disk, File, Open};

use crate::core::{Core, names};
use crate::format::block::{self, BlockHeader, Row, bodies_begin, body_room};
use crate::format::segment::{BLOCKS_BEGIN, BlockKey, SegmentHeader};
use crate::format::{PAGE_BYTES, pages};
use crate::limits::{COPY_BYTES_MAX, PERSIST_ATTEMPTS};
use crate::record::Record;
use crate::shelf::Spare;

// What is over after whole pages is less than what is copied anyway.
const _: () = assert!(COPY_BYTES_MAX >= PAGE_BYTES);

/// A block that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub offset: u64,
    /// The next one may begin here.
    pub end: u64,
    pub hash: u64,
}

/// Where and as what a block is written.
pub(crate) struct Place<'a> {
    pub disk: &'a dyn Disk,
    pub file: &'a File,
    pub key: BlockKey,
    pub offset: u64,
}

/// Buffers that are used again.
#[derive(Default)]
pub(crate) struct Staging {
    bytes: BytesMut,
    rows: Vec<Row>,
}

/// Writes one block, up to the end of its last page. Small bodies are copied beside each other, large ones are not.
pub(crate) fn write_block<'r>(
    place: &Place<'_>,
    header: &BlockHeader,
    records: impl Iterator<Item = &'r Record> + Clone,
    staging: &mut Staging,
) -> io::Result<Placed> {
    let Staging { bytes, rows } = staging;
    rows.clear();
    rows.extend(records.clone().map(Record::row));
    let bodies: usize = rows.iter().map(|row| body_room(row.body_bytes as usize)).sum();
    let table_end = bodies_begin(rows.len());
    let length = table_end + bodies;
    bytes.clear();
    bytes.reserve(table_end);
    bytes.put_bytes(0, table_end);
    let hash = block::encode(header, length, rows, place.key, place.offset, &mut bytes[..]);
    let mut at = place.offset;
    let mut write = |bytes: &mut BytesMut, large: Bytes| {
        let staged = bytes.split().freeze();
        let whole = staged.len() + large.len();
        place.disk.write_all(place.file, staged, large, at)?;
        at += whole as u64;
        io::Result::Ok(())
    };
    for record in records {
        for part in [&record.head, &record.tail] {
            if part.len() > COPY_BYTES_MAX {
                // Each write begins and ends on a page, which is all that some devices take: the rest is copied.
                let over = (bytes.len() + part.len()) % PAGE_BYTES;
                let (whole, rest) = (part.slice(..part.len() - over), part.slice(part.len() - over..));
                write(bytes, whole)?;
                bytes.extend_from_slice(&rest);
            } else {
                bytes.extend_from_slice(part);
            }
        }
        bytes.put_bytes(0, body_room(record.body_bytes()) - record.body_bytes());
    }
    bytes.put_bytes(0, pages(length) - length);
    write(bytes, Bytes::new())?;
    let end = place.offset + pages(length) as u64;
    assert_eq!(at, end, "header, table, bodies and padding are whole pages");
    Ok(Placed { offset: place.offset, end, hash })
}

/// A persist; one that only lacked something is tried again.
pub(crate) fn persist(disk: &dyn Disk, file: &File, from: u64) -> io::Result<()> {
    let mut attempt = 1;
    loop {
        match disk.persist(file, from) {
            Err(err) if disk::is_shortage(&err) && attempt < PERSIST_ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

/// A spare that is being made a segment.
pub(crate) struct Fresh<'a> {
    core: &'a Core,
    spare: Spare,
    pub file: File,
    pub header: SegmentHeader,
}

impl<'a> Fresh<'a> {
    /// Writes the header into a spare. After an error the spare is gone from the shelf, and is found at the next start.
    pub fn begin(core: &'a Core, spare: Spare, header: SegmentHeader) -> io::Result<Fresh<'a>> {
        assert_eq!(header.length, spare.bytes);
        let file = core.disk.open(&core.path(&spare.name), Open::Segment)?;
        let mut page = header.encode();
        page.resize(PAGE_BYTES, 0);
        let page = Bytes::from(page);
        for at in [0, header.length - PAGE_BYTES as u64] {
            core.disk.write_all(&file, page.clone(), Bytes::new(), at)?;
        }
        Ok(Fresh { core, spare, file, header })
    }

    pub fn place(&self, offset: u64) -> Place<'_> {
        assert!(offset >= BLOCKS_BEGIN);
        Place { disk: &*self.core.disk, file: &self.file, key: self.header.key(), offset }
    }

    /// Makes what was written so far durable.
    pub fn persist(&self) -> io::Result<()> {
        persist(&*self.core.disk, &self.file, 0)
    }

    /// Gives it its name, durably. After an error it may have it or not: its number is used up, and the segment before is
    /// not to be written any more, because it may be sealed.
    pub fn name(self) -> io::Result<(File, SegmentHeader)> {
        let name = names::segment(self.header.number);
        self.core.disk.rename(&self.core.path(&self.spare.name), &self.core.path(&name))?;
        self.core.persist_dir()?;
        Ok((self.file, self.header))
    }
}

//! The bodies of the queue's own records, as `wal/FORMAT.md` says. Little endian; a short or strange body is an error of
//! whoever wrote it, told with where it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Fate, Name, Reason};

/// What a record of the log means to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Gives a stream its number and name.
    Stream = 1,
    /// What somebody handed over.
    Entry = 2,
    /// An entry at a new place: the old one stood alone in a segment that was to go.
    Moved = 3,
    /// Entries that are done with.
    Settled = 4,
    /// An entry that cannot be delivered, and why.
    Parked = 5,
    /// Parked entries that are tried again.
    Unparked = 6,
    /// From now on entries are sent, and where they will stand at the earliest; or none is under way any more.
    Sending = 7,
}

impl Kind {
    pub fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Stream, Entry, Moved, Settled, Parked, Unparked, Sending].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A body that says nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a record of {bytes} bytes is no {what}")]
pub struct Malformed {
    pub what: &'static str,
    pub bytes: usize,
}

/// Reads numbers and texts off a body, and knows when it is short.
pub(super) struct Reader<'b> {
    left: &'b [u8],
    malformed: Malformed,
}

impl<'b> Reader<'b> {
    pub fn new(body: &'b [u8], what: &'static str) -> Reader<'b> {
        Reader { left: body, malformed: Malformed { what, bytes: body.len() } }
    }

    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub fn fail(&self) -> Malformed {
        Malformed { ..self.malformed }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, left) = self.left.split_first_chunk::<N>().ok_or_else(|| self.fail())?;
        self.left = left;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn bytes(&mut self) -> Result<&'b [u8], Malformed> {
        let length = usize::from(self.u16()?);
        let (taken, left) = self.left.split_at_checked(length).ok_or_else(|| self.fail())?;
        self.left = left;
        Ok(taken)
    }

    pub fn text(&mut self) -> Result<Arc<str>, Malformed> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map(Arc::from).map_err(|_| self.fail())
    }
}

/// A text of at most [`TEXT_BYTES_MAX`]; what is longer is cut, which happens to sentences only.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Longest name or sentence.
pub const TEXT_BYTES_MAX: usize = 4_096;
const _: () = assert!(TEXT_BYTES_MAX <= u16::MAX as usize);

pub(super) fn put_name(out: &mut Vec<u8>, name: &Name) {
    put_text(out, &name.account);
    put_text(out, &name.subject);
    out.extend_from_slice(&name.lane.to_le_bytes());
}

pub(super) fn read_name(reader: &mut Reader<'_>) -> Result<Name, Malformed> {
    Ok(Name { account: reader.text()?, subject: reader.text()?, lane: reader.i32()? })
}

pub fn stream(name: &Name) -> Bytes {
    let mut out = Vec::with_capacity(8 + name.account.len() + name.subject.len());
    put_name(&mut out, name);
    out.into()
}

pub fn read_stream(body: &[u8]) -> Result<Name, Malformed> {
    let mut reader = Reader::new(body, "name of a stream");
    let name = read_name(&mut reader)?;
    if reader.is_empty() { Ok(name) } else { Err(reader.fail()) }
}

/// Entries from the record's sequence on that came to the same end.
pub fn settled(count: u32, fate: Fate, at_ms: i64) -> Bytes {
    let mut out = Vec::with_capacity(32);
    put_settled(&mut out, count, fate, at_ms);
    out.into()
}

pub(super) fn put_settled(out: &mut Vec<u8>, count: u32, fate: Fate, at_ms: i64) {
    let (code, partition, offset) = match fate {
        Fate::Delivered { partition, offset } => (0_u8, partition, offset),
        Fate::Dropped => (1, -1, -1),
        Fate::Adopted => (2, -1, -1),
    };
    out.push(code);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&partition.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&at_ms.to_le_bytes());
}

pub(super) fn read_settled_part(reader: &mut Reader<'_>) -> Result<(u32, Fate, i64), Malformed> {
    let (code, count, partition, offset, at_ms) =
        (reader.u8()?, reader.u32()?, reader.i32()?, reader.i64()?, reader.i64()?);
    let fate = match code {
        0 => Fate::Delivered { partition, offset },
        1 => Fate::Dropped,
        2 => Fate::Adopted,
        _ => return Err(reader.fail()),
    };
    Ok((count, fate, at_ms))
}

pub fn read_settled(body: &[u8]) -> Result<(u32, Fate, i64), Malformed> {
    let mut reader = Reader::new(body, "end of entries");
    let read = read_settled_part(&mut reader)?;
    if reader.is_empty() { Ok(read) } else { Err(reader.fail()) }
}

pub fn parked(reason: &Reason, at_ms: i64) -> Bytes {
    let mut out = Vec::with_capacity(16 + reason.code.len() + reason.sentence.len());
    put_parked(&mut out, reason, at_ms);
    out.into()
}

pub(super) fn put_parked(out: &mut Vec<u8>, reason: &Reason, at_ms: i64) {
    out.extend_from_slice(&at_ms.to_le_bytes());
    put_text(out, &reason.code);
    put_text(out, &reason.sentence);
}

pub(super) fn read_parked_part(reader: &mut Reader<'_>) -> Result<(Reason, i64), Malformed> {
    let at_ms = reader.i64()?;
    Ok((Reason { code: reader.text()?, sentence: reader.text()? }, at_ms))
}

pub fn read_parked(body: &[u8]) -> Result<(Reason, i64), Malformed> {
    let mut reader = Reader::new(body, "reason to park");
    let read = read_parked_part(&mut reader)?;
    if reader.is_empty() { Ok(read) } else { Err(reader.fail()) }
}

/// Entries from the record's sequence on.
pub fn unparked(count: u32) -> Bytes {
    Bytes::copy_from_slice(&count.to_le_bytes())
}

pub fn read_unparked(body: &[u8]) -> Result<u32, Malformed> {
    let mut reader = Reader::new(body, "count of entries");
    let count = reader.u32()?;
    if reader.is_empty() { Ok(count) } else { Err(reader.fail()) }
}

/// Of partitions, the offset from which on what is sent now will stand; none: nothing is under way.
pub fn sending(begins: &BTreeMap<i32, i64>) -> Bytes {
    let mut out = Vec::with_capacity(begins.len() * 12);
    put_begins(&mut out, begins);
    out.into()
}

pub(super) fn put_begins(out: &mut Vec<u8>, begins: &BTreeMap<i32, i64>) {
    for (partition, offset) in begins {
        out.extend_from_slice(&partition.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
    }
}

pub fn read_sending(body: &[u8]) -> Result<BTreeMap<i32, i64>, Malformed> {
    let mut reader = Reader::new(body, "begin of sending");
    let mut begins = BTreeMap::new();
    while !reader.is_empty() {
        begins.insert(reader.i32()?, reader.i64()?);
    }
    Ok(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_says_what_it_was_made_of_and_no_part_of_it_says_anything() {
        let name = Name { account: "app1".into(), subject: "main/app1.orders.v1".into(), lane: -1 };
        let reason = Reason { code: "topic_gone".into(), sentence: "topic orders is gone".into() };
        let delivered = Fate::Delivered { partition: 3, offset: 1 << 40 };
        type Says<'s> = Box<dyn Fn(&[u8]) -> bool + 's>;
        let whole: Vec<(Bytes, Says<'_>)> = vec![
            (stream(&name), Box::new(|body| read_stream(body) == Ok(name.clone()))),
            (settled(7, delivered, 5), Box::new(|body| read_settled(body) == Ok((7, delivered, 5)))),
            (settled(1, Fate::Dropped, -1), Box::new(|body| read_settled(body) == Ok((1, Fate::Dropped, -1)))),
            (settled(2, Fate::Adopted, 9), Box::new(|body| read_settled(body) == Ok((2, Fate::Adopted, 9)))),
            (parked(&reason, 9), Box::new(|body| read_parked(body) == Ok((reason.clone(), 9)))),
            (unparked(4), Box::new(|body| read_unparked(body) == Ok(4))),
        ];
        for (body, says) in whole {
            assert!(says(&body), "{body:?}");
            let longer = [&body[..], b"x"].concat();
            assert!((0..body.len()).all(|bytes| !says(&body[..bytes])) && !says(&longer), "{body:?}");
        }
    }

    #[test]
    fn where_sending_begins_is_read_back_and_a_part_of_a_partition_is_noticed() {
        for begins in [BTreeMap::new(), BTreeMap::from([(0, 5)]), BTreeMap::from([(3, 0), (7, 1 << 40)])] {
            let body = sending(&begins);
            assert_eq!(read_sending(&body), Ok(begins));
            let cuts = (0..body.len()).filter(|bytes| bytes % 12 != 0);
            cuts.for_each(|bytes| assert!(read_sending(&body[..bytes]).is_err(), "{bytes}"));
        }
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_character() {
        let reason = Reason { code: "x".into(), sentence: "ä".repeat(TEXT_BYTES_MAX).into() };
        let (read, _) = read_parked(&parked(&reason, 0)).unwrap();
        assert_eq!(&*read.sentence, "ä".repeat(TEXT_BYTES_MAX / 2));
    }
}

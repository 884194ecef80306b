//! The records of the job store in the journal (wal/FORMAT.md, "Records of jobs").
//!
//! Streams are queues, sequences are numbers of jobs. What an add brought, beyond when it is due, is its user's.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::limits::LIST_MAX;

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Gives a queue its number; said again with every job until it is durable.
    Queue = 1,
    Added = 2,
    /// Again, due at another time.
    Moved = 3,
    Deleted = 4,
    /// About to be given to Kafka.
    Taken = 5,
    Fired = 6,
    Parked = 7,
    Unparked = 8,
    /// A queue stands still, or goes on.
    Paused = 9,
}

impl Kind {
    pub fn of(kind: u8) -> Option<Kind> {
        use Kind::*;
        [Queue, Added, Moved, Deleted, Taken, Fired, Parked, Unparked, Paused].into_iter().find(|is| *is as u8 == kind)
    }
}

/// A record that makes no sense: written by another version, or by a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} of {bytes} bytes makes no sense")]
pub struct Malformed {
    pub what: &'static str,
    pub bytes: usize,
}

/// Whose jobs, for what: for the gateway an app, and `topic.version`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub account: Arc<str>,
    pub subject: Arc<str>,
}

/// Why a job is parked: a stable code, and a sentence for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: Arc<str>,
    pub sentence: Arc<str>,
}

/// What a client calls one add, so that it is not done twice: a hash of it.
pub type AddKey = [u8; 16];

/// Before a job's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    pub due_ms: i64,
    pub key: Option<AddKey>,
}

const HAS_KEY: u8 = 1;

impl Added {
    /// The record's begin; the job's own bytes follow.
    pub fn head(&self, own_head: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(self.head_bytes() + own_head.len());
        out.put_i64_le(self.due_ms);
        out.put_u8(if self.key.is_some() { HAS_KEY } else { 0 });
        out.extend_from_slice(self.key.as_ref().map_or(&[][..], |key| &key[..]));
        out.extend_from_slice(own_head);
        out.into()
    }

    /// Bytes of the begin.
    pub fn head_bytes(&self) -> usize {
        9 + self.key.map_or(0, |key| key.len())
    }

    pub fn read(body: &[u8]) -> Result<Added, Malformed> {
        let malformed = || Malformed { what: "job that was added", bytes: body.len() };
        let mut left = body;
        let due_ms = i64::from_le_bytes(take(&mut left).ok_or_else(malformed)?);
        let key = match take(&mut left).ok_or_else(malformed)? {
            [0] => None,
            [HAS_KEY] => Some(take(&mut left).ok_or_else(malformed)?),
            _ => return Err(malformed()),
        };
        Ok(Added { due_ms, key })
    }
}

pub fn queue(name: &Name) -> Bytes {
    let mut out = Vec::new();
    put_text(&mut out, &name.account);
    put_text(&mut out, &name.subject);
    out.into()
}

pub fn read_queue(body: &[u8]) -> Result<Name, Malformed> {
    let malformed = || Malformed { what: "name of a queue", bytes: body.len() };
    let mut left = body;
    let account = text(&mut left).ok_or_else(malformed)?;
    let subject = text(&mut left).ok_or_else(malformed)?;
    left.is_empty().then_some(Name { account, subject }).ok_or_else(malformed)
}

/// The time something was done.
pub fn at(at_ms: i64) -> Bytes {
    Bytes::copy_from_slice(&at_ms.to_le_bytes())
}

/// Jobs of a queue that went to Kafka together, ascending; the record's sequence is the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Went {
    pub at_ms: i64,
    /// −1: not known.
    pub partition: i32,
    /// Of the first of them in the partition; −1: not known.
    pub offset: i64,
    pub seqs: Vec<u64>,
}

impl Went {
    pub fn body(&self) -> Bytes {
        debug_assert!(!self.seqs.is_empty() && self.seqs.len() <= LIST_MAX && self.seqs.is_sorted());
        let mut out = Vec::with_capacity(24 + self.seqs.len() * 2);
        out.put_i64_le(self.at_ms);
        out.put_i32_le(self.partition);
        out.put_i64_le(self.offset);
        out.put_u16_le(self.seqs.len() as u16);
        self.seqs.windows(2).for_each(|pair| put_number(&mut out, pair[1] - pair[0]));
        out.into()
    }

    pub fn read(first: u64, body: &[u8]) -> Result<Went, Malformed> {
        let malformed = || Malformed { what: "list of jobs", bytes: body.len() };
        let mut left = body;
        let at_ms = i64::from_le_bytes(take(&mut left).ok_or_else(malformed)?);
        let partition = i32::from_le_bytes(take(&mut left).ok_or_else(malformed)?);
        let offset = i64::from_le_bytes(take(&mut left).ok_or_else(malformed)?);
        let count = u16::from_le_bytes(take(&mut left).ok_or_else(malformed)?);
        let mut seqs = Vec::with_capacity(usize::from(count).min(LIST_MAX));
        let mut seq = first;
        for index in 0..count {
            if index > 0 {
                seq = number(&mut left).and_then(|more| seq.checked_add(more)).ok_or_else(malformed)?;
            }
            seqs.push(seq);
        }
        (left.is_empty() && count > 0).then_some(Went { at_ms, partition, offset, seqs }).ok_or_else(malformed)
    }
}

pub fn parked(at_ms: i64, due_ms: i64, reason: &Reason) -> Bytes {
    let mut out = Vec::new();
    out.put_i64_le(at_ms);
    out.put_i64_le(due_ms);
    put_text(&mut out, &reason.code);
    put_text(&mut out, &reason.sentence);
    out.into()
}

/// When it was parked, when it was due, and why it is parked.
pub fn read_parked(body: &[u8]) -> Result<(i64, i64, Reason), Malformed> {
    let malformed = || Malformed { what: "reason of a parked job", bytes: body.len() };
    let mut left = body;
    let at_ms = i64::from_le_bytes(take(&mut left).ok_or_else(malformed)?);
    let due_ms = i64::from_le_bytes(take(&mut left).ok_or_else(malformed)?);
    let code = text(&mut left).ok_or_else(malformed)?;
    let sentence = text(&mut left).ok_or_else(malformed)?;
    left.is_empty().then_some((at_ms, due_ms, Reason { code, sentence })).ok_or_else(malformed)
}

pub fn paused(is_paused: bool) -> Bytes {
    Bytes::from_static(if is_paused { &[1] } else { &[0] })
}

pub fn read_paused(body: &[u8]) -> Result<bool, Malformed> {
    match body {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed { what: "pause of a queue", bytes: body.len() }),
    }
}

// ---- pieces, of the checkpoint too

pub fn take<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = left.split_first_chunk::<N>()?;
    *left = rest;
    Some(*taken)
}

/// LEB128.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(left: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(left)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Names and sentences are short; what is longer is cut.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.floor_char_boundary(usize::from(u16::MAX))];
    out.put_u16_le(text.len() as u16);
    out.extend_from_slice(text);
}

pub fn text(left: &mut &[u8]) -> Option<Arc<str>> {
    let bytes = usize::from(u16::from_le_bytes(take(left)?));
    let (text, rest) = left.split_at_checked(bytes)?;
    *left = rest;
    std::str::from_utf8(text).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_every_cut_is_noticed() {
        let reason = Reason { code: "topic_gone".into(), sentence: "the topic is gone".into() };
        let name = Name { account: "app".into(), subject: "orders.v1".into() };
        let went = Went { at_ms: 5, partition: 3, offset: 1 << 40, seqs: vec![7, 8, 300, 1 << 43] };
        let added = Added { due_ms: -5, key: Some([9; 16]) };
        assert_eq!(read_queue(&queue(&name)), Ok(name.clone()));
        assert_eq!(Went::read(7, &went.body()), Ok(went.clone()));
        assert_eq!(read_parked(&parked(6, 4, &reason)), Ok((6, 4, reason.clone())));
        assert_eq!(Added::read(&added.head(b"rest")), Ok(added));
        assert_eq!(&added.head(b"rest")[added.head_bytes()..], b"rest");
        for (what, bytes, is_read) in [
            ("queue", queue(&name), (|cut| read_queue(cut).is_ok()) as fn(&[u8]) -> bool),
            ("went", went.body(), |cut| Went::read(7, cut).is_ok()),
            ("parked", parked(6, 4, &reason), |cut| read_parked(cut).is_ok()),
            ("added", added.head(b""), |cut| Added::read(cut).is_ok()),
            ("paused", paused(true), |cut| read_paused(cut).is_ok()),
        ] {
            assert!((0..bytes.len()).all(|end| !is_read(&bytes[..end])), "{what}");
        }
    }
}

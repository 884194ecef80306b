//! A message as the journal of handed-off messages has it: everything Kafka is to be given later, and of which topic it was thought.
//!
//! Little endian, one after the other:
//!
//! | bytes | |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | flags: 1 null value, 2 has a key, 4 the client named the partition |
//! | 2 | count of headers |
//! | 4 | partition, −1: by key, when it is delivered |
//! | 8 | timestamp, epoch ms |
//! | 16 | topic id (KIP-516), zero: not known |
//! | 4, n | key, if there is one |
//! | 4, n, 4, n | of each header: name, value (−1: null) |
//! | the rest | value |
//!
//! Everything before the value is written here; the value is the body as it came, and never copied for this.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::record_batch::{HeaderRef, RecordRef};

/// Says of a message in Kafka that it was handed off, and which it is: what its publisher was told as `X-Msg-Id`.
pub const MSG_ID_HEADER: &[u8] = b"gafka-msg-id";

const VERSION: u8 = 1;
const NULL_VALUE: u8 = 1;
const HAS_KEY: u8 = 2;
const NAMED_PARTITION: u8 = 4;
const KNOWN_FLAGS: u8 = NULL_VALUE | HAS_KEY | NAMED_PARTITION;
const FIXED_BYTES: usize = 32;

/// What does not belong to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Where it goes; `None`: by key, when it is delivered.
    pub partition: Option<i32>,
    /// The client said so.
    pub is_named: bool,
    /// Zero: not known.
    pub topic_id: [u8; 16],
}

/// An entry read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'e> {
    pub target: Target,
    pub timestamp_ms: i64,
    pub key: Option<&'e [u8]>,
    pub headers: SmallVec<[HeaderRef<'e>; 4]>,
    pub value: Option<&'e [u8]>,
}

impl Entry<'_> {
    pub fn as_record(&self) -> RecordRef<'_> {
        RecordRef { timestamp_ms: self.timestamp_ms, key: self.key, value: self.value, headers: &self.headers }
    }
}

/// Everything of an entry before the value.
pub fn head(record: &RecordRef<'_>, is_null: bool, target: Target) -> Bytes {
    let headers = record.headers.iter().map(|header| 8 + header.name.len() + header.value.map_or(0, <[u8]>::len));
    let bytes = FIXED_BYTES + record.key.map_or(0, |key| 4 + key.len()) + headers.sum::<usize>();
    let mut out = Vec::with_capacity(bytes);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let named = flag(target.is_named, NAMED_PARTITION);
    out.extend_from_slice(&[VERSION, flag(is_null, NULL_VALUE) | flag(record.key.is_some(), HAS_KEY) | named]);
    // Limits of what is published keep all of these far below.
    out.extend_from_slice(&(record.headers.len() as u16).to_le_bytes());
    out.extend_from_slice(&target.partition.unwrap_or(-1).to_le_bytes());
    out.extend_from_slice(&record.timestamp_ms.to_le_bytes());
    out.extend_from_slice(&target.topic_id);
    let mut put = |bytes: Option<&[u8]>| {
        out.extend_from_slice(&bytes.map_or(-1, |bytes| bytes.len() as i32).to_le_bytes());
        out.extend_from_slice(bytes.unwrap_or_default());
    };
    if let Some(key) = record.key {
        put(Some(key));
    }
    for header in record.headers {
        put(Some(header.name));
        put(header.value);
    }
    out.into()
}

/// Reads an entry. `None`: it is none, or of a version to come.
pub fn read(body: &[u8]) -> Option<Entry<'_>> {
    let (fixed, mut left) = body.split_first_chunk::<FIXED_BYTES>()?;
    let (version, flags) = (fixed[0], fixed[1]);
    if version != VERSION || flags & !KNOWN_FLAGS != 0 {
        return None;
    }
    let number = |at: usize| -> [u8; 4] { fixed[at..at + 4].try_into().expect("four bytes") };
    let count = u16::from_le_bytes([fixed[2], fixed[3]]);
    let partition = i32::from_le_bytes(number(4));
    let timestamp_ms = i64::from_le_bytes(fixed[8..16].try_into().expect("eight bytes"));
    let topic_id = fixed[16..32].try_into().expect("sixteen bytes");
    let key = if flags & HAS_KEY != 0 { Some(take(&mut left)??) } else { None };
    let mut headers = SmallVec::new();
    for _ in 0..count {
        let name = take(&mut left)??;
        headers.push(HeaderRef { name, value: take(&mut left)? });
    }
    let value = if flags & NULL_VALUE != 0 { left.is_empty().then_some(None)? } else { Some(left) };
    let target =
        Target { partition: (partition >= 0).then_some(partition), is_named: flags & NAMED_PARTITION != 0, topic_id };
    Some(Entry { target, timestamp_ms, key, headers, value })
}

/// A length and so many bytes; −1 is a null. Outer `None`: there are fewer.
fn take<'b>(left: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    let (length, rest) = left.split_first_chunk::<4>()?;
    let length = i32::from_le_bytes(*length);
    if length == -1 {
        *left = rest;
        return Some(None);
    }
    let (taken, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *left = rest;
    Some(Some(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written_and_no_part_of_it_is_read_as_something_else() {
        let header = |name: &'static [u8], value| HeaderRef { name, value };
        let twice = [header(b"a", Some(b"1")), header(b"a", None), header(b"", Some(b""))];
        let none = Target { partition: None, is_named: false, topic_id: [0; 16] };
        let named = Target { partition: Some(7), is_named: true, topic_id: [9; 16] };
        type Row<'r> = (Option<&'r [u8]>, &'r [HeaderRef<'r>], Option<&'r [u8]>, Target);
        let rows: [Row<'_>; 5] = [
            (None, &[], Some(b""), none),
            (None, &[], None, named),
            (Some(b""), &twice, Some(b"value"), none),
            (Some(b"key"), &[], None, none),
            (Some(b"key"), &twice, Some(&[0; 300]), named),
        ];
        for (key, headers, value, target) in rows {
            let record = RecordRef { timestamp_ms: -5, key, value, headers };
            let head = head(&record, value.is_none(), target);
            let body = [&head[..], value.unwrap_or_default()].concat();
            let entry = read(&body).expect("an entry");
            assert_eq!((entry.target, entry.timestamp_ms, entry.key, entry.value), (target, -5, key, value));
            assert_eq!(&entry.headers[..], headers);
            assert!((0..head.len()).all(|bytes| read(&body[..bytes]).is_none()), "{entry:?}");
        }
    }

    #[test]
    fn another_version_an_unknown_flag_and_a_value_beside_a_null_are_no_entries() {
        let record = RecordRef { timestamp_ms: 1, key: None, value: None, headers: &[] };
        let good = head(&record, true, Target { partition: None, is_named: false, topic_id: [0; 16] });
        assert!(read(&good).is_some());
        for (at, byte) in [(0, 2), (1, 0x80)] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            assert_eq!(read(&bad), None);
        }
        assert_eq!(read(&[&good[..], b"x"].concat()), None);
    }
}

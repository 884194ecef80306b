//! A message as the store of delayed jobs has it: everything Kafka is to be given when it is due, in few bytes.
//!
//! One after the other, numbers as LEB128:
//!
//! | bytes | |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | flags: 1 null value, 2 has a key, 4 the client named the partition, 8 and the timestamp |
//! | 8 | timestamp, epoch ms i64 little endian, if named |
//! | n | partition, if named |
//! | n, … | length and bytes of the key, if there is one |
//! | n | count of headers |
//! | n, …, n, … | of each: length and name, length + 1 (0: null) and value |
//! | the rest | value |

use smallvec::SmallVec;

use crate::record_batch::HeaderRef;

const VERSION: u8 = 1;
const NULL_VALUE: u8 = 1;
const HAS_KEY: u8 = 2;
const NAMED_PARTITION: u8 = 4;
const NAMED_TIMESTAMP: u8 = 8;
const KNOWN_FLAGS: u8 = NULL_VALUE | HAS_KEY | NAMED_PARTITION | NAMED_TIMESTAMP;

/// A message that waits to be due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'e> {
    /// The client named it; otherwise it is when the message is given to Kafka.
    pub timestamp_ms: Option<i64>,
    /// The client named it.
    pub partition: Option<i32>,
    pub key: Option<&'e [u8]>,
    pub headers: SmallVec<[HeaderRef<'e>; 4]>,
    pub value: Option<&'e [u8]>,
}

impl Entry<'_> {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.value.is_none(), NULL_VALUE)
            | flag(self.key.is_some(), HAS_KEY)
            | flag(self.partition.is_some(), NAMED_PARTITION)
            | flag(self.timestamp_ms.is_some(), NAMED_TIMESTAMP);
        let values = self.headers.iter().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len) + 8);
        out.reserve(24 + values.sum::<usize>() + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len));
        out.extend_from_slice(&[VERSION, flags]);
        if let Some(timestamp_ms) = self.timestamp_ms {
            out.extend_from_slice(&timestamp_ms.to_le_bytes());
        }
        if let Some(partition) = self.partition {
            put(out, u64::from(partition.cast_unsigned()));
        }
        if let Some(key) = self.key {
            put(out, key.len() as u64);
            out.extend_from_slice(key);
        }
        put(out, self.headers.len() as u64);
        for header in &self.headers {
            put(out, header.name.len() as u64);
            out.extend_from_slice(header.name);
            put(out, header.value.map_or(0, |value| value.len() as u64 + 1));
            out.extend_from_slice(header.value.unwrap_or_default());
        }
        out.extend_from_slice(self.value.unwrap_or_default());
    }
}

/// Reads one. `None`: it is none, or of a version to come.
pub fn read(body: &[u8]) -> Option<Entry<'_>> {
    let ([version, flags], mut left) = body.split_first_chunk::<2>()?;
    let left = &mut left;
    if *version != VERSION || flags & !KNOWN_FLAGS != 0 {
        return None;
    }
    let timestamp_ms = match flags & NAMED_TIMESTAMP {
        0 => None,
        _ => {
            let (bytes, rest) = left.split_first_chunk()?;
            *left = rest;
            Some(i64::from_le_bytes(*bytes))
        }
    };
    let partition = match flags & NAMED_PARTITION {
        0 => None,
        _ => Some(i32::try_from(number(left)?).ok()?),
    };
    let key = match flags & HAS_KEY {
        0 => None,
        _ => Some(bytes(left)?),
    };
    // Each header has two bytes at least, so this allocates no more than there is.
    let count = usize::try_from(number(left)?).ok().filter(|count| *count <= left.len() / 2)?;
    let mut headers = SmallVec::with_capacity(count);
    for _ in 0..count {
        let name = bytes(left)?;
        let value = match number(left)? {
            0 => None,
            more => Some(left.split_off(..usize::try_from(more - 1).ok()?)?),
        };
        headers.push(HeaderRef { name, value });
    }
    let value = match flags & NULL_VALUE {
        0 => Some(*left),
        _ => left.is_empty().then_some(None)?,
    };
    Some(Entry { timestamp_ms, partition, key, headers, value })
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(left: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte = *left.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn bytes<'b>(left: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(number(left)?).ok()?;
    left.split_off(..length)
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written_and_no_part_of_it_is_read_as_one() {
        let long = vec![7; 300];
        let some = || -> SmallVec<[HeaderRef<'_>; 4]> {
            let header = |name, value| HeaderRef { name, value };
            smallvec![header(b"tag", Some(b"new")), header(b"", None), header(b"x", Some(b""))]
        };
        for entry in [
            Entry { timestamp_ms: None, partition: None, key: None, headers: smallvec![], value: Some(b"v") },
            Entry {
                timestamp_ms: Some(i64::MAX - 1),
                partition: Some(i32::MAX),
                key: Some(b""),
                headers: smallvec![],
                value: Some(b""),
            },
            Entry { timestamp_ms: None, partition: Some(0), key: Some(&long), headers: some(), value: None },
            Entry { timestamp_ms: Some(0), partition: None, key: Some(b"k"), headers: some(), value: Some(&long) },
        ] {
            let mut out = Vec::new();
            entry.encode(&mut out);
            assert_eq!(format!("{:?}", read(&out)), format!("{:?}", Some(&entry)));
            let before_value = out.len() - entry.value.map_or(0, <[u8]>::len);
            assert!((0..before_value).all(|end| read(&out[..end]).is_none()), "{entry:?}");
        }
        assert_eq!(read(&[2, 0, 0]), None, "a version to come");
        assert_eq!(read(&[1, 16, 0]), None, "a flag to come");
        assert_eq!(read(&[1, 1, 0, 9]), None, "a null value has no bytes");
        assert_eq!(read(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]), None, "more headers than bytes");
    }

    #[test]
    fn a_plain_message_costs_three_bytes() {
        let mut out = Vec::new();
        Entry { timestamp_ms: None, partition: None, key: None, headers: smallvec![], value: Some(b"") }
            .encode(&mut out);
        assert_eq!(out.len(), 3);
    }
}

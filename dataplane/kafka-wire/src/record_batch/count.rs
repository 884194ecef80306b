//! Counting the records of batches that stream by, from their heads alone.
//!
//! A batch says how long it is and how many records it has; a message of the formats before batches (magic 0 and 1) counts
//! as one. What a client wrote there is its own word: a quota that is counted so is no proof of what a broker will find.

use crate::record_batch::{AT_LENGTH, AT_MAGIC, AT_RECORD_COUNT, MAGIC};

/// Offset and length: what every entry begins with.
const ENTRY_HEAD_BYTES: usize = AT_LENGTH + 4;
const HEAD_BYTES: usize = AT_RECORD_COUNT + 4;

/// A count over the `records` fields of one message.
#[derive(Debug)]
pub struct RecordCount {
    count: u64,
    head: [u8; HEAD_BYTES],
    held: usize,
    /// Bytes of the current entry behind its head.
    skip: u64,
}

impl Default for RecordCount {
    fn default() -> RecordCount {
        RecordCount { count: 0, head: [0; HEAD_BYTES], held: 0, skip: 0 }
    }
}

impl RecordCount {
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Another field of records begins; an entry that was cut short in the one before counts for nothing.
    pub fn begin(&mut self) {
        (self.held, self.skip) = (0, 0);
    }

    /// The next bytes of the field.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = &bytes[skipped as usize..];
            if self.skip > 0 || bytes.is_empty() {
                return;
            }
            let part = bytes.len().min(HEAD_BYTES - self.held);
            self.head[self.held..self.held + part].copy_from_slice(&bytes[..part]);
            let before = self.held;
            self.held += part;
            let Some(used) = self.entry() else { return };
            // What was looked at beyond a short entry belongs to the next one.
            bytes = &bytes[used.saturating_sub(before).min(part)..];
        }
    }

    /// Takes the entry whose head is held; None while that is not whole. Gives how many of the held bytes it used.
    fn entry(&mut self) -> Option<usize> {
        if self.held < ENTRY_HEAD_BYTES {
            return None;
        }
        let length =
            u64::from(u32::from_be_bytes(self.head[AT_LENGTH..ENTRY_HEAD_BYTES].try_into().expect("four bytes")));
        let whole = ENTRY_HEAD_BYTES as u64 + length;
        let is_batch = whole >= HEAD_BYTES as u64 && self.held > AT_MAGIC && self.head[AT_MAGIC] == MAGIC as u8;
        let needed = match is_batch {
            true => HEAD_BYTES,
            false if whole > AT_MAGIC as u64 && self.held <= AT_MAGIC => return None,
            false => ENTRY_HEAD_BYTES,
        };
        if self.held < needed {
            return None;
        }
        if is_batch {
            let count = i32::from_be_bytes(self.head[AT_RECORD_COUNT..HEAD_BYTES].try_into().expect("four bytes"));
            self.count += u64::try_from(count).unwrap_or(0);
        } else if length > 0 {
            self.count += 1;
        }
        let used = (self.held as u64).min(whole) as usize;
        self.skip = whole - used as u64;
        self.held = 0;
        Some(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of so many records with so many bytes behind its head.
    fn batch(count: i32, rest: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES + rest];
        bytes[AT_LENGTH..ENTRY_HEAD_BYTES]
            .copy_from_slice(&((HEAD_BYTES + rest - ENTRY_HEAD_BYTES) as u32).to_be_bytes());
        bytes[AT_MAGIC] = MAGIC as u8;
        bytes[AT_RECORD_COUNT..HEAD_BYTES].copy_from_slice(&count.to_be_bytes());
        bytes
    }

    /// A message of format 0 with so many bytes behind its length.
    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; ENTRY_HEAD_BYTES + length];
        bytes[AT_LENGTH..ENTRY_HEAD_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
        bytes
    }

    fn count(bytes: &[u8], piece: usize) -> u64 {
        let mut count = RecordCount::default();
        count.begin();
        bytes.chunks(piece).for_each(|piece| count.pass(piece));
        count.count()
    }

    #[test]
    fn records_are_counted_in_whatever_pieces_batches_arrive() {
        let rows = [
            (vec![], 0),
            (batch(7, 0), 7),
            ([batch(1, 100), batch(1000, 3), batch(0, 0)].concat(), 1001),
            (batch(-5, 10), 0),
            ([message(30), message(5), message(14), batch(2, 1)].concat(), 5),
            ([batch(3, 0), batch(4, 0)[..60].to_vec()].concat(), 3),
        ];
        for (bytes, expected) in rows {
            for piece in 1..=bytes.len().max(1) {
                assert_eq!(count(&bytes, piece), expected, "{} bytes in pieces of {piece}", bytes.len());
            }
        }
    }

    #[test]
    fn a_field_that_ends_inside_a_batch_does_not_spoil_the_next() {
        let mut count = RecordCount::default();
        count.pass(&batch(3, 50)[..80]);
        count.begin();
        count.pass(&batch(4, 0));
        assert_eq!(count.count(), 7);
    }
}

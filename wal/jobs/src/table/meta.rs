//! What the owner of tables has to remember of one, and how its files are called.

use std::collections::BTreeMap;

use disk::Entry;
use journal::format::PAGE_BYTES;

use super::limits::{PART_BYTES_MAX, PARTS_MAX, ROWS_MAX};
use crate::Key;

/// A table as its owner's checkpoint knows it. Files that no such value knows are leftovers ([`unknown`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The owner's, never used again.
    pub number: u64,
    /// How often its jobs were merged, as the owner counts.
    pub tier: u8,
    /// Jobs in its parts.
    pub rows: u64,
    pub seq_min: u64,
    pub seq_max: u64,
    /// In the order of their keys, which do not overlap; at least one.
    pub parts: Vec<PartMeta>,
    pub directory_bytes: u64,
}

/// One part file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartMeta {
    pub number: u32,
    pub bytes: u64,
    pub rows: u64,
    pub first: Key,
    pub last: Key,
}

/// Before the parts, and of each.
const HEAD_BYTES: usize = 45;
const PART_BYTES: usize = 52;

impl Meta {
    /// Of all its files.
    pub fn bytes(&self) -> u64 {
        self.directory_bytes + self.parts.iter().map(|part| part.bytes).sum::<u64>()
    }

    /// Names of its files in their directory.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        let parts = self.parts.iter().map(|part| part_name(self.number, part.number));
        parts.chain([directory_name(self.number)])
    }

    /// Takes out the parts whose jobs are all before this key, and names their files. The last part stays: a table without
    /// any goes as a whole. Write the rest down before removing the files.
    pub fn release_before(&mut self, from: Key) -> Vec<String> {
        let over = self.parts.iter().take_while(|part| part.last < from).count().min(self.parts.len() - 1);
        let released: Vec<PartMeta> = self.parts.drain(..over).collect();
        self.rows -= released.iter().map(|part| part.rows).sum::<u64>();
        released.iter().map(|part| part_name(self.number, part.number)).collect()
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.push(self.tier);
        for field in [self.rows, self.seq_min, self.seq_max, self.directory_bytes] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&(self.parts.len() as u32).to_le_bytes());
        for part in &self.parts {
            out.extend_from_slice(&part.number.to_le_bytes());
            out.extend_from_slice(&part.bytes.to_le_bytes());
            out.extend_from_slice(&part.rows.to_le_bytes());
            for key in [part.first, part.last] {
                out.extend_from_slice(&key.due_ms.to_le_bytes());
                out.extend_from_slice(&key.seq.to_le_bytes());
            }
        }
    }

    /// Takes one from the front. `None`: there is none that can be.
    pub fn decode(bytes: &mut &[u8]) -> Option<Meta> {
        let mut head = bytes.split_off(..HEAD_BYTES)?;
        let number = take_u64(&mut head)?;
        let [tier] = *head.split_off(..1)?.first_chunk()?;
        let (rows, seq_min, seq_max) = (take_u64(&mut head)?, take_u64(&mut head)?, take_u64(&mut head)?);
        let directory_bytes = take_u64(&mut head)?;
        let count = take_u32(&mut head)? as usize;
        let mut table = bytes.split_off(..count.checked_mul(PART_BYTES)?)?;
        let mut parts = Vec::with_capacity(count);
        while !table.is_empty() {
            let number = take_u32(&mut table)?;
            let (bytes, rows) = (take_u64(&mut table)?, take_u64(&mut table)?);
            let (first, last) = (take_key(&mut table)?, take_key(&mut table)?);
            parts.push(PartMeta { number, bytes, rows, first, last });
        }
        let meta = Meta { number, tier, rows, seq_min, seq_max, parts, directory_bytes };
        meta.can_be().then_some(meta)
    }

    /// What arithmetic and allocations depend on.
    fn can_be(&self) -> bool {
        let fits = |part: &PartMeta| {
            (part.number as usize) < PARTS_MAX
                && (PAGE_BYTES as u64 + 1..=PART_BYTES_MAX).contains(&part.bytes)
                && (1..=ROWS_MAX).contains(&part.rows)
                && part.first <= part.last
        };
        let in_order = |pair: &[PartMeta]| pair[0].number < pair[1].number && pair[0].last < pair[1].first;
        !self.parts.is_empty()
            && self.parts.iter().all(fits)
            && self.parts.windows(2).all(in_order)
            && self.parts.iter().map(|part| part.rows).sum::<u64>() == self.rows
            && self.rows <= ROWS_MAX
            && self.seq_min <= self.seq_max
            && self.directory_bytes < 1 << 62
    }
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?))
}

fn take_key(bytes: &mut &[u8]) -> Option<Key> {
    Some(Key { due_ms: take_u64(bytes)? as i64, seq: take_u64(bytes)? })
}

pub(super) fn part_name(number: u64, part: u32) -> String {
    format!("table-{number:016x}-{part:04x}.jobs")
}

pub(super) fn directory_name(number: u64) -> String {
    format!("table-{number:016x}.dir")
}

/// A file that is being made, under no name that is believed.
pub(super) fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

pub(super) fn run_name(number: u64, run: usize) -> String {
    temporary(&format!("table-{number:016x}.run-{run:04x}"))
}

/// What a file's name says it is.
enum Named {
    Part(u64, u32),
    Directory(u64),
    Temporary,
}

fn named(name: &str) -> Option<Named> {
    if let Some(name) = name.strip_suffix(".tmp") {
        let of_run = |name: &str| {
            let (table, run) = name.split_once(".run-")?;
            hex(table.strip_prefix("table-")?, 16)?;
            hex(run, 4)
        };
        return (named(name).is_some_and(|named| !matches!(named, Named::Temporary)) || of_run(name).is_some())
            .then_some(Named::Temporary);
    }
    let name = name.strip_prefix("table-")?;
    if let Some(number) = name.strip_suffix(".dir") {
        return Some(Named::Directory(hex(number, 16)?));
    }
    let (number, part) = name.strip_suffix(".jobs")?.split_once('-')?;
    Some(Named::Part(hex(number, 16)?, u32::try_from(hex(part, 4)?).ok()?))
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(is_digit)).then(|| u64::from_str_radix(text, 16).ok())?
}

/// Files of tables that none of these knows: what a crash left of one that was being made, or did not remove of one that
/// is over. Only while none is being made. Names that are not of tables are left alone.
pub fn unknown(listing: &[Entry], metas: &[Meta]) -> Vec<String> {
    let known: BTreeMap<u64, &Meta> = metas.iter().map(|meta| (meta.number, meta)).collect();
    let is_unknown = |entry: &&Entry| match named(&entry.name) {
        None => false,
        Some(Named::Temporary) => true,
        Some(Named::Directory(number)) => !known.contains_key(&number),
        Some(Named::Part(number, part)) => {
            known.get(&number).is_none_or(|meta| meta.parts.iter().all(|known| known.number != part))
        }
    };
    listing.iter().filter(|entry| !entry.is_dir).filter(is_unknown).map(|entry| entry.name.clone()).collect()
}

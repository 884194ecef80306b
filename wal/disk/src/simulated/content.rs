//! What is in one file: what its readers see, what is durable, and every version of every sector in between.
//!
//! A sector is what a device writes at once, so one holds either an old version or a newer one, never a mixture. Which
//! sectors made it is a matter of chance for each alone, and so is the file's length.

use std::collections::BTreeMap;

use super::chance::{Chance, Survival};

/// What a device writes whole.
pub const SECTOR_BYTES: usize = 512;

pub(super) type Sector = [u8; SECTOR_BYTES];
/// Versions of sectors by their number, oldest first.
pub(super) type Versions = BTreeMap<usize, Vec<Sector>>;

/// One file's content.
#[derive(Default)]
pub struct Content {
    /// What reading shows.
    live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Written and not persisted.
    pub(super) dirty: Versions,
    /// Written, and a persist failed: called clean, and on the disk or not. No later persist covers them.
    pub(super) forsaken: Versions,
    /// Lengths since the last persist.
    pub(super) lengths: Vec<usize>,
}

impl Content {
    /// As a cut leaves it.
    pub fn settled(bytes: Vec<u8>) -> Content {
        Content { live: bytes.clone(), durable: bytes, ..Content::default() }
    }

    pub fn bytes(&self) -> usize {
        self.live.len()
    }

    pub fn read(&self, at: usize, bytes: usize) -> &[u8] {
        let begin = at.min(self.live.len());
        &self.live[begin..at.saturating_add(bytes).clamp(begin, self.live.len())]
    }

    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        let grown_from = self.live.len();
        if end > grown_from {
            self.live.resize(end, 0);
            self.lengths.push(end);
        }
        self.live[at..end].copy_from_slice(bytes);
        self.note(at.min(grown_from), end);
    }

    /// Zeros up to `bytes` into an empty file. Sectors beyond the end of a file are zeros already, or have zeros as their
    /// newest version since it was cut off, so only lengths are new: all of it, or, for what lies between, half.
    pub fn zero(&mut self, bytes: usize) {
        assert_eq!(self.live.len(), 0, "only an empty file is zeroed");
        self.live.resize(bytes, 0);
        self.lengths.extend([bytes / 2, bytes]);
    }

    pub fn truncate(&mut self, bytes: usize) {
        let before = self.live.len();
        self.live.resize(bytes, 0);
        self.lengths.push(bytes);
        self.note(bytes.min(before), bytes.max(before));
    }

    fn note(&mut self, from: usize, to: usize) {
        for number in from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES) {
            let sector = sector(&self.live, number);
            self.dirty.entry(number).or_default().push(sector);
        }
    }

    /// Makes durable what lies from byte `from` on, and the length.
    pub fn persist(&mut self, from: usize) {
        let later = self.dirty.split_off(&(from / SECTOR_BYTES));
        for (number, versions) in later {
            put(&mut self.durable, number, versions.last().expect("noted with a version"));
            self.forsaken.remove(&number);
        }
        self.lengths.clear();
        self.durable.resize(self.live.len(), 0);
    }

    /// A persist failed: what was dirty counts as clean from now on.
    pub fn forsake(&mut self) {
        for (number, versions) in std::mem::take(&mut self.dirty) {
            self.forsaken.entry(number).or_default().extend(versions);
        }
    }

    /// What is there when the power is back.
    pub fn cut(&mut self, chance: &mut Chance) {
        let survival = Survival::draw(chance);
        let mut undecided = std::mem::take(&mut self.forsaken);
        for (number, versions) in std::mem::take(&mut self.dirty) {
            undecided.entry(number).or_default().extend(versions);
        }
        let lengths = std::mem::take(&mut self.lengths);
        let length = match survival.choose(lengths.len() + 1, chance) {
            0 => self.durable.len(),
            newer => lengths[newer - 1],
        };
        for (number, versions) in undecided {
            if let Some(newer) = survival.choose(versions.len() + 1, chance).checked_sub(1) {
                put(&mut self.durable, number, &versions[newer]);
            }
        }
        self.durable.resize(length, 0);
        self.live = self.durable.clone();
    }

    /// A bit rots, where it is read and where it lies.
    pub fn flip(&mut self, at: usize, bit: u8) {
        for bytes in [&mut self.live, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

pub(super) fn sector(bytes: &[u8], number: usize) -> Sector {
    let mut sector = [0; SECTOR_BYTES];
    let begin = (number * SECTOR_BYTES).min(bytes.len());
    let some = &bytes[begin..bytes.len().min(begin + SECTOR_BYTES)];
    sector[..some.len()].copy_from_slice(some);
    sector
}

pub(super) fn put(bytes: &mut Vec<u8>, number: usize, sector: &Sector) {
    let begin = number * SECTOR_BYTES;
    if bytes.len() < begin + SECTOR_BYTES {
        bytes.resize(begin + SECTOR_BYTES, 0);
    }
    bytes[begin..begin + SECTOR_BYTES].copy_from_slice(sector);
}

//! What one partition remembers of idempotent producers (KIP-98, KIP-360): epoch and the last five batches each.
//!
//! Pure. Rebuilt on recovery by feeding it every batch header of the log behind the last snapshot; the snapshot is
//! written when a segment is sealed, so recovery reads one segment.
//!
//! Invariants:
//! - A batch is appended at most once: the same (producer, epoch, sequences) is answered with its first offset.
//! - Sequences of one producer epoch are without gaps; they wrap from `i32::MAX` to 0.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt};
use kafka_wire::error_code::ErrorCode;

use crate::limits::{PRODUCER_BATCHES, PRODUCERS_PER_PARTITION_MAX};
use crate::storage::journal::{FieldReader, FieldWriter};

/// The fields of a batch header that idempotence looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub producer_id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    pub last_offset_delta: i32,
    pub max_timestamp_ms: i64,
}

impl Stamp {
    fn last_sequence(&self) -> i32 {
        // Wraps past i32::MAX to 0, not to i32::MIN.
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32
    }
}

/// Whether a batch may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// Stored before, at this offset.
    Duplicate {
        base_offset: i64,
        timestamp_ms: i64,
    },
    Refuse(ErrorCode),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Written>,
    last_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp_ms: i64,
}

/// All producers of one partition.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
}

impl Producers {
    /// Decides about a batch that is not yet in the log. Batches without a producer id always pass.
    pub fn check(&self, stamp: &Stamp) -> Verdict {
        if stamp.producer_id < 0 {
            return Verdict::Append;
        }
        if stamp.epoch < 0 || stamp.base_sequence < 0 {
            return Verdict::Refuse(ErrorCode::INVALID_RECORD);
        }
        let Some(known) = self.by_id.get(&stamp.producer_id) else {
            // Its state may have been forgotten: any sequence starts anew (KIP-360).
            return Verdict::Append;
        };
        if stamp.epoch < known.epoch {
            return Verdict::Refuse(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if stamp.epoch > known.epoch {
            return match stamp.base_sequence {
                0 => Verdict::Append,
                _ => Verdict::Refuse(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            };
        }
        let same = |written: &&Written| {
            written.first_sequence == stamp.base_sequence && written.last_sequence == stamp.last_sequence()
        };
        if let Some(written) = known.batches.iter().find(same) {
            return Verdict::Duplicate { base_offset: written.base_offset, timestamp_ms: written.timestamp_ms };
        }
        match known.batches.back() {
            Some(last) if next_sequence(last.last_sequence) != stamp.base_sequence => {
                Verdict::Refuse(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            }
            _ => Verdict::Append,
        }
    }

    /// Notes a batch that is in the log now. Also the replay of recovery, which accepts what the log says.
    pub fn record(&mut self, stamp: &Stamp, base_offset: i64, now_ms: i64) {
        if stamp.producer_id < 0 {
            return;
        }
        if !self.by_id.contains_key(&stamp.producer_id) && self.by_id.len() >= PRODUCERS_PER_PARTITION_MAX {
            self.forget_oldest();
        }
        let producer = self.by_id.entry(stamp.producer_id).or_insert_with(|| Producer {
            epoch: stamp.epoch,
            batches: VecDeque::with_capacity(PRODUCER_BATCHES),
            last_ms: now_ms,
        });
        if producer.epoch != stamp.epoch {
            producer.epoch = stamp.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == PRODUCER_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Written {
            first_sequence: stamp.base_sequence,
            last_sequence: stamp.last_sequence(),
            base_offset,
            timestamp_ms: stamp.max_timestamp_ms,
        });
        producer.last_ms = now_ms;
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.by_id.iter().min_by_key(|(_, producer)| producer.last_ms).map(|(id, _)| *id) {
            self.by_id.remove(&oldest);
        }
    }

    /// For the snapshot beside a sealed segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        out.u8(1);
        for (id, producer) in &self.by_id {
            out.i64(*id).i32(i32::from(producer.epoch)).i64(producer.last_ms).u8(producer.batches.len() as u8);
            for written in &producer.batches {
                out.i32(written.first_sequence).i32(written.last_sequence);
                out.i64(written.base_offset).i64(written.timestamp_ms);
            }
        }
        out.0
    }

    /// Reads a snapshot; the caller has checked its CRC.
    pub fn decode(bytes: &[u8]) -> Result<Producers, String> {
        let mut fields = FieldReader(bytes);
        match fields.u8()? {
            1 => {}
            other => return Err(format!("producer snapshot of version {other}")),
        }
        let mut by_id = HashMap::new();
        while !fields.is_empty() {
            let id = fields.i64()?;
            let epoch = i16::try_from(fields.i32()?).map_err(|err| err.to_string())?;
            let last_ms = fields.i64()?;
            let count = usize::from(fields.u8()?);
            if count > PRODUCER_BATCHES || by_id.len() >= PRODUCERS_PER_PARTITION_MAX {
                return Err(format!("producer {id} with {count} batches"));
            }
            let mut batches = VecDeque::with_capacity(PRODUCER_BATCHES);
            for _ in 0..count {
                batches.push_back(Written {
                    first_sequence: fields.i32()?,
                    last_sequence: fields.i32()?,
                    base_offset: fields.i64()?,
                    timestamp_ms: fields.i64()?,
                });
            }
            by_id.insert(id, Producer { epoch, batches, last_ms });
        }
        Ok(Producers { by_id })
    }
}

fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer_id: i64, epoch: i16, base_sequence: i32, count: i32) -> Stamp {
        Stamp { producer_id, epoch, base_sequence, last_offset_delta: count - 1, max_timestamp_ms: 7 }
    }

    #[test]
    fn sequences_decide_as_in_kafka() {
        let refuse = |code| Verdict::Refuse(code);
        let order = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
        // (what is written before, what comes, what is decided)
        let rows: &[(&[Stamp], Stamp, Verdict)] = &[
            (&[], stamp(-1, -1, -1, 3), Verdict::Append),
            (&[], stamp(1, 0, 0, 3), Verdict::Append),
            (&[], stamp(1, 0, 40, 3), Verdict::Append),
            (&[], stamp(1, -1, 0, 3), refuse(ErrorCode::INVALID_RECORD)),
            (&[stamp(1, 0, 0, 3)], stamp(1, 0, 3, 1), Verdict::Append),
            (&[stamp(1, 0, 0, 3)], stamp(1, 0, 4, 1), refuse(order)),
            (&[stamp(1, 0, 0, 3)], stamp(1, 0, 2, 1), refuse(order)),
            (&[stamp(1, 0, 0, 3)], stamp(1, 0, 0, 3), Verdict::Duplicate { base_offset: 0, timestamp_ms: 7 }),
            (&[stamp(1, 0, 0, 3)], stamp(1, 0, 0, 2), refuse(order)),
            (&[stamp(1, 0, 0, 3)], stamp(2, 0, 0, 3), Verdict::Append),
            (&[stamp(1, 4, 0, 3)], stamp(1, 3, 3, 1), refuse(ErrorCode::INVALID_PRODUCER_EPOCH)),
            (&[stamp(1, 4, 0, 3)], stamp(1, 5, 0, 1), Verdict::Append),
            (&[stamp(1, 4, 0, 3)], stamp(1, 5, 3, 1), refuse(order)),
            (&[stamp(1, 0, i32::MAX - 1, 2)], stamp(1, 0, 0, 1), Verdict::Append),
            (&[stamp(1, 0, i32::MAX - 1, 4)], stamp(1, 0, 2, 1), Verdict::Append),
        ];
        for (row, (before, comes, decided)) in rows.iter().enumerate() {
            let mut producers = Producers::default();
            for (offset, written) in before.iter().enumerate() {
                producers.record(written, offset as i64, 0);
            }
            assert_eq!(producers.check(comes), *decided, "row {row}");
        }
    }

    #[test]
    fn the_last_five_batches_are_remembered_and_no_more() {
        let mut producers = Producers::default();
        for sequence in 0..7 {
            producers.record(&stamp(9, 0, sequence, 1), 100 + i64::from(sequence), 0);
        }
        for sequence in 2..7 {
            let base_offset = 100 + i64::from(sequence);
            assert_eq!(producers.check(&stamp(9, 0, sequence, 1)), Verdict::Duplicate { base_offset, timestamp_ms: 7 });
        }
        assert_eq!(producers.check(&stamp(9, 0, 1, 1)), Verdict::Refuse(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }

    #[test]
    fn a_snapshot_brings_everything_back() {
        let mut producers = Producers::default();
        for id in 0..50 {
            for sequence in 0..id % 7 {
                producers.record(&stamp(id as i64, 3, sequence, 1), i64::from(id * 10 + sequence), 5);
            }
        }
        let bytes = producers.encode();
        assert_eq!(Producers::decode(&bytes).unwrap(), producers);
        for cut in 1..bytes.len() {
            // Cut snapshots may decode to fewer producers, never panic; the CRC around them catches the rest.
            let _ = Producers::decode(&bytes[..cut]);
        }
    }

    #[test]
    fn the_producer_that_wrote_longest_ago_makes_room() {
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_PER_PARTITION_MAX as i64 {
            producers.record(&stamp(id, 0, 0, 1), id, id);
        }
        assert_eq!(producers.by_id.len(), PRODUCERS_PER_PARTITION_MAX);
        assert_eq!(producers.check(&stamp(0, 0, 9, 1)), Verdict::Append, "forgotten");
        assert_eq!(producers.check(&stamp(1, 0, 9, 1)), Verdict::Refuse(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }
}

//! Null mode: a broker that costs as little as possible, to measure what stands before it.
//!
//! Every topic exists, with four partitions. A produced batch is looked at as far as its header, counted and
//! forgotten; offsets grow. A fetch is answered with made-up records that begin at the offset asked for. Groups,
//! offsets and everything else run the ordinary code without a disk.
//!
//! Cost per produced batch: one hash lookup and one header decode, no checksum, no copy, no syscall.

use bytes::{Bytes, BytesMut};
use foldhash::HashMap;
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::{BatchBuilder, BatchHeader, RecordRef, patch_base_offset};

use crate::limits::{LEADER_EPOCH, NULL_PARTITIONS, NULL_TOPICS_MAX, PARTITIONS_MAX, TOPIC_NAME_BYTES_MAX};

const SYNTHETIC_RECORDS: u32 = 100;
const SYNTHETIC_VALUE_BYTES: usize = 1024;

/// Offsets of every topic ever produced to.
pub struct NullTopics {
    ends: HashMap<Bytes, Vec<i64>>,
    /// A batch of made-up records.
    synthetic: Bytes,
}

impl NullTopics {
    pub fn new() -> NullTopics {
        let mut builder = BatchBuilder::with_capacity(128 * 1024);
        let value = vec![b'x'; SYNTHETIC_VALUE_BYTES];
        for _ in 0..SYNTHETIC_RECORDS {
            let record = RecordRef { timestamp_ms: 1_700_000_000_000, key: None, value: Some(&value), headers: &[] };
            builder.append(&record);
        }
        NullTopics { ends: HashMap::default(), synthetic: builder.seal(Compression::None).to_bytes() }
    }

    /// Partitions of any topic; a few more when a client made it so.
    pub fn partitions(&self, topic: &[u8]) -> i32 {
        self.ends.get(topic).map_or(NULL_PARTITIONS, |ends| ends.len() as i32)
    }

    /// Makes a topic known, with this many partitions.
    pub fn create(&mut self, topic: &str, partitions: i32) {
        if self.ends.len() < NULL_TOPICS_MAX {
            let partitions = partitions.clamp(1, PARTITIONS_MAX as i32) as usize;
            self.ends.insert(Bytes::copy_from_slice(topic.as_bytes()), vec![0; partitions]);
        }
    }

    /// Forgets a topic.
    pub fn delete(&mut self, topic: &str) {
        self.ends.remove(topic.as_bytes());
    }

    /// Names known so far.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ends.keys().filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// Counts a batch and gives it its offset.
    pub fn append(&mut self, topic: &Bytes, index: i32, records: &[u8]) -> Result<i64, ErrorCode> {
        let header = BatchHeader::decode(records).map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        if header.record_count <= 0 {
            return Err(ErrorCode::INVALID_RECORD);
        }
        let index = usize::try_from(index).map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let ends = match self.ends.get_mut(topic) {
            Some(ends) => ends,
            None => self.meet(topic)?,
        };
        let end = ends.get_mut(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let base_offset = *end;
        *end += i64::from(header.record_count);
        Ok(base_offset)
    }

    /// A topic that nobody produced to before.
    fn meet(&mut self, topic: &Bytes) -> Result<&mut Vec<i64>, ErrorCode> {
        if topic.len() > TOPIC_NAME_BYTES_MAX {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        if self.ends.len() >= NULL_TOPICS_MAX {
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        // The name must not keep the frame it came in.
        let name = Bytes::copy_from_slice(topic);
        Ok(self.ends.entry(name).or_insert_with(|| vec![0; NULL_PARTITIONS as usize]))
    }

    /// Offset behind the last record produced.
    pub fn end(&self, topic: &[u8], index: i32) -> i64 {
        let index = usize::try_from(index).ok();
        index.and_then(|index| self.ends.get(topic)?.get(index).copied()).unwrap_or(0)
    }

    /// Made-up records from `offset`, as many batches as fit, at least one.
    pub fn read(&self, offset: i64, bytes_max: usize) -> Bytes {
        let batches = (bytes_max / self.synthetic.len()).clamp(1, 8);
        let mut out = BytesMut::with_capacity(batches * self.synthetic.len());
        for batch in 0..batches {
            let begin = out.len();
            out.extend_from_slice(&self.synthetic);
            let base_offset = offset.saturating_add(batch as i64 * i64::from(SYNTHETIC_RECORDS));
            patch_base_offset(&mut out[begin..], base_offset, LEADER_EPOCH);
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::record_batch::batches;

    #[test]
    fn offsets_grow_per_partition_and_fetched_records_begin_where_asked() {
        let mut null = NullTopics::new();
        let batch = null.synthetic.clone();
        let topic = Bytes::from_static(b"t");
        assert_eq!(null.append(&topic, 0, &batch), Ok(0));
        assert_eq!(null.append(&topic, 0, &batch), Ok(100));
        assert_eq!(null.append(&topic, 3, &batch), Ok(0));
        assert_eq!(null.append(&topic, 4, &batch), Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        assert_eq!(null.append(&topic, 0, b"no batch"), Err(ErrorCode::CORRUPT_MESSAGE));
        assert_eq!(null.end(b"t", 0), 200);
        let records = null.read(1234, 300 * 1024);
        let bases: Vec<i64> = batches(records)
            .map(|batch| {
                let batch = batch.unwrap();
                batch.verify_crc().unwrap();
                batch.header.base_offset
            })
            .collect();
        assert_eq!(bases, [1234, 1334]);
    }
}

//! One partition: its log, its producers, and how much of it is durable.
//!
//! Invariant: `high_watermark` is the durable end of the log. Consumers read below it only, so nobody ever sees a
//! record that a power cut could take back.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use disk::Disk;
use kafka_wire::WireError;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::{BatchHeader, batches, set_log_append_time, set_max_timestamp, validate_batch};
use tracing::{error, warn};

use crate::clock::Now;
use crate::limits::LOOKUP_DECOMPRESSED_BYTES_MAX;
use crate::refusal::Refusal;
use crate::state::configs::TopicOptions;
use crate::storage::log::{LogError, PartitionLog, stamp_of};
use crate::storage::producers::{Producers, Verdict};
use crate::storage::syncer::{SyncPoint, SyncState, Syncer};

/// Names a fetch that waits for records; chosen by whoever keeps it.
pub type FetchKey = u64;

/// A batch that is in the log.
pub struct Stored {
    pub base_offset: i64,
    /// Epoch ms when the topic stamps records itself, else −1.
    pub log_append_time_ms: i64,
    /// First offset that can be read.
    pub log_start_offset: i64,
    /// Wait for this before answering acks=all. None: durable already.
    pub point: Option<SyncPoint>,
    /// Nothing of this partition was on its way to the disk before: the broker must look after it now.
    pub newly_dirty: bool,
}

struct Unsynced {
    point: SyncPoint,
    end_offset: i64,
    bytes: u64,
}

/// What became visible to consumers.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that became durable since the last look.
    pub bytes: u64,
    /// Nothing more is to come: forget this partition until the next append.
    pub settled: bool,
}

/// One partition.
pub struct Partition {
    log: PartitionLog,
    producers: Producers,
    high_watermark: i64,
    unsynced: VecDeque<Unsynced>,
    /// Waiting fetches that look at this partition.
    pub fetches: Vec<FetchKey>,
}

impl Partition {
    /// Opens or prepares the log in `dir`. What recovery leaves was persisted, so it is durable. `exists`: when the
    /// catalogue's word that there is this partition will be.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        start_offset: i64,
        exists: Option<SyncPoint>,
        now: Now,
    ) -> Result<Partition, LogError> {
        let (log, producers) = PartitionLog::open(disk, dir, start_offset, exists, now.ms)?;
        let high_watermark = log.end_offset();
        Ok(Partition { log, producers, high_watermark, unsynced: VecDeque::new(), fetches: Vec::new() })
    }

    /// First offset that can be read.
    pub fn start_offset(&self) -> i64 {
        self.log.start_offset()
    }

    /// End of what consumers may read.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// What it takes of the disk.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Checks one produced batch as a leader does and appends it.
    pub fn append(
        &mut self,
        records: &Bytes,
        options: &TopicOptions,
        syncer: &Syncer,
        now: Now,
    ) -> Result<Stored, Refusal> {
        if records.len() > options.batch_bytes_max {
            let message =
                format!("batch of {} bytes exceeds max.message.bytes={}", records.len(), options.batch_bytes_max);
            return Err(Refusal::new(ErrorCode::MESSAGE_TOO_LARGE, message));
        }
        let (mut header, largest_ms) = check(records)?;
        match self.producers.check(&stamp_of(&header)) {
            Verdict::Append => {}
            Verdict::Refuse(code) => {
                let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = header;
                let message = format!("producer {producer_id} epoch {producer_epoch} sequence {base_sequence}");
                return Err(Refusal::new(code, message));
            }
            Verdict::Duplicate { base_offset, timestamp_ms } => {
                let point = self.point_of(base_offset)?;
                let log_append_time_ms = if options.log_append_time { timestamp_ms } else { -1 };
                let log_start_offset = self.start_offset();
                return Ok(Stored { base_offset, log_append_time_ms, log_start_offset, point, newly_dirty: false });
            }
        }
        let mut batch = records.clone();
        let mut log_append_time_ms = -1;
        if options.log_append_time {
            let mut copy = records.to_vec();
            set_log_append_time(&mut copy, now.ms);
            header.max_timestamp_ms = now.ms;
            log_append_time_ms = now.ms;
            batch = Bytes::from(copy);
        } else if header.max_timestamp_ms != largest_ms {
            // As Kafka: retention and lookups by time look at the header, and some clients do not fill it in.
            let mut copy = records.to_vec();
            set_max_timestamp(&mut copy, largest_ms);
            header.max_timestamp_ms = largest_ms;
            batch = Bytes::from(copy);
        }
        let base_offset =
            self.log.append(&batch, &header, &options.log, &self.producers, now).map_err(storage_refusal)?;
        self.producers.record(&stamp_of(&header), base_offset, now.ms);
        let target = self.log.sync_target().expect("an append leaves the file open");
        let point = syncer.request(target);
        let end_offset = self.log.end_offset();
        let newly_dirty = self.unsynced.is_empty();
        self.unsynced.push_back(Unsynced { point: point.clone(), end_offset, bytes: batch.len() as u64 });
        let log_start_offset = self.start_offset();
        Ok(Stored { base_offset, log_append_time_ms, log_start_offset, point: Some(point), newly_dirty })
    }

    /// When a batch that is in the log is durable; None: it is. Having been seen before is not being durable.
    fn point_of(&self, base_offset: i64) -> Result<Option<SyncPoint>, Refusal> {
        if base_offset < self.high_watermark {
            return Ok(None);
        }
        let waits = self.unsynced.iter().find(|unsynced| unsynced.end_offset > base_offset);
        let lost = || Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, "this batch could not be made durable before");
        waits.map(|unsynced| Some(unsynced.point.clone())).ok_or_else(lost)
    }

    /// Moves the high watermark to what is durable by now.
    pub fn progress(&mut self) -> Progress {
        let mut bytes = 0;
        while let Some(first) = self.unsynced.front() {
            match first.point.state() {
                SyncState::Pending => return Progress { bytes, settled: false },
                SyncState::Durable => {
                    self.high_watermark = first.end_offset;
                    bytes += first.bytes;
                    self.unsynced.pop_front();
                }
                SyncState::Failed => {
                    self.log.poison("an fsync failed");
                    self.unsynced.clear();
                }
            }
        }
        Progress { bytes, settled: true }
    }

    /// Whole batches from the one that holds `offset`, up to the high watermark.
    pub fn read(&mut self, offset: i64, bytes_max: usize) -> Result<Bytes, Refusal> {
        self.log.read(offset, self.high_watermark, bytes_max).map_err(storage_refusal)
    }

    /// Offset and timestamp for ListOffsets; (−1, −1) when nothing fits. Adds the records it had to look through to
    /// `opened_bytes`.
    pub fn find(&mut self, wanted: Wanted, opened_bytes: &mut usize) -> Result<(i64, i64), Refusal> {
        let found = match wanted {
            Wanted::Earliest => return Ok((self.start_offset(), -1)),
            Wanted::Latest => return Ok((self.high_watermark, -1)),
            Wanted::MaxTimestamp => self.log.find_max_timestamp(self.high_watermark, opened_bytes),
            Wanted::Timestamp(timestamp_ms) => self.log.find_timestamp(timestamp_ms, self.high_watermark, opened_bytes),
        };
        Ok(found.map_err(storage_refusal)?.map_or((-1, -1), |found| (found.offset, found.timestamp_ms)))
    }

    /// Where the partition would begin without the records before `offset`, −1 meaning without all that are durable.
    pub fn check_delete_before(&self, offset: i64) -> Result<i64, Refusal> {
        let offset = if offset == -1 { self.high_watermark } else { offset };
        if offset > self.high_watermark {
            return Err(Refusal::new(ErrorCode::OFFSET_OUT_OF_RANGE, "beyond the high watermark"));
        }
        self.log.check_start(offset).map_err(storage_refusal)?;
        Ok(offset)
    }

    /// Begins at `offset` from now on; the catalogue says so, durably at `point`. Files go then.
    pub fn forget_before(&mut self, offset: i64, point: Option<SyncPoint>) {
        self.log.forget_before(offset, point);
    }

    /// Where it should begin by its topic's retention, if that is later than it does.
    pub fn start_by_retention(&mut self, options: &TopicOptions, now: Now) -> Option<i64> {
        let limit = self.high_watermark;
        let start = self.log.start_by_retention(&options.log, limit, &self.producers, now.ms);
        start.unwrap_or_else(|err| {
            warn!(%err, "retention failed");
            None
        })
    }

    /// Files of forgotten records, and idle ones.
    pub fn housekeep(&mut self, now: Now) {
        self.log.remove_forgotten();
        if self.unsynced.is_empty() {
            self.log.close_if_idle(now);
        }
    }

    /// Deletes the files.
    pub fn remove(self) {
        self.log.remove();
    }
}

/// What ListOffsets asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Earliest,
    Latest,
    MaxTimestamp,
    Timestamp(i64),
}

impl Wanted {
    /// Whether records have to be looked through.
    pub fn is_by_time(self) -> bool {
        matches!(self, Wanted::MaxTimestamp | Wanted::Timestamp(_))
    }
}

/// One batch, whole, with its checksum, and every record where its header says. The header, and the largest timestamp
/// there is.
fn check(records: &Bytes) -> Result<(BatchHeader, i64), Refusal> {
    let refuse = |err: WireError| {
        let code = match &err {
            WireError::Crc { .. } | WireError::Truncated { .. } => ErrorCode::CORRUPT_MESSAGE,
            WireError::Magic { .. } => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            _ => ErrorCode::INVALID_RECORD,
        };
        Refusal::new(code, err.to_string())
    };
    let header = validate_batch(records).map_err(refuse)?;
    if header.is_control() || header.is_transactional() {
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, "this broker has no transactions"));
    }
    let batch = batches(records.clone()).next().expect("validated: one whole batch").map_err(refuse)?;
    let largest_ms = batch.validate_records(LOOKUP_DECOMPRESSED_BYTES_MAX).map_err(refuse)?;
    Ok((header, largest_ms))
}

fn storage_refusal(err: LogError) -> Refusal {
    match &err {
        LogError::OutOfRange { .. } => Refusal::new(ErrorCode::OFFSET_OUT_OF_RANGE, err.to_string()),
        LogError::Io { .. } | LogError::Poisoned { .. } | LogError::Damaged { .. } => {
            error!(%err, source = ?std::error::Error::source(&err), "partition log");
            Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, err.to_string())
        }
    }
}

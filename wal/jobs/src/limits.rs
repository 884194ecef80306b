//! Every number the job store is bounded by, and how they relate.

use std::time::Duration;

/// A job's number is below this: an id has so many bits for it.
pub const SEQ_MAX: u64 = (1 << 44) - 1;

/// Queues; each costs some 400 bytes while anything of it is known.
pub const QUEUES_MAX: usize = 65_536;

/// Pages of states (16,384 jobs, 4 KiB) where what came to an end is remembered: the last 33 million jobs, 8 MiB.
pub const PAGES_REMEMBERED_MAX: u64 = 2_048;
/// Of an older page only what waits is kept when that is less than the page.
pub const SPARSE_MAX: usize = 1_024;

/// One turn of the wheel's hand.
pub const WHEEL_SLOT_MS: i64 = 10;
/// Once round is 164 s.
pub const WHEEL_SLOTS: i64 = 16_384;
/// Jobs are taken into the wheel so long before they are due, when there is room.
pub const AHEAD_MS: i64 = 10_000;
const _: () = assert!(AHEAD_MS * 2 < WHEEL_SLOT_MS * (WHEEL_SLOTS - 1));

/// What a machine with less memory may have less of, and a test much less.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Jobs in the wheel that came out of tables; 24 bytes each.
    pub wheel_max: usize,
    /// A look into the tables brings at most so many.
    pub scan_rows_max: usize,
    /// Jobs added since the last table was begun, and their bytes, in memory and in the log: with any of these a table is made.
    pub memory_jobs_max: usize,
    pub memory_bytes_max: u64,
    pub memory_log_bytes_max: u64,
    /// Jobs of a queue that are due and known by number, on time and late each; more stay in the tables until there is room.
    pub queue_due_max: usize,
    /// Of all queues, at least twice that; 16 bytes each.
    pub due_max: usize,
    /// Jobs of a queue that were given to Kafka and have no answer.
    pub queue_in_flight_max: usize,
    /// Of all queues.
    pub in_flight_max: usize,
    /// So many tables of a tier become one of the next.
    pub merge_min: usize,
    /// While there are so many tables of the first tier, memory waits for the merge that runs, and adds are refused when it is full:
    /// every table costs open files, and a look into it.
    pub fresh_tables_max: usize,
    /// A merge goes on for so many operations of the disk before what memory has is looked at.
    pub merge_piece: usize,
    /// Tables are read again in search of rot at this pace, while there is nothing else to do with them,
    pub scrub_bytes_per_second: u64,
    /// and so long after the begin of a pass over all of them the next one begins.
    pub scrub_every: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            wheel_max: 500_000,
            scan_rows_max: 32_768,
            memory_jobs_max: 262_144,
            memory_bytes_max: 32 << 20,
            memory_log_bytes_max: 64 << 20,
            queue_due_max: 32_768,
            due_max: 1 << 20,
            queue_in_flight_max: 4_096,
            in_flight_max: 32_768,
            merge_min: 8,
            fresh_tables_max: 64,
            // Some 2 MB, 10 ms.
            merge_piece: 32,
            // 100 million jobs of 64 bytes are 11 GB: 23 minutes.
            scrub_bytes_per_second: 8 << 20,
            scrub_every: Duration::from_secs(6 * 60 * 60),
        }
    }
}

/// While the last generation of jobs in memory cannot be written, so many times as much is taken; beyond it adding is refused.
pub const MEMORY_OVER_MAX: u64 = 2;

/// Later than this, and a job waits with those that are late, so that those that are on time do not wait for it.
pub const LATE_MS: i64 = 1_000;

/// Jobs of one account that are taken before another's turn.
pub const QUANTUM: usize = 256;

/// Keys of adds that are remembered; some 80 bytes each.
pub const KEYS_MAX: usize = 500_000;
/// So long.
pub const KEYS_KEPT_MS: i64 = 24 * 60 * 60 * 1_000;

/// Jobs that wait although they have another time than their table says; some 40 bytes each.
pub const MOVED_MAX: usize = 1_000_000;
/// Jobs that cannot be delivered and wait for somebody to decide; some 200 bytes each.
pub const PARKED_MAX: usize = 100_000;

/// Jobs in one record that says what became of them.
pub const LIST_MAX: usize = 4_096;

/// A start goes on so far behind the last number it finds: what was given after that was not durable, and was told if its
/// client did not wait for that.
pub const SEQS_SKIPPED: u64 = 1 << 20;

/// Tables that become one at once.
pub const MERGE_MAX: usize = 16;
pub const TIERS_MAX: u8 = 8;

/// Blocks of tables that a thread keeps decoded, 64 KiB each.
pub const BLOCKS_KEPT_MAX: usize = 64;
/// Jobs that are due are taken at most this often, so that they go in batches.
pub const TICK: Duration = Duration::from_millis(5);
/// At once, and about so many bytes of them.
pub const TAKE_MAX: usize = 4_096;
pub const TAKE_BYTES: usize = 4 << 20;
/// Bytes of jobs at Kafka.
pub const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;
/// A body up to this is copied out of its block, which would stay in memory as long as it.
pub const BODY_COPIED_MAX: usize = 16 << 10;

/// Questions about jobs that wait; beyond it one is refused.
pub const QUESTIONS_MAX: usize = 4_096;
/// Rows a list looks at before it answers with what it has.
pub const LIST_LOOKED_MAX: usize = 65_536;
/// How often tables are looked into for what is due next.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
const _: () = assert!(LOOK_EVERY.as_millis() * 10 < AHEAD_MS as u128);
/// After a failure.
pub const SCAN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Operations in flight on the ring of the thread that writes tables: one, and what opens and closes its handles.
pub const RING_DEPTH: usize = 16;
/// The least there is: it reads through the page cache, so nothing needs memory that is registered.
pub const RING_MEMORY_BYTES: usize = 64 << 10;

/// The first pass of a scrub begins so long after the start, or sooner when the next ones do.
pub const SCRUB_FIRST_AFTER: Duration = Duration::from_secs(60);
/// A scrub that has rested does not make up for more than this.
pub const SCRUB_BURST: Duration = Duration::from_millis(200);
/// Places that are rotten and were told, so that they are not told again; beyond it the oldest is.
pub const ROTTEN_TOLD_MAX: usize = 4_096;

/// How often is looked whether a table is to be made.
pub const TEND_EVERY: Duration = Duration::from_millis(50);
/// A snapshot at least this often while anything changes,
pub const CHECKPOINT_AFTER: Duration = Duration::from_secs(5);
/// this soon after a table was written,
pub const CHECKPOINT_AFTER_TABLE: Duration = Duration::from_secs(1);
/// and as soon as so many records came.
pub const CHECKPOINT_RECORDS: u64 = 500_000;

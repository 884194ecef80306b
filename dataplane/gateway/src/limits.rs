//! Every limit of a gateway shard, in one place, with its reason.

use gafka_http::limits::HEAD_BYTES_MAX;
use kafka_client::limits::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, RECORD_BYTES_MAX};
use std::time::Duration;

/// Largest `limits.message_bytes` an operator may set. Kafka brokers default to 1 MiB batches; topics for larger
/// messages exist, but a gateway that buffers more than this per request is a file server.
pub const MESSAGE_BYTES_CEILING: usize = 10_000_000;
/// Smallest memory budget a gateway starts with: a few messages of the largest size.
pub const MEMORY_BYTES_FLOOR: u64 = 16 << 20;
/// Requests of one connection that may wait for their answer at once (HTTP pipelining). Beyond it the gateway stops
/// reading, which the client sees as TCP back-pressure.
pub const PIPELINE_DEPTH_MAX: usize = 256;
/// Head and small bodies are parsed out of pooled buffers of this size.
pub const READ_BUFFER_BYTES: usize = 16 << 10;
/// Answers of a shard are written into blocks of this size, about ten in each. A client that does not read its answer
/// keeps the whole block, so it is small.
pub const ANSWER_BLOCK_BYTES: usize = 4 << 10;
/// In the memory budget: whoever has not said yet who it is, and requests that belong to no cluster.
pub const ANONYMOUS: u32 = u32::MAX;
/// In the memory budget: records on their way from Kafka to polls, as if they were a cluster. So reading takes half of a
/// shard at most, and what waits for Kafka has the rest.
pub const READING: u32 = u32::MAX - 1;
/// Values from this size on are linked into the produce request, not copied (DESIGN.md section 3: copying 1 KiB costs
/// less than reference-counting it).
pub const VALUE_SHARED_BYTES_MIN: usize = 16 << 10;
/// A publish waits so long for Kafka by default.
pub const PUBLISH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// `key` in the query, as in 2017.
pub const KEY_BYTES_MAX: usize = 256;
/// `X-Tag` on publish, as in 2017.
pub const TAG_BYTES_MAX: usize = 1024;
/// Record headers one publish may carry (tags and `X-Header-*` together).
pub const RECORD_HEADERS_MAX: usize = 64;
/// Connections per shard and listener; further ones are closed at once and counted.
pub const CONNECTIONS_MAX: usize = 100_000;
/// A connection that never sent a byte is closed after this: its client has forgotten it, or means harm.
pub const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(10);
/// Descriptors that clients leave to the brokers of one cluster, on each shard,
pub const BROKER_DESCRIPTORS: usize = 128;
/// and to files, listeners, rings and the manager.
pub const OTHER_DESCRIPTORS: usize = 256;
/// An answer of this size must be taken within `limits.write_timeout`,
pub const WRITE_BYTES_FREE: u64 = 128 << 10;
/// and what it is larger, at least this fast: a poll's 32 MiB fit no 30 seconds of every line.
pub const WRITE_BYTES_PER_S_MIN: u64 = 64 << 10;
/// How often the sweeper looks for connections past their deadline.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// The first time; then twice as long each time, up to that.
pub const SWEEP_INTERVAL_FIRST: Duration = Duration::from_millis(15);
/// After an error that ends the connection, how many bytes are still read and thrown away, so that the client sees
/// the answer instead of a reset: most clients send the whole of a body before they look.
pub const LINGER_BYTES_MAX: usize = 16 << 20;
/// And for how long.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(1);
/// The body of a refused request is passed over up to this length, to keep its connection; for a longer one a new
/// connection is cheaper.
pub const DISCARD_BYTES_MAX: u64 = 256 << 10;
/// A head that is remembered for the next publish of its connection is at most this long: idle connections keep it.
pub const REPEATED_HEAD_BYTES_MAX: usize = 2 << 10;
/// What a queued publish costs beyond its bytes, for the budget: waiter, slot, run; in the Kafka client's count up to 128
/// while it waits for metadata, 61 of a batch's header and 40 of its own lengths; and a small key with a few headers.
pub const PUBLISH_OVERHEAD_BYTES: usize = 512;
/// Key and headers of a single publish up to this size are in [`PUBLISH_OVERHEAD_BYTES`]; larger ones are charged.
pub const PUBLISH_META_BYTES_FREE: usize = 256;
/// A record header's lengths, in its batch.
pub const RECORD_HEADER_OVERHEAD_BYTES: usize = 8;
/// Key, headers and lengths of one record at most. They come with a request's head, or are limited as if they did.
pub const RECORD_META_BYTES_MAX: usize = HEAD_BYTES_MAX + RECORD_HEADERS_MAX * RECORD_HEADER_OVERHEAD_BYTES + 64;
/// Beside what the budget lets wait for a cluster, the Kafka client's queue has room for the requests of so many
/// connections to frozen brokers: their records were answered 504 and are not charged any more, but are still sent.
pub const QUEUE_LEFTOVER_CONNECTIONS: usize = 4;
/// What a record of a batch costs beyond its bytes while it is with the Kafka client, for the budget: up to 128 while it
/// waits for metadata, its lengths in a batch, its run.
pub const BATCH_RECORD_OVERHEAD_BYTES: usize = 160;
/// A cluster that answered is asked again after this (`prober.rs`).
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// A cluster that has not answered by then is down.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// When the broker asked first is silent for so long, another one is asked as well. The Kafka client holds a connection
/// for slow after one second; this is a little more.
pub const PROBE_PATIENCE: Duration = Duration::from_millis(1050);
/// A cluster that is down is asked again after this; the question itself waits for the first broker that comes up.
pub const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// After an error the next question of the round.
pub const PROBE_RETRY: Duration = Duration::from_millis(100);
/// Questions of one round.
pub const PROBE_QUESTIONS_MAX: usize = 8;
/// Letters between shards that may queue up; a poll that finds a full mailbox is answered 503, all else is kept.
pub const MAILBOX_DEPTH: usize = 4096;
/// What a full mailbox did not take is sent again after this.
pub const MAIL_RETRY_PAUSE: Duration = Duration::from_millis(1);
/// Fresh connections that may wait to be taken over by another shard; beyond it the shard that accepted keeps them.
pub const ADOPT_DEPTH: usize = 1024;

/// A body must arrive at least this fast on average, after its grace.
pub const BODY_BYTES_PER_S_MIN: u64 = 8 << 10;
/// How long a body may take to begin, in times of `limits.head_timeout`.
pub const BODY_GRACE_HEADS: u32 = 2;
/// Records of one batch request that may be with Kafka at once; beyond it its body is not read on.
pub const BATCH_UNANSWERED_RECORDS_MAX: u64 = 64 << 10;
/// And their bytes. A few full record batches for each of a few partitions.
pub const BATCH_UNANSWERED_BYTES_MAX: usize = 8 << 20;
/// Receipts of a streamed batch that its client has not read yet; beyond it its body is not read on.
pub const BATCH_UNREAD_RECEIPTS_MAX: u64 = 64 << 10;
/// Receipts are written in pieces of about this size.
pub const RECEIPTS_PIECE_BYTES: usize = 64 << 10;
/// What a batch request costs beyond its records, for the budget.
pub const BATCH_OVERHEAD_BYTES: usize = 4 << 10;
/// After a record that cannot be delimited, how much of the body is still read and thrown away.
pub const BATCH_DRAIN_BYTES_MAX: u64 = 16 << 20;
/// And for how long.
pub const BATCH_DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// A batch that waits for memory or for room in the client's queue looks again this often.
pub const BATCH_RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Records that arrive within this share of their timeout share a deadline, so that they also share a run.
pub const BATCH_DEADLINE_SHARE: u32 = 64;
/// A compressed batch may be this long whatever it was compressed from,
pub const DECODED_BYTES_FREE: u64 = 16 << 20;
/// and beyond that this many times what was received. JSON of equal lines reaches about 100; a bomb 1,000 and more.
pub const DECODED_RATIO_MAX: u64 = 200;
/// So many decoded bytes of a batch are taken in one turn; then others get theirs. A few bytes may stand for megabytes.
pub const DECODED_TURN_BYTES: u64 = 512 << 10;
/// Decoded bytes of a batch are parsed in pieces of this size.
pub const DECODED_PIECE_BYTES: usize = 32 << 10;
/// Largest zstd window: 8 MiB, what senders must stay within (RFC 9659).
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Smallest window a small memory budget leaves.
pub const ZSTD_WINDOW_LOG_MIN: u32 = 17;
/// Raw topics one app may use on a shard; those that nobody used for an hour do not count when it wants more.
pub const RAW_TOPICS_PER_APP_MAX: u32 = 1_000;
/// And all apps together; a quarter of what the client keeps.
pub const RAW_TOPICS_MAX: usize = 16 << 10;
/// Those are looked for at most so often.
pub const RAW_SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Groups one app may keep alive on a shard, one for each topic it reads: each is a member of a Kafka group.
pub const GROUPS_PER_APP_MAX: u32 = 1_000;
/// And all apps together.
pub const GROUPS_MAX: usize = 10_000;
/// Messages that may wait in the journal; each place costs some 60 bytes of memory where nothing can be put together.
pub const HANDOFF_RECORDS_MAX: u64 = 20_000_000;
/// Records of a batch that are appended to the journal together,
pub const HANDOFF_GROUP_RECORDS_MAX: usize = 1_000;
/// and their bytes, unless one is larger.
pub const HANDOFF_GROUP_BYTES_MAX: usize = 512 << 10;
/// Publishes of a shard that wait at gates. Beyond it they are 503: their memory is in the budget already.
pub const HANDOFF_HELD_MAX: usize = 10_000;
/// After a pause one message is delivered first; then so many bytes of a partition are on their way at most,
pub const HANDOFF_WINDOW_BYTES_FIRST: u64 = 64 << 10;
/// doubling to this.
pub const HANDOFF_WINDOW_BYTES_MAX: u64 = 4 << 20;
/// Of a partition read ahead from the journal,
pub const HANDOFF_READ_BYTES: u64 = 1 << 20;
/// and records.
pub const HANDOFF_READ_RECORDS: u32 = 4_000;
/// Receipts that are replayed or dropped with one request,
pub const HANDOFF_RECEIPTS_MAX: usize = 500;
/// and the length of its body.
pub const HANDOFF_SELECTION_BYTES_MAX: usize = 256 << 10;
/// Bytes written per byte committed from which mapped segments are not used: large folios (DESIGN.md section 3).
pub const HANDOFF_AMPLIFICATION_MAX: f64 = 4.0;
/// Messages that are less than this part of a segment are moved out of it, so that it can go,
pub const HANDOFF_PINNED_SHARE: u64 = 8;
/// and so many bytes at a time at most.
pub const HANDOFF_MOVED_BYTES_MAX: u64 = 4 << 20;

/// What a journal of handed-off publishes may have of the disk, unless the configuration says otherwise: this, and at most
/// half of what is free at the start.
pub const HANDOFF_BYTES_MAX_DEFAULT: u64 = 10 << 30;

/// What is left free on its disk: this, and at most a tenth of the disk.
pub const HANDOFF_FREE_BYTES_MIN_DEFAULT: u64 = 5 << 30;

const _: () =
    assert!(HANDOFF_WINDOW_BYTES_FIRST <= HANDOFF_READ_BYTES && HANDOFF_READ_BYTES <= HANDOFF_WINDOW_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_CEILING < LINGER_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX + RECORD_META_BYTES_MAX + BATCH_HEADER_BYTES <= BATCH_BYTES_MAX);
const _: () = assert!(128 + BATCH_HEADER_BYTES + 40 + PUBLISH_META_BYTES_FREE <= PUBLISH_OVERHEAD_BYTES);
const _: () = assert!(PROBE_INTERVAL.as_millis() < kafka_client::limits::BOOTSTRAP_IDLE_MAX.as_millis());
const _: () = assert!(2 * PROBE_PATIENCE.as_millis() < PROBE_TIMEOUT.as_millis());
const _: () = assert!(PROBE_RETRY.as_millis() < PROBE_PATIENCE.as_millis());
const _: () = assert!(2 * RECEIPTS_PIECE_BYTES as u64 <= WRITE_BYTES_FREE);
const _: () = assert!(RAW_TOPICS_PER_APP_MAX as usize <= RAW_TOPICS_MAX);
const _: () = assert!(ZSTD_WINDOW_LOG_MIN < ZSTD_WINDOW_LOG_MAX);
const _: () = assert!(DECODED_PIECE_BYTES < BATCH_UNANSWERED_BYTES_MAX);
const _: () = assert!(VALUE_SHARED_BYTES_MIN < MESSAGE_BYTES_CEILING);
const _: () = assert!(READ_BUFFER_BYTES <= VALUE_SHARED_BYTES_MIN);

/// Requests of a shard that wait for the store of delayed jobs.
pub const JOBS_WAITING_MAX: usize = 50_000;
/// Message, key and headers of a delayed job: one group of the store's log.
pub const JOB_BYTES_MAX: usize = journal::limits::GROUP_BYTES_MAX - (64 << 10);
/// Delayed jobs of a batch that go to the store together,
pub const JOBS_GROUP_RECORDS_MAX: usize = 4_096;
/// and their bytes, unless one is larger.
pub const JOBS_GROUP_BYTES_MAX: usize = 512 << 10;
/// What the store puts before each: when it is due, and the key of its add.
const JOB_HEAD_BYTES: usize = 32;
const _: () = assert!(JOBS_GROUP_RECORDS_MAX < journal::limits::GROUP_RECORDS_MAX);
const _: () = assert!(
    JOBS_GROUP_BYTES_MAX + JOBS_GROUP_RECORDS_MAX * JOB_HEAD_BYTES + (64 << 10) <= journal::limits::GROUP_BYTES_MAX
);
const _: () = assert!(JOB_BYTES_MAX + RECORD_META_BYTES_MAX + JOB_HEAD_BYTES <= journal::limits::GROUP_BYTES_MAX);
/// A delayed job is due within ten years.
pub const JOB_DUE_MAX_MS: i64 = 3_653 * 86_400_000;
/// Jobs of one page of a list.
pub const JOBS_LISTED_MAX: usize = 1_000;
pub const JOBS_LISTED_DEFAULT: usize = 100;

/// Delayed jobs that a dead process may have published are looked for from so long before it took them: brokers that stamp
/// records themselves have clocks of their own.
pub const JOB_DOUBT_MARGIN: Duration = Duration::from_secs(10);
/// While their cluster does not answer for so long, such jobs wait with all others.
pub const JOB_DOUBT_PATIENCE: Duration = Duration::from_secs(5);

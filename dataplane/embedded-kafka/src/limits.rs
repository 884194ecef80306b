//! Every number this broker stops at, in one place, so that they can be compared.

use std::time::Duration;

/// Node id of the only broker; also the controller, every leader and every coordinator.
pub const NODE_ID: i32 = 1;
/// There is one broker and it never moves a leader, so the leader epoch never changes.
pub const LEADER_EPOCH: i32 = 0;

// --- what a peer says ------------------------------------------------------------------------------------------

/// A sentence in an answer, which may quote the peer.
pub const SENTENCE_BYTES_MAX: usize = 1_024;
/// A client id as it is kept and shown; what is longer is cut.
pub const CLIENT_ID_BYTES_MAX: usize = 249;
/// Kafka's bound on `group.instance.id`; member ids begin with it.
pub const INSTANCE_ID_BYTES_MAX: usize = 249;
/// A topic option's value; the longest that makes sense is a list of words.
pub const OPTION_BYTES_MAX: usize = 1_024;

// --- answers ---------------------------------------------------------------------------------------------------

/// New partitions one CreateTopics request may ask for, as in Kafka; its answer describes every topic.
pub const NEW_PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;
/// Partitions in one page of DescribeTopicPartitions, as Kafka's `max.request.partition.size.limit`.
pub const DESCRIBED_PARTITIONS_MAX: usize = 2_000;
/// Records of one batch that are named as the reason for its refusal.
pub const RECORD_ERRORS_MAX: usize = 100;
/// What DescribeGroups and OffsetFetch gather for one answer: groups beyond it are refused.
pub const GATHERED_BYTES_MAX: usize = 32 * 1024 * 1024;

// --- network ---------------------------------------------------------------------------------------------------

/// Largest request frame, as Kafka's `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Connections beyond this are closed at once.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Requests of one connection that may be read while earlier produce requests wait for their fsync.
pub const PIPELINE_REQUESTS_MAX: usize = 64;
/// Spare room offered to one read; the buffer of an idle connection is given back.
pub const READ_BYTES: usize = 64 * 1024;
/// While answers are awaited, no more than this is read ahead of them.
pub const READ_AHEAD_BYTES_MAX: usize = 256 * 1024;
/// Answers are gathered into one vectored write up to this many pieces (`IOV_MAX` is 1024).
pub const WRITE_PIECES_MAX: usize = 512;

// --- log -------------------------------------------------------------------------------------------------------

/// Fixed part of a record batch v2: offset, length, epoch, magic, CRC, attributes … record count.
pub const BATCH_HEADER_BYTES: usize = 61;
/// `base_offset` and `length`: what stands before the bytes that `length` counts.
pub const BATCH_PREFIX_BYTES: usize = 12;
/// Default of the topic option `max.message.bytes`, as Kafka: 1 MiB and the prefix.
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = 1024 * 1024 + BATCH_PREFIX_BYTES;
/// Largest batch any configuration allows.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Default of `segment.bytes`.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Smallest `segment.bytes`; small enough that tests can roll segments.
pub const SEGMENT_BYTES_MIN: u64 = 1024;
/// One sparse index entry (24 bytes of memory) per this many bytes of log.
pub const INDEX_INTERVAL_BYTES: u64 = 16 * 1024;
/// Recovery and index loading read the log in pieces of this size.
pub const SCAN_BYTES: usize = 1024 * 1024;
/// Most bytes one partition adds to one fetch answer, whatever the client asks (a single larger batch still passes).
pub const FETCH_PARTITION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of records in one fetch answer.
pub const FETCH_BYTES_MAX: usize = 56 * 1024 * 1024;
/// Longest a fetch may wait.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(300);
/// Decompressed size of one batch when a timestamp is looked up inside it.
pub const LOOKUP_DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What one ListOffsets looks through by time, decompressed: partitions beyond it are asked for again.
pub const LOOKUP_BYTES_PER_REQUEST_MAX: usize = 256 * 1024 * 1024;
/// A partition's file is closed after this long without a write.
pub const FILE_IDLE: Duration = Duration::from_secs(60);

// --- producers -------------------------------------------------------------------------------------------------

/// Batches remembered per producer and partition, as Kafka; the reason why clients keep at most five in flight.
pub const PRODUCER_BATCHES: usize = 5;
/// Producers remembered per partition; the one that wrote longest ago is forgotten first.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;
/// Producer ids are made durable in blocks, so that InitProducerId rarely waits for the disk.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;

// --- catalogue -------------------------------------------------------------------------------------------------

/// Partitions on this broker, all topics together.
pub const PARTITIONS_MAX: usize = 20_000;
/// Kafka's bound: names become file names there.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Partitions of any topic in null mode.
pub const NULL_PARTITIONS: i32 = 4;
/// Topics the null broker counts offsets for.
pub const NULL_TOPICS_MAX: usize = 100_000;

// --- groups and offsets ----------------------------------------------------------------------------------------

/// Groups with members.
pub const GROUPS_MAX: usize = 50_000;
/// Members of one group, members to be included.
pub const GROUP_MEMBERS_MAX: usize = 1_000;
/// Subscription metadata of one member, all its protocols together.
pub const MEMBER_METADATA_BYTES_MAX: usize = 1024 * 1024;
/// Subscriptions of all members of a group: its leader gets them in one answer.
pub const GROUP_METADATA_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Shortest and longest session timeout; Kafka's lower bound is 6 s, tests want less.
pub const SESSION_TIMEOUT_MIN: Duration = Duration::from_millis(50);
/// Longest session timeout, as Kafka's `group.max.session.timeout.ms`.
pub const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(1_800);
/// A group without members keeps its generation this long.
pub const GROUP_EMPTY_KEEP: Duration = Duration::from_secs(600);
/// Committed offsets, all groups together.
pub const OFFSETS_MAX: usize = 2_000_000;
/// Of these, offsets of groups that had no member when they committed for the first time: whoever invents groups
/// leaves room for those that have members.
pub const OFFSETS_WITHOUT_MEMBERS_MAX: usize = OFFSETS_MAX / 2;
/// Offsets of a group nobody uses are kept this long, as Kafka's `offsets.retention.minutes`.
pub const OFFSETS_RETENTION_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often groups nobody uses are looked for, as Kafka's `offsets.retention.check.interval.ms`.
pub const OFFSETS_CHECK_EVERY: Duration = Duration::from_secs(600);
/// Metadata string of one committed offset, as Kafka's `offset.metadata.max.bytes`.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;
/// Group ids and member ids beyond this are refused.
pub const GROUP_ID_BYTES_MAX: usize = 1_024;

// --- journals --------------------------------------------------------------------------------------------------

/// One journal record.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A journal smaller than this is never compacted while running; in the simulation they are.
pub const JOURNAL_COMPACT_BYTES_MIN: u64 = if cfg!(test) { 256 } else { 16 * 1024 * 1024 };
/// A journal is compacted when it has grown to this many times its size after the last compaction.
pub const JOURNAL_COMPACT_FACTOR: u64 = 4;

// --- housekeeping ----------------------------------------------------------------------------------------------

/// How often idle files and journals are looked at.
pub const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// How often retention is, unless told otherwise: Kafka's `log.retention.check.interval.ms`.
pub const RETENTION_CHECK_EVERY: Duration = Duration::from_secs(5 * 60);

const _: () = assert!(MESSAGE_BYTES_MAX_DEFAULT <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX as u64 <= u32::MAX as u64);
const _: () = assert!(FETCH_PARTITION_BYTES_MAX <= FETCH_BYTES_MAX);
/// One batch is looked through in any case, or a client would ask for it for ever.
const _: () = assert!(LOOKUP_DECOMPRESSED_BYTES_MAX <= LOOKUP_BYTES_PER_REQUEST_MAX);
const _: () = assert!(MEMBER_METADATA_BYTES_MAX <= GROUP_METADATA_BYTES_MAX);
const _: () = assert!(GROUP_METADATA_BYTES_MAX < GATHERED_BYTES_MAX);
const _: () = assert!(GATHERED_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(CLIENT_ID_BYTES_MAX + 64 < GROUP_ID_BYTES_MAX);
const _: () = assert!(READ_BYTES <= READ_AHEAD_BYTES_MAX);

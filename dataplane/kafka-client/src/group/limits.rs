//! Every bound of the group member and its fetcher, side by side.

use std::time::Duration;

/// Largest size one record batch may have after decompression. Brokers accept 1 MiB batches by default; text
/// compresses to a fiftieth at best in practice, so this is far above honest data and far below a bomb.
pub const BATCH_DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// A compressed batch is opened when there is memory for so many times its size: what text usually grows to.
pub const DECOMPRESSED_GUESS: usize = 8;

/// Most members of a group we compute an assignment for. Brokers stop at `group.max.size` (unlimited by default).
pub const MEMBERS_MAX: usize = 10_000;

/// Most topics all members of a group together may name before we, as leader, ignore the rest.
pub const TOPICS_MAX: usize = 1_000;

/// How long a leader waits for the partition counts of the topics other members subscribed to.
pub const PLAN_WAIT: Duration = Duration::from_secs(5);
const _: () = assert!(PLAN_WAIT.as_secs() < SESSION_TIMEOUT.as_secs(), "the group must not lose us while we plan");

/// How long a rejoin waits for the commit of what was delivered so far.
pub const REVOKE_COMMIT_WAIT: Duration = Duration::from_secs(3);

/// How long leaving waits for its last commit, and then for the LeaveGroup reply.
pub const LEAVE_COMMIT_WAIT: Duration = Duration::from_secs(2);
/// See [`LEAVE_COMMIT_WAIT`].
pub const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// Default of `session.timeout.ms`; brokers allow 6 s to 30 min by default.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of the time all members get to rejoin; Java's `max.poll.interval.ms` plays that role there. We never wait
/// for our clients before we rejoin, so it only has to cover a slow coordinator.
pub const REBALANCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Default pause between heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
const _: () = assert!(HEARTBEAT_INTERVAL.as_secs() * 3 <= SESSION_TIMEOUT.as_secs(), "two heartbeats may be lost");

/// A dirty position is committed at most this much later.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// After a topic was made anew, so long a committed offset that does not say which topic it is of counts as the old
/// one's. Brokers forget the offsets of a deleted topic when they hear of it, which takes them seconds at most.
pub const OLD_OFFSETS_DOUBTED: Duration = Duration::from_secs(60);
/// A committed offset of a topic that is not ours as far as we know is believed to be the older one's when metadata
/// still says so after this time; before, it is we who may be behind.
pub const OTHER_TOPIC_WAIT: Duration = Duration::from_secs(1);

/// Pause before the next try on a partition whose data or rights are broken: only a person can help.
pub const BACKOFF_BROKEN: Duration = Duration::from_secs(5);

/// Longest a broker may keep a coordinator request other than join and sync.
pub const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(10);
/// What a join, sync or fetch may take on top of the time it asks the broker to wait.
pub const REPLY_GRACE: Duration = Duration::from_secs(5);

/// Default bytes asked of one broker in one fetch, all partitions together.
pub const FETCH_BYTES_MAX: usize = 1 << 20;
/// Smallest request worth sending; less free space than that counts as none.
pub const FETCH_BYTES_MIN: usize = 64 << 10;
/// Default bytes asked of one partition in one fetch; doubled up to [`PARTITION_BYTES_LIMIT`] while a batch does not fit.
pub const PARTITION_BYTES_MAX: usize = 256 << 10;
/// See [`PARTITION_BYTES_MAX`].
pub const PARTITION_BYTES_LIMIT: usize = 64 << 20;
/// Default bytes of fetched records kept for polls, per member.
pub const QUEUE_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(FETCH_BYTES_MIN <= PARTITION_BYTES_MAX);
const _: () = assert!(PARTITION_BYTES_MAX <= FETCH_BYTES_MAX);
const _: () = assert!(2 * FETCH_BYTES_MAX <= QUEUE_BYTES_MAX, "one fetch is on its way while another is read");

/// Longest a fetch waits on an idle broker.
pub const FETCH_WAIT: Duration = Duration::from_millis(500);
/// First wait of a fetch while another partition of the same broker is held back for lack of room: that partition can
/// only be asked for again when this fetch has returned. Doubles up to the ordinary wait until somebody polls.
pub const FETCH_WAIT_CROWDED: Duration = Duration::from_millis(10);

//! Limits of the agent.

use std::time::Duration;

/// How often the database is asked whether anything changed.
pub const POLL_PERIOD: Duration = Duration::from_millis(200);

/// How long the first look at the database may delay a start that has a snapshot from disk to serve.
pub const FIRST_LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// The same for a start that has nothing to serve: it would refuse everybody. A million grants are loaded in seconds; a
/// database that cannot be asked says so at once.
pub const FIRST_LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Calls of `refresh` that may wait at the same time; more wait outside.
pub const REFRESHES_MAX: usize = 64;

/// How long `refresh` waits for the shards to have taken the snapshot. They take it within a tick unless they hang.
pub const APPLIED_TIMEOUT: Duration = Duration::from_secs(2);

/// A database that fails is reported in the log once, and again after this long.
pub const COMPLAIN_PERIOD: Duration = Duration::from_secs(60);

/// Changes on disk may grow to so much, or to a quarter of the snapshot, before a new snapshot is written.
pub const CHANGES_BYTES_MIN: u64 = 1 << 20;

/// Pauses between tries to write a snapshot that could not be written.
pub const WRITE_AGAIN_MIN: Duration = Duration::from_secs(1);
pub const WRITE_AGAIN_MAX: Duration = Duration::from_secs(30);

/// How often a consumer hears that the agent lives.
pub const ALIVE_PERIOD: Duration = Duration::from_secs(1);

/// A consumer that hears nothing for so long asks the database itself.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);
const _: () = assert!(SILENCE_MAX.as_millis() >= 3 * ALIVE_PERIOD.as_millis());

/// How long the first frame of either side may take.
pub const HELLO_WITHIN: Duration = Duration::from_secs(2);

/// A consumer that has not acknowledged for so long is hung up on. A million grants take it seconds.
pub const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);

/// How often a process that neither owns the snapshot nor follows the owner tries again.
pub const ROLE_PERIOD: Duration = Duration::from_secs(1);

/// Changes that may wait for one consumer to read.
pub const CHANGES_QUEUED_MAX: usize = 256;

/// Consumers of one agent: processes of one machine.
pub const CONSUMERS_MAX: usize = 256;

/// Largest frame: a snapshot file and its kind.
pub const FRAME_BYTES_MAX: usize = model::limits::SNAPSHOT_FILE_BYTES_MAX as usize + 1;

/// How often a process tells what is wanted of the limits, and learns its shares.
pub const SHARES_PERIOD: Duration = Duration::from_millis(250);

/// How long the answer to that may take.
pub const SHARES_WITHIN: Duration = Duration::from_secs(1);
const _: () = assert!(SHARES_PERIOD.as_millis() * 4 <= model::quota::lease::VALID_MS as u128);

/// Events for the audit log that shards may tell between two looks of the agent.
pub const AUDIT_CHANNEL_EVENTS: usize = 4_096;

/// Events that wait for somebody to write them; of more the oldest go. A thousand characters each at most.
pub const AUDIT_WAITING_MAX: usize = 4_096;

/// Events that are told, and written in one change, at once.
pub const AUDIT_BATCH_EVENTS_MAX: usize = 256;
const _: () = assert!(AUDIT_BATCH_EVENTS_MAX <= AUDIT_WAITING_MAX);

/// A batch that is not acknowledged for so long is told again. Longer than a database may be busy.
pub const RECORDED_WITHIN: Duration = Duration::from_secs(10);

/// Pauses between tries to write events that could not be written.
pub const AUDIT_AGAIN_MIN: Duration = Duration::from_secs(1);
pub const AUDIT_AGAIN_MAX: Duration = Duration::from_secs(30);

/// How long an agent that stops tries to get its last events written.
pub const AUDIT_LAST_WORDS: Duration = Duration::from_secs(2);

/// Events of one kind are counted for so long.
pub const AUDIT_WINDOW: Duration = Duration::from_secs(60);

/// Kinds that are counted apart, in all and of one address.
pub const AUDIT_KEYS_MAX: usize = 256;
pub const AUDIT_ADDRESS_KEYS_MAX: usize = 8;

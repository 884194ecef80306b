//! Every bound of the test kit, in one place.

use std::time::Duration;

/// A step that is still running after this says so on stderr.
pub const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// And then again every so often, so that a hang can be told from slow work.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(15);

/// A single-node Kafka is ready in 3 to 5 s on two idle cores, three nodes in 10 to 20 s; CI is busy.
pub const KAFKA_READY_WITHIN: Duration = Duration::from_secs(90);
/// Graceful stop of a broker before it is killed.
pub const KAFKA_STOP_WITHIN: Duration = Duration::from_secs(20);
/// A broker that is told to stop hands over its partitions first; on a busy machine that takes a while.
pub const KAFKA_HANDOVER_WITHIN: Duration = Duration::from_secs(60);
/// A session of ZooKeeper that nobody renews is over after 3 s (`zookeeper.session.timeout.ms`), noticed a tick later.
pub const SESSION_OVER_WITHIN: Duration = Duration::from_secs(15);
/// Size of a disk of a broker's own. What the longest test stores there, several times over.
pub const DISK_BYTES: u64 = 512 << 20;
/// `mount`, `umount`, `prlimit`.
pub const SYSTEM_TOOL_WITHIN: Duration = Duration::from_secs(10);
/// One probe of a broker's metadata.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest metadata answer the probe reads.
pub const PROBE_BYTES_MAX: usize = 1 << 20;

/// First and one-past-last port handed out: below the kernel's ephemeral range, so that no outgoing connection can
/// take the port of a broker that is down for a moment.
pub const PORT_FIRST: u16 = 20_000;
pub const PORT_END: u16 = 32_000;
const _: () = assert!(PORT_FIRST < PORT_END);
const _: () = assert!(PORT_END < 32_768, "the ephemeral range of Linux begins at 32768");

/// How much of a child's log is shown when something failed.
pub const LOG_TAIL_BYTES: usize = 6_000;

/// From the start of one of our daemons to its ready line.
pub const DAEMON_READY_WITHIN: Duration = Duration::from_secs(30);

/// One HTTP exchange; longer than the longest wait a test asks the gateway for.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(40);
/// Largest response head and body the test client accepts.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
pub const HTTP_BODY_BYTES_MAX: usize = 256 << 20;

/// One run of a client in another language.
pub const CLIENT_WITHIN: Duration = Duration::from_secs(60);

/// Differences a report prints.
pub const DIFFERENCES_SHOWN_MAX: usize = 10;

/// How long publishers under faults go on retrying one connection before a test calls the gateway dead.
pub const RECONNECT_WITHIN: Duration = Duration::from_secs(20);
/// And how much longer than it asked the gateway to try, a publisher waits for an answer before it gives it up.
pub const ANSWER_SLACK_MAX: Duration = Duration::from_secs(15);
/// Least pause after an answer that was not 201.
pub const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// Stack of a publisher's thread: hundreds of them run at once, none goes deep.
pub const PUBLISHER_STACK_BYTES: usize = 256 * 1024;

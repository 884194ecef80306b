//! Limits of the manager.

use std::time::Duration;

/// Largest request body. The biggest legal one is a grant, a few hundred bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Partitions a topic may be made with or raised to.
pub const PARTITIONS_MAX: i64 = 1000;

/// Replicas a topic may be made with; brokers refuse more than there are of them.
pub const REPLICAS_MAX: i64 = 16;

/// Replicas when nothing is said, if there are so many brokers.
pub const REPLICAS_DEFAULT: usize = 3;

/// Ten years, in hours. `-1` is forever.
pub const RETENTION_HOURS_MAX: f64 = 87_600.0;

/// What a batch may be larger than the largest message in it: key, headers, framing.
pub const BATCH_OVERHEAD_BYTES: i64 = 100_000;

/// Connections open at the same time; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 1024;

/// A connection on which nothing arrives for so long is closed. Longer than any answer takes, because nothing arrives
/// while a client waits for one.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest `X-Request-Id` that is repeated; a longer one is replaced.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Seconds a client should stay away when the database is busy, or Kafka cannot be reached.
pub const RETRY_AFTER_BUSY_S: u32 = 1;
pub const RETRY_AFTER_KAFKA_S: u32 = 5;

/// Our own client: largest answer it reads, and how long it waits for all of it.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(100);
const _: () = assert!(ANSWER_TIMEOUT.as_secs() < IDLE_TIMEOUT.as_secs());

/// Another node that is asked on somebody's behalf is waited for so long.
pub const NODE_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const _: () = assert!(NODE_ANSWERS_WITHIN.as_secs() < ANSWER_TIMEOUT.as_secs());

/// Parked messages that one call replays or drops, on each node; what is beyond is `more`.
pub const SELECTED_RECORDS_MAX: usize = 10_000;

/// Receipts that one call names. As many fit a body.
pub const SELECTED_RECEIPTS_MAX: usize = 500;

/// Partitions that the status of a node lists, those with the most bytes first.
pub const DOMAINS_SHOWN_MAX: usize = 1_000;

/// Topics with delayed jobs that the status of a node lists, those with the most first.
pub const QUEUES_SHOWN_MAX: usize = 1_000;

/// So far from now a job may be due, as gateways have it.
pub const JOB_DUE_MAX_MS: i64 = 3_653 * 86_400_000;

/// A revocation that is not in force everywhere after this long is answered 202 (CONTRACT).
pub const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// How long other changes wait for other nodes: two polls of the database and a little.
pub const ADDED_WITHIN: Duration = Duration::from_millis(600);

/// How often it is looked who has what.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How often what was left half done is looked for.
pub const RESUME_EVERY: Duration = Duration::from_secs(2);

/// Longest pause between two tries at the same.
pub const RESUME_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A topic that is creating for so long is nobody's request any more. Longer than any of them waits for Kafka.
pub const CREATING_FOR: Duration = Duration::from_secs(120);

/// For how long the admin's account is taken as it was read last.
pub const ADMIN_REMEMBERED: Duration = Duration::from_secs(1);

/// Refusals that the audit log takes in a minute; more are counted nowhere else than in the access log.
pub const DENIALS_WRITTEN_MAX: u32 = 60;
pub const DENIALS_WINDOW: Duration = Duration::from_secs(60);

/// For how long a token is good: at least, if nothing is said, and at most.
pub const TOKEN_TTL_S_MIN: i64 = 60;
pub const TOKEN_TTL_S_DEFAULT: i64 = 3_600;
pub const TOKEN_TTL_S_MAX: i64 = 86_400;

/// What clocks of those who give tokens out and those who take them may differ.
pub const TOKEN_LEEWAY_S: u64 = 30;

/// Longest token that is looked at: one of another issuer has its groups in it.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Longest subject of another issuer that is let in.
pub const SUBJECT_BYTES_MAX: usize = 200;

/// Largest file of an issuer's keys, and how often it is looked at.
pub const JWKS_BYTES_MAX: u64 = 1 << 20;
pub const JWKS_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// Rows of one page of a list, if nothing is said, and at most.
pub const PAGE_ROWS_DEFAULT: i64 = 100;
pub const PAGE_ROWS_MAX: i64 = 1_000;

/// Rows of a list that is asked for as a whole.
pub const LIST_ROWS_MAX: usize = 10_000;

/// How often the audit log is looked at for rows to relay; also the first pause after a failure.
pub const RELAY_EVERY: Duration = Duration::from_millis(500);

/// Longest pause between two tries to relay.
pub const RELAY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Rows that are relayed at once.
pub const RELAY_ROWS_MAX: usize = 200;
const _: () = assert!(RELAY_ROWS_MAX <= kafka_admin::limits::RECORDS_MAX);

/// How long Kafka may take for a page before it is sent again; until then the client repeats it without doubling it.
pub const RELAY_WITHIN: Duration = Duration::from_secs(30);

/// A relay that cannot go on is in the log once, and again after this long.
pub const RELAY_COMPLAINS_EVERY: Duration = Duration::from_secs(60);

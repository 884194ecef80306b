//! Every bound of this program: a run always ends, in count and in time.

use std::time::Duration;

/// Connections of one run.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Longest measured part of a run.
pub const DURATION_MAX: Duration = Duration::from_secs(3_600);
/// Most requests a second an open loop schedules.
pub const RATE_MAX: u64 = 2_000_000;
/// Largest message; the gateway's default limit is 1,000,000 bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Largest request body: records per batch times message size.
pub const BODY_BYTES_MAX: usize = 256 << 20;
/// Requests an open loop keeps due but unsent; beyond it they count as dropped, and the run is beyond its limits anyway.
pub const DUE_MAX: usize = 1_000_000;
/// How long answers may come after the measured part.
pub const GRACE: Duration = Duration::from_secs(5);
/// Rest of a connection that failed.
pub const RECONNECT_AFTER: Duration = Duration::from_millis(20);
/// Time for a connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest head of an answer.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Largest body of an answer.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Kinds of errors told apart.
pub const ERROR_KINDS_MAX: usize = 20;
/// Latencies are recorded in microseconds up to this, three digits precise.
pub const LATENCY_US_MAX: u64 = 600_000_000;
/// Time for a process under comparison to become ready.
pub const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Rounds of a comparison.
pub const ROUNDS_MAX: usize = 100;
/// The open loop sleeps only when nothing is due for longer than this, and until this long before.
pub const SLEEP_BEYOND: Duration = Duration::from_millis(2);
/// Events the open loop takes at once.
pub const EVENTS_MAX: usize = 256;
/// Largest answer of a Kafka broker that is asked for offsets.
pub const KAFKA_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Time for such an answer.
pub const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one run of the Java tool, beyond its expected duration.
pub const JAVA_TIMEOUT: Duration = Duration::from_secs(120);
/// Records of the Java tool's first run, which only tells its rate.
pub const JAVA_CALIBRATION_RECORDS: u64 = 200_000;
/// A round in which others used more CPUs' worth of time than this is not quiet: it is measured again, and if it never
/// becomes quiet its row is marked.
pub const FOREIGN_CORES_MAX: f64 = 0.2;
/// Attempts for one such round; the quietest counts.
pub const ATTEMPTS_MAX: usize = 4;
/// Groups of one run: what a shard keeps.
pub const GROUPS_MAX: usize = 10_000;
/// Numbers of groups compared in one run.
pub const CROWDS_MAX: usize = 6;
/// Topics they read.
pub const TOPICS_MAX: usize = 1_000;
/// Longest wait of a poll, as the gateway has it.
pub const WAIT_MAX: Duration = Duration::from_secs(120);
/// Descriptors of a process beside its clients: brokers, files, listeners, rings, programs under measurement.
pub const OTHER_DESCRIPTORS: usize = 600;
/// Time for all groups to be joined and all polls to wait.
pub const GATHER_TIMEOUT: Duration = Duration::from_secs(180);
/// Something that is waited for longer than this says how far it is, and then again every so often.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// After the last change, so long until nothing that is about to settle is measured.
pub const SETTLE: Duration = Duration::from_secs(3);
/// After the last join: the gateway closes the connections for joins when they were not used for ten seconds.
pub const SETTLE_JOINED: Duration = Duration::from_secs(13);
/// Messages of an earlier round that a latency round may find.
pub const DELIVERY_STALE_MAX: usize = 1_000;
/// Messages of one latency round.
pub const SAMPLES_MAX: usize = 10_000;
/// Time for all closed connections to be noticed.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Beyond twice the longest wait, when groups that nobody polls are left.
pub const LEAVE_GRACE: Duration = Duration::from_secs(60);
/// Time for every group of a run to read its message.
pub const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest topic that is read ahead of, in megabytes.
pub const TOPIC_MB_MAX: usize = 4_096;
/// Groups of one app, as the gateway has it.
pub const GROUPS_PER_APP_MAX: usize = 1_000;
/// Appends of a journal that wait at once, and their size: together less than it lets wait.
pub const APPENDS_WAITING_MAX: usize = 1 << 16;
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// The file of the fsync probe; from its end it begins again.
pub const PROBE_BYTES: u64 = 64 << 20;
/// How often it is looked whether a segment is full, and can be let go.
pub const FREE_EVERY: Duration = Duration::from_millis(20);
/// Different keys of a load: a request each, made beforehand.
pub const KEYS_MAX: usize = 10_000;
/// What the journal of a gateway may hold in a run: no answer is to be a refusal for want of room.
pub const HANDOFF_BUDGET_BYTES: u64 = 16 << 30;
/// Time for a gateway to notice that its connections to the broker are closed,
pub const AWAY_SETTLE: Duration = Duration::from_millis(300);
/// to notice that the broker has gone,
pub const AWAY_TIMEOUT: Duration = Duration::from_secs(30);
/// to deliver what waits when it is back,
pub const DELIVERED_TIMEOUT: Duration = Duration::from_secs(300);
/// and to send everything there again.
pub const DIRECT_TIMEOUT: Duration = Duration::from_secs(60);
/// How often is looked whether one of these has come.
pub const LOOK_ARRIVED_EVERY: Duration = Duration::from_millis(5);
/// After this a gateway's metrics have what was done before.
pub const METRICS_SETTLE: Duration = Duration::from_millis(700);
/// Largest job, as a gateway and its store have it.
pub const JOB_BYTES_MAX: usize = 64 << 10;
/// Jobs that are due each second, and within one second.
pub const JOBS_DUE_RATE_MAX: u64 = 200_000;
pub const JOBS_BURST_MAX: u64 = 10_000_000;
/// Jobs of one store that is killed.
pub const JOBS_PENDING_MAX: u64 = 100_000_000;
/// Jobs that are added together to fill a store, and their bytes: less than its log takes together,
pub const JOBS_FILL_GROUP: usize = 1_000;
pub const JOBS_FILL_GROUP_BYTES: usize = 1 << 20;
/// and how many such groups wait.
pub const JOBS_FILL_WAITING: usize = 16;
/// A store that has no room is tried again after this.
pub const JOBS_FULL_PAUSE: Duration = Duration::from_millis(1);
/// Jobs that are there to be deleted, in one round.
pub const JOBS_DELETED_MAX: u64 = 1_000_000;
/// Jobs of another account that are due each second beside a burst, and for how long.
pub const JOBS_BESIDE_RATE: u64 = 500;
pub const JOBS_BESIDE_FOR: Duration = Duration::from_secs(5);
/// The first is due so long after all of them were added, if as many are added a second as this.
pub const JOBS_LEAD: Duration = Duration::from_secs(1);
pub const JOBS_FILL_RATE_MIN: u64 = 200_000;
/// Slower, and there is twice the time, so often.
pub const JOBS_LEAD_DOUBLED_MAX: u32 = 4;
/// Time for all to come out, after the last of them was due.
pub const JOBS_FIRED_TIMEOUT: Duration = Duration::from_secs(60);
/// What a job takes on the disk beside its bytes, at most: in the log, in a table, and in its directory.
pub const JOBS_OVERHEAD_BYTES: u64 = 80;
/// Segments, spares and books, whatever the number of jobs.
pub const JOBS_DISK_SPARE_BYTES: u64 = 2 << 30;
/// Time to add all jobs, and for a start.
pub const JOBS_FILL_TIMEOUT: Duration = Duration::from_secs(3_600);
/// A store at which nothing changes for so long has come to rest,
pub const JOBS_SETTLED_AFTER: Duration = Duration::from_secs(7);
/// which is not waited for longer than this.
pub const JOBS_SETTLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How often a process with a store gives memory back, as a gateway's shards do.
pub const JOBS_GIVE_BACK_EVERY: Duration = Duration::from_millis(500);
/// How often memory and files of another process are looked at.
pub const LOOK_MEMORY_EVERY: Duration = Duration::from_millis(50);

//! Every bound of the proxy in one place.

use std::time::Duration;

use kafka_wire::limits::FRAME_BYTES_MAX;

/// Largest request frame by default: Kafka's own `socket.request.max.bytes`. It streams through, so it costs no memory
/// here; a broker would refuse more.
pub const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// Largest response that is read whole because addresses in it are replaced. Metadata of a million partitions is about
/// half of it.
pub const REWRITTEN_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// Largest request that is read whole: ApiVersions, which carries two names and a cluster id.
pub const HELD_REQUEST_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a request's head that may be waited for: a client id and a transactional id as long as Kafka allows.
pub const REQUEST_HEAD_BYTES_MAX: usize = 80 * 1024;

/// Requests of one connection without an answer. Clients keep 5 to 1,000 open; at the limit we stop reading.
pub const IN_FLIGHT_MAX: usize = 10_000;

/// What may be kept of requests of one connection until their answers: those made here, and topics to be told of in answers.
/// A client that does not read its answers is not read then; the request that goes beyond it is the last.
pub const IN_FLIGHT_KEPT_BYTES_MAX: usize = 4 << 20;

/// Brokers known by node id. A cluster of Kafka's has a few hundred at most.
pub const NODES_MAX: usize = 10_000;

/// Topic ids a shard remembers, about 150 bytes each.
pub const TOPIC_IDS_MAX: usize = 500_000;
/// Topic ids that nobody knows, as far as a shard remembers that it has asked.
pub const UNKNOWN_TOPIC_IDS_MAX: usize = 200_000;
/// Topic ids in one request that have to be asked about. A client has ids from the metadata it was given, by this proxy as a
/// rule; at one that has just started, those of all its topics are new.
pub const ASKED_TOPIC_IDS_MAX: usize = 50_000;
// Else asking about the last would forget that the first were asked about, for ever.
const _: () = assert!(ASKED_TOPIC_IDS_MAX < UNKNOWN_TOPIC_IDS_MAX && ASKED_TOPIC_IDS_MAX < TOPIC_IDS_MAX);

/// Largest request of a tenant that is read whole: everything but Produce. A leader's SyncGroup has an assignment for every
/// member.
pub const TENANT_REQUEST_BYTES_MAX: usize = 16 << 20;

/// What a consumer gets at once where topics are renamed in the answer (Fetch before version 13), unless one batch is larger:
/// such an answer is read whole when it is about several topics.
pub const RENAMED_FETCH_BYTES_MAX: i32 = 8 << 20;

/// Bytes of frames that one shard holds at a time to read them whole.
pub const HELD_BYTES_MAX: usize = 512 << 20;
/// The same of one app.
pub const HELD_BYTES_OF_TENANT_MAX: usize = HELD_BYTES_MAX / 4;
const _: () = assert!(REQUEST_BYTES_MAX <= HELD_BYTES_OF_TENANT_MAX && REWRITTEN_BYTES_MAX <= HELD_BYTES_OF_TENANT_MAX);

/// Longest that a request waits here for its app's limits; then it goes, and the wait is the next one's.
pub const THROTTLE_MAX: Duration = Duration::from_secs(10);

/// Topics in one request of a tenant. A cluster has fewer that one app may see, by far; Kafka takes a million elements in an
/// array, and each that is refused costs about 100 bytes until its answer.
pub const TENANT_TOPICS_MAX: usize = 100_000;

/// A request or answer of up to so many bytes is held without asking for memory.
pub const HELD_FREELY_BYTES_MAX: usize = 64 * 1024;

/// Largest request of a client that has not logged in.
pub const STRANGER_REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Ports beside the bootstrap port, by default.
pub const RANGE_WIDTH_DEFAULT: u16 = 64;

/// Fresh connections on their way from one shard to another.
pub const ADOPT_DEPTH: usize = 1024;

/// Client connections of one shard.
pub const CONNECTIONS_MAX: usize = 100_000;

/// How long one address of a broker is tried.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A frame that has begun must make progress within this.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that has sent nothing yet is closed after this.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of a proxy with tenants has logged in within this.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Apps with a series of their own in metrics; others are `other`.
pub const APP_SERIES_MAX: usize = 1000;

/// After a client has said that it will send no more, its last answers get so long.
pub const LINGER: Duration = Duration::from_secs(10);

/// How often connections are looked at.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// How often the brokers are asked whether they answer.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The same while none does.
pub const PROBE_INTERVAL_DOWN: Duration = Duration::from_secs(1);

/// A broker that answers a probe within this is up.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Client software names with a series of their own; others are `other`.
pub const SOFTWARE_SERIES_MAX: usize = 64;

const _: () = assert!(HELD_REQUEST_BYTES_MAX < REQUEST_BYTES_MAX);
const _: () = assert!(REQUEST_HEAD_BYTES_MAX > 2 * kafka_wire::limits::STRING_BYTES_MAX);

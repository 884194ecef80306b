//! Every bound of this crate, so that they can be compared. Reaching one is an ordinary answer, never a panic.

use std::time::Duration;

/// Fixed part of a magic-2 record batch: what a batch costs before its first record.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Largest batch we build by default, header included. Brokers accept 1 MiB + 12 bytes (`message.max.bytes`);
/// a gateway message of 1,000,000 bytes with key and headers fits below that.
pub const BATCH_BYTES_MAX: usize = 1_048_576;

/// Largest record the gateway accepts by default (CONTRACT: 1,000,000 bytes of value).
pub const RECORD_BYTES_MAX: usize = 1_000_000;

/// Default of [`crate::ClientConfig::record_bytes_max`]: above any `max.message.bytes` that a gateway is set up for; the
/// topic's own limit decides below it.
pub const LARGE_RECORD_BYTES_MAX: usize = 16 * 1_048_576;

/// Batches of several partitions share one Produce request up to this many bytes; one batch always fits.
pub const REQUEST_BYTES_MAX: usize = 4 * 1_048_576;

/// Partitions in one Produce request.
pub const REQUEST_PARTITIONS_MAX: usize = 1_000;

/// Bytes a connection may hold for the driver before nothing more is put on it (acks=0 takes no in-flight slot,
/// so this is its only bound).
pub const TRANSMIT_BYTES_MAX: usize = 8 * 1_048_576;

/// Default of [`crate::ClientConfig::queue_bytes_max`]: records accepted and not yet answered.
pub const QUEUE_BYTES_MAX: usize = 64 * 1_048_576;

/// Records that wait for a topic's first metadata, per topic.
pub const WAITING_RECORDS_MAX: usize = 10_000;

/// Topics one client knows by name; a name costs some 300 bytes. When all places are taken, those of topics that sleep are
/// given to new names.
pub const TOPICS_MAX: usize = 65_536;
const _: () = assert!(TOPICS_MAX.is_power_of_two(), "a place and how often it was given away make an index");

/// A topic that nobody used for so long is not asked for any more and loses its partitions; the next use costs one
/// round trip.
pub const TOPIC_IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// Partitions of one topic we believe in; an answer with more is refused as garbage.
pub const PARTITIONS_MAX: usize = 100_000;

/// Brokers we remember, bootstrap addresses included.
pub const BROKERS_MAX: usize = 10_000;

/// After a search for a topic that sleeps found none.
pub const TOPIC_PLACES_PAUSE: Duration = Duration::from_secs(1);

/// Topics asked for in one Metadata request.
pub const METADATA_TOPICS_MAX: usize = 1_000;

/// Bytes of records compressed in one flush: gzip takes 15 ms for them. The rest is for the next one, after others had
/// their turn. A single batch is never divided.
pub const COMPRESS_TURN_BYTES: usize = 512 << 10;

/// Requests of users (`Client::request`) not yet sent.
pub const REQUESTS_WAITING_MAX: usize = 10_000;

/// Consumer groups whose coordinator is remembered.
pub const COORDINATORS_MAX: usize = 10_000;

/// Connections: the slab index has 12 bits of [`crate::ConnId`].
pub const CONNECTIONS_MAX: usize = 4_096;

/// Connections per broker of the lane for joins and syncs: a broker works on one request per connection at a time, so
/// one group's join must not stand before another group's.
pub const WAITING_LANE_CONNECTIONS_MAX: usize = 64;

/// Those are closed when they were not used for so long: groups join together and then not for a long time.
pub const GROUP_CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10);

/// Connections per broker that fetch, however many groups there are.
pub const FETCH_CONNECTIONS_MAX: usize = 12;

/// Of those, the ones for long polls; the last is for groups that lag behind.
pub const POLL_CONNECTIONS_MAX: usize = FETCH_CONNECTIONS_MAX - 1;

/// Connections per broker and client while the groups are stable: fetches, one each for acks=all, for other acks and for
/// what is answered at once, and one to its bootstrap address until the brokers are known.
pub const STABLE_CONNECTIONS_MAX: usize = 16;

/// Users' fetches that are put together, named or waiting for a connection.
pub const FETCHES_MAX: usize = 65_536;

/// Partitions in one Fetch of several users; one user's always fit.
pub const FETCH_PARTITIONS_MAX: usize = 2_000;

/// Bytes asked for in one Fetch of several users; one user's always fit.
pub const FETCH_RESPONSE_BYTES_MAX: usize = 8 * 1_048_576;

/// And when there is little memory for answers.
pub const FETCH_RESPONSE_BYTES_MIN: usize = 64 * 1_024;

/// When all other connections hold long polls, the last one waits no longer, so that a newcomer is named so soon.
pub const FETCH_DOOR_WAIT: Duration = Duration::from_millis(10);

/// Whoever has waited so long at that last connection is quiet, and moves to a long poll when one returns.
pub const FETCH_SETTLED_AFTER: Duration = Duration::from_millis(100);

/// Partitions whose end is remembered, to tell who lags behind; it costs some 100 bytes each.
pub const FETCH_ENDS_MAX: usize = 65_536;

/// Answers up to this size are kept in memory by any record in them; of larger ones, parts below the half are copied.
pub const FETCH_PINNED_BYTES_MAX: usize = 4 * 1_024;

/// Largest response frame read from a broker.
pub const RESPONSE_BYTES_MAX: usize = 100 * 1_048_576;

/// How often a negative answer about a topic is asked again, and how long it is believed without asking.
pub const TOPIC_MISSING_REASK: Duration = Duration::from_millis(200);

/// A topic that was there is believed to be gone when nobody has known it for so long. Brokers that were all restarted
/// deny every topic until their controller has told them, for seconds (Kafka 3.9 with ZooKeeper).
pub const TOPIC_GONE_AFTER: Duration = Duration::from_secs(15);

/// Metadata that looks older than what we know is believed when nobody has said anything else for so long. A broker that
/// lags behind catches up within a second; a topic that was made again, where brokers tell no topic ids, waits so long.
pub const OLDER_NEWS_AFTER: Duration = Duration::from_secs(5);

/// Retry backoff: first step and ceiling, both with jitter.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(20);
/// See [`BACKOFF_FIRST`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Pause between two Metadata requests that errors asked for.
pub const METADATA_PAUSE: Duration = Duration::from_millis(20);

/// A Metadata answer that takes longer is given up, and another broker asked.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// For a request that anybody can answer, one more broker is connected to whenever the last has taken so long to shake
/// hands.
pub const OPENING_PATIENCE: Duration = Duration::from_secs(1);

/// Attempts to connect to one broker at a time, each a second after the last: a packet that got lost is sent again by the
/// kernel 1, 3 and 7 s later, so that a broker is found up to 4 s after it came back; together these miss no second.
pub const ATTEMPTS_MAX: usize = 4;

/// A Produce that is silent for longer makes us ask who leads now (a frozen broker sends no reset).
pub const PRODUCE_STALL: Duration = Duration::from_secs(3);

/// Unrest that is over sooner is not "away": a leader that moves, a broker that refuses a connection once, one that is no
/// leader any more. (All brokers at once are away at once.)
pub const AWAY_UNREST: Duration = Duration::from_millis(250);

/// While that lasts, leaders are asked for and brokers tried this often, so that what is over in time is noticed in time.
pub const AWAY_PAUSE: Duration = Duration::from_millis(50);

/// An attempt to connect to a broker, after a failed one, that has taken so long has failed for those who do not wait.
pub const AWAY_RECONNECT: Duration = Duration::from_millis(200);

/// And an attempt that follows no failure: TLS and SASL over a long way take their time.
pub const AWAY_CONNECT: Duration = Duration::from_secs(1);

/// A broker that owes an answer and has said nothing for so long is away. A follower that is slow to copy costs less; one
/// that hangs is worth it, for the leader waits up to `replica.lag.time.max.ms` (30 s) before it goes on without it.
pub const AWAY_SILENCE: Duration = Duration::from_secs(1);

/// Unrest that was not looked at for so long is a thing of the past, and begins anew.
pub const AWAY_FORGOTTEN: Duration = Duration::from_secs(5);

/// Leaders of a topic that is away are asked for this often by those who are refused.
pub const AWAY_REASK: Duration = Duration::from_millis(200);

/// Expired records are looked for at most this often.
pub const EXPIRY_PAUSE: Duration = Duration::from_millis(2);

/// An unused connection is closed before the broker does it (`connections.max.idle.ms` is 10 minutes).
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(9 * 60);

/// Default of [`crate::ClientConfig::bootstrap_idle_max`].
pub const BOOTSTRAP_IDLE_MAX: Duration = Duration::from_secs(10);

/// Brokers that refuse us a producer id are asked again after so long: permissions and brokers change.
pub const IDEMPOTENCE_RETRY: Duration = Duration::from_secs(5 * 60);

/// Attempts for CORRUPT_MESSAGE, which a flipped bit explains once, not three times.
pub const CORRUPT_ATTEMPTS_MAX: u32 = 3;

/// SCRAM iteration counts we compute. Kafka allows 4,096 to 16,384; more would stall a shard.
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;
/// See [`SCRAM_ITERATIONS_MIN`].
pub const SCRAM_ITERATIONS_MAX: u32 = 100_000;

/// One message of a SASL exchange.
pub const SASL_MESSAGE_BYTES_MAX: usize = 64 * 1_024;

const _: () = assert!(RECORD_BYTES_MAX + BATCH_HEADER_BYTES <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= REQUEST_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= LARGE_RECORD_BYTES_MAX);
const _: () = assert!(LARGE_RECORD_BYTES_MAX * 4 <= QUEUE_BYTES_MAX);
const _: () = assert!(OLDER_NEWS_AFTER.as_millis() < TOPIC_GONE_AFTER.as_millis());
const _: () = assert!(REQUEST_BYTES_MAX <= TRANSMIT_BYTES_MAX);
const _: () = assert!(AWAY_RECONNECT.as_millis() < AWAY_UNREST.as_millis());
const _: () = assert!(AWAY_FORGOTTEN.as_millis() > BACKOFF_MAX.as_millis());
const _: () = assert!(AWAY_PAUSE.as_millis() * 2 < AWAY_UNREST.as_millis());
const _: () = assert!(AWAY_SILENCE.as_millis() < PRODUCE_STALL.as_millis());
const _: () = assert!(CONNECTIONS_MAX <= 1 << 12);
const _: () = assert!(POLL_CONNECTIONS_MAX >= 2, "one of them is the door");
const _: () = assert!(FETCH_CONNECTIONS_MAX + 4 <= STABLE_CONNECTIONS_MAX);
const _: () = assert!(FETCH_RESPONSE_BYTES_MAX * 2 <= RESPONSE_BYTES_MAX);
const _: () = assert!(REQUESTS_WAITING_MAX <= FETCHES_MAX);

/// A search reads a partition to its end once more after this: a broker may still have had a dead process's request when it
/// was read first, or a follower have been behind (`replica.fetch.wait.max.ms` is 500 ms).
pub const SEARCH_REST: Duration = Duration::from_secs(2);
/// Requests of one search that are on their way, each of which may bring [`SEARCH_FETCH_BYTES`].
pub const SEARCH_FLIGHTS_MAX: usize = 8;
/// Asked of a partition at once; doubled while one batch does not fit.
pub const SEARCH_FETCH_BYTES: usize = 1 << 20;
/// How long a broker may wait for something to read. A search reads what is there.
pub const SEARCH_FETCH_WAIT: Duration = Duration::from_millis(50);
/// For an answer.
pub const SEARCH_PATIENCE: Duration = Duration::from_secs(5);
/// What was not answered is asked again after this, doubled each time
pub const SEARCH_RETRY_FIRST: Duration = Duration::from_millis(20);
/// up to this.
pub const SEARCH_RETRY_MAX: Duration = Duration::from_millis(500);
/// A search goes on without a partition that nobody has led for so long.
pub const SEARCH_LEADERLESS_WAIT: Duration = Duration::from_secs(30);

//! Every limit of this crate, where they can be compared.

use std::time::Duration;

/// Longest app id, topic, group and cluster name. All are `[A-Za-z0-9_-]{1,64}`, as in 2017.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest topic version: `v` and up to nine digits.
pub const VERSION_BYTES_MAX: usize = 10;

/// Kafka refuses longer topic names (`Topic.MAX_NAME_LENGTH`).
pub const KAFKA_TOPIC_BYTES_MAX: usize = 249;

/// What the longest shadow queue adds to a physical topic: `.<appid>.<group>.retry`.
pub const SHADOW_SUFFIX_BYTES_MAX: usize = 1 + NAME_BYTES_MAX + 1 + NAME_BYTES_MAX + ".retry".len();

/// Longest physical topic that we create. Any group of any app can then have its retry and dead queues.
pub const PHYSICAL_TOPIC_BYTES_MAX: usize = KAFKA_TOPIC_BYTES_MAX - SHADOW_SUFFIX_BYTES_MAX;

// A full-length topic name of an app whose id has up to 32 characters always fits, from v10 on too.
const _: () = assert!(32 + 1 + NAME_BYTES_MAX + 1 + VERSION_BYTES_MAX + ".999".len() <= PHYSICAL_TOPIC_BYTES_MAX);

/// Random bytes in a generated secret: 192 bits, 32 characters of base64url.
pub const SECRET_RANDOM_BYTES: usize = 24;

/// Longest secret a client may present; longer ones are refused before they are hashed.
pub const SECRET_BYTES_MAX: usize = 128;

/// Longest `Authorization` value we decode: `Basic ` and the base64 of `appid:secret`.
pub const BASIC_BYTES_MAX: usize = 6 + (NAME_BYTES_MAX + 1 + SECRET_BYTES_MAX).div_ceil(3) * 4;

/// Salt of an app's SCRAM verifiers.
pub const SCRAM_SALT_BYTES: usize = 16;

/// PBKDF2 rounds of a SCRAM verifier. 4096 is what Kafka uses and the least that RFC 5802 allows.
pub const SCRAM_ITERATIONS_DEFAULT: u32 = 4096;
pub const SCRAM_ITERATIONS_MIN: u32 = 4096;
/// More would let a stored number hold a login for seconds.
pub const SCRAM_ITERATIONS_MAX: u32 = 100_000;

/// Random bytes of our part of a SCRAM nonce: 144 bits, 24 characters of base64.
pub const SCRAM_NONCE_RANDOM_BYTES: usize = 18;
/// Longest nonce that a client may choose. They choose some 20 to 45 characters.
pub const SCRAM_CLIENT_NONCE_BYTES_MAX: usize = 128;

/// Longest SASL message that is looked at, with room for extensions that are passed over.
pub const SASL_MESSAGE_BYTES_MAX: usize = 1_024;
// PLAIN: identity NUL app NUL secret.
const _: () = assert!(NAME_BYTES_MAX + 1 + NAME_BYTES_MAX + 1 + SECRET_BYTES_MAX <= SASL_MESSAGE_BYTES_MAX);
// SCRAM's last: c=base64(n,a=app,),r=nonce,p=base64 of a SHA-512.
const _: () = assert!(
    2 + (4 + NAME_BYTES_MAX + 1).div_ceil(3) * 4
        + 3
        + SCRAM_CLIENT_NONCE_BYTES_MAX
        + SCRAM_NONCE_RANDOM_BYTES.div_ceil(3) * 4
        + 3
        + 64_usize.div_ceil(3) * 4
        <= SASL_MESSAGE_BYTES_MAX
);

/// Publishable bytes of one message by default and at most (Kafka brokers default to 1 MiB for a whole batch).
pub const MESSAGE_BYTES_MAX_DEFAULT: u32 = 1_000_000;
pub const MESSAGE_BYTES_MAX_LIMIT: u32 = 64 << 20;
const _: () = assert!(MESSAGE_BYTES_MAX_DEFAULT <= MESSAGE_BYTES_MAX_LIMIT);

/// What one snapshot may hold. A bigger one is refused whole: half a tenant list would deny at random.
pub const SNAPSHOT_APPS_MAX: usize = 100_000;
pub const SNAPSHOT_TOPICS_MAX: usize = 500_000;
pub const SNAPSHOT_GRANTS_MAX: usize = 1_000_000;

/// Largest snapshot file we read into memory.
pub const SNAPSHOT_FILE_BYTES_MAX: u64 = 1 << 30;

/// Entries of a shard's credential cache (32 bytes each). One per app that publishes through this shard in a while.
pub const CREDENTIAL_CACHE_ENTRIES: usize = 2048;
const _: () = assert!(CREDENTIAL_CACHE_ENTRIES.is_power_of_two());

/// For how long credentials that passed are not hashed again, in seconds.
pub const CREDENTIALS_REMEMBERED_S: u64 = 300;

/// Failed logins per address and app id and minute that are answered 401; the next ones are answered 429.
pub const FAILED_LOGINS_MAX: u32 = 30;
/// The minute, in seconds.
pub const FAILED_LOGIN_WINDOW_S: u64 = 60;
/// Pairs of address and app id that a limiter remembers, in sets of `FAILED_LOGIN_WAYS`.
pub const FAILED_LOGIN_ENTRIES: usize = 8192;
pub const FAILED_LOGIN_WAYS: usize = 8;
const _: () = assert!((FAILED_LOGIN_ENTRIES / FAILED_LOGIN_WAYS).is_power_of_two());

/// Characters of a client's own text that an error message repeats.
pub const ECHO_CHARS_MAX: usize = 80;

/// Largest limit that can be set: 10^12 messages or bytes a second.
pub const QUOTA_MAX: u64 = 1_000_000_000_000;
/// A limit that nobody asked about for so long is forgotten by its node, and begins anew.
pub const QUOTA_IDLE: Duration = Duration::from_secs(10);
/// Most that one node tells the lessor at once.
pub const QUOTA_DEMANDS_MAX: usize = 10_000;

/// Ranges in an app's list of addresses.
pub const ADDRESS_RANGES_MAX: usize = 100;

/// Principals of the manager, and apps that one of them owns or sees one by one.
pub const PRINCIPALS_MAX: usize = 10_000;
pub const PRINCIPAL_APPS_MAX: usize = 1_000;

/// Characters of what an audit event is about that are kept: names of groups, a sentence.
pub const AUDIT_ABOUT_CHARS_MAX: usize = 1_000;

/// The same of its id, and of the node's it happened at.
pub const AUDIT_ID_CHARS_MAX: usize = 120;

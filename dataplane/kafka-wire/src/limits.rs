//! Every bound of this crate in one place, so that they can be compared.

/// Largest frame accepted by default, in bytes without its length: Kafka's own `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// How much buffer a frame that has begun may reserve beyond what has arrived. A peer that announces 100 MiB and
/// sends nothing costs this, not 100 MiB.
pub const FRAME_RESERVE_STEP_BYTES: usize = 64 * 1024;

/// Most elements one array may have. Kafka 4.4 refuses more; so do we.
pub const ARRAY_ELEMENTS_MAX: usize = 1_000_000;

/// Most tagged fields one section may have (KIP-482). Kafka 4.4 refuses more; so do we.
pub const TAGGED_FIELDS_MAX: usize = 10_000;

/// Largest body of a cold request. A decoded structure may take thirty times its bytes (an empty name is one byte on
/// the wire), so a stranger's request is kept smaller than a frame may be; committing 100,000 offsets takes 4 MiB.
pub const COLD_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a magic-2 record batch header, up to and including the record count.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Bytes before a batch's length field stops counting: base offset and the length itself.
pub const BATCH_LOG_OVERHEAD_BYTES: usize = 12;

/// A record value of at least this size is linked into the batch instead of copied: below, copying is cheaper than
/// the reference count and the extra iovec (1 KiB copies in 12 ns).
pub const VALUE_LINK_BYTES_MIN: usize = 16 * 1024;

/// A batch body chunk of at least this size is linked into a Produce frame instead of copied.
pub const BODY_LINK_BYTES_MIN: usize = 4 * 1024;

/// Longest string or nullable string: what an `i16` can say. Flexible versions could say more, and Kafka refuses it.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

const _: () = assert!(BODY_LINK_BYTES_MIN <= VALUE_LINK_BYTES_MIN);
const _: () = assert!(BATCH_LOG_OVERHEAD_BYTES < BATCH_HEADER_BYTES);
const _: () = assert!(TAGGED_FIELDS_MAX <= ARRAY_ELEMENTS_MAX);
const _: () = assert!(COLD_REQUEST_BYTES_MAX <= FRAME_BYTES_MAX);

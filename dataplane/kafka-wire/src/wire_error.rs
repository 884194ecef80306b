//! The one error of this crate: what could not be read, where, what was found, what is allowed.

use crate::api_key::ApiKey;

/// Why bytes were refused. Offsets count from the start of the bytes that were handed in.
///
/// All of these are the sender's fault, and reading the same bytes again cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the field does.
    #[error("{what} at byte {offset} needs {need} bytes, {left} are left")]
    Truncated { what: &'static str, offset: usize, need: usize, left: usize },
    /// A count or a size is larger than its limit, or larger than what the remaining bytes can hold.
    #[error("{what} at byte {offset} is {found}, at most {limit} allowed here")]
    TooLarge { what: &'static str, offset: usize, found: u64, limit: u64 },
    /// A value that no version of the protocol allows here.
    #[error("{what} at byte {offset} is {found}, which is not allowed")]
    Invalid { what: &'static str, offset: usize, found: i64 },
    /// A string that must be UTF-8 is not.
    #[error("{what} at byte {offset} is not UTF-8")]
    NotUtf8 { what: &'static str, offset: usize },
    /// A message ended and bytes follow.
    #[error("{what} ends at byte {offset}, {left} bytes follow")]
    TrailingBytes { what: &'static str, offset: usize, left: usize },
    /// A version of an API that this crate does not speak.
    #[error("{api:?} version {version} is not spoken here, only {min} to {max}")]
    Version { api: ApiKey, version: i16, min: i16, max: i16 },
    /// An API that is not one of those served through [`crate::cold`].
    #[error("{api:?} is not coded here")]
    Api { api: ApiKey },
    /// A record batch of another format than magic 2 (Kafka before 0.11).
    #[error("record batch at byte {offset} has magic {magic}, only 2 is read")]
    Magic { offset: usize, magic: i8 },
    /// The checksum of a record batch does not match its bytes.
    #[error("record batch checksum is {stored:#010x}, its bytes give {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    /// A compressed body that cannot be decompressed.
    #[error("{codec} body cannot be decompressed: {reason}")]
    Compression { codec: &'static str, reason: String },
    /// `kafka-protocol` refused a message, in its words.
    #[error("{what}: {reason}")]
    Codec { what: &'static str, reason: String },
}

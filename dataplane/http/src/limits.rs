//! Every number that bounds what a peer can make this crate hold or do.

/// Longest request head in bytes, from the first byte to the empty line included.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields in one request. Also the capacity of the parser's table on the stack (32 bytes each).
pub const HEADERS_MAX: usize = 100;
/// Longest request target in bytes, query included. A record key travels in the query, so it is generous.
pub const URI_BYTES_MAX: usize = 8 * 1024;

/// Hexadecimal digits of a chunk size, leading zeros included: 16 digits are all a `u64` can hold.
pub const CHUNK_SIZE_DIGITS_MAX: u32 = 16;
/// Extension bytes on one chunk-size line.
pub const CHUNK_EXTENSION_BYTES_MAX: u32 = 1024;
/// Extension bytes of a whole body beyond the data they came with. Extensions carry nothing for us, so a body that
/// consists of them is an attack (RFC 9112 section 7.1.1).
pub const CHUNK_EXTENSION_EXCESS_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of all trailer fields of one body, line ends included. They are checked and dropped.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;

/// Longest `Authorization` value that is decoded. App ids and secrets are far shorter.
pub const BASIC_BYTES_MAX: usize = 1024;

const _: () = assert!(URI_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(TRAILER_BYTES_MAX as usize <= HEAD_BYTES_MAX);
const _: () = assert!(BASIC_BYTES_MAX < HEAD_BYTES_MAX);

/// What a listener accepts in one request head. [`Default`] is the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest head in bytes, empty line included; beyond it 431.
    pub head_bytes_max: usize,
    /// Most header fields, capped at [`HEADERS_MAX`]; beyond it 431.
    pub headers_max: usize,
    /// Longest request target in bytes; beyond it 414.
    pub uri_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes_max: HEAD_BYTES_MAX, headers_max: HEADERS_MAX, uri_bytes_max: URI_BYTES_MAX }
    }
}

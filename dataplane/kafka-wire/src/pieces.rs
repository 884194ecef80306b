//! Single fields, for whoever cuts messages open and puts other fields in: read where a walk has found them, written as the
//! decoders and encoders of this crate do.

use crate::primitive::Reader;
pub use crate::primitive::{put_count, put_nullable_string, put_string, put_uvarint};

/// The text of a field with its length, as a walk gives it; None when null, or not UTF-8.
pub fn text(field: &[u8], flexible: bool) -> Option<&str> {
    let bytes = Reader::new(field).nullable_string(flexible, "text").ok()??;
    std::str::from_utf8(bytes).ok()
}

/// The bytes of a field with its length, as a walk gives it; None when null.
pub fn bytes(field: &[u8], flexible: bool) -> Option<&[u8]> {
    Reader::new(field).nullable_bytes(flexible, "bytes").ok()?
}

//! Batches as both framings of the contract have them: written for publishing, counted when subscribing.
//!
//! ```text
//! binary     length u32 │ attributes u8 = 0 │ header_count u16 = 0 │ value
//! polled     length u32 │ partition … receipt │ attributes …             (only the length matters here)
//! ndjson     {"value":"…"}⏎
//! ```

use bytes::{BufMut, Bytes, BytesMut};

/// How the records of a batch are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Framing {
    /// `application/vnd.gafka.records`.
    Binary,
    /// `application/x-ndjson`, values as JSON strings.
    Ndjson,
}

pub const BINARY_CONTENT_TYPE: &str = "application/vnd.gafka.records";

/// Bytes of a record beside its value, the most of both framings.
pub const FRAMING_BYTES_MAX: usize = 16;

impl Framing {
    pub fn content_type(self) -> &'static str {
        match self {
            Framing::Binary => BINARY_CONTENT_TYPE,
            Framing::Ndjson => "application/x-ndjson",
        }
    }

    /// `count` records with the same value, which is plain ASCII without quotes for [`Framing::Ndjson`].
    pub fn body(self, value: &[u8], count: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(count * (FRAMING_BYTES_MAX + value.len()));
        for _ in 0..count {
            match self {
                Framing::Binary => {
                    out.put_u32(u32::try_from(1 + 2 + value.len()).expect("messages are limited"));
                    out.put_u8(0);
                    out.put_u16(0);
                    out.put_slice(value);
                }
                Framing::Ndjson => {
                    out.put_slice(b"{\"value\":\"");
                    out.put_slice(value);
                    out.put_slice(b"\"}\n");
                }
            }
        }
        out.freeze()
    }
}

/// Records in a whole binary body; `None` when it does not consist of whole records.
pub fn count(mut body: &[u8]) -> Option<u64> {
    let mut records = 0;
    while !body.is_empty() {
        let (length, rest) = body.split_first_chunk::<4>()?;
        body = rest.get(u32::from_be_bytes(*length) as usize..)?;
        records += 1;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_counted_and_a_cut_is_noticed() {
        let body = Framing::Binary.body(b"hello", 3);
        assert_eq!(&body[..12], b"\0\0\0\x08\0\0\0hello");
        assert_eq!(count(&body), Some(3));
        assert_eq!(count(b""), Some(0));
        for cut in 1..12 {
            assert_eq!(count(&body[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_line_is_an_object_with_the_value() {
        assert_eq!(Framing::Ndjson.body(b"hi", 2), "{\"value\":\"hi\"}\n{\"value\":\"hi\"}\n");
    }

    #[test]
    fn framing_takes_no_more_than_is_reckoned_with() {
        for framing in [Framing::Binary, Framing::Ndjson] {
            assert!(framing.body(b"", 10).len() <= 10 * FRAMING_BYTES_MAX, "{framing:?}");
        }
    }
}

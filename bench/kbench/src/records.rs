//! The binary framing `application/vnd.gafka.records`: written for publishing, counted when subscribing.
//!
//! ```text
//! publish    length u32 │ attributes u8 = 0 │ header_count u16 = 0 │ value
//! subscribe  length u32 │ partition … receipt │ attributes …             (only the length matters here)
//! ```

use bytes::{BufMut, Bytes, BytesMut};

pub const CONTENT_TYPE: &str = "application/vnd.gafka.records";

/// `count` records with the same value.
pub fn body(value: &[u8], count: usize) -> Bytes {
    let record_bytes = 1 + 2 + value.len();
    let mut out = BytesMut::with_capacity(count * (4 + record_bytes));
    for _ in 0..count {
        out.put_u32(u32::try_from(record_bytes).expect("messages are limited"));
        out.put_u8(0);
        out.put_u16(0);
        out.put_slice(value);
    }
    out.freeze()
}

/// Records in a whole body; `None` when it does not consist of whole records.
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
        let body = body(b"hello", 3);
        assert_eq!(&body[..12], b"\0\0\0\x08\0\0\0hello");
        assert_eq!(count(&body), Some(3));
        assert_eq!(count(b""), Some(0));
        for cut in 1..12 {
            assert_eq!(count(&body[..cut]), None, "{cut}");
        }
    }
}

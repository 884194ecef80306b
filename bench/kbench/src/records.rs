//! Batches as both framings of the contract have them: written for publishing, counted when subscribing.
//!
//! ```text
//! binary     length u32 │ attributes u8 │ [key_length u32 │ key] │ header_count u16 = 0 │ value
//! polled     length u32 │ partition … receipt │ attributes …             (only the length matters here)
//! ndjson     {["key":"…",]"value":"…"}⏎
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

/// Of a binary record: a key follows.
const HAS_KEY: u8 = 8;

/// Bytes of a record beside its key and value, the most of both framings.
pub const FRAMING_BYTES_MAX: usize = 24;

impl Framing {
    pub fn content_type(self) -> &'static str {
        match self {
            Framing::Binary => BINARY_CONTENT_TYPE,
            Framing::Ndjson => "application/x-ndjson",
        }
    }

    /// A record for each key, or none, with the same value; both are plain ASCII without quotes for [`Framing::Ndjson`].
    pub fn body(self, value: &[u8], keys: &[Option<String>]) -> Bytes {
        let key_bytes: usize = keys.iter().flatten().map(String::len).sum();
        let mut out = BytesMut::with_capacity(keys.len() * (FRAMING_BYTES_MAX + value.len()) + key_bytes);
        for key in keys.iter().map(Option::as_deref) {
            let length = |bytes: usize| u32::try_from(bytes).expect("messages are limited");
            match self {
                Framing::Binary => {
                    let key_bytes = key.map_or(0, |key| 4 + key.len());
                    out.put_u32(length(1 + key_bytes + 2 + value.len()));
                    out.put_u8(if key.is_some() { HAS_KEY } else { 0 });
                    if let Some(key) = key {
                        out.put_u32(length(key.len()));
                        out.put_slice(key.as_bytes());
                    }
                    out.put_u16(0);
                    out.put_slice(value);
                }
                Framing::Ndjson => {
                    out.put_u8(b'{');
                    if let Some(key) = key {
                        out.put_slice(format!("\"key\":\"{key}\",").as_bytes());
                    }
                    out.put_slice(b"\"value\":\"");
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
        let body = Framing::Binary.body(b"hello", &[None, None, None]);
        assert_eq!(&body[..12], b"\0\0\0\x08\0\0\0hello");
        assert_eq!(count(&body), Some(3));
        assert_eq!(count(b""), Some(0));
        for cut in 1..12 {
            assert_eq!(count(&body[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_key_stands_before_the_value() {
        let keys = [None, Some("k1".to_owned())];
        assert_eq!(Framing::Ndjson.body(b"hi", &keys), "{\"value\":\"hi\"}\n{\"key\":\"k1\",\"value\":\"hi\"}\n");
        let binary = Framing::Binary.body(b"hi", &keys);
        assert_eq!(&binary[..], b"\0\0\0\x05\0\0\0hi\0\0\0\x0b\x08\0\0\0\x02k1\0\0hi");
        assert_eq!(count(&binary), Some(2));
    }

    #[test]
    fn framing_takes_no_more_than_is_reckoned_with() {
        for framing in [Framing::Binary, Framing::Ndjson] {
            for keys in [vec![None; 10], vec![Some(String::new()); 10]] {
                assert!(framing.body(b"", &keys).len() <= 10 * FRAMING_BYTES_MAX, "{framing:?}");
            }
        }
    }
}

//! Kafka's primitive types: a bounded reader over received bytes, and writers for one growing buffer.
//!
//! The reader never looks past what it was given and knows how far it is, so that an error can say where. Numbers
//! are big endian; "uvarint" is the unsigned 32-bit varint of flexible versions, "varint" and "varlong" are the
//! zigzag ones of records.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::{ARRAY_ELEMENTS_MAX, STRING_BYTES_MAX, TAGGED_FIELDS_MAX};
use crate::wire_error::WireError;

/// A position in received bytes. Every method either advances past one field or fails and says at which byte.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

macro_rules! fixed {
    ($($name:ident -> $type:ty),*) => {
        $(#[inline]
        pub(crate) fn $name(&mut self, what: &'static str) -> Result<$type, WireError> {
            const SIZE: usize = size_of::<$type>();
            match self.data.get(self.at..).and_then(|rest| rest.first_chunk::<SIZE>()) {
                Some(bytes) => {
                    self.at += SIZE;
                    Ok(<$type>::from_be_bytes(*bytes))
                }
                None => Err(self.truncated(what, SIZE)),
            }
        })*
    };
}

impl<'a> Reader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Reader<'a> {
        Reader { data, at: 0 }
    }

    /// Bytes read so far.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.data.len() - self.at
    }

    #[cold]
    fn truncated(&self, what: &'static str, need: usize) -> WireError {
        WireError::Truncated { what, offset: self.at, need, left: self.left() }
    }

    fixed!(i8 -> i8, i16 -> i16, i32 -> i32, i64 -> i64, u32 -> u32);

    /// The next `size` bytes, borrowed.
    #[inline]
    pub(crate) fn take(&mut self, size: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        if size > self.left() {
            return Err(self.truncated(what, size));
        }
        let taken = &self.data[self.at..self.at + size];
        self.at += size;
        Ok(taken)
    }

    /// An unsigned varint of at most 32 bits. A fifth byte with bits beyond the 32nd is refused, so that no two
    /// decoders can read different numbers.
    #[inline]
    pub(crate) fn uvarint(&mut self, what: &'static str) -> Result<u32, WireError> {
        let start = self.at;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let Some(&byte) = self.data.get(self.at) else {
                return Err(self.truncated(what, 1));
            };
            self.at += 1;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::Invalid { what, offset: start, found: i64::from(byte) });
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// A zigzag varint of at most 32 bits.
    #[inline]
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<i32, WireError> {
        let raw = self.uvarint(what)?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zigzag varint of at most 64 bits.
    #[inline]
    pub(crate) fn varlong(&mut self, what: &'static str) -> Result<i64, WireError> {
        let start = self.at;
        let mut raw = 0u64;
        let mut shift = 0;
        loop {
            let Some(&byte) = self.data.get(self.at) else {
                return Err(self.truncated(what, 1));
            };
            self.at += 1;
            if shift == 63 && byte > 0x01 {
                return Err(WireError::Invalid { what, offset: start, found: i64::from(byte) });
            }
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
        }
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Bytes behind a 16-bit length (`flexible`: behind a uvarint of length + 1); `None` when null.
    pub(crate) fn nullable_string(
        &mut self,
        flexible: bool,
        what: &'static str,
    ) -> Result<Option<&'a [u8]>, WireError> {
        let start = self.at;
        let size = if flexible { i64::from(self.uvarint(what)?) - 1 } else { i64::from(self.i16(what)?) };
        let bytes = self.sized(size, start, what)?;
        if let Some(bytes) = bytes {
            if bytes.len() > STRING_BYTES_MAX {
                let (found, limit) = (bytes.len() as u64, STRING_BYTES_MAX as u64);
                return Err(WireError::TooLarge { what, offset: start, found, limit });
            }
            if std::str::from_utf8(bytes).is_err() {
                return Err(WireError::NotUtf8 { what, offset: start });
            }
        }
        Ok(bytes)
    }

    /// As [`Reader::nullable_string`], where null is not allowed.
    pub(crate) fn string(&mut self, flexible: bool, what: &'static str) -> Result<&'a [u8], WireError> {
        let start = self.at;
        self.nullable_string(flexible, what)?.ok_or(WireError::Invalid { what, offset: start, found: -1 })
    }

    /// Bytes behind a 32-bit length (`flexible`: behind a uvarint of length + 1); `None` when null.
    pub(crate) fn nullable_bytes(&mut self, flexible: bool, what: &'static str) -> Result<Option<&'a [u8]>, WireError> {
        let start = self.at;
        let size = if flexible { i64::from(self.uvarint(what)?) - 1 } else { i64::from(self.i32(what)?) };
        self.sized(size, start, what)
    }

    fn sized(&mut self, size: i64, start: usize, what: &'static str) -> Result<Option<&'a [u8]>, WireError> {
        match size {
            -1 => Ok(None),
            size if size < 0 => Err(WireError::Invalid { what, offset: start, found: size }),
            size => self.take(size as usize, what).map(Some),
        }
    }

    /// Element count of an array, `None` when null. Refused when `element_bytes_min` times the count is more than
    /// what is left, so a caller may reserve that many elements.
    pub(crate) fn nullable_count(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        what: &'static str,
    ) -> Result<Option<usize>, WireError> {
        let start = self.at;
        let count = if flexible { i64::from(self.uvarint(what)?) - 1 } else { i64::from(self.i32(what)?) };
        if count == -1 {
            return Ok(None);
        }
        if count < 0 {
            return Err(WireError::Invalid { what, offset: start, found: count });
        }
        let limit = ARRAY_ELEMENTS_MAX.min(self.left() / element_bytes_min.max(1));
        if count as u64 > limit as u64 {
            return Err(WireError::TooLarge { what, offset: start, found: count as u64, limit: limit as u64 });
        }
        Ok(Some(count as usize))
    }

    /// As [`Reader::nullable_count`], where null is not allowed.
    pub(crate) fn count(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        what: &'static str,
    ) -> Result<usize, WireError> {
        let start = self.at;
        self.nullable_count(flexible, element_bytes_min, what)?.ok_or(WireError::Invalid {
            what,
            offset: start,
            found: -1,
        })
    }

    /// Tagged fields (KIP-482), each handed to `field` as (tag, its bytes). Tags must ascend, which also makes them
    /// distinct.
    pub(crate) fn tags(
        &mut self,
        flexible: bool,
        mut field: impl FnMut(u32, Reader<'a>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if !flexible {
            return Ok(());
        }
        let count = self.tag_count()?;
        let mut previous = None;
        for _ in 0..count {
            let (tag, size) = self.tag_head(&mut previous)?;
            let value_end = self.at + size;
            field(tag, Reader { data: &self.data[..value_end], at: self.at })?;
            self.at = value_end;
        }
        Ok(())
    }

    /// Tagged fields of which none is understood: skipped.
    pub(crate) fn skip_tags(&mut self, flexible: bool) -> Result<(), WireError> {
        self.tags(flexible, |_, _| Ok(()))
    }

    /// Number of tagged fields that follow.
    pub(crate) fn tag_count(&mut self) -> Result<usize, WireError> {
        let what = "tagged field count";
        let start = self.at;
        let count = self.uvarint(what)? as usize;
        let limit = TAGGED_FIELDS_MAX.min(self.left() / 2);
        if count > limit {
            return Err(WireError::TooLarge { what, offset: start, found: count as u64, limit: limit as u64 });
        }
        Ok(count)
    }

    /// As [`Reader::tag_count`], where the bytes of the fields may not have arrived yet.
    pub(crate) fn tag_count_so_far(&mut self) -> Result<usize, WireError> {
        let what = "tagged field count";
        let start = self.at;
        let count = self.uvarint(what)? as usize;
        if count > TAGGED_FIELDS_MAX {
            let (found, limit) = (count as u64, TAGGED_FIELDS_MAX as u64);
            return Err(WireError::TooLarge { what, offset: start, found, limit });
        }
        Ok(count)
    }

    /// Tag and size of one tagged field; its bytes are all there.
    pub(crate) fn tag_head(&mut self, previous: &mut Option<u32>) -> Result<(u32, usize), WireError> {
        let start = self.at;
        let tag = self.uvarint("tag")?;
        if previous.is_some_and(|before| tag <= before) {
            return Err(WireError::Invalid { what: "tag out of order", offset: start, found: i64::from(tag) });
        }
        *previous = Some(tag);
        let size = self.uvarint("tagged field size")? as usize;
        if size > self.left() {
            return Err(self.truncated("tagged field", size));
        }
        Ok((tag, size))
    }

    /// Fails when bytes are left.
    pub(crate) fn finish(&self, what: &'static str) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            left => Err(WireError::TrailingBytes { what, offset: self.at, left }),
        }
    }
}

/// Zigzag: small negative numbers become small unsigned ones.
#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Encoded size of an unsigned varint: one byte per seven bits.
#[inline]
pub(crate) fn uvarint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Encoded size of a zigzag varint.
#[inline]
pub(crate) fn varint_bytes(value: i64) -> usize {
    uvarint_bytes(zigzag(value))
}

/// Up to ten bytes being collected on the stack, appended to a buffer in one go.
pub(crate) struct Small {
    bytes: [u8; 40],
    size: usize,
}

impl Small {
    #[inline]
    pub(crate) fn new() -> Small {
        Small { bytes: [0; 40], size: 0 }
    }

    #[inline]
    pub(crate) fn u8(&mut self, byte: u8) {
        self.bytes[self.size] = byte;
        self.size += 1;
    }

    #[inline]
    pub(crate) fn varint(&mut self, value: i64) {
        let mut raw = zigzag(value);
        while raw >= 0x80 {
            self.u8(raw as u8 | 0x80);
            raw >>= 7;
        }
        self.u8(raw as u8);
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

/// An unsigned varint: seven bits a byte, the lowest first.
pub fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Array or bytes length: 32 bits, or a uvarint of length + 1.
pub fn put_count(out: &mut BytesMut, flexible: bool, count: usize) {
    let count = i32::try_from(count).expect("what we encode has fewer than 2^31 elements");
    if flexible { put_uvarint(out, count as u32 + 1) } else { out.put_i32(count) }
}

/// A string of ours. Longer than [`STRING_BYTES_MAX`] is a broken caller: names are checked where they enter.
pub fn put_string(out: &mut BytesMut, flexible: bool, text: &[u8]) {
    assert!(text.len() <= STRING_BYTES_MAX, "a string of {} bytes cannot be encoded", text.len());
    if flexible {
        put_uvarint(out, text.len() as u32 + 1)
    } else {
        out.put_i16(text.len() as i16)
    }
    out.put_slice(text);
}

/// A string of ours, or null.
pub fn put_nullable_string(out: &mut BytesMut, flexible: bool, text: Option<&[u8]>) {
    match text {
        Some(text) => put_string(out, flexible, text),
        None if flexible => out.put_u8(0),
        None => out.put_i16(-1),
    }
}

/// An empty section of tagged fields, where the version has one.
pub(crate) fn put_no_tags(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}

/// `part`, which must lie within `owner`, as a shared slice of it.
#[inline]
pub(crate) fn share(owner: &Bytes, part: &[u8]) -> Bytes {
    owner.slice_ref(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_varint_longer_than_its_type_is_refused() {
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint("n").is_ok());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint("n").is_err());
        assert!(Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).uvarint("n").is_err());
        assert!(Reader::new(&[0xff; 10]).varlong("n").is_err());
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(Reader::new(&most).varlong("n"), Ok(i64::MIN));
    }

    #[test]
    fn a_count_larger_than_the_bytes_can_hold_is_refused() {
        let bytes = [0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        let refused = Reader::new(&bytes).count(false, 1, "topics").unwrap_err();
        assert_eq!(refused, WireError::TooLarge { what: "topics", offset: 0, found: i32::MAX as u64, limit: 4 });
        assert!(Reader::new(&[0, 0, 0, 2, 1, 2, 3]).count(false, 2, "pairs").is_err());
        assert_eq!(Reader::new(&[0, 0, 0, 2, 1, 2, 3, 4]).count(false, 2, "pairs"), Ok(2));
    }

    #[test]
    fn tags_must_ascend_and_fit() {
        assert!(Reader::new(&[2, 0, 1, 9, 1, 1, 9]).skip_tags(true).is_ok());
        assert!(Reader::new(&[2, 1, 1, 9, 0, 1, 9]).skip_tags(true).is_err());
        assert!(Reader::new(&[2, 1, 1, 9, 1, 1, 9]).skip_tags(true).is_err());
        assert!(Reader::new(&[1, 0, 2, 9]).skip_tags(true).is_err());
        assert!(Reader::new(&[0xff, 0xff, 0x7f]).skip_tags(true).is_err());
    }

    proptest! {
        #[test]
        fn varints_survive_the_round_trip_in_their_announced_size(value: i64, small: i32) {
            let mut written = Small::new();
            written.varint(value);
            prop_assert_eq!(written.as_slice().len(), varint_bytes(value));
            prop_assert_eq!(Reader::new(written.as_slice()).varlong("n"), Ok(value));
            let mut written = Small::new();
            written.varint(i64::from(small));
            prop_assert_eq!(Reader::new(written.as_slice()).varint("n"), Ok(small));
        }
    }
}

//! Hiding one field of a large message while it streams by: nothing is decoded, nothing moves, the length stays.
//!
//! A proxy must not let a broker's real address through, and a Fetch response carries some (KIP-951) behind megabytes of
//! records, under a frame length that has long been sent. So the field is made to say nothing *in its own bytes*:
//!
//! ```text
//!   a tagged field      .. | tag 0 | size | addresses | ..     becomes   .. | tag 127 | size | zeros | ..
//!   the last array      .. | count | addresses | tags          becomes   .. | 0 elements | one tag 127 | size | zeros
//! ```
//!
//! Tag 127 is no field of any message; readers skip tags they do not know (KIP-482). Clients ask for the metadata instead.
//!
//! Invariants:
//! - The message keeps its size, and all bytes outside the field stay as they are.
//! - The walk keeps a few dozen bytes of state, whatever the message says; records are skipped by their length.

use crate::limits::{ARRAY_ELEMENTS_MAX, TAGGED_FIELDS_MAX};
use crate::primitive::Reader;
use crate::shape::{Field, Kind, Shape};
use crate::wire_error::WireError;

/// A tag no message uses, one byte long.
const UNKNOWN_TAG: u8 = 127;
/// Bytes that must be together when an array is replaced: no elements, one tag, its number, its size (a uvarint).
const HIDDEN_HEAD_BYTES_MAX: usize = 1 + 1 + 1 + 5;

/// A walk through one message body that arrives in pieces. The message must be flexible in the version given.
#[derive(Debug)]
pub struct Elide {
    version: i16,
    field: &'static str,
    stack: Vec<Level>,
    /// Bytes of the current value that are still to pass.
    skip: usize,
    /// Whether those bytes are to be blanked.
    blank: bool,
    hidden: bool,
}

#[derive(Debug)]
enum Level {
    Fields { fields: &'static [Field], next: usize },
    Tags { fields: &'static [Field], left: usize },
    Elements { kind: &'static Kind, left: usize },
}

impl Elide {
    /// `field` is a field of the message itself: a tagged one, or an array that is its last field.
    pub fn new(shape: &'static Shape, version: i16, field: &'static str) -> Elide {
        assert!(version >= shape.flexible_from, "{} v{version} is not flexible", shape.name);
        let stack = vec![Level::Fields { fields: shape.fields, next: 0 }, Level::header_tags()];
        Elide { version, field, stack, skip: 0, blank: false, hidden: false }
    }

    /// Whether something was hidden.
    pub fn has_hidden(&self) -> bool {
        self.hidden
    }

    /// Whether the message has been walked to its end.
    pub fn is_done(&self) -> bool {
        self.stack.is_empty() && self.skip == 0
    }

    /// Walks on through `bytes`, the next of the message, and gives how many of them are done with and may be sent. The
    /// others (a few at most, unless `bytes` ends inside a value's head) are to be shown again with more behind them.
    /// `left` is how much of the message is still to come, `bytes` included.
    pub fn advance(&mut self, bytes: &mut [u8], left: usize) -> Result<usize, WireError> {
        let mut done = 0;
        loop {
            if self.skip > 0 {
                let part = self.skip.min(bytes.len() - done);
                if self.blank {
                    bytes[done..done + part].fill(0);
                }
                self.skip -= part;
                done += part;
                if self.skip > 0 {
                    return Ok(done);
                }
                self.blank = false;
            }
            if self.stack.is_empty() {
                return Ok(done);
            }
            match self.step(&mut bytes[done..], left - done) {
                Ok(used) => done += used,
                Err(WireError::Truncated { .. }) if bytes.len() < left => return Ok(done),
                Err(err) => return Err(err),
            }
        }
    }

    /// One value's head; its bytes, if it has any, become `skip`. Changes nothing when it fails.
    fn step(&mut self, bytes: &mut [u8], left: usize) -> Result<usize, WireError> {
        let version = self.version;
        let at_top = self.stack.len() == 1;
        match self.stack.last_mut() {
            None => Ok(0),
            Some(Level::Fields { fields, next }) => {
                let fields: &'static [Field] = fields;
                let Some(offset) = fields[*next..].iter().position(|field| is_plain(field, version)) else {
                    let mut reader = Reader::new(bytes);
                    let count = reader.tag_count_partial()?;
                    self.stack.pop();
                    self.stack.push(Level::Tags { fields, left: count });
                    return Ok(reader.offset());
                };
                let field = &fields[*next + offset];
                if at_top && field.name == self.field {
                    return self.hide_array(bytes, left);
                }
                let after = *next + offset + 1;
                let (used, value) = head(field.kind, bytes)?;
                if let Some(Level::Fields { next, .. }) = self.stack.last_mut() {
                    *next = after;
                }
                self.enter(value);
                Ok(used)
            }
            Some(Level::Tags { left: 0, .. }) => {
                self.stack.pop();
                Ok(0)
            }
            Some(Level::Tags { fields, left: tags_left }) => {
                let mut reader = Reader::new(bytes);
                let tag = reader.uvarint("tag")?;
                let size = reader.uvarint("tagged field size")? as usize;
                let used = reader.offset();
                if size > left - used {
                    return Err(WireError::TooLarge {
                        what: "tagged field",
                        offset: 0,
                        found: size as u64,
                        limit: (left - used) as u64,
                    });
                }
                let is_ours = at_top
                    && fields
                        .iter()
                        .any(|field| field.tag == Some(tag) && field.name == self.field && field.since <= version);
                *tags_left -= 1;
                self.skip = size;
                if is_ours {
                    bytes[0] = UNKNOWN_TAG;
                    self.blank = true;
                    self.hidden = true;
                }
                Ok(used)
            }
            Some(Level::Elements { left: 0, .. }) => {
                self.stack.pop();
                Ok(0)
            }
            Some(Level::Elements { kind, left: elements }) => {
                let (used, value) = head(**kind, bytes)?;
                *elements -= 1;
                self.enter(value);
                Ok(used)
            }
        }
    }

    fn enter(&mut self, value: Value) {
        match value {
            Value::Bytes(size) => self.skip = size,
            Value::Nothing => {}
            Value::Fields(fields) => self.stack.push(Level::Fields { fields, next: 0 }),
            Value::Elements(kind, left) => self.stack.push(Level::Elements { kind, left }),
        }
    }

    /// The array from its count to the end of the message: left alone when empty, else made empty.
    fn hide_array(&mut self, bytes: &mut [u8], left: usize) -> Result<usize, WireError> {
        let mut reader = Reader::new(bytes);
        let count = reader.uvarint("endpoints")?;
        if count <= 1 {
            let used = reader.offset();
            self.stack.clear();
            self.skip = left - used;
            return Ok(used);
        }
        if bytes.len() < HIDDEN_HEAD_BYTES_MAX {
            let (need, left) = (HIDDEN_HEAD_BYTES_MAX, bytes.len());
            return Err(WireError::Truncated { what: "endpoints", offset: 0, need, left });
        }
        let (head, used) = hidden_head(left);
        bytes[..used].copy_from_slice(&head[..used]);
        self.stack.clear();
        self.skip = left - used;
        self.blank = true;
        self.hidden = true;
        Ok(used)
    }
}

impl Level {
    /// The tagged fields of the response header, of which we know none.
    fn header_tags() -> Level {
        Level::Fields { fields: &[], next: 0 }
    }
}

enum Value {
    Nothing,
    Bytes(usize),
    Fields(&'static [Field]),
    Elements(&'static Kind, usize),
}

fn is_plain(field: &Field, version: i16) -> bool {
    field.tag.is_none() && field.since <= version && version <= field.until
}

/// Reads a value's length or count, and says what follows.
fn head(kind: Kind, bytes: &[u8]) -> Result<(usize, Value), WireError> {
    let mut reader = Reader::new(bytes);
    let value = match kind {
        Kind::Bool | Kind::Int8 => Value::Bytes(1),
        Kind::Int16 | Kind::Uint16 => Value::Bytes(2),
        Kind::Int32 | Kind::Uint32 => Value::Bytes(4),
        Kind::Int64 | Kind::Float64 => Value::Bytes(8),
        Kind::Uuid => Value::Bytes(16),
        Kind::String | Kind::Bytes => Value::Bytes((reader.uvarint("length")? as usize).saturating_sub(1)),
        Kind::Struct(fields) => Value::Fields(fields),
        Kind::NullableStruct(fields) => match reader.i8("structure")? {
            -1 => Value::Nothing,
            _ => Value::Fields(fields),
        },
        Kind::Array(element) => {
            let count = (reader.uvarint("count")? as usize).saturating_sub(1);
            if count > ARRAY_ELEMENTS_MAX {
                let (found, limit) = (count as u64, ARRAY_ELEMENTS_MAX as u64);
                return Err(WireError::TooLarge { what: "array", offset: 0, found, limit });
            }
            Value::Elements(element, count)
        }
    };
    Ok((reader.offset(), value))
}

/// No elements, then one unknown tagged field that is all of the other `left` bytes.
fn hidden_head(left: usize) -> ([u8; HIDDEN_HEAD_BYTES_MAX], usize) {
    let mut head = [1, 1, UNKNOWN_TAG, 0, 0, 0, 0, 0];
    for size_bytes in 1..=5 {
        let used = 3 + size_bytes;
        let mut size = left - used;
        // Longer than needed is allowed (the last byte is then zero), so some length always fits.
        for byte in &mut head[3..used] {
            *byte = (size as u8 & 0x7f) | 0x80;
            size >>= 7;
        }
        head[used - 1] &= 0x7f;
        if size == 0 {
            return (head, used);
        }
    }
    unreachable!("a frame is smaller than 2^35 bytes")
}

impl Reader<'_> {
    /// As `tag_count`, where the bytes behind may not have arrived.
    fn tag_count_partial(&mut self) -> Result<usize, WireError> {
        let count = self.uvarint("tagged field count")? as usize;
        if count > TAGGED_FIELDS_MAX {
            let (found, limit) = (count as u64, TAGGED_FIELDS_MAX as u64);
            return Err(WireError::TooLarge { what: "tagged field count", offset: 0, found, limit });
        }
        Ok(count)
    }
}

//! Walking a large message while it streams by: nothing is decoded, nothing moves, the length stays. On the way the
//! records in it are counted, and one field may be hidden.
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

use crate::limits::ARRAY_ELEMENTS_MAX;
use crate::primitive::Reader;
use crate::record_batch::count::RecordCount;
use crate::shape::{Field, Kind, Shape};
use crate::wire_error::WireError;

/// Name of the field with record batches, in every message that has one.
const RECORDS: &str = "records";

/// A tag no message uses, one byte long.
const UNKNOWN_TAG: u8 = 127;
/// Bytes that must be together when an array is replaced: no elements, one tag, its number, its size (a uvarint).
const HIDDEN_HEAD_BYTES_MAX: usize = 1 + 1 + 1 + 5;

/// A walk through one message body that arrives in pieces.
#[derive(Debug)]
pub struct Passing {
    version: i16,
    flexible: bool,
    hide: Option<&'static str>,
    stack: Vec<Level>,
    /// Bytes of the current value that are still to pass.
    skip: usize,
    /// What is done with them on the way.
    doing: Doing,
    hidden: bool,
    records: RecordCount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Blanking,
    Counting,
}

#[derive(Debug)]
enum Level {
    Fields { fields: &'static [Field], next: usize },
    Tags { fields: &'static [Field], left: usize },
    Elements { kind: &'static Kind, left: usize },
}

impl Passing {
    /// Through a response, from behind its correlation id. `hide` is a field of the message itself: a tagged one, or an
    /// array that is its last field, in a version that is flexible.
    pub fn response(shape: &'static Shape, version: i16, hide: Option<&'static str>) -> Passing {
        let flexible = version >= shape.flexible_from;
        assert!(flexible || hide.is_none(), "{} v{version} is not flexible", shape.name);
        let mut passing = Passing { hide, ..Passing::body(shape, version) };
        if flexible {
            passing.stack.push(Level::header_tags());
        }
        passing
    }

    /// Through a request, or a response, from behind its header.
    pub fn body(shape: &'static Shape, version: i16) -> Passing {
        let (min, max) = shape.versions;
        assert!((min..=max).contains(&version), "{} has no v{version}", shape.name);
        Passing {
            version,
            flexible: version >= shape.flexible_from,
            hide: None,
            stack: vec![Level::Fields { fields: shape.fields, next: 0 }],
            skip: 0,
            doing: Doing::Nothing,
            hidden: false,
            records: RecordCount::default(),
        }
    }

    /// Records in the batches that have passed.
    pub fn record_count(&self) -> u64 {
        self.records.count()
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
                match self.doing {
                    Doing::Nothing => {}
                    Doing::Blanking => bytes[done..done + part].fill(0),
                    Doing::Counting => self.records.pass(&bytes[done..done + part]),
                }
                self.skip -= part;
                done += part;
                if self.skip > 0 {
                    return Ok(done);
                }
                self.doing = Doing::Nothing;
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
        let (version, flexible) = (self.version, self.flexible);
        let at_top = self.stack.len() == 1;
        match self.stack.last_mut() {
            None => Ok(0),
            Some(Level::Fields { fields, next }) => {
                let fields: &'static [Field] = fields;
                let Some(offset) = fields[*next..].iter().position(|field| is_plain(field, version)) else {
                    if !flexible {
                        self.stack.pop();
                        return Ok(0);
                    }
                    let mut reader = Reader::new(bytes);
                    let count = reader.tag_count_so_far()?;
                    self.stack.pop();
                    self.stack.push(Level::Tags { fields, left: count });
                    return Ok(reader.offset());
                };
                let field = &fields[*next + offset];
                if at_top && self.hide == Some(field.name) {
                    return self.hide_array(bytes, left);
                }
                let after = *next + offset + 1;
                let (used, value) = head(field.kind, flexible, bytes)?;
                if let Some(Level::Fields { next, .. }) = self.stack.last_mut() {
                    *next = after;
                }
                self.enter(value);
                if field.name == RECORDS {
                    self.records.begin();
                    self.doing = Doing::Counting;
                }
                Ok(used)
            }
            Some(Level::Tags { left: 0, .. }) => {
                self.stack.pop();
                Ok(0)
            }
            Some(Level::Tags { fields, left: tags_left }) => {
                let mut reader = Reader::new(bytes);
                let tag = reader.uvarint("tag")?;
                let tag_bytes = reader.offset();
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
                        .any(|field| field.tag == Some(tag) && self.hide == Some(field.name) && field.since <= version);
                *tags_left -= 1;
                self.skip = size;
                if is_ours {
                    // Zero may be written in more bytes than it needs.
                    bytes[..tag_bytes].fill(UNKNOWN_TAG | 0x80);
                    bytes[tag_bytes - 1] = if tag_bytes == 5 { 1 } else { UNKNOWN_TAG };
                    self.doing = Doing::Blanking;
                    self.hidden = true;
                }
                Ok(used)
            }
            Some(Level::Elements { left: 0, .. }) => {
                self.stack.pop();
                Ok(0)
            }
            Some(Level::Elements { kind, left: elements }) => {
                let (used, value) = head(**kind, flexible, bytes)?;
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
        self.doing = Doing::Blanking;
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
fn head(kind: Kind, flexible: bool, bytes: &[u8]) -> Result<(usize, Value), WireError> {
    let mut reader = Reader::new(bytes);
    let value = match kind {
        Kind::Bool | Kind::Int8 => Value::Bytes(1),
        Kind::Int16 | Kind::Uint16 => Value::Bytes(2),
        Kind::Int32 | Kind::Uint32 => Value::Bytes(4),
        Kind::Int64 | Kind::Float64 => Value::Bytes(8),
        Kind::Uuid => Value::Bytes(16),
        Kind::String if !flexible => Value::Bytes(usize::try_from(reader.i16("length")?).unwrap_or(0)),
        Kind::String | Kind::Bytes => Value::Bytes(length(&mut reader, flexible)?),
        Kind::Struct(fields) => Value::Fields(fields),
        Kind::NullableStruct(fields) => match reader.i8("structure")? {
            -1 => Value::Nothing,
            _ => Value::Fields(fields),
        },
        Kind::Array(element) => {
            let count = length(&mut reader, flexible)?;
            if count > ARRAY_ELEMENTS_MAX {
                let (found, limit) = (count as u64, ARRAY_ELEMENTS_MAX as u64);
                return Err(WireError::TooLarge { what: "array", offset: 0, found, limit });
            }
            Value::Elements(element, count)
        }
    };
    Ok((reader.offset(), value))
}

/// Of bytes or an array; nothing when null.
fn length(reader: &mut Reader<'_>, flexible: bool) -> Result<usize, WireError> {
    Ok(match flexible {
        true => (reader.uvarint("length")? as usize).saturating_sub(1),
        false => usize::try_from(reader.i32("length")?).unwrap_or(0),
    })
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

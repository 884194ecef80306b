//! Walking a message by a table of its fields, without decoding it.
//!
//! A [`Shape`] lists a message's fields in wire order, each with the versions that have it. The walker follows it and
//! checks every length and count against what is left, Kafka's own limits included, before anyone allocates for
//! them: `kafka-protocol` reserves whatever a count says, so that twelve bytes can abort a process. A walk also tells
//! where each field stands, which is what a proxy needs to splice around names and addresses.
//!
//! Invariants:
//! - A walk allocates nothing, and recurses only as deep as the (finite, constant) table does.
//! - Text is at most as long as a version with 16-bit lengths can say, as in Kafka: what was read can be written again.
//! - A known tagged field fills its announced size exactly, so a decoder that ignores the size cannot get lost.

use std::ops::Range;

use crate::limits::STRING_BYTES_MAX;
use crate::primitive::Reader;
use crate::wire_error::WireError;

/// [`Shape::flexible_from`] of a message that never became flexible.
pub const NEVER_FLEXIBLE: i16 = i16::MAX;

/// A message: its fields in wire order, over a range of versions.
#[derive(Debug)]
pub struct Shape {
    pub name: &'static str,
    /// First and last version the table covers.
    pub versions: (i16, i16),
    /// First version with compact lengths and tagged fields (KIP-482).
    pub flexible_from: i16,
    pub fields: &'static [Field],
}

/// One field of a message or of a structure in it.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    /// First version that has it.
    pub since: i16,
    /// Last version that has it.
    pub until: i16,
    /// Whether some version allows null.
    pub nullable: bool,
    /// Its tag, when it is a tagged field.
    pub tag: Option<u32>,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    /// Text behind its length; whether it is UTF-8 is the decoder's business.
    String,
    Bytes,
    Struct(&'static [Field]),
    /// A structure behind one byte: 1, or -1 where there is none.
    NullableStruct(&'static [Field]),
    Array(&'static Kind),
}

/// A field in every version, neither null nor tagged.
pub const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: i16::MIN, until: i16::MAX, nullable: false, tag: None }
}

impl Field {
    pub const fn since(mut self, version: i16) -> Field {
        self.since = version;
        self
    }

    pub const fn until(mut self, version: i16) -> Field {
        self.until = version;
        self
    }

    pub const fn nullable(mut self) -> Field {
        self.nullable = true;
        self
    }

    pub const fn tag(mut self, tag: u32) -> Field {
        self.tag = Some(tag);
        self
    }

    const fn in_version(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }
}

/// One field met on a walk.
#[derive(Debug, Clone)]
pub struct Visit {
    pub field: &'static Field,
    /// The field's kind; for an element of an array, that of the element.
    pub kind: Kind,
    /// 0 for a field of the message, 1 for one of a structure in it, and so on.
    pub depth: u8,
    /// Its bytes in the message, length included; of an array only the count, its elements follow as visits.
    pub range: Range<usize>,
}

/// Checks that `bytes` begin with a message of this shape and gives its size. Everything a decoder following the
/// same table will reserve is backed by bytes that are there.
pub fn check(shape: &Shape, version: i16, bytes: &[u8]) -> Result<usize, WireError> {
    walk(shape, version, bytes, |_| {})
}

/// What a walk tells on its way.
pub trait Visitor {
    /// A field begins and, unless it is an array or a structure, has ended.
    fn field(&mut self, visit: Visit);

    /// A structure in the array `field` has ended, tagged fields included; `at` is the first byte behind it.
    fn element_end(&mut self, _field: &'static Field, _at: usize) {}

    /// A tagged field has ended; `range` is all of it, tag and size included.
    fn tagged_end(&mut self, _field: &'static Field, _range: Range<usize>) {}
}

/// The visitor that only looks at fields.
struct EachField<F>(F);

impl<F: FnMut(Visit)> Visitor for EachField<F> {
    fn field(&mut self, visit: Visit) {
        (self.0)(visit);
    }
}

/// As [`check`], telling `visit` every field on the way. Tagged fields the table does not know are skipped.
pub fn walk(shape: &Shape, version: i16, bytes: &[u8], visit: impl FnMut(Visit)) -> Result<usize, WireError> {
    walk_with(shape, version, bytes, &mut EachField(visit))
}

/// As [`walk`], telling also where elements and tagged fields end: what one needs to cut them out.
pub fn walk_with(shape: &Shape, version: i16, bytes: &[u8], visitor: &mut impl Visitor) -> Result<usize, WireError> {
    let (min, max) = shape.versions;
    if version < min || version > max {
        return Err(WireError::Invalid { what: "message version", offset: 0, found: i64::from(version) });
    }
    let flexible = version >= shape.flexible_from;
    let mut walker = Walker { version, flexible, visitor };
    let mut reader = Reader::new(bytes);
    walker.structure(shape.fields, 0, &mut reader)?;
    Ok(reader.offset())
}

struct Walker<'v, V> {
    version: i16,
    flexible: bool,
    visitor: &'v mut V,
}

impl<V: Visitor> Walker<'_, V> {
    fn structure(&mut self, fields: &'static [Field], depth: u8, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.in_version(version)) {
            self.field(field, field.kind, depth, reader)?;
        }
        if !self.flexible {
            return Ok(());
        }
        let tag_count = reader.tag_count()?;
        let mut previous = None;
        for _ in 0..tag_count {
            let whole = reader.offset();
            let (tag, size) = reader.tag_head(&mut previous)?;
            let start = reader.offset();
            match fields.iter().find(|field| field.tag == Some(tag) && field.in_version(version)) {
                Some(field) => {
                    self.field(field, field.kind, depth, reader)?;
                    let used = reader.offset() - start;
                    if used != size {
                        let found = size as i64;
                        return Err(WireError::Invalid { what: field.name, offset: start, found });
                    }
                    self.visitor.tagged_end(field, whole..reader.offset());
                }
                None => {
                    reader.take(size, "tagged field")?;
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &'static Field,
        kind: Kind,
        depth: u8,
        reader: &mut Reader<'_>,
    ) -> Result<(), WireError> {
        let start = reader.offset();
        match kind {
            Kind::Struct(fields) => return self.structure(fields, depth + 1, reader),
            Kind::NullableStruct(fields) => {
                let marker = reader.i8(field.name)?;
                self.visitor.field(Visit { field, kind, depth, range: start..reader.offset() });
                return match marker {
                    -1 => Ok(()),
                    1 => self.structure(fields, depth + 1, reader),
                    other => Err(WireError::Invalid { what: field.name, offset: start, found: other.into() }),
                };
            }
            Kind::Array(element) => return self.array(field, *element, depth, reader),
            Kind::String => {
                let size = if self.flexible { compact(reader, field.name)? } else { reader.i16(field.name)?.into() };
                if size > STRING_BYTES_MAX as i64 {
                    let (found, limit) = (size as u64, STRING_BYTES_MAX as u64);
                    return Err(WireError::TooLarge { what: field.name, offset: start, found, limit });
                }
                sized(field, size, start, reader)?;
            }
            Kind::Bytes => {
                let size = if self.flexible { compact(reader, field.name)? } else { reader.i32(field.name)?.into() };
                sized(field, size, start, reader)?;
            }
            fixed => {
                reader.take(bytes_min(fixed, self.version, self.flexible), field.name)?;
            }
        }
        self.visitor.field(Visit { field, kind, depth, range: start..reader.offset() });
        Ok(())
    }

    fn array(
        &mut self,
        field: &'static Field,
        element: Kind,
        depth: u8,
        reader: &mut Reader<'_>,
    ) -> Result<(), WireError> {
        let start = reader.offset();
        let element_bytes_min = bytes_min(element, self.version, self.flexible);
        let count = reader.nullable_count(self.flexible, element_bytes_min, field.name)?;
        if count.is_none() && !field.nullable {
            return Err(WireError::Invalid { what: field.name, offset: start, found: -1 });
        }
        self.visitor.field(Visit { field, kind: field.kind, depth, range: start..reader.offset() });
        for _ in 0..count.unwrap_or(0) {
            self.field(field, element, depth, reader)?;
            if matches!(element, Kind::Struct(_)) {
                self.visitor.element_end(field, reader.offset());
            }
        }
        Ok(())
    }
}

fn compact(reader: &mut Reader<'_>, what: &'static str) -> Result<i64, WireError> {
    Ok(i64::from(reader.uvarint(what)?) - 1)
}

fn sized(field: &Field, size: i64, start: usize, reader: &mut Reader<'_>) -> Result<(), WireError> {
    match usize::try_from(size) {
        Ok(size) => reader.take(size, field.name).map(|_| ()),
        Err(_) if size == -1 && field.nullable => Ok(()),
        Err(_) => Err(WireError::Invalid { what: field.name, offset: start, found: size }),
    }
}

/// Fewest bytes a value of this kind takes in this version: what one array element must be backed by.
fn bytes_min(kind: Kind, version: i16, flexible: bool) -> usize {
    match kind {
        Kind::Bool | Kind::Int8 | Kind::NullableStruct(_) => 1,
        Kind::Int16 | Kind::Uint16 => 2,
        Kind::Int32 | Kind::Uint32 => 4,
        Kind::Int64 | Kind::Float64 => 8,
        Kind::Uuid => 16,
        Kind::String | Kind::Bytes | Kind::Array(_) if flexible => 1,
        Kind::String => 2,
        Kind::Bytes | Kind::Array(_) => 4,
        Kind::Struct(fields) => {
            let present = fields.iter().filter(|field| field.tag.is_none() && field.in_version(version));
            usize::from(flexible) + present.map(|field| bytes_min(field.kind, version, flexible)).sum::<usize>()
        }
    }
}

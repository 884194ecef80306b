//! Messages, or parts of them, that the proxy makes up: every field at a harmless value but for those it is told.
//!
//! Shapes say which fields a version has, so that an answer made here is whole in every version; clients that read an error
//! code look at nothing else.

use bytes::{BufMut, BytesMut};
use kafka_wire::pieces::{put_count, put_nullable_string};
use kafka_wire::shape::{Field, Kind, Shape};

/// A message being made up, or an element of one.
pub struct Fill<'a> {
    pub version: i16,
    pub flexible: bool,
    /// Writes a field that is to have another value than the harmless one; false for all others.
    pub given: &'a mut dyn FnMut(&'static Field, &mut BytesMut) -> bool,
}

impl Fill<'_> {
    /// The body of a message.
    pub fn message(
        shape: &Shape,
        version: i16,
        given: &mut dyn FnMut(&'static Field, &mut BytesMut) -> bool,
    ) -> BytesMut {
        let mut out = BytesMut::new();
        let flexible = version >= shape.flexible_from;
        Fill { version, flexible, given }.structure(shape.fields, &mut out);
        out
    }

    /// One element of an array of structures, or the fields of a message.
    pub fn structure(&mut self, fields: &'static [Field], out: &mut BytesMut) {
        for field in fields {
            if field.tag.is_none() && (field.since..=field.until).contains(&self.version) && !(self.given)(field, out) {
                self.harmless(field, field.kind, out);
            }
        }
        if self.flexible {
            out.put_u8(0);
        }
    }

    fn harmless(&mut self, field: &'static Field, kind: Kind, out: &mut BytesMut) {
        match kind {
            Kind::Bool | Kind::Int8 => out.put_u8(0),
            Kind::Int16 | Kind::Uint16 => out.put_i16(0),
            // What counts or waits is none; what names an offset, a node or an epoch is unknown.
            Kind::Int32 if field.name == THROTTLE => out.put_i32(0),
            Kind::Int32 | Kind::Uint32 => out.put_i32(-1),
            Kind::Int64 | Kind::Float64 => out.put_i64(-1),
            Kind::Uuid => out.put_slice(&[0; 16]),
            Kind::String if field.nullable => put_nullable_string(out, self.flexible, None),
            Kind::String if self.flexible => out.put_u8(1),
            Kind::String => out.put_i16(0),
            Kind::Bytes | Kind::Array(_) => put_count(out, self.flexible, 0),
            Kind::Struct(fields) => self.structure(fields, out),
            Kind::NullableStruct(_) => out.put_i8(-1),
        }
    }
}

/// Milliseconds a client is to wait, in most answers.
pub const THROTTLE: &str = "throttle_time_ms";
/// The code of an answer, of an element, of a partition.
pub const ERROR_CODE: &str = "error_code";
/// The same of a partition, in AddPartitionsToTxn.
pub const PARTITION_ERROR_CODE: &str = "partition_error_code";

/// The fields of the elements of an array of structures with this name, wherever it is in a message.
pub fn elements_of(fields: &'static [Field], array: &str, version: i16) -> Option<&'static [Field]> {
    fields.iter().filter(|field| (field.since..=field.until).contains(&version)).find_map(|field| match field.kind {
        Kind::Array(Kind::Struct(inner)) if field.name == array => Some(*inner),
        Kind::Array(Kind::Struct(inner)) => elements_of(inner, array, version),
        Kind::Struct(inner) => elements_of(inner, array, version),
        _ => None,
    })
}

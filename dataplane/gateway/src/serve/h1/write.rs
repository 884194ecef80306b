//! Answers as bytes: what of a connection's slots can be written now, in one write.

use crate::env::Env;
use crate::exchange::meta::Meta;
use crate::exchange::reply::{Body, Delivery, Growing, Grown, Reply, Value};
use crate::exchange::slots::{Answered, Slots};
use crate::limits::ANSWER_BLOCK_BYTES;
use bytes::{Bytes, BytesMut};
use gafka_http::response::{self, Connection, ResponseWriter};
use smallvec::SmallVec;

/// What can be written now.
#[derive(Debug, Default)]
pub struct Batch {
    pub chunks: SmallVec<[Bytes; 1]>,
    /// Of the last answer: one that hands out records ends its batch, so that it is known whether it was written whole.
    pub delivery: Option<Delivery>,
    /// The connection ends after it.
    pub close: bool,
}

/// How the body of an answer that grows is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Its length was told.
    Length,
    Chunked,
    /// To an HTTP/1.0 client, of a length nobody knew.
    UntilClose,
}

impl Framing {
    fn of(growing: &Growing, meta: &Meta) -> Framing {
        match growing.length {
            Some(_) => Framing::Length,
            None if meta.minor_version == 0 => Framing::UntilClose,
            None => Framing::Chunked,
        }
    }
}

/// Takes the answers at the front that are ready, up to the first that hands out records or is not ready, and what there
/// is of that one.
pub fn take_ready(env: &Env, slots: &mut Slots) -> Option<Batch> {
    let mut batch = Batch::default();
    let mut taken = false;
    while let Some(answered) = slots.front() {
        taken = true;
        let close = match &answered.reply.body {
            Body::Growing(_) => match put_piece(env, answered, &mut batch.chunks) {
                None => break,
                Some(close) => close,
            },
            _ => put_whole(env, answered, &mut batch.chunks),
        };
        batch.delivery = answered.reply.delivery;
        slots.pop();
        if close {
            batch.close = true;
            slots.close();
        }
        if close || batch.delivery.is_some() {
            break;
        }
    }
    (taken && (batch.delivery.is_some() || batch.close || !batch.chunks.is_empty())).then_some(batch)
}

/// Writes a whole answer; whether the connection ends after it.
fn put_whole(env: &Env, answered: &mut Answered, chunks: &mut SmallVec<[Bytes; 1]>) -> bool {
    let Answered { meta, reply, .. } = answered;
    let keep = meta.keep_alive && !env.is_draining() && !reply.close;
    let head_bytes = match &reply.body {
        Body::Small(_, bytes) => 320 + bytes.len(),
        _ => 384,
    };
    chunks.push(in_block(env, meta, head_bytes, |out| {
        let writer = begin(env, meta, reply, keep, out);
        match &reply.body {
            Body::None => writer.no_content(),
            Body::Stored(stored) => writer
                .number("X-Partition", i64::from(stored.partition))
                .number("X-Offset", stored.offset)
                .header("X-Msg-Id", &stored.id)
                .body("application/json", &stored.to_json()),
            Body::Small(content_type, bytes) => writer.body(content_type, bytes),
            Body::Large(content_type, bytes) => writer.length(content_type, bytes.len() as u64),
            Body::Growing(_) => unreachable!("written in pieces"),
        }
    }));
    if let Body::Large(_, bytes) = &mut reply.body
        && !meta.head_only
        && !bytes.is_empty()
    {
        chunks.push(std::mem::take(bytes));
    }
    !keep
}

/// Writes what there is of an answer that grows, with its head the first time; `None`: more will come.
fn put_piece(env: &Env, answered: &mut Answered, chunks: &mut SmallVec<[Bytes; 1]>) -> Option<bool> {
    let Answered { meta, reply, begun, keep } = answered;
    let Body::Growing(growing) = &reply.body else { unreachable!("looked at before") };
    let framing = Framing::of(growing, meta);
    if !std::mem::replace(begun, true) {
        *keep = meta.keep_alive && !env.is_draining() && !reply.close && framing != Framing::UntilClose;
        chunks.push(in_block(env, meta, 384, |out| {
            let mut writer = begin(env, meta, reply, *keep, out);
            if let (Framing::Chunked, Some(name)) = (framing, growing.trailer) {
                writer = writer.header("Trailer", name.as_bytes());
            }
            match (framing, growing.length) {
                (Framing::Length, Some(bytes)) => writer.length(growing.content_type, bytes),
                (Framing::UntilClose, _) => writer.until_close(growing.content_type),
                _ => writer.chunked(growing.content_type),
            }
        }));
    }
    let mut piece = BytesMut::new();
    let grown = growing.source.take(&mut piece);
    if !piece.is_empty() {
        let piece = piece.freeze();
        if framing == Framing::Chunked {
            let mut size = BytesMut::new();
            response::chunk_head(&mut size, piece.len() as u64);
            chunks.extend([size.freeze(), piece, Bytes::from_static(b"\r\n")]);
        } else {
            chunks.push(piece);
        }
    }
    let Grown::End { close, trailer } = grown else { return None };
    if framing == Framing::Chunked {
        let mut end = BytesMut::new();
        match growing.trailer {
            Some(name) => response::last_chunk(&mut end, &[(name, trailer.to_string().as_bytes())]),
            None => response::last_chunk(&mut end, &[]),
        }
        chunks.push(end.freeze());
    }
    Some(close || !*keep)
}

/// Status line and headers that every answer of this request has, then those of the reply.
fn begin<'o>(env: &Env, meta: &Meta, reply: &Reply, keep: bool, out: &'o mut BytesMut) -> ResponseWriter<'o> {
    let connection = Connection { keep_alive: keep, minor_version: meta.minor_version };
    let mut writer = ResponseWriter::start(out, reply.status, connection, &env.date());
    let origins = &env.config.cors_origins;
    if !origins.is_empty() {
        writer = writer.header("Vary", b"Origin"); // caches must not mix answers
    }
    if let Some(origin) = meta.origin.and_then(|index| origins.get(usize::from(index))) {
        // No credentials mode: clients authenticate with headers of their own, so every answer header may be shown.
        writer = writer
            .header("Access-Control-Allow-Origin", origin.as_bytes())
            .header("Access-Control-Expose-Headers", b"*");
    }
    writer = writer.header("X-Request-Id", &meta.id);
    for header in &reply.headers {
        writer = match &header.value {
            Value::Text(text) => writer.header(&header.name, text.as_bytes()),
            Value::Number(number) => writer.number(&header.name, *number),
            Value::Bytes(bytes) => writer.header(&header.name, bytes),
        };
    }
    writer
}

/// One allocation for several answers; the last of them that is written lets it go.
fn in_block(env: &Env, meta: &Meta, capacity: usize, put: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut block = env.answers.borrow_mut();
    let out = &mut *block;
    debug_assert!(out.is_empty(), "every answer is split off when it is whole");
    if out.capacity() < capacity {
        *out = BytesMut::with_capacity(capacity.max(ANSWER_BLOCK_BYTES));
    }
    put(out);
    if meta.head_only {
        // RFC 9110 section 9.3.2: the answer to a HEAD ends with its head.
        let end = out.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head");
        out.truncate(end + 4);
    }
    out.split().freeze()
}

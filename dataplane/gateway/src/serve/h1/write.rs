//! Answers as bytes: what of a connection's slots can be written now, in one write.

use crate::env::Env;
use crate::exchange::meta::Meta;
use crate::exchange::reply::{Body, Delivery, Growing, Grown, Reply, Value};
use crate::exchange::slots::{Answered, Slots};
use crate::limits::ANSWER_BLOCK_BYTES;
use bytes::{Bytes, BytesMut};
use gafka_http::response::{self, Connection, ResponseWriter};
use runtime::budget::Reservation;
use smallvec::SmallVec;

/// What can be written now.
#[derive(Default)]
pub struct Batch {
    pub chunks: SmallVec<[Bytes; 1]>,
    /// Of the last answer: one that hands out records ends its batch, so that it is known whether it was written whole.
    pub delivery: Option<Delivery>,
    /// What that answer holds of the memory budget, until it is written.
    pub held: Option<Reservation>,
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
        batch.held = answered.reply.held.take();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GatewayConfig;
    use crate::exchange::reply::{Header, Source};
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    fn env() -> Env {
        Env::of_nobody(GatewayConfig::default())
    }

    fn meta() -> Meta {
        let id = SmallVec::from_slice(b"r1");
        Meta { id, keep_alive: true, minor_version: 1, origin: None, head_only: false }
    }

    /// What is written now, with `|` for CR LF and without the date; `*` after what ends the connection.
    fn taken(env: &Env, slots: &mut Slots) -> Option<String> {
        let batch = take_ready(env, slots)?;
        let text = String::from_utf8(batch.chunks.concat()).expect("text");
        let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.starts_with("Date: ")).collect();
        Some(lines.join("|") + if batch.close { "*" } else { "" })
    }

    /// Gives one word per call, and ends after `end`.
    struct Words(RefCell<VecDeque<&'static str>>);

    impl Source for Words {
        fn take(&self, out: &mut BytesMut) -> Grown {
            let Some(word) = self.0.borrow_mut().pop_front() else { return Grown::Open };
            out.extend_from_slice(word.as_bytes());
            if word == "end" { Grown::End { close: false, trailer: 7 } } else { Grown::Open }
        }

        fn is_ready(&self) -> bool {
            !self.0.borrow().is_empty()
        }
    }

    fn growing(words: &Rc<Words>, length: Option<u64>, trailer: Option<&'static str>) -> Reply {
        let source = Rc::<Words>::clone(words);
        Reply::new(200, Body::Growing(Growing { content_type: "t", length, trailer, source }))
    }

    fn words(list: &[&'static str]) -> Rc<Words> {
        Rc::new(Words(RefCell::new(list.iter().copied().collect())))
    }

    #[test]
    fn an_answer_that_grows_leaves_in_pieces_and_holds_back_those_behind_it() {
        let (env, mut slots) = (env(), Slots::default());
        let (a, b, c) = (slots.open(), slots.open(), slots.open());
        let list = words(&["x", "yy"]);
        slots.fill(b, Answered::new(meta(), growing(&list, None, Some("X-Failed"))));
        slots.fill(c, Answered::new(meta(), Reply::no_content()));
        assert_eq!(taken(&env, &mut slots), None, "a comes first");
        slots.fill(a, Answered::new(meta(), Reply::no_content()));
        let head = "HTTP/1.1 200 OK|X-Request-Id: r1|Trailer: X-Failed|Content-Type: t|Transfer-Encoding: chunked||";
        let empty = "HTTP/1.1 204 No Content|X-Request-Id: r1||";
        assert_eq!(taken(&env, &mut slots), Some(format!("{empty}{head}1|x|")));
        assert!(slots.is_front_ready());
        assert_eq!(taken(&env, &mut slots).as_deref(), Some("2|yy|"));
        assert!(!slots.is_front_ready());
        assert_eq!(taken(&env, &mut slots), None);
        list.0.borrow_mut().push_back("end");
        assert_eq!(taken(&env, &mut slots), Some(format!("3|end|0|X-Failed: 7||{empty}")));
        assert!(slots.is_empty());
    }

    #[test]
    fn a_growing_body_is_framed_by_what_its_client_understands() {
        let old = Meta { minor_version: 0, ..meta() };
        for (what, meta, length, expected) in [
            ("length told", meta(), Some(3), "HTTP/1.1 200 OK|X-Request-Id: r1|Content-Type: t|Content-Length: 3||end"),
            (
                "HTTP/1.0, length not known",
                old,
                None,
                "HTTP/1.1 200 OK|Connection: close|X-Request-Id: r1|Content-Type: t||end*",
            ),
        ] {
            let (env, mut slots) = (env(), Slots::default());
            let sequence = slots.open();
            slots.fill(sequence, Answered::new(meta, growing(&words(&["end"]), length, None)));
            assert_eq!(taken(&env, &mut slots).as_deref(), Some(expected), "{what}");
        }
    }

    #[test]
    fn answers_with_records_are_written_one_at_a_time_so_that_each_is_settled_by_itself() {
        let (env, mut slots) = (env(), Slots::default());
        for poll in [None, Some(1), Some(2), None] {
            let sequence = slots.open();
            let mut reply = Reply::new(200, Body::Large("t", Bytes::from_static(b"records")));
            reply.delivery = poll.map(|poll| Delivery { shard: 0, subscription: 0, poll });
            slots.fill(sequence, Answered::new(meta(), reply));
        }
        let batches: Vec<_> = std::iter::from_fn(|| take_ready(&env, &mut slots))
            .map(|batch| (batch.chunks.len(), batch.delivery.map(|delivery| delivery.poll)))
            .collect();
        assert_eq!(batches, [(4, Some(1)), (2, Some(2)), (2, None)]);
    }

    #[test]
    fn nothing_is_written_behind_an_answer_that_closes_and_a_head_is_answered_without_a_body() {
        let (env, mut slots) = (env(), Slots::default());
        let (a, b) = (slots.open(), slots.open());
        let head_only = Meta { head_only: true, ..meta() };
        slots.fill(a, Answered::new(head_only, Reply { close: true, ..Reply::json(200, "bye") }));
        slots.fill(b, Answered::new(meta(), Reply::no_content().with(Header::text("A", "b"))));
        let expected = "HTTP/1.1 200 OK|Connection: close|X-Request-Id: r1|Cache-Control: no-store|\
                        Content-Type: application/json|Content-Length: 3||*";
        assert_eq!(taken(&env, &mut slots).as_deref(), Some(expected));
        assert_eq!(taken(&env, &mut slots), None);
    }
}

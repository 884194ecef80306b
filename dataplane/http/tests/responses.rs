//! Answers byte by byte.

use bytes::BytesMut;
use expect_test::{Expect, expect};
use gafka_http::date::HttpDate;
use gafka_http::response::{self, Connection, ResponseWriter};
use proptest::prelude::*;

fn check(write: impl FnOnce(&mut BytesMut, &HttpDate), expected: Expect) {
    let mut out = BytesMut::new();
    write(&mut out, &HttpDate::from_epoch_s(784_111_777));
    let text = String::from_utf8(out.to_vec()).expect("these answers are text");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "every line ends with CR LF");
    expected.assert_eq(&text.replace("\r\n", "|\n"));
}

#[test]
fn a_publish_is_answered_with_its_position() {
    check(
        |out, date| {
            ResponseWriter::start(out, 201, Connection::KEEP, date)
                .number("X-Partition", 3)
                .number("X-Offset", -1)
                .header("X-Msg-Id", b"ZQ")
                .body("application/json", br#"{"ok":1}"#);
        },
        expect![[r#"
            HTTP/1.1 201 Created|
            Date: Sun, 06 Nov 1994 08:49:37 GMT|
            X-Partition: 3|
            X-Offset: -1|
            X-Msg-Id: ZQ|
            Content-Type: application/json|
            Content-Length: 8|
            |
            {"ok":1}"#]],
    );
}

#[test]
fn errors_say_their_sentence_and_code_and_whether_the_connection_stays() {
    check(
        |out, date| response::error(out, 404, "no_such_topic", "topic \"x\" has no version v9", Connection::KEEP, date),
        expect![[r#"
            HTTP/1.1 404 Not Found|
            Date: Sun, 06 Nov 1994 08:49:37 GMT|
            Content-Type: application/json|
            Content-Length: 65|
            |
            {"errmsg":"topic \"x\" has no version v9","code":"no_such_topic"}"#]],
    );
    check(
        |out, date| {
            ResponseWriter::start(out, 503, Connection::CLOSE, date)
                .number("Retry-After", 1)
                .error("the shard has no memory left for the body", "overloaded");
        },
        expect![[r#"
            HTTP/1.1 503 Service Unavailable|
            Date: Sun, 06 Nov 1994 08:49:37 GMT|
            Connection: close|
            Retry-After: 1|
            Content-Type: application/json|
            Content-Length: 74|
            |
            {"errmsg":"the shard has no memory left for the body","code":"overloaded"}"#]],
    );
}

#[test]
fn http_1_0_is_told_when_the_connection_stays() {
    let old = |keep_alive| Connection { keep_alive, minor_version: 0 };
    check(
        |out, date| ResponseWriter::start(out, 200, old(true), date).body("text/plain", b"alive"),
        expect![[r#"
        HTTP/1.1 200 OK|
        Date: Sun, 06 Nov 1994 08:49:37 GMT|
        Connection: keep-alive|
        Content-Type: text/plain|
        Content-Length: 5|
        |
        alive"#]],
    );
    check(
        |out, date| ResponseWriter::start(out, 200, old(false), date).until_close("text/plain"),
        expect![[r#"
        HTTP/1.1 200 OK|
        Date: Sun, 06 Nov 1994 08:49:37 GMT|
        Connection: close|
        Content-Type: text/plain|
        |
    "#]],
    );
}

#[test]
fn answers_without_a_body_have_the_length_their_status_allows() {
    check(
        |out, date| response::head(out, 204, Connection::KEEP, date, &[("Cache-Control", b"no-store")]),
        expect![[r#"
            HTTP/1.1 204 No Content|
            Date: Sun, 06 Nov 1994 08:49:37 GMT|
            Cache-Control: no-store|
            |
        "#]],
    );
    check(
        |out, date| response::head(out, 405, Connection::KEEP, date, &[("Allow", b"GET, PUT")]),
        expect![[r#"
        HTTP/1.1 405 Method Not Allowed|
        Date: Sun, 06 Nov 1994 08:49:37 GMT|
        Allow: GET, PUT|
        Content-Length: 0|
        |
    "#]],
    );
    check(
        |out, date| ResponseWriter::start(out, 200, Connection::KEEP, date).length("text/plain", 12),
        expect![[r#"
        HTTP/1.1 200 OK|
        Date: Sun, 06 Nov 1994 08:49:37 GMT|
        Content-Type: text/plain|
        Content-Length: 12|
        |
    "#]],
    );
    check(
        |out, date| ResponseWriter::start(out, 299, Connection::KEEP, date).empty(),
        expect![[r#"
        HTTP/1.1 299 |
        Date: Sun, 06 Nov 1994 08:49:37 GMT|
        Content-Length: 0|
        |
    "#]],
    );
}

#[test]
fn a_chunked_answer_can_end_with_trailers() {
    check(
        |out, date| {
            ResponseWriter::start(out, 200, Connection::KEEP, date)
                .header("Trailer", b"X-Failed")
                .chunked("application/x-ndjson");
            response::chunk(out, b"0123456789abcdef");
            response::chunk(out, b"");
            response::last_chunk(out, &[("X-Failed", b"2")]);
        },
        expect![[r#"
            HTTP/1.1 200 OK|
            Date: Sun, 06 Nov 1994 08:49:37 GMT|
            Trailer: X-Failed|
            Content-Type: application/x-ndjson|
            Transfer-Encoding: chunked|
            |
            10|
            0123456789abcdef|
            0|
            X-Failed: 2|
            |
        "#]],
    );
}

#[test]
fn data_cannot_break_a_header_line() {
    check(
        |out, date| {
            ResponseWriter::start(out, 200, Connection::KEEP, date)
                .header("X-Key", b"a\r\nSet-Cookie: b\0\x7f\tc")
                .x_header("trace", "é,\r\n".as_bytes())
                .empty();
        },
        expect![[r#"
            HTTP/1.1 200 OK|
            Date: Sun, 06 Nov 1994 08:49:37 GMT|
            X-Key: a??Set-Cookie: b??	c|
            X-Header-trace: %C3%A9%2C%0D%0A|
            Content-Length: 0|
            |
        "#]],
    );
}

#[test]
fn every_status_we_send_has_a_reason() {
    let statuses = [
        100, 101, 200, 201, 202, 204, 400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 414, 415, 417, 422, 426, 429,
        431, 500, 501, 502, 503, 504, 505,
    ];
    for status in statuses {
        assert!(!response::reason(status).is_empty(), "{status}");
    }
    assert_eq!(response::reason(299), "");
}

#[test]
fn only_lower_case_tokens_travel_as_header_names() {
    for (name, expected) in [
        ("trace", true),
        ("a-b.c_9", true),
        ("", false),
        ("Trace", false),
        ("a b", false),
        ("é", false),
        ("a:b", false),
    ] {
        assert_eq!(response::is_lower_token(name.as_bytes()), expected, "{name:?}");
    }
}

proptest! {
    #[test]
    fn numbers_are_written_as_everybody_writes_them(signed in any::<i64>(), shift in 0..64u32) {
        let mut out = BytesMut::new();
        response::put_i64(&mut out, signed >> shift);
        prop_assert_eq!(std::str::from_utf8(&out).unwrap(), (signed >> shift).to_string());
        let unsigned = (signed as u64) >> shift;
        out.clear();
        response::put_u64(&mut out, unsigned);
        prop_assert_eq!(std::str::from_utf8(&out).unwrap(), unsigned.to_string());
        out.clear();
        response::chunk_head(&mut out, unsigned.max(1));
        prop_assert_eq!(std::str::from_utf8(&out).unwrap(), format!("{:x}\r\n", unsigned.max(1)));
    }
}

//! Tables of request heads: what each means, or the answer it gets.

mod common;

use common::{SMALL, head_outcome};
use expect_test::{Expect, expect};
use gafka_http::{HeadLimits, Method, parse_head};

/// Rows are heads in which `|` stands for CR LF.
fn check(rows: &[&str], expected: Expect) {
    let mut table = String::new();
    for row in rows {
        let bytes = row.replace('|', "\r\n");
        table += &format!("{}\n    {}\n", row.escape_debug(), head_outcome(bytes.as_bytes(), &SMALL));
    }
    expected.assert_eq(&table);
}

/// Bytes behind an HTTP/1.0 POST without a length were thrown away and the empty message stored.
#[test]
fn a_post_or_put_in_http_1_0_needs_a_length_and_no_other_request_does() {
    check(
        &[
            "POST / HTTP/1.0||hello",
            "PUT / HTTP/1.0|Connection: keep-alive||hello",
            "POST / HTTP/1.0|Content-Length: 0||",
            "POST / HTTP/1.0|Content-Length: 5||hello",
            "GET / HTTP/1.0||",
            "DELETE / HTTP/1.0||",
            "POST / HTTP/1.1|Host: a||",
            "PUT / HTTP/1.2|Host: a||",
        ],
        expect![[r#"
            POST / HTTP/1.0||hello
                411 length_required: a POST or PUT in HTTP/1.0 needs a Content-Length, which may be 0
            PUT / HTTP/1.0|Connection: keep-alive||hello
                411 length_required: a POST or PUT in HTTP/1.0 needs a Content-Length, which may be 0
            POST / HTTP/1.0|Content-Length: 0||
                POST / 1.0 length=0 close [Content-Length=0]
            POST / HTTP/1.0|Content-Length: 5||hello
                POST / 1.0 length=5 close [Content-Length=5] +5 bytes
            GET / HTTP/1.0||
                GET / 1.0 close
            DELETE / HTTP/1.0||
                DELETE / 1.0 close
            POST / HTTP/1.1|Host: a||
                POST /
            PUT / HTTP/1.2|Host: a||
                PUT /
        "#]],
    );
}

#[test]
fn a_later_minor_version_is_read_as_http_1_1() {
    let heads = [
        "GET / HTTP/1.1|Host: a||",
        "POST /v1/msgs/t/v1?key=a HTTP/1.1|Host: a|Content-Length: 5|X-Tag: \t t \t||hello",
        "||GET http://h/p?q HTTP/1.1|Host: a|Connection: close||GET / HTTP/1.1|Host: a||",
        "OPTIONS * HTTP/1.1|Host: a|X-Header-A: é||",
        "POST / HTTP/1.1|Host: a|Expect: 100-continue|Transfer-Encoding: chunked||",
        "GET / HTTP/1.1||",
        "GET / HTTP/1.1|Host: a|Host: b||",
        "GET / HTTP/1.1|Host: a|Bad Name: b||",
        "GET / HTTP/1.1|Host: a\n|",
        "GET / HTTP/1.1\nHost: a||",
        "GET /# HTTP/1.1|Host: a||",
        "BREW / HTTP/1.1|Host: a||",
        "GET  / HTTP/1.1|Host: a||",
        "GET / HTTP/1.1 |Host: a||",
        "GET / HTTP/1.1|Host: a|",
        "GET / HTTP/1.1",
    ];
    for row in heads {
        let bytes = row.replace('|', "\r\n");
        let expected = head_outcome(bytes.as_bytes(), &SMALL);
        for later in ["HTTP/1.2", "HTTP/1.9"] {
            let bytes = bytes.replacen("HTTP/1.1", later, 1);
            assert_eq!(head_outcome(bytes.as_bytes(), &SMALL), expected, "{bytes:?}");
        }
    }
}

#[test]
fn what_clients_send_is_understood() {
    check(
        &[
            "POST /v1/msgs/orders/v1?key=a%20b&ack=all HTTP/1.1|Host: gw:9191|Appid: app1|Pubkey: s3|Content-Length: 5||hello",
            "GET /v1/msgs/app1/orders/v1?group=g HTTP/1.1|host:gw|accept: application/json||",
            "GET / HTTP/1.0||",
            "GET / HTTP/1.0|Connection: Keep-Alive||",
            "GET / HTTP/1.1|Host: a|Connection: close||",
            "GET / HTTP/1.1|Host: a|Connection: keep-alive, CLOSE||",
            "GET / HTTP/1.1|Host: a|Connection: keep-alive|Connection: close||",
            "GET /ws HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||",
            "POST / HTTP/1.1|Host: a|transfer-encoding:\t CHUNKED \t||",
            "POST / HTTP/1.1|Host: a|Content-Length: 0||",
            "POST / HTTP/1.1|Host: a|Content-Length: 0005||",
            "POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551615||",
            "POST / HTTP/1.1|Host: a|Content-Length: 5|Expect: 100-Continue||",
            "POST / HTTP/1.0|Content-Length: 5|Expect: 100-continue||",
            "POST / HTTP/1.1|Host: a|Content-Length: 0|Expect: 100-continue||",
            "GET / HTTP/1.1|Host: a|Expect: 100-continue||",
            "||GET / HTTP/1.1|Host: a||",
            "GET / HTTP/1.1|Host: a||GET / HTTP/1.1|Host: a||",
            "GET / HTTP/1.1|Host:||",
            "GET / HTTP/1.1|Host: [::1]:9191||",
            "GET / HTTP/1.1|Host: a|X-Empty:|X-Space: \t |X-Colon: a:b||",
            "GET / HTTP/1.1|Host: a|X-Utf8: é||",
            "GET / HTTP/1.1|Host: a|!#$%&'*+-.^_`~: odd but a name||",
            "PUT /?? HTTP/1.1|Host: a||",
            "DELETE /a?b?c HTTP/1.1|Host: a||",
            "HEAD //a//b/ HTTP/1.1|Host: a||",
            "PATCH /a;b=\"{c}\"\\^` HTTP/1.1|Host: a||",
            "OPTIONS * HTTP/1.1|Host: a||",
            "OPTIONS /x HTTP/1.1|Host: a|Origin: https://a.example||",
        ],
        expect![[r#"
            POST /v1/msgs/orders/v1?key=a%20b&ack=all HTTP/1.1|Host: gw:9191|Appid: app1|Pubkey: s3|Content-Length: 5||hello
                POST /v1/msgs/orders/v1 ?key=a%20b&ack=all length=5 [Appid=app1] [Pubkey=s3] [Content-Length=5] +5 bytes
            GET /v1/msgs/app1/orders/v1?group=g HTTP/1.1|host:gw|accept: application/json||
                GET /v1/msgs/app1/orders/v1 ?group=g [accept=application/json]
            GET / HTTP/1.0||
                GET / 1.0 close
            GET / HTTP/1.0|Connection: Keep-Alive||
                GET / 1.0 [Connection=Keep-Alive]
            GET / HTTP/1.1|Host: a|Connection: close||
                GET / close [Connection=close]
            GET / HTTP/1.1|Host: a|Connection: keep-alive, CLOSE||
                GET / close [Connection=keep-alive, CLOSE]
            GET / HTTP/1.1|Host: a|Connection: keep-alive|Connection: close||
                GET / close [Connection=keep-alive] [Connection=close]
            GET /ws HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket||
                GET /ws [Connection=Upgrade] [Upgrade=websocket]
            POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||
                POST / chunked [Transfer-Encoding=chunked]
            POST / HTTP/1.1|Host: a|transfer-encoding:\t CHUNKED \t||
                POST / chunked [transfer-encoding=CHUNKED]
            POST / HTTP/1.1|Host: a|Content-Length: 0||
                POST / length=0 [Content-Length=0]
            POST / HTTP/1.1|Host: a|Content-Length: 0005||
                POST / length=5 [Content-Length=0005]
            POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551615||
                POST / length=18446744073709551615 [Content-Length=18446744073709551615]
            POST / HTTP/1.1|Host: a|Content-Length: 5|Expect: 100-Continue||
                POST / length=5 continue [Content-Length=5] [Expect=100-Continue]
            POST / HTTP/1.0|Content-Length: 5|Expect: 100-continue||
                POST / 1.0 length=5 close [Content-Length=5] [Expect=100-continue]
            POST / HTTP/1.1|Host: a|Content-Length: 0|Expect: 100-continue||
                POST / length=0 [Content-Length=0] [Expect=100-continue]
            GET / HTTP/1.1|Host: a|Expect: 100-continue||
                GET / [Expect=100-continue]
            ||GET / HTTP/1.1|Host: a||
                GET /
            GET / HTTP/1.1|Host: a||GET / HTTP/1.1|Host: a||
                GET / +27 bytes
            GET / HTTP/1.1|Host:||
                GET /
            GET / HTTP/1.1|Host: [::1]:9191||
                GET /
            GET / HTTP/1.1|Host: a|X-Empty:|X-Space: \t |X-Colon: a:b||
                GET / [X-Empty=] [X-Space=] [X-Colon=a:b]
            GET / HTTP/1.1|Host: a|X-Utf8: é||
                GET / [X-Utf8=\xc3\xa9]
            GET / HTTP/1.1|Host: a|!#$%&\'*+-.^_`~: odd but a name||
                GET / [!#$%&'*+-.^_`~=odd but a name]
            PUT /?? HTTP/1.1|Host: a||
                PUT / ??
            DELETE /a?b?c HTTP/1.1|Host: a||
                DELETE /a ?b?c
            HEAD //a//b/ HTTP/1.1|Host: a||
                HEAD //a//b/
            PATCH /a;b=\"{c}\"\\^` HTTP/1.1|Host: a||
                PATCH /a;b="{c}"\^`
            OPTIONS * HTTP/1.1|Host: a||
                OPTIONS *
            OPTIONS /x HTTP/1.1|Host: a|Origin: https://a.example||
                OPTIONS /x [Origin=https://a.example]
        "#]],
    );
}

#[test]
fn absolute_targets_lose_their_authority() {
    check(
        &[
            "GET http://other.example/a?b HTTP/1.1|Host: a||",
            "GET HTTPS://other.example:443 HTTP/1.1|Host: a||",
            "GET http://other.example?b HTTP/1.1|Host: a||",
            "GET http:///a HTTP/1.1|Host: a||",
            "GET http://user@other.example/a HTTP/1.1|Host: a||",
            "GET ftp://other.example/a HTTP/1.1|Host: a||",
            "GET http:/a HTTP/1.1|Host: a||",
            "GET http://h HTTP/1.1||",
        ],
        expect![[r#"
            GET http://other.example/a?b HTTP/1.1|Host: a||
                GET /a ?b
            GET HTTPS://other.example:443 HTTP/1.1|Host: a||
                GET /
            GET http://other.example?b HTTP/1.1|Host: a||
                GET / ?b
            GET http:///a HTTP/1.1|Host: a||
                400 malformed_target: the authority of the request target is malformed
            GET http://user@other.example/a HTTP/1.1|Host: a||
                400 malformed_target: the authority of the request target is malformed
            GET ftp://other.example/a HTTP/1.1|Host: a||
                400 malformed_target: the request target is neither an absolute path nor an http URL
            GET http:/a HTTP/1.1|Host: a||
                400 malformed_target: the request target is neither an absolute path nor an http URL
            GET http://h HTTP/1.1||
                400 missing_host: an HTTP/1.1 request needs a Host header
        "#]],
    );
}

#[test]
fn heads_that_two_parsers_could_read_differently_are_refused() {
    check(
        &[
            "POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 5||hello",
            "POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 6||hello",
            "POST / HTTP/1.1|Host: a|Content-Length: 5, 5||hello",
            "POST / HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 5||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, identity||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: identity||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: xchunked||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: \"chunked\"||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding:||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked;q=1||0||",
            "POST / HTTP/1.0|Transfer-Encoding: chunked||0||",
            "POST / HTTP/1.0|Transfer-Encoding: chunked|Content-Length: 3||0||",
            "POST / HTTP/1.1|Host: a|Transfer-Encoding : chunked||0||",
            "POST / HTTP/1.1|Host: a|Content-Length : 5||hello",
            "POST / HTTP/1.1|Host: a|Content-Length: +5||hello",
            "POST / HTTP/1.1|Host: a|Content-Length: -5||hello",
            "POST / HTTP/1.1|Host: a|Content-Length: 0x5||hello",
            "POST / HTTP/1.1|Host: a|Content-Length: 5 5||hello",
            "POST / HTTP/1.1|Host: a|Content-Length:||hello",
            "POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551616||hello",
            "POST / HTTP/1.1|Host: a|X: y\n z|Content-Length: 5||hello",
            "POST / HTTP/1.1|Host: a|X: y| Content-Length: 5||hello",
            "POST / HTTP/1.1| Host: a||",
            "POST / HTTP/1.1|Host: a|X: y|\tz||",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1|Host: a\n|",
            "GET / HTTP/1.1|Host: a|\n",
            "GET / HTTP/1.1|Host: a\nContent-Length: 5||hello",
            "\nGET / HTTP/1.1|Host: a||",
            "\rGET / HTTP/1.1|Host: a||",
            "GET / HTTP/1.1\r\r\nHost: a||",
            "GET / HTTP/1.1|Host: a\rContent-Length: 5||hello",
            "GET / HTTP/1.1|Host: a|X: a\0b||",
            "GET / HTTP/1.1|Host: a|X: a\u{7f}b||",
            "GET / HTTP/1.1|Host: a|X: a\u{b}b||",
            "GET / HTTP/1.1|Host: a|X\0: b||",
            "GET / HTTP/1.1|Host: a|: b||",
            "GET / HTTP/1.1|Host: a|X y: b||",
            "GET / HTTP/1.1|Host: a|X(y): b||",
            "GET / HTTP/1.1|Host: a|é: b||",
            "GET / HTTP/1.1|Host: a|no colon||",
            "GET / HTTP/1.1|Host: a|nocolon||",
            "GET / HTTP/1.1|X: b||",
            "GET / HTTP/1.1|Host: a|Host: a||",
            "GET / HTTP/1.0|Host: a|host: b||",
            "GET / HTTP/1.1|Host: a, b||",
            "GET / HTTP/1.1|Host: a/b||",
            "GET / HTTP/1.1|Host: a@b||",
            "GET / HTTP/1.1|Host: a|Appid: x|appid: y||",
            "GET / HTTP/1.1|Host: a|Authorization: x|Authorization: y||",
        ],
        expect![[r#"
            POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 5||hello
                400 duplicate_header: the header content-length must not be repeated
            POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 6||hello
                400 duplicate_header: the header content-length must not be repeated
            POST / HTTP/1.1|Host: a|Content-Length: 5, 5||hello
                400 malformed_content_length: Content-Length must be one number of decimal digits
            POST / HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked||0||
                400 length_and_chunked: Content-Length and Transfer-Encoding in one request: which of them ends the body is ambiguous
            POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 5||0||
                400 length_and_chunked: Content-Length and Transfer-Encoding in one request: which of them ends the body is ambiguous
            POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||
                400 duplicate_header: the header transfer-encoding must not be repeated
            POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||
                400 unsupported_transfer_encoding: Transfer-Encoding must be exactly chunked
            POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, identity||0||
                400 unsupported_transfer_encoding: Transfer-Encoding must be exactly chunked
            POST / HTTP/1.1|Host: a|Transfer-Encoding: identity||
                400 unsupported_transfer_encoding: Transfer-Encoding must be exactly chunked
            POST / HTTP/1.1|Host: a|Transfer-Encoding: xchunked||0||
                400 unsupported_transfer_encoding: Transfer-Encoding must be exactly chunked
            POST / HTTP/1.1|Host: a|Transfer-Encoding: \"chunked\"||0||
                400 unsupported_transfer_encoding: Transfer-Encoding must be exactly chunked
            POST / HTTP/1.1|Host: a|Transfer-Encoding:||0||
                400 unsupported_transfer_encoding: Transfer-Encoding must be exactly chunked
            POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked;q=1||0||
                400 unsupported_transfer_encoding: Transfer-Encoding must be exactly chunked
            POST / HTTP/1.0|Transfer-Encoding: chunked||0||
                400 transfer_encoding_in_http_1_0: Transfer-Encoding does not exist in HTTP/1.0
            POST / HTTP/1.0|Transfer-Encoding: chunked|Content-Length: 3||0||
                400 length_and_chunked: Content-Length and Transfer-Encoding in one request: which of them ends the body is ambiguous
            POST / HTTP/1.1|Host: a|Transfer-Encoding : chunked||0||
                400 space_before_colon: white space within or behind a header name
            POST / HTTP/1.1|Host: a|Content-Length : 5||hello
                400 space_before_colon: white space within or behind a header name
            POST / HTTP/1.1|Host: a|Content-Length: +5||hello
                400 malformed_content_length: Content-Length must be one number of decimal digits
            POST / HTTP/1.1|Host: a|Content-Length: -5||hello
                400 malformed_content_length: Content-Length must be one number of decimal digits
            POST / HTTP/1.1|Host: a|Content-Length: 0x5||hello
                400 malformed_content_length: Content-Length must be one number of decimal digits
            POST / HTTP/1.1|Host: a|Content-Length: 5 5||hello
                400 malformed_content_length: Content-Length must be one number of decimal digits
            POST / HTTP/1.1|Host: a|Content-Length:||hello
                400 malformed_content_length: Content-Length must be one number of decimal digits
            POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551616||hello
                400 malformed_content_length: Content-Length is larger than any body can be
            POST / HTTP/1.1|Host: a|X: y\n z|Content-Length: 5||hello
                400 bare_line_feed: a line of the request head ends without a carriage return
            POST / HTTP/1.1|Host: a|X: y| Content-Length: 5||hello
                400 folded_header: a header line must not begin with white space
            POST / HTTP/1.1| Host: a||
                400 folded_header: a header line must not begin with white space
            POST / HTTP/1.1|Host: a|X: y|\tz||
                400 folded_header: a header line must not begin with white space
            GET / HTTP/1.1\nHost: a\n\n
                400 bare_line_feed: a line of the request head ends without a carriage return
            GET / HTTP/1.1|Host: a\n|
                400 bare_line_feed: a line of the request head ends without a carriage return
            GET / HTTP/1.1|Host: a|\n
                400 bare_line_feed: a line of the request head ends without a carriage return
            GET / HTTP/1.1|Host: a\nContent-Length: 5||hello
                400 bare_line_feed: a line of the request head ends without a carriage return
            \nGET / HTTP/1.1|Host: a||
                400 bare_line_feed: a line of the request head ends without a carriage return
            \rGET / HTTP/1.1|Host: a||
                400 bare_carriage_return: a carriage return in the request head has no line feed behind it
            GET / HTTP/1.1\r\r\nHost: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            GET / HTTP/1.1|Host: a\rContent-Length: 5||hello
                400 bare_carriage_return: a carriage return in the request head has no line feed behind it
            GET / HTTP/1.1|Host: a|X: a\0b||
                400 malformed_header_value: a header value has a control character
            GET / HTTP/1.1|Host: a|X: a\u{7f}b||
                400 malformed_header_value: a header value has a control character
            GET / HTTP/1.1|Host: a|X: a\u{b}b||
                400 malformed_header_value: a header value has a control character
            GET / HTTP/1.1|Host: a|X\0: b||
                400 malformed_header_name: a header name has a byte no name may have
            GET / HTTP/1.1|Host: a|: b||
                400 malformed_header_name: a header name has a byte no name may have
            GET / HTTP/1.1|Host: a|X y: b||
                400 space_before_colon: white space within or behind a header name
            GET / HTTP/1.1|Host: a|X(y): b||
                400 malformed_header_name: a header name has a byte no name may have
            GET / HTTP/1.1|Host: a|é: b||
                400 malformed_header_name: a header name has a byte no name may have
            GET / HTTP/1.1|Host: a|no colon||
                400 space_before_colon: white space within or behind a header name
            GET / HTTP/1.1|Host: a|nocolon||
                400 malformed_header_name: a header name has a byte no name may have
            GET / HTTP/1.1|X: b||
                400 missing_host: an HTTP/1.1 request needs a Host header
            GET / HTTP/1.1|Host: a|Host: a||
                400 duplicate_header: the header host must not be repeated
            GET / HTTP/1.0|Host: a|host: b||
                400 duplicate_header: the header host must not be repeated
            GET / HTTP/1.1|Host: a, b||
                400 malformed_host: the Host header is malformed
            GET / HTTP/1.1|Host: a/b||
                400 malformed_host: the Host header is malformed
            GET / HTTP/1.1|Host: a@b||
                400 malformed_host: the Host header is malformed
            GET / HTTP/1.1|Host: a|Appid: x|appid: y||
                400 duplicate_header: the header appid must not be repeated
            GET / HTTP/1.1|Host: a|Authorization: x|Authorization: y||
                400 duplicate_header: the header authorization must not be repeated
        "#]],
    );
}

#[test]
fn request_lines_are_read_strictly() {
    check(
        &[
            "GET|",
            "GET /|",
            "GET /||",
            "GET  / HTTP/1.1|Host: a||",
            "GET /  HTTP/1.1|Host: a||",
            "GET\t/ HTTP/1.1|Host: a||",
            "GET /\tHTTP/1.1|Host: a||",
            "GET / HTTP/1.1 |Host: a||",
            " GET / HTTP/1.1|Host: a||",
            "GET /a b HTTP/1.1|Host: a||",
            "GET /a\0b HTTP/1.1|Host: a||",
            "GET /é HTTP/1.1|Host: a||",
            "GET /a#b HTTP/1.1|Host: a||",
            "GET a HTTP/1.1|Host: a||",
            "GET ?a HTTP/1.1|Host: a||",
            "GET * HTTP/1.1|Host: a||",
            "GET a.example:443 HTTP/1.1|Host: a||",
            "CONNECT a.example:443 HTTP/1.1|Host: a||",
            "TRACE / HTTP/1.1|Host: a||",
            "get / HTTP/1.1|Host: a||",
            "BREW /pot HTTP/1.1|Host: a||",
            "G@T / HTTP/1.1|Host: a||",
            "GET / HTTP/2.0|Host: a||",
            "PRI * HTTP/2.0||SM||",
            "GET / HTTP/1.2|Host: a||",
            "GET / HTTP/0.9|Host: a||",
            "GET / HTTP/1.10|Host: a||",
            "GET / HTTP/11|Host: a||",
            "GET / http/1.1|Host: a||",
            "GET / FTP/1.1|Host: a||",
            "GET / HTTP/1,1|Host: a||",
            "GET / HTTP/x|Host: a||",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0",
            "\0\0\0\u{12}\0\u{12}\0\u{3}",
            "POST / HTTP/1.1|Host: a|Content-Length: 1|Expect: 200-ok||x",
            "POST / HTTP/1.1|Host: a|Content-Length: 1|Expect: 100-continue|Expect: 100-continue||x",
        ],
        expect![[r#"
            GET|
                400 malformed_method: the request does not begin with a method and a space
            GET /|
                400 malformed_request_line: the request line has no HTTP version
            GET /||
                400 malformed_request_line: the request line has no HTTP version
            GET  / HTTP/1.1|Host: a||
                400 malformed_request_line: one space between method and target, not more
            GET /  HTTP/1.1|Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            GET\t/ HTTP/1.1|Host: a||
                400 malformed_method: the request does not begin with a method and a space
            GET /\tHTTP/1.1|Host: a||
                400 malformed_target: the request target must be visible ASCII, everything else percent-encoded
            GET / HTTP/1.1 |Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
             GET / HTTP/1.1|Host: a||
                400 malformed_method: the request does not begin with a method and a space
            GET /a b HTTP/1.1|Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            GET /a\0b HTTP/1.1|Host: a||
                400 malformed_target: the request target must be visible ASCII, everything else percent-encoded
            GET /é HTTP/1.1|Host: a||
                400 malformed_target: the request target must be visible ASCII, everything else percent-encoded
            GET /a#b HTTP/1.1|Host: a||
                400 malformed_target: a fragment (#) does not belong into a request target
            GET a HTTP/1.1|Host: a||
                400 malformed_target: the request target is neither an absolute path nor an http URL
            GET ?a HTTP/1.1|Host: a||
                400 malformed_target: the request target is neither an absolute path nor an http URL
            GET * HTTP/1.1|Host: a||
                400 malformed_target: the target * is for OPTIONS only
            GET a.example:443 HTTP/1.1|Host: a||
                400 malformed_target: the request target is neither an absolute path nor an http URL
            CONNECT a.example:443 HTTP/1.1|Host: a||
                501 method_not_implemented: this server does not know the request method
            TRACE / HTTP/1.1|Host: a||
                TRACE /
            get / HTTP/1.1|Host: a||
                501 method_not_implemented: this server does not know the request method
            BREW /pot HTTP/1.1|Host: a||
                501 method_not_implemented: this server does not know the request method
            G@T / HTTP/1.1|Host: a||
                400 malformed_method: the request does not begin with a method and a space
            GET / HTTP/2.0|Host: a||
                505 version_not_supported: this server speaks HTTP/1.1 and HTTP/1.0
            PRI * HTTP/2.0||SM||
                505 version_not_supported: this server speaks HTTP/1.1 and HTTP/1.0
            GET / HTTP/1.2|Host: a||
                GET /
            GET / HTTP/0.9|Host: a||
                505 version_not_supported: this server speaks HTTP/1.1 and HTTP/1.0
            GET / HTTP/1.10|Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            GET / HTTP/11|Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            GET / http/1.1|Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            GET / FTP/1.1|Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            GET / HTTP/1,1|Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            GET / HTTP/x|Host: a||
                400 malformed_version: the request line must end in HTTP/1.1 or HTTP/1.0
            \u{16}\u{3}\u{1}\u{2}\0\u{1}\0
                400 malformed_method: the request does not begin with a method and a space
            \0\0\0\u{12}\0\u{12}\0\u{3}
                400 malformed_method: the request does not begin with a method and a space
            POST / HTTP/1.1|Host: a|Content-Length: 1|Expect: 200-ok||x
                417 expectation_failed: the only expectation this server can meet is 100-continue
            POST / HTTP/1.1|Host: a|Content-Length: 1|Expect: 100-continue|Expect: 100-continue||x
                400 duplicate_header: the header expect must not be repeated
        "#]],
    );
}

#[test]
fn what_has_not_arrived_is_waited_for() {
    check(
        &[
            "",
            "|",
            "|||",
            "\r",
            "G",
            "GET / HTTP/1.",
            "GET / HTTP/1.1|",
            "GET / HTTP/1.1|Host: a",
            "GET / HTTP/1.1|Host: a|",
            "GET / HTTP/1.1|Host: a|\r",
        ],
        expect![[r#"

                incomplete
            |
                incomplete
            |||
                incomplete
            \r
                incomplete
            G
                incomplete
            GET / HTTP/1.
                incomplete
            GET / HTTP/1.1|
                incomplete
            GET / HTTP/1.1|Host: a
                incomplete
            GET / HTTP/1.1|Host: a|
                incomplete
            GET / HTTP/1.1|Host: a|\r
                incomplete
        "#]],
    );
}

#[test]
fn limits_are_answers() {
    let path = |bytes: usize| format!("GET /{} HTTP/1.1|Host: a||", "x".repeat(bytes - 1));
    let padded = |bytes: usize| {
        let head = "GET / HTTP/1.1|Host: a|X: ||".replace('|', "\r\n");
        format!("GET / HTTP/1.1|Host: a|X: {}||", "y".repeat(bytes - head.len()))
    };
    let headers = |count: usize| format!("GET / HTTP/1.1|Host: a|{}|", "x: y|".repeat(count - 1));
    let rows = [
        ("target at the limit", path(128)),
        ("target beyond it", path(129)),
        ("target beyond it, not ended", format!("GET /{}", "x".repeat(128))),
        ("target beyond the head limit", format!("GET /{}", "x".repeat(2000))),
        ("head at the limit", padded(512)),
        ("head beyond it", padded(513)),
        ("head beyond it, not ended", padded(520).trim_end_matches("|").to_owned()),
        ("headers at the limit", headers(8)),
        ("headers beyond it", headers(9)),
        ("empty lines without end", "|".repeat(300)),
    ];
    let mut table = String::new();
    for (name, row) in &rows {
        let outcome = head_outcome(row.replace('|', "\r\n").as_bytes(), &SMALL);
        let short: String = outcome.chars().take(110).collect();
        table += &format!("{name}: {short}\n");
    }
    expect![[r#"
        target at the limit: GET /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        target beyond it: 414 uri_too_long: the request target is longer than 128 bytes
        target beyond it, not ended: 414 uri_too_long: the request target is longer than 128 bytes
        target beyond the head limit: 414 uri_too_long: the request target is longer than 128 bytes
        head at the limit: GET / [X=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy
        head beyond it: 431 head_too_large: the request head is longer than 512 bytes
        head beyond it, not ended: 431 head_too_large: the request head is longer than 512 bytes
        headers at the limit: GET / [x=y] [x=y] [x=y] [x=y] [x=y] [x=y] [x=y]
        headers beyond it: 431 too_many_headers: the request has more than 8 headers
        empty lines without end: 431 head_too_large: the request head is longer than 512 bytes
    "#]].assert_eq(&table);
}

#[test]
fn known_headers_are_found_once_and_the_rest_by_name() {
    let head = "POST /p HTTP/1.1\r\nHOST: h\r\nContent-Type: t\r\nContent-Encoding: gzip\r\nAccept: a1\r\nAccept: a2\r\n\
        Authorization: z\r\nAppid: i\r\nPubkey: p\r\nSubkey: s\r\nX-Tag: t1;t2\r\nX-Tag: t3\r\nX-Request-Id: r\r\n\
        traceparent: 00-1\r\nOrigin: o\r\nX-Partition: 3\r\nX-Offset: -1\r\nUpgrade: websocket\r\nX-Header-A: 1\r\n\
        x-header-b: 2\r\nX-HEADER-A: 3\r\nX-Header-: none\r\nX-Headers: none\r\nX-Other: q\r\n\r\n";
    let head = parse_head(head.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
    let text =
        |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let known = head.known;
    let found: Vec<String> = [
        known.host,
        known.content_type,
        known.content_encoding,
        known.accept,
        known.authorization,
        known.appid,
        known.pubkey,
        known.subkey,
        known.x_tag,
        known.x_request_id,
        known.traceparent,
        known.origin,
        known.x_partition,
        known.x_offset,
        known.upgrade,
    ]
    .map(text)
    .to_vec();
    expect!["h t gzip a1 z i p s t1;t2 r 00-1 o 3 -1 websocket"].assert_eq(&found.join(" "));
    let x_headers: Vec<String> =
        head.x_headers().map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect();
    expect!["A=1 b=2 A=3"].assert_eq(&x_headers.join(" "));
    assert_eq!(known.x_header_count, 3);
    assert_eq!(known.x_tag_count, 2);
    let accepted: Vec<&[u8]> = head.values("ACCEPT").collect();
    assert_eq!(accepted, [b"a1", b"a2"]);
    assert_eq!(head.header("x-other"), Some(&b"q"[..]));
    assert_eq!(head.header("x-none"), None);
    assert_eq!(head.headers().count(), 23);
}

#[test]
fn a_repeated_traceparent_is_none() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\ntraceparent: x\r\ntraceparent: y\r\n\r\n";
    let head = parse_head(head, &HeadLimits::default()).unwrap().unwrap();
    assert_eq!(head.known.traceparent, Some(&b""[..]));
}

#[test]
fn methods_are_their_own_tokens() {
    use Method::{Delete, Get, Head, Options, Patch, Post, Put, Trace};
    for method in [Get, Head, Post, Put, Delete, Options, Patch, Trace] {
        assert_eq!(Method::from_token(method.as_str()), Some(method));
        assert_eq!(Method::from_token(&method.as_str().to_ascii_lowercase()), None);
    }
}

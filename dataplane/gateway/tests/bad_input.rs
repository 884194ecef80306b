//! Bytes that are no proper request, over real sockets: each gets the right 4xx or a clean close, is counted, leaves
//! the connection usable where HTTP allows, and harms nobody else. What a head or a chunk means byte by byte is tested
//! in the `http` crate; here it is what the gateway does about it.

mod harness;

use expect_test::{Expect, expect};
use gateway::GatewayConfig;
use harness::{APP, PUBKEY, Scene, as_demo, scene, scene_with};
use model::GrantDoc;
use model::ids::{AppId, ClusterName};
use std::fmt::Write as _;
use std::time::Duration;
use testkit::http::{Connection, Request, Response};

/// `|` is CR LF, `{auth}` the headers of a right client, `{a*N}` N times `a`, `{h*N}` N different headers.
fn bytes_of(row: &str) -> Vec<u8> {
    let mut text = row.replace("{auth}", &format!("Host: x|Appid: {APP}|Pubkey: {PUBKEY}|"));
    while let Some(star) = text.find('*').filter(|at| text[..*at].ends_with("{a") || text[..*at].ends_with("{h")) {
        let end = star + text[star..].find('}').expect("closed");
        let count: usize = text[star + 1..end].parse().expect("a number");
        let many = match &text[star - 1..star] {
            "a" => "a".repeat(count),
            _ => (0..count).map(|at| format!("X-{at}: y|")).collect(),
        };
        text.replace_range(star - 2..=end, &many);
    }
    text.replace('|', "\r\n").into_bytes()
}

fn summary(answer: &Response) -> String {
    match answer.code() {
        Some(code) => format!("{} {code}", answer.status),
        None => answer.status.to_string(),
    }
}

/// Sends each row on a connection of its own and renders what came back, and whether the connection goes on.
fn check(scene: &Scene, rows: &[&str], expected: Expect) {
    let mut bystander = scene.publisher();
    let mut table = String::new();
    for row in rows {
        let before = scene.metric("gateway_requests_total", &[]);
        let mut connection = scene.publisher();
        connection.send_raw(&bytes_of(row)).expect("sent");
        let answer = connection.read().unwrap_or_else(|err| panic!("{row}: {err:#}"));
        let outcome = summary(&answer);
        assert_ne!(answer.status, 500, "{row}");
        assert_eq!(scene.metric("gateway_requests_total", &[]), before + 1, "{row}: {outcome} was not counted");
        let status = format!("status=\"{}\"", answer.status);
        assert!(scene.metric("gateway_requests_total", &[&status]) > 0, "{row}: counted as something else");
        let end = if answer.header("Connection") == Some("close") {
            assert!(connection.is_closed_within(Duration::from_secs(3)).expect("nothing more"), "{row}: left open");
            "closed"
        } else {
            let next = connection.call(&Request::get("/healthz")).unwrap_or_else(|err| panic!("{row}: {err:#}"));
            assert_eq!(next.status, 200, "{row}: what followed was read as something else");
            "kept"
        };
        let other = bystander.call(&as_demo(Request::post("/v1/msgs/orders/v2").body("x"))).expect("others are served");
        assert_eq!(other.status, 201, "{row}");
        let _ = writeln!(table, "{}\n    {outcome}, {end}", row.escape_debug());
    }
    assert_eq!(scene.metric("gateway_requests_total", &["status=\"500\""]), 0);
    expected.assert_eq(&table);
}

const PUBLISH: &str = "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}";

fn publish(rest: &str) -> String {
    format!("{PUBLISH}{rest}")
}

fn check_publish(rows: &[&str], expected: Expect) {
    let scene = scene();
    let rows: Vec<String> = rows.iter().map(|row| publish(row)).collect();
    check(&scene, &rows.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn heads_that_another_parser_could_read_differently_are_refused_and_the_connection_ends() {
    check_publish(
        &[
            "Content-Length: 1|Content-Length: 1||x",
            "Content-Length: 1|Content-Length: 2||xy",
            "Content-Length: 1, 1||x",
            "Content-Length: +1||x",
            "Content-Length: -1||x",
            "Content-Length: 0x1||x",
            "Content-Length: 99999999999999999999||x",
            "Content-Length: 1|Transfer-Encoding: chunked||0||",
            "Transfer-Encoding: chunked|Content-Length: 1||0||",
            "Transfer-Encoding: identity||",
            "Transfer-Encoding: xchunked||0||",
            "Transfer-Encoding: chunked, identity||0||",
            "Transfer-Encoding: gzip, chunked||0||",
            "Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||",
            "Transfer-Encoding : chunked||0||",
            "Content-Length : 1||x",
            "X-A: b| folded||",
            "X-A: b\nContent-Length: 1||x",
            "X-A: b\rContent-Length: 1||x",
            "X-A: b\0c||",
            "X A: b||",
            "Host: y||",
            "Appid: other||",
            "Expect: a miracle|Content-Length: 1||x",
        ],
        expect![[r#"
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Content-Length: 1||x
                400 duplicate_header, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Content-Length: 2||xy
                400 duplicate_header, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1, 1||x
                400 malformed_content_length, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: +1||x
                400 malformed_content_length, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: -1||x
                400 malformed_content_length, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 0x1||x
                400 malformed_content_length, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 99999999999999999999||x
                400 malformed_content_length, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Transfer-Encoding: chunked||0||
                400 length_and_chunked, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked|Content-Length: 1||0||
                400 length_and_chunked, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: identity||
                400 unsupported_transfer_encoding, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: xchunked||0||
                400 unsupported_transfer_encoding, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked, identity||0||
                400 unsupported_transfer_encoding, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: gzip, chunked||0||
                400 unsupported_transfer_encoding, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||
                400 duplicate_header, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding : chunked||0||
                400 space_before_colon, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length : 1||x
                400 space_before_colon, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}X-A: b| folded||
                400 folded_header, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}X-A: b\nContent-Length: 1||x
                400 bare_line_feed, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}X-A: b\rContent-Length: 1||x
                400 bare_carriage_return, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}X-A: b\0c||
                400 malformed_header_value, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}X A: b||
                400 space_before_colon, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Host: y||
                400 duplicate_header, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Appid: other||
                400 duplicate_header, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Expect: a miracle|Content-Length: 1||x
                417 expectation_failed, closed
        "#]],
    );
}

#[test]
fn chunks_that_another_parser_could_read_differently_are_refused_and_the_connection_ends() {
    check_publish(
        &[
            "Transfer-Encoding: chunked||1|x|0||",
            "Transfer-Encoding: chunked||1;name=\"value\"|x|0;last|Trailer: dropped||",
            "Transfer-Encoding: chunked||0||",
            "Transfer-Encoding: chunked||zz|x|0||",
            "Transfer-Encoding: chunked||-1|x|0||",
            "Transfer-Encoding: chunked||1 |x|0||",
            "Transfer-Encoding: chunked||1\nx|0||",
            "Transfer-Encoding: chunked||1|xy|0||",
            "Transfer-Encoding: chunked||1|x0||",
            "Transfer-Encoding: chunked||fffffffffffffffff|x",
            "Transfer-Encoding: chunked||ffffffffffffffff|x",
            "Transfer-Encoding: chunked||1|x|ffffffffffffffff|x",
            "Transfer-Encoding: chunked||f4241|x",
            "Transfer-Encoding: chunked||1;{a*2000}|x|0||",
            "Transfer-Encoding: chunked||1|x|0|No colon||",
            "Transfer-Encoding: chunked||1|x|0|X: y\nZ: y||",
            "Transfer-Encoding: chunked||1|x|0|X: {a*9000}||",
        ],
        expect![[r#"
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1|x|0||
                201, kept
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1;name=\"value\"|x|0;last|Trailer: dropped||
                201, kept
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||0||
                201, kept
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||zz|x|0||
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||-1|x|0||
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1 |x|0||
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1\nx|0||
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1|xy|0||
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1|x0||
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||fffffffffffffffff|x
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||ffffffffffffffff|x
                413 message_too_large, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1|x|ffffffffffffffff|x
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||f4241|x
                413 message_too_large, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1;{a*2000}|x|0||
                400 chunk_extension_too_long, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1|x|0|No colon||
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1|x|0|X: y\nZ: y||
                400 malformed_chunk, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Transfer-Encoding: chunked||1|x|0|X: {a*9000}||
                431 trailers_too_large, closed
        "#]],
    );
}

/// A batch of this type with this framing, two records of which were whole before it went wrong.
fn batch(content_type: &str, query: &str, rest: &str) -> String {
    format!("POST /v1/msgs/orders/v1/batch{query} HTTP/1.1|{{auth}}Content-Type: {content_type}|{rest}")
}

#[test]
fn framing_that_breaks_within_a_batch_ends_it_with_a_receipt_and_the_connection() {
    let scene = scene();
    let lines = "{\"value\":\"a\",\"partition\":3}\n{\"value\":\"b\",\"partition\":3}\n";
    let record = "\0\0\0\u{7}\u{4}\0\0\0\u{3}\0\0";
    let chunked = |data: &str, rest: &str| format!("Transfer-Encoding: chunked||{:x}|{data}|{rest}", data.len());
    let endings = [
        ("zz|", "malformed_chunk"),
        ("-1|", "malformed_chunk"),
        ("fffffffffffffffff|", "malformed_chunk"),
        ("1\n", "malformed_chunk"),
        ("1|xy", "malformed_chunk"),
        ("0|no trailer|", "malformed_chunk"),
        ("0|X: {a*9000}||", "trailers_too_large"),
        ("1;{a*2000}|", "chunk_extension_too_long"),
        ("3|{\"v|0||", "malformed_record"),
    ];
    let mut bystander = scene.publisher();
    for (ending, code) in endings {
        for (content_type, data) in
            [("application/x-ndjson", lines), ("application/vnd.gafka.records", &record.repeat(2))]
        {
            for query in ["", "?stream=1"] {
                let row = batch(content_type, query, &chunked(data, ending));
                let mut raw = harness::raw::Raw::half_closed(scene.publish, &bytes_of(&row));
                let answers = raw.answers();
                let what = format!("{content_type}{query}, {ending:.20}: {answers:?}");
                assert_eq!(answers.len(), 1, "{what}");
                let receipts: Vec<&str> = answers[0].body.lines().collect();
                assert_eq!((answers[0].status(), receipts.len()), (200, 3), "{what}");
                assert!(
                    receipts[..2].iter().all(|receipt| receipt.starts_with("{\"partition\":3,\"offset\":")),
                    "{what}"
                );
                assert!(receipts[2].ends_with(&format!("\"code\":\"{code}\"}}")), "{what}");
                let other = bystander.call(&as_demo(Request::post("/v1/msgs/orders/v2").body("x"))).expect("served");
                assert_eq!(other.status, 201, "{what}");
            }
        }
    }
    drop(bystander);
    scene.wait_idle(0);
    assert_eq!(scene.metric("gateway_requests_total", &["status=\"500\""]), 0);
}

#[test]
fn targets_are_read_strictly_and_a_wrong_one_leaves_the_connection_usable() {
    check(
        &scene(),
        &[
            "POST http://other.example/v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST http://other.example HTTP/1.1|{auth}Content-Length: 1||x",
            "POST ftp://other.example/v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "OPTIONS * HTTP/1.1|Host: x||",
            "POST * HTTP/1.1|{auth}Content-Length: 1||x",
            "CONNECT other.example:80 HTTP/1.1|Host: x||",
            "POST /v1/msgs/orders/v1#part HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/ördérs/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders/v1?key={a*8200} HTTP/1.1|{auth}Content-Length: 1||x",
            "POST  /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders/v1 HTTP/1.1 |{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders/v1|{auth}||",
            "POST /v1/msgs/orders/v1 HTTP/0.9|{auth}||",
            "POST /v1/msgs/orders/v1 HTTP/2.0|{auth}||",
            "POST /v1/msgs/orders/v1 HTTP/1.10|{auth}||",
            "PRI * HTTP/2.0||SM||",
            "POST /v1/msgs/orders%00/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders%2Fv1/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs%2Forders/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/%c0%af/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/%ff/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders%/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders%6/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders%u0041/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/order%73/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/order%2573/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/../msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/%2e%2e/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST //v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders/v1/ HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders/v1;a=b HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/{a*5000}/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders/v99999999999 HTTP/1.1|{auth}Content-Length: 1||x",
            "POST /V1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x",
        ],
        expect![[r#"
            POST http://other.example/v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x
                201, kept
            POST http://other.example HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_path, kept
            POST ftp://other.example/v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 malformed_target, closed
            OPTIONS * HTTP/1.1|Host: x||
                204, kept
            POST * HTTP/1.1|{auth}Content-Length: 1||x
                400 malformed_target, closed
            CONNECT other.example:80 HTTP/1.1|Host: x||
                501 method_not_implemented, closed
            POST /v1/msgs/orders/v1#part HTTP/1.1|{auth}Content-Length: 1||x
                400 malformed_target, closed
            POST /v1/msgs/ördérs/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 malformed_target, closed
            POST /v1/msgs/orders/v1?key={a*8200} HTTP/1.1|{auth}Content-Length: 1||x
                414 uri_too_long, closed
            POST  /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 malformed_request_line, closed
            POST /v1/msgs/orders/v1 HTTP/1.1 |{auth}Content-Length: 1||x
                400 malformed_version, closed
            POST /v1/msgs/orders/v1|{auth}||
                400 malformed_request_line, closed
            POST /v1/msgs/orders/v1 HTTP/0.9|{auth}||
                505 version_not_supported, closed
            POST /v1/msgs/orders/v1 HTTP/2.0|{auth}||
                505 version_not_supported, closed
            POST /v1/msgs/orders/v1 HTTP/1.10|{auth}||
                400 malformed_version, closed
            PRI * HTTP/2.0||SM||
                505 version_not_supported, closed
            POST /v1/msgs/orders%00/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 bad_path, kept
            POST /v1/msgs/orders%2Fv1/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 bad_path, kept
            POST /v1/msgs%2Forders/v1 HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_path, kept
            POST /v1/msgs/%c0%af/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 bad_path, kept
            POST /v1/msgs/%ff/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 bad_path, kept
            POST /v1/msgs/orders%/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 bad_path, kept
            POST /v1/msgs/orders%6/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 bad_path, kept
            POST /v1/msgs/orders%u0041/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 bad_path, kept
            POST /v1/msgs/order%73/v1 HTTP/1.1|{auth}Content-Length: 1||x
                201, kept
            POST /v1/msgs/order%2573/v1 HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_topic, kept
            POST /v1/msgs/../msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_path, kept
            POST /v1/msgs/%2e%2e/v1 HTTP/1.1|{auth}Content-Length: 1||x
                400 bad_path, kept
            POST //v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_path, kept
            POST /v1/msgs/orders/v1/ HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_path, kept
            POST /v1/msgs/orders/v1;a=b HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_version, kept
            POST /v1/msgs/{a*5000}/v1 HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_topic, kept
            POST /v1/msgs/orders/v99999999999 HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_version, kept
            POST /V1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x
                404 no_such_path, kept
        "#]],
    );
}

#[test]
fn queries_are_form_decoded_strictly_and_the_first_of_a_repeated_parameter_counts() {
    let row = |query: &str| format!("POST /v1/msgs/orders/v1?{query} HTTP/1.1|{{auth}}Content-Length: 1||x");
    let queries = [
        "key=%ff%00",
        "key=%",
        "key=%zz",
        "%=1",
        "%ff=1",
        "key=a&key=%",
        "partition=%ff",
        "partition=+1",
        "partition=-0",
        "partition=2147483648",
        "partition=1&partition=x",
        "partition=99&partition=1",
        "timestamp=9223372036854775808",
        "timeout=0",
        "timeout=1e3",
        "ack=ALL",
        "null=2",
        "null=1",
        "&&&=&=&a=b=c&",
        "unknown=%25",
    ];
    let rows: Vec<String> = queries.into_iter().map(row).collect();
    check(
        &scene(),
        &rows.iter().map(String::as_str).collect::<Vec<_>>(),
        expect![[r#"
        POST /v1/msgs/orders/v1?key=%ff%00 HTTP/1.1|{auth}Content-Length: 1||x
            201, kept
        POST /v1/msgs/orders/v1?key=% HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_query, kept
        POST /v1/msgs/orders/v1?key=%zz HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_query, kept
        POST /v1/msgs/orders/v1?%=1 HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_query, kept
        POST /v1/msgs/orders/v1?%ff=1 HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_query, kept
        POST /v1/msgs/orders/v1?key=a&key=% HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_query, kept
        POST /v1/msgs/orders/v1?partition=%ff HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_query, kept
        POST /v1/msgs/orders/v1?partition=+1 HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_parameter, kept
        POST /v1/msgs/orders/v1?partition=-0 HTTP/1.1|{auth}Content-Length: 1||x
            201, kept
        POST /v1/msgs/orders/v1?partition=2147483648 HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_parameter, kept
        POST /v1/msgs/orders/v1?partition=1&partition=x HTTP/1.1|{auth}Content-Length: 1||x
            201, kept
        POST /v1/msgs/orders/v1?partition=99&partition=1 HTTP/1.1|{auth}Content-Length: 1||x
            400 no_such_partition, kept
        POST /v1/msgs/orders/v1?timestamp=9223372036854775808 HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_parameter, kept
        POST /v1/msgs/orders/v1?timeout=0 HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_parameter, kept
        POST /v1/msgs/orders/v1?timeout=1e3 HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_parameter, kept
        POST /v1/msgs/orders/v1?ack=ALL HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_parameter, kept
        POST /v1/msgs/orders/v1?null=2 HTTP/1.1|{auth}Content-Length: 1||x
            400 bad_parameter, kept
        POST /v1/msgs/orders/v1?null=1 HTTP/1.1|{auth}Content-Length: 1||x
            400 null_with_body, kept
        POST /v1/msgs/orders/v1?&&&=&=&a=b=c& HTTP/1.1|{auth}Content-Length: 1||x
            400 unknown_parameter, kept
        POST /v1/msgs/orders/v1?unknown=%25 HTTP/1.1|{auth}Content-Length: 1||x
            400 unknown_parameter, kept
    "#]],
    );
}

#[test]
fn methods_versions_and_expectations_in_every_shape() {
    check(
        &scene(),
        &[
            "POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Content-Length: 1||x",
            "POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Content-Length: 1|Connection: keep-alive||x",
            "POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Transfer-Encoding: chunked||0||",
            "POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Content-Length: 1|Expect: 100-continue||x",
            "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Connection: close||x",
            "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Expect: 100-continue||",
            "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Expect: 100-Continue||x",
            "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Expect: 100-continue, 100-continue||x",
            "POST /v1/msgs/nothing/v1 HTTP/1.1|{auth}Content-Length: 1|Expect: 100-continue||x",
            "GET /v1/msgs/orders/v1 HTTP/1.1|{auth}|",
            "PUT /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x",
            "DELETE /v1/msgs/orders/v1 HTTP/1.1|{auth}|",
            "OPTIONS /v1/msgs/orders/v1 HTTP/1.1|Host: x||",
            "OPTIONS /nowhere HTTP/1.1|Host: x||",
            "BREW /v1/msgs/orders/v1 HTTP/1.1|{auth}|",
            "post /v1/msgs/orders/v1 HTTP/1.1|{auth}|",
            "TRACE / HTTP/1.1|Host: x||",
            "GET /healthz HTTP/1.1|Host: x|Content-Length: 5||hello",
            "GET /healthz HTTP/1.1|Host: x|Transfer-Encoding: chunked||5|hello|0||",
            "||GET /healthz HTTP/1.1|Host: x||",
            "GET /healthz HTTP/1.1||",
            "GET /healthz HTTP/1.1|Host: a b||",
            "GET /healthz HTTP/1.1|Host: x|Upgrade: h2c|Connection: Upgrade||",
            "GET /healthz HTTP/1.1|Host: x|{h*99}|",
            "GET /healthz HTTP/1.1|Host: x|{h*100}|",
            "GET /healthz HTTP/1.1|Host: x|X-Long: {a*16000}||",
            "GET /healthz HTTP/1.1|Host: x|X-Long: {a*17000}||",
            "\x16\x03\x01\x02\x00\x01\x00\x01\x50\x03\x03",
            "\0\0\0\x0c\0\x12\0\0\0\0\0\0",
        ],
        expect![[r#"
            POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Content-Length: 1||x
                201, closed
            POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Content-Length: 1|Connection: keep-alive||x
                201, kept
            POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Transfer-Encoding: chunked||0||
                400 transfer_encoding_in_http_1_0, closed
            POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Content-Length: 1|Expect: 100-continue||x
                201, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Connection: close||x
                201, closed
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Expect: 100-continue||
                201, kept
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Expect: 100-Continue||x
                201, kept
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1|Expect: 100-continue, 100-continue||x
                417 expectation_failed, closed
            POST /v1/msgs/nothing/v1 HTTP/1.1|{auth}Content-Length: 1|Expect: 100-continue||x
                404 no_such_topic, kept
            GET /v1/msgs/orders/v1 HTTP/1.1|{auth}|
                405 method_not_allowed, kept
            PUT /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x
                405 method_not_allowed, kept
            DELETE /v1/msgs/orders/v1 HTTP/1.1|{auth}|
                405 method_not_allowed, kept
            OPTIONS /v1/msgs/orders/v1 HTTP/1.1|Host: x||
                204, kept
            OPTIONS /nowhere HTTP/1.1|Host: x||
                404 no_such_path, kept
            BREW /v1/msgs/orders/v1 HTTP/1.1|{auth}|
                501 method_not_implemented, closed
            post /v1/msgs/orders/v1 HTTP/1.1|{auth}|
                501 method_not_implemented, closed
            TRACE / HTTP/1.1|Host: x||
                404 no_such_path, kept
            GET /healthz HTTP/1.1|Host: x|Content-Length: 5||hello
                200, kept
            GET /healthz HTTP/1.1|Host: x|Transfer-Encoding: chunked||5|hello|0||
                200, kept
            ||GET /healthz HTTP/1.1|Host: x||
                200, kept
            GET /healthz HTTP/1.1||
                400 missing_host, closed
            GET /healthz HTTP/1.1|Host: a b||
                400 malformed_host, closed
            GET /healthz HTTP/1.1|Host: x|Upgrade: h2c|Connection: Upgrade||
                200, kept
            GET /healthz HTTP/1.1|Host: x|{h*99}|
                200, kept
            GET /healthz HTTP/1.1|Host: x|{h*100}|
                431 too_many_headers, closed
            GET /healthz HTTP/1.1|Host: x|X-Long: {a*16000}||
                200, kept
            GET /healthz HTTP/1.1|Host: x|X-Long: {a*17000}||
                431 head_too_large, closed
            \u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}P\u{3}\u{3}
                400 malformed_method, closed
            \0\0\0\u{c}\0\u{12}\0\0\0\0\0\0
                400 malformed_method, closed
        "#]],
    );
}

#[test]
fn a_refused_request_leaves_the_connection_usable_when_its_body_is_short() {
    let scene = scene();
    let mut connection = scene.publisher();
    let body = "x".repeat(100_000);
    let to = |target: &str| as_demo(Request::post(target).body(body.clone()));
    let rows = [
        ("no such topic", to("/v1/msgs/nothing/v1"), "404 no_such_topic"),
        ("no credentials", Request::post("/v1/msgs/orders/v1").body(body.clone()), "401 not_authenticated"),
        ("over the topic's limit", to("/v1/msgs/small/v1"), "413 message_too_large"),
        ("no such topic, chunked", to("/v1/msgs/nothing/v1").chunked(777), "404 no_such_topic"),
        ("a batch of another type", to("/v1/msgs/orders/v1/batch"), "415 unsupported_content_type"),
        ("a batch, chunked", to("/v1/msgs/nothing/v1/batch").chunked(50_000), "404 no_such_topic"),
        (
            "wrong method",
            as_demo(Request::new("PUT", "/v1/msgs/orders/v1").body(body.clone())),
            "405 method_not_allowed",
        ),
    ];
    for (what, request, expected) in rows {
        let answer = connection.call(&request).unwrap_or_else(|err| panic!("{what}: {err:#}"));
        assert_eq!(summary(&answer), expected, "{what}");
        assert_eq!(answer.header("Connection"), None, "{what}");
        assert_eq!(connection.call(&to("/v1/msgs/orders/v1")).expect("goes on").status, 201, "{what}");
    }
    // A longer one is not worth it: the answer comes at once and the connection ends, but not before a client that
    // sends all of it first has seen why.
    for bytes in [300_000, 9_000_000] {
        let long = as_demo(Request::post("/v1/msgs/nothing/v1").body(vec![b'x'; bytes]));
        let answer = scene.publisher().call(&long).expect("an answer");
        assert_eq!((answer.status, answer.header("Connection")), (404, Some("close")), "{bytes}");
    }
    drop(connection);
    // Nor is a body whose framing cannot be followed: it has its answer, and there is no second one.
    let mut connection = scene.publisher();
    let request = to("/v1/msgs/nothing/v1").chunked(10_000).to_bytes();
    connection.send_raw(&request[..20_000]).expect("sent");
    assert_eq!(connection.read().expect("an answer").status, 404);
    connection.send_raw(b"garbage|garbage|garbage").expect("sent");
    connection.send_raw(&b"\0".repeat(10_000)).expect("sent");
    assert!(connection.is_closed_within(Duration::from_secs(3)).expect("no second answer"));
    drop(connection);
    scene.wait_idle(0);
}

#[test]
fn head_requests_are_answered_without_a_body() {
    let scene = scene();
    for (base, target, status) in [
        (scene.publish, "/healthz", 200),
        (scene.publish, "/readyz", 200),
        (scene.subscribe, "/alive", 200),
        (scene.publish, "/v1/msgs/orders/v1", 405),
        (scene.subscribe, "/v1/msgs/demo/orders/v1?group=g", 405),
        (scene.publish, "/nowhere", 404),
    ] {
        let mut connection = Connection::open(&base.to_string()).expect("connects");
        let answer = connection.call(&Request::new("HEAD", target)).expect("an answer");
        assert_eq!(answer.status, status, "{target}");
        assert!(answer.header("Content-Length").is_some_and(|length| length != "0"), "{target}: as for GET");
        // What follows would be a body read as an answer.
        let next = connection.call(&Request::get("/healthz")).expect("the next answer");
        assert_eq!((next.status, next.text().as_str()), (200, "{\"ok\":1}"), "{target}");
    }
}

#[test]
fn raw_topics_have_names_that_kafka_takes() {
    let scene = scene_with(GatewayConfig::default(), |doc| {
        doc.grants.push(GrantDoc::RawPublish {
            app: AppId::new(APP).expect("valid"),
            cluster: ClusterName::new("main").expect("valid"),
            topic: None,
        });
    });
    let long = |count: usize| "n".repeat(count);
    let rows = [
        ("demo.orders.v1".to_owned(), "201"),
        // No such topic, but it could be one: Kafka is asked.
        (long(249), "404 no_such_topic"),
        // The retry queue of another app's group is a topic like any other to whoever may name all of them.
        (format!("{}.{}.{}.retry", long(113), long(64), long(64)), "404 no_such_topic"),
        (format!("{}.{}.{}.retry", long(114), long(64), long(64)), "400 bad_topic_name"),
        (long(250), "400 bad_topic_name"),
        (long(5000), "400 bad_topic_name"),
        ("a%20b".to_owned(), "400 bad_topic_name"),
        ("caf%C3%A9".to_owned(), "400 bad_topic_name"),
        ("a:b".to_owned(), "400 bad_topic_name"),
        ("%2e".to_owned(), "400 bad_path"),
        ("..".to_owned(), "400 bad_path"),
    ];
    let mut connection = scene.publisher();
    for (topic, expected) in rows {
        let single = as_demo(Request::post(&format!("/v1/raw/msgs/main/{topic}")).body("x"));
        let answer = connection.call(&single).expect("an answer");
        assert_eq!(summary(&answer), expected, "{topic}: {}", answer.text());
        let batch = Request::post(&format!("/v1/raw/msgs/main/{topic}/batch")).body("{}\n");
        let answer =
            connection.call(&as_demo(batch.header("Content-Type", "application/x-ndjson"))).expect("an answer");
        let expected = expected.split(' ').next().expect("a status").replace("201", "200");
        assert_eq!(answer.status.to_string(), expected, "{topic}/batch: {}", answer.text());
    }
}

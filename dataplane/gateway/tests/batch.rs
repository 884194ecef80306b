//! Batches over real sockets, with the embedded broker behind the gateway: receipts, failures, streams, codings.

mod harness;

use embedded_kafka::Fault;
use gateway::GatewayConfig;
use harness::raw::Raw;
use harness::{APP, OTHER, PUBKEY, Scene, as_demo, scene, scene_with};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use model::GrantDoc;
use model::ids::{AppId, ClusterName, PhysicalTopic};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};
use testkit::http::{Request, Response};

const BATCH: &str = "/v1/msgs/orders/v1/batch";
const NDJSON: &str = "application/x-ndjson";
const RECORDS: &str = "application/vnd.gafka.records";

fn ndjson(query: &str, body: impl Into<Vec<u8>>) -> Request {
    as_demo(Request::post(&format!("{BATCH}{query}")).header("Content-Type", NDJSON).body(body))
}

fn binary(query: &str, body: impl Into<Vec<u8>>) -> Request {
    as_demo(Request::post(&format!("{BATCH}{query}")).header("Content-Type", RECORDS).body(body))
}

/// A record of the binary framing: partition, value.
fn record(partition: i32, value: &[u8]) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(partition.to_be_bytes());
    body.extend(0_u16.to_be_bytes());
    body.extend(value);
    let mut framed = (body.len() as u32).to_be_bytes().to_vec();
    framed.extend(body);
    framed
}

fn call(scene: &Scene, request: &Request) -> Response {
    scene.publisher().call(request).expect("an answer")
}

/// `200 failed=1 | partition@offset | status code | …`
fn shown(answer: &Response) -> String {
    let mut text = answer.status.to_string();
    if let Some(failed) = answer.header("X-Failed") {
        let _ = write!(text, " failed={failed}");
    }
    for line in answer.text().lines() {
        let receipt: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{line}: {err}"));
        let _ = match receipt.get("offset") {
            Some(offset) => write!(text, " | {}@{offset}", receipt["partition"]),
            None => write!(text, " | {} {}", receipt["status"], receipt["code"].as_str().unwrap_or_default()),
        };
    }
    text
}

/// What the topic holds, partition by partition, values as text.
fn stored(scene: &Scene, topic: &str, group: &str, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    let until = Instant::now() + Duration::from_secs(20);
    while values.len() < count && Instant::now() < until {
        let answer = scene.poll(&format!("/v1/msgs/demo/{topic}?group={group}&batch=4000&wait=2s"));
        let mut rest = &answer.body[..];
        while !rest.is_empty() {
            let length = i32::from_be_bytes(rest[12..16].try_into().expect("four bytes")) as usize;
            values.push(String::from_utf8_lossy(&rest[16..16 + length]).into_owned());
            rest = &rest[16 + length..];
        }
    }
    values
}

#[test]
fn every_kind_of_receipt_tells_where_the_records_are() {
    let scene = scene();
    let lines =
        "{\"value\":\"a\",\"partition\":1}\n\n{\"value\":\"b\",\"partition\":2}\n{\"value\":\"c\",\"partition\":1}";
    let answer = call(&scene, &ndjson("", lines));
    assert_eq!(shown(&answer), "200 failed=0 | 1@0 | 2@0 | 1@1");
    assert_eq!(answer.header("Content-Type"), Some(NDJSON));

    let body = [record(1, b"d"), record(2, b"e")].concat();
    let answer = call(&scene, &binary("", body.clone()).header("Accept", "application/vnd.gafka.receipts"));
    assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("0")));
    assert_eq!(answer.header("Content-Type"), Some("application/vnd.gafka.receipts"));
    let receipt = |partition: i32, offset: i64| {
        [&201_u16.to_be_bytes()[..], &partition.to_be_bytes(), &offset.to_be_bytes()].concat()
    };
    assert_eq!(answer.body, [receipt(1, 2), receipt(2, 1)].concat());

    let answer = call(&scene, &binary("?receipts=summary&ack=local", body));
    assert_eq!(
        answer.text(),
        "{\"ok\":2,\"failed\":0,\"ranges\":[{\"partition\":1,\"offset\":3,\"count\":1},{\"partition\":2,\"offset\":2,\"count\":1}],\"errors\":[]}\n"
    );
    let answer = call(&scene, &ndjson("?ack=none", "{\"value\":\"f\",\"partition\":3}"));
    assert_eq!(shown(&answer), "200 failed=0 | 3@-1");

    let mut values = stored(&scene, "orders/v1", "g", 8);
    values.sort();
    assert_eq!(values, ["a", "b", "c", "d", "d", "e", "e", "f"]);
}

#[test]
fn a_bad_record_fails_alone_and_a_malformed_one_ends_the_batch() {
    let scene = scene();
    let mut connection = scene.publisher();
    let rows = [
        (
            "a partition there is not",
            ndjson(
                "",
                "{\"value\":\"a\",\"partition\":0}\n{\"value\":\"b\",\"partition\":99}\n{\"value\":\"c\",\"partition\":0}\n",
            ),
            "200 failed=1 | 0@0 | 400 no_such_partition | 0@1",
            false,
        ),
        (
            "an unknown field",
            ndjson("", "{\"value\":\"a\",\"partition\":0}\n{\"valu\":\"b\"}\n{\"value\":\"c\",\"partition\":0}\n"),
            "200 failed=1 | 0@2 | 400 unknown_field | 0@3",
            false,
        ),
        (
            "nothing stored: the first error's status",
            ndjson("", "{\"value\":\"b\",\"partition\":99}\n"),
            "400 failed=1 | 400 no_such_partition",
            false,
        ),
        (
            "too large for the topic",
            as_demo(Request::post("/v1/msgs/small/v1/batch").header("Content-Type", NDJSON).body(format!(
                "{{\"value\":\"{}\",\"partition\":0}}\n{{\"value\":\"ok\",\"partition\":0}}",
                "x".repeat(65)
            ))),
            "200 failed=1 | 413 message_too_large | 0@0",
            false,
        ),
        (
            "a line that is not JSON",
            ndjson("", "{\"value\":\"a\",\"partition\":0}\nnonsense\n{\"value\":\"never\",\"partition\":0}\n"),
            "200 failed=1 | 0@4 | 400 malformed_record",
            true,
        ),
        (
            "a length that cannot be",
            binary("", [record(0, b"a"), vec![0, 0, 0, 1, 9], record(0, b"never")].concat()),
            "200 failed=1 | 0@5 | 400 malformed_record",
            true,
        ),
        (
            "a body that ends within a record",
            binary("", [record(0, b"a"), vec![0, 0, 0, 9, 0]].concat()),
            "200 failed=1 | 0@6 | 400 malformed_record",
            true,
        ),
    ];
    for (what, request, expected, closes) in rows {
        let answer = connection.call(&request).unwrap_or_else(|err| panic!("{what}: {err:#}"));
        assert_eq!(shown(&answer), expected, "{what}");
        assert_eq!(answer.header("Connection") == Some("close"), closes, "{what}");
        if closes {
            assert!(connection.is_closed_within(Duration::from_secs(3)).expect("readable"), "{what}");
            connection = scene.publisher();
        }
    }
    assert!(!stored(&scene, "orders/v1", "g", 7).contains(&"never".to_owned()));
}

#[test]
fn every_refusal_of_a_batch_has_its_status_and_code_and_keeps_the_connection() {
    let scene = scene();
    let line = "{\"value\":\"a\"}\n";
    let plain = |target: &str| as_demo(Request::post(target).header("Content-Type", NDJSON).body(line));
    let rows = [
        ("no record", ndjson("", "\n\n"), "400 empty_batch"),
        ("no body", ndjson("", ""), "400 empty_batch"),
        ("stream without record", ndjson("?stream=1", " \n"), "400 empty_batch"),
        (
            "another type",
            as_demo(Request::post(BATCH).header("Content-Type", "text/plain").body(line)),
            "415 unsupported_content_type",
        ),
        ("no type", as_demo(Request::post(BATCH).body(line)), "415 unsupported_content_type"),
        ("another coding", ndjson("", line).header("Content-Encoding", "br"), "415 unsupported_content_encoding"),
        ("a parameter of single publishes", plain("/v1/msgs/orders/v1/batch?key=k"), "400 unknown_parameter"),
        ("summary of a stream", plain("/v1/msgs/orders/v1/batch?stream=1&receipts=summary"), "400 summary_with_stream"),
        ("no such topic", plain("/v1/msgs/nothing/v1/batch"), "404 no_such_topic"),
        ("no such version", plain("/v1/msgs/orders/batch"), "404 no_such_version"),
        ("wrong method", as_demo(Request::get(BATCH)), "405 method_not_allowed"),
        ("no credentials", Request::post(BATCH).header("Content-Type", NDJSON).body(line), "401 not_authenticated"),
        ("raw without grant", plain("/v1/raw/msgs/main/demo.orders.v1/batch"), "403 not_granted"),
    ];
    let mut connection = scene.publisher();
    for (what, request, expected) in rows {
        let answer = connection.call(&request).unwrap_or_else(|err| panic!("{what}: {err:#}"));
        let seen = format!("{} {}", answer.status, answer.code().unwrap_or_default());
        assert_eq!(seen, expected, "{what}: {}", answer.text());
        // A 415 says what would be right.
        let coding = expected.ends_with("encoding").then_some("gzip, zstd");
        assert_eq!(answer.header("Accept-Encoding"), coding, "{what}");
        let types = expected.ends_with("content_type").then_some("application/x-ndjson, application/vnd.gafka.records");
        assert_eq!(answer.header("Accept"), types, "{what}");
    }
    let coded = as_demo(Request::post("/v1/msgs/orders/v1").header("Content-Encoding", "br").body("x"));
    let answer = connection.call(&coded).expect("an answer");
    assert_eq!((answer.status, answer.header("Accept-Encoding")), (415, Some("gzip, zstd")));
    assert_eq!(connection.call(&ndjson("", line)).expect("an answer").status, 200);
}

#[test]
fn a_batch_split_anywhere_and_chunked_anyhow_is_the_same_batch() {
    let scene = scene();
    let seed = 0x5eed_u64;
    let mut random = seed;
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) as usize) % bound
    };
    let mut connection = scene.publisher();
    let mut offset = 0;
    for round in 0..60 {
        let count = 1 + below(40);
        let lines: String = (0..count).map(|at| format!("{{\"value\":\"{round}.{at}\",\"partition\":1}}\n")).collect();
        let records: Vec<u8> = (0..count).flat_map(|at| record(1, format!("{round}.{at}").as_bytes())).collect();
        let mut request = if round % 2 == 0 { ndjson("", lines) } else { binary("", records) };
        if round % 3 == 0 {
            request = request.chunked(1 + below(50));
        }
        let bytes = request.to_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let until = (at + 1 + below(300)).min(bytes.len());
            connection.send_raw(&bytes[at..until]).expect("sent");
            if below(4) == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
            at = until;
        }
        let expected: String = (offset..offset + count).map(|at| format!(" | 1@{at}")).collect();
        let answer = connection.read().expect("an answer");
        assert_eq!(shown(&answer), format!("200 failed=0{expected}"), "seed {seed:#x}, round {round}");
        offset += count;
    }
    let values = stored(&scene, "orders/v1", "g", offset);
    assert_eq!(values.first().map(String::as_str), Some("0.0"));
    assert_eq!(values.len(), offset);
}

#[test]
fn batches_and_single_publishes_pipelined_are_stored_and_answered_in_order() {
    let scene = scene();
    let mut bytes = Vec::new();
    for number in 0..50 {
        let single = Request::post("/v1/msgs/orders/v1?partition=0").body(format!("s{number}"));
        bytes.extend(as_demo(single).to_bytes());
        let lines =
            format!("{{\"value\":\"b{number}\",\"partition\":0}}\n{{\"value\":\"c{number}\",\"partition\":0}}\n");
        bytes.extend(ndjson("?receipts=summary", lines).to_bytes());
        bytes.extend(ndjson("?stream=1", "{\"value\":\"d\",\"partition\":0}").to_bytes());
    }
    let mut connection = scene.publisher();
    connection.send_raw(&bytes).expect("sent");
    for number in 0..50 {
        let single = connection.read().expect("an answer");
        assert_eq!((single.status, single.header("X-Offset")), (201, Some((number * 4).to_string().as_str())));
        let batch = connection.read().expect("an answer").json().expect("JSON");
        assert_eq!(batch["ranges"][0]["offset"], number * 4 + 1, "{batch}");
        assert_eq!(batch["ok"], 2);
        let stream = connection.read().expect("an answer");
        assert_eq!(shown(&stream), format!("200 | 0@{}", number * 4 + 3));
    }
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_before_its_batch() {
    let scene = scene();
    let mut connection = scene.publisher();
    for query in ["", "?stream=1"] {
        let request = ndjson(query, "{\"value\":\"a\"}\n").header("Expect", "100-continue");
        connection.send_raw(&request.head_bytes()).expect("sent");
        assert_eq!(connection.read_interim().expect("an interim answer").status, 100, "{query}");
        connection.send_raw(b"{\"value\":\"a\"}\n").expect("sent");
        assert_eq!(connection.read().expect("an answer").status, 200, "{query}");
    }
    let refused = as_demo(Request::post("/v1/msgs/nothing/v1/batch").header("Expect", "100-continue").body("x"));
    connection.send_raw(&refused.head_bytes()).expect("sent");
    let answer = connection.read().expect("an answer");
    assert_eq!((answer.status, answer.header("Connection")), (404, Some("close")));
}

fn stream_head(extra: &str) -> String {
    format!(
        "POST {BATCH}?stream=1 HTTP/1.1\r\nHost: x\r\nAppid: {APP}\r\nPubkey: {PUBKEY}\r\nContent-Type: {NDJSON}\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"
    )
}

#[test]
fn a_stream_gives_receipts_while_records_still_arrive_and_the_failures_at_its_end() {
    let scene = scene();
    let mut wire = Raw::open(scene.publish);
    wire.send(stream_head("").as_bytes());
    wire.chunk("{\"value\":\"a\",\"partition\":0}\n{\"value\":\"b\",");
    let head = wire.until("{\"partition\":0,\"offset\":0}\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Trailer: X-Failed\r\n"), "{head}");
    assert!(!head.contains("X-Failed: "), "not known yet: {head}");
    wire.chunk("\"partition\":77}\n");
    wire.until("no_such_partition");
    for offset in 1..20 {
        wire.chunk("{\"value\":\"c\",\"partition\":0}\n");
        wire.until(&format!("{{\"partition\":0,\"offset\":{offset}}}\n"));
    }
    wire.send(b"0\r\n\r\n");
    let end = wire.until("\r\n\r\n");
    assert!(end.ends_with("0\r\nX-Failed: 1\r\n\r\n"), "{end:?}");
    // The connection goes on.
    wire.send(&as_demo(Request::post("/v1/msgs/orders/v1?partition=0").body("next")).to_bytes());
    assert!(wire.until("\r\n\r\n").contains("X-Offset: 20\r\n"));
}

#[test]
fn a_stream_that_goes_wrong_says_so_at_once_and_closes() {
    let scene = scene();
    let mut wire = Raw::open(scene.publish);
    wire.send(stream_head("").as_bytes());
    wire.chunk("{\"value\":\"a\",\"partition\":0}\nnot json\n{\"value\":\"never\",\"partition\":0}\n");
    wire.until("{\"partition\":0,\"offset\":0}\n");
    wire.until("malformed_record");
    wire.send(b"0\r\n\r\n");
    wire.until("0\r\nX-Failed: 1\r\n\r\n");
    assert!(wire.read_to_close(false).is_empty(), "closed");

    // Broken framing: what follows cannot be told from another request.
    let mut wire = Raw::open(scene.publish);
    wire.send(stream_head("").as_bytes());
    wire.chunk("{\"value\":\"a\",\"partition\":0}\n");
    wire.until("{\"partition\":0,\"offset\":1}\n");
    wire.send(b"zz\r\n");
    wire.until("malformed_chunk");
    wire.until("0\r\nX-Failed: 1\r\n\r\n");
    assert!(wire.read_to_close(false).is_empty(), "closed");

    let mut wire = Raw::open(scene.publish);
    wire.send(
        stream_head("")
            .replace("HTTP/1.1", "HTTP/1.0")
            .replace("Transfer-Encoding: chunked", "Content-Length: 1")
            .as_bytes(),
    );
    wire.until("stream_needs_http_1_1");
}

#[test]
fn a_draining_gateway_ends_streams_and_tells_what_was_stored() {
    let scene = scene();
    let mut wire = Raw::open(scene.publish);
    wire.send(stream_head("").as_bytes());
    wire.chunk("{\"value\":\"a\",\"partition\":0}\n");
    wire.until("{\"partition\":0,\"offset\":0}\n");
    scene.gateway.drain();
    wire.until("\"code\":\"draining\"");
    wire.until("0\r\nX-Failed: 1\r\n\r\n");
    let until = Instant::now() + Duration::from_secs(5);
    while !scene.gateway.is_finished() {
        assert!(Instant::now() < until, "the shards did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_vanishes_in_the_middle_leaves_nothing_behind() {
    let scene = scene_with(GatewayConfig { shard_count: 1, ..GatewayConfig::default() }, |_| {});
    for query in ["", "?stream=1"] {
        for cut in [0, 10, 40, 70] {
            let body = "{\"value\":\"v\",\"partition\":2}\n".repeat(3);
            let request = ndjson(query, body).to_bytes();
            let mut connection = scene.publisher();
            connection.send_raw(&request[..request.len() - 75 + cut]).expect("sent");
            drop(connection);
        }
    }
    // Whole records of the cut bodies are in, and everything that was waited for has come to an end.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = scene.gateway.metrics.render();
        let value = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.rsplit(' ').next().unwrap_or_default().to_owned()
        };
        let waiting = (value("gateway_publishes_waiting "), value("gateway_memory_reserved_bytes "));
        let open = value("gateway_connections ");
        if waiting == ("0".to_owned(), "0".to_owned()) && open == "0" {
            break;
        }
        assert!(Instant::now() < until, "waiting, reserved {waiting:?}, connections {open}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = call(&scene, &ndjson("", "{\"value\":\"after\",\"partition\":2}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn records_kafka_does_not_take_get_503_or_504_each() {
    let scene = scene();
    assert_eq!(call(&scene, &ndjson("", "{\"value\":\"warm\",\"partition\":0}")).status, 200);
    scene.hooks.inject(ApiKey::Produce, Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS), 1000);
    let lines = "{\"value\":\"a\",\"partition\":1}\n{\"value\":\"b\",\"partition\":1}\n";
    let answer = call(&scene, &ndjson("?timeout=300ms", lines));
    assert_eq!(shown(&answer), "503 failed=2 | 503 kafka_unavailable | 503 kafka_unavailable");
    assert!(answer.header("Retry-After").is_some());
    let answer = call(&scene, &ndjson("?timeout=300ms&receipts=summary", lines));
    assert_eq!(
        answer.text(),
        "{\"ok\":0,\"failed\":2,\"ranges\":[],\"errors\":[{\"record\":0,\"status\":503,\"code\":\"kafka_unavailable\"},{\"record\":1,\"status\":503,\"code\":\"kafka_unavailable\"}]}\n"
    );
    scene.hooks.clear();
    assert_eq!(call(&scene, &ndjson("", lines)).status, 200);
    // Last, because the connection stays silent until its request timeout.
    scene.hooks.inject(ApiKey::Produce, Fault::Silence, 1);
    let answer = call(&scene, &ndjson("?timeout=300ms", "{\"value\":\"lost\",\"partition\":0}"));
    assert_eq!(shown(&answer), "504 failed=1 | 504 outcome_unknown");
}

#[test]
fn raw_topics_are_for_apps_with_the_grant() {
    let raw = |topic: Option<&str>| GrantDoc::RawPublish {
        app: AppId::new(OTHER).expect("valid"),
        cluster: ClusterName::new("main").expect("valid"),
        topic: topic.map(|topic| PhysicalTopic::new(topic).expect("valid")),
    };
    let mut scene = scene_with(GatewayConfig::default(), |doc| doc.grants.push(raw(Some("demo.orders.v1"))));
    let other = |request: Request| request.header("Appid", OTHER).header("Pubkey", "publish-secret-of-reader");
    let single = |topic: &str| other(Request::post(&format!("/v1/raw/msgs/main/{topic}?partition=3")).body("single"));
    let batch = |topic: &str| {
        let lines = "{\"value\":\"batch\",\"partition\":3}\n";
        other(Request::post(&format!("/v1/raw/msgs/main/{topic}/batch")).header("Content-Type", NDJSON).body(lines))
    };
    let answer = call(&scene, &single("demo.orders.v1"));
    assert_eq!((answer.status, answer.header("X-Offset")), (201, Some("0")), "{}", answer.text());
    assert_eq!(shown(&call(&scene, &batch("demo.orders.v1"))), "200 failed=0 | 3@1");
    let values = stored(&scene, "orders/v1", "g", 2);
    assert_eq!(values, ["single", "batch"]);

    let code = |answer: &Response| format!("{} {}", answer.status, answer.code().unwrap_or_default());
    assert_eq!(code(&call(&scene, &single("demo.orders.v2"))), "403 not_granted");
    assert_eq!(code(&call(&scene, &batch("demo.orders.v2"))), "403 not_granted");
    let elsewhere = other(Request::post("/v1/raw/msgs/other/demo.orders.v1").body("x"));
    assert_eq!(code(&call(&scene, &elsewhere)), "403 not_granted");

    scene.change(|doc| doc.grants.push(raw(None)));
    assert_eq!(call(&scene, &single("demo.orders.v2")).status, 201);
    assert_eq!(code(&call(&scene, &single("no.such.topic"))), "404 no_such_topic");
    assert_eq!(shown(&call(&scene, &batch("no.such.topic"))), "404 failed=1 | 404 no_such_topic");
    scene.change(|doc| doc.grants.clear());
    assert_eq!(code(&call(&scene, &single("demo.orders.v1"))), "403 not_granted");
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).expect("to memory");
    encoder.finish().expect("to memory")
}

#[test]
fn compressed_bodies_are_the_messages_they_stand_for_and_bombs_are_refused() {
    let scene = scene();
    let mut connection = scene.publisher();
    let zstd = |plain: &[u8]| zstd::encode_all(plain, 3).expect("to memory");
    let single = |coding: &str, body: Vec<u8>| {
        as_demo(Request::post("/v1/msgs/orders/v1?partition=0").header("Content-Encoding", coding).body(body))
    };
    let lines = "{\"value\":\"compressed\",\"partition\":0}\n".repeat(3000);
    for (coding, body, batch) in
        [("gzip", gzip(b"hello"), gzip(lines.as_bytes())), ("zstd", zstd(b"hello"), zstd(lines.as_bytes()))]
    {
        assert_eq!(connection.call(&single(coding, body.clone())).expect("an answer").status, 201, "{coding}");
        assert_eq!(connection.call(&single(coding, body).chunked(3)).expect("an answer").status, 201, "{coding}");
        for request in [ndjson("?receipts=summary", batch.clone()), ndjson("?receipts=summary", batch).chunked(100)] {
            let answer = connection.call(&request.header("Content-Encoding", coding)).expect("an answer");
            assert_eq!(answer.json().expect("JSON")["ok"], 3000, "{coding}: {}", answer.text());
        }
    }
    let values = stored(&scene, "orders/v1", "g", 4 + 4 * 3000);
    assert_eq!(values.iter().filter(|value| *value == "hello").count(), 4);
    assert_eq!(values.iter().filter(|value| *value == "compressed").count(), 12_000);

    let bomb = vec![b' '; 64 << 20];
    for (coding, body) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        let answer = call(&scene, &single(coding, body.clone()));
        assert_eq!((answer.status, answer.code().as_deref()), (413, Some("message_too_large")), "{coding}");
        let mut with_record = ndjson("", [gzip(b"{\"value\":\"a\",\"partition\":1}\n"), body.clone()].concat());
        if coding == "zstd" {
            with_record = ndjson("", [zstd(b"{\"value\":\"a\",\"partition\":1}\n"), body].concat());
        }
        let answer = call(&scene, &with_record.header("Content-Encoding", coding));
        let failed = shown(&answer);
        assert!(failed.ends_with("413 decoded_body_too_large"), "{coding}: {failed}");
        assert_eq!(answer.header("Connection"), Some("close"), "{coding}");
    }
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "others are unharmed").status, 201);
    let garbage = call(&scene, &single("gzip", b"not gzip".to_vec()));
    assert_eq!((garbage.status, garbage.code().as_deref()), (400, Some("malformed_content_encoding")));
    let cut = gzip(lines.as_bytes());
    let answer = call(&scene, &ndjson("", cut[..cut.len() - 4].to_vec()).header("Content-Encoding", "gzip"));
    assert!(shown(&answer).ends_with("400 malformed_content_encoding"), "{}", answer.status);
}

#[test]
fn a_few_bytes_that_stand_for_many_records_do_not_hold_up_others() {
    let scene = scene_with(GatewayConfig { shard_count: 1, ..GatewayConfig::default() }, |_| {});
    // 10 MB of blank lines around 100,000 records from about 20 KB, four times at once.
    let blank = gzip(&vec![b'\n'; 5 << 20]);
    let records = gzip("{\"value\":\"x\",\"partition\":1}\n".repeat(100_000).as_bytes());
    let body = [&blank[..], &records, &blank].concat();
    let mut bystander = scene.publisher();
    let mut busy: Vec<_> = (0..4)
        .map(|_| {
            let mut connection = scene.publisher();
            let request = ndjson("?receipts=summary", body.clone()).header("Content-Encoding", "gzip");
            connection.send(&request).expect("sent");
            connection
        })
        .collect();
    for _ in 0..20 {
        let answer = bystander.call(&Request::get("/healthz")).expect("others are served meanwhile");
        assert_eq!(answer.status, 200);
    }
    for connection in &mut busy {
        let summary = connection.read().expect("an answer").json().expect("JSON");
        assert_eq!((summary["ok"].as_u64(), summary["failed"].as_u64()), (Some(100_000), Some(0)), "{summary}");
    }
}

#[test]
fn a_large_batch_needs_memory_for_what_is_in_flight_only() {
    // A tenant may hold 4 MiB of 16; the body is 12 MB, its receipts 4 MB.
    let config = GatewayConfig { shard_count: 1, memory_bytes: 16 << 20, ..GatewayConfig::default() };
    let scene = scene_with(config, |_| {});
    let count = 100_000;
    let value = "v".repeat(100);
    let lines: String = (0..count).map(|_| format!("{{\"value\":\"{value}\"}}\n")).collect();
    let records: Vec<u8> = (0..count).flat_map(|at| record(at % 4, value.as_bytes())).collect();
    let mut connection = scene.publisher();
    let answer = connection.call(&ndjson("", lines)).expect("an answer");
    assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("0")));
    assert_eq!(answer.text().lines().count(), count as usize);
    let request = binary("", records.clone()).header("Accept", "application/vnd.gafka.receipts");
    let answer = connection.call(&request).expect("an answer");
    assert_eq!((answer.status, answer.body.len()), (200, count as usize * 14));
    let answer = connection.call(&binary("?receipts=summary", records).chunked(50_000)).expect("an answer");
    assert_eq!(answer.json().expect("JSON")["ok"], count);
    let metrics = scene.gateway.metrics.render();
    let failed = metrics.lines().find(|line| line.starts_with("gateway_batch_records_total{outcome=\"failed\"}"));
    assert!(failed.is_none_or(|line| line.ends_with(" 0")), "{failed:?}");
}

#[test]
fn a_batch_waits_for_memory_instead_of_failing() {
    let config = GatewayConfig { shard_count: 1, memory_bytes: 16 << 20, ..GatewayConfig::default() };
    let scene = scene_with(config, |_| {});
    assert_eq!(call(&scene, &ndjson("", "{\"value\":\"warm\",\"partition\":0}")).status, 200);
    // Five announced messages take nearly all of the tenant's 4 MiB.
    let held: Vec<_> = [1_000_000, 1_000_000, 1_000_000, 1_000_000, 150_000]
        .map(|bytes| {
            let head = as_demo(Request::post("/v1/msgs/orders/v1")).header("Expect", "100-continue");
            let head = head.body(vec![b'x'; bytes]).head_bytes();
            let mut connection = scene.publisher();
            connection.send_raw(&head).expect("sent");
            assert_eq!(connection.read_interim().expect("an interim answer").status, 100);
            connection
        })
        .into();
    let lines = format!("{{\"value\":\"{}\",\"partition\":0}}\n", "w".repeat(50_000)).repeat(8);
    let mut connection = scene.publisher();
    let begun = Instant::now();
    let waits = ndjson("?timeout=400ms", lines.clone());
    let answer = connection.call(&waits).expect("an answer");
    assert!(shown(&answer).contains("503 overloaded"), "{}", shown(&answer));
    assert!(begun.elapsed() >= Duration::from_millis(400), "it waited");
    // There was no room for the line at hand either, so the batch ended there.
    assert_eq!(answer.header("Connection"), Some("close"));
    let mut connection = scene.publisher();
    connection.send(&ndjson("", lines)).expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    drop(held);
    let answer = connection.read().expect("an answer");
    assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("0")), "{}", answer.text());
}

#[test]
fn more_records_than_a_batch_may_have_end_it() {
    let scene = scene();
    let records = record(0, b"").repeat(1_000_001);
    let answer = call(&scene, &binary("?receipts=summary&ack=none", records));
    let summary = answer.json().expect("JSON");
    assert_eq!((summary["ok"].as_u64(), summary["failed"].as_u64()), (Some(1_000_000), Some(1)), "{summary}");
    assert_eq!(summary["errors"][0]["code"], "too_many_records");
    assert_eq!(answer.header("Connection"), Some("close"));
}

#[test]
fn browsers_of_configured_origins_may_read_the_answers_and_no_others() {
    let origins = vec!["https://a.test".to_owned(), "https://b.test".to_owned()];
    let scene = scene_with(GatewayConfig { cors_origins: origins, ..GatewayConfig::default() }, |_| {});
    let requests = [
        ("stored", as_demo(Request::post("/v1/msgs/orders/v1").body("x")), 201),
        ("batch", ndjson("", "{}\n"), 200),
        ("stream", ndjson("?stream=1", "{}\n"), 200),
        ("refused", as_demo(Request::post("/v1/msgs/nothing/v1").body("x")), 404),
        ("not authenticated", Request::post(BATCH).body("x"), 401),
        ("preflight", Request::new("OPTIONS", BATCH), 204),
    ];
    for (what, request, status) in requests {
        for (origin, allowed) in [(Some("https://b.test"), true), (Some("https://evil.test"), false), (None, false)] {
            let request = match origin {
                Some(origin) => request.clone().header("Origin", origin),
                None => request.clone(),
            };
            let answer = call(&scene, &request);
            assert_eq!(answer.status, status, "{what}: {}", answer.text());
            assert_eq!(answer.header("Access-Control-Allow-Origin"), origin.filter(|_| allowed), "{what} {origin:?}");
            let vary: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "Vary").collect();
            assert_eq!(vary.len(), 1, "{what} {origin:?}: {vary:?}");
            let preflight = answer.header("Access-Control-Allow-Headers").is_some();
            assert_eq!(preflight, allowed && status == 204, "{what} {origin:?}");
        }
    }
    let scene = harness::scene();
    let answer = call(&scene, &ndjson("", "{}\n").header("Origin", "https://b.test"));
    assert_eq!((answer.header("Vary"), answer.header("Access-Control-Allow-Origin")), (None, None));
}

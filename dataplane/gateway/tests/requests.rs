//! What both listeners say of any request, whatever it is for: query names, flags, `Upgrade`, versions, Host.

mod harness;

use harness::{APP, PUBKEY, SUBKEY, Scene, as_demo, scene};
use testkit::http::{Connection, Request, Response};

fn shown(answer: &Response) -> String {
    match answer.code() {
        Some(code) => format!("{} {code}", answer.status),
        None => answer.status.to_string(),
    }
}

/// Sends a request as it stands, `|` for CR LF and `{auth}` for a right client's headers, to the listener of its path.
fn send(scene: &Scene, row: &str) -> Response {
    let polls = row.starts_with("SUB ");
    let (mut connection, key) = match polls {
        true => (scene.subscriber(), format!("Subkey: {SUBKEY}|")),
        false => (scene.publisher(), format!("Pubkey: {PUBKEY}|")),
    };
    let row = row.trim_start_matches("SUB ").replace("{auth}", &format!("Appid: {APP}|{key}"));
    connection.send_raw(row.replace('|', "\r\n").as_bytes()).expect("sent");
    connection.read().unwrap_or_else(|err| panic!("{row}: {err:#}"))
}

fn check(scene: &Scene, rows: &[(&str, &str)]) {
    for (row, expected) in rows {
        let answer = send(scene, row);
        assert_eq!(shown(&answer), *expected, "{row}: {}", answer.text());
    }
}

/// How many messages `demo.orders.v1` has, which is also that nobody's poll took one: polled by a group of its own.
fn stored(scene: &Scene) -> u64 {
    let answer = scene.publish("/v1/msgs/orders/v1?partition=0", "count");
    answer.header("X-Offset").and_then(|offset| offset.parse().ok()).expect("an offset")
}

/// A WebSocket client on a poll's path was answered with a message, which was then gone.
#[test]
fn an_upgrade_to_websocket_is_refused_on_every_route_and_touches_nothing_and_other_upgrades_are_ignored() {
    let scene = scene();
    let before = stored(&scene);
    const WS: &str = "Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13|";
    for route in [
        "GET /v1/msgs/orders/v1",
        "POST /v1/msgs/orders/v1?partition=0",
        "POST /topics/orders/v1?partition=0",
        "POST /v1/msgs/orders/v1/batch",
        "POST /v1/raw/msgs/main/demo.orders.v1?partition=0",
        "POST /v1/raw/msgs/main/demo.orders.v1/batch",
        "GET /healthz",
        "GET /nowhere",
        "SUB GET /v1/msgs/demo/orders/v1?group=ws&wait=2",
        "SUB GET /topics/demo/orders/v1?group=ws&wait=2",
        "SUB GET /readyz",
    ] {
        for upgrade in [WS, "Upgrade: WebSocket|", "Upgrade: h2c|Upgrade: x, websocket/13|"] {
            let line = format!("{route} HTTP/1.1|Host: x|{{auth}}");
            let body = "Content-Type: application/x-ndjson|Content-Length: 13||{\"value\":\"w\"}";
            check(&scene, &[(&format!("{line}{upgrade}{body}"), "501 not_supported_yet")]);
        }
    }
    assert_eq!(stored(&scene), before + 1, "nothing was published");
    let poll =
        "SUB GET /v1/msgs/demo/orders/v1?group=ws&wait=5 HTTP/1.1|Host: x|{auth}Connection: Upgrade|Upgrade: h2c||";
    let answer = send(&scene, poll);
    assert_eq!((answer.status, answer.header("X-Offset")), (200, Some("0")), "nothing was taken, h2c is ignored");
    // The same head again, where the former ones were remembered.
    let mut connection = scene.publisher();
    let publish = |upgrade: &str| as_demo(Request::post("/v1/msgs/orders/v1").header("Upgrade", upgrade).body("x"));
    for (upgrade, expected) in [("h2c", 201), ("h2c", 201), ("h2c", 201), ("websocket", 501), ("h2c", 201)] {
        assert_eq!(connection.call(&publish(upgrade)).expect("an answer").status, expected, "{upgrade}");
    }
}

/// A misspelt name was ignored by publish and poll, though batches refused it.
#[test]
fn unknown_query_names_are_refused_on_every_route_and_those_of_2017_change_nothing() {
    let scene = scene();
    let rows = [
        ("POST /v1/msgs/orders/v1?", "Content-Length: 1||x", "201"),
        ("POST /topics/orders/v1?", "Content-Length: 1||x", "201"),
        ("POST /v1/msgs/orders/v1/batch?", "Content-Type: application/x-ndjson|Content-Length: 3||{}\n", "200"),
        ("GET /alive?", "|", "200"),
        ("GET /healthz?", "|", "200"),
        ("GET /readyz?", "|", "200"),
        ("OPTIONS /v1/msgs/orders/v1?", "|", "204"),
        ("SUB GET /v1/msgs/demo/orders/v1?group=q&wait=5&", "|", "200"),
        ("SUB GET /topics/demo/orders/v1?group=q&wait=5&", "|", "200"),
        ("SUB GET /healthz?", "|", "200"),
    ];
    for (route, rest, right) in rows {
        for (query, expected) in [
            ("mux=1&use=x&limit=5&limit=n&l%69mit", right),
            ("_=1", "400 unknown_parameter"),
            ("%5f=1", "400 unknown_parameter"),
            ("mux=1&nonsense", "400 unknown_parameter"),
        ] {
            let expected = if route.starts_with("OPTIONS") { right } else { expected };
            check(&scene, &[(&format!("{route}{query} HTTP/1.1|Host: x|{{auth}}{rest}"), expected)]);
        }
    }
    let near = scene.publish("/v1/msgs/orders/v1?partitoin=1", "x");
    assert!(near.text().contains("the nearest is partition"), "{}", near.text());
}

/// The second and later publishes of a connection do not parse their heads; what stands in the query differs each time.
#[test]
fn queries_of_repeated_heads_are_held_to_the_same_rules() {
    let scene = scene();
    let mut connection: Connection = scene.publisher();
    for (query, expected) in [
        ("", "201"),
        ("?key=a", "201"),
        ("?keey=a", "400 unknown_parameter"),
        ("?mux=1&hh=y", "201"),
        ("?null=maybe", "400 bad_parameter"),
        ("?null=true", "400 null_with_body"),
        ("?async=true", "503 handoff_off"),
        ("?async=2", "400 bad_parameter"),
        ("?timestamp=1795737600", "400 timestamp_unit"),
        ("?timestamp=1000", "201"),
        ("?key=b", "201"),
    ] {
        let request = as_demo(Request::post(&format!("/v1/msgs/orders/v1{query}")).body("x"));
        assert_eq!(shown(&connection.call(&request).expect("an answer")), expected, "{query}");
    }
    assert!(scene.metric("gateway_repeated_heads_total", &[]) > 6, "they were repetitions");
}

#[test]
fn flags_are_0_1_true_and_false_and_an_empty_one_is_off() {
    let scene = scene();
    for (value, null, other) in [
        ("1", "400 null_with_body", "ok"),
        ("true", "400 null_with_body", "ok"),
        ("0", "201", "ok"),
        ("false", "201", "ok"),
        ("", "201", "ok"),
        ("yes", "400 bad_parameter", "400 bad_parameter"),
        ("True", "400 bad_parameter", "400 bad_parameter"),
    ] {
        let single = |name: &str| {
            format!("POST /v1/msgs/orders/v1?{name}={value} HTTP/1.1|Host: x|{{auth}}Content-Length: 1||x")
        };
        let batch = |name: &str| {
            let line = format!("POST /v1/msgs/orders/v1/batch?{name}={value} HTTP/1.1|Host: x|{{auth}}");
            format!("{line}Content-Type: application/x-ndjson|Content-Length: 3||{{}}\n")
        };
        let or = |right: &'static str| if other == "ok" { right } else { other };
        check(
            &scene,
            &[
                (&single("null"), null),
                (&single("async"), if value == "1" || value == "true" { "503 handoff_off" } else { or("201") }),
                (&batch("async"), if value == "1" || value == "true" { "503 handoff_off" } else { or("200") }),
                (&batch("stream"), or("200")),
            ],
        );
    }
    let answer = scene.publish("/v1/msgs/orders/v1?null=true&partition=1", "");
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// Seconds were stored as January 1970, where retention takes them at once.
#[test]
fn a_timestamp_in_another_unit_is_refused_and_in_a_batch_only_that_record() {
    let scene = scene();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    for (timestamp, expected) in [
        (now_ms / 1000, "400 timestamp_unit"),
        (now_ms * 1000, "400 timestamp_unit"),
        (now_ms * 1_000_000, "400 timestamp_unit"),
        (now_ms, "201"),
        (17, "201"),
    ] {
        let answer = scene.publish(&format!("/v1/msgs/orders/v1?timestamp={timestamp}"), "x");
        assert_eq!(shown(&answer), expected, "{timestamp}: {}", answer.text());
    }
    let seconds = now_ms as i64 / 1000;
    let lines = format!("{{\"timestamp\":{now_ms}}}\n{{\"timestamp\":{seconds}}}\n{{}}\n");
    let binary = [now_ms as i64, seconds, now_ms as i64].map(|timestamp| {
        let record = [&[3][..], &timestamp.to_be_bytes(), &[0, 0]].concat();
        [&(record.len() as u32).to_be_bytes()[..], &record].concat()
    });
    for (kind, body) in
        [("application/x-ndjson", lines.into_bytes()), ("application/vnd.gafka.records", binary.concat())]
    {
        let request = as_demo(Request::post("/v1/msgs/orders/v1/batch").header("Content-Type", kind).body(body));
        let answer = scene.publisher().call(&request).expect("an answer");
        assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("1")), "{kind}: {}", answer.text());
        let second = answer.text().lines().nth(1).map(str::to_owned).unwrap_or_default();
        assert!(second.contains("\"code\":\"timestamp_unit\""), "{kind}: {second}");
        assert!(second.contains(&format!("timestamp {seconds} looks like seconds")), "{kind}: {second}");
    }
}

#[test]
fn old_and_coming_versions_of_http_are_served_as_they_should_be() {
    let scene = scene();
    check(
        &scene,
        &[
            ("POST /v1/msgs/orders/v1 HTTP/1.0|{auth}|lost", "411 length_required"),
            (
                "POST /v1/msgs/orders/v1/batch HTTP/1.0|{auth}Content-Type: application/x-ndjson||{}",
                "411 length_required",
            ),
            ("POST /v1/msgs/orders/v1 HTTP/1.0|{auth}Content-Length: 4||kept", "201"),
            ("POST /v1/msgs/orders/v1 HTTP/1.2|Host: x|{auth}Content-Length: 1||x", "201"),
            ("POST /v1/msgs/orders/v1 HTTP/1.9|Host: x|{auth}Transfer-Encoding: chunked||1|x|0||", "201"),
            ("POST /v1/msgs/orders/v1 HTTP/1.2|{auth}Content-Length: 1||x", "400 missing_host"),
            ("POST /v1/msgs/orders/v1 HTTP/2.0|Host: x|{auth}Content-Length: 1||x", "505 version_not_supported"),
            ("POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Length: 1||x", "400 missing_host"),
            ("SUB GET /healthz HTTP/1.1||", "400 missing_host"),
            ("SUB GET /healthz HTTP/1.2|Host: x||", "200"),
            ("SUB GET /healthz HTTP/1.0||", "200"),
        ],
    );
}

#[test]
fn a_byte_order_mark_before_ndjson_is_skipped() {
    let scene = scene();
    for chunk_bytes in [1, 2, 1000] {
        let body = "\u{feff}{\"value\":\"a\"}\n{\"value\":\"b\"}\n";
        let request = Request::post("/v1/msgs/orders/v1/batch").header("Content-Type", "application/x-ndjson");
        let request = as_demo(request.body(body)).chunked(chunk_bytes);
        let answer = scene.publisher().call(&request).expect("an answer");
        assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("0")), "{}", answer.text());
    }
}

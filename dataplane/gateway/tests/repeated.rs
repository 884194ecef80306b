//! A connection that sends the same head again and again is served by what was decided about the first one; nobody
//! can tell, and it ends with the snapshot.

mod harness;

use harness::{PUBKEY, Scene, as_demo, scene};
use model::SnapshotDoc;
use testkit::http::{Connection, Request, Response};

fn shown(response: &Response) -> String {
    match response.code() {
        Some(code) => format!("{} {code}", response.status),
        None => response.status.to_string(),
    }
}

fn publish(connection: &mut Connection, target: &str, body: &str) -> Response {
    connection.call(&as_demo(Request::post(target).body(body))).expect("an answer")
}

/// A connection whose head is known by now.
fn warm(scene: &Scene, target: &str) -> Connection {
    let mut connection = scene.publisher();
    for _ in 0..4 {
        let answer = publish(&mut connection, target, "warm");
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    assert_eq!(repeated(scene), 2, "the first two are decided, the others repeat them");
    connection
}

/// Publishes that were served by an earlier one's decisions.
fn repeated(scene: &Scene) -> u64 {
    scene.metric("gateway_repeated_heads_total", &[])
}

#[test]
fn messages_under_the_same_head_keep_their_own_keys_lengths_partitions_and_order() {
    let scene = scene();
    let mut connection = scene.publisher();
    let bodies = ["a", "", "a longer one", "b", &"x".repeat(3000), "c"];
    for (number, body) in bodies.iter().enumerate() {
        let answer = publish(&mut connection, &format!("/v1/msgs/orders/v1?partition=0&key=k{number}"), body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.header("X-Offset"), Some(number.to_string().as_str()));
        assert_eq!(answer.header("X-Partition"), Some("0"));
    }
    assert_eq!(repeated(&scene), 4);
    for (number, body) in bodies.iter().enumerate() {
        let polled = scene.poll("/v1/msgs/demo/orders/v1?group=g&wait=10s");
        assert_eq!((polled.status, polled.text().as_str()), (200, *body));
        assert_eq!(polled.header("X-Key"), Some(format!("k{number}").as_str()));
        assert_eq!(polled.header("X-Offset"), Some(number.to_string().as_str()));
    }
}

#[test]
fn a_connection_that_changes_topics_and_repeats_them_publishes_to_each() {
    let scene = scene();
    let mut connection = scene.publisher();
    let mut expected = [0_u32; 2];
    for step in 0..40 {
        let which = usize::from(step / 3 % 2 == 1);
        let target = ["/v1/msgs/orders/v1?partition=0", "/v1/msgs/orders/v2?partition=0"][which];
        let answer = publish(&mut connection, target, "x");
        assert_eq!(answer.header("X-Offset"), Some(expected[which].to_string().as_str()), "step {step}: {target}");
        expected[which] += 1;
    }
    assert!(repeated(&scene) > 0);
}

#[test]
fn what_a_connection_repeats_is_refused_as_soon_as_the_snapshot_says_so() {
    type Change = fn(&mut SnapshotDoc);
    let rows: [(&str, Change, &str); 5] = [
        ("another secret", |doc| doc.apps[0].publish = doc.apps[1].publish.clone(), "401 not_authenticated"),
        ("the app is disabled", |doc| doc.apps[0].enabled = false, "403 app_disabled"),
        ("the topic is disabled", |doc| doc.topics[0].enabled = false, "403 topic_disabled"),
        ("the topic is gone", |doc| drop(doc.topics.remove(0)), "404 no_such_version"),
        ("a lower limit", |doc| doc.topics[0].options.message_bytes_max = 3, "413 message_too_large"),
    ];
    for (what, change, expected) in rows {
        let mut scene = scene();
        let mut connection = warm(&scene, "/v1/msgs/orders/v1");
        scene.change(change);
        let answer = publish(&mut connection, "/v1/msgs/orders/v1", "warm");
        assert_eq!(shown(&answer), expected, "{what}: {}", answer.text());
    }
}

#[test]
fn a_mistake_under_a_repeated_head_is_refused_and_the_connection_goes_on() {
    let scene = scene();
    let mut connection = warm(&scene, "/v1/msgs/small/v1");
    for (target, body, expected) in [
        ("/v1/msgs/small/v1?partition=-1", "x", "400 bad_parameter"),
        ("/v1/msgs/small/v1?partition=99", "x", "400 no_such_partition"),
        ("/v1/msgs/small/v1?key=%zz", "x", "400 bad_query"),
        ("/v1/msgs/small/v1?null=1", "x", "400 null_with_body"),
        ("/v1/msgs/small/v1", &"x".repeat(65), "413 message_too_large"),
        ("/v1/msgs/small/v1", "x", "201"),
    ] {
        assert_eq!(shown(&publish(&mut connection, target, body)), expected, "{target}");
    }
}

#[test]
fn headers_with_a_meaning_of_their_own_are_never_taken_from_the_request_before() {
    let scene = scene();
    let mut connection = scene.publisher();
    let target = "/v1/msgs/orders/v1?partition=0";
    let plain = || as_demo(Request::post(target).body("x"));
    for _ in 0..4 {
        let answer =
            connection.call(&plain().header("X-Request-Id", "mine").header("X-Tag", "red")).expect("an answer");
        assert_eq!((answer.status, answer.header("X-Request-Id")), (201, Some("mine")));
    }
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let answer = connection.call(&plain()).expect("an answer");
        assert_eq!(answer.status, 201);
        ids.insert(answer.header("X-Request-Id").expect("an id").to_owned());
    }
    assert_eq!(repeated(&scene), 2, "of the plain ones only");
    assert_eq!(ids.len(), 4, "an id each: {ids:?}");
    for number in 0..8 {
        let polled = scene.poll("/v1/msgs/demo/orders/v1?group=g&wait=10s");
        assert_eq!(polled.header("X-Tag"), (number < 4).then_some("red"), "message {number}");
    }
}

#[test]
fn half_of_a_repeated_request_waits_for_the_rest_and_what_is_pipelined_is_answered_in_order() {
    let scene = scene();
    let mut raw = harness::raw::Raw::open(scene.publish);
    let request = format!(
        "POST /v1/msgs/orders/v1?partition=0 HTTP/1.1\r\nHost: a\r\nAppid: {}\r\nPubkey: {PUBKEY}\r\n\
         Content-Length: 5\r\n\r\nhello",
        harness::APP
    );
    let all = request.repeat(12);
    // Cut everywhere, so that heads and bodies come in halves.
    for piece in all.as_bytes().chunks(71) {
        raw.send(piece);
    }
    raw.stop_sending();
    let answers = raw.answers();
    assert!(repeated(&scene) > 0);
    assert_eq!(answers.len(), 12);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status(), 201);
        assert!(answer.head.contains(&format!("\r\nX-Offset: {number}\r\n")), "{}", answer.head);
    }
}

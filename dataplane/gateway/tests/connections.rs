//! How many connections clients may have, and how long one may say nothing.

mod harness;

use gateway::GatewayConfig;
use harness::{OTHER, OTHER_SUBKEY, Scene, as_demo, scene, scene_with};
use std::time::{Duration, Instant};
use testkit::http::{Connection, Request};

fn two_shards() -> GatewayConfig {
    GatewayConfig { shard_count: 2, ..GatewayConfig::default() }
}

/// A publish of the demo app: its status and code.
fn publish(connection: &mut Connection) -> String {
    match connection.call(&as_demo(Request::post("/v1/msgs/orders/v1").body("x"))) {
        Ok(answer) => answer.code().map_or(answer.status.to_string(), |code| format!("{} {code}", answer.status)),
        Err(_) => "closed".to_owned(),
    }
}

/// Tries until a connection is gone from the books.
fn publish_soon(scene: &Scene) -> String {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let outcome = publish(&mut scene.publisher());
        if outcome == "201" || Instant::now() > until {
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_address_has_no_more_connections_than_it_may_and_a_closed_one_makes_room() {
    let scene = scene_with(GatewayConfig { connections_per_address: 3, ..two_shards() }, |_| {});
    let mut held: Vec<Connection> = (0..3).map(|_| scene.publisher()).collect();
    let all: Vec<String> = held.iter_mut().map(publish).collect();
    assert_eq!(all, ["201", "201", "201"]);
    assert_eq!(publish(&mut scene.publisher()), "closed");
    assert!(scene.metric("gateway_refused_total", &["connections_of_address"]) >= 1);
    assert_eq!(publish(&mut held[0]), "201", "those that are there stay");
    held.pop();
    assert_eq!(publish_soon(&scene), "201");
}

#[test]
fn one_app_has_no_more_connections_than_it_may_and_others_have_theirs() {
    let scene = scene_with(GatewayConfig { connections_per_app: 2, ..two_shards() }, |_| {});
    let mut held: Vec<Connection> = (0..2).map(|_| scene.publisher()).collect();
    assert_eq!(held.iter_mut().map(publish).collect::<Vec<_>>(), ["201", "201"]);
    let mut third = scene.publisher();
    assert_eq!(publish(&mut third), "503 too_many_connections");
    assert!(third.is_closed_within(Duration::from_secs(3)).expect("nothing more"));
    assert_eq!(publish(&mut held[1]), "201");
    let health = scene.publisher().call(&Request::get("/healthz")).expect("an answer");
    assert_eq!(health.status, 200, "without credentials nobody is counted");
    let other = Request::get("/v1/msgs/demo/orders/v1?group=g&wait=5").header("Appid", OTHER);
    let polled = scene.subscriber().call(&other.header("Subkey", OTHER_SUBKEY)).expect("an answer");
    assert_eq!(polled.status, 200, "{}", polled.text());
    held.pop();
    assert_eq!(publish_soon(&scene), "201");
}

#[test]
fn a_connection_that_never_sends_a_byte_is_closed_long_before_one_that_is_kept_alive() {
    let scene = scene();
    let mut used = scene.publisher();
    assert_eq!(publish(&mut used), "201");
    let mut silent = scene.publisher();
    assert!(silent.is_closed_within(Duration::from_secs(14)).expect("nothing is said"), "after 10 s");
    assert_eq!(publish(&mut used), "201", "this one was idle for as long");
}

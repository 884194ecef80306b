//! What is left of a gateway one of whose shards has panicked.

mod harness;

use harness::{Scene, as_demo, as_demo_reader, scene};
use std::time::{Duration, Instant};
use testkit::http::{Connection, Request};

/// Shards close their sockets at the end of the turn in which they fall.
const SOON: Duration = Duration::from_secs(5);

fn publish(connection: &mut Connection) -> Option<u16> {
    connection.call(&as_demo(Request::post("/v1/msgs/orders/v1").body("x"))).ok().map(|response| response.status)
}

/// Connections until both shards have some: how many each has.
fn crowd(scene: &Scene) -> Vec<Connection> {
    let mut connections: Vec<Connection> = (0..16).map(|_| scene.publisher()).collect();
    connections.iter_mut().for_each(|connection| assert_eq!(publish(connection), Some(201)));
    assert!((0..2).all(|shard| scene.gateway.board.connections.of(shard) > 0), "both have connections");
    connections
}

#[test]
fn the_gateway_says_which_is_not_ready_serves_with_the_others_and_drains() {
    for shard in 0..2 {
        let scene = scene();
        let mut before = crowd(&scene);
        assert_eq!(scene.gateway.fallen(), []);
        scene.gateway.make_panic(shard);
        scene.wait_fallen();
        let fallen = scene.gateway.fallen();
        assert_eq!(fallen[0].to_string(), format!("shard {shard} panicked: this shard was told to panic"));

        // On connections that were there before: the dead shard's end, the others' are served.
        let until = Instant::now() + SOON;
        let left = loop {
            let left = before.iter_mut().filter_map(publish).collect::<Vec<_>>();
            if left.len() < before.len() || Instant::now() > until {
                break left;
            }
        };
        assert!(!left.is_empty() && left.len() < 16, "{left:?}");
        assert!(left.iter().all(|status| *status == 201), "{left:?}");

        // None of those that come is given to the dead shard, by the kernel or by the other one.
        for _ in 0..50 {
            assert_eq!(publish(&mut scene.publisher()), Some(201));
        }
        let why = format!("shard {shard} has failed");
        for mut connection in [scene.publisher(), scene.subscriber()] {
            let said = connection.call(&Request::get("/readyz")).expect("an answer");
            assert_eq!((said.status, said.code().as_deref()), (503, Some("not_ready")), "{}", said.text());
            assert_eq!(said.json().expect("JSON")["errmsg"], why.as_str());
            assert_eq!(connection.call(&Request::get("/alive")).expect("an answer").status, 200, "until it drains");
        }

        let mut waiting = scene.subscriber();
        let groups = (0..8).map(|group| format!("/v1/msgs/demo/orders/v2?group=g{group}&wait=60s"));
        let mut polls: Vec<Connection> = groups
            .map(|target| {
                let mut poll = scene.subscriber();
                poll.send(&as_demo_reader(Request::get(&target))).expect("sent");
                poll
            })
            .collect();
        waiting.call(&Request::get("/alive")).expect("an answer");
        std::thread::sleep(Duration::from_millis(100));
        scene.gateway.announce_drain();
        assert_eq!(scene.gateway.readiness().reason(), format!("{why}; this gateway is draining"));
        scene.gateway.drain();
        for poll in &mut polls {
            // Those whose group lived on the dead shard are refused, the others end with the drain.
            let status = poll.read().expect("an answer").status;
            assert!([204, 503].contains(&status), "{status}");
        }
        let until = Instant::now() + SOON;
        while !scene.gateway.is_finished() {
            assert!(Instant::now() < until, "the other shard drains");
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended = scene.gateway.join();
        assert_eq!(ended, Err(format!("shard {shard} panicked: this shard was told to panic")));
    }
}

#[test]
fn a_snapshot_is_in_force_once_every_shard_that_is_left_has_it() {
    let mut scene = scene();
    scene.gateway.make_panic(1);
    scene.wait_fallen();
    scene.change(|doc| doc.topics.retain(|topic| topic.ver.as_str() != "v2"));
    assert_eq!(publish(&mut scene.publisher()), Some(201));
    assert_eq!(scene.publish("/v1/msgs/orders/v2", "x").status, 404);
}

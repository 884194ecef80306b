//! Requests that are not Produce: where they go, and what is told when they cannot.

use kafka_client::ClientConfig;
use std::time::Duration;

use kafka_client::{Asker, ConnId, Lane, Request, RequestError, RequestToken, Response, Target};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{RequestKind, ResponseKind, types};
use kafka_wire::messages::fetch::FetchRequest;

use crate::broker::{Cluster, Fault};
use crate::world::{World, config};

fn heartbeat() -> Request {
    Request::Cold(RequestKind::Heartbeat(types::HeartbeatRequest::default()))
}

fn fetch() -> Request {
    Request::Fetch(FetchRequest {
        replica_id: -1,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1_000_000,
        isolation_level: 0,
        session_id: 0,
        session_epoch: -1,
        topics: Vec::new(),
        forgotten: Vec::new(),
        rack_id: bytes::Bytes::new(),
    })
}

fn ask(world: &mut World, target: Target<'_>, lane: Lane, request: Request, timeout_ms: u64) -> RequestToken {
    world.client.request(target, lane, request, Duration::from_millis(timeout_ms), world.now)
}

fn reply(world: &World, token: RequestToken) -> Option<&Result<Response, RequestError>> {
    let mut found = world.replies.iter().filter(|(replied, _)| *replied == token);
    let first = found.next();
    assert!(found.next().is_none(), "two replies");
    first.map(|(_, result)| result)
}

#[test]
fn a_coordinator_is_looked_up_once_and_again_after_it_was_wrong() {
    let (mut world, _) = World::warm(3, 1);
    world.cluster.coordinators.insert("g".into(), 2);
    for _ in 0..3 {
        let token = ask(&mut world, Target::Coordinator("g"), Lane::Control, heartbeat(), 1_000);
        world.run_ms(10);
        assert!(matches!(reply(&world, token), Some(Ok(Response::Cold(ResponseKind::Heartbeat(_))))));
    }
    let nodes = |world: &World, api| -> Vec<i32> {
        world.cluster.seen.iter().filter(|seen| seen.api == api).map(|seen| seen.node).collect()
    };
    assert_eq!(nodes(&world, ApiKey::Heartbeat), [2, 2, 2]);
    assert_eq!(nodes(&world, ApiKey::FindCoordinator).len(), 1);
    world.cluster.coordinators.insert("g".into(), 3);
    world.client.invalidate_coordinator("g");
    ask(&mut world, Target::Coordinator("g"), Lane::Control, heartbeat(), 1_000);
    world.run_ms(10);
    assert_eq!(nodes(&world, ApiKey::Heartbeat), [2, 2, 2, 3]);
    assert_eq!(nodes(&world, ApiKey::FindCoordinator).len(), 2);
}

#[test]
fn a_coordinator_lookup_is_retried_or_refused_as_the_broker_says() {
    use kafka_wire::error_code::ErrorCode;
    let (mut world, _) = World::warm(1, 1);
    world.cluster.fault(ApiKey::FindCoordinator, Fault::Error(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let token = ask(&mut world, Target::Coordinator("g"), Lane::Control, heartbeat(), 1_000);
    world.run_ms(500);
    assert!(matches!(reply(&world, token), Some(Ok(_))));
    world.cluster.fault(ApiKey::FindCoordinator, Fault::Error(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    let token = ask(&mut world, Target::Coordinator("h"), Lane::Control, heartbeat(), 1_000);
    world.run_ms(10);
    let refused = RequestError::CoordinatorRefused { code: ErrorCode::GROUP_AUTHORIZATION_FAILED };
    assert_eq!(reply(&world, token).unwrap().as_ref().unwrap_err(), &refused);
}

#[test]
fn long_polls_of_one_broker_never_wait_for_each_other() {
    let (mut world, _) = World::warm(1, 1);
    let mut tokens = Vec::new();
    for _ in 0..10 {
        world.cluster.fault(ApiKey::Fetch, Fault::Hold);
        tokens.push(ask(&mut world, Target::Broker(1), Lane::Fetch, fetch(), 10_000));
    }
    world.run_ms(10);
    let mut conns: Vec<u32> =
        world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::Fetch).map(|seen| seen.conn).collect();
    conns.sort_unstable();
    conns.dedup();
    assert_eq!(conns.len(), 10, "each on a connection of its own");
    let opened = world.connects.len();
    world.release();
    assert!(tokens.iter().all(|token| matches!(reply(&world, *token), Some(Ok(Response::Fetch(_))))));
    let again = ask(&mut world, Target::Broker(1), Lane::Fetch, fetch(), 10_000);
    world.settle();
    assert!(matches!(reply(&world, again), Some(Ok(_))));
    assert_eq!(world.connects.len(), opened, "free connections are used again");
}

#[test]
fn joins_get_their_connections_at_once_and_share_them_beyond_the_limit() {
    let (mut world, _) = World::warm(1, 1);
    world.cluster.frozen.insert(1);
    let before = world.connects.len();
    for _ in 0..100 {
        world.cluster.fault(ApiKey::Heartbeat, Fault::Hold);
        ask(&mut world, Target::Broker(1), Lane::Group, heartbeat(), 10_000);
    }
    world.settle();
    assert_eq!(world.connects.len() - before, 64, "none waits for another's handshake");
    world.thaw();
    world.run_ms(10);
    let mut joins = std::collections::BTreeMap::new();
    for seen in world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::Heartbeat) {
        *joins.entry(seen.conn).or_insert(0) += 1;
    }
    assert_eq!(joins.values().sum::<usize>(), 100);
    assert!(joins.len() == 64 && joins.values().all(|count| *count <= 2), "{joins:?}");
}

#[test]
fn joins_wait_for_the_connections_that_are_being_opened_for_them() {
    for busy in [0, 61] {
        let (mut world, _) = World::warm(1, 1);
        let before = world.connects.len();
        for count in 1..=busy + 3 {
            if count > busy {
                world.cluster.frozen.insert(1);
            }
            world.cluster.fault(ApiKey::Heartbeat, Fault::Hold);
            ask(&mut world, Target::Broker(1), Lane::Group, heartbeat(), 10_000);
            world.run_ms(1);
            assert_eq!(world.connects.len() - before, count, "with {busy} busy ones");
        }
        world.thaw();
        world.run_ms(10);
        let joins = world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::Heartbeat).map(|seen| seen.conn);
        assert_eq!(joins.collect::<std::collections::BTreeSet<u32>>().len(), busy + 3, "none shares one");
    }
}

#[test]
fn long_polls_that_come_one_after_the_other_get_a_connection_each_and_heartbeats_share_one() {
    for (lane, api, connections) in [(Lane::Fetch, ApiKey::Fetch, 4), (Lane::Control, ApiKey::Heartbeat, 1)] {
        let (mut world, _) = World::warm(1, 1);
        for _ in 0..4 {
            world.cluster.fault(api, Fault::Hold);
            let request = if api == ApiKey::Fetch { fetch() } else { heartbeat() };
            ask(&mut world, Target::Broker(1), lane, request, 10_000);
            world.settle();
        }
        let seen = world.cluster.seen.iter().filter(|seen| seen.api == api);
        let mut conns: Vec<u32> = seen.map(|seen| seen.conn).collect();
        assert_eq!(conns.len(), 4, "{lane:?}: sent at once");
        conns.sort_unstable();
        conns.dedup();
        assert_eq!(conns.len(), connections, "{lane:?}");
    }
}

#[test]
fn what_anybody_can_answer_does_not_wait_behind_a_slow_answer() {
    let (mut world, _) = World::warm(2, 1);
    let mut conns = Vec::new();
    for pause_ms in [0, 900, 200, 0] {
        world.run_ms(pause_ms);
        world.cluster.fault(ApiKey::Heartbeat, Fault::Hold);
        ask(&mut world, Target::Any, Lane::Control, heartbeat(), 10_000);
        world.settle();
        conns.push(world.cluster.seen.iter().rev().find(|seen| seen.api == ApiKey::Heartbeat).unwrap().conn);
    }
    assert_eq!(world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::Heartbeat).count(), 4, "all were sent");
    assert_eq!(conns[0], conns[1]);
    assert!(conns[2] != conns[0] && conns[2] == conns[3], "{conns:?}");
}

#[test]
fn a_broker_that_joined_a_moment_ago_is_found() {
    let (mut world, _) = World::warm(1, 1);
    world.cluster.nodes.insert(2, true);
    let token = ask(&mut world, Target::Broker(2), Lane::Control, heartbeat(), 1_000);
    world.run_ms(100);
    assert!(matches!(reply(&world, token), Some(Ok(_))), "{:?}", reply(&world, token));
}

#[test]
fn a_request_that_timed_out_leaves_its_connection_to_the_others_until_the_broker_has_had_its_time() {
    for api in [ApiKey::Heartbeat, ApiKey::FindCoordinator] {
        let (mut world, _) = World::warm(1, 1);
        world.cluster.fault(api, Fault::Silence);
        let token = ask(&mut world, Target::Coordinator("g"), Lane::Control, heartbeat(), 500);
        world.run_ms(501);
        assert!(matches!(reply(&world, token), Some(Err(RequestError::Timeout { .. }))));
        let lost = |world: &World| world.closes.iter().filter(|why| why.contains("did not answer")).count();
        world.run_ms(29_498);
        assert_eq!(lost(&world), 0, "{api}");
        world.run_ms(1);
        assert_eq!(lost(&world), 1, "{api}");
    }
}

#[test]
fn a_connection_with_something_to_write_is_named_once() {
    let (mut world, _) = World::warm(1, 1);
    for settled in [true, false] {
        for _ in 0..3 {
            ask(&mut world, Target::Broker(1), Lane::Control, heartbeat(), 500);
        }
        if settled {
            world.settle(); // the connection stands
        }
    }
    world.client.flush(world.now);
    let named: Vec<_> = std::iter::from_fn(|| world.client.poll_transmit_ready()).collect();
    assert_eq!(named.len(), 1, "{named:?}");
}

#[test]
fn requests_end_in_time_whatever_happens() {
    let (mut world, _) = World::warm(2, 1);
    world.cluster.fault(ApiKey::Heartbeat, Fault::Silence);
    let silent = ask(&mut world, Target::Broker(1), Lane::Control, heartbeat(), 500);
    world.run_ms(600);
    assert!(matches!(reply(&world, silent), Some(Err(RequestError::Timeout { sent: true }))));

    world.cluster.fault(ApiKey::Heartbeat, Fault::Disconnect);
    let cut = ask(&mut world, Target::Broker(2), Lane::Control, heartbeat(), 500);
    world.run_ms(10);
    assert!(matches!(reply(&world, cut), Some(Err(RequestError::Disconnected { .. }))), "{:?}", reply(&world, cut));

    world.cluster.fault(ApiKey::Heartbeat, Fault::Garbage(b"\x00\x00\x00\x04\x7f\xff\xff\xff".to_vec()));
    let garbage = ask(&mut world, Target::Broker(2), Lane::Control, heartbeat(), 500);
    world.run_ms(10);
    assert!(matches!(reply(&world, garbage), Some(Err(RequestError::Disconnected { .. }))));

    let nobody = ask(&mut world, Target::Broker(77), Lane::Control, heartbeat(), 500);
    world.run_ms(100);
    assert!(matches!(reply(&world, nobody), Some(Err(RequestError::Unreachable { .. }))));

    world.kill(2);
    world.run_ms(100);
    let dead = ask(&mut world, Target::Broker(2), Lane::Control, heartbeat(), 5_000);
    world.run_ms(1_500);
    assert!(matches!(reply(&world, dead), Some(Err(RequestError::Unreachable { .. }))));

    world.kill(1);
    world.run_ms(100);
    let anybody = ask(&mut world, Target::Any, Lane::Control, heartbeat(), 500);
    world.run_ms(600);
    assert!(matches!(reply(&world, anybody), Some(Err(RequestError::Timeout { sent: false }))));
}

#[test]
fn a_cancelled_request_has_no_reply() {
    let (mut world, _) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Heartbeat, Fault::Hold);
    let sent = ask(&mut world, Target::Any, Lane::Control, heartbeat(), 500);
    world.settle();
    let unsent = ask(&mut world, Target::Any, Lane::Control, heartbeat(), 500);
    world.client.cancel(sent);
    world.client.cancel(unsent);
    world.release();
    world.run_ms(1_000);
    assert!(reply(&world, sent).is_none() && reply(&world, unsent).is_none());
    assert!(world.client.is_idle());
}

#[test]
fn unused_connections_are_closed_and_bootstrap_ones_soon() {
    let mut world = World::with(Cluster::new(2, 2), config(), 1);
    world.warm_up();
    world.run(Duration::from_secs(20));
    let bootstrap: Vec<_> = world.connects.iter().filter(|connect| connect.host == "b1").collect();
    assert!(bootstrap.len() >= 2, "bootstrap address and broker");
    assert!(world.closes.iter().any(|why| why.contains("not used")), "{:?}", world.closes);
    let before = world.closes.len();
    world.run(Duration::from_secs(600));
    assert!(world.closes.len() > before, "produce connections are closed after nine minutes");
    assert!(world.client.health(world.now).reachable, "the periodic metadata keeps one alive");
}

#[test]
fn a_connection_for_joins_is_closed_soon_after_it_and_others_are_kept() {
    for (lane, is_kept) in [(Lane::Group, false), (Lane::Control, true)] {
        let (mut world, _) = World::warm(1, 1);
        ask(&mut world, Target::Broker(1), lane, heartbeat(), 1_000);
        world.settle();
        let conn = world.cluster.seen.iter().find(|seen| seen.api == ApiKey::Heartbeat).unwrap().conn;
        assert!(world.open_wires().contains(&ConnId(conn)));
        world.run_ms(10_100);
        assert_eq!(world.open_wires().contains(&ConnId(conn)), is_kept, "{lane:?}");
    }
}

#[test]
fn a_token_says_who_asked() {
    let (mut world, _) = World::warm(1, 1);
    for asker in [Asker::of(3), Asker::of(0), Asker::NOBODY] {
        world.client.ask_as(asker);
        assert_eq!(ask(&mut world, Target::Any, Lane::Control, heartbeat(), 1_000).asker(), asker);
    }
}

#[test]
fn a_timer_that_goes_off_does_what_is_due() {
    let (mut world, _) = World::warm(1, 1);
    ask(&mut world, Target::Any, Lane::Control, heartbeat(), 1_000);
    assert_eq!(world.client.poll_transmit_ready(), None);
    world.client.on_timer(world.now);
    assert!(world.client.poll_transmit_ready().is_some());
}

#[test]
fn a_cluster_counts_as_reachable_while_a_connection_answers_within_five_seconds() {
    let (mut world, _) = World::warm(1, 1);
    ask(&mut world, Target::Broker(1), Lane::Control, heartbeat(), 60_000);
    world.run_ms(11_000); // the one to the bootstrap address is closed
    let used = world.cluster.seen.iter().find(|seen| seen.api == ApiKey::Heartbeat).unwrap().conn;
    for conn in world.open_wires().into_iter().filter(|conn| conn.0 != used) {
        world.drop_wire(conn, "reset by peer");
    }
    world.run_ms(1_000);
    world.cluster.fault(ApiKey::Heartbeat, Fault::Hold);
    ask(&mut world, Target::Broker(1), Lane::Control, heartbeat(), 60_000);
    world.settle();
    world.run_ms(5_000);
    assert!(world.client.health(world.now).reachable, "{:?}", world.client.health(world.now));
    world.run_ms(1);
    let health = world.client.health(world.now);
    assert!(!health.reachable);
    assert_eq!(health.detail, "1 connections without an answer for more than 5s");
}

#[test]
fn a_client_that_has_not_tried_yet_says_so() {
    for (bootstrap, detail) in [(vec![], "no bootstrap address"), (vec!["b1:9092".into()], "not connected yet")] {
        let world = World::with(Cluster::new(1, 1), ClientConfig { bootstrap, ..config() }, 1);
        let health = world.client.health(world.now);
        assert_eq!((health.reachable, &health.detail[..]), (false, detail));
    }
}

/// Went wrong: connections that were closed because nobody used them counted as a cluster that is down.
#[test]
fn a_client_that_closed_all_its_unused_connections_still_counts_as_reachable() {
    let day = Duration::from_secs(24 * 60 * 60);
    let config = ClientConfig { metadata_max_age: day, bootstrap_idle_max: Duration::from_secs(1), ..config() };
    let mut world = World::with(Cluster::new(2, 2), config, 1);
    world.warm_up();
    world.run(Duration::from_secs(20 * 60));
    assert!(world.open_wires().is_empty(), "none is used");
    assert!(world.client.health(world.now).reachable, "{:?}", world.client.health(world.now));
    world.kill(1);
    world.kill(2);
    world.client.refresh_metadata(world.now);
    world.run_ms(500);
    assert!(!world.client.health(world.now).reachable, "once somebody has tried in vain");
}

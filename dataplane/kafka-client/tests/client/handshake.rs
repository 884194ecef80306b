//! How a connection begins: versions agreed, credentials shown, and what happens when they are not accepted.

use std::time::Duration;

use kafka_client::{Acks, ClientConfig, Lane, Mechanism, ProduceError, Request, RequestError, Sasl, Security, Target};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::RequestKind;
use kafka_wire::cold::types::HeartbeatRequest;
use kafka_wire::error_code::ErrorCode;

use crate::broker::{Cluster, Credentials, Fault};
use crate::world::{World, config};

fn sasl(mechanism: Mechanism, password: &str) -> ClientConfig {
    let sasl = Sasl { mechanism, username: "gate,way=1".into(), password: password.into() };
    ClientConfig { security: Security { tls: false, sasl: Some(sasl) }, ..config() }
}

fn cluster_with(mechanism: &'static str) -> Cluster {
    let mut cluster = Cluster::new(1, 1);
    let username = if mechanism == "PLAIN" { "gate,way=1" } else { "gate=2Cway=3D1" };
    cluster.credentials = Some(Credentials { mechanism, username, password: "secret" });
    cluster
}

#[test]
fn a_broker_that_knows_only_old_api_versions_is_asked_again_in_version_0() {
    for newest in [0, 1, 2, 3, 4] {
        let mut cluster = Cluster::new(1, 1);
        cluster.api_versions_max = newest;
        let mut world = World::with(cluster, config(), 1);
        world.client.topic("t");
        world.settle();
        let versions: Vec<i16> =
            world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::ApiVersions).map(|seen| seen.version).collect();
        assert_eq!(versions[..], if newest < 3 { &[3, 0, 3, 0][..] } else { &[3, 3][..] }[..versions.len()]);
        assert!(versions.len() >= if newest < 3 { 2 } else { 1 });
        assert!(world.client.health(world.now).reachable, "newest {newest}");
    }
}

#[test]
fn a_refusal_of_the_api_versions_version_counts_whatever_follows_it() {
    // librdkafka's mock cluster sends the code and then neither version 0 nor version 3.
    let mut cluster = Cluster::new(1, 1);
    cluster.fault(ApiKey::ApiVersions, Fault::GarbageBody(vec![0, 35, 2, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0]));
    let mut world = World::with(cluster, config(), 1);
    world.client.topic("t");
    world.settle();
    assert_eq!(world.cluster.seen.first().map(|seen| (seen.api, seen.version)), Some((ApiKey::ApiVersions, 0)));
    assert_eq!(world.closes, Vec::<String>::new());
    assert!(world.client.health(world.now).reachable);
}

#[test]
fn produce_is_spoken_in_the_highest_version_both_know() {
    for (offered, spoken) in [((0, 3), 3), ((3, 7), 7), ((0, 9), 9), ((0, 12), 12), ((0, 40), 12)] {
        let mut cluster = Cluster::new(1, 1);
        cluster.produce_versions = offered;
        let mut world = World::with(cluster, config(), 1);
        let topic = world.warm_up();
        let tag = world.produce(topic, None, "it", Acks::All, 1_000);
        world.settle();
        assert_eq!(world.stored(tag).offset, 1);
        assert_eq!(world.cluster.seen_produce()[0].version, spoken, "offered {offered:?}");
    }
}

#[test]
fn metadata_is_spoken_in_every_version_and_makes_no_topic_where_that_can_be_said() {
    for newest in 1..=13 {
        let mut cluster = Cluster::new(1, 1);
        cluster.metadata_version_max = newest;
        let mut world = World::with(cluster, config(), 1);
        let topic = world.warm_up(); // the model looks at what is asked for
        let tag = world.produce(topic, None, "it", Acks::All, 1_000);
        world.settle();
        assert_eq!(world.stored(tag).offset, 1, "version {newest}");
        assert_eq!(world.closes, Vec::<String>::new(), "version {newest}");
    }
}

#[test]
fn a_broker_without_a_common_produce_version_makes_records_unavailable() {
    let mut cluster = Cluster::new(1, 1);
    cluster.produce_versions = (0, 2);
    let mut world = World::with(cluster, config(), 1);
    let topic = world.client.topic("t");
    let tag = world.produce(topic, None, "it", Acks::All, 500);
    world.run_ms(600);
    let error = world.error(tag);
    let ProduceError::Unavailable { why } = &error else { panic!("{error:?}") };
    assert!(why.contains("Produce") && why.contains("0 to 2"), "{why}");
}

#[test]
fn plain_and_scram_let_us_in() {
    for (mechanism, name) in [(Mechanism::Plain, "PLAIN"), (Mechanism::ScramSha256, "SCRAM-SHA-256")] {
        let mut world = World::with(cluster_with(name), sasl(mechanism, "secret"), 1);
        let topic = world.warm_up();
        let tag = world.produce(topic, None, "it", Acks::All, 1_000);
        world.settle();
        assert_eq!(world.stored(tag).offset, 1, "{name}");
    }
}

#[test]
fn wrong_credentials_are_told_at_once_and_tried_again_calmly() {
    for (mechanism, name, password, words) in [
        (Mechanism::Plain, "PLAIN", "wrong", "invalid credentials"),
        (Mechanism::ScramSha256, "SCRAM-SHA-256", "wrong", "invalid credentials"),
        (Mechanism::ScramSha512, "PLAIN", "secret", "does not offer SASL SCRAM-SHA-512, it offers PLAIN"),
    ] {
        let mut world = World::with(cluster_with(name), sasl(mechanism, password), 1);
        let topic = world.client.topic("t");
        let tag = world.produce(topic, None, "it", Acks::All, 30_000);
        let heartbeat = || Request::Cold(RequestKind::Heartbeat(HeartbeatRequest::default()));
        let timeout = Duration::from_secs(30);
        let ask = |world: &mut World| {
            world.client.request(Target::Any, Lane::Control, heartbeat(), timeout, world.now);
        };
        ask(&mut world);
        world.run_ms(10);
        let ProduceError::Unavailable { why } = world.error(tag) else { panic!("nothing was stored") };
        assert!(why.contains(words), "{why}");
        ask(&mut world);
        world.settle();
        assert_eq!(world.replies.len(), 2, "requests that waited, and new ones, are told too");
        for (_, reply) in &world.replies {
            let Err(RequestError::Authentication { why }) = reply else { panic!("{reply:?}") };
            assert!(why.contains(words), "{why}");
        }
        let refused = world.try_produce(topic, None, "it", Acks::All, 30_000).unwrap_err();
        assert!(matches!(refused, ProduceError::Unavailable { .. }));
        assert!(world.client.health(world.now).detail.contains(words));
        world.run_ms(10_000);
        assert!(world.connects.len() < 40, "{} connects in ten seconds", world.connects.len());
        let credentials = world.cluster.credentials.as_mut().unwrap();
        (credentials.mechanism, credentials.password) =
            (mechanism.name(), if mechanism.name() == name { password } else { "secret" });
        if mechanism != Mechanism::ScramSha512 {
            world.run_ms(3_000);
            let tag = world.produce(topic, None, "it", Acks::All, 1_000);
            world.run_ms(500);
            assert_eq!(world.stored(tag).offset, 0, "let in as soon as the broker agrees");
        }
    }
}

#[test]
fn credentials_that_are_taken_away_are_told_when_the_last_connection_is_gone() {
    let mut world = World::with(cluster_with("SCRAM-SHA-256"), sasl(Mechanism::ScramSha256, "secret"), 1);
    let topic = world.warm_up();
    world.cluster.credentials.as_mut().unwrap().password = "rotated";
    let tag = world.produce(topic, None, "connections that stand go on", Acks::All, 1_000);
    world.settle();
    world.stored(tag);
    world.kill(1);
    world.revive(1);
    let waiting = world.produce(topic, None, "waiting", Acks::All, 30_000);
    world.run_ms(100);
    let ProduceError::Unavailable { why } = world.error(waiting) else { panic!("nothing was stored") };
    assert!(why.contains("invalid credentials"), "{why}");
    world.cluster.credentials.as_mut().unwrap().password = "secret";
    world.run_ms(3_000);
    let tag = world.produce(topic, None, "again", Acks::All, 1_000);
    world.run_ms(500);
    world.stored(tag);
}

#[test]
fn a_session_that_ends_is_replaced_before_the_broker_hangs_up() {
    let mut cluster = cluster_with("SCRAM-SHA-256");
    cluster.session_lifetime_ms = 10_000;
    let mut world = World::with(cluster, sasl(Mechanism::ScramSha256, "secret"), 1);
    let topic = world.warm_up();
    let first = world.connects.len();
    for _ in 0..30 {
        world.run_ms(1_000);
        let tag = world.produce(topic, None, "it", Acks::All, 1_000);
        world.settle();
        world.stored(tag);
    }
    assert!(world.connects.len() > first, "new connections took over");
    assert!(world.closes.len() >= 3, "{:?}", world.closes);
    assert!(world.closes.iter().all(|why| why.contains("not used")), "{:?}", world.closes);
}

#[test]
fn a_connection_past_its_session_is_closed_with_its_last_answer_and_not_before() {
    let mut cluster = cluster_with("SCRAM-SHA-256");
    cluster.session_lifetime_ms = 10_000;
    let mut world = World::with(cluster, sasl(Mechanism::ScramSha256, "secret"), 1);
    let topic = world.warm_up();
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    let tag = world.produce(topic, Some(0), "it", Acks::All, 30_000);
    world.run_ms(9_900);
    let conn = world.cluster.seen_produce()[0].conn;
    let is_open = |world: &World| world.open_wires().iter().any(|open| open.0 == conn);
    assert!(is_open(&world), "its answer is to come");
    world.release();
    world.stored(tag);
    world.run_ms(2);
    assert!(!is_open(&world));
}

#[test]
fn what_the_driver_has_not_taken_yet_leaves_before_a_session_ends() {
    let mut cluster = cluster_with("SCRAM-SHA-256");
    cluster.session_lifetime_ms = 10_000;
    let mut world = World::with(cluster, sasl(Mechanism::ScramSha256, "secret"), 1);
    let topic = world.warm_up();
    for value in ["opens the connection", "is written late"] {
        world.produce(topic, Some(0), value, Acks::None, 1_000);
        world.client.flush(world.now);
        if value == "is written late" {
            world.now += std::time::Duration::from_secs(10); // the socket is full
            world.client.flush(world.now);
        }
        world.settle();
    }
    assert_eq!(world.cluster.log("t", 0), ["warm0", "opens the connection", "is written late"]);
}

#[test]
fn what_may_be_stored_is_not_given_up_when_credentials_are_refused() {
    let mut world = World::with(cluster_with("SCRAM-SHA-256"), sasl(Mechanism::ScramSha256, "secret"), 1);
    let topic = world.warm_up();
    world.cluster.fault(ApiKey::Produce, Fault::ApplyThenSilence);
    let sent = world.produce(topic, Some(0), "sent", Acks::All, 30_000);
    world.settle();
    let queued = world.produce(topic, Some(0), "queued", Acks::All, 30_000);
    world.cluster.credentials.as_mut().unwrap().password = "rotated";
    world.kill(1);
    world.revive(1);
    world.run_ms(100);
    assert_eq!(world.outcome(sent), None);
    let told = world.error(queued);
    assert!(matches!(told, ProduceError::Unavailable { .. }), "{told:?}");
    world.cluster.credentials.as_mut().unwrap().password = "secret";
    world.run_ms(3_000);
    assert_eq!(world.stored(sent).offset, 1);
    assert_eq!(world.cluster.log("t", 0), ["warm0", "sent"]);
}

#[test]
fn a_broker_that_refuses_or_garbles_api_versions_is_left_and_tried_again() {
    for fault in [Fault::Disconnect, Fault::Silence, Fault::Garbage(vec![0, 0, 0, 1, 9])] {
        let mut cluster = Cluster::new(1, 1);
        cluster.fault(ApiKey::ApiVersions, fault.clone());
        let mut world = World::with(cluster, config(), 1);
        let topic = world.client.topic("t");
        let tag = world.produce(topic, None, "it", Acks::All, 60_000);
        world.run_ms(50_000);
        assert_eq!(world.stored(tag).offset, 0, "after {fault:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Whatever stands where an answer should be, records get one true outcome and the client goes on.
    #[test]
    fn any_bytes_for_an_answer_are_survived(
        api in 0usize..4,
        body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        small in proptest::prelude::any::<bool>(),
    ) {
        let api = [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::Produce][api];
        // Mostly zeroes and ones get further into a decoder than noise does.
        let body = if small { body.iter().map(|byte| byte % 3).collect() } else { body };
        let mut cluster = Cluster::new(1, 2);
        cluster.fault(api, Fault::GarbageBody(body));
        let mut world = World::with(cluster, config(), 1);
        let topic = world.client.topic("t");
        let tag = world.produce(topic, Some(0), "it", Acks::All, 5_000);
        world.run_ms(6_000);
        let copies = world.cluster.log("t", 0).len();
        match world.outcome(tag).expect("an outcome") {
            // Garbage can be a well-formed yes.
            Ok(_) => assert!(copies == 1 || api == ApiKey::Produce),
            Err(error) => assert!(copies == 0 || error.outcome_unknown(), "{error:?}"),
        }
        world.run_ms(3_000);
        let again = world.produce(topic, Some(0), "again", Acks::All, 5_000);
        world.run_ms(6_000);
        assert!(world.outcome(again).is_some());
    }
}

#[test]
fn error_codes_have_names_in_what_people_read() {
    assert_eq!(
        ProduceError::NotAuthorized { code: ErrorCode::TOPIC_AUTHORIZATION_FAILED }.to_string(),
        "not authorized at the broker: TOPIC_AUTHORIZATION_FAILED"
    );
}

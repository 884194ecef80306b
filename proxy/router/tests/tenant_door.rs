//! Logins at the proxy, frame by frame: before a session, and in the middle of one.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use bytes::{Buf, Bytes, BytesMut};
use common::tenant::*;
use kafka_client::sasl::{Exchange, Mechanism, SaltedKeys, Sasl};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::ApiKey;
use model::{Login, Side};
use router::requests::RequestError;
use router::tenant::door::{self, Door, Step};
use router::tenant::requests::{Turn, read_head, versions};
use router::tenant::rules::Way;
use router::tenant::session::Session;
use router::tenant::versions::Offered;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).expect("kafka-protocol writes it");
    body.freeze()
}

fn decoded<M: Decodable>(api: ApiKey, version: i16, frame: &[u8]) -> M {
    let (_, mut body) = answer_body(api, version, Bytes::copy_from_slice(&frame[4..]));
    let message = M::decode(&mut body, version).expect("an answer");
    assert!(body.is_empty(), "{} bytes follow", body.len());
    message
}

fn handshake(mechanism: &str, id: i32) -> Bytes {
    let message = SaslHandshakeRequest::default().with_mechanism(text(mechanism));
    request(ApiKey::SaslHandshake, 1, id, &encoded(&message, 1))
}

fn authenticate(version: i16, message: &[u8], id: i32) -> Bytes {
    let message = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(message));
    request(ApiKey::SaslAuthenticate, version, id, &encoded(&message, version))
}

/// A stranger's frames, as the proxy takes them before a login.
struct Stranger {
    door: Door,
    offered: Offered,
    node: Option<i32>,
    told: Told,
}

impl Stranger {
    fn new() -> Stranger {
        Stranger { door: Door::default(), offered: offers_all(), node: Some(2), told: Told::default() }
    }

    /// Its answer, and who it turned out to be.
    fn say(&mut self, frame: &Bytes) -> Result<(BytesMut, Option<Login>), RequestError> {
        let head = read_head(&frame[4..], frame.len() - 4, &self.offered)?;
        assert_eq!(head.rule.way, Way::Local, "{} goes nowhere before a login", head.rule.key);
        if head.rule.key == ApiKey::ApiVersions {
            let answer = versions(&head, frame, &self.offered, CLUSTER, self.node, &mut self.told)?;
            return Ok((answer, None));
        }
        Ok(match self.door.step(&head, frame, &snapshot(), || [9; 18])? {
            Step::Answer(answer) => (answer, None),
            Step::Proved { login, last } => (door::welcome(head.version, head.correlation_id, &last), Some(login)),
            Step::Failed { denied, .. } => (door::refuse(head.version, head.correlation_id, &denied.to_string()), None),
        })
    }

    /// All of an exchange, by the half of it that clients have.
    fn log_in(&mut self, mechanism: Mechanism, app: &str, password: &str, version: i16) -> Result<Login, String> {
        let (answer, _) = self.say(&handshake(mechanism.name(), 1)).expect("a handshake");
        let shaken: SaslHandshakeResponse = decoded(ApiKey::SaslHandshake, 1, &answer);
        assert_eq!(shaken.error_code, 0);
        let sasl = Sasl { mechanism, username: app.to_owned(), password: password.to_owned() };
        let mut keys = SaltedKeys::default();
        let (mut exchange, mut message) = Exchange::start_with(&sasl, [1, 2, 3]);
        for id in 2..6 {
            let (answer, login) = self.say(&authenticate(version, &message, id)).expect("a message");
            let said: SaslAuthenticateResponse = decoded(ApiKey::SaslAuthenticate, version, &answer);
            if said.error_code != 0 {
                assert_eq!((said.error_code, said.auth_bytes.len()), (58, 0));
                return Err(said.error_message.expect("a sentence").to_string());
            }
            assert_eq!(said.session_lifetime_ms, 0);
            let next = exchange.on_message(&said.auth_bytes, &sasl, &mut keys).map_err(|err| err.to_string())?;
            match (next, login) {
                (None, Some(login)) => return Ok(login),
                (Some(next), None) => message = next,
                (next, login) => panic!("out of step: {next:?} {login:?}"),
            }
        }
        panic!("no end of it")
    }
}

const MECHANISMS: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

#[test]
fn every_mechanism_lets_an_app_in_with_either_secret_and_nobody_else() {
    for (mechanism, version) in MECHANISMS.iter().flat_map(|one| (0..=2).map(|version| (*one, version))) {
        let what = format!("{} v{version}", mechanism.name());
        for (side, word) in [(Side::Publish, "pub"), (Side::Subscribe, "sub")] {
            let login = Stranger::new().log_in(mechanism, "app1", &secret("app1", word), version).expect(&what);
            assert_eq!((login.app().as_str(), login.side()), ("app1", side), "{what}");
            Session::begin(login, ADDRESS, CLUSTER.into(), snapshot()).expect(&what);
        }
        let refused = ["wrong", &secret("friend", "pub")];
        let mut sentences: Vec<String> = refused
            .iter()
            .map(|password| Stranger::new().log_in(mechanism, "app1", password, version).expect_err(&what))
            .collect();
        sentences.push(Stranger::new().log_in(mechanism, "nobody", "wrong", version).expect_err(&what));
        sentences.dedup();
        assert_eq!(sentences.len(), 1, "{what}: who is not there is told apart: {sentences:?}");
    }
}

#[test]
fn a_failed_exchange_needs_a_new_handshake_and_may_then_succeed() {
    let mut stranger = Stranger::new();
    stranger.log_in(Mechanism::Plain, "app1", "wrong", 2).expect_err("a wrong secret");
    let (answer, login) = stranger.say(&authenticate(2, b"\0app1\0app1-pub-secret", 9)).expect("a message");
    let said: SaslAuthenticateResponse = decoded(ApiKey::SaslAuthenticate, 2, &answer);
    assert_eq!((said.error_code, login.is_none()), (34, true));
    stranger.log_in(Mechanism::Plain, "app1", &secret("app1", "pub"), 2).expect("the right one");
}

#[test]
fn authenticate_without_a_handshake_is_out_of_order() {
    for version in 0..=2 {
        let (answer, login) =
            Stranger::new().say(&authenticate(version, b"\0app1\0app1-pub-secret", 3)).expect("a message");
        let said: SaslAuthenticateResponse = decoded(ApiKey::SaslAuthenticate, version, &answer);
        assert_eq!((said.error_code, login.is_none()), (34, true), "v{version}");
        assert!(said.error_message.expect("a sentence").contains("SaslHandshake"), "v{version}");
    }
}

#[test]
fn an_unknown_mechanism_is_told_which_there_are() {
    for mechanism in ["GSSAPI", "OAUTHBEARER", "", "plain", "PLAIN "] {
        let mut stranger = Stranger::new();
        let (answer, _) = stranger.say(&handshake(mechanism, 3)).expect("a handshake");
        let said: SaslHandshakeResponse = decoded(ApiKey::SaslHandshake, 1, &answer);
        let names: Vec<String> = said.mechanisms.iter().map(ToString::to_string).collect();
        assert_eq!(
            (said.error_code, names),
            (33, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(str::to_owned).into()),
            "{mechanism}"
        );
        let (answer, login) = stranger.say(&authenticate(2, b"\0app1\0app1-pub-secret", 4)).expect("a message");
        let said: SaslAuthenticateResponse = decoded(ApiKey::SaslAuthenticate, 2, &answer);
        assert_eq!((said.error_code, login.is_none()), (34, true), "{mechanism}");
    }
}

fn old_handshake(stranger: &mut Stranger, mechanism: Mechanism) -> i16 {
    let message = SaslHandshakeRequest::default().with_mechanism(text(mechanism.name()));
    let (answer, _) = stranger.say(&request(ApiKey::SaslHandshake, 0, 1, &encoded(&message, 0))).expect("a handshake");
    decoded::<SaslHandshakeResponse>(ApiKey::SaslHandshake, 0, &answer).error_code
}

/// As kafka-python logs in until 2.0: a length before each message, and nothing else (before KIP-152).
#[test]
fn after_a_handshake_of_version_0_messages_come_bare() {
    for (mechanism, password) in
        MECHANISMS.into_iter().flat_map(|one| [(one, secret("app1", "pub")), (one, "wrong".to_owned())])
    {
        let mut stranger = Stranger { door: Door::of_stranger(), ..Stranger::new() };
        assert_eq!(old_handshake(&mut stranger, mechanism), 0);
        let sasl = Sasl { mechanism, username: "app1".to_owned(), password: password.clone() };
        let mut keys = SaltedKeys::default();
        let (mut exchange, mut message) = Exchange::start_with(&sasl, [1, 2, 3]);
        let entered = loop {
            assert!(stranger.door.is_bare());
            match stranger.door.bare_step(&message, &snapshot(), || [9; 18]) {
                Step::Answer(answer) => {
                    assert_eq!(answer[..4], (answer.len() as i32 - 4).to_be_bytes());
                    let next = exchange.on_message(&answer[4..], &sasl, &mut keys).expect("a challenge");
                    message = next.expect("a proof");
                }
                Step::Proved { login, last } => {
                    assert_eq!(door::bare(&last)[..4], (last.len() as i32).to_be_bytes());
                    assert!(exchange.on_message(&last, &sasl, &mut keys).expect("the server's proof").is_none());
                    break login.side() == Side::Publish;
                }
                Step::Failed { .. } => break false,
            }
        };
        assert_eq!(entered, password != "wrong", "{}", mechanism.name());
        assert!(!stranger.door.is_bare(), "what follows is Kafka again");
    }
}

#[test]
fn in_the_middle_of_a_session_a_handshake_of_version_0_is_not_taken() {
    let mut inside = Stranger::new();
    assert_eq!(old_handshake(&mut inside, Mechanism::Plain), 35);
    assert!(!inside.door.is_bare());
}

#[test]
fn versions_are_told_before_a_login_and_only_what_the_rules_have() {
    for version in 0..=4 {
        let message = ApiVersionsRequest::default()
            .with_client_software_name(text("rust"))
            .with_client_software_version(text("1"));
        let mut stranger = Stranger::new();
        let (answer, _) =
            stranger.say(&request(ApiKey::ApiVersions, version, 5, &encoded(&message, version))).expect("versions");
        assert_eq!(answer[4..8], 5_i32.to_be_bytes());
        let said: ApiVersionsResponse = decoded(ApiKey::ApiVersions, version, &answer);
        assert_eq!(said.error_code, 0, "v{version}");
        let rows: Vec<_> = said.api_keys.iter().map(|row| (row.api_key, row.min_version, row.max_version)).collect();
        let rules: Vec<_> = router::tenant::rules::RULES
            .iter()
            .map(|rule| {
                // librdkafka looks for Produce 0 before it compresses (KAFKA-18659).
                let min = if rule.key == ApiKey::Produce { 0 } else { rule.version_min };
                (rule.key.key(), min, rule.version_max)
            })
            .collect();
        assert_eq!(rows, rules, "v{version}");
        assert_eq!(stranger.told.askers, 1);
    }
}

#[test]
fn a_version_of_api_versions_that_nobody_knows_is_answered_in_version_0_with_error_35() {
    for version in [6, 7, 100, i16::MAX] {
        let (answer, _) =
            Stranger::new().say(&request(ApiKey::ApiVersions, version, 5, &[0xff; 40])).expect("versions");
        let said: ApiVersionsResponse = decoded(ApiKey::ApiVersions, 0, &answer);
        assert_eq!(said.error_code, 35, "v{version}");
        assert!(said.api_keys.iter().any(|row| (row.api_key, row.max_version) == (18, 5)), "v{version}");
        let mut client = Client::new(Side::Publish);
        client.send(&request(ApiKey::ApiVersions, version, 5, &[0xff; 40]), 7).expect("versions");
        assert_eq!(client.receive(&[], 1).expect("an answer").concat(), answer, "v{version}: in a session");
    }
    let negative = Stranger::new().say(&request(ApiKey::ApiVersions, -1, 5, &[0; 9])).map(|_| ());
    assert_eq!(negative, Err(RequestError::NotOffered { key: 18, version: -1 }));
}

/// Version 5: who the client believes to talk to (KIP-1242). kafka-protocol does not know it.
fn meaning(cluster: Option<&str>, node: i32) -> Bytes {
    let mut body = BytesMut::from(&b"\x05rust\x021"[..]);
    match cluster {
        Some(id) => kafka_wire::pieces::put_string(&mut body, true, id.as_bytes()),
        None => body.extend_from_slice(&[0]),
    }
    body.extend_from_slice(&node.to_be_bytes());
    body.extend_from_slice(&[0]);
    request(ApiKey::ApiVersions, 5, 5, &body)
}

#[test]
fn a_client_that_means_another_broker_is_sent_back_to_the_bootstrap() {
    let own = session("app1", Side::Publish).tenant().cluster_id();
    let friends = session("friend", Side::Publish).tenant().cluster_id();
    let at_other =
        model::tenant::Tenant { cluster: "elsewhere", ..session("app1", Side::Publish).tenant() }.cluster_id();
    let rows = [
        (None, -1, 0),
        (Some(""), -1, 0),
        (Some(own.as_str()), 2, 0),
        (Some(own.as_str()), -1, 0),
        (None, 2, 0),
        (Some(own.as_str()), 3, 129),
        (None, 3, 129),
        (Some(at_other.as_str()), 2, 129),
        (Some("kafkas-own-cluster-idd"), 2, 129),
        (Some("x"), 2, 129),
        // Which app it is nobody knows before a login.
        (Some(friends.as_str()), 2, 0),
    ];
    for (cluster, node, error) in rows {
        let frame = meaning(cluster, node);
        let (answer, _) = Stranger::new().say(&frame).expect("versions");
        let (_, mut body) = answer_body(ApiKey::ApiVersions, 5, Bytes::copy_from_slice(&answer[4..]));
        assert_eq!(body.get_i16(), error, "{cluster:?} {node}");
        assert_eq!(
            body.get_u8(),
            router::tenant::rules::RULES.len() as u8 + 1,
            "{cluster:?} {node}: rows all the same"
        );
        let mut bootstrap = Stranger { node: None, ..Stranger::new() };
        let (answer, _) = bootstrap.say(&frame).expect("versions");
        let (_, mut body) = answer_body(ApiKey::ApiVersions, 5, Bytes::copy_from_slice(&answer[4..]));
        let is_cluster = cluster.is_none_or(|id| ["", own.as_str(), friends.as_str()].contains(&id));
        assert_eq!(body.get_i16() == 0, is_cluster, "{cluster:?} {node} at a bootstrap port");
    }
}

#[test]
fn nothing_but_versions_and_logins_is_local() {
    let mut stranger = Stranger::new();
    for rule in router::tenant::rules::RULES.iter().filter(|rule| rule.way != Way::Local) {
        let body = Spoken::default().body(&rule.request, rule.version_max);
        let frame = request(rule.key, rule.version_max, 1, &body);
        let head = read_head(&frame[4..], frame.len() - 4, &stranger.offered).expect("a head");
        assert_ne!(head.rule.way, Way::Local, "{}", rule.key);
    }
    for broken in [&b"\0\0\0\x08\0\x12\0\x03\0\0\0\x01"[..], b"\0\0\0\x0a\0\x24\0\x02\0\0\0\x01\0\0"] {
        let found = stranger.say(&Bytes::copy_from_slice(broken)).map(|_| ());
        assert!(matches!(found, Err(RequestError::Malformed(_))), "{broken:?}: {found:?}");
    }
}

/// A Metadata request about no topic, and its answer.
fn metadata(id: i32) -> (Bytes, Bytes) {
    let ask = MetadataRequest::default().with_topics(Some(Vec::new()));
    let say = encoded(&MetadataResponse::default(), 12);
    (request(ApiKey::Metadata, 12, id, &encoded(&ask, 12)), answer(ApiKey::Metadata, 12, id, &say))
}

fn ids(out: &[Bytes]) -> Vec<i32> {
    frames(out).iter().map(|frame| i32::from_be_bytes(frame[..4].try_into().expect("an id"))).collect()
}

#[test]
fn a_client_proves_anew_who_it_is_among_its_requests_and_answers_stay_in_order() {
    for (mechanism, piece_bytes) in MECHANISMS.iter().flat_map(|one| [1, 7, 64, usize::MAX].map(|bytes| (*one, bytes)))
    {
        let mut client = Client::new(Side::Publish);
        let sasl = Sasl { mechanism, username: "app1".to_owned(), password: secret("app1", "pub") };
        let (mut exchange, first) = Exchange::start_with(&sasl, [1, 2, 3]);
        let asked =
            [metadata(1).0, handshake(mechanism.name(), 2), metadata(3).0, authenticate(2, &first, 4), metadata(5).0];
        let (out, turn) = client.send(&asked.concat(), piece_bytes).expect("requests");
        assert_eq!((frames(&out).len(), turn), (3, Turn::Bytes), "logins do not go to the broker");
        assert!(client.receive(&[], 1).expect("nothing").is_empty(), "the first answer is the broker's");
        let said = [metadata(1).1, metadata(3).1, metadata(5).1].concat();
        let out = client.receive(&said, piece_bytes).expect("answers");
        assert_eq!(ids(&out), [1, 2, 3, 4, 5]);
        let authenticated = &frames(&out)[3];
        let with_length = [&(authenticated.len() as i32).to_be_bytes()[..], authenticated].concat();
        let said: SaslAuthenticateResponse = decoded(ApiKey::SaslAuthenticate, 2, &with_length);
        assert_eq!(said.error_code, 0);
        if let Some(last) =
            exchange.on_message(&said.auth_bytes, &sasl, &mut SaltedKeys::default()).expect("a challenge")
        {
            client.send(&[authenticate(2, &last, 6), metadata(7).0].concat(), piece_bytes).expect("requests");
            let out = client.receive(&metadata(7).1, piece_bytes).expect("answers");
            assert_eq!(ids(&out), [6, 7]);
            let with_length = [&(frames(&out)[0].len() as i32).to_be_bytes()[..], &frames(&out)[0]].concat();
            let said: SaslAuthenticateResponse = decoded(ApiKey::SaslAuthenticate, 2, &with_length);
            assert_eq!(said.error_code, 0);
            assert_eq!(exchange.on_message(&said.auth_bytes, &sasl, &mut SaltedKeys::default()), Ok(None));
        }
        assert_eq!(client.session.login().side(), Side::Publish);
        assert!(client.in_flight.is_empty() && client.told.failed.is_empty());
    }
}

#[test]
fn a_client_that_proves_to_be_another_or_nobody_is_told_so_and_its_session_ends() {
    let rows: [(&str, String, bool); 4] = [
        ("friend", secret("friend", "pub"), false),
        ("app1", secret("app1", "sub"), false),
        ("app1", "wrong".to_owned(), true),
        ("nobody", "wrong".to_owned(), true),
    ];
    for (app, password, is_failed) in rows {
        for piece_bytes in [1, 64, usize::MAX] {
            let mut client = Client::new(Side::Publish);
            let proof = format!("\0{app}\0{password}");
            let asked = [metadata(1).0, handshake("PLAIN", 2), authenticate(1, proof.as_bytes(), 3), metadata(4).0];
            let (out, turn) = client.send(&asked.concat(), piece_bytes).expect("requests");
            assert_eq!((frames(&out).len(), turn), (1, Turn::End("login_failed")), "{app}");
            let out = client.receive(&metadata(1).1, 64).expect("answers");
            assert_eq!(ids(&out), [1, 2, 3], "{app}");
            let with_length = [&(frames(&out)[2].len() as i32).to_be_bytes()[..], &frames(&out)[2]].concat();
            let said: SaslAuthenticateResponse = decoded(ApiKey::SaslAuthenticate, 1, &with_length);
            assert_eq!(said.error_code, 58, "{app}");
            assert_eq!(client.told.failed.len(), usize::from(is_failed), "{app}");
            assert_eq!(client.session.login().app().as_str(), "app1");
        }
    }
}

#[test]
fn a_login_in_the_middle_of_a_session_without_a_handshake_is_out_of_order_and_the_session_goes_on() {
    let mut client = Client::new(Side::Publish);
    let asked = [authenticate(2, b"\0app1\0app1-pub-secret", 1), metadata(2).0].concat();
    let (out, turn) = client.send(&asked, usize::MAX).expect("requests");
    assert_eq!((frames(&out).len(), turn), (1, Turn::Bytes));
    let out = client.receive(&metadata(2).1, 64).expect("answers");
    assert_eq!(ids(&out), [1, 2]);
}

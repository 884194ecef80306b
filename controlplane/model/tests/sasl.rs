//! Logins over Kafka's SASL against a snapshot: who gets in, as what, and what the others are told.

mod fixture;

use std::net::IpAddr;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::limits::{SASL_MESSAGE_BYTES_MAX, SCRAM_NONCE_RANDOM_BYTES, SECRET_BYTES_MAX};
use model::scram::{Mechanism, ScramParams, client_proof};
use model::{Addresses, Login, SaslMechanism, SaslServer, SaslStep, Side, Snapshot, decoy_key};
use proptest::prelude::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const SCRAMS: [Mechanism; 2] = [Mechanism::Sha256, Mechanism::Sha512];

fn server(mechanism: SaslMechanism, snapshot: &Snapshot) -> SaslServer {
    SaslServer::new(mechanism, [5; SCRAM_NONCE_RANDOM_BYTES], decoy_key(snapshot))
}

/// As a row of a table. `app` is what a limiter would count.
fn say(step: SaslStep) -> String {
    match step {
        SaslStep::Challenge(_) => "challenge".to_owned(),
        SaslStep::Done { login, .. } => format!("{} {}", login.app(), login.side().as_str()),
        SaslStep::Failed { app, denied } => format!("{} {} [{app}]", denied.status(), denied.code()),
    }
}

fn plain(snapshot: &Snapshot, message: &[u8]) -> SaslStep {
    server(SaslMechanism::Plain, snapshot).step(message, snapshot)
}

/// A client's whole SCRAM, of which it can get every word wrong.
struct Client<'c> {
    mechanism: Mechanism,
    gs2_header: &'c str,
    user: &'c str,
    /// Behind the nonce of the first message.
    extensions: &'c str,
    secret: &'c str,
}

impl<'c> Client<'c> {
    fn new(mechanism: Mechanism, user: &'c str, secret: &'c str) -> Self {
        Self { mechanism, gs2_header: "n,,", user, extensions: "", secret }
    }

    fn first_bare(&self) -> String {
        format!("n={},r=clientnonce{}", self.user, self.extensions)
    }

    fn first(&self) -> Vec<u8> {
        format!("{}{}", self.gs2_header, self.first_bare()).into_bytes()
    }

    /// The last message, and the server's signature that must follow.
    fn last(&self, challenge: &[u8]) -> (Vec<u8>, String) {
        let (nonce, _) = read_challenge(std::str::from_utf8(challenge).unwrap());
        self.last_with(challenge, self.gs2_header, &nonce)
    }

    /// As `last`, of a client that repeats this header and this nonce and proves that it means them.
    fn last_with(&self, challenge: &[u8], gs2_header: &str, nonce: &str) -> (Vec<u8>, String) {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let (_, params) = read_challenge(challenge);
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(gs2_header));
        let auth_message = format!("{},{challenge},{without_proof}", self.first_bare());
        let (proof, signature) = client_proof(self.mechanism, self.secret.as_bytes(), &params, auth_message.as_bytes());
        let message = format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes();
        (message, format!("v={}", STANDARD.encode(signature)))
    }

    /// Up to the last message.
    fn begin(&self, snapshot: &Snapshot) -> (SaslServer, Vec<u8>) {
        let mut server = server(SaslMechanism::Scram(self.mechanism), snapshot);
        let SaslStep::Challenge(challenge) = server.step(&self.first(), snapshot) else { panic!("no challenge") };
        (server, challenge)
    }

    /// Logs in; the snapshot may have become another one before the last message.
    fn run(&self, before: &Snapshot, after: &Snapshot) -> SaslStep {
        let mut server = server(SaslMechanism::Scram(self.mechanism), before);
        let challenge = match server.step(&self.first(), before) {
            SaslStep::Challenge(challenge) => challenge,
            other => return other,
        };
        let (message, signature) = self.last(&challenge);
        let step = server.step(&message, after);
        if let SaslStep::Done { last, .. } = &step {
            assert_eq!(std::str::from_utf8(last).unwrap(), signature, "the server must prove itself, too");
        }
        step
    }
}

fn read_challenge(challenge: &str) -> (String, ScramParams) {
    let attributes: Vec<&str> = challenge.split(',').collect();
    let [nonce, salt, iterations] = attributes[..] else { panic!("{challenge}") };
    let salt = STANDARD.decode(salt.strip_prefix("s=").unwrap()).unwrap();
    let iterations = iterations.strip_prefix("i=").unwrap().parse().unwrap();
    (nonce.strip_prefix("r=").unwrap().to_owned(), ScramParams { salt, iterations })
}

fn login(step: SaslStep) -> Login {
    match step {
        SaslStep::Done { login, .. } => login,
        other => panic!("not logged in: {other:?}"),
    }
}

/// All three mechanisms must say the same.
fn everywhere(snapshot: &Snapshot, app: &str, secret: &str, expected: &str) {
    assert_eq!(say(plain(snapshot, format!("\0{app}\0{secret}").as_bytes())), expected, "PLAIN {app} {secret}");
    for mechanism in SCRAMS {
        let step = Client::new(mechanism, app, secret).run(snapshot, snapshot);
        assert_eq!(say(step), expected, "{mechanism:?} {app} {secret}");
    }
}

/// `shop` in the middle of a rotation of both sides; `ops` has one secret for both; `closed` is disabled.
fn rotating() -> model::SnapshotDoc {
    let mut doc = fixture::doc();
    doc.apps[0].publish.previous = Some(fixture::secret("shop-pub-old"));
    doc.apps[0].subscribe.previous = Some(fixture::secret("shop-sub-old"));
    doc.apps[2].subscribe.current = fixture::secret("ops-pub");
    doc
}

#[test]
fn a_live_secret_opens_its_own_side_of_its_own_app_by_every_mechanism() {
    let snapshot = Snapshot::build(rotating()).unwrap();
    let rows = [
        ("shop", "shop-pub", "shop publish"),
        ("shop", "shop-pub-old", "shop publish"),
        ("shop", "shop-sub", "shop subscribe"),
        ("shop", "shop-sub-old", "shop subscribe"),
        ("ops", "ops-pub", "ops publish"),
        ("shop", "audit-pub", "401 not_authenticated [shop]"),
        ("shop", "wrong", "401 not_authenticated [shop]"),
        ("Shop", "shop-pub", "401 not_authenticated [Shop]"),
        ("nobody", "shop-pub", "401 not_authenticated [nobody]"),
        ("closed", "closed-pub", "403 app_disabled [closed]"),
        ("closed", "closed-sub", "403 app_disabled [closed]"),
        ("closed", "wrong", "401 not_authenticated [closed]"),
    ];
    for (app, secret, expected) in rows {
        everywhere(&snapshot, app, secret, expected);
    }
    everywhere(&Snapshot::empty(), "shop", "shop-pub", "401 not_authenticated [shop]");
}

#[test]
fn an_identity_of_its_own_may_be_asked_for_and_no_other() {
    let snapshot = fixture::snapshot();
    let rows: [(&[u8], &str); 12] = [
        (b"shop\0shop\0shop-pub", "shop publish"),
        (b"audit\0shop\0shop-pub", "401 not_authenticated [shop]"),
        (b"shop\0\0shop-pub", "401 not_authenticated []"),
        (b"\0shop\0", "401 not_authenticated [shop]"),
        (b"\0\0", "401 not_authenticated []"),
        (b"\0a\nb\0x", "401 not_authenticated [a\u{fffd}b]"),
        (b"", "400 bad_credentials []"),
        (b"shop", "400 bad_credentials []"),
        (b"shop\0shop-pub", "400 bad_credentials []"),
        (b"\0shop\0shop-pub\0", "400 bad_credentials []"),
        (b"\0shop\0\xff\xfe", "400 bad_credentials []"),
        (b"n,,n=shop,r=x", "400 bad_credentials []"),
    ];
    for (message, expected) in rows {
        assert_eq!(say(plain(&snapshot, message)), expected, "{:?}", String::from_utf8_lossy(message));
    }

    let rows = [
        ("n,a=shop,", "shop", "", "shop publish"),
        ("y,,", "shop", "", "shop publish"),
        ("n,,", "shop", ",e=f,tokenauth=false", "shop publish"),
        ("n,a=audit,", "shop", "", "401 not_authenticated [shop]"),
        ("n,,", "shop=2Cx=3D", "", "401 not_authenticated [shop,x=]"),
        ("n,,", "shop=", "", "400 bad_credentials []"),
        ("n,,", "shop", ",tokenauth=true", "400 bad_credentials []"),
        ("p=tls-exporter,,", "shop", "", "400 bad_credentials []"),
        ("n,,m=x,", "shop", "", "400 bad_credentials []"),
        ("", "shop", "", "400 bad_credentials []"),
    ];
    for mechanism in SCRAMS {
        for (gs2_header, user, extensions, expected) in rows {
            let client = Client { mechanism, gs2_header, user, extensions, secret: "shop-pub" };
            assert_eq!(say(client.run(&snapshot, &snapshot)), expected, "{gs2_header}{user}{extensions}");
        }
    }
}

#[test]
fn what_is_too_long_is_refused_and_what_is_as_long_as_may_be_is_looked_at() {
    let snapshot = fixture::snapshot();
    let message = |secret_bytes: usize| format!("\0shop\0{}", "x".repeat(secret_bytes)).into_bytes();
    let longest = SASL_MESSAGE_BYTES_MAX - message(0).len();
    for (secret_bytes, expected) in [
        (SECRET_BYTES_MAX, "401 not_authenticated [shop]"),
        (longest, "401 not_authenticated [shop]"),
        (longest + 1, "400 bad_credentials []"),
    ] {
        assert_eq!(say(plain(&snapshot, &message(secret_bytes))), expected, "{secret_bytes}");
    }
    let name = "x".repeat(500);
    let expected = format!("401 not_authenticated [{}…]", "x".repeat(80));
    assert_eq!(say(Client::new(Mechanism::Sha256, &name, "x").run(&snapshot, &snapshot)), expected);
}

#[test]
fn an_app_that_is_not_there_is_answered_like_one_that_is() {
    let snapshot = fixture::snapshot();
    for mechanism in SCRAMS {
        let challenge = |user: &str| {
            let (_, challenge) = Client::new(mechanism, user, "x").begin(&snapshot);
            read_challenge(std::str::from_utf8(&challenge).unwrap())
        };
        let ((nonce, there), (other_nonce, not_there)) = (challenge("shop"), challenge("ship"));
        assert_eq!(nonce.len(), other_nonce.len());
        assert_eq!((there.salt.len(), there.iterations), (not_there.salt.len(), not_there.iterations));
        assert_eq!(challenge("ship"), (other_nonce, not_there.clone()), "asked twice, it says the same");
        assert_ne!(challenge("chip").1, not_there);

        let fail = |user: &str| match Client::new(mechanism, user, "wrong").run(&snapshot, &snapshot) {
            SaslStep::Failed { denied, .. } => denied,
            other => panic!("{other:?}"),
        };
        assert_eq!(fail("ship"), fail("shop"));
    }
}

#[test]
fn the_last_message_meets_the_snapshot_of_its_own_time() {
    let before = fixture::snapshot();
    let after = |change: fn(&mut model::SnapshotDoc)| {
        let mut doc = fixture::doc();
        doc.generation += 1;
        change(&mut doc);
        Snapshot::build(doc).unwrap()
    };
    let rows: [(Snapshot, &str); 6] = [
        (after(|_| ()), "shop publish"),
        (
            after(|doc| {
                let pair = &mut doc.apps[0].publish;
                pair.previous = Some(std::mem::replace(&mut pair.current, fixture::secret("new")));
            }),
            "shop publish",
        ),
        (after(|doc| doc.apps[0].publish.current = fixture::secret("new")), "401 not_authenticated [shop]"),
        (after(|doc| doc.apps[0].enabled = false), "403 app_disabled [shop]"),
        (after(|doc| doc.apps[0].scram.salt[3] ^= 1), "401 not_authenticated [shop]"),
        (after(|doc| doc.apps[0].scram.iterations += 1), "401 not_authenticated [shop]"),
    ];
    for mechanism in SCRAMS {
        let client = Client::new(mechanism, "shop", "shop-pub");
        for (after, expected) in &rows {
            assert_eq!(say(client.run(&before, after)), *expected);
        }
        let gone = Snapshot::empty();
        assert_eq!(say(client.run(&before, &gone)), "401 not_authenticated [shop]");
        assert_eq!(say(client.run(&gone, &before)), "401 not_authenticated [shop]", "made in between");
    }
}

#[test]
fn a_message_of_another_exchange_or_one_that_was_changed_fails() {
    let snapshot = fixture::snapshot();
    let client = Client::new(Mechanism::Sha256, "shop", "shop-pub");
    let (mut server, challenge) = client.begin(&snapshot);
    let (good, _) = client.last(&challenge);

    // Of another exchange: the server's nonce differs.
    let mut other = SaslServer::new(SaslMechanism::Scram(Mechanism::Sha256), [6; SCRAM_NONCE_RANDOM_BYTES], [0; 32]);
    other.step(&client.first(), &snapshot);
    assert_eq!(say(other.step(&good, &snapshot)), "401 not_authenticated [shop]");

    let (nonce, _) = read_challenge(std::str::from_utf8(&challenge).unwrap());
    for (gs2_header, nonce, expected) in [
        ("n,,", nonce.as_str(), "shop publish"),
        // librdkafka 2.0.2 and 2.3.0 say their own part twice.
        ("n,,", &format!("clientnonce{nonce}"), "shop publish"),
        // It said y or asked for an identity, and somebody on the way has changed that.
        ("y,,", &nonce, "401 not_authenticated [shop]"),
        ("n,a=shop,", &nonce, "401 not_authenticated [shop]"),
        ("", &nonce, "401 not_authenticated [shop]"),
        ("n,,", "clientnonce", "401 not_authenticated [shop]"),
        ("n,,", &format!("{nonce}x"), "401 not_authenticated [shop]"),
    ] {
        let (message, _) = client.last_with(&challenge, gs2_header, nonce);
        assert_eq!(say(client.begin(&snapshot).0.step(&message, &snapshot)), expected, "{gs2_header} {nonce}");
    }

    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let step = client.begin(&snapshot).0.step(&bad, &snapshot);
            assert!(matches!(step, SaslStep::Failed { .. }), "byte {at} bit {bit}: {step:?}");
        }
        let step = client.begin(&snapshot).0.step(&good[..at], &snapshot);
        assert!(matches!(step, SaslStep::Failed { .. }), "cut at {at}: {step:?}");
    }
    assert_eq!(say(server.step(&good, &snapshot)), "shop publish");
    assert_eq!(say(server.step(&good, &snapshot)), "400 bad_credentials [shop]", "an exchange is over once");
}

#[test]
fn a_failed_exchange_stays_failed() {
    let snapshot = fixture::snapshot();
    let good = b"\0shop\0shop-pub";
    let mut server = server(SaslMechanism::Plain, &snapshot);
    assert_eq!(say(server.step(b"\0shop\0wrong", &snapshot)), "401 not_authenticated [shop]");
    assert_eq!(say(server.step(good, &snapshot)), "400 bad_credentials [shop]");

    let client = Client::new(Mechanism::Sha512, "shop", "shop-pub");
    let (mut server, challenge) = client.begin(&snapshot);
    server.step(b"", &snapshot);
    assert_eq!(say(server.step(&client.last(&challenge).0, &snapshot)), "400 bad_credentials [shop]");
}

#[test]
fn a_first_message_that_is_cut_logs_nobody_in() {
    let snapshot = fixture::snapshot();
    let first = Client::new(Mechanism::Sha256, "shop", "shop-pub").first();
    let good = b"shop\0shop\0shop-pub";
    for at in 0..good.len() {
        let step = plain(&snapshot, &good[..at]);
        assert!(matches!(step, SaslStep::Failed { .. }), "cut at {at}: {step:?}");
    }
    let nonce_at = first.windows(3).position(|part| part == b",r=").unwrap() + 4;
    for at in 0..=first.len() {
        let step = server(SaslMechanism::Scram(Mechanism::Sha256), &snapshot).step(&first[..at], &snapshot);
        assert_eq!(matches!(step, SaslStep::Challenge(_)), at >= nonce_at, "cut at {at}: {step:?}");
    }
}

/// One for all cases: its secrets take a while to make.
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(fixture::snapshot);

/// Messages that come close, so that the end of the grammar is reached, too.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let nonce = format!("clientnonce{}", STANDARD.encode([5; SCRAM_NONCE_RANDOM_BYTES]));
    let first = "(n|y|p=x|F,n|),?(a=)?[a-z=,]{0,4},(m=|n=)?(shop|[a-zé=,0-9C]{0,8}),(r=)?[ -~]{0,9}(,[a-z]=[^,]?)?";
    let last =
        format!("c=(biws|[a-z]{{0,5}}),r=({nonce})?[a-z]?(,[a-z=]{{0,4}})?(,p=)?([A-Za-z]{{43}}=|[A-Z=]{{0,9}})");
    let last = proptest::string::string_regex(&last).expect("a regular expression");
    let message = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(Client::new(Mechanism::Sha256, "shop", "").first()),
        first.prop_map(String::into_bytes),
        last.prop_map(String::into_bytes),
    ];
    prop::collection::vec(message, 0..4)
}

proptest! {
    #[test]
    fn any_bytes_are_answered_and_log_nobody_in(messages in messages()) {
        for mechanism in SaslMechanism::ALL {
            let mut server = server(mechanism, &SNAPSHOT);
            for message in &messages {
                let step = server.step(message, &SNAPSHOT);
                prop_assert!(!matches!(step, SaslStep::Done { .. }), "{:?}", step);
            }
        }
    }
}

#[test]
fn a_login_is_asked_again_at_every_snapshot() {
    let login = login(plain(&fixture::snapshot(), b"\0shop\0shop-sub"));
    assert_eq!((login.app().as_str(), login.app_index(), login.side()), ("shop", 1, Side::Subscribe));
    let under = |change: fn(&mut model::SnapshotDoc)| {
        let mut doc = fixture::doc();
        change(&mut doc);
        match login.check(&Snapshot::build(doc).unwrap(), HERE) {
            Ok(app) => format!("ok {}", app.id),
            Err(denied) => denied.code().to_owned(),
        }
    };
    assert_eq!(under(|_| ()), "ok shop");
    let rotate = |doc: &mut model::SnapshotDoc| {
        let pair = &mut doc.apps[0].subscribe;
        pair.previous = Some(std::mem::replace(&mut pair.current, fixture::secret("new")));
    };
    assert_eq!(under(rotate), "ok shop");
    assert_eq!(under(|doc| doc.apps[0].subscribe.current = fixture::secret("new")), "not_authenticated");
    // Live, but of the other side only.
    let moved = |doc: &mut model::SnapshotDoc| {
        doc.apps[0].publish.current = fixture::secret("shop-sub");
        doc.apps[0].subscribe.current = fixture::secret("new");
    };
    assert_eq!(under(moved), "not_authenticated");
    assert_eq!(under(|doc| doc.apps[0].publish.current = fixture::secret("new")), "ok shop");
    assert_eq!(under(|doc| doc.apps[0].index = 99), "not_authenticated");
    assert_eq!(under(|doc| doc.apps[0].enabled = false), "app_disabled");
    assert_eq!(under(|doc| doc.apps[0].addresses = Addresses::parse("10.0.0.0/24").unwrap()), "ok shop");
    assert_eq!(under(|doc| doc.apps[0].addresses = Addresses::parse("10.9.0.0/24").unwrap()), "address_not_allowed");
    assert!(login.check(&Snapshot::empty(), HERE).is_err());

    // Who is not known is told nothing of addresses, nor of the app's being disabled.
    let revoked = |doc: &mut model::SnapshotDoc| {
        doc.apps[0].subscribe.current = fixture::secret("new");
        doc.apps[0].enabled = false;
        doc.apps[0].addresses = Addresses::parse("10.9.0.0/24").unwrap();
    };
    assert_eq!(under(revoked), "not_authenticated");
}

#[test]
fn a_session_goes_on_as_the_same_app_on_the_same_side_only() {
    let snapshot = Snapshot::build(rotating()).unwrap();
    let of = |app: &str, secret: &str| login(plain(&snapshot, format!("\0{app}\0{secret}").as_bytes()));
    let before = of("shop", "shop-pub-old");
    for (app, secret, expected) in [
        ("shop", "shop-pub-old", true),
        ("shop", "shop-pub", true),
        ("shop", "shop-sub", false),
        ("audit", "audit-pub", false),
    ] {
        assert_eq!(of(app, secret).may_follow(&before), expected, "{app} {secret}");
    }
    let mut remade = rotating();
    remade.apps[0].index = 99;
    let remade = login(plain(&Snapshot::build(remade).unwrap(), b"\0shop\0shop-pub"));
    assert!(!remade.may_follow(&before), "another app of the same name");
}

#[test]
fn mechanisms_are_known_by_the_names_of_kafka() {
    let names: Vec<&str> = SaslMechanism::ALL.iter().map(|mechanism| mechanism.name()).collect();
    assert_eq!(names, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    for mechanism in SaslMechanism::ALL {
        assert_eq!(SaslMechanism::parse(mechanism.name()), Some(mechanism));
    }
    for other in ["", "plain", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "GSSAPI", "OAUTHBEARER"] {
        assert_eq!(SaslMechanism::parse(other), None, "{other}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let snapshot = fixture::snapshot();
    let mut printed = String::new();
    for message in
        [&b"\0shop\0shop-pub"[..], b"\0closed\0closed-pub", b"\0shop\0shop-pub\0", b"shop-pub\0shop\0shop-pub"]
    {
        let mut server = server(SaslMechanism::Plain, &snapshot);
        let step = server.step(message, &snapshot);
        printed += &format!("{server:?} {step:?}\n");
    }
    for mechanism in SCRAMS {
        let client = Client::new(mechanism, "shop", "shop-pub");
        let (mut server, challenge) = client.begin(&snapshot);
        printed += &format!("{server:?}\n");
        let step = server.step(&client.last(&challenge).0, &snapshot);
        printed += &format!("{server:?} {step:?} {:?}\n", login(step.clone()));
    }
    let stored = fixture::secret("shop-pub");
    let of_hash = |bytes: &[u8]| format!("{bytes:?}");
    for secret in
        ["shop-pub", "closed-pub", &stored.sha256.to_hex(), of_hash(stored.sha256.as_bytes()).trim_matches(['[', ']'])]
    {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
    assert!(printed.contains("shop"));
}

//! What of each name a client may use, with each of the two secrets, in each API, comes to a broker and back, as one table that
//! a person can read: data/tenant_isolation.md. `UPDATE_EXPECT=1` rewrites it.
//!
//! Over every row it is also checked here: another tenant's id is in nothing that leaves for the broker but behind the app's
//! own, and in nothing that leaves for the client that the client did not say itself; and where a broker lists things, it lists
//! a stranger's among them.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::fmt::Write;

use common::tenant::*;
use expect_test::expect_file;
use kafka_wire::pieces::text;
use kafka_wire::{ApiKey, header};
use model::Side;
use router::requests::RequestError;
use router::tenant::fill::elements_of;
use router::tenant::found::{NO_ID, find};
use router::tenant::rename::{Called, id};
use router::tenant::requests::Turn;
use router::tenant::rules::{self, RULES, Rule, Way};

/// Something a client may say.
struct Row {
    what: &'static str,
    topics: Vec<Called>,
    owned: Option<String>,
    key_type: i8,
    is_about_all: bool,
}

fn row(what: &'static str) -> Row {
    Row { what, topics: vec![called("orders.v1")], owned: Some("g".to_owned()), key_type: 0, is_about_all: false }
}

fn names() -> Vec<Row> {
    let vault = physical("zorro", "vault.v10");
    let rows = [
        ("own", "orders.v1"),
        ("own, with a checksum in Kafka", "orders.v10"),
        ("granted", "friend.prices.v1"),
        ("not granted", "friend.hidden.v1"),
        ("foreign", "zorro.secret.v1"),
        ("foreign, as Kafka has it", &vault),
        ("not there", "nothing.v9"),
        ("on another cluster", "away.v1"),
        ("disabled", "off.v1"),
        ("own, as Kafka has it", "app1.orders.v1"),
        ("a shadow topic", "orders.v1.app1.g.retry"),
        ("Kafka's own", "__consumer_offsets"),
        ("empty", ""),
    ];
    let mut rows: Vec<Row> =
        rows.into_iter().map(|(what, name)| Row { topics: vec![called(name)], ..row(what) }).collect();
    let mixed = ["zorro.secret.v1", "orders.v1", "friend.prices.v1", "off.v1"].map(called).into();
    rows.push(Row { topics: mixed, ..row("some of these") });
    rows
}

fn ids_said() -> Vec<Row> {
    let rows = [
        ("own id", vec![ID_ORDERS]),
        ("granted id", vec![ID_PRICES]),
        ("not granted id", vec![ID_HIDDEN]),
        ("foreign id", vec![ID_SECRET]),
        ("id of what looks granted", vec![ID_LOOKS_GRANTED]),
        ("unknown id", vec![ID_UNKNOWN]),
        ("some of these", vec![ID_SECRET, ID_ORDERS, ID_UNKNOWN, ID_PRICES]),
    ];
    rows.into_iter().map(|(what, ids)| Row { topics: ids.into_iter().map(Called::Id).collect(), ..row(what) }).collect()
}

fn owned_said() -> Vec<Row> {
    let said = |what, name: &str| Row { owned: Some(name.to_owned()), ..row(what) };
    vec![
        said("own group or transaction", "g"),
        said("another tenant's", "zorro.g"),
        said("with the app's own id", "app1.g"),
        said("nameless", ""),
        said("as long as can be", &"g".repeat(32_767)),
    ]
}

/// What is said in an API of this version.
fn said(rule: &Rule, version: i16) -> Vec<Row> {
    let mut rows = Vec::new();
    let array = rule.request.topics.first();
    let inner = array.and_then(|topics| elements_of(rule.request.shape.fields, topics.array, version));
    let has = |name: &str| {
        inner.is_some_and(|fields| {
            fields.iter().any(|field| field.name == name && (field.since..=field.until).contains(&version))
        })
    };
    let names_inside = [ApiKey::ConsumerGroupHeartbeat, ApiKey::JoinGroup, ApiKey::SyncGroup].contains(&rule.key);
    if names_inside || array.is_some_and(|topics| has(topics.name)) {
        rows.extend(names());
    }
    if has("topic_id") {
        rows.extend(ids_said());
    }
    if matches!((rule.key, version), (ApiKey::Metadata, 1..) | (ApiKey::OffsetFetch, 2..)) {
        rows.push(Row { is_about_all: true, ..row("all topics") });
    }
    if !rule.request.owned.is_empty() {
        let by_id = has("topic_id") && !array.is_some_and(|topics| has(topics.name));
        let topics = if by_id { vec![Called::Id(ID_ORDERS)] } else { vec![called("orders.v1")] };
        rows.extend(owned_said().into_iter().map(|row| Row { topics: topics.clone(), ..row }));
    }
    if matches!(rule.key, ApiKey::InitProducerId | ApiKey::Produce) {
        rows.push(Row { owned: None, ..row("no transaction") });
    }
    if rule.key == ApiKey::FindCoordinator {
        rows.extend(owned_said().into_iter().map(|row| Row { key_type: 1, ..row }));
        rows.push(Row { key_type: 2, ..row("a kind of Kafka's own") });
    }
    if rows.is_empty() {
        rows.push(row("nothing"));
    }
    rows
}

/// Lists in which brokers could tell of others.
const LISTS: [ApiKey; 7] = [
    ApiKey::Metadata,
    ApiKey::OffsetFetch,
    ApiKey::ListGroups,
    ApiKey::DescribeGroups,
    ApiKey::DeleteGroups,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::FindCoordinator,
];

/// What of a body is said in the app's own name may hold anything.
fn has_of_others(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).replace("app1.zorro", "");
    let has_id = [ID_SECRET, ID_HIDDEN, ID_LOOKS_GRANTED].iter().any(|id| bytes.windows(16).any(|window| window == id));
    has_id || text.contains("zorro") || text.contains("quagga") || text.contains("friend.hidden")
}

/// One row with one secret: what the broker hears, and what the client does.
fn outcome(rule: &'static Rule, version: i16, side: Side, row: &Row) -> String {
    let mut client = Client::new(side);
    let owned: Vec<&str> = row.owned.as_deref().into_iter().collect();
    let spoken = Spoken {
        topics: if row.is_about_all { &[] } else { &row.topics },
        owned: &owned,
        key_type: row.key_type,
        is_about_all: row.is_about_all,
        error: 0,
    };
    let frame = request(rule.key, version, 7, &spoken.body(&rule.request, version));
    let out = match client.send(&frame, usize::MAX) {
        Ok((out, Turn::Bytes)) => out,
        Ok((_, turn)) => return format!("{turn:?}"),
        Err(err) => return format!("ends: {}", err.reason()),
    };
    let what = format!("{} v{version} {side:?}: {}", rule.key, row.what);
    let mut says = String::new();
    let mut bytes = Vec::new();
    if let [frame] = &frames(&out)[..] {
        assert!(!has_of_others(frame), "{what}: {frame:?} reaches the broker");
        let (_, body) = request_body(frame.clone());
        write!(says, "{} → ", listed(&heard(&rule.request, version, &body))).unwrap();
        bytes = broker_says(rule, version, &body, row);
    }
    let out = client.receive(&bytes, usize::MAX).unwrap_or_else(|err| panic!("{what}: {err}"));
    let [frame] = &frames(&out)[..] else { panic!("{what}: {} answers", frames(&out).len()) };
    let is_said = row.owned.as_ref().is_some_and(|name| name.contains("zorro"))
        || row.topics.iter().any(|topic| match topic {
            Called::Name(name) => has_of_others(name),
            Called::Id(_) => false,
        });
    let text = String::from_utf8_lossy(frame);
    assert!(!text.contains("quagga") && !text.contains("internal"), "{what}: {text} reaches the client");
    assert!(is_said || !text.contains("zorro"), "{what}: {text} reaches the client");
    let (_, body) = answer_body(rule.key, version, frame.clone());
    says + &listed(&heard(&rule.response, version, &body))
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "–".to_owned() } else { words.join(" ") }
}

/// A broker answers what it was asked, and where it makes a list, of strangers, too.
fn broker_says(rule: &'static Rule, version: i16, body: &[u8], row: &Row) -> Vec<u8> {
    let found = find(&rule.request, version, body).expect("a request");
    let flexible = version >= rule.request.shape.flexible_from;
    let asked = found.arrays.iter().flat_map(|array| array.found.iter().map(move |topic| (array, topic)));
    let asked = asked.filter(|(array, _)| array.topics.is_answered);
    let mut topics: Vec<Called> = asked
        .map(|(_, topic)| match id(body, topic).filter(|id| *id != NO_ID) {
            Some(ID_ORDERS) if rule.key == ApiKey::Metadata => called("app1.orders.v1"),
            Some(ID_PRICES) if rule.key == ApiKey::Metadata => called("friend.prices.v1"),
            Some(id) => Called::Id(id),
            None => called(text(&body[topic.name.clone()], flexible).expect("a name")),
        })
        .collect();
    let mut owned: Vec<&str> = found.owned.iter().filter_map(|range| text(&body[range.clone()], flexible)).collect();
    if rule.key == ApiKey::ListGroups {
        owned.push("app1.g");
    }
    if rule.way == Way::Whole && found.arrays.is_empty() && topics.is_empty() {
        // What members of its group say.
        topics = ["app1.orders.v1", "friend.prices.v1"].map(called).into();
    }
    let by_id = version >= 10 && rule.key == ApiKey::OffsetFetch;
    if row.is_about_all {
        topics = if by_id { vec![Called::Id(ID_ORDERS)] } else { vec![called("app1.orders.v1")] };
    }
    if LISTS.contains(&rule.key) {
        topics.extend(if by_id {
            vec![Called::Id(ID_SECRET)]
        } else {
            ["zorro.secret.v1", "quagga.x.v1"].map(called).into()
        });
        if matches!(rule.key, ApiKey::DescribeGroups | ApiKey::ConsumerGroupDescribe) {
            // Members of its own groups have said these themselves.
            topics.truncate(2);
        }
        owned.extend(["quagga.g", "zorro.h"]);
    }
    let spoken = Spoken { topics: &topics, owned: &owned, ..Spoken::default() };
    let mut body = spoken.body(&rule.response, version);
    if rule.key == ApiKey::FindCoordinator && version < 4 {
        body = Spoken::default().body(&rule.response, version);
    }
    answer(rule.key, version, 7, &body).to_vec()
}

/// The newest version, and the newest that names topics where that is another one.
fn versions(rule: &Rule) -> Vec<i16> {
    let Some(topics) = rule.request.topics.first() else { return vec![rule.version_max] };
    let named = |version: &i16| {
        let fields = elements_of(rule.request.shape.fields, topics.array, *version).unwrap_or_default();
        fields.iter().any(|field| field.name == topics.name && (field.since..=field.until).contains(version))
    };
    let mut versions: Vec<i16> = (rule.version_min..=rule.version_max).rev().find(named).into_iter().collect();
    versions.push(rule.version_max);
    versions.dedup();
    versions
}

#[test]
fn nothing_of_others_reaches_a_broker_or_a_client() {
    let mut page = String::from(
        "# What of each name comes to the broker, and back\n\n\
         Written by `UPDATE_EXPECT=1 cargo test -p router --test tenant_isolation`. The app is `app1`; it has a grant for the\n\
         topics `prices` of `friend`. A cell reads: what the broker hears → what the client does; with one part, the proxy\n\
         answered. Names, ids (by their first byte) and error codes are in the order of the message, `{}` is what consumers\n\
         tell each other. Brokers list strangers' topics and groups wherever they list any.\n",
    );
    for rule in RULES.iter().filter(|rule| rule.way != Way::Local) {
        for version in versions(rule) {
            write!(page, "\n## {} v{version}\n\n| Said | Pubkey | Subkey |\n|---|---|---|\n", rule.key.name()).unwrap();
            for row in said(rule, version) {
                let [publish, subscribe] =
                    [Side::Publish, Side::Subscribe].map(|side| outcome(rule, version, side, &row));
                let kind = ["", ", of a transaction", ""][row.key_type as usize];
                writeln!(page, "| {}{kind} | {publish} | {subscribe} |", row.what).unwrap();
            }
        }
    }
    expect_file!["data/tenant_isolation.md"].assert_eq(&page);
}

#[test]
fn an_api_or_version_that_is_not_on_the_list_ends_the_connection() {
    let mut tried = 0;
    for key in -2..=200_i16 {
        let rule = rules::of(key);
        for version in -2..=25_i16 {
            let is_on = rule.is_some_and(|rule| rule.has_version(version));
            let asks_versions = key == ApiKey::ApiVersions.key() && version >= 0;
            if is_on || asks_versions {
                continue;
            }
            let mut frame = vec![0, 0, 0, 60];
            frame.extend(key.to_be_bytes());
            frame.extend(version.to_be_bytes());
            frame.extend([0; 56]);
            for side in [Side::Publish, Side::Subscribe] {
                let found = Client::new(side).send(&frame, usize::MAX).expect_err("not offered");
                assert_eq!(found, RequestError::NotOffered { key, version });
            }
            tried += 1;
        }
    }
    assert!(tried > 5_000);
}

#[test]
fn a_version_that_this_broker_does_not_have_ends_the_connection() {
    use bytes::{BufMut, BytesMut};
    // A broker with Metadata 5 to 7 and nothing else.
    let mut body = BytesMut::from(&[0, 0, 0, 0, 0, 1][..]);
    [3, 5, 7].iter().for_each(|number| body.put_i16(*number));
    let offered = router::tenant::versions::Offered::read(0, &body.freeze()).expect("an ApiVersions answer");
    for version in 0..=13 {
        let mut client = Client::new(Side::Subscribe);
        client.offered = std::sync::Arc::new(offered.clone());
        let rule = rules::of(3).expect("Metadata");
        let frame = request(ApiKey::Metadata, version, 1, &Spoken::default().body(&rule.request, version));
        assert_eq!(client.send(&frame, usize::MAX).is_ok(), (5..=7).contains(&version), "v{version}");
    }
}

#[test]
fn the_header_of_a_request_passes_as_it_was() {
    let rule = rules::of(ApiKey::Metadata.key()).expect("Metadata");
    for version in [0, 8, 9, 13] {
        let mut client = Client::new(Side::Subscribe);
        let frame = request(
            ApiKey::Metadata,
            version,
            4711,
            &Spoken { topics: &[called("orders.v1")], ..Spoken::default() }.body(&rule.request, version),
        );
        let (out, _) = client.send(&frame, usize::MAX).expect("a request");
        let head = header::decode_request_header(&mut frames(&out)[0].clone()).expect("a header");
        assert_eq!((head.api_key, head.api_version, head.correlation_id), (3, version, 4711));
        assert_eq!(head.client_id_str(), "client-7");
    }
}

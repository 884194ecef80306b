//! What the fuzz targets `tenant_requests`, `tenant_answers`, `tenant_door` and `consumer_protocol` check, for them and for the
//! tests that replay their seeds.
//!
//! Whatever a client or a broker sends: no panic, the same comes out whatever pieces it arrives in, and a broker hears no name
//! but those that app1 may use.

use std::sync::OnceLock;

use bytes::Bytes;
use kafka_wire::pieces::text;
use kafka_wire::shape::walk;
use kafka_wire::shapes::consumer_protocol::{ASSIGNMENT, SUBSCRIPTION};
use kafka_wire::{ApiKey, ErrorCode, frame};
use model::Side;
use router::in_flight::Asked;
use router::tenant::door::{Door, Step};
use router::tenant::found::{NO_ID, TopicId, find};
use router::tenant::messages::consumer_protocol::{Way as To, assignment, subscription};
use router::tenant::rename::{Called, InGroup, Refused, id};
use router::tenant::requests::{Turn, read_head, versions};
use router::tenant::rules::{self, RULES, Rule, Way};

use super::tenant::*;

/// What leaves for the broker and what was answered here, up to the first error; why it ended; records that were counted.
#[derive(Debug, PartialEq)]
struct Asking {
    sent: Vec<u8>,
    answers: Vec<(i32, Option<Bytes>)>,
    end: Option<String>,
    counted: u64,
}

fn side(byte: u8) -> Side {
    if byte & 1 == 0 { Side::Publish } else { Side::Subscribe }
}

fn ask(side: Side, data: &[u8], piece_bytes: usize) -> Asking {
    let mut client = Client::new(side);
    let (mut sent, mut end) = (Vec::new(), None);
    for piece in data.chunks(piece_bytes) {
        client.from_client.extend_from_slice(piece);
        match client.pass_requests(&mut sent) {
            Ok(Turn::Bytes) => continue,
            Ok(turn) => end = Some(format!("{turn:?}")),
            Err(err) => end = Some(err.reason().to_owned()),
        }
        break;
    }
    let mut answers = Vec::new();
    while client.in_flight.front().is_some() {
        let answer = client.in_flight.take_answer();
        answers.push((client.in_flight.pop().expect("looked at").correlation_id, answer));
    }
    let counted = client.told.used.iter().map(|(_, messages, _)| messages).sum();
    Asking { sent: sent.concat(), answers, end, counted }
}

/// Which secret, then a client's bytes.
pub fn check_tenant_requests(data: &[u8]) {
    let [first, bytes @ ..] = data else { return };
    let side = side(*first);
    let whole = ask(side, bytes, bytes.len().max(1));
    for piece_bytes in [1, 3, 64] {
        let pieces = ask(side, bytes, piece_bytes);
        // A Produce that turns out to be broken may have left in part by then; what its broker makes of it is not looked at.
        if whole.end.is_none() {
            assert_eq!(pieces, whole, "in pieces of {piece_bytes}");
        }
    }
    check_sent(&whole.sent);
}

/// Every name in whole frames is one that app1 may use.
fn check_sent(mut sent: &[u8]) {
    while let Some((length, rest)) = sent.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length) as usize;
        let Some(frame) = rest.get(..length) else { return };
        sent = &rest[length..];
        let (key, version) = (i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]]));
        let rule = rules::of(key).expect("only what has a rule goes to a broker");
        let (_, body) = request_body(Bytes::copy_from_slice(frame));
        check_names(rule, version, &body);
    }
}

fn may_name(name: &str) -> bool {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let own = ["orders.v1", "orders.v10", "capped.v1", "capped.v2"].map(|topic| physical("app1", topic));
        let granted = ["prices.v1", "prices.v10"].map(|topic| physical("friend", topic));
        own.into_iter().chain(granted).collect()
    });
    // What stands for no topic is none that there can be.
    name == "app1./" || names.iter().any(|known| known == name)
}

const IDS: [TopicId; 5] = [ID_ORDERS, ID_ORDERS_10, ID_CAPPED, ID_CAPPED_2, ID_PRICES];

fn check_names(rule: &'static Rule, version: i16, body: &[u8]) {
    let flexible = version >= rule.request.shape.flexible_from;
    let found = find(&rule.request, version, body).expect("what is sent can be read");
    for topic in found.arrays.iter().flat_map(|array| &array.found) {
        match id(body, topic).filter(|id| *id != NO_ID) {
            Some(id) => assert!(IDS.contains(&id), "{} v{version} names {id:?}", rule.key),
            None => {
                let name = text(&body[topic.name.clone()], flexible).expect("a name");
                assert!(may_name(name), "{} v{version} names {name}", rule.key);
            }
        }
    }
    for range in &found.owned {
        let field = &body[range.clone()];
        let is_null = if flexible { field[0] == 0 } else { field[0] == 0xff };
        let is_own = text(field, flexible).is_some_and(|name| name.starts_with("app1."));
        assert!(is_null || is_own, "{} v{version} names {field:?}", rule.key);
    }
    for range in &found.off {
        assert_eq!(body[range.clone()], [0], "{} v{version} asks for more than it may", rule.key);
    }
}

fn receive(
    asked: &[(&'static Rule, i16, u8)],
    side: Side,
    bytes: &[u8],
    piece_bytes: usize,
) -> (Vec<u8>, Option<String>) {
    let mut client = Client::new(side);
    client.told.throttle_ms = 7;
    for (at, (rule, version, refused)) in asked.iter().enumerate() {
        let of = |at: u8| Refused {
            group: (at & 4 > 0).then(|| InGroup { name: "app1.g".into(), nth: u32::from(at & 1) }),
            called: if at & 1 == 0 { called("zorro.secret.v1") } else { Called::Id(ID_SECRET) },
            partitions: vec![i32::from(at); usize::from(at & 3)],
            error: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        };
        let refused: Vec<Refused> = (0..refused & 7).map(of).collect();
        let asked = Asked { refused, is_consumer: at == 0, ..Asked::default() };
        client.expect(rule.key, *version, at as i32, asked);
    }
    let mut out = Vec::new();
    for piece in bytes.chunks(piece_bytes) {
        client.from_broker.extend_from_slice(piece);
        if let Err(err) = client.pass_answers(&mut out) {
            return (out.concat(), Some(err.reason().to_owned()));
        }
    }
    (out.concat(), None)
}

/// Which secret, two requests (API, version and how much of them was refused), then a broker's bytes.
pub fn check_tenant_answers(data: &[u8]) {
    let [first, api, version, refused, next_api, next_version, next_refused, bytes @ ..] = data else { return };
    let of = |api: u8, version: u8, refused: u8| {
        let rules: Vec<&'static Rule> = RULES.iter().filter(|rule| rule.way != Way::Local).collect();
        let rule = rules[usize::from(api) % rules.len()];
        let versions = rule.version_max - rule.version_min + 1;
        (rule, rule.version_min + i16::from(version) % versions, refused)
    };
    let asked = [of(*api, *version, *refused), of(*next_api, *next_version, *next_refused)];
    let side = side(*first);
    let whole = receive(&asked, side, bytes, bytes.len().max(1));
    for piece_bytes in [1, 3, 64] {
        let pieces = receive(&asked, side, bytes, piece_bytes);
        assert_eq!(pieces.1, whole.1, "in pieces of {piece_bytes}");
        if whole.1.is_none() {
            assert_eq!(pieces.0, whole.0, "in pieces of {piece_bytes}");
        }
    }
    check_received(&asked, &whole.0);
}

/// What came whole can be read, and lists nobody else's.
fn check_received(asked: &[(&'static Rule, i16, u8)], mut out: &[u8]) {
    for (rule, version, _) in asked {
        let Some((length, rest)) = out.split_first_chunk::<4>() else { return };
        let length = i32::from_be_bytes(*length) as usize;
        let Some(frame) = rest.get(..length) else { return };
        out = &rest[length..];
        let is_list = matches!(rule.key, ApiKey::Metadata | ApiKey::OffsetFetch);
        if rule.way != Way::Whole {
            continue;
        }
        let (_, body) = answer_body(rule.key, *version, Bytes::copy_from_slice(frame));
        let found = find(&rule.response, *version, &body).expect("what was renamed can be read");
        let flexible = *version >= rule.response.shape.flexible_from;
        for topic in
            found.arrays.iter().flat_map(|array| &array.found).filter(|topic| is_list && !topic.name.is_empty())
        {
            let name = text(&body[topic.name.clone()], flexible).unwrap_or_default();
            let own = ["orders.v1", "orders.v10", "capped.v1", "capped.v2", "friend.prices.v1", "friend.prices.v10"];
            assert!(name.is_empty() || name == "zorro.secret.v1" || own.contains(&name), "{} lists {name}", rule.key);
        }
    }
}

/// What somebody sends before a login.
pub fn check_tenant_door(mut data: &[u8]) {
    static OFFERED: OnceLock<router::tenant::versions::Offered> = OnceLock::new();
    let offered = OFFERED.get_or_init(offers_all);
    let (mut door, mut told) = (Door::default(), Told::default());
    while let Some(length) = data.first_chunk::<4>() {
        let Ok(length) = frame::check_length(*length, router::limits::STRANGER_REQUEST_BYTES_MAX) else { return };
        let Some(frame) = data.get(..4 + length) else { return };
        data = &data[4 + length..];
        let Ok(head) = read_head(&frame[4..], length, offered) else { return };
        if head.rule.way != Way::Local {
            return;
        }
        let frame = Bytes::copy_from_slice(frame);
        let answer = match head.rule.key {
            ApiKey::ApiVersions => versions(&head, &frame, offered, CLUSTER, Some(2), &mut told),
            _ => match door.step(&head, &frame, &snapshot(), || [3; 18]) {
                Ok(Step::Answer(answer)) => Ok(answer),
                Ok(Step::Proved { login, last }) => {
                    assert_eq!(login.app().as_str(), "app1", "only its secret is in a seed");
                    Ok(router::tenant::door::welcome(head.version, head.correlation_id, &last))
                }
                Ok(Step::Failed { denied, .. }) => {
                    Ok(router::tenant::door::refuse(head.version, head.correlation_id, &denied.to_string()))
                }
                Err(err) => Err(err.into()),
            },
        };
        let Ok(answer) = answer else { return };
        assert_eq!(answer.len() - 4, i32::from_be_bytes(answer[..4].try_into().expect("a length")) as usize);
        assert_eq!(answer[4..8], head.correlation_id.to_be_bytes());
    }
}

/// What members of a group say to each other: once to Kafka and back.
pub fn check_consumer_protocol(data: &[u8]) {
    let session = session_of_readers();
    let tenant = session.tenant();
    let mut field = (data.len() as i32).to_be_bytes().to_vec();
    field.extend_from_slice(data);
    let all = 0..field.len();
    type Translate = fn(&[u8], &std::ops::Range<usize>, bool, &model::tenant::Tenant<'_>, To) -> Option<Vec<u8>>;
    let ways: [(&'static kafka_wire::shape::Shape, Translate); 2] = [
        (&SUBSCRIPTION, |field, all, flexible, tenant, way| {
            let mut edits = Default::default();
            subscription(field, all, flexible, tenant, way, &mut edits);
            (!edits.is_empty()).then(|| edits.apply_within(field).to_vec())
        }),
        (&ASSIGNMENT, |field, all, flexible, tenant, way| {
            let mut edits = Default::default();
            assignment(field, all, flexible, tenant, way, &mut edits);
            (!edits.is_empty()).then(|| edits.apply_within(field).to_vec())
        }),
    ];
    for (shape, translate) in ways {
        let Some(meant) = translate(&field, &all, false, &tenant, To::ToKafka) else { continue };
        let body = &meant[6..];
        let version = i16::from_be_bytes([meant[4], meant[5]]).min(shape.versions.1);
        let used = walk(shape, version, body, |visit| {
            if matches!(visit.kind, kafka_wire::shape::Kind::String) && visit.field.name.starts_with("topic") {
                let name = text(&body[visit.range.clone()], false).expect("a name");
                assert!(may_name(name), "{} names {name}", shape.name);
            }
        });
        used.expect("what was translated can be read");
        let back = translate(&meant, &(0..meant.len()), false, &tenant, To::ToClient).unwrap_or_else(|| meant.clone());
        let again = translate(&back, &(0..back.len()), false, &tenant, To::ToKafka).unwrap_or_else(|| back.clone());
        assert_eq!(again, meant, "there and back is not the same");
    }
}

fn session_of_readers() -> &'static router::tenant::session::Session {
    static SESSION: OnceLock<router::tenant::session::Session> = OnceLock::new();
    SESSION.get_or_init(|| session("app1", Side::Subscribe))
}

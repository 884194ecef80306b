//! How messages are made, what is expected of them, and the comparison.

pub use crate::common::tenant::*;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::ApiKey;
use model::Side;
use router::tenant::found::TopicId;
use router::tenant::rules::{self, Need};

pub const FRAMES_PER_VERSION: u64 = 200;

pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// The type that kafka-protocol has for ids has no name here, so a message with nothing else in it is decoded.
macro_rules! uuid {
    ($bytes:expr) => {
        consumer_group_heartbeat_request::TopicPartitions::decode(&mut &[&$bytes[..], &[1, 0]].concat()[..], 0)
            .expect("an id and nothing else")
            .topic_id
    };
}

/// xorshift: a message of any kind is made from a seed, which a failure names.
pub struct Seed(pub u64);

impl Seed {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn number(&mut self) -> i32 {
        self.below(100) as i32
    }

    pub fn many<T>(&mut self, most: u64, mut one: impl FnMut(&mut Seed) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }

    pub fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn partitions(&mut self) -> Vec<i32> {
        self.many(3, Seed::number)
    }

    /// A topic as a client may call it.
    pub fn topic(&mut self) -> TopicName {
        match self.below(40) {
            0 => topic_name(&"x".repeat(32_767)),
            _ => topic_name(self.one(&[
                "orders.v1",
                "orders.v10",
                "friend.prices.v1",
                "friend.prices.v10",
                "friend.hidden.v1",
                "off.v1",
                "away.v1",
                "zorro.secret.v1",
                "zorro.vault.v10",
                "app1.orders.v1",
                "__consumer_offsets",
                "",
                "..",
                "nonsense",
                "orders.v1.app1.g.retry",
                "friend.prices.v1.7",
                "größe.v1",
                "capped.v1",
            ])),
        }
    }

    pub fn id(&mut self) -> TopicId {
        [ID_ORDERS, ID_ORDERS_10, ID_PRICES, ID_HIDDEN, ID_LOOKS_GRANTED, ID_SECRET, ID_UNKNOWN, [0; 16]]
            [self.below(8) as usize]
    }

    /// A group or a transactional id.
    pub fn owned(&mut self) -> StrBytes {
        match self.below(40) {
            0 => text(&"g".repeat(32_000)),
            _ => text(self.one(&["g", "", "billing", "app1", "app1.g", "zorro.g", "größe", "a.b.c", "."])),
        }
    }

    pub fn word(&mut self) -> StrBytes {
        text(&"w".repeat(self.below(20) as usize))
    }

    pub fn maybe(&mut self) -> Option<StrBytes> {
        self.coin().then(|| self.word())
    }

    /// A sentence of a broker's.
    pub fn sentence(&mut self) -> Option<StrBytes> {
        Some(text(self.one(&["", "no", "Invalid topic app1.orders.v1.", "app1.g and app1.h", "größer"])))
            .filter(|_| self.coin())
    }

    pub fn bytes(&mut self) -> Bytes {
        Bytes::from(vec![0xab; self.below(300) as usize])
    }

    /// Records longer than what is copied.
    pub fn records(&mut self) -> Option<Bytes> {
        match self.below(8) {
            0 => None,
            1 => Some(Bytes::from(vec![0xab; 9_000])),
            _ => Some(self.bytes()),
        }
    }
}

pub fn own(name: &str) -> String {
    format!("app1.{name}")
}

/// What a topic's name means to app1: its name in Kafka, and whose it is.
pub fn meaning(name: &str) -> Option<(String, bool)> {
    Some(match name {
        "orders.v1" | "orders.v10" | "capped.v1" => (physical("app1", name), true),
        "friend.prices.v1" | "friend.prices.v10" => (physical("friend", &name[7..]), false),
        _ => return None,
    })
}

pub fn id_meaning(id: TopicId) -> Option<bool> {
    match id {
        ID_ORDERS | ID_ORDERS_10 => Some(true),
        ID_PRICES => Some(false),
        _ => None,
    }
}

/// What app1 calls a topic of Kafka that it was let to ask about.
pub fn shown(physical_name: &str) -> TopicName {
    for name in ["orders.v1", "orders.v10", "capped.v1"] {
        if physical("app1", name) == physical_name {
            return topic_name(name);
        }
    }
    for name in ["prices.v1", "prices.v10"] {
        if physical("friend", name) == physical_name {
            return topic_name(&format!("friend.{name}"));
        }
    }
    panic!("the broker was asked about {physical_name}")
}

pub fn said(sentence: &mut Option<StrBytes>) {
    if let Some(text) = sentence {
        *text = StrBytes::from_string(text.replace("app1.", ""));
    }
}

/// Which topics of others it may use.
#[derive(Clone, Copy, PartialEq)]
pub enum Others {
    None,
    Granted,
}

/// A refused topic, as its client called it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    pub name: TopicName,
    pub id: TopicId,
    pub partitions: Vec<i32>,
    pub code: i16,
}

pub fn others(side: Side) -> Others {
    if side == Side::Subscribe { Others::Granted } else { Others::None }
}

/// The name in Kafka, if it may be used.
pub fn allowed(name: &str, others: Others) -> Option<String> {
    meaning(name).filter(|(_, is_own)| *is_own || others == Others::Granted).map(|(physical, _)| physical)
}

pub fn is_allowed_id(id: TopicId, others: Others) -> bool {
    id_meaning(id).is_some_and(|is_own| is_own || others == Others::Granted)
}

/// Substitutes the names in an array of topics, takes out what is refused and gives it.
macro_rules! substitute {
    ($topics:expr, $others:expr, $name:ident, $partitions:expr) => {{
        let mut cut = Vec::new();
        $topics.retain_mut(|topic| match allowed(&topic.$name, $others) {
            Some(physical) => {
                topic.$name = topic_name(&physical);
                true
            }
            None => {
                let partitions: Vec<i32> = $partitions(topic);
                cut.push(Cut { name: topic.$name.clone(), id: [0; 16], partitions, code: 29 });
                false
            }
        });
        cut
    }};
}

/// The same where topics are named by ids.
macro_rules! substitute_ids {
    ($topics:expr, $others:expr, $partitions:expr) => {{
        let mut cut = Vec::new();
        $topics.retain(|topic| {
            let id = *topic.topic_id.as_bytes();
            let is_kept = is_allowed_id(id, $others);
            if !is_kept {
                let code = if id == [0; 16] { 29 } else { 100 };
                cut.push(Cut { name: TopicName::default(), id, partitions: $partitions(topic), code });
            }
            is_kept
        });
        cut
    }};
}

pub fn of_parts<T>(parts: &[T], number: impl Fn(&T) -> i32) -> Vec<i32> {
    parts.iter().map(number).collect()
}

/// Names back, and refused topics in front.
pub fn restore<T>(
    topics: &mut Vec<T>,
    cut: &[Cut],
    name: impl Fn(&mut T) -> &mut TopicName,
    refused: impl Fn(&Cut) -> T,
) {
    for topic in topics.iter_mut() {
        let name = name(topic);
        if !name.is_empty() {
            *name = shown(name);
        }
    }
    topics.splice(0..0, cut.iter().map(refused));
}

pub fn body_of(message: &impl Encodable, version: i16) -> Option<Bytes> {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).ok()?;
    Some(body.freeze())
}

/// What is expected of a request.
pub enum Then<C> {
    /// The broker gets the message as it was changed; its answer is changed with this.
    Forwarded(C),
    /// The proxy answers with this code in it.
    Answered(i16),
}

/// Makes messages from seeds, sends them through and compares.
pub fn check<Q, A, C>(
    api: ApiKey,
    make: impl Fn(&mut Seed, i16) -> Q,
    substituted: impl Fn(&mut Q, i16, Side) -> Then<C>,
    answered: impl Fn(&mut Seed, &Q, i16) -> A,
    restored: impl Fn(&mut A, i16, &Q, C),
) where
    Q: Encodable + Decodable + PartialEq + std::fmt::Debug + Clone,
    A: Encodable + Decodable + PartialEq + std::fmt::Debug + Clone,
{
    let rule = rules::of(api.key()).expect("a rule");
    let sides = match rule.need {
        Need::Any => vec![Side::Publish, Side::Subscribe],
        Need::Publish => vec![Side::Publish],
        Need::Subscribe => vec![Side::Subscribe],
    };
    for (version, side) in (rule.version_min..=rule.version_max).flat_map(|v| sides.iter().map(move |side| (v, *side)))
    {
        let mut written = 0;
        for seed in 1..=FRAMES_PER_VERSION {
            let what = format!("{api} v{version} {side:?} seed {seed}");
            let made = &mut Seed(seed * 0x9e37_79b9 + version as u64 * 7919);
            let Some(body) = body_of(&make(made, version), version) else { continue };
            let mut expected = Q::decode(&mut body.clone(), version).expect("just written");
            let then = substituted(&mut expected, version, side);
            let frame = request(api, version, 77, &body);
            let passed = [frame.len(), 1, 7, 64].map(|piece_bytes| {
                // In small pieces is for small messages.
                if frame.len() / piece_bytes > 3_000 {
                    return None;
                }
                let mut client = Client::new(side);
                let out = client.send(&frame, piece_bytes).unwrap_or_else(|err| panic!("{what}: {err}")).0.concat();
                assert_eq!(client.held_bytes().0, 0, "{what}");
                Some((client, out))
            });
            let outs: Vec<&Vec<u8>> = passed.iter().flatten().map(|(_, out)| out).collect();
            assert!(outs.iter().all(|out| *out == outs[0]), "{what}: not the same in pieces");
            let sent = outs[0].clone();
            let cut = match then {
                Then::Forwarded(cut) => cut,
                Then::Answered(code) => {
                    assert!(sent.is_empty(), "{what}: it reached the broker");
                    let (mut client, _) = passed.into_iter().flatten().next().expect("one");
                    let out = client.receive(&[], 1).expect("an answer of its own");
                    let (id, mut body) = answer_body(api, version, frames(&out)[0].clone());
                    assert_eq!(id, 77, "{what}");
                    assert!(body.windows(2).any(|pair| pair == code.to_be_bytes()), "{what}: no {code} in {body:?}");
                    A::decode(&mut body, version).unwrap_or_else(|err| panic!("{what}: {err}"));
                    assert!(body.is_empty(), "{what}");
                    written += 1;
                    continue;
                }
            };
            let (id, mut body) = request_body(frames(&[sent.into()])[0].clone());
            assert_eq!(id, 77, "{what}");
            let broker_got = Q::decode(&mut body, version).unwrap_or_else(|err| panic!("{what}: {err}"));
            assert_eq!(broker_got, expected, "{what}");
            assert!(body.is_empty(), "{what}: {} bytes follow", body.len());

            let Some(body) = body_of(&answered(made, &broker_got, version), version) else { continue };
            let mut expected = A::decode(&mut body.clone(), version).expect("just written");
            restored(&mut expected, version, &broker_got, cut);
            let frame = answer(api, version, 77, &body);
            let mut outs = Vec::new();
            for ((mut client, _), piece_bytes) in passed.into_iter().flatten().zip([frame.len(), 1, 7, 64]) {
                if frame.len() / piece_bytes <= 3_000 {
                    outs.push(
                        client.receive(&frame, piece_bytes).unwrap_or_else(|err| panic!("{what}: {err}")).concat(),
                    );
                    assert_eq!(client.held_bytes().1, 0, "{what}");
                }
            }
            let (_, mut body) = answer_body(api, version, frames(&[outs[0].clone().into()])[0].clone());
            let found = A::decode(&mut body, version).unwrap_or_else(|err| panic!("{what}: {err} in the answer"));
            assert_eq!(found, expected, "{what}, the answer");
            assert!(body.is_empty(), "{what}: {} bytes follow the answer", body.len());
            assert!(outs.iter().all(|out| *out == outs[0]), "{what}: the answer is not the same in pieces");
            written += 1;
        }
        assert!(written > 0 || UNKNOWN.contains(&(api, version)), "kafka-protocol writes no {api} v{version}");
        assert!(written == 0 || !UNKNOWN.contains(&(api, version)), "kafka-protocol does know {api} v{version}");
    }
}

/// What kafka-protocol has no message for.
pub const UNKNOWN: &[(ApiKey, i16)] = &[
    (ApiKey::ListOffsets, 11),
    (ApiKey::OffsetCommit, 10),
    (ApiKey::OffsetFetch, 10),
    (ApiKey::OffsetForLeaderEpoch, 0),
    (ApiKey::OffsetForLeaderEpoch, 1),
    (ApiKey::TxnOffsetCommit, 6),
    (ApiKey::DeleteGroups, 3),
];

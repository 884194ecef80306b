//! What a broker gets of a tenant's request, and the tenant of its answer, is as if decoded, substituted and encoded: for every
//! API of the rules that is read whole, every version, and whatever pieces bytes arrive in.
//!
//! kafka-protocol is the judge: it knows nothing of shapes and edits. What a name means is told by a table here, not by the
//! model. Six versions are newer, or older, than kafka-protocol knows; the last test walks those by our own shapes.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use bytes::{Bytes, BytesMut};
use common::tenant::*;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::ApiKey;
use model::Side;
use router::tenant::found::TopicId;
use router::tenant::rules::{self, Need};

const FRAMES_PER_VERSION: u64 = 60;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn topic_name(value: &str) -> TopicName {
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
struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn number(&mut self) -> i32 {
        self.below(100) as i32
    }

    fn many<T>(&mut self, most: u64, mut one: impl FnMut(&mut Seed) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn partitions(&mut self) -> Vec<i32> {
        self.many(3, Seed::number)
    }

    /// A topic as a client may call it.
    fn topic(&mut self) -> TopicName {
        match self.below(40) {
            0 => topic_name(&"x".repeat(32_767)),
            _ => topic_name(self.one(&[
                "orders.v1", "orders.v10", "friend.prices.v1", "friend.prices.v10", "friend.hidden.v1", "off.v1",
                "away.v1", "zorro.secret.v1", "zorro.vault.v10", "app1.orders.v1", "__consumer_offsets", "", "..",
                "nonsense", "orders.v1.app1.g.retry", "friend.prices.v1.7", "größe.v1", "capped.v1",
            ])),
        }
    }

    fn id(&mut self) -> TopicId {
        [ID_ORDERS, ID_ORDERS_10, ID_PRICES, ID_HIDDEN, ID_LOOKS_GRANTED, ID_SECRET, ID_UNKNOWN, [0; 16]]
            [self.below(8) as usize]
    }

    /// A group or a transactional id.
    fn owned(&mut self) -> StrBytes {
        match self.below(40) {
            0 => text(&"g".repeat(32_000)),
            _ => text(self.one(&["g", "", "billing", "app1", "app1.g", "zorro.g", "größe", "a.b.c", "."])),
        }
    }

    fn word(&mut self) -> StrBytes {
        text(&"w".repeat(self.below(20) as usize))
    }

    fn maybe(&mut self) -> Option<StrBytes> {
        self.coin().then(|| self.word())
    }

    /// A sentence of a broker's.
    fn sentence(&mut self) -> Option<StrBytes> {
        Some(text(self.one(&["", "no", "Invalid topic app1.orders.v1.", "app1.g and app1.h", "größer"]))).filter(|_| self.coin())
    }

    fn bytes(&mut self) -> Bytes {
        Bytes::from(vec![0xab; self.below(300) as usize])
    }

    /// Records longer than what is copied.
    fn records(&mut self) -> Option<Bytes> {
        match self.below(8) {
            0 => None,
            1 => Some(Bytes::from(vec![0xab; 9_000])),
            _ => Some(self.bytes()),
        }
    }
}

fn own(name: &str) -> String {
    format!("app1.{name}")
}

/// What a topic's name means to app1: its name in Kafka, and whose it is.
fn meaning(name: &str) -> Option<(String, bool)> {
    Some(match name {
        "orders.v1" | "orders.v10" | "capped.v1" => (physical("app1", name), true),
        "friend.prices.v1" | "friend.prices.v10" => (physical("friend", &name[7..]), false),
        _ => return None,
    })
}

fn id_meaning(id: TopicId) -> Option<bool> {
    match id {
        ID_ORDERS | ID_ORDERS_10 => Some(true),
        ID_PRICES => Some(false),
        _ => None,
    }
}

/// What app1 calls a topic of Kafka that it was let to ask about.
fn shown(physical_name: &str) -> TopicName {
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

fn said(sentence: &mut Option<StrBytes>) {
    if let Some(text) = sentence {
        *text = StrBytes::from_string(text.replace("app1.", ""));
    }
}

/// Which topics of others it may use.
#[derive(Clone, Copy, PartialEq)]
enum Others {
    None,
    Granted,
}

/// A refused topic, as its client called it.
#[derive(Debug, Clone, PartialEq)]
struct Cut {
    name: TopicName,
    id: TopicId,
    partitions: Vec<i32>,
    code: i16,
}

fn others(side: Side) -> Others {
    if side == Side::Subscribe { Others::Granted } else { Others::None }
}

/// The name in Kafka, if it may be used.
fn allowed(name: &str, others: Others) -> Option<String> {
    meaning(name).filter(|(_, is_own)| *is_own || others == Others::Granted).map(|(physical, _)| physical)
}

fn is_allowed_id(id: TopicId, others: Others) -> bool {
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

fn of_parts<T>(parts: &[T], number: impl Fn(&T) -> i32) -> Vec<i32> {
    parts.iter().map(number).collect()
}

/// Names back, and refused topics in front.
fn restore<T>(topics: &mut Vec<T>, cut: &[Cut], name: impl Fn(&mut T) -> &mut TopicName, refused: impl Fn(&Cut) -> T) {
    for topic in topics.iter_mut() {
        let name = name(topic);
        if !name.is_empty() {
            *name = shown(name);
        }
    }
    topics.splice(0..0, cut.iter().map(refused));
}

fn body_of(message: &impl Encodable, version: i16) -> Option<Bytes> {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).ok()?;
    Some(body.freeze())
}

/// What is expected of a request.
enum Then<C> {
    /// The broker gets the message as it was changed; its answer is changed with this.
    Forwarded(C),
    /// The proxy answers with this code in it.
    Answered(i16),
}

/// Makes messages from seeds, sends them through and compares.
fn check<Q, A, C>(
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
    for (version, side) in (rule.version_min..=rule.version_max).flat_map(|v| sides.iter().map(move |side| (v, *side))) {
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
                    outs.push(client.receive(&frame, piece_bytes).unwrap_or_else(|err| panic!("{what}: {err}")).concat());
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
const UNKNOWN: &[(ApiKey, i16)] = &[
    (ApiKey::ListOffsets, 11),
    (ApiKey::OffsetCommit, 10),
    (ApiKey::OffsetFetch, 10),
    (ApiKey::OffsetForLeaderEpoch, 0),
    (ApiKey::OffsetForLeaderEpoch, 1),
    (ApiKey::TxnOffsetCommit, 6),
    (ApiKey::DeleteGroups, 3),
];

#[test]
fn produce_is_as_if_decoded_substituted_and_encoded() {
    use produce_request::*;
    use produce_response::*;
    check(
        ApiKey::Produce,
        |seed, version| {
            let topics = seed.many(4, |seed| {
                let data = seed.many(3, |seed| {
                    PartitionProduceData::default().with_index(seed.number()).with_records(seed.records())
                });
                let topic = TopicProduceData::default().with_partition_data(data);
                if version >= 13 { topic.with_topic_id(uuid!(seed.id())) } else { topic.with_name(seed.topic()) }
            });
            let transaction = seed.coin().then(|| TransactionalId(seed.owned()));
            ProduceRequest::default().with_transactional_id(transaction).with_acks(-1).with_topic_data(topics)
        },
        |message, version, _| {
            if let Some(id) = &mut message.transactional_id {
                *id = TransactionalId(text(&own(id)));
            }
            let partitions = |topic: &TopicProduceData| of_parts(&topic.partition_data, |one| one.index);
            Then::Forwarded(match version >= 13 {
                true => substitute_ids!(message.topic_data, Others::None, partitions),
                false => substitute!(message.topic_data, Others::None, name, partitions),
            })
        },
        |seed, asked, _| {
            let topics = asked.topic_data.iter().map(|topic| {
                let partitions = topic.partition_data.iter().map(|one| {
                    let error = BatchIndexAndErrorMessage::default().with_batch_index_error_message(seed.sentence());
                    PartitionProduceResponse::default()
                        .with_index(one.index)
                        .with_base_offset(7)
                        .with_record_errors(if seed.coin() { vec![error] } else { Vec::new() })
                        .with_error_message(seed.sentence())
                });
                let answer = TopicProduceResponse::default().with_partition_responses(partitions.collect());
                answer.with_name(topic.name.clone()).with_topic_id(topic.topic_id)
            });
            ProduceResponse::default().with_responses(topics.collect()).with_throttle_time_ms(seed.number())
        },
        |message, version, _, cut| {
            for one in message.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
                said(&mut one.error_message);
                one.record_errors.iter_mut().for_each(|error| said(&mut error.batch_index_error_message));
            }
            restore(
                &mut message.responses,
                &cut,
                |topic| &mut topic.name,
                |cut| {
                    let partitions = cut.partitions.iter().map(|index| {
                        PartitionProduceResponse::default()
                            .with_index(*index)
                            .with_error_code(cut.code)
                            .with_base_offset(-1)
                            .with_log_append_time_ms(-1)
                            .with_log_start_offset(-1)
                            .with_error_message(None)
                    });
                    let topic = TopicProduceResponse::default().with_partition_responses(partitions.collect());
                    if version >= 13 { topic.with_topic_id(uuid!(cut.id)) } else { topic.with_name(cut.name.clone()) }
                },
            );
        },
    );
}

#[test]
fn fetch_is_as_if_decoded_substituted_and_encoded() {
    use fetch_request::*;
    use fetch_response::*;
    check(
        ApiKey::Fetch,
        |seed, version| {
            let named = |seed: &mut Seed| match version >= 13 {
                true => (TopicName::default(), seed.id()),
                false => (seed.topic(), [0; 16]),
            };
            let topics = seed.many(4, |seed| {
                let (name, id) = named(seed);
                let parts = seed.many(3, |seed| {
                    FetchPartition::default().with_partition(seed.number()).with_fetch_offset(5)
                });
                FetchTopic::default().with_topic(name).with_topic_id(uuid!(id)).with_partitions(parts)
            });
            let forgotten = seed.many(if version >= 7 { 3 } else { 0 }, |seed| {
                let (name, id) = named(seed);
                ForgottenTopic::default().with_topic(name).with_topic_id(uuid!(id)).with_partitions(seed.partitions())
            });
            FetchRequest::default().with_max_bytes(1 << 26).with_topics(topics).with_forgotten_topics_data(forgotten)
        },
        |message, version, side| {
            let by_id = version >= 13;
            let is_capped = |topic: &FetchTopic| **topic.topic == *"capped.v1";
            if !by_id || message.topics.iter().any(is_capped) {
                message.max_bytes = 8 << 20;
            }
            let partitions = |topic: &FetchTopic| of_parts(&topic.partitions, |one| one.partition);
            let none = |_: &ForgottenTopic| Vec::new();
            match by_id {
                true => {
                    substitute_ids!(message.forgotten_topics_data, others(side), none);
                    Then::Forwarded(substitute_ids!(message.topics, others(side), partitions))
                }
                false => {
                    substitute!(message.forgotten_topics_data, others(side), topic, none);
                    Then::Forwarded(substitute!(message.topics, others(side), topic, partitions))
                }
            }
        },
        |seed, asked, _| {
            let topics = asked.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|one| {
                    let aborted = seed.many(2, |_| AbortedTransaction::default());
                    PartitionData::default()
                        .with_partition_index(one.partition)
                        .with_high_watermark(9)
                        .with_aborted_transactions(Some(aborted))
                        .with_records(seed.records())
                });
                let answer = FetchableTopicResponse::default().with_partitions(partitions.collect());
                answer.with_topic(topic.topic.clone()).with_topic_id(topic.topic_id)
            });
            FetchResponse::default().with_responses(topics.collect()).with_throttle_time_ms(seed.number())
        },
        |message, version, _, cut| {
            restore(
                &mut message.responses,
                &cut,
                |topic| &mut topic.topic,
                |cut| {
                    let partitions = cut.partitions.iter().map(|index| {
                        PartitionData::default()
                            .with_partition_index(*index)
                            .with_error_code(cut.code)
                            .with_high_watermark(-1)
                            .with_last_stable_offset(-1)
                            .with_log_start_offset(-1)
                            .with_aborted_transactions(Some(Vec::new()))
                            .with_preferred_read_replica(BrokerId(-1))
                            .with_records(Some(Bytes::new()))
                    });
                    let topic = FetchableTopicResponse::default().with_partitions(partitions.collect());
                    if version >= 13 { topic.with_topic_id(uuid!(cut.id)) } else { topic.with_topic(cut.name.clone()) }
                },
            );
        },
    );
}

#[test]
fn list_offsets_is_as_if_decoded_substituted_and_encoded() {
    use list_offsets_request::*;
    use list_offsets_response::*;
    check(
        ApiKey::ListOffsets,
        |seed, _| {
            let topics = seed.many(4, |seed| {
                let parts =
                    seed.many(3, |seed| ListOffsetsPartition::default().with_partition_index(seed.number()).with_timestamp(-1));
                ListOffsetsTopic::default().with_name(seed.topic()).with_partitions(parts)
            });
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics)
        },
        |message, _, side| {
            Then::Forwarded(substitute!(message.topics, others(side), name, |topic: &ListOffsetsTopic| {
                of_parts(&topic.partitions, |one| one.partition_index)
            }))
        },
        |_, asked, _| {
            let topics = asked.topics.iter().map(|topic| {
                let parts = topic.partitions.iter().map(|one| {
                    ListOffsetsPartitionResponse::default().with_partition_index(one.partition_index).with_error_code(3)
                });
                ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(parts.collect())
            });
            ListOffsetsResponse::default().with_topics(topics.collect())
        },
        |message, version, _, cut| {
            restore(
                &mut message.topics,
                &cut,
                |topic| &mut topic.name,
                |cut| {
                    let parts = cut.partitions.iter().map(|index| {
                        let epoch = if version >= 4 { -1 } else { ListOffsetsPartitionResponse::default().leader_epoch };
                        ListOffsetsPartitionResponse::default()
                            .with_partition_index(*index)
                            .with_error_code(cut.code)
                            .with_timestamp(-1)
                            .with_offset(-1)
                            .with_leader_epoch(epoch)
                    });
                    ListOffsetsTopicResponse::default().with_name(cut.name.clone()).with_partitions(parts.collect())
                },
            );
        },
    );
}

#[test]
fn metadata_is_as_if_decoded_substituted_and_encoded() {
    use metadata_request::*;
    use metadata_response::*;
    check(
        ApiKey::Metadata,
        |seed, version| {
            let topics = seed.many(4, |seed| {
                let topic = MetadataRequestTopic::default();
                match version {
                    // A broker looks at the id if there is one, so a name beside it is nobody's.
                    10.. if seed.coin() => {
                        let name = seed.coin().then(|| seed.topic());
                        topic.with_topic_id(uuid!(seed.id())).with_name(name)
                    }
                    _ => topic.with_name(Some(seed.topic())),
                }
            });
            let is_all = version >= 1 && seed.below(6) == 0;
            MetadataRequest::default()
                .with_topics((!is_all).then_some(topics))
                .with_allow_auto_topic_creation(version < 4 || seed.coin())
                .with_include_topic_authorized_operations(version >= 8 && seed.coin())
                .with_include_cluster_authorized_operations((8..=10).contains(&version) && seed.coin())
        },
        |message, version, side| {
            message.allow_auto_topic_creation &= version < 4;
            message.include_topic_authorized_operations = false;
            message.include_cluster_authorized_operations = false;
            let named = |name: String| MetadataRequestTopic::default().with_name(Some(topic_name(&name)));
            let is_all = message.topics.as_ref().is_none_or(|topics| version == 0 && topics.is_empty());
            if is_all {
                // The order is the snapshot's.
                let client = Client::new(side);
                let all: Vec<_> = client.session.tenant().topics().map(|topic| named(topic.physical.to_string())).collect();
                let count = if side == Side::Publish { 4 } else { 6 };
                assert_eq!(all.len(), count, "own topics, and for a subscriber granted ones");
                message.topics = Some(all);
                return Then::Forwarded(Vec::new());
            }
            let mut cut = Vec::new();
            message.topics.as_mut().expect("not all").retain_mut(|topic| {
                let id = *topic.topic_id.as_bytes();
                if id != [0; 16] {
                    topic.name = None;
                    let is_kept = is_allowed_id(id, others(side));
                    if !is_kept {
                        cut.push(Cut { name: topic_name(""), id, partitions: Vec::new(), code: 100 });
                    }
                    return is_kept;
                }
                let name = topic.name.clone().unwrap_or_default();
                match allowed(&name, others(side)) {
                    Some(physical) => {
                        topic.name = Some(topic_name(&physical));
                        true
                    }
                    None => {
                        cut.push(Cut { name, id, partitions: Vec::new(), code: 29 });
                        false
                    }
                }
            });
            if version == 0 && message.topics.as_ref().is_some_and(Vec::is_empty) {
                // None at all would mean all: a name that no topic can have.
                message.topics = Some(vec![named("app1./".to_owned())]);
            }
            Then::Forwarded(cut)
        },
        |seed, asked, version| {
            let brokers = (0..3).map(|node| {
                let broker = MetadataResponseBroker::default().with_node_id(BrokerId(node)).with_port(9092);
                broker.with_host(text("kafka.internal"))
            });
            let topics = asked.topics.iter().flatten().map(|topic| {
                let physical = topic.name.clone().unwrap_or_else(|| topic_name(match *topic.topic_id.as_bytes() {
                    ID_ORDERS => "app1.orders.v1",
                    ID_PRICES => "friend.prices.v1",
                    _ => "",
                }));
                let name = if physical.is_empty() { topic_name(&self::physical("app1", "orders.v10")) } else { physical };
                let parts = seed.many(2, |seed| MetadataResponsePartition::default().with_partition_index(seed.number()));
                let topic = MetadataResponseTopic::default().with_topic_id(topic.topic_id).with_partitions(parts);
                topic.with_name(Some(name))
            });
            let mut topics: Vec<_> = topics.collect();
            // Nobody asked for these.
            for name in ["zorro.secret.v1", "__consumer_offsets", "app1.orders.v1.7", "friend.hidden.v1", "app1.off.v1"] {
                if seed.below(3) == 0 {
                    let at = seed.below(topics.len() as u64 + 1) as usize;
                    topics.insert(at, MetadataResponseTopic::default().with_name(Some(topic_name(name))));
                }
            }
            let cluster_id = (version >= 2).then(|| text("kafkas-own-cluster-id"));
            let message = MetadataResponse::default().with_brokers(brokers.collect()).with_topics(topics);
            message.with_cluster_id(cluster_id).with_controller_id(BrokerId(if version >= 1 { 1 } else { -1 }))
        },
        |message, version, _, cut| {
            for broker in &mut message.brokers {
                (broker.host, broker.port) = (text("proxy.example"), 9101 + broker.node_id.0);
            }
            if version >= 2 {
                let id = Client::new(Side::Publish).session.tenant().cluster_id();
                message.cluster_id = Some(text(&id));
            }
            let is_told = |name: &str| {
                let granted = ["prices.v1", "prices.v10"].iter().any(|topic| physical("friend", topic) == name);
                granted || ["orders.v1", "orders.v10", "capped.v1", "capped.v2"].iter().any(|topic| physical("app1", topic) == name)
            };
            message.topics.retain(|topic| is_told(topic.name.as_ref().expect("a name")));
            for topic in &mut message.topics {
                let name = topic.name.clone().expect("a name");
                topic.name = Some(match &**name {
                    "app1.capped.v2" => topic_name("capped.v2"),
                    name => shown(name),
                });
            }
            let told = cut.iter().map(|cut| {
                let topic = MetadataResponseTopic::default().with_error_code(cut.code).with_topic_id(uuid!(cut.id));
                let name = if cut.code == 100 && version >= 12 { None } else { Some(cut.name.clone()) };
                topic.with_name(name).with_topic_authorized_operations(if version >= 8 { -1 } else { i32::MIN })
            });
            message.topics.splice(0..0, told.collect::<Vec<_>>());
        },
    );
}

#[test]
fn offset_commit_is_as_if_decoded_substituted_and_encoded() {
    use offset_commit_request::*;
    use offset_commit_response::*;
    check(
        ApiKey::OffsetCommit,
        |seed, _| {
            let topics = seed.many(4, |seed| {
                let parts = seed.many(3, |seed| {
                    let part = OffsetCommitRequestPartition::default().with_partition_index(seed.number());
                    part.with_committed_metadata(seed.maybe())
                });
                OffsetCommitRequestTopic::default().with_name(seed.topic()).with_partitions(parts)
            });
            OffsetCommitRequest::default().with_group_id(GroupId(seed.owned())).with_member_id(seed.word()).with_topics(topics)
        },
        |message, _, side| {
            message.group_id = GroupId(text(&own(&message.group_id)));
            Then::Forwarded(substitute!(message.topics, others(side), name, |topic: &OffsetCommitRequestTopic| {
                of_parts(&topic.partitions, |one| one.partition_index)
            }))
        },
        |_, asked, _| {
            let topics = asked.topics.iter().map(|topic| {
                let parts = topic.partitions.iter().map(|one| {
                    OffsetCommitResponsePartition::default().with_partition_index(one.partition_index)
                });
                OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(parts.collect())
            });
            OffsetCommitResponse::default().with_topics(topics.collect())
        },
        |message, _, _, cut| {
            restore(
                &mut message.topics,
                &cut,
                |topic| &mut topic.name,
                |cut| {
                    let parts = cut.partitions.iter().map(|index| {
                        let part = OffsetCommitResponsePartition::default().with_partition_index(*index);
                        part.with_error_code(cut.code)
                    });
                    OffsetCommitResponseTopic::default().with_name(cut.name.clone()).with_partitions(parts.collect())
                },
            );
        },
    );
}

#[test]
fn offset_fetch_is_as_if_decoded_substituted_and_encoded() {
    use offset_fetch_request::*;
    use offset_fetch_response::*;
    check(
        ApiKey::OffsetFetch,
        |seed, version| {
            let message = OffsetFetchRequest::default();
            if version < 8 {
                let topics = seed.many(4, |seed| {
                    OffsetFetchRequestTopic::default().with_name(seed.topic()).with_partition_indexes(seed.partitions())
                });
                let is_all = version >= 2 && seed.below(5) == 0;
                return message.with_group_id(GroupId(seed.owned())).with_topics((!is_all).then_some(topics));
            }
            // The same group may well come twice.
            let groups = seed.many(4, |seed| {
                let topics = seed.many(4, |seed| {
                    OffsetFetchRequestTopics::default().with_name(seed.topic()).with_partition_indexes(seed.partitions())
                });
                let is_all = seed.below(5) == 0;
                OffsetFetchRequestGroup::default().with_group_id(GroupId(seed.owned())).with_topics((!is_all).then_some(topics))
            });
            message.with_groups(groups)
        },
        |message, version, side| {
            if version < 8 {
                message.group_id = GroupId(text(&own(&message.group_id)));
                let Some(topics) = &mut message.topics else { return Then::Forwarded(vec![Vec::new()]) };
                return Then::Forwarded(vec![substitute!(topics, others(side), name, |topic: &OffsetFetchRequestTopic| {
                    topic.partition_indexes.clone()
                })]);
            }
            let cuts = message.groups.iter_mut().map(|group| {
                group.group_id = GroupId(text(&own(&group.group_id)));
                let Some(topics) = &mut group.topics else { return Vec::new() };
                substitute!(topics, others(side), name, |topic: &OffsetFetchRequestTopics| topic.partition_indexes.clone())
            });
            Then::Forwarded(cuts.collect())
        },
        |seed, asked, version| {
            if version < 8 {
                let mut topics: Vec<_> = asked.topics.iter().flatten().map(|topic| (topic.name.clone(), topic.partition_indexes.clone())).collect();
                if seed.coin() {
                    topics.push((topic_name("zorro.secret.v1"), vec![1]));
                }
                let topics = topics.into_iter().map(|(name, indexes)| {
                    let parts = indexes.iter().map(|index| {
                        let part = OffsetFetchResponsePartition::default().with_partition_index(*index);
                        part.with_committed_offset(5)
                    });
                    OffsetFetchResponseTopic::default().with_name(name).with_partitions(parts.collect())
                });
                return OffsetFetchResponse::default().with_topics(topics.collect());
            }
            let mut groups: Vec<_> = asked.groups.iter().map(|group| {
                let topics = group.topics.iter().flatten().map(|topic| {
                    let parts = topic.partition_indexes.iter().map(|index| {
                        OffsetFetchResponsePartitions::default().with_partition_index(*index).with_committed_offset(5)
                    });
                    OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(parts.collect())
                });
                let mut topics: Vec<_> = topics.collect();
                if seed.coin() {
                    topics.insert(0, OffsetFetchResponseTopics::default().with_name(topic_name("zorro.secret.v1")));
                }
                let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
                answer.with_topics(topics)
            }).collect();
            if seed.coin() {
                let theirs = OffsetFetchResponseTopics::default().with_name(topic_name("app1.orders.v1"));
                let other = OffsetFetchResponseGroup::default().with_group_id(GroupId(text("zorro.g")));
                groups.push(other.with_topics(vec![theirs]));
            }
            OffsetFetchResponse::default().with_groups(groups)
        },
        |message, version, _, cuts| {
            if version < 8 {
                message.topics.retain(|topic| !topic.name.starts_with("zorro."));
                restore(
                    &mut message.topics,
                    &cuts[0],
                    |topic| &mut topic.name,
                    |cut| {
                        let parts = cut.partitions.iter().map(|index| {
                            let part = OffsetFetchResponsePartition::default().with_partition_index(*index);
                            part.with_committed_offset(-1).with_metadata(None).with_error_code(cut.code)
                        });
                        OffsetFetchResponseTopic::default().with_name(cut.name.clone()).with_partitions(parts.collect())
                    },
                );
                return;
            }
            message.groups.retain(|group| !group.group_id.starts_with("zorro."));
            for (group, cut) in message.groups.iter_mut().zip(cuts) {
                group.group_id = GroupId(text(group.group_id.strip_prefix("app1.").expect("own")));
                group.topics.retain(|topic| !topic.name.starts_with("zorro."));
                restore(
                    &mut group.topics,
                    &cut,
                    |topic| &mut topic.name,
                    |cut| {
                        let parts = cut.partitions.iter().map(|index| {
                            let part = OffsetFetchResponsePartitions::default().with_partition_index(*index);
                            part.with_committed_offset(-1).with_metadata(None).with_error_code(cut.code)
                        });
                        OffsetFetchResponseTopics::default().with_name(cut.name.clone()).with_partitions(parts.collect())
                    },
                );
            }
        },
    );
}

#[test]
fn find_coordinator_is_as_if_decoded_substituted_and_encoded() {
    use find_coordinator_response::*;
    check(
        ApiKey::FindCoordinator,
        |seed, version| {
            let message = FindCoordinatorRequest::default();
            let message = if version >= 1 { message.with_key_type(seed.below(4) as i8 % 3) } else { message };
            match version {
                0..4 => message.with_key(seed.owned()),
                _ => message.with_coordinator_keys(seed.many(4, Seed::owned)),
            }
        },
        |message, version, side| {
            match (message.key_type, side) {
                (0, _) | (1, Side::Publish) => {}
                (1, _) if version >= 4 && message.coordinator_keys.is_empty() => return Then::Answered(0),
                (_, _) if version >= 4 && message.coordinator_keys.is_empty() => return Then::Answered(0),
                (1, Side::Subscribe) => return Then::Answered(53),
                _ => return Then::Answered(42),
            }
            if version < 4 {
                message.key = text(&own(&message.key));
            }
            message.coordinator_keys.iter_mut().for_each(|key| *key = text(&own(key)));
            Then::Forwarded(())
        },
        |seed, asked, version| {
            if version < 4 {
                let message = FindCoordinatorResponse::default().with_node_id(BrokerId(2)).with_host(text("kafka.internal"));
                return message.with_port(9092).with_error_message(if version >= 1 { seed.sentence() } else { Some(text("")) });
            }
            let coordinators = asked.coordinator_keys.iter().map(|key| {
                let one = Coordinator::default().with_key(key.clone()).with_node_id(BrokerId(2)).with_port(9092);
                one.with_host(text("kafka.internal")).with_error_message(seed.sentence())
            });
            let mut coordinators: Vec<_> = coordinators.collect();
            if seed.coin() {
                coordinators.insert(0, Coordinator::default().with_key(text("zorro.g")));
            }
            FindCoordinatorResponse::default().with_coordinators(coordinators)
        },
        |message, version, _, ()| {
            if version < 4 {
                (message.host, message.port) = (text("proxy.example"), 9103);
                said(&mut message.error_message);
            }
            message.coordinators.retain(|one| one.key.starts_with("app1."));
            for one in &mut message.coordinators {
                one.key = text(&one.key[5..]);
                (one.host, one.port) = (text("proxy.example"), 9103);
                said(&mut one.error_message);
            }
        },
    );
}

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
use router::tenant::rename::Called;
use router::tenant::rules::{self, Need};

const FRAMES_PER_VERSION: u64 = 200;

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
        Some(text(self.one(&["", "no", "Invalid topic app1.orders.v1.", "app1.g and app1.h", "größer"])))
            .filter(|_| self.coin())
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
                let parts =
                    seed.many(3, |seed| FetchPartition::default().with_partition(seed.number()).with_fetch_offset(5));
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
                let parts = seed.many(3, |seed| {
                    ListOffsetsPartition::default().with_partition_index(seed.number()).with_timestamp(-1)
                });
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
                        let epoch =
                            if version >= 4 { -1 } else { ListOffsetsPartitionResponse::default().leader_epoch };
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
                let mut all =
                    ["orders.v1", "orders.v10", "capped.v1", "capped.v2"].map(|name| physical("app1", name)).to_vec();
                if side == Side::Subscribe {
                    all.extend(["prices.v1", "prices.v10"].map(|name| physical("friend", name)));
                }
                all.sort();
                message.topics = Some(all.into_iter().map(named).collect());
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
                let physical = topic.name.clone().unwrap_or_else(|| {
                    topic_name(match *topic.topic_id.as_bytes() {
                        ID_ORDERS => "app1.orders.v1",
                        ID_PRICES => "friend.prices.v1",
                        _ => "",
                    })
                });
                let name =
                    if physical.is_empty() { topic_name(&self::physical("app1", "orders.v10")) } else { physical };
                let parts =
                    seed.many(2, |seed| MetadataResponsePartition::default().with_partition_index(seed.number()));
                let topic = MetadataResponseTopic::default().with_topic_id(topic.topic_id).with_partitions(parts);
                topic.with_name(Some(name))
            });
            let mut topics: Vec<_> = topics.collect();
            // Nobody asked for these.
            for name in ["zorro.secret.v1", "__consumer_offsets", "app1.orders.v1.7", "friend.hidden.v1", "app1.off.v1"]
            {
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
                granted
                    || ["orders.v1", "orders.v10", "capped.v1", "capped.v2"]
                        .iter()
                        .any(|topic| physical("app1", topic) == name)
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
            OffsetCommitRequest::default()
                .with_group_id(GroupId(seed.owned()))
                .with_member_id(seed.word())
                .with_topics(topics)
        },
        |message, _, side| {
            message.group_id = GroupId(text(&own(&message.group_id)));
            Then::Forwarded(substitute!(message.topics, others(side), name, |topic: &OffsetCommitRequestTopic| {
                of_parts(&topic.partitions, |one| one.partition_index)
            }))
        },
        |_, asked, _| {
            let topics = asked.topics.iter().map(|topic| {
                let parts = topic
                    .partitions
                    .iter()
                    .map(|one| OffsetCommitResponsePartition::default().with_partition_index(one.partition_index));
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
                    OffsetFetchRequestTopics::default()
                        .with_name(seed.topic())
                        .with_partition_indexes(seed.partitions())
                });
                let is_all = seed.below(5) == 0;
                OffsetFetchRequestGroup::default()
                    .with_group_id(GroupId(seed.owned()))
                    .with_topics((!is_all).then_some(topics))
            });
            message.with_groups(groups)
        },
        |message, version, side| {
            if version < 8 {
                message.group_id = GroupId(text(&own(&message.group_id)));
                let Some(topics) = &mut message.topics else { return Then::Forwarded(vec![Vec::new()]) };
                return Then::Forwarded(vec![substitute!(
                    topics,
                    others(side),
                    name,
                    |topic: &OffsetFetchRequestTopic| { topic.partition_indexes.clone() }
                )]);
            }
            let cuts = message.groups.iter_mut().map(|group| {
                group.group_id = GroupId(text(&own(&group.group_id)));
                let Some(topics) = &mut group.topics else { return Vec::new() };
                substitute!(topics, others(side), name, |topic: &OffsetFetchRequestTopics| topic
                    .partition_indexes
                    .clone())
            });
            Then::Forwarded(cuts.collect())
        },
        |seed, asked, version| {
            if version < 8 {
                let mut topics: Vec<_> = asked
                    .topics
                    .iter()
                    .flatten()
                    .map(|topic| (topic.name.clone(), topic.partition_indexes.clone()))
                    .collect();
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
            let mut groups: Vec<_> = asked
                .groups
                .iter()
                .map(|group| {
                    let topics = group.topics.iter().flatten().map(|topic| {
                        let parts = topic.partition_indexes.iter().map(|index| {
                            OffsetFetchResponsePartitions::default()
                                .with_partition_index(*index)
                                .with_committed_offset(5)
                        });
                        OffsetFetchResponseTopics::default()
                            .with_name(topic.name.clone())
                            .with_partitions(parts.collect())
                    });
                    let mut topics: Vec<_> = topics.collect();
                    if seed.coin() {
                        topics.insert(0, OffsetFetchResponseTopics::default().with_name(topic_name("zorro.secret.v1")));
                    }
                    let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
                    answer.with_topics(topics)
                })
                .collect();
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
                        OffsetFetchResponseTopics::default()
                            .with_name(cut.name.clone())
                            .with_partitions(parts.collect())
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
                let message =
                    FindCoordinatorResponse::default().with_node_id(BrokerId(2)).with_host(text("kafka.internal"));
                return message.with_port(9092).with_error_message(if version >= 1 {
                    seed.sentence()
                } else {
                    Some(text(""))
                });
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

/// What a consumer says it wants and owns, with bytes behind it that no version has.
fn subscription(version: i16, topics: &[&str], owned: &[&str], rest: &[u8]) -> Bytes {
    use consumer_protocol_subscription::*;
    let owned =
        owned.iter().map(|name| TopicPartition::default().with_topic(topic_name(name)).with_partitions(vec![1, 2]));
    let message = ConsumerProtocolSubscription::default().with_topics(topics.iter().map(|name| text(name)).collect());
    let message = message.with_user_data(Some(Bytes::from_static(b"app1.orders.v1 stays")));
    let message = if version >= 1 { message.with_owned_partitions(owned.collect()) } else { message };
    let body = body_of(&message, version.min(3)).expect("a subscription");
    Bytes::from([&version.to_be_bytes()[..], &body, rest].concat())
}

fn assignment(version: i16, topics: &[&str]) -> Bytes {
    use consumer_protocol_assignment::*;
    let topics =
        topics.iter().map(|name| TopicPartition::default().with_topic(topic_name(name)).with_partitions(vec![3]));
    let message = ConsumerProtocolAssignment::default().with_assigned_partitions(topics.collect());
    let body = body_of(&message, version.min(3)).expect("an assignment");
    Bytes::from([&version.to_be_bytes()[..], &body].concat())
}

/// Bytes that members exchange: as a client says them, and as Kafka is to have them.
fn member_bytes(kind: u64, is_consumer: bool) -> (Bytes, Bytes) {
    let (orders, prices) = ("app1.orders.v1", "friend.prices.v1");
    let rows = [
        (subscription(0, &["orders.v1"], &[], &[]), subscription(0, &[orders], &[], &[])),
        (
            subscription(3, &["zorro.secret.v1", "friend.prices.v1", "orders.v1"], &["orders.v1", "off.v1"], &[]),
            subscription(3, &[prices, orders], &[orders], &[]),
        ),
        (
            subscription(7, &["orders.v1"], &["nonsense", "friend.prices.v1"], b"newer"),
            subscription(7, &[orders], &[prices], b"newer"),
        ),
        (assignment(1, &["orders.v1", "zorro.secret.v1"]), assignment(1, &[orders])),
        (assignment(0, &[]), assignment(0, &[])),
        // Nobody's language.
        (Bytes::new(), Bytes::new()),
        (Bytes::from_static(b"\0\x01\0\0\0\x09"), Bytes::from_static(b"\0\x01\0\0\0\x09")),
        (Bytes::from_static(b"\xff\xff\0\0\0\0"), Bytes::from_static(b"\xff\xff\0\0\0\0")),
    ];
    let (said, meant) = rows[kind as usize].clone();
    if is_consumer { (said, meant) } else { (said.clone(), said) }
}

const SUBSCRIPTIONS: [u64; 5] = [0, 1, 2, 5, 6];
const ASSIGNMENTS: [u64; 4] = [3, 4, 5, 6];

fn in_kafka(said: &Bytes, kinds: &[u64], is_consumer: bool) -> Bytes {
    kinds.iter().map(|kind| member_bytes(*kind, is_consumer)).find(|(row, _)| row == said).expect("one of the rows").1
}

/// What a client gets of what Kafka has: the names it uses, without what it may not call by a name.
fn of_kafka(meant: &Bytes, kinds: &[u64], is_consumer: bool) -> Bytes {
    let back = |kind: u64| match (kind, is_consumer) {
        (1, true) => subscription(3, &["friend.prices.v1", "orders.v1"], &["orders.v1"], &[]),
        (2, true) => subscription(7, &["orders.v1"], &["friend.prices.v1"], b"newer"),
        (3, true) => assignment(1, &["orders.v1"]),
        _ => member_bytes(kind, is_consumer).0,
    };
    kinds
        .iter()
        .map(|kind| (member_bytes(*kind, is_consumer).1, back(*kind)))
        .find(|(row, _)| row == meant)
        .expect("a row")
        .1
}

fn one_of(seed: &mut Seed, kinds: &[u64]) -> u64 {
    kinds[seed.below(kinds.len() as u64) as usize]
}

#[test]
fn join_group_is_as_if_decoded_substituted_and_encoded() {
    use join_group_request::*;
    use join_group_response::*;
    check(
        ApiKey::JoinGroup,
        |seed, _| {
            let protocol_type = seed.one(&["consumer", "connect"]);
            let protocols = seed.many(3, |seed| {
                let metadata = member_bytes(one_of(seed, &SUBSCRIPTIONS), false).0;
                JoinGroupRequestProtocol::default().with_name(seed.word()).with_metadata(metadata)
            });
            let message = JoinGroupRequest::default().with_group_id(GroupId(seed.owned())).with_protocols(protocols);
            message.with_protocol_type(text(protocol_type)).with_member_id(seed.word())
        },
        |message, _, _| {
            message.group_id = GroupId(text(&own(&message.group_id)));
            let is_consumer = *message.protocol_type == *"consumer";
            for protocol in &mut message.protocols {
                protocol.metadata = in_kafka(&protocol.metadata, &SUBSCRIPTIONS, is_consumer);
            }
            Then::Forwarded(is_consumer)
        },
        |seed, asked, _| {
            let is_consumer = *asked.protocol_type == *"consumer";
            let members = seed.many(3, |seed| {
                let metadata = member_bytes(one_of(seed, &SUBSCRIPTIONS), is_consumer).1;
                JoinGroupResponseMember::default().with_member_id(seed.word()).with_metadata(metadata)
            });
            JoinGroupResponse::default().with_protocol_name(Some(seed.word())).with_members(members)
        },
        |message, _, _, is_consumer| {
            for member in &mut message.members {
                member.metadata = of_kafka(&member.metadata, &SUBSCRIPTIONS, is_consumer);
            }
        },
    );
}

#[test]
fn sync_group_is_as_if_decoded_substituted_and_encoded() {
    use sync_group_request::*;
    check(
        ApiKey::SyncGroup,
        |seed, version| {
            let assignments = seed.many(3, |seed| {
                let bytes = member_bytes(one_of(seed, &ASSIGNMENTS), false).0;
                SyncGroupRequestAssignment::default().with_member_id(seed.word()).with_assignment(bytes)
            });
            let message =
                SyncGroupRequest::default().with_group_id(GroupId(seed.owned())).with_assignments(assignments);
            let said = Some(text(seed.one(&["consumer", "connect"]))).filter(|_| seed.below(4) > 0);
            if version >= 5 { message.with_protocol_type(said) } else { message }
        },
        |message, _, _| {
            message.group_id = GroupId(text(&own(&message.group_id)));
            let is_consumer = message.protocol_type.as_ref().is_some_and(|said| **said == *"consumer");
            for one in &mut message.assignments {
                one.assignment = in_kafka(&one.assignment, &ASSIGNMENTS, is_consumer);
            }
            Then::Forwarded(is_consumer)
        },
        |seed, asked, _| {
            let is_consumer = asked.protocol_type.as_ref().is_some_and(|said| **said == *"consumer");
            SyncGroupResponse::default().with_assignment(member_bytes(one_of(seed, &ASSIGNMENTS), is_consumer).1)
        },
        |message, _, _, is_consumer| message.assignment = of_kafka(&message.assignment, &ASSIGNMENTS, is_consumer),
    );
}

#[test]
fn a_sync_group_that_does_not_say_what_its_group_is_follows_the_last_join() {
    use sync_group_request::*;
    for (version, protocol_type) in (0..=5).flat_map(|version| [(version, "consumer"), (version, "connect")]) {
        let is_consumer = protocol_type == "consumer";
        let mut client = Client::new(Side::Subscribe);
        let join =
            JoinGroupRequest::default().with_group_id(GroupId(text("g"))).with_protocol_type(text(protocol_type));
        client.send(&request(ApiKey::JoinGroup, 3, 1, &body_of(&join, 3).unwrap()), 64).expect("a join");
        let said = assignment(1, &["orders.v1"]);
        let one = SyncGroupRequestAssignment::default().with_assignment(said.clone());
        let sync = SyncGroupRequest::default().with_group_id(GroupId(text("g"))).with_assignments(vec![one]);
        let (out, _) =
            client.send(&request(ApiKey::SyncGroup, version, 2, &body_of(&sync, version).unwrap()), 64).unwrap();
        let (_, mut body) = request_body(frames(&out)[0].clone());
        let found =
            SyncGroupRequest::decode(&mut body, version).expect("a SyncGroup").assignments[0].assignment.clone();
        let meant = if is_consumer { assignment(1, &["app1.orders.v1"]) } else { said.clone() };
        assert_eq!(found, meant, "v{version} {protocol_type}");

        let join = body_of(&JoinGroupResponse::default().with_protocol_name(Some(text(""))), 3).unwrap();
        let sync = body_of(&SyncGroupResponse::default().with_assignment(meant), version).unwrap();
        let answers = [answer(ApiKey::JoinGroup, 3, 1, &join), answer(ApiKey::SyncGroup, version, 2, &sync)].concat();
        let out = client.receive(&answers, 64).expect("answers");
        let (_, mut body) = answer_body(ApiKey::SyncGroup, version, frames(&out)[1].clone());
        let found = SyncGroupResponse::decode(&mut body, version).expect("a SyncGroup answer").assignment;
        assert_eq!(found, said, "v{version} {protocol_type}");
    }
}

#[test]
fn heartbeat_is_as_if_decoded_substituted_and_encoded() {
    check(
        ApiKey::Heartbeat,
        |seed, version| {
            let message = HeartbeatRequest::default().with_group_id(GroupId(seed.owned())).with_member_id(seed.word());
            message.with_group_instance_id(if version >= 3 { seed.maybe() } else { None })
        },
        |message, _, _| {
            message.group_id = GroupId(text(&own(&message.group_id)));
            Then::Forwarded(())
        },
        |seed, _, _| HeartbeatResponse::default().with_error_code(seed.number() as i16),
        |_, _, _, ()| {},
    );
}

#[test]
fn leave_group_is_as_if_decoded_substituted_and_encoded() {
    use leave_group_request::*;
    use leave_group_response::*;
    check(
        ApiKey::LeaveGroup,
        |seed, version| {
            let message = LeaveGroupRequest::default().with_group_id(GroupId(seed.owned()));
            match version {
                0..3 => message.with_member_id(seed.word()),
                _ => message.with_members(seed.many(3, |seed| MemberIdentity::default().with_member_id(seed.word()))),
            }
        },
        |message, _, _| {
            message.group_id = GroupId(text(&own(&message.group_id)));
            Then::Forwarded(())
        },
        |seed, _, version| {
            let members = seed
                .many(if version >= 3 { 3 } else { 0 }, |seed| MemberResponse::default().with_member_id(seed.word()));
            LeaveGroupResponse::default().with_members(members)
        },
        |_, _, _, ()| {},
    );
}

/// A list of groups in an answer, those of others among them; only own ones come out.
fn groups_of_others(seed: &mut Seed, mut asked: Vec<GroupId>) -> Vec<GroupId> {
    for other in ["zorro.g", "app1", "app10.g", "", "friend.app1.g"] {
        if seed.below(3) == 0 {
            let at = seed.below(asked.len() as u64 + 1) as usize;
            asked.insert(at, GroupId(text(other)));
        }
    }
    asked
}

fn strip(group: &mut GroupId) -> bool {
    match group.strip_prefix("app1.").map(text) {
        Some(own) => {
            *group = GroupId(own);
            true
        }
        None => false,
    }
}

#[test]
fn describe_groups_is_as_if_decoded_substituted_and_encoded() {
    use describe_groups_response::*;
    check(
        ApiKey::DescribeGroups,
        |seed, version| {
            let message = DescribeGroupsRequest::default().with_groups(seed.many(3, |seed| GroupId(seed.owned())));
            message.with_include_authorized_operations(version >= 3 && seed.coin())
        },
        |message, _, _| {
            message.include_authorized_operations = false;
            message.groups.iter_mut().for_each(|group| *group = GroupId(text(&own(group))));
            Then::Forwarded(())
        },
        |seed, asked, version| {
            let groups = groups_of_others(seed, asked.groups.clone()).into_iter().map(|group| {
                let is_consumer = seed.coin();
                let members = seed.many(2, |seed| {
                    DescribedGroupMember::default()
                        .with_member_id(seed.word())
                        .with_client_host(text("/10.1.2.3"))
                        .with_member_metadata(member_bytes(one_of(seed, &SUBSCRIPTIONS), is_consumer).1)
                        .with_member_assignment(member_bytes(one_of(seed, &ASSIGNMENTS), is_consumer).1)
                });
                let group = DescribedGroup::default().with_group_id(group).with_members(members);
                let group = group.with_protocol_type(text(if is_consumer { "consumer" } else { "connect" }));
                if version >= 6 { group.with_error_message(seed.sentence()) } else { group }
            });
            DescribeGroupsResponse::default().with_groups(groups.collect())
        },
        |message, _, _, ()| {
            message.groups.retain_mut(|group| strip(&mut group.group_id));
            for group in &mut message.groups {
                said(&mut group.error_message);
                let is_consumer = *group.protocol_type == *"consumer";
                for member in &mut group.members {
                    member.client_host = text("/kproxy");
                    member.member_metadata = of_kafka(&member.member_metadata, &SUBSCRIPTIONS, is_consumer);
                    member.member_assignment = of_kafka(&member.member_assignment, &ASSIGNMENTS, is_consumer);
                }
            }
        },
    );
}

#[test]
fn list_groups_is_as_if_decoded_substituted_and_encoded() {
    use list_groups_response::*;
    check(
        ApiKey::ListGroups,
        |seed, version| {
            let states = seed.many(if version >= 4 { 2 } else { 0 }, |seed| seed.word());
            ListGroupsRequest::default().with_states_filter(states)
        },
        |_, _, _| Then::Forwarded(()),
        |seed, _, _| {
            let own_groups = seed.many(4, |seed| GroupId(text(&own(&seed.owned()))));
            let groups = groups_of_others(seed, own_groups).into_iter();
            let groups =
                groups.map(|group| ListedGroup::default().with_group_id(group).with_protocol_type(text("consumer")));
            ListGroupsResponse::default().with_groups(groups.collect())
        },
        |message, _, _, ()| message.groups.retain_mut(|group| strip(&mut group.group_id)),
    );
}

#[test]
fn delete_groups_is_as_if_decoded_substituted_and_encoded() {
    use delete_groups_response::*;
    check(
        ApiKey::DeleteGroups,
        |seed, _| DeleteGroupsRequest::default().with_groups_names(seed.many(3, |seed| GroupId(seed.owned()))),
        |message, _, _| {
            message.groups_names.iter_mut().for_each(|group| *group = GroupId(text(&own(group))));
            Then::Forwarded(())
        },
        |seed, asked, _| {
            let groups = groups_of_others(seed, asked.groups_names.clone()).into_iter();
            let results = groups.map(|group| DeletableGroupResult::default().with_group_id(group)).collect();
            DeleteGroupsResponse::default().with_results(results)
        },
        |message, _, _, ()| message.results.retain_mut(|result| strip(&mut result.group_id)),
    );
}

#[test]
fn init_producer_id_is_as_if_decoded_substituted_and_encoded() {
    check(
        ApiKey::InitProducerId,
        |seed, _| {
            let id = seed.coin().then(|| TransactionalId(seed.owned()));
            InitProducerIdRequest::default().with_transactional_id(id).with_transaction_timeout_ms(seed.number())
        },
        |message, _, _| {
            if let Some(id) = &mut message.transactional_id {
                *id = TransactionalId(text(&own(id)));
            }
            Then::Forwarded(())
        },
        |seed, _, _| InitProducerIdResponse::default().with_producer_id(ProducerId(seed.number().into())),
        |_, _, _, ()| {},
    );
}

#[test]
fn offset_for_leader_epoch_is_as_if_decoded_substituted_and_encoded() {
    use offset_for_leader_epoch_request::*;
    use offset_for_leader_epoch_response::*;
    check(
        ApiKey::OffsetForLeaderEpoch,
        |seed, _| {
            let topics = seed.many(4, |seed| {
                let parts = seed.many(3, |seed| OffsetForLeaderPartition::default().with_partition(seed.number()));
                OffsetForLeaderTopic::default().with_topic(seed.topic()).with_partitions(parts)
            });
            OffsetForLeaderEpochRequest::default().with_topics(topics)
        },
        |message, _, side| {
            Then::Forwarded(substitute!(message.topics, others(side), topic, |topic: &OffsetForLeaderTopic| {
                of_parts(&topic.partitions, |one| one.partition)
            }))
        },
        |_, asked, _| {
            let topics = asked.topics.iter().map(|topic| {
                let parts = topic.partitions.iter().map(|one| EpochEndOffset::default().with_partition(one.partition));
                OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(parts.collect())
            });
            OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
        },
        |message, _, _, cut| {
            restore(
                &mut message.topics,
                &cut,
                |topic| &mut topic.topic,
                |cut| {
                    let parts = cut
                        .partitions
                        .iter()
                        .map(|index| EpochEndOffset::default().with_partition(*index).with_error_code(cut.code));
                    OffsetForLeaderTopicResult::default().with_topic(cut.name.clone()).with_partitions(parts.collect())
                },
            );
        },
    );
}

#[test]
fn add_partitions_to_txn_is_as_if_decoded_substituted_and_encoded() {
    use add_partitions_to_txn_request::*;
    use add_partitions_to_txn_response::*;
    check(
        ApiKey::AddPartitionsToTxn,
        |seed, _| {
            let topics = seed.many(4, |seed| {
                AddPartitionsToTxnTopic::default().with_name(seed.topic()).with_partitions(seed.partitions())
            });
            let message = AddPartitionsToTxnRequest::default().with_v3_and_below_topics(topics);
            message.with_v3_and_below_transactional_id(TransactionalId(seed.owned()))
        },
        |message, _, _| {
            let id = &mut message.v3_and_below_transactional_id;
            *id = TransactionalId(text(&own(id)));
            let partitions = |topic: &AddPartitionsToTxnTopic| topic.partitions.clone();
            Then::Forwarded(substitute!(message.v3_and_below_topics, Others::None, name, partitions))
        },
        |_, asked, _| {
            let topics = asked.v3_and_below_topics.iter().map(|topic| {
                let parts = topic
                    .partitions
                    .iter()
                    .map(|index| AddPartitionsToTxnPartitionResult::default().with_partition_index(*index));
                AddPartitionsToTxnTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_results_by_partition(parts.collect())
            });
            AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
        },
        |message, _, _, cut| {
            restore(
                &mut message.results_by_topic_v3_and_below,
                &cut,
                |topic| &mut topic.name,
                |cut| {
                    let parts = cut.partitions.iter().map(|index| {
                        let part = AddPartitionsToTxnPartitionResult::default().with_partition_index(*index);
                        part.with_partition_error_code(cut.code)
                    });
                    AddPartitionsToTxnTopicResult::default()
                        .with_name(cut.name.clone())
                        .with_results_by_partition(parts.collect())
                },
            );
        },
    );
}

#[test]
fn add_offsets_to_txn_is_as_if_decoded_substituted_and_encoded() {
    check(
        ApiKey::AddOffsetsToTxn,
        |seed, _| {
            let message = AddOffsetsToTxnRequest::default().with_transactional_id(TransactionalId(seed.owned()));
            message.with_group_id(GroupId(seed.owned()))
        },
        |message, _, _| {
            message.transactional_id = TransactionalId(text(&own(&message.transactional_id)));
            message.group_id = GroupId(text(&own(&message.group_id)));
            Then::Forwarded(())
        },
        |seed, _, _| AddOffsetsToTxnResponse::default().with_error_code(seed.number() as i16),
        |_, _, _, ()| {},
    );
}

#[test]
fn end_txn_is_as_if_decoded_substituted_and_encoded() {
    check(
        ApiKey::EndTxn,
        |seed, _| {
            let message = EndTxnRequest::default().with_transactional_id(TransactionalId(seed.owned()));
            message.with_committed(seed.coin())
        },
        |message, _, _| {
            message.transactional_id = TransactionalId(text(&own(&message.transactional_id)));
            Then::Forwarded(())
        },
        |seed, _, _| EndTxnResponse::default().with_error_code(seed.number() as i16),
        |_, _, _, ()| {},
    );
}

#[test]
fn txn_offset_commit_is_as_if_decoded_substituted_and_encoded() {
    use txn_offset_commit_request::*;
    use txn_offset_commit_response::*;
    check(
        ApiKey::TxnOffsetCommit,
        |seed, _| {
            let topics = seed.many(4, |seed| {
                let parts = seed.many(3, |seed| {
                    let part = TxnOffsetCommitRequestPartition::default().with_partition_index(seed.number());
                    part.with_committed_metadata(seed.maybe())
                });
                TxnOffsetCommitRequestTopic::default().with_name(seed.topic()).with_partitions(parts)
            });
            let message = TxnOffsetCommitRequest::default().with_transactional_id(TransactionalId(seed.owned()));
            message.with_group_id(GroupId(seed.owned())).with_topics(topics)
        },
        |message, _, _| {
            message.transactional_id = TransactionalId(text(&own(&message.transactional_id)));
            message.group_id = GroupId(text(&own(&message.group_id)));
            // A producer commits what the app's consumers have read.
            Then::Forwarded(substitute!(
                message.topics,
                Others::Granted,
                name,
                |topic: &TxnOffsetCommitRequestTopic| { of_parts(&topic.partitions, |one| one.partition_index) }
            ))
        },
        |_, asked, _| {
            let topics = asked.topics.iter().map(|topic| {
                let parts = topic
                    .partitions
                    .iter()
                    .map(|one| TxnOffsetCommitResponsePartition::default().with_partition_index(one.partition_index));
                TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(parts.collect())
            });
            TxnOffsetCommitResponse::default().with_topics(topics.collect())
        },
        |message, _, _, cut| {
            restore(
                &mut message.topics,
                &cut,
                |topic| &mut topic.name,
                |cut| {
                    let parts = cut.partitions.iter().map(|index| {
                        let part = TxnOffsetCommitResponsePartition::default().with_partition_index(*index);
                        part.with_error_code(cut.code)
                    });
                    TxnOffsetCommitResponseTopic::default().with_name(cut.name.clone()).with_partitions(parts.collect())
                },
            );
        },
    );
}

#[test]
fn offset_delete_is_as_if_decoded_substituted_and_encoded() {
    use offset_delete_request::*;
    use offset_delete_response::*;
    check(
        ApiKey::OffsetDelete,
        |seed, _| {
            let topics = seed.many(4, |seed| {
                let parts =
                    seed.many(3, |seed| OffsetDeleteRequestPartition::default().with_partition_index(seed.number()));
                OffsetDeleteRequestTopic::default().with_name(seed.topic()).with_partitions(parts)
            });
            OffsetDeleteRequest::default().with_group_id(GroupId(seed.owned())).with_topics(topics)
        },
        |message, _, side| {
            message.group_id = GroupId(text(&own(&message.group_id)));
            Then::Forwarded(substitute!(message.topics, others(side), name, |topic: &OffsetDeleteRequestTopic| {
                of_parts(&topic.partitions, |one| one.partition_index)
            }))
        },
        |_, asked, _| {
            let topics = asked.topics.iter().map(|topic| {
                let parts = topic
                    .partitions
                    .iter()
                    .map(|one| OffsetDeleteResponsePartition::default().with_partition_index(one.partition_index));
                OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(parts.collect())
            });
            OffsetDeleteResponse::default().with_topics(topics.collect())
        },
        |message, _, _, cut| {
            restore(
                &mut message.topics,
                &cut,
                |topic| &mut topic.name,
                |cut| {
                    let parts = cut.partitions.iter().map(|index| {
                        let part = OffsetDeleteResponsePartition::default().with_partition_index(*index);
                        part.with_error_code(cut.code)
                    });
                    OffsetDeleteResponseTopic::default().with_name(cut.name.clone()).with_partitions(parts.collect())
                },
            );
        },
    );
}

#[test]
fn describe_cluster_is_as_if_decoded_substituted_and_encoded() {
    use describe_cluster_response::*;
    check(
        ApiKey::DescribeCluster,
        |seed, _| DescribeClusterRequest::default().with_include_cluster_authorized_operations(seed.coin()),
        |message, _, _| {
            message.include_cluster_authorized_operations = false;
            Then::Forwarded(())
        },
        |seed, _, _| {
            let brokers = (0..3).map(|node| {
                let broker = DescribeClusterBroker::default().with_broker_id(BrokerId(node)).with_port(9092);
                broker.with_host(text("kafka.internal"))
            });
            let message = DescribeClusterResponse::default().with_cluster_id(text("kafkas-own-cluster-id"));
            message.with_controller_id(BrokerId(1)).with_brokers(brokers.collect()).with_error_message(seed.sentence())
        },
        |message, _, _, ()| {
            message.cluster_id = text(&Client::new(Side::Publish).session.tenant().cluster_id());
            said(&mut message.error_message);
            for broker in &mut message.brokers {
                (broker.host, broker.port) = (text("proxy.example"), 9101 + broker.broker_id.0);
            }
        },
    );
}

#[test]
fn consumer_group_heartbeat_is_as_if_decoded_substituted_and_encoded() {
    use consumer_group_heartbeat_response::*;
    check(
        ApiKey::ConsumerGroupHeartbeat,
        |seed, version| {
            let names = match seed.below(3) {
                0 => seed.many(3, Seed::topic),
                _ => seed.many(3, |seed| topic_name(seed.one(&["orders.v1", "friend.prices.v10", "orders.v10"]))),
            };
            let message = ConsumerGroupHeartbeatRequest::default().with_group_id(GroupId(seed.owned()));
            let message = message.with_member_id(seed.word()).with_subscribed_topic_names(seed.coin().then_some(names));
            let pattern = Some(text(seed.one(&["", ".*", "zorro\\..*"]))).filter(|_| seed.below(4) == 0);
            if version >= 1 { message.with_subscribed_topic_regex(pattern) } else { message }
        },
        |message, _, _| {
            message.group_id = GroupId(text(&own(&message.group_id)));
            for name in message.subscribed_topic_names.iter_mut().flatten() {
                match allowed(name, Others::Granted) {
                    Some(physical) => *name = topic_name(&physical),
                    None => return Then::Answered(29),
                }
            }
            match message.subscribed_topic_regex.as_ref().is_some_and(|pattern| !pattern.is_empty()) {
                true => Then::Answered(128),
                false => Then::Forwarded(()),
            }
        },
        |seed, _, _| {
            let part = consumer_group_heartbeat_response::TopicPartitions::default().with_topic_id(uuid!(ID_ORDERS));
            let assignment = Assignment::default().with_topic_partitions(vec![part.with_partitions(vec![1])]);
            let message = ConsumerGroupHeartbeatResponse::default().with_assignment(seed.coin().then_some(assignment));
            message.with_error_message(seed.sentence())
        },
        |message, _, _, ()| said(&mut message.error_message),
    );
}

#[test]
fn consumer_group_describe_is_as_if_decoded_substituted_and_encoded() {
    use consumer_group_describe_response::*;
    let in_kafka = ["app1.orders.v1", "friend.prices.v1"];
    let assigned = move |seed: &mut Seed| {
        let parts = seed.many(2, |seed| {
            let part = TopicPartitions::default().with_topic_id(uuid!(ID_ORDERS)).with_partitions(vec![1]);
            part.with_topic_name(topic_name(seed.one(&in_kafka)))
        });
        Assignment::default().with_topic_partitions(parts)
    };
    check(
        ApiKey::ConsumerGroupDescribe,
        |seed, _| {
            let message = ConsumerGroupDescribeRequest::default().with_include_authorized_operations(seed.coin());
            message.with_group_ids(seed.many(3, |seed| GroupId(seed.owned())))
        },
        |message, _, _| {
            message.include_authorized_operations = false;
            message.group_ids.iter_mut().for_each(|group| *group = GroupId(text(&own(group))));
            Then::Forwarded(())
        },
        |seed, asked, _| {
            let groups = groups_of_others(seed, asked.group_ids.clone()).into_iter().map(|group| {
                let members = seed.many(2, |seed| {
                    Member::default()
                        .with_client_host(text("/10.1.2.3"))
                        .with_subscribed_topic_names(seed.many(2, |seed| topic_name(seed.one(&in_kafka))))
                        .with_assignment(assigned(seed))
                        .with_target_assignment(assigned(seed))
                });
                let group = DescribedGroup::default().with_group_id(group).with_members(members);
                group.with_error_message(seed.sentence())
            });
            ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
        },
        |message, _, _, ()| {
            message.groups.retain_mut(|group| strip(&mut group.group_id));
            for group in &mut message.groups {
                said(&mut group.error_message);
                for member in &mut group.members {
                    member.client_host = text("/kproxy");
                    let assigned = member.assignment.topic_partitions.iter_mut();
                    let assigned = assigned.chain(&mut member.target_assignment.topic_partitions);
                    let names = assigned.map(|part| &mut part.topic_name).chain(&mut member.subscribed_topic_names);
                    names.for_each(|name| *name = shown(name));
                }
            }
        },
    );
}

#[test]
fn versions_that_kafka_protocol_does_not_know_are_renamed_by_our_own_shapes() {
    for (api, version) in UNKNOWN {
        let rule = rules::of(api.key()).expect("a rule");
        let side = if rule.need == Need::Publish { Side::Publish } else { Side::Subscribe };
        let by_id = matches!(api, ApiKey::OffsetCommit | ApiKey::OffsetFetch | ApiKey::TxnOffsetCommit);
        let has_topics = !rule.request.topics.is_empty();
        let (asked, kept, cut): (Vec<Called>, Vec<Called>, &[&str]) = match by_id {
            true => (
                [ID_SECRET, ID_ORDERS, ID_UNKNOWN, ID_PRICES].map(Called::Id).into(),
                [ID_ORDERS, ID_PRICES].map(Called::Id).into(),
                &["id 31", "100", "id 7f", "100"],
            ),
            false => (
                ["zorro.secret.v1", "orders.v1", "off.v1", "friend.prices.v1"].map(called).into(),
                ["app1.orders.v1", "friend.prices.v1"].map(called).into(),
                &["“zorro.secret.v1”", "29", "“off.v1”", "29"],
            ),
        };
        for piece_bytes in [1, 7, 64, 4096] {
            let what = format!("{api} v{version} in pieces of {piece_bytes}");
            let mut client = Client::new(side);
            let body = Spoken { topics: &asked, ..Spoken::default() }.body(&rule.request, *version);
            let (out, _) = client.send(&request(*api, *version, 7, &body), piece_bytes).expect("a request");
            let (_, body) = request_body(frames(&out)[0].clone());
            let kafka = Spoken { topics: &kept, owned: &["app1.g"], ..Spoken::default() };
            assert_eq!(
                heard(&rule.request, *version, &body),
                heard(&rule.request, *version, &kafka.body(&rule.request, *version)),
                "{what}"
            );

            let said = kafka.body(&rule.response, *version);
            let out = client.receive(&answer(*api, *version, 7, &said), piece_bytes).expect("an answer");
            let (_, body) = answer_body(*api, *version, frames(&out)[0].clone());
            let mut found = heard(&rule.response, *version, &body);
            if has_topics {
                let mut expected: Vec<String> = cut.iter().map(|word| (*word).to_owned()).collect();
                // OffsetFetch names the group before, and says how it is behind its topics.
                let from = found.iter().position(|word| *word == cut[0]).unwrap_or_else(|| panic!("{what}: {found:?}"));
                found.drain(..from);
                found.sort();
                let shown: Vec<_> = match by_id {
                    true => ["id 11", "id 21"].map(str::to_owned).into(),
                    false => ["“orders.v1”", "“friend.prices.v1”"].map(str::to_owned).into(),
                };
                expected.extend(shown);
                let zeros = if *api == ApiKey::OffsetFetch { 3 } else { 2 };
                expected.extend(vec!["0".to_owned(); zeros]);
                expected.sort();
                assert_eq!(found, expected, "{what}");
            } else {
                assert_eq!(found, ["“g”", "0"], "{what}");
            }
        }
    }
}

#[test]
fn no_rule_is_left_out() {
    let here = include_str!("tenant_renaming.rs");
    for rule in rules::RULES.iter().filter(|rule| rule.way != rules::Way::Local) {
        assert!(
            here.contains(&format!("check(\n        ApiKey::{},", rule.key.name())),
            "{} is not compared",
            rule.key
        );
    }
}

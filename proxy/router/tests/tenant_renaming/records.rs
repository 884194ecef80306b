//! Produce and Fetch.

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use kafka_wire::ApiKey;

use crate::harness::*;

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
            let message = FetchRequest::default()
                .with_max_bytes(1 << 26)
                .with_topics(topics)
                .with_forgotten_topics_data(forgotten);
            let replica = BrokerId(seed.number());
            let message = match version >= 7 {
                true => message.with_session_id(seed.number()).with_session_epoch(seed.number()),
                false => message,
            };
            match version < 15 {
                true => message.with_replica_id(replica),
                false => message.with_replica_state(ReplicaState::default().with_replica_id(replica)),
            }
        },
        |message, version, side| {
            message.replica_id = BrokerId(-1);
            message.replica_state.replica_id = BrokerId(-1);
            let by_id = version >= 13;
            let is_capped = |topic: &FetchTopic| **topic.topic == *"capped.v1";
            if !by_id || message.topics.iter().any(is_capped) {
                message.max_bytes = 8 << 20;
            }
            let partitions = |topic: &FetchTopic| of_parts(&topic.partitions, |one| one.partition);
            let none = |_: &ForgottenTopic| Vec::new();
            let cuts = match by_id {
                true => {
                    substitute_ids!(message.forgotten_topics_data, others(side), none);
                    substitute_ids!(message.topics, others(side), partitions)
                }
                false => {
                    substitute!(message.forgotten_topics_data, others(side), topic, none);
                    substitute!(message.topics, others(side), topic, partitions)
                }
            };
            // What was cut out is not in the broker's session: there is none.
            if version >= 7 && !cuts.is_empty() {
                message.session_epoch = -1;
            }
            Then::Forwarded(cuts)
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

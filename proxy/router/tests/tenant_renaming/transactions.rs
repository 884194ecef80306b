//! Transactions.

use kafka_protocol::messages::*;
use kafka_wire::ApiKey;

use crate::harness::*;

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

//! Where groups stand.

use kafka_protocol::messages::*;
use kafka_wire::ApiKey;

use crate::harness::*;

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

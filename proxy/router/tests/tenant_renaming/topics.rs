//! What is asked about topics, and about the cluster.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use kafka_wire::ApiKey;
use model::Side;

use crate::harness::*;

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
            // As if it were a broker.
            ListOffsetsRequest::default().with_replica_id(BrokerId(seed.number())).with_topics(topics)
        },
        |message, _, side| {
            message.replica_id = BrokerId(-1);
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
fn offset_for_leader_epoch_is_as_if_decoded_substituted_and_encoded() {
    use offset_for_leader_epoch_request::*;
    use offset_for_leader_epoch_response::*;
    check(
        ApiKey::OffsetForLeaderEpoch,
        |seed, version| {
            let topics = seed.many(4, |seed| {
                let parts = seed.many(3, |seed| OffsetForLeaderPartition::default().with_partition(seed.number()));
                OffsetForLeaderTopic::default().with_topic(seed.topic()).with_partitions(parts)
            });
            let message = OffsetForLeaderEpochRequest::default().with_topics(topics);
            if version >= 3 { message.with_replica_id(BrokerId(seed.number())) } else { message }
        },
        |message, version, side| {
            if version >= 3 {
                message.replica_id = BrokerId(-1);
            }
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

//! Rewriting equals decoding, substituting and encoding, for every message that carries an address and every version.
//!
//! kafka-protocol is the judge: it knows nothing of shapes and edits.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::{ApiKey, header};
use router::apis::{Answer, offered};
use router::rewrite::rewrite;
use router::topology::{Learned, Naming, View};

/// Nodes 0 to 4 have a place; others do not.
fn view() -> View {
    View { host: "proxy.example".into(), naming: Naming::Ports { first: 9101, base: 0, width: 5 } }
}

fn proxied(node: i32) -> Option<(StrBytes, i32)> {
    (0..5).contains(&node).then(|| (text("proxy.example"), 9101 + node))
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
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

    /// −1 to 8: nobody, with a place, without.
    fn node(&mut self) -> i32 {
        self.below(10) as i32 - 1
    }

    fn name(&mut self) -> StrBytes {
        text(&"x".repeat(self.below(200) as usize))
    }

    fn maybe(&mut self) -> Option<StrBytes> {
        (self.below(2) == 0).then(|| self.name())
    }

    fn host(&mut self) -> StrBytes {
        text(&format!("kafka-{}.internal", self.below(1000)))
    }

    fn many<T>(&mut self, most: u64, mut one: impl FnMut(&mut Seed) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }
}

fn frame(api: ApiKey, version: i16, message: &impl Encodable) -> Option<(Bytes, usize)> {
    let mut out = BytesMut::from(&[0; 4][..]);
    header::encode_response_header(&mut out, api, version, 77);
    let header_bytes = out.len() - 4;
    message.encode(&mut out, version).ok()?;
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Some((out.freeze(), header_bytes))
}

/// Makes messages from seeds and compares; gives how many versions kafka-protocol could write.
fn check<M: Encodable + Decodable + PartialEq + std::fmt::Debug + Clone>(
    api: ApiKey,
    make: impl Fn(&mut Seed, i16) -> M,
    substitute: impl Fn(&mut M, i16),
) {
    let row = offered(api.key()).expect("offered");
    let Answer::Rewritten(rewriter) = row.handled else { panic!("{api} is not rewritten") };
    let mut versions = 0;
    for version in row.handled_from..=row.version_max {
        let mut written = 0;
        for seed in 1..=200 {
            let made = make(&mut Seed(seed * 0x9e37_79b9), version);
            let Some((frame, header_bytes)) = frame(api, version, &made) else { continue };
            let mut expected = M::decode(&mut frame.slice(4 + header_bytes..), version).expect("just written");
            substitute(&mut expected, version);
            let mut learned = Vec::<Learned>::new();
            let rewritten = rewrite(rewriter, version, &frame, header_bytes, &view(), &mut learned)
                .unwrap_or_else(|err| panic!("{api} v{version} seed {seed}: {err}"));
            let length = i32::from_be_bytes(rewritten[..4].try_into().unwrap());
            assert_eq!(length as usize, rewritten.len() - 4, "{api} v{version} seed {seed}");
            let mut body = rewritten.slice(4 + header_bytes..);
            let found =
                M::decode(&mut body, version).unwrap_or_else(|err| panic!("{api} v{version} seed {seed}: {err}"));
            assert_eq!(found, expected, "{api} v{version} seed {seed}");
            assert!(body.is_empty(), "{api} v{version} seed {seed}: {} bytes follow", body.len());
            assert!(!String::from_utf8_lossy(&rewritten).contains(".internal"), "{api} v{version} seed {seed} leaks");
            written += 1;
        }
        versions += usize::from(written > 0);
    }
    assert!(versions > 0, "kafka-protocol writes no version of {api}");
}

#[test]
fn metadata_is_as_if_decoded_substituted_and_encoded() {
    use metadata_response::*;
    check(
        ApiKey::Metadata,
        |seed, _| {
            let mut nodes: Vec<i32> = (0..9).filter(|_| seed.below(2) == 0).collect();
            let first = seed.below(3) as usize % nodes.len().max(1);
            nodes.rotate_left(first);
            let brokers = nodes.iter().map(|node| {
                let broker = MetadataResponseBroker::default().with_node_id(BrokerId(*node));
                broker.with_host(seed.host()).with_port(9092).with_rack(seed.maybe())
            });
            let brokers = brokers.collect();
            let topics = seed.many(4, |seed| {
                let partitions = seed.many(5, |seed| {
                    MetadataResponsePartition::default()
                        .with_error_code([0, 0, 5, 9][seed.below(4) as usize])
                        .with_partition_index(seed.below(9) as i32)
                        .with_leader_id(BrokerId(seed.node()))
                        .with_replica_nodes(seed.many(3, |seed| BrokerId(seed.node())))
                        .with_isr_nodes(seed.many(3, |seed| BrokerId(seed.node())))
                });
                MetadataResponseTopic::default().with_name(Some(TopicName(seed.name()))).with_partitions(partitions)
            });
            MetadataResponse::default()
                .with_brokers(brokers)
                .with_cluster_id(seed.maybe())
                .with_controller_id(BrokerId(seed.node()))
                .with_topics(topics)
        },
        |message, _| {
            message.brokers.retain(|broker| proxied(broker.node_id.0).is_some());
            for broker in &mut message.brokers {
                (broker.host, broker.port) = proxied(broker.node_id.0).unwrap();
            }
            if message.controller_id.0 >= 5 {
                message.controller_id = BrokerId(-1);
            }
            for partition in message.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.leader_id.0 >= 5 {
                    partition.leader_id = BrokerId(-1);
                    partition.error_code = if partition.error_code == 0 { 5 } else { partition.error_code };
                }
            }
        },
    );
}

#[test]
fn find_coordinator_is_as_if_decoded_substituted_and_encoded() {
    use find_coordinator_response::*;
    let made = |seed: &mut Seed| (seed.node(), seed.host(), 9092);
    let place =
        |node: i32, host: &StrBytes| -> Option<Option<(StrBytes, i32)>> { (!host.is_empty()).then(|| proxied(node)) };
    check(
        ApiKey::FindCoordinator,
        |seed, version| {
            if version < 4 {
                let (node, host, port) = made(seed);
                let message = FindCoordinatorResponse::default().with_node_id(BrokerId(node));
                return message.with_host(host).with_port(port);
            }
            let coordinators = seed.many(4, |seed| {
                let (node, host, port) = made(seed);
                let one = Coordinator::default().with_key(seed.name()).with_node_id(BrokerId(node));
                one.with_host(host).with_port(port).with_error_message(seed.maybe())
            });
            FindCoordinatorResponse::default().with_coordinators(coordinators)
        },
        |message, version| {
            if version < 4 {
                match place(message.node_id.0, &message.host) {
                    None => {}
                    Some(Some((host, port))) => (message.host, message.port) = (host, port),
                    Some(None) => {
                        message.error_code = 15;
                        (message.node_id, message.host, message.port) = (BrokerId(-1), text(""), -1);
                    }
                }
            }
            for one in &mut message.coordinators {
                match place(one.node_id.0, &one.host) {
                    None => {}
                    Some(Some((host, port))) => (one.host, one.port) = (host, port),
                    Some(None) => {
                        one.error_code = 15;
                        (one.node_id, one.host, one.port) = (BrokerId(-1), text(""), -1);
                    }
                }
            }
        },
    );
}

#[test]
fn describe_cluster_is_as_if_decoded_substituted_and_encoded() {
    use describe_cluster_response::*;
    check(
        ApiKey::DescribeCluster,
        |seed, version| {
            let brokers = (0..9).filter(|_| seed.below(2) == 0).collect::<Vec<i32>>().into_iter().map(|node| {
                let broker = DescribeClusterBroker::default().with_broker_id(BrokerId(node));
                broker.with_host(seed.host()).with_port(9092).with_rack(seed.maybe())
            });
            let message = DescribeClusterResponse::default().with_brokers(brokers.collect());
            let message = message.with_cluster_id(seed.name()).with_controller_id(BrokerId(seed.node()));
            if version >= 1 { message.with_endpoint_type(1 + seed.below(2) as i8) } else { message }
        },
        |message, version| {
            let of_controllers = version >= 1 && message.endpoint_type == 2;
            message.brokers.retain(|broker| !of_controllers && proxied(broker.broker_id.0).is_some());
            for broker in &mut message.brokers {
                (broker.host, broker.port) = proxied(broker.broker_id.0).unwrap();
            }
            if message.controller_id.0 >= 5 {
                message.controller_id = BrokerId(-1);
            }
        },
    );
}

#[test]
fn produce_is_as_if_decoded_substituted_and_encoded() {
    use produce_response::*;
    check(
        ApiKey::Produce,
        |seed, version| {
            let endpoints = (0..9).filter(|_| seed.below(3) == 0).collect::<Vec<i32>>().into_iter().map(|node| {
                let endpoint = NodeEndpoint::default().with_node_id(BrokerId(node));
                endpoint.with_host(seed.host()).with_port(9092).with_rack(seed.maybe())
            });
            let endpoints: Vec<_> = endpoints.collect();
            let responses = seed.many(3, |seed| {
                let partitions = seed.many(3, |seed| {
                    let partition = PartitionProduceResponse::default().with_index(seed.below(9) as i32);
                    let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(seed.node()));
                    partition.with_base_offset(5).with_error_message(seed.maybe()).with_current_leader(leader)
                });
                let topic = TopicProduceResponse::default().with_partition_responses(partitions);
                if version < 13 { topic.with_name(TopicName(seed.name())) } else { topic }
            });
            ProduceResponse::default().with_responses(responses).with_node_endpoints(endpoints)
        },
        |message, _| {
            message.node_endpoints.retain(|endpoint| proxied(endpoint.node_id.0).is_some());
            for endpoint in &mut message.node_endpoints {
                (endpoint.host, endpoint.port) = proxied(endpoint.node_id.0).unwrap();
            }
        },
    );
}

#[test]
fn share_acknowledge_is_as_if_decoded_substituted_and_encoded() {
    use share_acknowledge_response::*;
    check(
        ApiKey::ShareAcknowledge,
        |seed, _| {
            let endpoints = (0..9).filter(|_| seed.below(3) == 0).collect::<Vec<i32>>().into_iter().map(|node| {
                let endpoint = NodeEndpoint::default().with_node_id(BrokerId(node));
                endpoint.with_host(seed.host()).with_port(9092).with_rack(seed.maybe())
            });
            let endpoints: Vec<_> = endpoints.collect();
            let responses = seed.many(3, |seed| {
                let partitions = seed
                    .many(3, |seed| PartitionData::default().with_partition_index(1).with_error_message(seed.maybe()));
                ShareAcknowledgeTopicResponse::default().with_partitions(partitions)
            });
            ShareAcknowledgeResponse::default().with_responses(responses).with_node_endpoints(endpoints)
        },
        |message, _| {
            message.node_endpoints.retain(|endpoint| proxied(endpoint.node_id.0).is_some());
            for endpoint in &mut message.node_endpoints {
                (endpoint.host, endpoint.port) = proxied(endpoint.node_id.0).unwrap();
            }
        },
    );
}

#[test]
fn describe_quorum_is_as_if_decoded_substituted_and_encoded() {
    use describe_quorum_response::*;
    check(
        ApiKey::DescribeQuorum,
        |seed, _| {
            let nodes = seed.many(4, |seed| {
                let listeners = seed
                    .many(3, |seed| Listener::default().with_name(seed.name()).with_host(seed.host()).with_port(9093));
                Node::default().with_node_id(BrokerId(seed.node())).with_listeners(listeners)
            });
            let topics = seed.many(2, |seed| {
                let voters = seed.many(3, |seed| ReplicaState::default().with_replica_id(BrokerId(seed.node())));
                let partition = PartitionData::default().with_current_voters(voters).with_error_message(seed.maybe());
                TopicData::default().with_topic_name(TopicName(seed.name())).with_partitions(vec![partition])
            });
            DescribeQuorumResponse::default().with_nodes(nodes).with_topics(topics).with_error_message(seed.maybe())
        },
        |message, _| message.nodes.iter_mut().for_each(|node| node.listeners.clear()),
    );
}

#[test]
fn describe_topic_partitions_is_as_if_decoded_substituted_and_encoded() {
    use describe_topic_partitions_response::*;
    check(
        ApiKey::DescribeTopicPartitions,
        |seed, _| {
            let topics = seed.many(3, |seed| {
                let partitions = seed.many(4, |seed| {
                    let partition = DescribeTopicPartitionsResponsePartition::default();
                    partition
                        .with_error_code([0, 9][seed.below(2) as usize])
                        .with_leader_id(BrokerId(seed.node()))
                        .with_replica_nodes(seed.many(3, |seed| BrokerId(seed.node())))
                });
                let topic = DescribeTopicPartitionsResponseTopic::default().with_partitions(partitions);
                topic.with_name(Some(TopicName(seed.name())))
            });
            DescribeTopicPartitionsResponse::default().with_topics(topics)
        },
        |message, _| {
            for partition in message.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.leader_id.0 >= 5 {
                    partition.leader_id = BrokerId(-1);
                    partition.error_code = if partition.error_code == 0 { 5 } else { partition.error_code };
                }
            }
        },
    );
}

#[test]
fn api_versions_is_cut_down_to_the_list_and_keeps_everything_else() {
    use api_versions_response::*;
    let row = |key: i16, min, max| ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max);
    let feature = SupportedFeatureKey::default().with_name(text("transaction.version")).with_max_version(2);
    for version in 0..=4 {
        for error in [0, 35] {
            let coded = if error == 35 { 0 } else { version };
            let made = ApiVersionsResponse::default().with_error_code(error).with_api_keys(vec![
                row(0, 0, 99),
                row(3, 0, 4),
                row(4, 0, 7),
                row(18, 0, 9),
                row(75, 1, 3),
                row(1234, 0, 1),
            ]);
            let made = if coded >= 3 { made.with_supported_features(vec![feature.clone()]) } else { made };
            let (frame, header_bytes) = frame(ApiKey::ApiVersions, coded, &made).expect("written");
            let rewriter = router::apis::Rewriter::ApiVersions;
            let rewritten = rewrite(rewriter, version, &frame, header_bytes, &view(), &mut Vec::new()).expect("read");
            let found = ApiVersionsResponse::decode(&mut rewritten.slice(4 + header_bytes..), coded).expect("whole");
            let expected = ApiVersionsResponse::decode(&mut frame.slice(4 + header_bytes..), coded).expect("whole");
            let expected = expected.with_api_keys(vec![row(0, 0, 13), row(3, 0, 4), row(18, 0, 5)]);
            assert_eq!(found, expected, "v{version} error {error}");
        }
    }
}

//! Groups, old and new, and their coordinators.

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use kafka_wire::ApiKey;
use model::Side;

use crate::harness::*;

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

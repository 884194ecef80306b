//! One shape for each group request inside, the shape its version has on the wire.
//!
//! Versions of LeaveGroup and OffsetFetch moved fields (KIP-345, KIP-709): a request that fills a field its version lacks
//! does not encode. The member writes one shape, without knowing which broker will get it; [`fit`] is called when the
//! connection's negotiated version is known. Replies are read in either shape.

use kafka_wire::cold::RequestKind;
use kafka_wire::cold::types::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};

/// Moves the fields of `request` to where `version` has them; does nothing to requests that need nothing.
pub(crate) fn fit(request: &mut RequestKind, version: i16) {
    match request {
        // KIP-345: before it, every member is dynamic.
        RequestKind::JoinGroup(join) if version < 5 => join.group_instance_id = None,
        RequestKind::SyncGroup(sync) if version < 3 => sync.group_instance_id = None,
        RequestKind::Heartbeat(heartbeat) if version < 3 => heartbeat.group_instance_id = None,
        RequestKind::OffsetCommit(commit) if version < 7 => commit.group_instance_id = None,
        // One member leaves at a time.
        RequestKind::LeaveGroup(leave) if version < 3 => {
            if let Some(member) = leave.members.pop() {
                leave.member_id = member.member_id;
            }
        }
        RequestKind::OffsetFetch(fetch) => {
            if version < 7 {
                fetch.require_stable = false; // KIP-447
            }
            if version >= 8 && fetch.groups.is_empty() {
                let topics = fetch.topics.take().map(|topics| {
                    topics
                        .into_iter()
                        .map(|topic| {
                            OffsetFetchRequestTopics::default()
                                .with_name(topic.name)
                                .with_partition_indexes(topic.partition_indexes)
                        })
                        .collect()
                });
                let group_id = std::mem::take(&mut fetch.group_id);
                fetch.groups = vec![OffsetFetchRequestGroup::default().with_group_id(group_id).with_topics(topics)];
                fetch.topics = Some(Vec::new());
            }
        }
        RequestKind::ListOffsets(list) if version < 2 => list.isolation_level = 0, // KIP-98
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::api_key::ApiKey;
    use kafka_wire::cold::types::leave_group_request::MemberIdentity;
    use kafka_wire::cold::types::offset_fetch_request::OffsetFetchRequestTopic;
    use kafka_wire::cold::types::{
        HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest, OffsetCommitRequest,
        OffsetFetchRequest, SyncGroupRequest,
    };
    use kafka_wire::cold::{self, StrBytes};

    type HasField = fn(&RequestKind) -> bool;

    /// What a member asks for, and which version first has a field of it.
    fn requests() -> Vec<(ApiKey, RequestKind, i16, HasField)> {
        use RequestKind as Kind;
        let id = || StrBytes::from_static_str("m1");
        let instance_id = || Some(StrBytes::from_static_str("i1"));
        let topic = OffsetFetchRequestTopic::default().with_name(id().into()).with_partition_indexes(vec![0, 1]);
        let offsets = OffsetFetchRequest::default()
            .with_group_id(id().into())
            .with_topics(Some(vec![topic]))
            .with_require_stable(true);
        let leave = LeaveGroupRequest::default().with_members(vec![MemberIdentity::default().with_member_id(id())]);
        vec![
            (
                ApiKey::JoinGroup,
                Kind::JoinGroup(JoinGroupRequest::default().with_group_instance_id(instance_id())),
                5,
                |request| matches!(request, Kind::JoinGroup(join) if join.group_instance_id.is_some()),
            ),
            (
                ApiKey::SyncGroup,
                Kind::SyncGroup(SyncGroupRequest::default().with_group_instance_id(instance_id())),
                3,
                |request| matches!(request, Kind::SyncGroup(sync) if sync.group_instance_id.is_some()),
            ),
            (
                ApiKey::Heartbeat,
                Kind::Heartbeat(HeartbeatRequest::default().with_group_instance_id(instance_id())),
                3,
                |request| matches!(request, Kind::Heartbeat(heartbeat) if heartbeat.group_instance_id.is_some()),
            ),
            (
                ApiKey::OffsetCommit,
                Kind::OffsetCommit(OffsetCommitRequest::default().with_group_instance_id(instance_id())),
                7,
                |request| matches!(request, Kind::OffsetCommit(commit) if commit.group_instance_id.is_some()),
            ),
            (
                ApiKey::LeaveGroup,
                Kind::LeaveGroup(leave),
                3,
                |request| matches!(request, Kind::LeaveGroup(leave) if leave.members.len() == 1 && leave.member_id.is_empty()),
            ),
            (
                ApiKey::OffsetFetch,
                Kind::OffsetFetch(offsets.clone()),
                7,
                |request| matches!(request, Kind::OffsetFetch(fetch) if fetch.require_stable),
            ),
            (
                ApiKey::OffsetFetch,
                Kind::OffsetFetch(offsets),
                8,
                |request| matches!(request, Kind::OffsetFetch(fetch) if fetch.groups.len() == 1 && fetch.group_id.is_empty()),
            ),
            (
                ApiKey::ListOffsets,
                Kind::ListOffsets(ListOffsetsRequest::default().with_isolation_level(1)),
                2,
                |request| matches!(request, Kind::ListOffsets(list) if list.isolation_level == 1),
            ),
        ]
    }

    #[test]
    fn every_request_of_a_member_is_written_in_every_version_we_speak_with_the_fields_it_has() {
        for (api, request, since, has_field) in requests() {
            for version in cold::supported(api) {
                let mut fitted = request.clone();
                fit(&mut fitted, version);
                let written = cold::encode_request_frame(&fitted, version, 1, "test");
                assert!(written.is_ok(), "{api:?} version {version}: {written:?}");
                assert_eq!(has_field(&fitted), version >= since, "{api:?} version {version}: {fitted:?}");
            }
        }
    }

    #[test]
    fn who_leaves_is_named_in_versions_that_name_one_member() {
        let (_, leave, ..) = requests().into_iter().find(|(api, ..)| *api == ApiKey::LeaveGroup).unwrap();
        for version in 0..3 {
            let mut fitted = leave.clone();
            fit(&mut fitted, version);
            let RequestKind::LeaveGroup(fitted) = fitted else { unreachable!() };
            assert_eq!((fitted.member_id.as_str(), fitted.members.len()), ("m1", 0), "version {version}");
        }
    }
}

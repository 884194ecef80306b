//! Groups over the wire: rebalance among three members, commits that survive, static members, simple commits.

mod common;

use std::thread;

use bytes::Bytes;
use common::{Client, TestBroker, group_id, text, topic_name};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::cold::types::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::cold::types::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_wire::cold::types::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::cold::types::*;
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

struct Member {
    client: Client,
    id: String,
    generation: i32,
    leads: bool,
    assignment: String,
    /// Speaks the oldest version of everything, as segmentio/kafka-go and older clients do.
    is_old: bool,
}

impl Member {
    fn new(client: Client) -> Member {
        Member { client, id: String::new(), generation: -1, leads: false, assignment: String::new(), is_old: false }
    }

    fn speaks(&self, version: i16) -> i16 {
        if self.is_old { 0 } else { version }
    }

    /// Joins and syncs until an assignment is there; the leader gives every member its own name.
    fn take_part(&mut self, group: &str) {
        loop {
            let joined = self.join(group);
            match ErrorCode(joined.error_code) {
                ErrorCode::NONE => {}
                ErrorCode::MEMBER_ID_REQUIRED => {
                    self.id = joined.member_id.to_string();
                    continue;
                }
                ErrorCode::REBALANCE_IN_PROGRESS => continue,
                other => panic!("{other:?}"),
            }
            self.id = joined.member_id.to_string();
            self.generation = joined.generation_id;
            self.leads = joined.leader == joined.member_id;
            let assignments = joined.members.iter().map(|member| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(Bytes::from(format!("for {} of {}", member.member_id, joined.members.len())))
            });
            let request = SyncGroupRequest::default()
                .with_group_id(group_id(group))
                .with_generation_id(self.generation)
                .with_member_id(text(&self.id))
                .with_assignments(assignments.collect());
            match self.client.cold(ApiKey::SyncGroup, self.speaks(4), RequestKind::SyncGroup(request)) {
                ResponseKind::SyncGroup(synced) => match ErrorCode(synced.error_code) {
                    ErrorCode::NONE => {
                        self.assignment = String::from_utf8(synced.assignment.to_vec()).unwrap();
                        return;
                    }
                    ErrorCode::REBALANCE_IN_PROGRESS => {}
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }

    fn join(&mut self, group: &str) -> JoinGroupResponse {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let request = JoinGroupRequest::default()
            .with_group_id(group_id(group))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_member_id(text(&self.id))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"topics"))]);
        match self.client.cold(ApiKey::JoinGroup, self.speaks(6), RequestKind::JoinGroup(request)) {
            ResponseKind::JoinGroup(joined) => joined,
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, group: &str) -> ErrorCode {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        match self.client.cold(ApiKey::Heartbeat, self.speaks(3), RequestKind::Heartbeat(request)) {
            ResponseKind::Heartbeat(response) => ErrorCode(response.error_code),
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, group: &str, offset: i64, metadata: &str) -> ErrorCode {
        commit(&mut self.client, group, &self.id.clone(), self.generation, offset, metadata)
    }
}

fn commit(client: &mut Client, group: &str, member: &str, generation: i32, offset: i64, metadata: &str) -> ErrorCode {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_leader_epoch(0)
        .with_committed_metadata(Some(text(metadata)));
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic]);
    match client.cold(ApiKey::OffsetCommit, 7, RequestKind::OffsetCommit(request)) {
        ResponseKind::OffsetCommit(response) => ErrorCode(response.topics[0].partitions[0].error_code),
        other => panic!("{other:?}"),
    }
}

fn committed(client: &mut Client, group: &str) -> (i64, String) {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
    match client.cold(ApiKey::OffsetFetch, 6, RequestKind::OffsetFetch(request)) {
        ResponseKind::OffsetFetch(response) => {
            let found = &response.topics[0].partitions[0];
            (found.committed_offset, found.metadata.as_deref().unwrap_or_default().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn three_members_of_a_classic_group_each_get_their_own_assignment() {
    let broker = TestBroker::start();
    let mut members: Vec<Member> = (0..3).map(|_| Member::new(broker.client())).collect();
    members[0].take_part("g");
    assert_eq!(members[0].heartbeat("g"), ErrorCode::NONE);
    let threads: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            thread::spawn(move || {
                // Until all three are in one generation: whoever hears of a rebalance takes part in it.
                loop {
                    if member.generation < 0 || member.heartbeat("g") == ErrorCode::REBALANCE_IN_PROGRESS {
                        member.take_part("g");
                    }
                    if member.assignment.ends_with("of 3") {
                        return member;
                    }
                    thread::yield_now();
                }
            })
        })
        .collect();
    let members: Vec<Member> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(members.iter().filter(|member| member.leads).count(), 1);
    for member in &members {
        assert_eq!(member.assignment, format!("for {} of 3", member.id));
        assert_eq!(member.generation, members[0].generation);
    }
}

#[test]
fn commits_need_a_current_member_and_survive_a_restart_with_their_metadata() {
    let mut broker = TestBroker::start();
    let mut member = Member::new(broker.client());
    member.client.create("t", 1);
    assert_eq!(committed(&mut member.client, "g"), (-1, String::new()));
    member.take_part("g");
    assert_eq!(member.commit("g", 42, "sparse acks"), ErrorCode::NONE);
    let mut stranger = broker.client();
    assert_eq!(commit(&mut stranger, "g", "", -1, 1, ""), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut stranger, "g", "who", 1, 1, ""), ErrorCode::UNKNOWN_MEMBER_ID);
    member.generation += 1;
    assert_eq!(member.commit("g", 43, ""), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit(&mut stranger, "by hand", "", -1, 7, ""), ErrorCode::NONE);
    assert_eq!(commit(&mut stranger, "by hand", "", -1, 8, &"x".repeat(5_000)), ErrorCode::OFFSET_METADATA_TOO_LARGE);
    broker.restart();
    let mut client = broker.client();
    assert_eq!(committed(&mut client, "g"), (42, "sparse acks".to_owned()));
    assert_eq!(committed(&mut client, "by hand"), (7, String::new()));
}

#[test]
fn a_waiting_join_is_answered_when_the_last_member_leaves_or_comes() {
    let broker = TestBroker::start();
    let mut first = Member::new(broker.client());
    first.take_part("g");
    let second = Member::new(broker.client());
    let waiting = thread::spawn(move || {
        let mut second = second;
        second.take_part("g");
        second
    });
    while first.heartbeat("g") != ErrorCode::REBALANCE_IN_PROGRESS {
        thread::yield_now();
    }
    let leave = LeaveGroupRequest::default()
        .with_group_id(group_id("g"))
        .with_members(vec![leave_group_request::MemberIdentity::default().with_member_id(text(&first.id))]);
    match first.client.cold(ApiKey::LeaveGroup, 4, RequestKind::LeaveGroup(leave)) {
        ResponseKind::LeaveGroup(response) => assert_eq!(response.members[0].error_code, 0),
        other => panic!("{other:?}"),
    }
    let second = waiting.join().unwrap();
    assert!(second.leads);
    assert_eq!(second.assignment, format!("for {} of 1", second.id));
}

#[test]
fn members_of_the_oldest_and_of_newer_versions_share_a_group() {
    let broker = TestBroker::start();
    let mut old = Member { is_old: true, ..Member::new(broker.client()) };
    old.take_part("g");
    assert_eq!(old.assignment, format!("for {} of 1", old.id));
    let new = Member::new(broker.client());
    let joining = thread::spawn(move || {
        let mut new = new;
        new.take_part("g");
        new
    });
    while old.heartbeat("g") != ErrorCode::REBALANCE_IN_PROGRESS {
        thread::yield_now();
    }
    old.take_part("g");
    let mut new = joining.join().unwrap();
    assert_eq!((old.assignment.as_str(), new.leads), (format!("for {} of 2", old.id).as_str(), false));
    let leave = LeaveGroupRequest::default().with_group_id(group_id("g")).with_member_id(text(&old.id));
    match old.client.cold(ApiKey::LeaveGroup, 0, RequestKind::LeaveGroup(leave)) {
        ResponseKind::LeaveGroup(response) => assert_eq!(response.error_code, 0),
        other => panic!("{other:?}"),
    }
    assert_eq!(new.heartbeat("g"), ErrorCode::REBALANCE_IN_PROGRESS);
}

//! The member against a scripted cluster: each test is a conversation.

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;
use proptest::prelude::*;

use super::testing::*;
use super::*;
use crate::Request;

const NONE: ErrorCode = ErrorCode::NONE;

fn unreachable() -> Result<Response, RequestError> {
    Err(RequestError::Timeout { sent: true })
}

// Joining

#[test]
fn a_first_join_is_given_a_member_id_and_joins_again_with_it() {
    let mut stage = Stage::new(1, |_| {});
    stage.expect(&["JoinGroup member="]);
    stage.answer(join_error(ErrorCode::MEMBER_ID_REQUIRED, "m1"));
    stage.expect(&["JoinGroup member=m1"]);
    assert_eq!(stage.member.state(), MemberState::Joining);
}

#[test]
fn a_leader_assigns_for_every_member_and_topic_of_the_group() {
    let mut stage = Stage::new(3, |_| {});
    stage.cluster.topics.insert("other".into(), 2);
    stage.answer(join(1, "m1", "m1", &[("m1", &["t"]), ("m2", &["t", "other"])]));
    stage.expect(&["SyncGroup generation=1 member=m1 m1:t[0, 1] m2:other[0, 1]t[2]"]);
    assert_eq!(stage.member.state(), MemberState::Syncing);
    stage.answer(sync(&[0, 1]));
    assert_eq!((stage.member.state(), stage.member.assignment()), (MemberState::Stable, &[0, 1][..]));
}

#[test]
fn a_leader_waits_for_unknown_partition_counts_but_not_for_ever() {
    for known_in_time in [true, false] {
        let mut stage = Stage::new(1, |_| {});
        stage.answer(join(1, "m1", "m1", &[("m1", &["t"]), ("m2", &["slow"])]));
        stage.expect(&[]);
        if known_in_time {
            stage.advance(100);
            stage.cluster.topics.insert("slow".into(), 1);
            stage.advance(100);
            stage.expect(&["SyncGroup generation=1 member=m1 m1:t[0] m2:slow[0]"]);
        } else {
            stage.advance(5_000);
            stage.expect(&["SyncGroup generation=1 member=m1 m1:t[0] m2:", "Heartbeat generation=1"]);
        }
    }
}

#[test]
fn a_follower_takes_the_share_it_is_given() {
    let mut stage = Stage::new(4, |_| {});
    stage.answer(join(7, "other", "m1", &[]));
    stage.expect(&["SyncGroup generation=7 member=m1"]);
    stage.answer(sync(&[2, 3]));
    stage.expect(&["OffsetFetch [2, 3]"]);
    assert_eq!(stage.member.assignment(), [2, 3]);
}

#[test]
fn a_member_without_readable_subscription_does_not_stop_the_others() {
    let mut stage = Stage::new(1, |_| {});
    let Response::Cold(kafka_wire::cold::ResponseKind::JoinGroup(mut reply)) =
        join(1, "m1", "m1", &[("m0", &["t"]), ("m1", &["t"])])
    else {
        unreachable!()
    };
    reply.members[0].metadata = Bytes::from_static(b"\x00");
    stage.answer(Response::Cold(kafka_wire::cold::ResponseKind::JoinGroup(reply)));
    stage.expect(&["SyncGroup generation=1 member=m1 m0: m1:t[0]"]);
}

/// KIP-814: a leader that comes back under its instance id gets the assignment that the group has.
#[test]
fn a_leader_that_is_told_to_skip_the_assignment_makes_none() {
    let mut stage = Stage::new(1, |_| {});
    let Response::Cold(kafka_wire::cold::ResponseKind::JoinGroup(reply)) = join(1, "m1", "m1", &[("m1", &["t"])])
    else {
        unreachable!()
    };
    stage.answer(Response::Cold(kafka_wire::cold::ResponseKind::JoinGroup(reply.with_skip_assignment(true))));
    stage.expect(&["SyncGroup generation=1 member=m1"]);
}

#[test]
fn a_leader_assigns_for_as_many_members_as_the_limit_allows() {
    for (count, fails) in [(limits::MEMBERS_MAX, false), (limits::MEMBERS_MAX + 1, true)] {
        let ids: Vec<String> = (0..count).map(|index| format!("m{index}")).collect();
        let members: Vec<(&str, &[&str])> = ids.iter().map(|id| (&id[..], &[][..])).collect();
        let mut stage = Stage::new(1, |_| {});
        stage.answer(join(1, "m1", "m1", &members));
        assert_eq!(matches!(stage.member.state(), MemberState::Failed(_)), fails, "{count}");
    }
}

#[test]
fn joins_that_can_succeed_later_are_repeated_and_others_end_the_member() {
    for (code, lookups, next) in [
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, 0, "JoinGroup member=m1"),
        (ErrorCode::NOT_COORDINATOR, 1, "JoinGroup member=m1"),
        (ErrorCode::COORDINATOR_NOT_AVAILABLE, 1, "JoinGroup member=m1"),
        (ErrorCode::REBALANCE_IN_PROGRESS, 0, "JoinGroup member=m1"),
        (ErrorCode::UNKNOWN_MEMBER_ID, 0, "JoinGroup member="),
    ] {
        let mut stage = Stage::new(1, |_| {});
        stage.answer(join_error(ErrorCode::MEMBER_ID_REQUIRED, "m1"));
        stage.answer(join_error(code, ""));
        stage.expect(&[]);
        stage.advance(2_000);
        stage.expect(&[next]);
        assert_eq!(stage.cluster.coordinator_lookups, lookups, "{}", code.name());
    }
    for (code, why) in [
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, "join refused: GROUP_AUTHORIZATION_FAILED"),
        (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "join refused: INCONSISTENT_GROUP_PROTOCOL"),
        (ErrorCode::FENCED_INSTANCE_ID, "join refused: FENCED_INSTANCE_ID"),
    ] {
        let mut stage = Stage::new(1, |_| {});
        stage.answer(join_error(code, ""));
        stage.advance(60_000);
        stage.expect(&[]);
        assert_eq!(stage.member.state(), MemberState::Failed(why.into()));
        assert_eq!(stage.member.next_deadline(), None);
    }
}

#[test]
fn an_unreachable_coordinator_is_looked_for_again() {
    let mut stage = Stage::new(1, |_| {});
    stage.answer_nth(0, unreachable());
    assert_eq!(stage.cluster.coordinator_lookups, 1);
    stage.advance(2_000);
    stage.expect(&["JoinGroup member="]);
    stage.answer_nth(0, Err(RequestError::CoordinatorRefused { code: ErrorCode::GROUP_AUTHORIZATION_FAILED }));
    assert!(matches!(stage.member.state(), MemberState::Failed(_)));
}

#[test]
fn a_sync_overtaken_by_another_rebalance_joins_again() {
    let mut stage = Stage::new(1, |_| {});
    stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
    stage.answer(sync_error(ErrorCode::REBALANCE_IN_PROGRESS));
    stage.advance(2_000);
    stage.expect(&["JoinGroup member=m1"]);
}

// Staying

#[test]
fn heartbeats_go_every_interval_and_only_one_at_a_time() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    let fetch = stage.lose();
    stage.advance(2_999);
    stage.expect(&[]);
    stage.advance(1);
    stage.expect(&["Heartbeat generation=1"]);
    stage.advance(3_000);
    stage.expect(&["Heartbeat generation=1"]);
    stage.answer(heartbeat(NONE));
    stage.advance(3_000);
    stage.expect(&["Heartbeat generation=1"]);
    drop(fetch);
}

#[test]
fn a_coordinator_that_moved_is_found_without_losing_the_share() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.lose();
    stage.advance(3_000);
    stage.answer(heartbeat(ErrorCode::NOT_COORDINATOR));
    assert_eq!(stage.cluster.coordinator_lookups, 1);
    stage.advance(1_000);
    stage.expect(&["Heartbeat generation=1"]);
    stage.answer(heartbeat(NONE));
    assert_eq!((stage.member.state(), stage.member.take_revoked()), (MemberState::Stable, vec![]));
}

#[test]
fn a_coordinator_silent_for_a_session_ends_the_membership_and_late_replies_change_nothing() {
    let mut stage = Stage::stable(2, &[0, 0], |_| {});
    stage.answer(records(0, batch(0).records(3).bytes()));
    assert_eq!(stage.poll(1), ["0@0"]);
    stage.member.delivered(0, 1);
    stage.tick();
    let fetch = stage.lose();
    stage.advance(3_000);
    stage.expect(&["Heartbeat generation=1", "OffsetCommit generation=1 0@1"]);
    let (beat, commit) = (stage.lose(), stage.lose());
    stage.advance(6_999);
    assert_eq!(stage.poll(1), ["0@1"], "the session is not over yet");
    stage.tick();
    stage.advance(1);
    assert_eq!((stage.member.state(), stage.poll(9)), (MemberState::Joining, vec![]));
    assert_eq!((stage.member.take_revoked(), stage.member.assignment()), (vec![0, 1], &[][..]));
    assert_eq!(stage.cluster.coordinator_lookups, 1);
    for late in [&fetch, &commit, &beat] {
        assert!(stage.cluster.cancelled.contains(&late.token));
        assert!(!stage.member.answered(late.token, Ok(heartbeat(NONE)), &mut stage.cluster, stage.now));
    }
    stage.member.delivered(0, 2);
    stage.advance(2_000);
    stage.expect(&["JoinGroup member=m1"]);
}

#[test]
fn a_member_the_coordinator_forgot_joins_as_a_new_one() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.lose();
    stage.advance(3_000);
    stage.answer(heartbeat(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(stage.member.take_revoked(), [0]);
    stage.advance(2_000);
    stage.expect(&["JoinGroup member="]);
}

#[test]
fn a_commit_of_an_old_generation_loses_the_share_but_keeps_the_member_id() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.answer(records(0, batch(0).records(1).bytes()));
    stage.poll(1);
    stage.member.delivered(0, 1);
    stage.tick();
    stage.lose();
    stage.advance(1_000);
    stage.expect(&["OffsetCommit generation=1 0@1"]);
    stage.answer(committed(&[0], ErrorCode::ILLEGAL_GENERATION));
    stage.advance(2_000);
    stage.expect(&["JoinGroup member=m1"]);
}

#[test]
fn a_commit_that_was_taken_keeps_the_session_as_a_heartbeat_does() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.answer(records(0, batch(0).records(1).bytes()));
    stage.lose();
    stage.poll(1);
    stage.advance(3_000);
    stage.lose(); // the heartbeat
    stage.advance(5_000);
    stage.member.delivered(0, 1);
    stage.advance(1_000);
    stage.answer(committed(&[0], NONE)); // 9 s after the sync
    stage.advance(9_999);
    assert_eq!(stage.member.state(), MemberState::Stable);
    stage.advance(1);
    assert_eq!(stage.member.state(), MemberState::Joining);
}

// Rebalancing

/// A stable owner of partitions 0 and 1 with three records of each at hand, one of 0 delivered, when a rebalance begins;
/// and the fetch that is on its way at that time.
fn rebalancing() -> (Stage, Sent) {
    let mut stage = Stage::stable(2, &[0, 0], |_| {});
    let both = [(0, NONE, batch(0).records(3).bytes()), (1, NONE, batch(0).records(3).bytes())];
    stage.answer(fetched(&both));
    assert_eq!(stage.poll(1), ["0@0"]);
    stage.member.delivered(0, 1);
    stage.tick();
    stage.expect(&["Fetch node 1 0@3 1@3 wait 500"]);
    let fetch = stage.lose();
    stage.advance(3_000);
    stage.expect(&["Heartbeat generation=1", "OffsetCommit generation=1 0@1"]);
    stage.answer(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS));
    (stage, fetch)
}

#[test]
fn a_rebalance_stops_the_hand_out_commits_and_then_joins() {
    let (mut stage, _) = rebalancing();
    assert_eq!((stage.poll(9), stage.member.state()), (vec![], MemberState::Joining));
    stage.expect(&["OffsetCommit generation=1 0@1"]);
    stage.answer(committed(&[0], NONE));
    stage.expect(&["JoinGroup member=m1"]);
}

#[test]
fn a_rebalance_never_waits_long_for_its_commit() {
    let (mut stage, _) = rebalancing();
    stage.lose();
    stage.advance(2_999);
    stage.expect(&[]);
    stage.advance(1);
    stage.expect(&["JoinGroup member=m1"]);
}

#[test]
fn a_commit_that_comes_too_late_for_its_generation_joins_at_once() {
    let (mut stage, _) = rebalancing();
    stage.answer(committed(&[0], ErrorCode::REBALANCE_IN_PROGRESS));
    stage.expect(&["JoinGroup member=m1"]);
}

#[test]
fn a_commit_that_may_succeed_later_is_sent_again_before_the_join() {
    let (mut stage, _) = rebalancing();
    stage.answer(committed(&[0], ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    stage.expect(&[]);
    stage.advance(20);
    stage.expect(&["OffsetCommit generation=1 0@1"]);
    stage.answer(committed(&[0], NONE));
    stage.expect(&["JoinGroup member=m1"]);
}

#[test]
fn a_partition_that_stays_keeps_its_records_and_one_that_goes_is_reported() {
    let (mut stage, fetch) = rebalancing();
    stage.answer(committed(&[0], NONE));
    stage.answer(join(2, "other", "m1", &[]));
    stage.answer(sync(&[0]));
    assert_eq!(stage.member.take_revoked(), [1]);
    assert_eq!(stage.poll(9), ["0@1", "0@2"], "fetched once, delivered once");
    stage.cluster.sent.push_back(fetch);
    stage.answer(fetched(&[(0, NONE, batch(3).records(1).bytes()), (1, NONE, batch(3).records(1).bytes())]));
    stage.expect(&["Fetch node 1 0@4 wait 500"]);
    assert_eq!(stage.poll(9), ["0@3"]);
}

#[test]
fn a_partition_begins_at_its_committed_offset_when_a_generation_was_missed() {
    let (mut stage, _) = rebalancing();
    stage.answer(committed(&[0], NONE));
    stage.answer(join(3, "other", "m1", &[])); // somebody may have had our partitions in generation 2
    stage.answer(sync(&[0]));
    assert_eq!((stage.member.take_revoked(), stage.poll(9)), (vec![0, 1], vec![]));
    stage.expect(&["OffsetFetch [0]"]);
    stage.answer(offsets(&[(0, 2)]));
    stage.expect(&["Fetch node 1 0@2 wait 500"]);
}

#[test]
fn a_reply_to_a_fetch_of_a_lost_partition_is_dropped() {
    let (mut stage, fetch) = rebalancing();
    stage.answer(committed(&[0], NONE));
    stage.answer(join(2, "other", "m1", &[]));
    stage.answer(sync(&[1]));
    assert_eq!(stage.poll(9), ["1@0", "1@1", "1@2"]);
    stage.cluster.sent.push_back(fetch);
    stage.answer(fetched(&[(0, NONE, batch(3).records(1).bytes()), (1, NONE, batch(3).records(1).bytes())]));
    assert_eq!(stage.poll(9), ["1@3"]);
}

#[test]
fn a_reply_to_a_fetch_of_a_partition_that_was_lost_and_came_back_is_dropped() {
    let (mut stage, fetch) = rebalancing();
    stage.answer(committed(&[0], NONE));
    stage.answer(join(2, "other", "m1", &[]));
    stage.answer(sync(&[1]));
    assert_eq!(stage.poll(9), ["1@0", "1@1", "1@2"]);
    stage.advance(3_000);
    stage.answer(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS));
    stage.answer(join(3, "other", "m1", &[]));
    stage.answer(sync(&[0, 1]));
    stage.answer(offsets(&[(0, 3)])); // where it was when the fetch was sent
    stage.cluster.sent.push_front(fetch);
    stage.answer(fetched(&[(0, NONE, batch(3).records(1).bytes()), (1, NONE, batch(3).records(1).bytes())]));
    assert_eq!(stage.poll(9), ["1@3"]);
}

/// Found by a seed of the simulation: the reset of the generation before was answered first, records were handed out, and
/// then the committed offset set the position back, and nobody was told.
#[test]
fn a_partition_whose_beginning_is_being_sought_when_a_rebalance_comes_is_begun_once() {
    let mut stage = Stage::stable(1, &[-1], |_| {});
    stage.expect(&["ListOffsets node 1 0@-2"]);
    let reset = stage.lose();
    stage.advance(3_000);
    stage.answer(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS));
    stage.answer(join(2, "other", "m1", &[]));
    stage.answer(sync(&[0]));
    stage.expect(&["OffsetFetch [0]"]);
    assert!(stage.cluster.cancelled.contains(&reset.token));
    stage.answer(offsets(&[(0, 7)]));
    stage.expect(&["Fetch node 1 0@7 wait 500"]);
}

#[test]
fn a_leader_that_sees_new_partitions_rebalances_and_misses_none_of_their_records() {
    let mut stage = Stage::stable(1, &[5], |config| config.reset = Reset::Newest);
    stage.lose();
    stage.cluster.topics.insert(TOPIC.into(), 2);
    stage.advance(10);
    stage.expect(&["JoinGroup member=m1"]);
    stage.answer(join(2, "m1", "m1", &[("m1", &["t"])]));
    stage.answer(sync(&[0, 1]));
    stage.answer(offsets(&[(1, -1)]));
    assert!(
        stage.cluster.sent.iter().any(|sent| format!("{sent:?}").contains("timestamp: -2")),
        "the oldest, not the newest"
    );
}

// Positions

#[test]
fn a_group_begins_at_its_committed_offsets() {
    let stage = Stage::stable(2, &[10, 20], |_| {});
    stage.expect(&["Fetch node 1 0@10 1@20 wait 500"]);
}

#[test]
fn a_group_without_committed_offset_begins_where_reset_says_and_commits_that() {
    for (reset, asked) in [
        (Reset::Oldest, "ListOffsets node 1 0@-2"),
        (Reset::Newest, "ListOffsets node 1 0@-1"),
        (Reset::Timestamp(1_700_000_000_000), "ListOffsets node 1 0@1700000000000"),
    ] {
        let mut stage = Stage::stable(1, &[-1], |config| config.reset = reset);
        stage.expect(&[asked]);
        stage.answer(listed(&[(0, 33)], NONE));
        stage.expect(&["OffsetCommit generation=1 0@33", "Fetch node 1 0@33 wait 500"]);
    }
}

#[test]
fn a_time_after_the_last_record_means_the_next_record() {
    let mut stage = Stage::stable(1, &[-1], |config| config.reset = Reset::Timestamp(9));
    stage.answer(listed(&[(0, -1)], NONE));
    stage.expect(&["ListOffsets node 1 0@-1"]);
    stage.answer(listed(&[(0, 50)], NONE));
    stage.expect(&["OffsetCommit generation=1 0@50", "Fetch node 1 0@50 wait 500"]);
}

#[test]
fn an_end_of_the_log_that_is_not_told_is_asked_for_again_after_a_pause() {
    let mut stage = Stage::stable(1, &[-1], |config| config.reset = Reset::Newest);
    stage.answer(listed(&[(0, -1)], NONE));
    stage.expect(&[]);
    stage.advance(20);
    stage.expect(&["ListOffsets node 1 0@-1"]);
}

/// As brokers before Kafka 3.0 answer, whose versions stop before 8.
#[test]
fn offsets_beside_those_of_other_topics_are_read_in_both_shapes() {
    for shape in ["of one group", "of several groups"] {
        let Response::Cold(kafka_wire::cold::ResponseKind::OffsetFetch(mut reply)) = offsets(&[(0, 7)]) else {
            unreachable!()
        };
        let ours = &mut reply.groups[0].topics;
        let mut other = ours[0].clone();
        other.name = text("other").into();
        other.partitions[0].committed_offset = 1_000;
        ours.push(other);
        if shape == "of one group" {
            reply.topics = reply.groups.remove(0).topics.into_iter().map(old_shape).collect();
        }
        let mut stage = Stage::new(1, |_| {});
        stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
        stage.answer(sync(&[0]));
        stage.answer(Response::Cold(kafka_wire::cold::ResponseKind::OffsetFetch(reply)));
        stage.expect(&["Fetch node 1 0@7 wait 500"]);
    }
}

#[test]
fn a_group_has_committed_when_the_coordinator_told_or_took_an_offset() {
    let mut stage = Stage::stable(1, &[7], |_| {});
    assert!(stage.member.has_committed());
    stage = Stage::stable(1, &[-1], |_| {});
    stage.answer(listed(&[(0, 33)], NONE));
    stage.expect(&["OffsetCommit generation=1 0@33", "Fetch node 1 0@33 wait 500"]);
    assert!(!stage.member.has_committed(), "it was sent");
    stage.answer(committed(&[0], NONE));
    assert!(stage.member.has_committed());
}

#[test]
fn a_commit_that_was_refused_is_sent_again_when_that_may_help() {
    for (code, pause_ms, lookups) in [
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, 20, 0),
        (ErrorCode::NOT_COORDINATOR, 20, 1),
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, 5_000, 0),
    ] {
        let mut stage = Stage::stable(1, &[-1], |config| config.heartbeat_interval = Duration::from_secs(9));
        stage.answer(listed(&[(0, 33)], NONE));
        stage.answer(committed(&[0], code));
        stage.lose(); // the fetch
        assert_eq!(stage.cluster.coordinator_lookups, lookups, "{}", code.name());
        stage.advance(pause_ms / 2);
        stage.expect(&[]);
        stage.advance(pause_ms / 2);
        stage.expect(&["OffsetCommit generation=1 0@33"]);
    }
}

#[test]
fn what_was_committed_already_gives_nothing_to_do() {
    let mut stage = Stage::stable(1, &[7], |_| {});
    let deadline = stage.member.next_deadline();
    stage.member.delivered(0, 7);
    assert_eq!(stage.member.next_deadline(), deadline);
}

#[test]
fn offsets_that_cannot_be_told_yet_are_asked_for_again() {
    for (code, lookups) in [(ErrorCode::UNSTABLE_OFFSET_COMMIT, 0), (ErrorCode::NOT_COORDINATOR, 1)] {
        let mut stage = Stage::new(1, |_| {});
        stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
        stage.answer(sync(&[0]));
        stage.answer(offsets_error(code));
        stage.expect(&[]);
        stage.advance(1_100);
        stage.expect(&["OffsetFetch [0]"]);
        assert_eq!(stage.cluster.coordinator_lookups, lookups);
    }
}

#[test]
fn only_what_was_delivered_is_committed_once_per_interval() {
    let mut stage = Stage::stable(2, &[0, 0], |_| {});
    stage.answer(fetched(&[(0, NONE, batch(0).records(3).bytes()), (1, NONE, batch(0).records(3).bytes())]));
    stage.lose();
    assert_eq!(stage.poll(9).len(), 6);
    stage.tick();
    stage.member.delivered(0, 2);
    stage.member.delivered(0, 1); // late: a watermark does not move back
    stage.advance(999);
    stage.expect(&[]);
    stage.advance(1);
    stage.expect(&["OffsetCommit generation=1 0@2"]);
    stage.member.delivered(0, 3);
    stage.advance(500);
    stage.expect(&["OffsetCommit generation=1 0@2"]);
    stage.answer(committed(&[0], NONE));
    stage.advance(1_000);
    stage.expect(&["OffsetCommit generation=1 0@3"]);
    stage.answer(committed(&[0], NONE));
    stage.advance(1_000);
    assert!(stage.cluster.sent.iter().all(|sent| !format!("{sent:?}").contains("OffsetCommit")), "nothing is dirty");
}

#[test]
fn a_group_that_read_everything_commits_past_the_last_control_batch() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    let bytes = [batch(0).records(1).transactional(7).bytes(), batch(1).control(7, true).bytes()].concat();
    stage.answer(records(0, bytes.into()));
    stage.lose();
    assert_eq!(stage.poll(9), ["0@0"]);
    stage.member.delivered(0, 1);
    stage.advance(1_000);
    stage.expect(&["OffsetCommit generation=1 0@2"]);
}

// Fetching

#[test]
fn each_leader_has_one_fetch_on_its_way_naming_all_its_partitions() {
    let mut stage = Stage::stable(3, &[-1, -1, -1], |_| {});
    stage.cluster.leaders.insert(2, Some(5));
    stage.answer(listed(&[(0, 0), (1, 0), (2, 0)], NONE));
    stage.lose(); // the commit of where the group begins
    stage.expect(&["Fetch node 1 0@0 1@0 wait 500", "Fetch node 5 2@0 wait 500"]);
    stage.advance(400);
    assert_eq!(stage.cluster.sent.len(), 2);
    stage.answer(records(0, batch(0).records(2).bytes()));
    stage.expect(&["Fetch node 5 2@0 wait 500", "Fetch node 1 0@2 wait 500"]);
}

#[test]
fn partitions_are_emptied_in_turn_and_the_first_record_comes_whatever_its_size() {
    let mut stage = Stage::stable(2, &[0, 0], |_| {});
    let big = |offset| batch(offset).records(2).value(&[b'x'; 100]).bytes();
    stage.answer(fetched(&[(0, NONE, big(0)), (1, NONE, big(0))]));
    let mut sizes = Vec::new();
    for bytes_max in [10, 250, 1000] {
        let records = stage.member.poll_records(9, bytes_max);
        sizes.push(records.iter().map(|r| format!("{}@{}", r.partition, r.record.offset)).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec!["0@0"], vec!["1@0", "1@1"], vec!["0@1"]]);
}

#[test]
fn a_member_asks_for_no_more_than_there_is_room_for_and_for_nothing_without() {
    let mut stage = Stage::stable(2, &[0, 0], |config| config.queue_bytes_max = 4 << 20);
    let bytes_max = |stage: &Stage| match stage.cluster.sent.back().map(|sent| &sent.request) {
        Some(Request::Fetch(fetch)) => Some(fetch.max_bytes),
        _ => None,
    };
    let wire = batch(0).records(2).bytes();
    assert_eq!((bytes_max(&stage), stage.member.held_bytes()), (Some(1 << 20), 0));
    stage.member.set_room(0);
    stage.answer(records(0, wire.clone()));
    assert_eq!((bytes_max(&stage), stage.member.held_bytes()), (None, wire.len()), "what it has stays");
    assert!(stage.member.next_deadline().is_none_or(|at| at > stage.now), "and it waits for no time");
    stage.member.set_room(200 << 10);
    stage.tick();
    assert_eq!(bytes_max(&stage), Some((200 << 10) - wire.len() as i32));
    stage.lose();
    stage.member.set_room(usize::MAX);
    assert_eq!(stage.poll(9), ["0@0", "0@1"]);
    assert_eq!(stage.member.held_bytes(), 0);
}

#[test]
fn records_that_were_let_go_of_are_fetched_again_from_where_reading_stopped() {
    let mut stage = Stage::stable(2, &[5, 7], |_| {});
    let none = (1, NONE, Bytes::new());
    stage.answer(fetched(&[(0, NONE, batch(5).records(3).bytes()), none.clone()]));
    assert_eq!(stage.poll(1), ["0@5"]);
    stage.expect(&["Fetch node 1 0@8 1@7 wait 500"]);
    stage.member.release_records();
    assert_eq!((stage.member.held_bytes(), stage.poll(9)), (0, vec![]));
    stage.tick();
    // Partition 1 is still asked for; that answer is awaited, and its records of partition 0 are not taken.
    stage.expect(&["Fetch node 1 0@8 1@7 wait 500"]);
    let both = [(0, NONE, batch(8).records(1).bytes()), (1, NONE, batch(7).records(1).bytes())];
    stage.answer(fetched(&both));
    stage.expect(&["Fetch node 1 0@6 1@8 wait 500"]);
    stage.answer(fetched(&[(0, NONE, batch(5).records(3).bytes()), none]));
    let mut seen = stage.poll(9);
    seen.sort();
    assert_eq!(seen, ["0@6", "0@7", "1@7"]);

    // Of a fetch for nothing else nobody waits for the answer.
    let mut stage = Stage::stable(1, &[5], |_| {});
    stage.answer(records(0, batch(5).records(3).bytes()));
    stage.member.release_records();
    stage.tick();
    stage.expect(&["Fetch node 1 0@5 wait 500"]);
}

#[test]
fn a_fetch_names_the_leader_epoch_as_far_as_it_is_known() {
    for epoch in [7, 0, -1] {
        let mut stage = Stage::new(1, |_| {});
        stage.cluster.leader_epoch = epoch;
        stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
        stage.answer(sync(&[0]));
        stage.answer(offsets(&[(0, 20)]));
        assert_eq!(stage.fetch().unwrap().topics[0].partitions[0].current_leader_epoch, epoch);
    }
}

/// The bytes of a batch with one record.
fn batch_of(bytes: usize) -> Bytes {
    let with_value = |count: usize| batch(0).records(1).value(&vec![0; count]).bytes();
    let around = with_value(bytes - 100).len() - (bytes - 100);
    let whole = with_value(bytes - around);
    assert_eq!(whole.len(), bytes);
    whole
}

#[test]
fn a_fetch_asks_for_the_room_there_is_or_waits_for_a_poll() {
    const KIB: usize = 1 << 10;
    // Room, the bytes of partition 0 that nobody polled, the leader of partition 1; and what the fetch after them names.
    for (what, room, held, leader_of_1, asked) in [
        ("all of it, up to the most one fetch asks for", 4096 * KIB, 0, 1, Some((vec![0, 1], 1024 * KIB))),
        ("each leader a part of it", 1024 * KIB, 0, 2, Some((vec![1], 512 * KIB))),
        ("the rest, just enough to ask for", 128 * KIB, 64 * KIB, 1, Some((vec![1], 64 * KIB))),
        ("the rest, not worth it", 128 * KIB, 64 * KIB + 1, 1, None),
        ("half of a little room", 100 * KIB, 40 * KIB, 1, Some((vec![1], 60 * KIB))),
        ("less than half of a little room", 100 * KIB, 60 * KIB, 1, None),
        ("a partition that took its half of the part", 256 * KIB, 64 * KIB, 1, Some((vec![0, 1], 192 * KIB))),
        ("one that took more", 256 * KIB, 64 * KIB + 1, 1, Some((vec![1], 192 * KIB - 1))),
    ] {
        let mut stage = Stage::new(2, |config| config.queue_bytes_max = room);
        stage.cluster.leaders.insert(1, Some(leader_of_1));
        stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
        stage.answer(sync(&[0, 1]));
        stage.answer(offsets(&[(0, 0), (1, 0)]));
        if held > 0 {
            stage.answer(fetched(&[(0, NONE, batch_of(held)), (1, NONE, Bytes::new())]));
        }
        let named = |fetch: &kafka_wire::messages::fetch::FetchRequest| {
            let partitions = fetch.topics[0].partitions.iter().map(|partition| partition.index);
            (partitions.collect::<Vec<_>>(), fetch.max_bytes as usize)
        };
        assert_eq!(stage.fetch().map(named), asked, "{what}");
    }
}

#[test]
fn a_batch_that_does_not_fit_is_asked_for_with_twice_the_bytes_up_to_a_limit() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    let cut = batch(0).records(1).bytes().slice(..40);
    let mut asked = Vec::new();
    for _ in 0..10 {
        asked.push(stage.fetch().unwrap().topics[0].partitions[0].partition_max_bytes >> 10);
        stage.answer(records(0, cut.clone()));
    }
    assert_eq!(asked, [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 65536]);
}

#[test]
fn a_partition_that_may_not_be_read_is_asked_for_again_when_a_person_may_have_helped() {
    let mut stage = Stage::stable(1, &[4], |config| config.heartbeat_interval = Duration::from_secs(9));
    stage.answer(fetched(&[(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED, Bytes::new())]));
    stage.advance(4_999);
    stage.expect(&[]);
    stage.advance(1);
    stage.expect(&["Fetch node 1 0@4 wait 500"]);
    assert_eq!(stage.cluster.metadata_refreshes, 0);
}

#[test]
fn what_a_poll_took_makes_room_so_that_a_tick_is_due_at_once() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.poll(9);
    assert!(stage.member.next_deadline() > Some(stage.now), "it took nothing");
    stage.answer(records(0, batch(0).records(2).bytes()));
    assert!(stage.member.next_deadline() > Some(stage.now));
    assert_eq!(stage.poll(1).len(), 1);
    assert_eq!(stage.member.next_deadline(), Some(stage.now));
    assert_eq!(stage.poll(1).len(), 1);
    assert_eq!(stage.member.next_deadline(), Some(stage.now));
}

#[test]
fn a_leader_that_moved_is_followed() {
    let mut stage = Stage::stable(1, &[4], |_| {});
    stage.answer(fetched(&[(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, Bytes::new())]));
    assert_eq!(stage.cluster.metadata_refreshes, 1);
    stage.expect(&[]);
    stage.cluster.leaders.insert(0, Some(2));
    stage.advance(20);
    stage.expect(&["Fetch node 2 0@4 wait 500"]);
}

#[test]
fn a_partition_without_leader_waits_and_metadata_is_asked_with_growing_pauses() {
    let mut stage = Stage::stable(1, &[-1], |_| {});
    stage.cluster.leaders.insert(0, None);
    stage.answer(listed(&[(0, 4)], NONE));
    stage.lose();
    for _ in 0..100 {
        stage.advance(50);
    }
    assert!((5..=15).contains(&stage.cluster.metadata_refreshes), "{}", stage.cluster.metadata_refreshes);
    stage.cluster.leaders.clear();
    stage.advance(1_000);
    assert!(stage.cluster.sent.iter().any(|sent| matches!(sent.request, Request::Fetch(_))));
}

#[test]
fn a_broker_that_does_not_answer_is_asked_again_after_a_pause() {
    let mut stage = Stage::stable(1, &[4], |_| {});
    stage.answer_nth(0, unreachable());
    stage.expect(&[]);
    assert_eq!(stage.cluster.metadata_refreshes, 1);
    stage.advance(20);
    stage.expect(&["Fetch node 1 0@4 wait 500"]);
}

#[test]
fn a_position_outside_of_the_log_starts_over_where_reset_says() {
    for (reset, asked) in [(Reset::Oldest, "ListOffsets node 1 0@-2"), (Reset::Newest, "ListOffsets node 1 0@-1")] {
        let mut stage = Stage::stable(1, &[100], |config| config.reset = reset);
        stage.answer(fetched(&[(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new())]));
        stage.expect(&[asked]);
        stage.answer(listed(&[(0, 40)], NONE));
        stage.expect(&["OffsetCommit generation=1 0@40", "Fetch node 1 0@40 wait 500"]);
    }
}

#[test]
fn records_fetched_before_the_log_was_cut_are_delivered_before_starting_over() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.answer(records(0, batch(0).records(2).bytes()));
    stage.answer(fetched(&[(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new())]));
    assert_eq!(stage.poll(9), ["0@0", "0@1"]);
    stage.advance(20);
    stage.answer(fetched(&[(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new())]));
    stage.expect(&["ListOffsets node 1 0@-2"]);
}

#[test]
fn damaged_records_are_fetched_again_from_where_reading_stopped() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.answer(records(0, batch(0).records(2).bytes()));
    let mut damaged = batch(2).records(2).bytes().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    stage.answer(records(0, damaged.into()));
    stage.expect(&[]);
    stage.advance(4_999);
    stage.expect(&["Heartbeat generation=1"]);
    stage.advance(1);
    stage.expect(&["Heartbeat generation=1", "Fetch node 1 0@0 wait 500"]);
}

#[test]
fn records_that_cannot_be_decompressed_are_fetched_again_after_a_pause() {
    let mut stage = Stage::stable(1, &[0], |config| config.heartbeat_interval = Duration::from_secs(9));
    stage.answer(records(0, batch(0).records(2).unreadable().bytes()));
    assert_eq!(stage.poll(9), [""; 0]);
    stage.tick();
    while stage.fetch().is_some() {
        stage.answer(records(0, Bytes::new())); // one that was on its way when they turned out to be damaged
    }
    stage.advance(4_999);
    stage.expect(&[]);
    stage.advance(1);
    stage.expect(&["Fetch node 1 0@0 wait 500"]);
}

#[test]
fn a_full_queue_stops_fetching_until_records_are_taken() {
    let mut stage = Stage::stable(1, &[0], |config| {
        config.queue_bytes_max = 1 << 20;
        config.fetch_bytes_max = 512 << 10;
    });
    let mut offset = 0;
    while matches!(stage.cluster.sent.front(), Some(Sent { request: Request::Fetch(_), .. })) {
        stage.answer(records(0, batch(offset).records(1).value(&[0; 300 << 10]).bytes()));
        offset += 1;
    }
    assert_eq!(offset, 2, "more than half of the room is taken");
    stage.advance(1_000);
    stage.expect(&[]);
    assert_eq!(stage.poll(1), ["0@0"]);
    stage.tick();
    stage.expect(&["Fetch node 1 0@2 wait 500"]);
}

#[test]
fn a_fetch_beside_a_held_back_partition_waits_shortly_and_longer_while_nobody_polls() {
    let mut stage = Stage::stable(2, &[0, 0], |config| config.queue_bytes_max = 1 << 20);
    let large = |offset| batch(offset).records(1).value(&[0; 200 << 10]).bytes();
    stage.answer(fetched(&[(0, NONE, [large(0), large(1)].concat().into()), (1, NONE, Bytes::new())]));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let sent = stage.cluster.sent.front().unwrap();
        let Request::Fetch(fetch) = &sent.request else { panic!("{sent:?}") };
        assert_eq!(fetch.topics[0].partitions.len(), 1);
        waits.push(fetch.max_wait_ms);
        stage.answer(records(1, Bytes::new()));
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 500, 500]);
    stage.poll(1);
    stage.answer(records(1, Bytes::new()));
    stage.expect(&["Fetch node 1 0@2 1@0 wait 500"]);
}

// Topics made anew

const A: Option<[u8; 16]> = Some([b'a'; 16]);
const B: Option<[u8; 16]> = Some([b'b'; 16]);

/// One partition, at offset 20 of topic `a`, with a fetch on its way and 20 and 21 handed out.
fn reading_topic_a() -> Stage {
    let mut stage = Stage::new(1, |_| {});
    stage.cluster.topic_id = A;
    stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
    stage.answer(sync(&[0]));
    stage.answer(offsets_of(&[(0, 20)], &label(b'a')));
    stage.expect(&["Fetch node 1 0@20 wait 500 of a"]);
    stage.answer(records(0, batch(20).records(3).bytes()));
    assert_eq!(stage.poll(2), ["0@20", "0@21"]);
    stage
}

#[test]
fn a_live_group_reads_a_topic_that_was_made_again_from_its_beginning_and_commits_nothing_of_the_old_one() {
    let mut stage = reading_topic_a();
    stage.member.delivered(0, 22);
    stage.cluster.topic_id = B;
    stage.tick();
    assert_eq!(stage.member.take_revoked(), [0], "answers still out count for nothing");
    stage.expect(&["OffsetCommit generation=1 0@0 of b", "Fetch node 1 0@0 wait 500 of b"]);
    assert_eq!(stage.poll(9), [""; 0], "what was fetched of the old topic is gone with it");
    assert_eq!((stage.member.state(), stage.member.assignment()), (MemberState::Stable, &[0][..]));
}

#[test]
fn an_answer_about_the_old_topic_that_comes_with_the_news_of_the_new_one_changes_nothing() {
    // A fetch of offset 23, and a commit, both on their way when the metadata comes.
    let mut stage = reading_topic_a();
    stage.member.delivered(0, 22);
    stage.advance(1_000);
    stage.expect(&["Fetch node 1 0@23 wait 500 of a", "OffsetCommit generation=1 0@22 of a"]);
    stage.cluster.topic_id = B;
    let (fetch, commit) = (stage.lose(), stage.lose());
    let answers = [(fetch.token, records(0, batch(23).records(2).bytes())), (commit.token, committed(&[0], NONE))];
    for (token, answer) in answers {
        stage.member.answered(token, Ok(answer), &mut stage.cluster, stage.now);
        stage.tick();
    }
    stage.expect(&["OffsetCommit generation=1 0@0 of b", "Fetch node 1 0@0 wait 500 of b"]);
    assert_eq!(stage.poll(9), [""; 0]);
}

#[test]
fn brokers_that_do_not_know_the_topic_of_a_fetch_make_us_ask_for_metadata() {
    for code in [
        ErrorCode::UNKNOWN_TOPIC_ID,
        ErrorCode::INCONSISTENT_TOPIC_ID,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
    ] {
        let mut stage = reading_topic_a();
        stage.answer(fetched(&[(0, code, Bytes::new())]));
        assert_eq!(stage.cluster.metadata_refreshes, 1, "{}", code.name());
    }
}

#[test]
fn a_committed_offset_is_worth_something_in_the_topic_it_says_it_is_of() {
    for (what, id, committed, lines) in [
        ("ours", B, label(b'b'), &["Fetch node 1 0@20 wait 500 of b"][..]),
        ("nobody's", B, String::new(), &["Fetch node 1 0@20 wait 500 of b"]),
        ("a client's own text", B, "lag 3".into(), &["Fetch node 1 0@20 wait 500 of b"]),
        ("the old one's", B, label(b'a'), &["OffsetCommit generation=1 0@0 of b", "Fetch node 1 0@0 wait 500 of b"]),
        ("one's of before the cluster lost its ids", None, label(b'a'), &["Fetch node 1 0@20 wait 500"]),
    ] {
        let mut stage = Stage::new(1, |_| {});
        stage.cluster.topic_id = id;
        stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
        stage.answer(sync(&[0]));
        stage.answer(offsets_of(&[(0, 20)], &committed));
        // It may be the newer topic's: then metadata says so soon.
        while what == "the old one's" && stage.cluster.sent.front().is_none_or(|sent| sent.is("OffsetFetch")) {
            assert!(stage.cluster.metadata_refreshes > 0);
            match stage.cluster.sent.front() {
                Some(_) => stage.answer(offsets_of(&[(0, 20)], &committed)),
                None => stage.advance(100),
            }
        }
        stage.expect(lines);
    }
}

#[test]
fn a_committed_offset_of_another_topic_counts_as_the_old_one_s_after_a_second() {
    for (waited_ms, is_old) in [(999, false), (1_000, true)] {
        let mut stage = Stage::new(1, |_| {});
        stage.cluster.topic_id = B;
        stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
        stage.answer(sync(&[0]));
        stage.answer(offsets_of(&[(0, 20)], &label(b'a')));
        stage.advance(20);
        stage.expect(&["OffsetFetch [0]"]);
        stage.advance(waited_ms - 20);
        stage.answer(offsets_of(&[(0, 20)], &label(b'a')));
        assert_eq!(stage.fetch().is_some(), is_old, "{waited_ms}");
    }
}

#[test]
fn a_committed_offset_of_a_newer_topic_than_we_know_waits_for_metadata() {
    let mut stage = Stage::new(1, |_| {});
    stage.cluster.topic_id = A;
    stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
    stage.answer(sync(&[0]));
    stage.answer(offsets_of(&[(0, 20)], &label(b'b')));
    stage.expect(&[]);
    stage.cluster.topic_id = B;
    stage.advance(20);
    stage.expect(&["OffsetCommit generation=1 0@0 of b", "Fetch node 1 0@0 wait 500 of b"]);
}

/// Found by a seed of the simulation: a gateway that was started while brokers did not tell of the topic had the group
/// read all of it again.
#[test]
fn a_committed_offset_is_judged_when_the_topic_is_known_and_not_before() {
    let mut stage = Stage::new(1, |_| {});
    stage.lose();
    stage.cluster.topics.clear();
    stage.cluster.leaders.insert(0, None);
    stage.member = GroupMember::new(GroupConfig::new("g", TOPIC), 7, stage.now);
    stage.tick();
    stage.answer(join(1, "other", "m1", &[]));
    stage.answer(sync(&[0]));
    for _ in 0..40 {
        while stage.cluster.sent.front().is_some_and(|sent| sent.is("OffsetFetch")) {
            stage.answer(offsets_of(&[(0, 20)], &label(b'a')));
        }
        stage.expect(&[]);
        stage.advance(50);
    }
    (stage.cluster.topic_id, stage.cluster.leader_epoch) = (A, 3);
    stage.cluster.topics.insert(TOPIC.into(), 1);
    stage.cluster.leaders.clear();
    stage.advance(950);
    stage.expect(&["OffsetFetch [0]"]);
    stage.answer(offsets_of(&[(0, 20)], &label(b'a')));
    stage.expect(&["Fetch node 1 0@20 wait 500 of a"]);
}

#[test]
fn an_offset_that_says_nothing_is_not_believed_just_after_the_topic_was_made_again() {
    let mut stage = reading_topic_a();
    stage.cluster.topic_id = B;
    stage.tick();
    stage.member.take_revoked();
    while stage.cluster.sent.pop_front().is_some() {}
    stage.advance(3_000);
    stage.answer(heartbeat(ErrorCode::ILLEGAL_GENERATION)); // somebody else may have read meanwhile
    stage.advance(1_000);
    stage.answer(join(5, "m1", "m1", &[("m1", &["t"])]));
    stage.answer(sync(&[0]));
    stage.answer(offsets(&[(0, 20)]));
    stage.expect(&["OffsetCommit generation=5 0@0 of b", "Fetch node 1 0@0 wait 500 of b"]);
}

#[test]
fn without_topic_ids_a_leader_epoch_that_goes_back_or_a_topic_that_was_gone_is_another_topic() {
    let epoch = |stage: &mut Stage| stage.cluster.leader_epoch = 0;
    let gone = |stage: &mut Stage| {
        stage.cluster.missing = true;
        stage.tick();
        stage.cluster.missing = false;
    };
    let newer_epoch = |stage: &mut Stage| stage.cluster.leader_epoch = 6;
    for (change, revoked) in [(&epoch as &dyn Fn(&mut Stage), vec![0]), (&gone, vec![0]), (&newer_epoch, vec![])] {
        let mut stage = Stage::new(1, |_| {});
        stage.cluster.leader_epoch = 5;
        stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
        stage.answer(sync(&[0]));
        stage.answer(offsets(&[(0, 20)]));
        change(&mut stage);
        stage.tick();
        assert_eq!(stage.member.take_revoked(), revoked);
    }
}

#[test]
fn partitions_that_the_new_topic_lacks_wait_for_the_next_share() {
    let mut stage = Stage::new(2, |_| {});
    stage.cluster.topic_id = A;
    stage.answer(join(1, "m1", "m1", &[("m1", &["t"])]));
    stage.answer(sync(&[0, 1]));
    stage.answer(offsets(&[(0, 20), (1, 20)]));
    stage.lose();
    stage.cluster.topic_id = B;
    stage.cluster.topics.insert("t".into(), 1);
    stage.tick();
    stage.expect(&["OffsetCommit generation=1 0@0 of b"]);
    stage.answer(committed(&[0], NONE));
    stage.expect(&["JoinGroup member=m1"]);
}

#[test]
fn what_was_handed_out_of_a_log_that_was_cut_back_is_not_committed_on_the_shorter_one() {
    // Kafka 2.7 has no topic ids: a topic made again looks like a log that was cut.
    for (found, back) in [(0, vec![0]), (40, vec![0]), (100, vec![]), (150, vec![])] {
        let mut stage = Stage::stable(1, &[100], |_| {});
        stage.answer(fetched(&[(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new())]));
        stage.answer(listed(&[(0, found)], NONE));
        assert_eq!(stage.member.take_revoked(), back, "{found}");
    }
}

// Leaving

#[test]
fn leaving_commits_then_says_so() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.answer(records(0, batch(0).records(2).bytes()));
    stage.lose();
    stage.poll(1);
    stage.member.delivered(0, 1);
    stage.member.begin_leaving(&mut stage.cluster, stage.now);
    stage.expect(&["OffsetCommit generation=1 0@1"]);
    assert_eq!((stage.member.state(), stage.poll(1)), (MemberState::Leaving, vec![]));
    stage.answer(committed(&[0], NONE));
    stage.expect(&["LeaveGroup member=m1"]);
    stage.answer(left());
    assert_eq!((stage.member.state(), stage.member.next_deadline()), (MemberState::Left, None));
}

#[test]
fn leaving_is_over_in_bounded_time_when_nobody_answers() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.answer(records(0, batch(0).records(2).bytes()));
    stage.poll(1);
    stage.member.delivered(0, 1);
    stage.member.begin_leaving(&mut stage.cluster, stage.now);
    stage.advance(2_000);
    assert_eq!(stage.member.state(), MemberState::Leaving);
    stage.advance(2_000);
    assert_eq!(stage.member.state(), MemberState::Left);
}

#[test]
fn leaving_waits_for_a_commit_that_is_sent_again_and_fetches_nothing_meanwhile() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.answer(records(0, batch(0).records(2).bytes()));
    stage.poll(1);
    stage.member.delivered(0, 1);
    stage.member.begin_leaving(&mut stage.cluster, stage.now);
    stage.expect(&["Fetch node 1 0@2 wait 500", "OffsetCommit generation=1 0@1"]);
    stage.answer(records(0, batch(2).records(1).bytes()));
    stage.answer(committed(&[0], ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    stage.expect(&[]);
    assert_eq!(stage.member.state(), MemberState::Leaving);
    stage.advance(20);
    stage.expect(&["OffsetCommit generation=1 0@1"]);
    stage.answer(committed(&[0], NONE));
    stage.expect(&["LeaveGroup member=m1"]);
}

#[test]
fn who_is_told_to_leave_twice_says_so_once() {
    let mut stage = Stage::stable(1, &[0], |_| {});
    stage.lose();
    for _ in 0..2 {
        stage.member.begin_leaving(&mut stage.cluster, stage.now);
        stage.expect(&["LeaveGroup member=m1"]);
    }
    stage.answer(left());
    stage.member.begin_leaving(&mut stage.cluster, stage.now);
    stage.expect(&[]);
    assert_eq!(stage.member.state(), MemberState::Left);
}

#[test]
fn a_member_that_failed_has_nothing_to_leave_and_still_says_why() {
    let mut stage = Stage::new(1, |_| {});
    stage.answer(join_error(ErrorCode::GROUP_AUTHORIZATION_FAILED, ""));
    stage.member.begin_leaving(&mut stage.cluster, stage.now);
    let why = "join refused: GROUP_AUTHORIZATION_FAILED";
    assert_eq!(stage.member.state(), MemberState::Failed(why.into()));
}

#[test]
fn leaving_before_the_coordinator_knows_us_is_over_at_once() {
    let mut stage = Stage::new(1, |_| {});
    stage.member.begin_leaving(&mut stage.cluster, stage.now);
    assert_eq!(stage.member.state(), MemberState::Left);
    assert_eq!(stage.cluster.cancelled.len(), 1);
}

#[test]
fn leaving_while_a_join_waits_takes_the_member_out_of_the_group() {
    let mut stage = Stage::new(1, |_| {});
    stage.answer(join_error(ErrorCode::MEMBER_ID_REQUIRED, "m1"));
    stage.lose();
    stage.member.begin_leaving(&mut stage.cluster, stage.now);
    stage.expect(&["LeaveGroup member=m1"]);
}

#[test]
fn a_static_member_goes_without_a_word_and_keeps_its_share_for_the_session() {
    let mut stage = Stage::stable(1, &[0], |config| config.instance_id = Some("gw-1".into()));
    stage.lose();
    stage.member.begin_leaving(&mut stage.cluster, stage.now);
    stage.expect(&[]);
    assert_eq!(stage.member.state(), MemberState::Left);
}

// Everything at once

/// What the cluster may do next.
fn reply_for(request: &Request, code: ErrorCode, offset: i64) -> Response {
    use kafka_wire::cold::RequestKind as Kind;
    match request {
        Request::Fetch(fetch) => {
            let partitions = fetch.topics.iter().flat_map(|topic| &topic.partitions);
            let parts: Vec<_> = partitions
                .map(|p| {
                    (p.index, code, if code == NONE { batch(p.fetch_offset).records(2).bytes() } else { Bytes::new() })
                })
                .collect();
            fetched(&parts)
        }
        Request::Cold(Kind::JoinGroup(_)) if code == NONE => join(offset as i32, "m1", "m1", &[("m1", &["t"])]),
        Request::Cold(Kind::JoinGroup(_)) => join_error(code, "m1"),
        Request::Cold(Kind::SyncGroup(_)) if code == NONE => sync(&[0, 1]),
        Request::Cold(Kind::SyncGroup(_)) => sync_error(code),
        Request::Cold(Kind::Heartbeat(_)) => heartbeat(code),
        Request::Cold(Kind::OffsetFetch(_)) if code == NONE => offsets(&[(0, offset), (1, -1)]),
        Request::Cold(Kind::OffsetFetch(_)) => offsets_error(code),
        Request::Cold(Kind::OffsetCommit(_)) => committed(&[0, 1], code),
        Request::Cold(Kind::ListOffsets(_)) => listed(&[(0, offset), (1, offset)], code),
        Request::Cold(Kind::LeaveGroup(_)) => left(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever the cluster answers, in whatever order: no panic, no spinning (`Stage::tick` asserts that), records of a
    /// partition in order between revocations, one fetch per leader, and a member that is told to leave gets out.
    #[test]
    fn no_conversation_breaks_the_member(
        events in proptest::collection::vec((0usize..6, 0usize..8, 0usize..14, 0i64..40), 1..120)
    ) {
        const CODES: [i16; 14] = [0, 0, 0, 0, 0, 0, 1, 6, 14, 16, 22, 25, 27, -1];
        let mut stage = Stage::new(2, |config| config.queue_bytes_max = 1 << 20);
        let mut next: [Option<i64>; 2] = [None, None];
        for (what, which, code, offset) in events {
            match what {
                0..=2 if !stage.cluster.sent.is_empty() => {
                    let index = which % stage.cluster.sent.len();
                    let sent = stage.cluster.sent.remove(index).unwrap();
                    if !stage.cluster.cancelled.contains(&sent.token) {
                        let reply = if which == 7 {
                            unreachable()
                        } else {
                            Ok(reply_for(&sent.request, ErrorCode(CODES[code]), offset))
                        };
                        stage.member.answered(sent.token, reply, &mut stage.cluster, stage.now);
                        stage.tick();
                    }
                }
                3 => stage.advance(offset as u64 * 100),
                4 => {
                    for revoked in stage.member.take_revoked() {
                        next[revoked as usize] = None;
                    }
                    for fetched in stage.member.poll_records(which, usize::MAX) {
                        let expected = &mut next[fetched.partition as usize];
                        // Offsets of a partition go on where they were, or begin anew where ListOffsets said (below 40).
                        prop_assert!(expected.is_none_or(|next| fetched.record.offset == next || fetched.record.offset < 40));
                        *expected = Some(fetched.record.offset + 1);
                        stage.member.delivered(fetched.partition, fetched.record.offset + 1);
                    }
                    stage.tick();
                }
                _ => {}
            }
            let cancelled = &stage.cluster.cancelled;
            let fetches = stage.cluster.sent.iter().filter(|s| matches!(s.request, Request::Fetch(_)));
            prop_assert!(fetches.filter(|sent| !cancelled.contains(&sent.token)).count() <= 1);
        }
        stage.member.begin_leaving(&mut stage.cluster, stage.now);
        for _ in 0..20 {
            stage.advance(500);
        }
        prop_assert!(matches!(stage.member.state(), MemberState::Left | MemberState::Failed(_)));
    }
}

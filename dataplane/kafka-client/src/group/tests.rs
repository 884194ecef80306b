//! The member against a scripted cluster: each test is a conversation.

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;
use proptest::prelude::*;

use super::testing::*;
use super::*;
use crate::Request;

mod anew;
mod fetching;
mod positions;

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

//! Where a group begins in its partitions, and what it commits.

use super::*;

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

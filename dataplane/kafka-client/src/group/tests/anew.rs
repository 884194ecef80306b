//! Topics that were deleted and made again, and logs that look like it.

use super::*;

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

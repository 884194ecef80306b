//! What is asked of leaders, how much, and when again.

use super::*;

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

//! The hub against a model broker: no wire, no connection, only what is asked and what is told.

use super::*;
use crate::limits::FETCH_CONNECTIONS_MAX;
use crate::rng::Rng;

const BROKER: u32 = 3;
/// One record of the model: its offset.
const RECORD_BYTES: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(5);

type Log = (&'static str, i32);

/// One reader's Fetch in one line.
fn ask(partitions: &[(Log, i64)], max_bytes: i32) -> FetchRequest {
    let mut request = FetchRequest { max_bytes, max_wait_ms: 500, ..FetchRequest::default() };
    for ((name, index), offset) in partitions {
        let partition = FetchPartition::consumer(*index, *offset, 1_000);
        match request.topics.iter_mut().find(|topic| topic.name == name.as_bytes()) {
            Some(topic) => topic.partitions.push(partition),
            None => request.topics.push(FetchTopic {
                name: Bytes::from_static(name.as_bytes()),
                id: [name.as_bytes()[0]; 16],
                partitions: vec![partition],
            }),
        }
    }
    request
}

fn offsets(records: &[u8]) -> Vec<i64> {
    records.chunks(RECORD_BYTES).map(|record| i64::from_be_bytes(record.try_into().unwrap())).collect()
}

/// Log and offsets of everything in an answer.
fn told(response: &FetchResponse) -> Vec<(String, i32, Vec<i64>)> {
    let mut told = Vec::new();
    for topic in &response.topics {
        for partition in topic.partitions.iter().filter(|partition| !partition.records.is_empty()) {
            let name = String::from_utf8(topic.name.to_vec()).unwrap();
            told.push((name, partition.index, offsets(&partition.records)));
        }
    }
    told
}

/// The hub, a broker that answers when it is told to, and the clock.
struct Model {
    fetches: Fetches,
    now: Instant,
    token_next: u64,
    polls: Vec<ConnId>,
    conn_next: u32,
    catch_up: ConnId,
    /// New connections shake hands for ever.
    hangs: bool,
    /// By connection: what the broker was asked and when it answers.
    asked: BTreeMap<ConnId, (FetchRequest, Instant)>,
    ends: BTreeMap<Log, i64>,
    answers: Answers,
    sent_count: usize,
}

impl Model {
    fn new() -> Model {
        Model {
            fetches: Fetches::default(),
            now: Instant::now(),
            token_next: 0,
            polls: Vec::new(),
            conn_next: 100,
            catch_up: ConnId(1),
            hangs: false,
            asked: BTreeMap::new(),
            ends: BTreeMap::new(),
            answers: Vec::new(),
            sent_count: 0,
        }
    }

    fn ask(&mut self, request: FetchRequest) -> RequestToken {
        self.token_next += 1;
        let token = RequestToken(self.token_next);
        self.fetches.accept(token, BROKER, request, TIMEOUT, self.now);
        token
    }

    fn write(&mut self, log: Log, count: i64) {
        *self.ends.entry(log).or_default() += count;
    }

    fn send(&mut self, conn: ConnId, union: Union) {
        let returns_at = self.now + Duration::from_millis(union.request.max_wait_ms as u64);
        let mut named = BTreeSet::new();
        for topic in &union.request.topics {
            for partition in &topic.partitions {
                assert!(named.insert((topic.name.clone(), partition.index)), "named twice: {:?}", union.request);
            }
        }
        self.asked.insert(conn, (union.request.clone(), returns_at));
        self.fetches.sent(conn, union, self.now);
        self.sent_count += 1;
    }

    /// What the client does in a flush; connections stand at once.
    fn flush(&mut self) {
        self.fetches.expire(self.now, &mut self.answers);
        for broker in self.fetches.due() {
            if !self.asked.contains_key(&self.catch_up)
                && let Some(union) = self.fetches.compose_now(broker, self.now)
            {
                self.send(self.catch_up, union);
            }
            loop {
                let idle: Vec<ConnId> =
                    self.polls.iter().filter(|conn| !self.asked.contains_key(conn)).copied().collect();
                let openable = POLL_CONNECTIONS_MAX - self.polls.len();
                let (opening, openable) = if self.hangs { (openable, 0) } else { (0, openable) };
                let mut seats = Seats { idle, opening, openable };
                self.fetches.leave_homes(broker, &seats.idle);
                while let Some((conn, union)) = self.fetches.compose_poll(broker, &mut seats, self.now) {
                    self.send(conn, union);
                }
                if openable == 0 || self.fetches.unnamed_count(broker) == 0 {
                    break;
                }
                self.conn_next += 1;
                self.polls.push(ConnId(self.conn_next));
            }
            self.fetches.looked_at(broker);
        }
    }

    /// The broker's answer to a request, as things are now; and whether there is anything in it.
    fn answer(&self, request: &FetchRequest) -> (FetchResponse, bool) {
        let (mut bytes_left, mut has_records) = (request.max_bytes as usize, false);
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let log = self
                    .ends
                    .iter()
                    .find(|((name, index), _)| name.as_bytes() == &topic.name[..] && *index == asked.index);
                let end = log.map_or(0, |(_, end)| *end);
                let room = bytes_left.min(asked.partition_max_bytes as usize) / RECORD_BYTES;
                let room = if has_records { room } else { room.max(1) }; // KIP-74
                let count = (end - asked.fetch_offset).clamp(0, room as i64);
                let records: Vec<u8> =
                    (asked.fetch_offset..asked.fetch_offset + count).flat_map(i64::to_be_bytes).collect();
                has_records |= count > 0;
                bytes_left = bytes_left.saturating_sub(records.len());
                let empty = FetchedPartition::empty(asked.index, ErrorCode::NONE);
                FetchedPartition { records: records.into(), high_watermark: end, ..empty }
            });
            let partitions = partitions.collect();
            FetchedTopic { name: Bytes::new(), id: topic.id, partitions } // as from version 13 on
        });
        let response = FetchResponse { topics: topics.collect(), ..FetchResponse::default() };
        (response, has_records)
    }

    fn answer_on(&mut self, conn: ConnId) {
        let (request, _) = self.asked.remove(&conn).expect("asked");
        let (response, _) = self.answer(&request);
        self.answers.extend(self.fetches.answered(conn, response, 100, self.now));
    }

    /// Answers whatever a broker would answer now, in order of the connections.
    fn turn(&mut self) {
        for conn in self.asked.keys().copied().collect::<Vec<_>>() {
            let (request, returns_at) = &self.asked[&conn];
            if *returns_at <= self.now || self.answer(request).1 {
                self.answer_on(conn);
            }
        }
        self.flush();
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += Duration::from_millis(1);
            self.turn();
        }
    }

    fn named_count(&self, log: Log) -> usize {
        let of = |request: &FetchRequest| {
            let topics = request.topics.iter().filter(|topic| topic.name == log.0.as_bytes());
            topics.flat_map(|topic| &topic.partitions).filter(|partition| partition.index == log.1).count()
        };
        self.asked.values().map(|(request, _)| of(request)).sum()
    }

    fn told(&mut self, token: RequestToken) -> Option<Vec<(String, i32, Vec<i64>)>> {
        let mut found = self.answers.iter().filter(|(told, _)| *told == token);
        let first = found.next().map(|(_, response)| told(response));
        assert!(found.next().is_none(), "two answers");
        first
    }
}

const A: Log = ("a", 0);
const B: Log = ("b", 0);

/// So many readers, each of a partition of its own, all at the end of it.
fn waiting(count: i32) -> (Model, Vec<RequestToken>) {
    let mut model = Model::new();
    let tokens = (0..count).map(|index| model.ask(ask(&[(("many", index), 0)], 10_000))).collect();
    model.flush();
    (model, tokens)
}

#[test]
fn each_newcomer_gets_a_spare_connection_for_as_long_as_it_asked_for() {
    for count in 1..POLL_CONNECTIONS_MAX {
        let (model, _) = waiting(count as i32);
        assert_eq!(model.asked.len(), count);
        for (request, _) in model.asked.values() {
            assert_eq!((request.topics[0].partitions.len(), request.max_wait_ms), (1, 500));
        }
    }
}

#[test]
fn when_all_but_one_connection_poll_the_last_one_is_the_door() {
    let (mut model, _) = waiting(100);
    assert_eq!(model.asked.len(), POLL_CONNECTIONS_MAX - 1, "one is free for whoever comes next");
    let late = model.ask(ask(&[(A, 0)], 10_000));
    model.flush();
    assert_eq!(model.asked.len(), POLL_CONNECTIONS_MAX);
    let waits: BTreeSet<i32> = model.asked.values().map(|(request, _)| request.max_wait_ms).collect();
    assert_eq!(waits, BTreeSet::from([FETCH_DOOR_WAIT.as_millis() as i32, 500]));
    let later = model.ask(ask(&[(B, 0)], 10_000));
    model.flush();
    assert_eq!(model.named_count(B), 0);
    model.pass(FETCH_DOOR_WAIT.as_millis() as u64);
    assert_eq!((model.named_count(A), model.named_count(B)), (1, 1), "named in time");
    model.write(A, 1);
    model.write(B, 1);
    model.turn();
    assert_eq!(model.told(late).unwrap(), [("a".into(), 0, vec![0])]);
    assert_eq!(model.told(later).unwrap(), [("b".into(), 0, vec![0])]);
}

#[test]
fn the_quiet_leave_the_door_and_then_it_rests() {
    let (mut model, _) = waiting(100);
    let mut quiet = FetchRequest { max_wait_ms: 60_000, ..ask(&[(A, 0)], 10_000) };
    model.ask(quiet.clone());
    model.flush();
    model.pass(700);
    quiet.max_wait_ms = 500;
    assert_eq!(model.named_count(A), 1, "{:?}", model.asked.len());
    let shortest = model.asked.values().map(|(request, _)| request.max_wait_ms).min();
    assert!(shortest > Some(FETCH_DOOR_WAIT.as_millis() as i32), "nobody is at the door: {shortest:?}");
    let polls = model.asked.values().map(|(request, _)| request.topics.len());
    assert!(polls.max() <= Some(2));
}

#[test]
fn readers_at_the_same_place_share_one_named_partition_and_all_get_the_records() {
    let mut model = Model::new();
    let first = model.ask(ask(&[(A, 0)], 10_000));
    model.flush();
    let second = model.ask(ask(&[(A, 0)], 10_000));
    model.flush();
    assert_eq!((model.named_count(A), model.asked.len()), (1, 1), "the second joins the poll under way");
    model.write(A, 3);
    model.turn();
    for token in [first, second] {
        assert_eq!(model.told(token).unwrap(), [("a".into(), 0, vec![0, 1, 2])]);
    }
}

#[test]
fn readers_at_different_places_of_a_partition_never_share_a_request() {
    let mut model = Model::new();
    model.write(A, 5);
    let tokens = [5, 6, 7].map(|offset| model.ask(ask(&[(A, offset)], 10_000)));
    model.flush(); // `send` asserts that nothing is named twice
    assert_eq!(model.named_count(A), 3);
    model.write(A, 3);
    model.turn();
    for (token, offset) in tokens.into_iter().zip(5..) {
        assert_eq!(model.told(token).unwrap(), [("a".into(), 0, (offset..8).collect())]);
    }
}

#[test]
fn different_places_of_a_partition_take_turns_when_all_connections_are_taken() {
    let (mut model, _) = waiting(100);
    model.write(A, 20);
    let tokens: Vec<RequestToken> = (0..15).map(|offset| model.ask(ask(&[(A, 20 + offset)], 10_000))).collect();
    model.pass(400);
    model.write(A, 100);
    model.pass(400);
    for (token, offset) in tokens.into_iter().zip(20..) {
        let told = model.told(token).unwrap();
        assert!(told.iter().all(|(_, _, offsets)| offsets[0] == offset) && !told.is_empty(), "{offset}: {told:?}");
    }
}

#[test]
fn who_lags_behind_fetches_at_once_on_another_connection() {
    let (mut model, _) = waiting(100);
    model.write(A, 1_000);
    let first = model.ask(ask(&[(A, 0)], 80));
    model.turn();
    model.turn();
    assert_eq!(model.told(first).unwrap()[0].2, (0..10).collect::<Vec<i64>>());
    let lagging = model.ask(ask(&[(A, 10)], 80));
    model.flush();
    let (request, _) = &model.asked[&model.catch_up];
    assert_eq!((request.max_wait_ms, request.topics[0].partitions[0].fetch_offset), (0, 10));
    model.turn();
    assert_eq!(model.told(lagging).unwrap()[0].2, (10..20).collect::<Vec<i64>>());
    let at_the_end = model.ask(ask(&[(A, 1_000)], 80));
    model.flush();
    assert!(!model.asked.contains_key(&model.catch_up), "it lags no more");
    assert_eq!(model.named_count(A), 1);
    assert_eq!(model.told(at_the_end), None);
}

#[test]
fn a_laggard_that_finds_nothing_waits_like_everybody() {
    let mut model = Model::new();
    model.write(A, 10);
    model.ask(ask(&[(A, 0)], 8));
    model.flush();
    model.turn();
    model.ends.insert(A, 1); // the log was cut
    let token = model.ask(ask(&[(A, 1)], 80));
    model.flush();
    assert!(model.asked.contains_key(&model.catch_up));
    model.turn();
    assert_eq!(model.told(token), None);
    assert!(!model.asked.contains_key(&model.catch_up));
    assert_eq!(model.named_count(A), 1, "by a long poll");
    model.ask(ask(&[(A, 2)], 80));
    model.flush();
    assert!(!model.asked.contains_key(&model.catch_up), "the old end is forgotten");
}

#[test]
fn a_small_budget_is_kept_whatever_others_ask() {
    let (mut model, _) = waiting(100); // so that they share the door
    model.write(A, 100);
    let large = model.ask(ask(&[(A, 0)], 10_000));
    let small = model.ask(ask(&[(A, 0)], 24));
    let two = model.ask(ask(&[(A, 0), (B, 0)], 24));
    model.write(B, 100);
    model.flush();
    assert_eq!(model.named_count(A), 1);
    model.turn();
    model.turn();
    assert_eq!(model.told(small).unwrap(), [("a".into(), 0, vec![0, 1, 2])]);
    let two = model.told(two).unwrap();
    assert!(two.iter().map(|(_, _, offsets)| offsets.len()).sum::<usize>() <= 3, "{two:?}");
    assert!(!model.told(large).unwrap().is_empty());
}

#[test]
fn a_poll_under_way_that_may_bring_more_than_wanted_is_not_joined() {
    let mut model = Model::new();
    model.ask(ask(&[(A, 0)], 10_000));
    model.flush();
    let small = model.ask(ask(&[(A, 0)], 24));
    model.flush();
    assert_eq!(model.named_count(A), 2);
    model.write(A, 100);
    model.turn();
    assert_eq!(model.told(small).unwrap(), [("a".into(), 0, vec![0, 1, 2])]);
}

#[test]
fn a_lost_connection_ends_exactly_those_named_on_it() {
    let (mut model, tokens) = waiting(100);
    let conn = *model.asked.keys().next().unwrap();
    let named: BTreeSet<i32> = model.asked[&conn].0.topics[0].partitions.iter().map(|p| p.index).collect();
    model.asked.remove(&conn);
    model.polls.retain(|other| *other != conn);
    let lost = model.fetches.lost(conn);
    let expected: Vec<RequestToken> = named.iter().map(|index| tokens[*index as usize]).collect();
    assert_eq!((lost.len(), lost), (10, expected));
    model.flush();
    for index in 0..100 {
        model.write(("many", index), 1);
    }
    model.turn();
    assert_eq!(model.answers.len(), 90, "the others read on");
}

#[test]
fn a_cancelled_ask_is_told_nothing_and_not_named_again() {
    let mut model = Model::new();
    let [cancelled, kept] = [A, B].map(|log| model.ask(ask(&[(log, 0)], 10_000)));
    model.flush();
    assert_eq!(model.fetches.remove(cancelled), Some(true));
    model.write(A, 1);
    model.turn();
    model.pass(100);
    assert_eq!((model.named_count(A), model.named_count(B)), (0, 1));
    assert_eq!((model.told(cancelled), model.told(kept)), (None, None));
}

#[test]
fn a_wait_that_ends_leaves_the_poll_under_way_alone() {
    let (mut model, _) = waiting(100);
    model.pass(100);
    let short = model.ask(FetchRequest { max_wait_ms: 50, ..ask(&[(("many", 7), 0)], 10_000) });
    let sent_before = model.sent_count;
    model.pass(49);
    assert_eq!(model.told(short), None);
    model.pass(1);
    assert_eq!(model.told(short), Some(vec![]), "empty, in time");
    assert_eq!(model.sent_count, sent_before, "nothing was sent for it");
    model.pass(400);
    assert_eq!(model.answers.len(), 101, "and the others when their poll returned");
}

#[test]
fn who_is_named_by_a_silent_broker_is_not_told_that_there_is_nothing() {
    let mut model = Model::new();
    let token = model.ask(ask(&[(A, 0)], 10_000));
    model.flush();
    model.now += Duration::from_millis(400);
    let joined = model.ask(ask(&[(A, 0)], 10_000));
    model.now += Duration::from_secs(4); // and no answer
    model.flush();
    assert_eq!((model.told(token), model.told(joined)), (None, None));
    let late = model.ask(ask(&[(A, 0)], 10_000));
    model.flush();
    assert_eq!(model.named_count(A), 2, "a newcomer does not join what is overdue");
    assert_eq!(model.fetches.remove(token), Some(true), "it was sent");
    assert_eq!(model.told(late), None);
}

#[test]
fn what_a_request_cannot_say_is_not_put_together() {
    let by_name = |mut request: FetchRequest| {
        request.topics[0].id = NO_TOPIC_ID;
        request
    };
    let other_id = |mut request: FetchRequest| {
        request.topics[0].id = [9; 16];
        request
    };
    let rows: [(&str, FetchRequest); 5] = [
        ("isolation", FetchRequest { isolation_level: 1, ..ask(&[(B, 0)], 10_000) }),
        ("min bytes", FetchRequest { min_bytes: 7, ..ask(&[(B, 0)], 10_000) }),
        ("rack", FetchRequest { rack_id: Bytes::from_static(b"r"), ..ask(&[(B, 0)], 10_000) }),
        ("without an id", by_name(ask(&[(B, 0)], 10_000))),
        ("another id under one name", other_id(ask(&[(("many", 999), 0)], 10_000))),
    ];
    for (what, other) in rows {
        let (mut model, _) = waiting(30);
        let index = other.topics[0].partitions[0].index;
        model.ask(other.clone());
        model.ask(ask(&[(("many", 500), 0)], 10_000));
        model.pass(300);
        let names = |request: &FetchRequest| {
            request
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(|p| (topic.id, p.index)))
                .collect::<Vec<_>>()
        };
        let named: Vec<_> =
            model.asked.values().filter(|(r, _)| names(r).contains(&(other.topics[0].id, index))).collect();
        for (request, _) in &named {
            assert_eq!(names(request), [(other.topics[0].id, index)], "{what}: alone");
        }
    }
}

#[test]
fn sessions_followers_and_empty_requests_are_not_taken() {
    let plain = ask(&[(A, 0)], 1);
    assert!(Fetches::takes(&plain));
    let twice = FetchRequest { topics: vec![plain.topics[0].clone(), plain.topics[0].clone()], ..plain.clone() };
    for (what, request) in [
        ("follower", FetchRequest { replica_id: 1, ..plain.clone() }),
        ("session", FetchRequest { session_epoch: 0, ..plain.clone() }),
        ("empty", FetchRequest { topics: Vec::new(), ..plain.clone() }),
        ("a partition twice", twice),
    ] {
        assert!(!Fetches::takes(&request), "{what}");
    }
}

#[test]
fn one_that_moved_from_the_door_to_a_long_poll_does_not_end_with_the_door() {
    let (mut model, _) = waiting(100);
    let moved = model.ask(FetchRequest { max_wait_ms: 60_000, ..ask(&[(A, 0)], 10_000) });
    model.flush();
    model.pass(155);
    model.write(("many", 0), 1); // its poll returns
    model.turn();
    assert_eq!(model.named_count(A), 2);
    let is_door = |(_, (request, _)): &(&ConnId, &(FetchRequest, Instant))| request.max_wait_ms == 10;
    let door = *model.asked.iter().find(is_door).expect("still under way").0;
    model.asked.remove(&door);
    model.polls.retain(|conn| *conn != door);
    assert_eq!(model.fetches.lost(door), []);
    model.write(A, 1);
    model.turn();
    assert_eq!(model.told(moved).unwrap(), [("a".into(), 0, vec![0])]);
}

#[test]
fn a_poll_of_many_is_shared_out_when_connections_are_idle_again() {
    let (mut model, tokens) = waiting(40);
    for token in &tokens[4..] {
        model.fetches.remove(*token); // one connection polls for four
    }
    model.pass(499);
    model.ask(FetchRequest { max_wait_ms: 5_000, ..ask(&[(("many", 0), 0)], 10_000) });
    model.ask(FetchRequest { max_wait_ms: 5_000, ..ask(&[(("many", 1), 0)], 10_000) });
    model.pass(10);
    let named: Vec<usize> = model.asked.values().map(|(request, _)| request.topics[0].partitions.len()).collect();
    assert_eq!(named, [1, 1]);
}

#[test]
fn a_newcomer_whose_connection_hangs_is_named_with_the_next_poll_that_returns() {
    let mut model = Model::new();
    let first = FetchRequest { max_wait_ms: 60_000, ..ask(&[(A, 0)], 10_000) };
    model.ask(FetchRequest { max_wait_ms: 300, ..first.clone() });
    model.flush();
    model.hangs = true;
    model.ask(FetchRequest { max_wait_ms: 60_000, ..ask(&[(B, 0)], 10_000) });
    model.pass(50);
    model.ask(first);
    assert_eq!((model.named_count(A), model.named_count(B)), (1, 0));
    model.pass(300);
    assert_eq!((model.named_count(A), model.named_count(B)), (1, 1));
}

#[test]
fn laggards_take_turns_and_one_answer_holds_what_it_may() {
    const LARGE: i32 = FETCH_RESPONSE_BYTES_MAX as i32 / 2;
    let mut model = Model::new();
    for index in 0..5 {
        model.write(("many", index), 1_000);
        model.ask(ask(&[(("many", index), 0)], 80));
    }
    model.pass(2);
    let mut turns = Vec::new();
    for index in 0..5 {
        model.ask(ask(&[(("many", index), 10)], LARGE));
    }
    model.flush();
    while let Some((request, _)) = model.asked.get(&model.catch_up) {
        assert!(request.max_bytes as usize <= FETCH_RESPONSE_BYTES_MAX);
        turns.push(request.topics[0].partitions.iter().map(|partition| partition.index).collect::<Vec<_>>());
        model.answer_on(model.catch_up);
        model.flush();
    }
    assert_eq!(turns, [vec![0, 1], vec![2, 3], vec![4]]);
}

#[test]
fn with_little_memory_an_answer_holds_little_and_everybody_gets_a_turn() {
    for (room, largest) in [(usize::MAX, 400 << 10), (200 << 10, 200 << 10), (0, 100 << 10)] {
        let mut model = Model::new();
        model.fetches.set_room(room);
        for index in 0..4 {
            model.write(("many", index), 1_000);
            model.ask(ask(&[(("many", index), 0)], 80));
        }
        model.pass(2);
        for index in 0..4 {
            model.ask(ask(&[(("many", index), 10)], 100 << 10));
        }
        model.flush();
        let (mut bytes_max, mut named) = (Vec::new(), Vec::new());
        while let Some((request, _)) = model.asked.get(&model.catch_up) {
            bytes_max.push(request.max_bytes);
            named.extend(request.topics[0].partitions.iter().map(|partition| partition.index));
            model.answer_on(model.catch_up);
            model.flush();
        }
        assert_eq!((bytes_max.iter().max(), named), (Some(&largest), vec![0, 1, 2, 3]), "room for {room}");
    }
}

#[test]
fn a_request_names_so_many_partitions_and_those_beyond_take_turns_at_the_door() {
    let per_reader = 1_000;
    let reader_count = (POLL_CONNECTIONS_MAX * FETCH_PARTITIONS_MAX) as i32 / per_reader + 5;
    let mut model = Model::new();
    for reader in 0..reader_count {
        let logs = (0..per_reader).map(|index| (("many", reader * per_reader + index), 0));
        model.ask(FetchRequest { max_wait_ms: 60_000, ..ask(&logs.collect::<Vec<_>>(), 10_000) });
    }
    let mut named = BTreeSet::new();
    model.flush();
    for _ in 0..10 {
        for (request, _) in model.asked.values() {
            let partitions = &request.topics[0].partitions;
            assert!(partitions.len() <= FETCH_PARTITIONS_MAX);
            named.extend(partitions.iter().map(|partition| partition.index / per_reader));
        }
        model.now += FETCH_DOOR_WAIT;
        model.turn();
    }
    assert_eq!(named.len(), reader_count as usize, "everybody had a turn");
}

#[test]
fn a_small_part_of_a_large_answer_does_not_keep_the_whole_in_memory() {
    let frame = Bytes::from(vec![1; 2 * FETCH_PINNED_BYTES_MAX]);
    let is_slice = |records: &Bytes| frame.as_ptr_range().contains(&records.as_ptr());
    assert!(!is_slice(&unpinned(frame.slice(..100), frame.len())), "copied");
    assert!(is_slice(&unpinned(frame.slice(..frame.len() / 2), frame.len())), "most of it");
    assert!(is_slice(&unpinned(frame.slice(..100), 1_000)), "of a small one");
}

#[test]
fn an_error_or_a_partition_left_out_ends_the_asks_that_named_it() {
    let (mut model, tokens) = waiting(100);
    let conn = *model.asked.keys().next().unwrap();
    let (request, _) = model.asked.remove(&conn).unwrap();
    let (mut response, _) = model.answer(&request);
    let partitions = &mut response.topics[0].partitions;
    let left_out = partitions.remove(0).index;
    partitions[0].error = ErrorCode::NOT_LEADER_OR_FOLLOWER;
    let refused = partitions[0].index;
    let answers = model.fetches.answered(conn, response, 100, model.now);
    let expected = [left_out, refused].map(|index| tokens[index as usize]);
    assert_eq!(answers.iter().map(|(token, _)| *token).collect::<Vec<_>>(), expected);
    assert!(answers[0].1.topics[0].partitions.is_empty());
    assert_eq!(answers[1].1.topics[0].partitions[0].error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
}

#[test]
fn a_refused_request_is_told_to_everybody_in_it() {
    let (mut model, _) = waiting(100);
    let conn = *model.asked.keys().next().unwrap();
    let response = FetchResponse { error: ErrorCode::UNKNOWN_SERVER_ERROR, ..FetchResponse::default() };
    let answers = model.fetches.answered(conn, response, 100, model.now);
    assert_eq!(answers.len(), 10);
    assert!(answers.iter().all(|(_, response)| response.error == ErrorCode::UNKNOWN_SERVER_ERROR));
}

/// A group of the random test.
struct Reader {
    positions: BTreeMap<Log, i64>,
    max_bytes: i32,
    token: Option<RequestToken>,
}

/// Every reader gets every record of its partitions in order, nothing twice and nothing lost, within its budget, whatever
/// order answers, losses and cancellations come in.
fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut model = Model::new();
    let logs: Vec<Log> = ["a", "b", "c"].into_iter().flat_map(|name| (0..4).map(move |index| (name, index))).collect();
    let mut readers: Vec<Reader> = (0..1 + rng.below(60))
        .map(|_| {
            let count = 1 + rng.below(3);
            let positions = (0..count).map(|_| (logs[rng.below(logs.len())], 0)).collect();
            Reader { positions, max_bytes: [8, 24, 80, 10_000][rng.below(4)], token: None }
        })
        .collect();
    let steps = 400;
    for step in 0..steps + 4_000 {
        let is_calm = step >= steps; // nothing is written and nothing goes wrong
        let at_end = |(log, at): (&Log, &i64)| *at == model.ends.get(log).copied().unwrap_or(0);
        if is_calm && readers.iter().all(|reader| reader.positions.iter().all(at_end)) {
            break;
        }
        model.now += Duration::from_micros(rng.below(2_000) as u64);
        for reader in readers.iter_mut().filter(|reader| reader.token.is_none()) {
            if is_calm || rng.below(3) > 0 {
                let positions: Vec<(Log, i64)> = reader.positions.iter().map(|(log, at)| (*log, *at)).collect();
                reader.token = Some(model.ask(ask(&positions, reader.max_bytes)));
            }
        }
        if !is_calm {
            if rng.below(3) == 0 {
                model.write(logs[rng.below(logs.len())], 1 + rng.below(5) as i64);
            }
            if rng.below(20) == 0 {
                let reader = rng.below(readers.len());
                if let Some(token) = readers[reader].token.take() {
                    model.fetches.remove(token);
                }
            }
            if rng.below(30) == 0 && !model.asked.is_empty() {
                let index = rng.below(model.asked.len());
                let conn = *model.asked.keys().nth(index).unwrap();
                model.asked.remove(&conn);
                model.polls.retain(|other| *other != conn);
                for token in model.fetches.lost(conn) {
                    let reader = readers.iter_mut().find(|reader| reader.token == Some(token));
                    reader.expect("only an ask under way is lost").token = None;
                }
            }
        }
        model.flush();
        for conn in model.asked.keys().copied().collect::<Vec<_>>() {
            let (request, returns_at) = &model.asked[&conn];
            if (*returns_at <= model.now || model.answer(request).1) && rng.below(3) > 0 {
                model.answer_on(conn);
            }
        }
        assert!(model.asked.len() <= FETCH_CONNECTIONS_MAX, "seed {seed}");
        for (token, response) in std::mem::take(&mut model.answers) {
            let reader = readers.iter_mut().find(|reader| reader.token == Some(token));
            let reader = reader.unwrap_or_else(|| panic!("seed {seed}: an answer for nobody, or the second"));
            reader.token = None;
            let mut bytes = 0;
            for (name, index, offsets) in told(&response) {
                let (log, at) = reader.positions.iter_mut().find(|(log, _)| **log == (&*name, index)).expect("asked");
                for offset in offsets {
                    assert_eq!(offset, *at, "seed {seed}, {log:?}");
                    *at += 1;
                    bytes += RECORD_BYTES;
                }
            }
            assert!(bytes <= reader.max_bytes as usize, "seed {seed}: {bytes} of {}", reader.max_bytes);
        }
    }
    for reader in &readers {
        for (log, at) in &reader.positions {
            assert_eq!(*at, model.ends.get(log).copied().unwrap_or(0), "seed {seed}: {log:?} not read to its end");
        }
    }
    for reader in &mut readers {
        if let Some(token) = reader.token.take() {
            model.fetches.remove(token);
        }
    }
    let fetches = &model.fetches;
    assert!(fetches.asks.is_empty() && fetches.waits.is_empty(), "seed {seed}");
    let hub = &fetches.hubs[&BROKER];
    assert!(hub.lobby.is_empty() && hub.laggards.is_empty() && hub.homes.is_empty(), "seed {seed}");
    assert_eq!((hub.unnamed, hub.polling), (0, 0), "seed {seed}");
}

#[test]
fn every_reader_gets_every_record_once_and_in_order() {
    if let Ok(seed) = std::env::var("GAFKA_FETCHES_SEED") {
        return run(seed.parse().expect("a number"));
    }
    (0..200).for_each(run);
}

//! kill -9 at any time: everything that was answered is there after a restart, once, in order.
//!
//! The broker runs in a child process, which is this test binary started again.

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, batch, group_id, topic_name};
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::cold::types::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_wire::cold::types::{OffsetCommitRequest, OffsetFetchRequest};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header::decode_response_header;
use kafka_wire::messages::produce;

const CHILD_DIR: &str = "EMBEDDED_KAFKA_TEST_CHILD_DIR";
const PARTITIONS: i32 = 3;

/// Not a test of its own: the child's main. Without the variable it has nothing to do.
#[test]
fn the_child_serves_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let config = EmbeddedConfig { data_dir: dir.into(), ..EmbeddedConfig::default() };
    let broker = EmbeddedKafka::start(config).unwrap();
    println!("\nADDR {}", broker.addr());
    loop {
        thread::park();
    }
}

/// A broker in a process of its own; killed, not asked, when dropped.
struct Killable {
    child: Child,
    addr: SocketAddr,
}

impl Killable {
    fn start(dir: &Path) -> Killable {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child_serves_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD_DIR, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = loop {
            let line = lines.next().expect("the child says where it listens").unwrap();
            if let Some(addr) = line.strip_prefix("ADDR ") {
                break addr.parse().unwrap();
            }
        };
        Killable { child, addr }
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was answered: (partition, offset, value).
type Ledger = Mutex<Vec<(i32, i64, String)>>;

/// Produces until the broker is gone, eight requests ahead of the answers; notes every answer.
fn produce_until_gone(addr: SocketAddr, worker: usize, round: usize, ledger: &Ledger) {
    let mut client = Client::connect(addr);
    let mut waiting = std::collections::VecDeque::new();
    for n in 0.. {
        let partition = n % PARTITIONS;
        let values = [format!("{round}/{worker}/{n}/a"), format!("{round}/{worker}/{n}/b")];
        let id = client.next_id();
        let sealed = batch(&[&values[0], &values[1]]);
        let partitions = [produce::OutPartition { index: partition, batch: &sealed }];
        let topics = [produce::OutTopic { name: "t", partitions: &partitions }];
        let frame = produce::encode_request_frame(9, id, "test", -1, 5000, &topics).concat();
        if std::io::Write::write_all(&mut client.stream, &frame).is_err() {
            return;
        }
        waiting.push_back((id, partition, values));
        if waiting.len() < 8 {
            continue;
        }
        let Ok(mut frame) = client.receive() else { return };
        let (id, partition, values) = waiting.pop_front().unwrap();
        assert_eq!(decode_response_header(&mut frame, ApiKey::Produce, 9).unwrap(), id);
        let response = produce::decode_response(9, frame).unwrap();
        let result = &response.topics[0].partitions[0];
        assert_eq!(result.error, ErrorCode::NONE, "{:?}", result.error_message);
        let mut ledger = ledger.lock().unwrap();
        for (at, value) in values.into_iter().enumerate() {
            ledger.push((partition, result.base_offset + at as i64, value));
        }
    }
}

/// Commits growing offsets and makes topics until the broker is gone; returns what was answered last.
fn administrate_until_gone(addr: SocketAddr, round: usize) -> (i64, Vec<String>) {
    let mut client = Client::connect(addr);
    let mut committed = -1;
    let mut topics = Vec::new();
    for n in 0.. {
        let offset = round as i64 * 1_000_000 + n;
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id("g"))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        match client.try_cold(ApiKey::OffsetCommit, 7, RequestKind::OffsetCommit(request)) {
            Ok(ResponseKind::OffsetCommit(response)) => {
                assert_eq!(response.topics[0].partitions[0].error_code, 0);
                committed = offset;
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
        if n % 8 == 0 {
            let name = format!("made-{round}-{n}");
            let topic = kafka_wire::cold::types::create_topics_request::CreatableTopic::default()
                .with_name(topic_name(&name))
                .with_num_partitions(2)
                .with_replication_factor(1);
            let request = kafka_wire::cold::types::CreateTopicsRequest::default().with_topics(vec![topic]);
            match client.try_cold(ApiKey::CreateTopics, 5, RequestKind::CreateTopics(request)) {
                Ok(_) => topics.push(name),
                Err(_) => break,
            }
        }
    }
    (committed, topics)
}

fn committed(client: &mut Client) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id("g")).with_topics(Some(vec![topic]));
    match client.cold(ApiKey::OffsetFetch, 6, RequestKind::OffsetFetch(request)) {
        ResponseKind::OffsetFetch(response) => response.topics[0].partitions[0].committed_offset,
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_answered_is_there_after_kill_9_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::default();
    for round in 0..3_usize {
        let mut broker = Killable::start(dir.path());
        let addr = broker.addr;
        Client::connect(addr).create_with("t", PARTITIONS, 1, &[("segment.bytes", "65536")]);
        let (last_commit, made) = thread::scope(|scope| {
            for worker in 0..3 {
                let ledger = &ledger;
                scope.spawn(move || produce_until_gone(addr, worker, round, ledger));
            }
            let admin = scope.spawn(move || administrate_until_gone(addr, round));
            // Killed at an arbitrary moment, but not before there is something to lose.
            let before = ledger.lock().unwrap().len();
            let deadline = Instant::now() + Duration::from_secs(20);
            while ledger.lock().unwrap().len() < before + 2_000 && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            broker.child.kill().unwrap();
            broker.child.wait().unwrap();
            admin.join().unwrap()
        });
        let config = EmbeddedConfig { data_dir: dir.path().to_owned(), ..EmbeddedConfig::default() };
        let reopened = EmbeddedKafka::start(config).unwrap();
        let mut client = Client::connect(reopened.addr());
        let stored: Vec<Vec<(i64, String)>> = (0..PARTITIONS).map(|p| client.read_all("t", p)).collect();
        for partition in &stored {
            assert!(partition.iter().enumerate().all(|(at, (offset, _))| at as i64 == *offset), "offsets without gaps");
        }
        let ledger = ledger.lock().unwrap();
        for (partition, offset, value) in ledger.iter() {
            let found = stored[*partition as usize].get(*offset as usize);
            assert_eq!(found.map(|(_, value)| value), Some(value), "round {round}: {partition} at {offset}");
        }
        assert!(ledger.len() >= 2_000 * (round + 1), "{} answers in round {round}", ledger.len());
        assert!(committed(&mut client) >= last_commit, "round {round}");
        for name in made {
            assert_eq!(client.create(&name, 2), ErrorCode::TOPIC_ALREADY_EXISTS, "round {round}");
        }
        reopened.stop();
    }
}

#[test]
fn two_brokers_never_share_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { data_dir: dir.path().to_owned(), ..EmbeddedConfig::default() };
    let first = EmbeddedKafka::start(config.clone()).unwrap();
    let refused = EmbeddedKafka::start(config.clone()).err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    first.stop();
    EmbeddedKafka::start(config).unwrap().stop();
}

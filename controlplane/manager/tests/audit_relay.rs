//! The audit log on its way to a topic of the embedded broker, which may be away, refuse, or not have the topic.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use authdb::{Actor, AuthDb, NewApp};
use bytes::Bytes;
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, Fault};
use expect_test::expect;
use kafka_admin::{AdminError, KafkaAdmin, NewTopic, Target, TopicAdmin};
use kafka_client::{ClientConfig, Lane, Request, Response};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, NO_TOPIC_ID};
use kafka_wire::record_batch::batches;
use manager::{AuditRelay, RelayProgress};
use model::ids::{AppId, ClusterName, Generation, PhysicalTopic};
use serde_json::Value;
use tokio::task::JoinHandle;

const TOPIC: &str = "gafka.audit";

/// A database with a log, a broker, and the relay between them, which can be started and killed.
struct Fixture {
    db: Arc<dyn AuthDb>,
    kafka: KafkaAdmin,
    broker: Option<EmbeddedKafka>,
    at: SocketAddr,
    is_ours: Arc<AtomicBool>,
    progress: Arc<RelayProgress>,
    relay: Option<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Fixture {
    async fn without_topic() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let db = authdb::open(dir.path().join("tenants.db").to_str().unwrap()).await.unwrap();
        let broker = EmbeddedKafka::start(broker_config(&dir, SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let config = ClientConfig { bootstrap: vec![broker.bootstrap()], ..ClientConfig::default() };
        let kafka = KafkaAdmin::connect(config, None).unwrap();
        Fixture {
            db,
            kafka,
            at: broker.addr(),
            broker: Some(broker),
            is_ours: Arc::new(AtomicBool::new(true)),
            progress: Arc::default(),
            relay: None,
            dir,
        }
    }

    async fn new() -> Fixture {
        let fixture = Fixture::without_topic().await;
        fixture.make_topic().await;
        fixture
    }

    async fn make_topic(&self) {
        let topic = NewTopic { name: TOPIC.to_owned(), partitions: 1, replicas: 1, configs: Vec::new() };
        self.kafka.create_topic(&topic).await.unwrap();
    }

    fn start(&mut self) {
        let is_ours = Arc::clone(&self.is_ours);
        let relay = AuditRelay {
            db: Arc::clone(&self.db),
            cluster: ClusterName::new("main").unwrap(),
            kafka: self.kafka.clone(),
            topic: PhysicalTopic::new(TOPIC).unwrap(),
            position_path: self.position_path(),
            is_ours: Box::new(move || is_ours.load(Ordering::Relaxed)),
            progress: Arc::clone(&self.progress),
        };
        self.relay = Some(tokio::spawn(relay.run()));
    }

    fn kill(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.abort();
        }
    }

    fn position_path(&self) -> PathBuf {
        self.dir.path().join("audit.position")
    }

    fn position(&self) -> u64 {
        let content = fs::read(self.position_path()).unwrap_or_default();
        serde_json::from_slice::<Value>(&content).ok().and_then(|position| position["num"].as_u64()).unwrap_or(0)
    }

    async fn write_rows(&self, count: usize) {
        for n in 0..count {
            self.db.record_denial("login", "", &format!("GET /v1/apps/{n}")).await.unwrap();
        }
    }

    /// Until the relay has been up to this row, and knows it.
    async fn relayed(&self, num: u64) {
        until("the position is there", || self.position() == num).await;
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.progress.metrics();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Keys and values of the topic.
    async fn read(&self) -> Vec<(Bytes, Value)> {
        let mut read = Vec::new();
        loop {
            let partitions = vec![FetchPartition::consumer(0, read.len() as i64, 1 << 20)];
            let topic = FetchTopic { name: Bytes::from_static(TOPIC.as_bytes()), id: NO_TOPIC_ID, partitions };
            let request = FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..FetchRequest::default() };
            let answer =
                self.kafka.call(Target::Any, Lane::Fetch, Request::Fetch(request), Duration::from_secs(20)).await;
            let Ok(Response::Fetch(answer)) = answer else { panic!("{answer:?}") };
            let partition = &answer.topics[0].partitions[0];
            assert_eq!(partition.error, ErrorCode::NONE);
            let before = read.len();
            for batch in batches(partition.records.clone()) {
                for record in batch.unwrap().records(1 << 26).unwrap() {
                    let record = record.unwrap();
                    if record.offset == read.len() as i64 {
                        read.push((record.key.unwrap(), serde_json::from_slice(&record.value.unwrap()).unwrap()));
                    }
                }
            }
            if read.len() == before {
                return read;
            }
        }
    }

    async fn nums(&self) -> Vec<u64> {
        self.read().await.iter().map(|(_, value)| value["num"].as_u64().unwrap()).collect()
    }
}

fn broker_config(dir: &tempfile::TempDir, listen: SocketAddr) -> EmbeddedConfig {
    EmbeddedConfig { data_dir: dir.path().join("kafka"), listen, ..EmbeddedConfig::default() }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < give_up, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn nums(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[tokio::test]
async fn every_row_of_the_log_and_nothing_else_is_in_the_topic_in_order() {
    let mut fixture = Fixture::new().await;
    let alice = fixture.db.acting(Actor { subject: "alice".to_owned(), request_id: "r1".to_owned() });
    let (id, cluster) = (AppId::new("shop").unwrap(), ClusterName::new("main").unwrap());
    let app = NewApp { id: id.clone(), cluster, publish: None, subscribe: None, reuse: false };
    alice.create_app(app).await.unwrap();
    fixture.write_rows(2 * manager::limits::RELAY_ROWS_MAX).await;
    fixture.start();
    let before_last = 2 * manager::limits::RELAY_ROWS_MAX as u64 + 1;
    fixture.relayed(before_last).await;
    alice.delete_app(&id, false).await.unwrap();
    fixture.relayed(before_last + 1).await;

    let (read, mut log) = (fixture.read().await, fixture.db.audit_after(0, 1_000).await.unwrap());
    assert_eq!(read.len(), log.len());
    let history = fixture.db.generation().await.unwrap().history;
    for ((key, value), row) in read.iter().zip(&log) {
        assert_eq!((value["num"].as_u64(), &key[..]), (Some(row.num), row.app.as_bytes()));
        assert_eq!((&value["subject"], &value["at"]), (&row.subject.clone().into(), &row.at_ms.into()));
        assert_eq!(value["history"], history.to_string());
    }
    let last = log.pop().unwrap();
    let shown = read.last().unwrap().1.to_string();
    let shown = shown.replace(&history.to_string(), "HISTORY").replace(&last.at_ms.to_string(), "AT");
    expect![[
        r#"{"actor":"alice","after":null,"app":"shop","at":AT,"before":null,"cascades":[],"generation":"HISTORY-3","history":"HISTORY","num":402,"operation":"app.delete","outcome":"done","request_id":"r1","subject":"shop"}"#
    ]]
    .assert_eq(&shown);
    assert_eq!((fixture.metric("audit_relay_lag"), fixture.metric("audit_relay_errors_total")), (0, 0));
    assert_eq!(fixture.metric("audit_relay_rows_total"), before_last + 1);
    let mode = fs::metadata(fixture.position_path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn rows_that_were_written_while_kafka_was_away_are_all_there_when_it_is_back() {
    let mut fixture = Fixture::new().await;
    fixture.write_rows(3).await;
    fixture.start();
    fixture.relayed(3).await;
    fixture.broker.take().unwrap().stop();
    fixture.write_rows(5).await;
    until("the lag shows", || fixture.metric("audit_relay_lag") == 5).await;
    fixture.broker = Some(EmbeddedKafka::start(broker_config(&fixture.dir, fixture.at)).unwrap());
    fixture.relayed(8).await;
    let mut read = fixture.nums().await;
    read.dedup();
    assert_eq!(read, nums(1..=8));
}

#[tokio::test]
async fn a_page_of_which_kafka_refused_a_part_is_sent_again_from_there() {
    for fault in [Fault::Error(ErrorCode::POLICY_VIOLATION), Fault::ApplyThenDisconnect, Fault::Disconnect] {
        let mut fixture = Fixture::new().await;
        fixture.write_rows(1).await;
        fixture.start();
        fixture.relayed(1).await;
        fixture.kill();
        fixture.write_rows(19).await;
        // All is known and connected by now: the next row leaves alone, and the others behind it.
        fixture.broker.as_ref().unwrap().hooks().inject(ApiKey::Produce, fault.clone(), 1);
        fixture.start();
        fixture.relayed(20).await;
        let read = fixture.nums().await;
        // Each follows those before it at least once.
        let mut next = 1;
        for num in &read {
            next += u64::from(*num == next);
        }
        assert_eq!(next, 21, "{fault:?}: {read:?}");
        let is_told = fixture.metric("audit_relay_errors_total") > 0;
        assert_eq!(is_told, matches!(fault, Fault::Error(_)), "{fault:?} is the client's to repeat, or not");
        if is_told {
            assert!(read.len() > 20, "{fault:?}: those behind the refused one were stored and came again: {read:?}");
        } else {
            assert_eq!(read, nums(1..=20), "{fault:?}: once");
        }
    }
}

#[tokio::test]
async fn a_restart_goes_on_from_the_position_and_without_one_of_its_log_from_the_beginning() {
    let mut fixture = Fixture::new().await;
    fixture.write_rows(4).await;
    fixture.start();
    fixture.relayed(4).await;
    fixture.kill();
    fixture.write_rows(2).await;
    fixture.start();
    fixture.relayed(6).await;
    assert_eq!(fixture.nums().await, nums(1..=6));

    let kept = fs::read_to_string(fixture.position_path()).unwrap();
    let history = fixture.db.generation().await.unwrap().history.to_string();
    let of_others = [
        None,
        Some(kept.replace("main/", "other/")),
        Some(kept.replace(&history, "00000000000000ff")),
        Some(kept.replace(r#""num":6"#, r#""num":600"#)),
        Some("half of it".to_owned()),
    ];
    let mut expected = nums(1..=6);
    for other in of_others {
        fixture.kill();
        match &other {
            Some(content) => fs::write(fixture.position_path(), content).unwrap(),
            None => fs::remove_file(fixture.position_path()).unwrap(),
        }
        fixture.start();
        until("kept again", || fs::read_to_string(fixture.position_path()).is_ok_and(|found| found == kept)).await;
        expected.extend(1..=6);
        assert_eq!(fixture.nums().await, expected, "{other:?}");
    }
}

#[tokio::test]
async fn a_restored_database_is_relayed_whole_in_its_new_history() {
    let mut fixture = Fixture::new().await;
    fixture.write_rows(3).await;
    fixture.start();
    fixture.relayed(3).await;
    let before = fixture.db.generation().await.unwrap();
    fixture.db.has_seen(Generation { number: before.number + 10, ..before });
    let after = fixture.db.generation().await.unwrap();
    assert_ne!(before.history, after.history);
    fixture.write_rows(1).await;
    let newest = fixture.db.audit_after(0, 100).await.unwrap().last().unwrap().num;
    fixture.relayed(newest).await;
    let read = fixture.read().await;
    let of = |history: String| read.iter().filter(|(_, value)| value["history"] == history).count() as u64;
    assert_eq!((of(before.history.to_string()), of(after.history.to_string())), (3, newest));
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_never_made_and_holds_no_change_up() {
    let mut fixture = Fixture::without_topic().await;
    fixture.write_rows(2).await;
    fixture.start();
    until("it complains", || fixture.metric("audit_relay_errors_total") >= 2).await;
    fixture.write_rows(1).await;
    let described = fixture.kafka.describe_topic(TOPIC).await;
    assert_eq!(described, Err(AdminError::NoSuchTopic { topic: TOPIC.to_owned() }));
    fixture.make_topic().await;
    fixture.relayed(3).await;
    assert_eq!(fixture.nums().await, nums(1..=3));
}

#[tokio::test]
async fn who_does_not_own_the_log_relays_nothing_and_goes_on_where_the_owner_was() {
    let mut fixture = Fixture::new().await;
    fixture.write_rows(3).await;
    fixture.start();
    fixture.relayed(3).await;
    fixture.kill();
    fixture.is_ours.store(false, Ordering::Relaxed);
    fixture.start();
    fixture.write_rows(2).await;
    tokio::time::sleep(3 * manager::limits::RELAY_EVERY).await;
    assert_eq!((fixture.position(), fixture.nums().await), (3, nums(1..=3)));
    // Meanwhile another one was at it.
    let kept = fs::read_to_string(fixture.position_path()).unwrap();
    fs::write(fixture.position_path(), kept.replace(r#""num":3"#, r#""num":4"#)).unwrap();
    fixture.is_ours.store(true, Ordering::Relaxed);
    fixture.relayed(5).await;
    assert_eq!(fixture.nums().await, [1, 2, 3, 5]);
}

//! Draining: to an embedded broker that also misbehaves.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, Fault};
use journal::Record;
use journal::queue::{Kind, Name, Reason, Receipt, StreamId};
use journal::receipt_id::ReceiptId;
use kafka_admin::{KafkaAdmin, NewTopic, Target, TopicAdmin};
use kafka_client::{ClientConfig, Lane, Request, Response};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, NO_TOPIC_ID};
use kafka_wire::record_batch::{HeaderRef, RecordRef, batches};
use serde_json::{Value, json};

use crate::made::{DataDir, Made, contents, message, reopened, walctl};

/// A dead gateway's data directory, and a Kafka with topics.
struct Scene {
    broker: EmbeddedKafka,
    runtime: tokio::runtime::Runtime,
    dir: DataDir,
    _kafka_dir: tempfile::TempDir,
}

/// A stored record: timestamp, key, value, headers.
type Stored = (i64, Option<Bytes>, Option<Bytes>, Vec<(Bytes, Option<Bytes>)>);

impl Scene {
    /// With what `fill` puts into the journal; each topic has two partitions.
    fn new(topics: &[&str], fill: impl FnOnce(&mut Made)) -> Scene {
        let dir = DataDir::new(fill);
        let kafka_dir = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig { data_dir: kafka_dir.path().to_owned(), ..EmbeddedConfig::default() };
        let broker = EmbeddedKafka::start(config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let scene = Scene { broker, runtime, dir, _kafka_dir: kafka_dir };
        topics.iter().for_each(|topic| scene.create(topic));
        scene
    }

    fn create(&self, name: &str) {
        let topic = NewTopic { name: name.to_owned(), partitions: 2, replicas: 1, configs: vec![] };
        self.in_kafka(async |admin| admin.create_topic(&topic).await.unwrap());
    }

    fn in_kafka<T>(&self, done: impl AsyncFnOnce(KafkaAdmin) -> T) -> T {
        let config = ClientConfig { bootstrap: vec![self.broker.bootstrap()], ..ClientConfig::default() };
        self.runtime.block_on(async { done(KafkaAdmin::connect(config, None).unwrap()).await })
    }

    fn newest(&self, topic: &str, partition: usize) -> usize {
        self.in_kafka(async |admin| admin.list_offsets(topic).await.unwrap()[partition].newest as usize)
    }

    /// Everything in a partition.
    fn read(&self, topic: &str, partition: usize) -> Vec<Stored> {
        let count = self.newest(topic, partition);
        let mut read = Vec::new();
        while read.len() < count {
            let partitions = vec![FetchPartition::consumer(partition as i32, read.len() as i64, 1 << 20)];
            let topics = vec![FetchTopic { name: topic.to_owned().into(), id: NO_TOPIC_ID, partitions }];
            let request = Request::Fetch(FetchRequest { max_bytes: 1 << 20, topics, ..FetchRequest::default() });
            let answer = self.in_kafka(async |admin| {
                admin.call(Target::Any, Lane::Fetch, request, Duration::from_secs(30)).await.unwrap()
            });
            let Response::Fetch(answer) = answer else { panic!("{answer:?}") };
            for batch in batches(answer.topics[0].partitions[0].records.clone()) {
                for found in batch.unwrap().records(1 << 26).unwrap().map(Result::unwrap) {
                    if found.offset == read.len() as i64 {
                        let header = |(name, value): (&[u8], Option<Bytes>)| (Bytes::copy_from_slice(name), value);
                        let headers = found.headers.iter().map(header).collect();
                        read.push((found.timestamp_ms, found.key, found.value, headers));
                    }
                }
            }
        }
        read
    }

    fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        let text = |stored: Stored| String::from_utf8(stored.2.unwrap_or_default().to_vec()).unwrap();
        self.read(topic, partition).into_iter().map(text).collect()
    }

    /// The command line, with the broker's address.
    fn args(&self, args: &str) -> Vec<String> {
        let dir = self.dir.path().to_str().unwrap().to_owned();
        let bootstrap = ["--bootstrap".to_owned(), self.broker.bootstrap()];
        let fixed = ["drain".to_owned(), dir, "-o".to_owned(), "json".to_owned()].into_iter().chain(bootstrap);
        fixed.chain(args.split_whitespace().map(str::to_owned)).collect()
    }

    /// `walctl drain` there; its code, rows without their streams, and what it says.
    fn drain(&self, args: &str) -> (i32, Value, String) {
        drained(&self.args(args))
    }

    /// The same while somebody looks at it.
    fn start(&self, args: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walctl"));
        command.args(self.args(args)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn wait_for(&self, topic: &str, partition: usize, count: usize) {
        let since = Instant::now();
        while self.newest(topic, partition) < count {
            assert!(since.elapsed() < Duration::from_secs(60), "{count} messages never came");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Each receipt of a stream says that its message is where it is.
    fn check_receipts(&self, stream: u32, topic: &str, expected: &[String]) {
        let (queue, places) = (reopened(&self.dir.journal()), [self.values(topic, 0), self.values(topic, 1)]);
        for (sequence, value) in expected.iter().enumerate() {
            let receipt = queue.receipt(StreamId(stream), sequence as u64);
            let Receipt::Delivered { partition, offset } = receipt else { panic!("{value}: {receipt:?}") };
            assert_eq!(&places[partition as usize][offset as usize], value, "at {partition}/{offset}");
        }
    }
}

fn drained(args: &[String]) -> (i32, Value, String) {
    let (code, out, err) = walctl(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut rows: Value = serde_json::from_str(&out).unwrap_or(Value::Null);
    for row in rows.as_array_mut().into_iter().flatten() {
        row.as_object_mut().unwrap().remove("stream");
    }
    (code, rows, err)
}

fn name(app: &str, cluster: &str, lane: i32) -> Name {
    Name { account: app.into(), subject: format!("{cluster}/{app}.orders.v1").into(), lane }
}

/// A message of every value.
fn fill(made: &mut Made, name: &Name, topic_id: [u8; 16], values: &[String]) {
    let record = |value: &String| message(None, Some(value.clone().into_bytes().leak()), &[]);
    for some in values.chunks(700) {
        let records: Vec<RecordRef<'_>> = some.iter().map(record).collect();
        made.accept_for(name, topic_id, &records);
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|at| at.to_string()).collect()
}

fn row(app: &str, partition: Option<i32>, delivered: u64, left: u64, parked: u64, why: Option<&str>) -> Value {
    json!({
        "app": app, "cluster": "main", "topic": format!("{app}.orders.v1"), "partition": partition,
        "delivered": delivered, "left": left, "parked": parked, "why": why,
    })
}

#[test]
fn what_waits_is_delivered_exactly_in_its_order_and_receipts_say_where() {
    let headers = [
        HeaderRef { name: b"a", value: Some(b"1") },
        HeaderRef { name: b"a", value: None },
        HeaderRef { name: b"", value: Some(b"\xff") },
    ];
    let odd = [
        RecordRef { timestamp_ms: -1, key: None, value: None, headers: &[] },
        RecordRef { timestamp_ms: 1_600_000_000_000, key: Some(b""), value: Some(b""), headers: &headers },
        RecordRef { timestamp_ms: 5, key: Some(b"\xff\x00"), value: None, headers: &headers[1..2] },
    ];
    let expected = numbered(1_500);
    let scene = Scene::new(&["shop.orders.v1", "bank.orders.v1", "odd.orders.v1"], |made| {
        fill(made, &name("shop", "main", 0), [0; 16], &expected);
        fill(made, &name("shop", "main", 1), [0; 16], &expected[..3]);
        made.accept_for(&name("odd", "main", 1), [0; 16], &odd);
        for value in &expected[..40] {
            let key = if value.parse::<u32>().unwrap() % 2 == 0 { b"even" } else { b"odd " };
            made.accept_for(&name("bank", "main", -1), [0; 16], &[message(Some(key), Some(value.as_bytes()), &[])]);
        }
    });
    let (code, rows, err) = scene.drain("--yes");
    assert_eq!(code, 0, "{rows} {err}");
    let all = json!([
        row("bank", None, 40, 0, 0, None),
        row("odd", Some(1), 3, 0, 0, None),
        row("shop", Some(0), 1_500, 0, 0, None),
        row("shop", Some(1), 3, 0, 0, None),
    ]);
    assert_eq!(rows, all);
    assert!(err.contains("1546 messages delivered, 0 left, 0 parked"), "{err}");

    assert_eq!(scene.values("shop.orders.v1", 0), expected);
    assert_eq!(scene.values("shop.orders.v1", 1), expected[..3]);
    let header =
        |header: &HeaderRef<'_>| (Bytes::copy_from_slice(header.name), header.value.map(Bytes::copy_from_slice));
    let stored = |record: &RecordRef<'_>| -> Stored {
        let bytes = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        (record.timestamp_ms, bytes(record.key), bytes(record.value), record.headers.iter().map(header).collect())
    };
    let mut delivered = scene.read("odd.orders.v1", 1);
    for (number, record) in delivered.iter_mut().enumerate() {
        let (name, id) = record.3.pop().expect("its id is its last header");
        let id = ReceiptId::parse(std::str::from_utf8(&id.unwrap()).unwrap()).expect("an id");
        assert_eq!((&name[..], id.stream, id.sequence), (&b"gafka-msg-id"[..], StreamId(2), number as u64));
    }
    assert_eq!(delivered, odd.iter().map(stored).collect::<Vec<_>>());
    for key in [&b"even"[..], b"odd "] {
        let of_key = |partition| -> Vec<u32> {
            let records: Vec<Stored> = scene.read("bank.orders.v1", partition);
            let mine = records.into_iter().filter(|stored| stored.1.as_deref() == Some(key));
            mine.map(|stored| String::from_utf8(stored.2.unwrap().to_vec()).unwrap().parse().unwrap()).collect()
        };
        let (one, other) = (of_key(0), of_key(1));
        assert!(one.is_empty() != other.is_empty(), "a key is in one partition");
        assert_eq!([one, other].concat(), (0..40).filter(|at| (at % 2 == 0) == (key == b"even")).collect::<Vec<_>>());
    }
    scene.check_receipts(0, "shop.orders.v1", &expected);
    scene.check_receipts(3, "bank.orders.v1", &expected[..40]);

    let (code, _, err) = scene.drain("--yes --cluster main --app shop");
    assert!(code == 0 && err.contains("nothing waits"), "{code} {err}");
    assert_eq!(scene.newest("shop.orders.v1", 0), 1_500, "nothing comes twice");
}

#[test]
fn whoever_runs_has_the_journal_alone_and_nothing_is_done_without_a_yes() {
    let scene = Scene::new(&["shop.orders.v1"], |made| fill(made, &name("shop", "main", 0), [0; 16], &numbered(3)));
    let before = contents(scene.dir.path());
    let lock = scene.dir.hold();
    let (code, _, err) = scene.drain("--yes");
    assert!(code == 6 && err.contains("kateway admin handoff"), "{code} {err}");
    let (code, rows, err) = scene.drain("--dry-run");
    assert_eq!((code, &rows[0]["would_deliver"]), (0, &json!(3)), "{err}");
    drop(lock);
    let (code, _, err) = scene.drain("");
    assert!(code == 2 && err.contains("Deliver 3 messages of cluster main to 127.0.0.1:"), "{code} {err}");
    assert!(contents(scene.dir.path()) == before);
    assert_eq!(scene.newest("shop.orders.v1", 0), 0);
}

#[test]
fn messages_for_several_clusters_go_one_cluster_at_a_time() {
    let scene = Scene::new(&["shop.orders.v1"], |made| {
        fill(made, &name("shop", "main", 0), [0; 16], &numbered(3));
        fill(made, &name("shop", "east", 1), [0; 16], &numbered(2));
    });
    let (code, _, err) = scene.drain("--yes");
    assert!(code == 2 && err.contains("--cluster: east (2), main (3)"), "{code} {err}");
    for (args, said) in [
        ("--yes --cluster west", "nothing of cluster west; it knows: east, main"),
        ("--yes --cluster main --app sho", "nothing of app sho; it knows: shop"),
        ("--yes --cluster main --topic order", "nothing of topic order; it knows: shop.orders.v1"),
    ] {
        let (code, _, err) = scene.drain(args);
        assert!(code == 3 && err.contains(said), "{code} {err}");
    }
    let (code, rows, err) = scene.drain("--yes --cluster main --topic orders --app shop");
    assert_eq!((code, rows), (0, json!([row("shop", Some(0), 3, 0, 0, None)])), "{err}");
    let (code, rows, err) = scene.drain("--dry-run");
    assert_eq!((code, &rows[0]["cluster"], &rows[0]["would_deliver"]), (0, &json!("east"), &json!(2)), "{err}");
    assert_eq!((scene.newest("shop.orders.v1", 0), scene.newest("shop.orders.v1", 1)), (3, 0));
}

#[test]
fn a_missing_topic_leaves_its_messages_and_the_others_are_delivered() {
    let scene = Scene::new(&["bank.orders.v1"], |made| {
        fill(made, &name("bank", "main", 0), [0; 16], &numbered(5));
        fill(made, &name("shop", "main", 0), [0; 16], &numbered(3));
        fill(made, &name("shop", "main", 1), [0; 16], &numbered(2));
    });
    let why = "Kafka topic shop.orders.v1 does not exist";
    let (code, rows, err) = scene.drain("--dry-run --timeout 1s");
    assert_eq!((code, &rows[1]["why"]), (0, &json!(format!("not now: {why}"))), "{rows} {err}");
    let (code, rows, err) = scene.drain("--yes --timeout 1s");
    let all = [
        row("bank", Some(0), 5, 0, 0, None),
        row("shop", Some(0), 0, 3, 0, Some(why)),
        row("shop", Some(1), 0, 2, 0, Some(why)),
    ];
    assert_eq!((code, rows), (1, json!(all)), "{err}");
    scene.create("shop.orders.v1");
    let (code, rows, err) = scene.drain("--yes");
    let all = [row("shop", Some(0), 3, 0, 0, None), row("shop", Some(1), 2, 0, 0, None)];
    assert_eq!((code, rows), (0, json!(all)), "{err}");
    assert_eq!(scene.values("shop.orders.v1", 0), numbered(3));
}

#[test]
fn nothing_overtakes_a_message_that_kafka_does_not_take() {
    let expected = numbered(1_200);
    let scene = Scene::new(&["shop.orders.v1"], |made| {
        fill(made, &name("shop", "main", 0), [0; 16], &expected);
        made.accept_for(&name("shop", "main", -1), [0; 16], &[message(Some(b"k"), Some(b"by key"), &[])]);
    });
    // The first message goes, the first long run does not, whatever comes behind it.
    scene.broker.hooks().inject(ApiKey::Produce, Fault::Delay(Duration::ZERO), 1);
    scene.broker.hooks().inject(ApiKey::Produce, Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED), 1);
    let (code, rows, err) = scene.drain("--yes");
    let (denied, behind) = (
        "not authorized at the broker: TOPIC_AUTHORIZATION_FAILED",
        "messages for partitions of this topic are to go first",
    );
    let all = [row("shop", None, 0, 1, 0, Some(behind)), row("shop", Some(0), 1, 1_199, 0, Some(denied))];
    assert_eq!((code, rows), (1, json!(all)), "{err}");
    assert_eq!(scene.newest("shop.orders.v1", 0) + scene.newest("shop.orders.v1", 1), 1);
    let (code, _, err) = scene.drain("--yes");
    assert_eq!(code, 0, "{err}");
    let mut stored = scene.values("shop.orders.v1", 0);
    stored.retain(|value| value != "by key");
    assert_eq!(stored, expected);
    scene.check_receipts(0, "shop.orders.v1", &expected);
}

#[test]
fn a_kafka_that_falls_silent_costs_the_timeout_and_what_may_be_stored_is_told() {
    let expected = numbered(1_200);
    let scene = Scene::new(&["shop.orders.v1"], |made| {
        fill(made, &name("shop", "main", 0), [0; 16], &expected);
        fill(made, &name("shop", "main", 1), [0; 16], &expected);
    });
    scene.broker.hooks().inject(ApiKey::Produce, Fault::Delay(Duration::ZERO), 2);
    scene.broker.hooks().inject(ApiKey::Produce, Fault::Silence, 100);
    let since = Instant::now();
    let (code, rows, err) = scene.drain("--yes --timeout 2s");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(code, 1, "{err}");
    for row in rows.as_array().unwrap() {
        // Both partitions may go in one request, so that one of them gets further.
        let (delivered, left) = (row["delivered"].as_u64().unwrap(), row["left"].as_u64().unwrap());
        assert!(delivered > 0 && left > 0 && delivered + left == 1_200, "{rows}");
        assert!(row["why"].as_str().unwrap().contains("it may be in Kafka, and come again"), "{rows}");
    }
    scene.broker.hooks().clear();
    assert_eq!(scene.drain("--yes").0, 0);
    for partition in 0..2 {
        assert_eq!(scene.values("shop.orders.v1", partition), expected);
    }
}

#[test]
fn what_kafka_refuses_for_what_it_is_is_parked_and_goes_first_when_it_is_wanted() {
    let scene = Scene::new(&["shop.orders.v1"], |made| {
        fill(made, &name("shop", "main", 0), [0; 16], &numbered(3));
        let reason = Reason { code: "grant_revoked".into(), sentence: "the app may not".into() };
        made.queue.take(StreamId(0), u64::MAX, 1);
        let note = made.queue.park(StreamId(0), 0, reason, 0).unwrap();
        made.commit(vec![Made::note(note)]);
    });
    scene.broker.hooks().inject(ApiKey::Produce, Fault::Error(ErrorCode::INVALID_RECORD), 1);
    let (code, rows, err) = scene.drain("--yes");
    let why = "parked: refused by the broker: INVALID_RECORD";
    assert_eq!((code, rows), (1, json!([row("shop", Some(0), 1, 0, 2, Some(why))])), "{err}");
    let queue = reopened(&scene.dir.journal());
    let codes: Vec<(u64, &str)> = queue.parked(StreamId(0), 0).map(|(at, parked)| (at, &*parked.reason.code)).collect();
    assert_eq!(codes, [(0, "grant_revoked"), (1, "rejected_by_kafka")]);
    drop(queue);
    let (code, _, err) = scene.drain("--yes");
    assert!(code == 0 && err.contains("nothing waits"), "parked ones are not meant: {code} {err}");
    let (code, rows, err) = scene.drain("--yes --include-parked");
    assert_eq!((code, rows), (0, json!([row("shop", Some(0), 2, 0, 0, None)])), "{err}");
    assert_eq!(scene.values("shop.orders.v1", 0), ["2", "0", "1"]);
    scene.check_receipts(0, "shop.orders.v1", &numbered(3));
}

#[test]
fn a_kill_in_the_middle_loses_and_repeats_nothing() {
    let expected = numbered(6_000);
    let scene = Scene::new(&["shop.orders.v1"], |made| {
        fill(made, &name("shop", "main", 0), [0; 16], &expected);
        fill(made, &name("shop", "main", 1), [0; 16], &expected);
    });
    scene.broker.hooks().inject(ApiKey::Produce, Fault::Delay(Duration::from_millis(50)), 1_000);
    let mut killed = 0;
    for at in [2, 700, 2_200] {
        let mut child = scene.start("--yes");
        scene.wait_for("shop.orders.v1", 0, at);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
    }
    assert_eq!(killed, 3, "it was done before it was killed, which proves nothing");
    scene.broker.hooks().clear();
    let (code, rows, err) = scene.drain("--yes");
    assert_eq!(code, 0, "{rows} {err}");
    assert!(err.contains("messages are in Kafka already"), "nothing was under way, which proves nothing: {err}");
    for partition in 0..2 {
        assert_eq!(scene.values("shop.orders.v1", partition), expected);
        scene.check_receipts(partition as u32, "shop.orders.v1", &expected);
    }
}

#[test]
fn an_interrupt_waits_for_what_is_under_way_so_that_nothing_comes_twice() {
    let expected = numbered(6_000);
    let scene = Scene::new(&["shop.orders.v1"], |made| fill(made, &name("shop", "main", 0), [0; 16], &expected));
    scene.broker.hooks().inject(ApiKey::Produce, Fault::Delay(Duration::from_millis(100)), 1_000);
    let child = scene.start("--yes --progress");
    scene.wait_for("shop.orders.v1", 0, 1_000);
    let told = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(told.success());
    let output = child.wait_with_output().unwrap();
    let (rows, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{err}");
    let row: Value = serde_json::from_str(&rows).unwrap();
    let delivered = row[0]["delivered"].as_u64().unwrap() as usize;
    assert_eq!((&row[0]["why"], delivered), (&json!("interrupted"), scene.newest("shop.orders.v1", 0)), "{err}");
    assert!(err.contains("what is under way is waited for"), "{err}");
    scene.broker.hooks().clear();
    assert_eq!(scene.drain("--yes").0, 0);
    assert_eq!(scene.values("shop.orders.v1", 0), expected);
}

#[test]
fn messages_for_a_topic_that_was_made_again_stay_unless_they_are_wanted_there() {
    let scene = Scene::new(&["shop.orders.v1"], |made| {
        fill(made, &name("shop", "main", 0), [0; 16], &numbered(1));
        fill(made, &name("shop", "main", 0), [7; 16], &numbered(3));
    });
    let (code, rows, err) = scene.drain("--yes");
    assert_eq!((code, &rows[0]["delivered"], &rows[0]["left"]), (1, &json!(1), &json!(3)), "{err}");
    assert!(rows[0]["why"].as_str().unwrap().contains("made again"), "{rows}");
    let (code, rows, err) = scene.drain("--yes --recreated");
    assert_eq!((code, rows), (0, json!([row("shop", Some(0), 3, 0, 0, None)])), "{err}");
}

#[test]
fn what_makes_no_sense_is_parked_what_is_rotten_is_told_and_the_rest_is_delivered() {
    let scene = Scene::new(&["shop.orders.v1"], |made| {
        let shop = name("shop", "main", 0);
        fill(made, &shop, [0; 16], &["one message".to_owned()]);
        let accepted = made.queue.accept(&shop, 8, 0).unwrap();
        made.commit(vec![Record::new(accepted.stream.0, Kind::Entry as u8, accepted.sequence, "nonsense")]);
        for value in ["rotten message", "third message"] {
            fill(made, &shop, [0; 16], &[value.to_owned()]);
        }
    });
    scene.dir.rot(b"rotten");
    let (code, rows, err) = scene.drain("--yes");
    let why = Some("parked: its bytes in the journal make no sense");
    assert_eq!((code, rows), (1, json!([row("shop", Some(0), 2, 0, 1, why)])), "{err}");
    assert_eq!(scene.values("shop.orders.v1", 0), ["one message", "third message"]);
    assert!(err.contains("records of this journal are lost"), "{err}");
    let queue = reopened(&scene.dir.journal());
    let code = queue.parked(StreamId(0), 0).next().map(|(at, parked)| (at, parked.reason.code.to_string()));
    assert_eq!(code, Some((1, "unreadable".to_owned())));
}

#[test]
fn what_is_wrong_with_the_way_to_kafka_is_told_before_anything_changes() {
    let scene = Scene::new(&[], |made| fill(made, &name("shop", "main", 0), [0; 16], &numbered(1)));
    let before = contents(scene.dir.path());
    let dir = scene.dir.path().to_str().unwrap();
    for (args, code, said) in [
        ("--yes --timeout 1s --bootstrap 127.0.0.1:1", 5, "127.0.0.1:1: no Kafka broker can be reached"),
        ("--yes --bootstrap kafka", 2, "expected HOST:PORT, found kafka"),
        ("--yes", 2, "--bootstrap"),
        ("--yes --bootstrap k:1 --timeout soon", 2, "a duration like 30s"),
        ("--yes --bootstrap k:1 --ca /nowhere.pem", 1, "cannot read /nowhere.pem"),
        ("--yes --bootstrap k:1 --sasl-username u", 2, "--sasl-mechanism"),
        ("--yes --bootstrap k:1 --sasl-username u --sasl-mechanism plain", 2, "set WALCTL_SASL_PASSWORD"),
    ] {
        let args: Vec<&str> = ["drain", dir].into_iter().chain(args.split_whitespace()).collect();
        let (got, _, err) = walctl(&args);
        assert!(got == code && err.contains(said), "{args:?}: {got} {err}");
    }
    assert!(contents(scene.dir.path()) == before);
}

#[test]
fn brokers_that_do_not_let_us_in_are_told_from_those_that_are_not_there() {
    let scene = Scene::new(&["shop.orders.v1"], |made| fill(made, &name("shop", "main", 0), [0; 16], &numbered(1)));
    let before = contents(scene.dir.path());
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "open sesame").unwrap();
    // The embedded broker lets nobody log in.
    let login = format!("--sasl-username u --sasl-mechanism plain --sasl-password-file {}", secret.path().display());
    for args in [format!("--yes {login}"), format!("--dry-run {login}")] {
        let (code, _, err) = scene.drain(&args);
        assert!(
            code == 4 && err.contains("Kafka refuses our credentials: broker does not offer SASL PLAIN"),
            "{code} {err}"
        );
    }
    assert!(contents(scene.dir.path()) == before);
    assert_eq!(scene.drain("--yes").0, 0);
}

//! Every operation against the embedded broker, also while it misbehaves.

use std::time::Duration;

use bytes::Bytes;
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, Fault};
use kafka_admin::{AdminError, ExactRecord, KafkaAdmin, NewRecord, NewTopic, ProduceError, Target, TopicAdmin};
use kafka_client::{ClientConfig, Lane, Request, Response};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, NO_TOPIC_ID};
use kafka_wire::record_batch::batches;

struct Fixture {
    broker: EmbeddedKafka,
    admin: KafkaAdmin,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig { data_dir: dir.path().to_owned(), ..EmbeddedConfig::default() };
        let broker = EmbeddedKafka::start(config).unwrap();
        let admin = KafkaAdmin::connect(client_config(broker.bootstrap()), None).unwrap();
        Self { broker, admin, _dir: dir }
    }

    fn fault(&self, api: ApiKey, fault: Fault) {
        self.broker.hooks().inject(api, fault, 1);
    }
}

fn client_config(bootstrap: String) -> ClientConfig {
    ClientConfig { bootstrap: vec![bootstrap], ..ClientConfig::default() }
}

fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions,
        replicas: 1,
        configs: vec![("retention.ms".to_owned(), "60000".to_owned())],
    }
}

#[tokio::test]
async fn a_topic_lives_from_creation_to_deletion() {
    let fixture = Fixture::new();
    let admin = &fixture.admin;
    assert_eq!(admin.broker_count().await.unwrap(), 1);
    admin.create_topic(&topic("orders.v1", 3)).await.unwrap();

    let described = admin.describe_topic("orders.v1").await.unwrap();
    assert_eq!(described.partitions.iter().map(|p| p.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((described.replica_count(), described.partitions[0].leader), (1, Some(1)));

    admin.create_partitions("orders.v1", 5).await.unwrap();
    assert_eq!(admin.describe_topic("orders.v1").await.unwrap().partitions.len(), 5);
    let offsets = admin.list_offsets("orders.v1").await.unwrap();
    assert_eq!(
        offsets.iter().map(|p| (p.index, p.oldest, p.newest)).collect::<Vec<_>>(),
        [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)]
    );
    let configs = [("retention.ms".to_owned(), Some("1000".to_owned())), ("retention.bytes".to_owned(), None)];
    admin.alter_configs("orders.v1", &configs).await.unwrap();

    admin.delete_topic("orders.v1").await.unwrap();
    assert_eq!(admin.describe_topic("orders.v1").await, Err(AdminError::NoSuchTopic { topic: "orders.v1".to_owned() }));
}

#[tokio::test]
async fn what_cannot_be_done_has_a_typed_answer() {
    let fixture = Fixture::new();
    let admin = &fixture.admin;
    admin.create_topic(&topic("orders", 3)).await.unwrap();
    let replicas = NewTopic { replicas: 3, ..topic("other", 1) };
    let bad_config = NewTopic { configs: vec![("retention.ms".to_owned(), "soon".to_owned())], ..topic("other", 1) };
    let no_such = |topic: &str| AdminError::NoSuchTopic { topic: topic.to_owned() };
    assert_eq!(
        admin.create_topic(&topic("orders", 3)).await,
        Err(AdminError::AlreadyExists { topic: "orders".to_owned() })
    );
    assert_eq!(admin.create_topic(&replicas).await, Err(AdminError::InvalidReplicationFactor { asked: 3, brokers: 1 }));
    assert!(matches!(admin.create_topic(&bad_config).await, Err(AdminError::InvalidConfig { .. })));
    assert!(matches!(admin.create_partitions("orders", 2).await, Err(AdminError::InvalidPartitions { .. })));
    assert_eq!(admin.create_partitions("ghost", 2).await, Err(no_such("ghost")));
    assert_eq!(admin.delete_topic("ghost").await, Err(no_such("ghost")));
    assert_eq!(admin.list_offsets("ghost").await, Err(no_such("ghost")));
    assert!(admin.create_topic(&topic("not a name", 1)).await.is_err());
}

#[tokio::test]
async fn an_operation_survives_what_passes_by_itself() {
    let fixture = Fixture::new();
    let admin = &fixture.admin;
    let faults = [
        Fault::Error(ErrorCode::NOT_CONTROLLER),
        Fault::Error(ErrorCode::THROTTLING_QUOTA_EXCEEDED),
        Fault::Delay(Duration::from_millis(50)),
        Fault::Disconnect,
        Fault::ApplyThenDisconnect,
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        let name = format!("topic-{at}");
        fixture.fault(ApiKey::CreateTopics, fault.clone());
        admin.create_topic(&topic(&name, 2)).await.unwrap_or_else(|err| panic!("create, {fault:?}: {err}"));
        fixture.fault(ApiKey::CreatePartitions, fault.clone());
        admin.create_partitions(&name, 4).await.unwrap_or_else(|err| panic!("partitions, {fault:?}: {err}"));
        assert_eq!(admin.describe_topic(&name).await.unwrap().partitions.len(), 4, "{fault:?}");
        fixture.fault(ApiKey::ListOffsets, fault.clone());
        assert_eq!(admin.list_offsets(&name).await.unwrap().len(), 4, "{fault:?}");
        fixture.fault(ApiKey::DeleteTopics, fault.clone());
        admin.delete_topic(&name).await.unwrap_or_else(|err| panic!("delete, {fault:?}: {err}"));
        assert!(admin.describe_topic(&name).await.is_err(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_garbled_answer_is_an_error_and_the_next_call_works() {
    let fixture = Fixture::new();
    fixture.fault(ApiKey::CreateTopics, Fault::Garbage(vec![0xff; 40]));
    let result = fixture.admin.create_topic(&topic("orders", 1)).await;
    // Garbled or not, the broker may have made the topic; nobody may be told that it certainly failed or worked.
    assert!(
        matches!(result, Ok(()) | Err(AdminError::Unusable { .. } | AdminError::AlreadyExists { .. })),
        "{result:?}"
    );
    fixture.admin.create_topic(&topic("other", 1)).await.unwrap();
}

#[tokio::test]
async fn an_absent_cluster_is_unreachable_within_seconds() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bootstrap = listener.local_addr().unwrap().to_string();
    drop(listener);
    let admin = KafkaAdmin::connect(client_config(bootstrap), None).unwrap();
    let result = tokio::time::timeout(Duration::from_secs(10), admin.broker_count()).await.expect("an answer in time");
    assert!(matches!(result, Err(AdminError::Unreachable { .. })), "{result:?}");
    assert!(result.unwrap_err().is_transient());
}

#[tokio::test]
async fn many_operations_run_side_by_side() {
    let fixture = Fixture::new();
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let admin = fixture.admin.clone();
            tokio::spawn(async move { admin.create_topic(&topic(&format!("topic-{i}"), 1)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

fn record(value: String) -> NewRecord {
    let headers = vec![("kind".to_owned(), b"test".to_vec())];
    NewRecord { key: Some(b"k".to_vec()), value: value.into_bytes(), headers }
}

#[tokio::test]
async fn records_are_written_in_the_order_of_the_calls_and_say_where_they_are() {
    let fixture = Fixture::new();
    let admin = &fixture.admin;
    admin.create_topic(&topic("orders", 1)).await.unwrap();
    // More than may be on their way: the rest waits, and nobody for ever.
    let count = 2 * kafka_admin::limits::RECORDS_MAX + 1;
    fixture.fault(ApiKey::Produce, Fault::Disconnect);
    let mut outcomes = Vec::new();
    for n in 0..count {
        outcomes.push(admin.produce("orders", record(n.to_string()), Duration::from_secs(60)).await);
    }
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let stored = outcome.await.unwrap();
        assert_eq!((stored.partition, stored.offset), (0, n as i64));
    }
    let read = read(&fixture, 0, count).await;
    let kind = [(Bytes::from_static(b"kind"), Some(Bytes::from_static(b"test")))];
    assert!(read.iter().all(|record| record.key.as_deref() == Some(&b"k"[..]) && record.headers == kind));
    let is_its_place = |(n, record): (usize, &ExactRecord)| record.value.as_deref() == Some(n.to_string().as_bytes());
    assert!(read.iter().enumerate().all(is_its_place));
}

/// The first records of a partition of `orders`, as they are stored.
async fn read(fixture: &Fixture, partition: i32, count: usize) -> Vec<ExactRecord> {
    let mut read = Vec::new();
    while read.len() < count {
        let partitions = vec![FetchPartition::consumer(partition, read.len() as i64, 1 << 20)];
        let asked = FetchTopic { name: Bytes::from_static(b"orders"), id: NO_TOPIC_ID, partitions };
        let request =
            Request::Fetch(FetchRequest { max_bytes: 1 << 20, topics: vec![asked], ..FetchRequest::default() });
        let answer = fixture.admin.call(Target::Any, Lane::Fetch, request, Duration::from_secs(60)).await;
        let Ok(Response::Fetch(answer)) = answer else { panic!("{answer:?}") };
        for batch in batches(answer.topics[0].partitions[0].records.clone()) {
            for found in batch.unwrap().records(1 << 26).unwrap().map(Result::unwrap) {
                if found.offset == read.len() as i64 {
                    let headers = found.headers.iter().map(|(name, value)| (Bytes::copy_from_slice(name), value));
                    read.push(ExactRecord {
                        partition: Some(partition),
                        timestamp_ms: found.timestamp_ms,
                        key: found.key,
                        value: found.value,
                        headers: headers.collect(),
                    });
                }
            }
        }
    }
    read
}

#[tokio::test]
async fn a_run_is_stored_field_by_field_as_it_was_given_and_says_where_each_record_is() {
    let fixture = Fixture::new();
    fixture.admin.create_topic(&topic("orders", 3)).await.unwrap();
    let described = fixture.admin.describe_topic("orders").await.unwrap();
    assert!(described.id.is_some(), "{described:?}");
    let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let header = |name: &'static str, value| (Bytes::from_static(name.as_bytes()), value);
    let exact =
        |timestamp_ms, key, value, headers| ExactRecord { partition: Some(2), timestamp_ms, key, value, headers };
    let run = vec![
        exact(1_700_000_000_123, text("k"), text("v"), vec![header("a", text("1")), header("a", None)]),
        exact(-1, None, None, vec![]),
        exact(1_600_000_000_000, text(""), text(""), vec![header("", text(""))]),
    ];
    fixture.fault(ApiKey::Produce, Fault::Disconnect);
    let outcomes = fixture.admin.produce_run("orders", run.clone(), Duration::from_secs(60)).await;
    let places: Vec<_> = outcomes.into_iter().map(Result::unwrap).map(|at| (at.partition, at.offset)).collect();
    assert_eq!(places, [(2, 0), (2, 1), (2, 2)]);
    assert_eq!(read(&fixture, 2, 3).await, run);
    assert_eq!(fixture.admin.produce_run("orders", vec![], Duration::from_secs(1)).await, []);
}

#[tokio::test]
async fn a_record_that_fails_for_what_it_is_fails_alone_and_another_ends_its_run() {
    let fixture = Fixture::new();
    fixture.admin.create_topic(&topic("orders", 2)).await.unwrap();
    let of = |partition, bytes| ExactRecord {
        partition: Some(partition),
        timestamp_ms: 1,
        key: None,
        value: Some(vec![b'x'; bytes].into()),
        headers: vec![],
    };
    let run = |sizes: &[(i32, usize)]| sizes.iter().map(|(partition, bytes)| of(*partition, *bytes)).collect();
    let produce = |records| fixture.admin.produce_run("orders", records, Duration::from_secs(60));
    let large = 17 << 20;
    for _ in 0..2 {
        // At first while the topic is not known yet, then when it is.
        let outcomes = produce(run(&[(0, 1), (0, large), (0, 1)])).await;
        let said: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(said, [true, false, true]);
        assert!(matches!(outcomes[1], Err(ProduceError::RecordTooLarge { .. })), "{outcomes:?}");
    }
    let outcomes = produce(run(&[(0, 1), (7, 1), (0, 1)])).await;
    let gone = Err(ProduceError::PartitionUnknown { partition: 7, partition_count: 2 });
    assert!(outcomes[0].is_ok() && outcomes[1..] == [gone.clone(), gone], "{outcomes:?}");
    assert_eq!(fixture.admin.list_offsets("orders").await.unwrap()[0].newest, 5, "what is behind it was not sent");
}

#[tokio::test]
async fn a_record_that_cannot_be_written_says_why_in_time_and_makes_no_topic() {
    let fixture = Fixture::new();
    let admin = &fixture.admin;
    let refused = admin.produce("ghost", record("x".to_owned()), Duration::from_secs(60)).await.await;
    assert_eq!(refused, Err(ProduceError::TopicUnknown));
    assert_eq!(admin.describe_topic("ghost").await, Err(AdminError::NoSuchTopic { topic: "ghost".to_owned() }));

    let absent = KafkaAdmin::connect(client_config("127.0.0.1:1".to_owned()), None).unwrap();
    let refused = absent.produce("orders", record("x".to_owned()), Duration::from_millis(100)).await.await;
    assert!(matches!(refused, Err(ProduceError::Unavailable { .. })), "{refused:?}");
}

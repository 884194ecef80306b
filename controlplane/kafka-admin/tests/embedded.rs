//! Every operation against the embedded broker, also while it misbehaves.

use std::time::Duration;

use bytes::Bytes;
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, Fault};
use kafka_admin::{AdminError, KafkaAdmin, NewRecord, NewTopic, ProduceError, Target, TopicAdmin};
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
    let mut read = Vec::new();
    while read.len() < count {
        let partitions = vec![FetchPartition::consumer(0, read.len() as i64, 1 << 20)];
        let asked = FetchTopic { name: Bytes::from_static(b"orders"), id: NO_TOPIC_ID, partitions };
        let request =
            Request::Fetch(FetchRequest { max_bytes: 1 << 20, topics: vec![asked], ..FetchRequest::default() });
        let answer = admin.call(Target::Any, Lane::Fetch, request, Duration::from_secs(60)).await;
        let Ok(Response::Fetch(answer)) = answer else { panic!("{answer:?}") };
        for batch in batches(answer.topics[0].partitions[0].records.clone()) {
            for found in batch.unwrap().records(1 << 26).unwrap() {
                let found = found.unwrap();
                if found.offset == read.len() as i64 {
                    let headers: Vec<_> = found.headers.iter().collect();
                    assert_eq!(found.key.as_deref(), Some(&b"k"[..]));
                    assert_eq!(headers, [(&b"kind"[..], Some(Bytes::from_static(b"test")))]);
                    read.push(found.value.unwrap());
                }
            }
        }
    }
    assert!(read.iter().enumerate().all(|(n, value)| value == n.to_string().as_bytes()));
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
